"""Damaged files: every outcome is clean records that account for each entry, or a clear error."""

import copy
import json
import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from efpnbs_d2.data.coco import load_coco
from efpnbs_d2.data.report import ReadReport
from efpnbs_d2.data.visdrone import load_visdrone

# Seconds only; the same examples on every run. The folder is written anew for each example.
FUZZ = settings(
    max_examples=300,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
EMPTY_BOXES = {"zero size", "outside the image"}
HEIGHT, WIDTH = 100, 200
CORNER = [9, 9, 209, 109]

LINES = b"10,20,30,40,1,4,0,1\r\n-5,0,9,9,0,0,0,0,\n190,90,50,50,1,10,2,1\n\n7,7,0,3,1,1,0,0\n"
TOKENS = [b",", b"\n", b"\r", b"-", b"nan", b"inf", b"1e999", b"9" * 400, b"_", b"\0", b"\xff\xfe"]
TOKENS += ["\u0663\u2028".encode(), b" ", b"12", b"0x1f", b"1.5", b'"']

DOCUMENT = {
    "images": [
        {"id": 0, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH},
        {"id": 3, "file_name": "b.jpg", "height": HEIGHT, "width": WIDTH, "corner": CORNER},
        {"id": 4, "file_name": "not there.jpg", "height": HEIGHT, "width": WIDTH},
    ],
    "annotations": [
        {"id": 1, "image_id": 0, "category_id": 1, "bbox": [1.5, 2, 3, 4], "iscrowd": 0},
        {"id": 2, "image_id": 3, "category_id": 2, "bbox": [-5, 2, 300, 4], "ignore": True},
        {"id": 3, "image_id": 4, "category_id": 2, "bbox": [5, 2, 30, 4], "uncertain": False},
        {"id": 4, "image_id": 0, "category_id": 2, "bbox": [500, 2, 30, 4], "logo": 1},
    ],
    "categories": [{"id": 1, "name": "ship"}, {"id": 2, "name": "person"}],
}  # fmt: skip
JUNK = [
    None,
    True,
    False,
    -1,
    0,
    1.5,
    1e308,
    -1e308,
    math.nan,
    math.inf,
    10**400,
    "",
    "1",
    "\ud800",
]
JUNK += ["a\0b", "../a.jpg", "x" * 9000, [], {}, [[]], [1, 2, 3, 4], {"id": 0}, [[[[[[1]]]]]]]


@st.composite
def damaged_bytes(draw, original: bytes, tokens: list[bytes]):
    data = bytearray(original)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        how = draw(st.sampled_from(["cut", "flip", "insert", "delete", "repeat"]))
        if how == "cut":
            del data[place:]
        elif how == "flip" and place < len(data):
            data[place] = draw(st.integers(0, 255))
        elif how == "insert":
            data[place:place] = draw(st.sampled_from(tokens))
        elif how == "delete":
            del data[place : place + draw(st.integers(1, 12))]
        elif how == "repeat":
            data[place:place] = data[max(0, place - 25) : place]
    return bytes(data)


@st.composite
def damaged_document(draw):
    document = copy.deepcopy(DOCUMENT)
    for _ in range(draw(st.integers(1, 4))):
        places = list(_places(document))
        if not places:
            break
        parent, key = draw(st.sampled_from(places))
        if draw(st.booleans()):
            parent[key] = copy.deepcopy(draw(st.sampled_from(JUNK)))
        elif isinstance(parent, list):
            parent.insert(key, copy.deepcopy(parent[key]))
        else:
            del parent[key]
    return document


def _places(node):
    keys = list(node) if isinstance(node, dict) else range(len(node))
    for key in keys:
        yield node, key
        if isinstance(node[key], dict | list):
            yield from _places(node[key])


def check(load, entries, num_classes):
    """Load in both modes; ``entries`` counts the boxes of the file in another way."""
    report = ReadReport("fuzz", strict=False)
    try:
        records = load(report)
    except ValueError as error:
        records = None
        assert str(error)
    if records is not None:
        assert report.boxes == entries
        assert report.kept == sum(len(r.get("annotations", [])) for r in records)
        assert report.summary().isprintable()
        check_records(records, num_classes)
    strict = ReadReport("fuzz", strict=True)
    try:
        assert load(strict) == records
        # Whatever strict mode accepts, it accepts whole.
        assert strict.dropped.keys() <= EMPTY_BOXES and not strict.images_dropped
    except ValueError as error:
        assert str(error)
        # Strict mode never stops at what the default takes without a loss.
        assert records is None or report.images_dropped or report.dropped.keys() - EMPTY_BOXES


def check_records(records, num_classes):
    json.dumps(records, allow_nan=False)
    assert len({r["image_id"] for r in records}) == len(records)
    for record in records:
        assert record["height"] > 0 and record["width"] > 0
        for annotation in record.get("annotations", []):
            x, y, w, h = annotation["bbox"]
            assert all(type(v) is float for v in (x, y, w, h))
            assert w > 0 and h > 0 and x >= 0 and y >= 0
            assert x + w <= record["width"] + 1e-9 and y + h <= record["height"] + 1e-9
            assert annotation["category_id"] in range(num_classes)
            assert annotation["iscrowd"] == ("ignored_as" in annotation)


@FUZZ
@given(text=damaged_bytes(LINES, TOKENS))
def test_damaged_visdrone_file(write_visdrone, text):
    folder = write_visdrone({"a": text})
    lines = text.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def load(report):
        texts = str(folder / "annotations")
        return load_visdrone(str(folder / "images"), texts, num_classes=10, report=report)

    check(load, sum(bool(line.strip()) for line in lines.split(b"\n")), 10)


@pytest.fixture
def coco_file(write_coco):
    path, images = write_coco(DOCUMENT)
    (images / "not there.jpg").unlink()
    return path, images


def check_coco(coco_file, content: bytes):
    path, images = coco_file
    path.write_bytes(content)
    try:
        entries = len(json.loads(content.decode("utf-8-sig")).get("annotations") or [])
    except (ValueError, AttributeError, TypeError):
        entries = -1  # Only an error is right.

    def load(report):
        return load_coco(str(path), [str(images)], classes=["ship", "person"], report=report)[0]

    check(load, entries, 2)


@FUZZ
@given(document=damaged_document())
def test_damaged_coco_values(coco_file, document):
    check_coco(coco_file, json.dumps(document).encode())


@FUZZ
@given(content=damaged_bytes(json.dumps(DOCUMENT).encode(), [*TOKENS, b"[", b"}", b"null", b'""']))
def test_damaged_coco_text(coco_file, content):
    check_coco(coco_file, content)


@FUZZ
@given(content=st.binary(max_size=300))
def test_noise(write_visdrone, coco_file, content):
    folder = write_visdrone({"a": b"1,2,3,4,1,1,0,0"})
    (folder / "images" / "a.jpg").write_bytes(content)
    report = ReadReport("fuzz", strict=False)
    with pytest.raises(ValueError, match="no usable image"):
        load_visdrone(
            str(folder / "images"), str(folder / "annotations"), num_classes=10, report=report
        )
    check_coco(coco_file, content)
