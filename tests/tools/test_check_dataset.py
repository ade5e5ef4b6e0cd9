"""The doctor: its exit status, and that its page says what the files hold."""

import json
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from efpnbs_d2.data import register_tiny_dataset
from efpnbs_d2.tools import check_dataset

HOSTILE = "<script>alert(1)</script> & $x^2$"
# A JSON file may hold half of a surrogate pair, which no output can be encoded with.
UNPRINTABLE = "bad \ud800 name"


@pytest.fixture
def register(tmp_path, monkeypatch, registry):
    """register(name, data): a COCO file with its images, under that name; the file's path."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)

    def write(name, data, protocol="coco"):
        path = tmp_path / f"{name}.json"
        path.write_text(data if isinstance(data, str) else json.dumps(data))
        (tmp_path / name).mkdir()
        for image in [] if isinstance(data, str) else data["images"]:
            pixels = random.integers(0, 255, (image["height"], image["width"], 3), np.uint8)
            assert cv2.imwrite(str(tmp_path / name / image["file_name"]), pixels)
        options = {"annotations": str(path), "images": str(tmp_path / name)}
        register_tiny_dataset(name, **options, protocol=protocol)
        return path

    return write


def coco(boxes, classes=("car", HOSTILE), images=2):
    """`boxes`: (image, category, x, y, w, h); each image is 60 x 40 px."""
    return {
        "images": [
            {"id": i, "file_name": f"{i}.png", "height": 40, "width": 60} for i in range(images)
        ],
        "annotations": [
            {"id": n, "image_id": image, "category_id": category, "bbox": list(xywh)}
            for n, (image, category, *xywh) in enumerate(boxes)
        ],
        "categories": [{"id": i, "name": name} for i, name in enumerate(classes)],
    }


class Tables(HTMLParser):
    """All tables of a page as lists of rows of cell texts."""

    def __init__(self, text):
        super().__init__()
        self.tables, self._cell = [], None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self._cell = ""

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.tables[-1][-1].append(self._cell)
            self._cell = None

    def handle_data(self, data):
        if self._cell is not None:
            self._cell += data


def rows_of(page, first_header):
    return next(
        t for t in Tables(page.read_text()).tables if t[0][: len(first_header)] == first_header
    )


def test_the_pages_numbers_are_the_inputs(register, tmp_path, capsys):
    # 3 cars of 4, 16 and 20 px in two images, one hostile thing of 8 px; one box outside.
    boxes = [(0, 0, 1, 1, 4, 4), (0, 0, 10, 1, 16, 16), (1, 0, 1, 1, 20, 20), (1, 1, 30, 1, 8, 8)]
    register("mine", coco([*boxes, (1, 1, 90, 90, 5, 5)]), protocol="tinyperson")
    page = tmp_path / "page.html"
    assert check_dataset.main(["mine", "--output", str(page), "--samples", "2"]) == 0
    assert rows_of(page, ["class"])[1:] == [
        ["car", "3", "75.0%", "2", "16.0", "1", "1", "1", "0"],
        [HOSTILE, "1", "25.0%", "1", "8.0", "1", "0", "0", "0"],
        ["all", "4", "100.0%", "2", "12.0", "2", "1", "1", "0"],
    ]
    bins = [row[:3] for row in rows_of(page, ["size bins"])[1:]]
    assert [row[2] for row in bins if row[0] == "TinyPerson"] == ["2", "0", "2", "0", "0"]
    problems = rows_of(page, ["", "problem"])
    assert problems[1][:3] == ["warning", "boxes left out: outside the image", "1"]
    text = page.read_text()
    assert "<script" not in text
    assert text.count("data:image/jpeg") == 4  # two samples, each with a close-up
    printed = capsys.readouterr().out
    assert "16.0" in printed and "boxes left out: outside the image" in printed


def test_a_class_name_that_cannot_be_printed(register, tmp_path, capsys):
    register("odd", coco([(0, 1, 1, 1, 4, 4), (1, 0, 1, 1, 4, 4)], ["car", UNPRINTABLE]))
    page = tmp_path / "page.html"
    assert check_dataset.main(["odd", "--output", str(page)]) == 0
    assert rows_of(page, ["class"])[2][0] == "bad \ufffd name"
    capsys.readouterr().out.encode()


def test_crowded_images_are_counted(register, tmp_path):
    """101 objects on one image are more than 100; 100 on the other are not."""
    boxes = [(0, 0, i % 50, i // 50, 3, 3) for i in range(101)]
    register("crowd", coco(boxes + [(1, *box[1:]) for box in boxes[:100]]))
    page = tmp_path / "page.html"
    assert check_dataset.main(["crowd", "--output", str(page), "--samples", "0"]) == 0
    assert [row[:2] for row in rows_of(page, ["more objects than"])[1:]] == [
        ["100", "1"],
        ["300", "0"],
        ["1,000", "0"],
    ]
    assert "data:image/jpeg" not in page.read_text()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{broken", "broken.json"),
        (coco([(0, 0, 1, 1, 4, 4)], images=0), "found none of the 0 images"),
    ],
)
def test_a_set_that_cannot_be_read(register, tmp_path, capsys, data, message):
    register("broken", data)
    assert check_dataset.main(["broken"]) == 1
    output = capsys.readouterr()
    assert output.err.startswith("check_dataset: ") and output.err.count("\n") == 1
    assert message in output.err
    assert not (tmp_path / "output").exists()


def test_all_images_missing(register, tmp_path, capsys):
    register("lost", coco([(0, 0, 1, 1, 4, 4)]))
    for path in (tmp_path / "lost").iterdir():
        path.unlink()
    assert check_dataset.main(["lost"]) == 1
    assert "found none of the 2 images" in capsys.readouterr().err


def test_no_boxes_fails_and_still_has_a_page(register, tmp_path, capsys):
    register("empty", coco([]))
    assert check_dataset.main(["empty"]) == 1
    output = capsys.readouterr()
    assert output.err == "check_dataset: empty cannot be trained on\n"
    page = tmp_path / "output" / "check_dataset" / "empty.html"
    assert rows_of(page, ["", "problem"])[1][:2] == ["error", "no objects"]


def test_unreadable_images_fail_and_the_page_is_whole(register, tmp_path):
    register("cut", coco([(0, 0, 1, 1, 4, 4), (1, 1, 1, 1, 4, 4)]))
    (tmp_path / "cut" / "1.png").write_bytes(b"no image")
    assert check_dataset.main(["cut"]) == 1
    page = tmp_path / "output" / "check_dataset" / "cut.html"
    severities = [row[0] for row in rows_of(page, ["", "problem"])[1:]]
    assert severities[0] == "error"
    assert page.read_text().count("data:image/jpeg") == 2  # the other image


def test_two_splits_with_a_common_image(register, tmp_path, capsys):
    data = coco([(0, 0, 1, 1, 4, 4), (1, 1, 1, 1, 4, 4)])
    register("one", data)
    register("two", data)
    copied = (tmp_path / "one" / "0.png").read_bytes()
    (tmp_path / "two" / "1.png").write_bytes(copied)
    page = tmp_path / "page.html"
    assert check_dataset.main(["one", "two", "--output", str(page)]) == 0
    (row,) = rows_of(page, ["", "between data sets"])[1:]
    assert row[0] == "warning" and row[2] == "1" and "two/1.png" in row[3]
    assert "images of two that are also in one" in capsys.readouterr().out


def test_an_unwritable_page(register, tmp_path, capsys):
    register("mine", coco([(0, 0, 1, 1, 4, 4), (1, 1, 1, 1, 4, 4)]))
    (tmp_path / "file").write_text("")
    assert check_dataset.main(["mine", "--output", str(tmp_path / "file" / "page.html")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_an_unknown_name(capsys):
    assert check_dataset.main(["no_such_set"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("check_dataset: Unknown data set 'no_such_set'")
    assert error.count("\n") == 1
