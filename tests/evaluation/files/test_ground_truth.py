"""Annotations come in as they are: every row, raw boxes, official order; broken ones are named."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from efpnbs_d2.evaluation.files.ground_truth import read_ground_truth
from efpnbs_d2.file_format import DataFormatError
from efpnbs_d2.protocols import PROTOCOLS

CASES = Path(__file__).parents[1] / "cases"
COCO, VISDRONE = PROTOCOLS["coco"], PROTOCOLS["visdrone"]
IMAGES = [{"id": 7, "file_name": "b.png", "height": 20, "width": 30}, {"id": 3}]
CATEGORIES = [{"id": 9, "name": "ship"}, {"id": 4, "name": "person"}]


def annotation(**changes):
    return {"image_id": 7, "category_id": 9, "bbox": [1, 2, 3, 4], "id": 5} | changes


@pytest.fixture
def coco(tmp_path):
    """`coco(*annotations, **sections)`: the path of a JSON file."""

    def write(*annotations, **sections):
        content = {"images": IMAGES, "annotations": annotations, "categories": CATEGORIES}
        (tmp_path / "gt.json").write_text(json.dumps(content | sections))
        return str(tmp_path / "gt.json")

    return write


@pytest.fixture
def text(tmp_path):
    """`text(stem=lines)`: the path of a folder of text files."""

    def write(**files):
        folder = tmp_path / "annotations"
        folder.mkdir()
        for stem, lines in files.items():
            (folder / f"{stem}.txt").write_bytes(lines)
        return str(folder)

    return write


def test_coco_images_and_classes_are_in_ascending_order_and_annotations_in_file_order(coco):
    truth = read_ground_truth(coco(annotation(id=5), annotation(image_id=3, id=0)), COCO)
    assert truth.image_ids == (3, 7)
    assert truth.image_names == ("3", "b.png")  # the id where there is no name
    assert truth.image_sizes.tolist() == [[0, 0], [20, 30]]
    assert list(truth.classes.items()) == [(4, "person"), (9, "ship")]
    assert truth.image.tolist() == [1, 0]
    assert truth.annotation_id.tolist() == [5, 0]


def test_coco_boxes_stay_as_they_are(coco):
    # Outside the image, of no size, and with an area that is not w * h.
    boxes = [[-5, 2.25, 900, 4], [1, 1, 0, 4], [0, 0, 2, 2]]
    entries = [annotation(bbox=b) for b in boxes[:2]] + [annotation(bbox=boxes[2], area=9, size=5)]
    truth = read_ground_truth(coco(*entries), COCO)
    assert truth.boxes.tolist() == boxes
    assert truth.area.tolist() == [3600, 0, 9]
    assert truth.side.tolist() == [60, 0, 5]


def test_coco_flags_may_be_numbers_booleans_or_absent(coco):
    entries = [annotation(iscrowd=1), annotation(ignore=True), annotation(uncertain=1, logo=True)]
    truth = read_ground_truth(coco(*entries, annotation()), PROTOCOLS["tinyperson"])
    assert truth.crowd.tolist() == [True, False, False, False]
    assert truth.ignore.tolist() == [False, True, False, False]
    assert truth.uncertain.tolist() == [False, False, True, False]


def test_annotations_without_ids_are_counted_from_1(coco):
    entries = [annotation(), annotation()]
    for entry in entries:
        del entry["id"]
    assert read_ground_truth(coco(*entries), COCO).annotation_id.tolist() == [1, 2]
    with pytest.raises(DataFormatError, match=r"annotations\[0\]: found id None, expected"):
        read_ground_truth(coco(entries[0], annotation()), COCO)


def test_a_file_without_info_or_annotations_of_an_image_is_whole(coco):
    truth = read_ground_truth(coco(), COCO)
    assert (len(truth.image), truth.boxes.shape) == (0, (0, 4))
    assert read_ground_truth(coco(), COCO, classes=["ship"]).classes == {9: "ship"}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (annotation(image_id=8), "found image_id 8, expected the id of one"),
        (annotation(category_id=1), "found category_id 1, expected one of 9, 4"),
        (annotation(bbox=[1, 2, -3, 4]), "expected no negative size"),
        (annotation(bbox=[1, 2, 3, -4]), "expected no negative size"),
        (annotation(bbox=[1, 2, 3]), r"found bbox \[1, 2, 3\], expected 4 numbers"),
        (annotation(bbox=[1, 2, 3, float("nan")]), "expected 4 numbers"),
        (annotation(area=-1), "found area -1, expected a number, 0 or more"),
        (annotation(area=float("inf")), "found area inf"),
        (annotation(size="big"), "found size 'big'"),
        (annotation(id="a"), "found id 'a', expected an integer"),
        (annotation(iscrowd=2), "found iscrowd 2, expected 0, 1, true or false"),
        ("box", "found a str, expected a JSON object"),
    ],
)
def test_a_broken_annotation_is_refused_or_dropped_and_counted(coco, caplog, entry, message):
    path = coco(annotation(), entry)
    with pytest.raises(DataFormatError, match=rf"gt\.json:annotations\[1\]: .*{message}"):
        read_ground_truth(path, COCO)
    assert len(read_ground_truth(path, COCO, strict=False).image) == 1
    assert "kept 1 annotations, dropped 1 " in caplog.text and "annotations[1]" in caplog.text


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"images": [*IMAGES, {"id": 3}]}, r"images\[2\]: found id 3, expected .* no other image"),
        ({"images": []}, "no image in 'images'"),
        ({"categories": []}, "found no 'categories'"),
        ({"annotations": None}, "found no 'annotations'"),
    ],
)
def test_broken_sections_are_refused(coco, sections, message):
    with pytest.raises(DataFormatError, match=message):
        read_ground_truth(coco(**sections), COCO)


def test_unknown_classes_are_named(coco):
    with pytest.raises(ValueError, match="no category 'sheep', expected of person, ship"):
        read_ground_truth(coco(), COCO, classes=["ship", "sheep"])


def test_visdrones_files_as_they_are_in_circulation(text):
    path = text(
        b2=b"1,2,3,4,1,1,0,0\n",
        a10=b"5,6,7,0,0,11,0,0,\r\n\r\n8,8,2,2,1,10,1,2\r\n",  # trailing comma, blank line, CRLF
        a2=b"",
    )
    truth = read_ground_truth(path, VISDRONE)
    assert truth.image_ids == truth.image_names == ("a10", "a2", "b2")
    assert truth.image.tolist() == [0, 0, 2]
    assert truth.category.tolist() == [11, 10, 1]
    assert truth.boxes.tolist() == [[5, 6, 7, 0], [8, 8, 2, 2], [1, 2, 3, 4]]
    assert truth.ignore.tolist() == [True, False, False]
    assert not truth.crowd.any()
    assert truth.annotation_id.tolist() == [1, 2, 3]
    assert truth.classes[1] == "pedestrian" and list(truth.classes) == list(range(1, 11))


def test_visdrones_order_is_that_of_file_names_with_their_suffix(text):
    # "-" comes before "." and "." before "_": by stem, "a" would be first.
    truth = read_ground_truth(text(a=b"", **{"a-1": b"", "a_1": b""}), VISDRONE)
    assert truth.image_ids == ("a-1", "a", "a_1")


def test_visdrones_sizes_come_from_a_json_or_from_the_headers_that_are_needed(text, tmp_path):
    path = text(a=b"0,0,9,9,0,0,0,0\n", b=b"1,1,1,1,1,1,0,0\n")
    (tmp_path / "sizes.json").write_text('{"a": [30, 40], "b": [50, 60]}')
    sizes = read_ground_truth(path, VISDRONE, images=str(tmp_path / "sizes.json")).image_sizes
    assert sizes.tolist() == [[30, 40], [50, 60]]
    assert read_ground_truth(path, VISDRONE).image_sizes.tolist() == [[0, 0], [0, 0]]
    (tmp_path / "images").mkdir()
    Image.fromarray(np.zeros((12, 34, 3), np.uint8)).save(tmp_path / "images/a.png")
    (tmp_path / "images/b.jpg").write_bytes(b"no region: never opened")
    # The folder "images" beside the annotations is found without being named.
    for images in (None, str(tmp_path / "images")):
        sizes = read_ground_truth(path, VISDRONE, images=images).image_sizes
        assert sizes.tolist() == [[12, 34], [0, 0]]


@pytest.mark.parametrize(
    ("content", "message"),
    [("[1]", "expected a JSON object"), ('{"a": [3, 0]}', r"sizes.json:a: found \[3, 0\]")],
)
def test_broken_sizes_are_refused(text, tmp_path, content, message):
    (tmp_path / "sizes.json").write_text(content)
    with pytest.raises(DataFormatError, match=message):
        read_ground_truth(text(a=b""), VISDRONE, images=str(tmp_path / "sizes.json"))


def test_a_broken_line_is_refused_or_dropped(text, caplog):
    path = text(a=b"1,2,3,4,1,1,0,0\n1,2,3,4,1,12,0,0\n")
    with pytest.raises(DataFormatError, match=r"a\.txt:2: found category '12', expected"):
        read_ground_truth(path, VISDRONE)
    assert read_ground_truth(path, VISDRONE, strict=False).category.tolist() == [1]
    assert "dropped 1 unknown category" in caplog.text


def test_a_folder_without_text_files_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"found no \.txt file, expected one per image"):
        read_ground_truth(str(tmp_path), VISDRONE)


def test_own_classes_name_the_categories_of_text_files(text):
    path = text(a=b"1,2,3,4,1,2,0,0\n1,2,3,4,1,3,0,0\n")
    truth = read_ground_truth(path, VISDRONE, classes=["buoy", "raft"])
    assert truth.classes == {1: "buoy", 2: "raft"}
    with pytest.raises(DataFormatError, match=r"found category '3', expected 0 .* 1\.\.1 or 2"):
        read_ground_truth(path, VISDRONE, classes=["buoy"])


def test_visdrones_files_by_cocos_rules(text):
    """What VisDrone ignores is crowd: regions and others in each class, the unscored in theirs."""
    path = text(a=b"0,0,9,9,0,0,0,0\n1,1,2,2,1,2,0,0\n3,3,2,2,0,1,0,0\n5,5,2,2,1,3,0,0\n")
    truth = read_ground_truth(path, COCO, classes=["buoy", "raft"])
    rows = zip(truth.category.tolist(), truth.boxes[:, 0].tolist(), truth.crowd.tolist())
    assert list(rows) == [
        *((1, 0, True), (2, 0, True)),
        (2, 1, False),
        (1, 3, True),
        *((1, 5, True), (2, 5, True)),
    ]
    assert not truth.ignore.any()
    assert len(set(truth.annotation_id.tolist())) == 6


def test_coco_files_by_visdrones_rules(coco):
    """Flags count as score 0, category 0 and converted regions as ignored regions."""
    entries = [
        annotation(iscrowd=1),
        annotation(category_id=0),
        annotation(iscrowd=1, ignored_as="region"),
        annotation(iscrowd=1, ignored_as="others"),
        annotation(iscrowd=1, ignored_as="unscored"),
        annotation(uncertain=True),
        annotation(),
    ]
    truth = read_ground_truth(coco(*entries), VISDRONE)
    assert truth.category.tolist() == [9, 0, 0, 10, 9, 9, 9]
    assert truth.ignore.tolist() == [True, False, True, True, True, True, False]


def test_visdrones_category_0_is_no_class(coco):
    """Some list the ignored regions as a category; others number their classes from 0."""
    path = coco(annotation(category_id=0), categories=[*CATEGORIES, {"id": 0, "name": "region"}])
    with pytest.raises(ValueError, match="found category 0, 'region', .* expected ids from 1"):
        read_ground_truth(path, VISDRONE)
    truth = read_ground_truth(path, VISDRONE, classes=["ship", "person"])
    assert (truth.classes, truth.category.tolist()) == ({4: "person", 9: "ship"}, [0])
    assert 0 in read_ground_truth(path, COCO).classes


@pytest.mark.parametrize("name", ["aitod/empty_and_absent", "tinyperson/size_boundaries"])
def test_every_annotation_of_a_case_is_read(name):
    folder = CASES / name
    content = json.loads((folder / "gt.json").read_text())
    truth = read_ground_truth(str(folder / "gt.json"), PROTOCOLS[name.split("/")[0]])
    assert truth.annotation_id.tolist() == [a["id"] for a in content["annotations"]]
    assert truth.boxes.tolist() == [a["bbox"] for a in content["annotations"]]
    assert truth.area.tolist() == [a["area"] for a in content["annotations"]]
    assert truth.image_ids == tuple(sorted(image["id"] for image in content["images"]))
