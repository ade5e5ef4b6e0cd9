"""Each kind of damage is found, counted and named; whole data give no finding."""

import cv2
import numpy as np
import pytest

from efpnbs_d2.data.checks import (
    check_boxes,
    check_decoding,
    check_files,
    check_report,
    check_splits,
    identical_files,
)
from efpnbs_d2.data.report import ReadReport
from efpnbs_d2.data.statistics import BoxColumns


@pytest.fixture
def write_noise(tmp_path):
    """write_noise(name): an image of 40 x 60 px that no other call writes; its record."""
    random = np.random.default_rng(0)

    def write(name, **changes):
        path = tmp_path / name
        assert cv2.imwrite(str(path), random.integers(0, 255, (40, 60, 3), np.uint8))
        box = {"bbox": [1.0, 2.0, 9.0, 9.0], "category_id": 0, "iscrowd": 0}
        record = {"file_name": str(path), "height": 40, "width": 60, "annotations": [box]}
        return record | changes

    return write


def summary(findings):
    return [(finding.severity, finding.what.split(" (")[0], finding.count) for finding in findings]


def boxes(records, classes=("car",)):
    return check_boxes(records, BoxColumns.of(records), classes)


def test_good_images_give_no_finding(write_noise):
    records = [write_noise("a.png"), write_noise("b.jpg")]
    assert check_files(records) == check_decoding(records, None) == boxes(records) == []
    assert check_report(ReadReport("set", images=2, kept=2)) == []


def test_no_objects_is_an_error(write_noise):
    crowd = {"bbox": [1.0, 2.0, 9.0, 9.0], "category_id": 0, "iscrowd": 1}
    (finding,) = boxes([write_noise("a.png", annotations=[crowd])])
    assert (finding.severity, finding.what) == ("error", "no objects")
    unlabelled = write_noise("b.png")
    del unlabelled["annotations"]
    (finding,) = boxes([unlabelled])
    assert (finding.severity, finding.what) == ("error", "no labels: nothing to train on")


def test_odd_boxes_are_named_with_their_place(write_noise):
    odd = [
        {"bbox": [1.0, 2.0, 9.0, 9.0], "category_id": 0},
        {"bbox": [1.0, 2.0, 9.0, 9.0], "category_id": 0},
        {"bbox": [1.0, 2.0, 9.0, 9.0], "category_id": 1},
        {"bbox": [5.0, 5.0, 1.5, 9.0], "category_id": 0},
    ]
    records = [write_noise("a.png", annotations=odd), write_noise("b.png", annotations=[])]
    found = boxes(records, ["car", "ship", "bus"])
    assert summary(found) == [
        ("warning", "classes without any object", 1),
        ("note", "images without any object", 1),
        ("warning", "objects repeated: same box, same class", 1),
        ("warning", "boxes repeated under another class", 1),
        ("warning", "objects with a side under 2 px", 1),
    ]
    assert found[0].examples == ("bus",)
    assert found[4].examples == (f"{records[0]['file_name']}: car at 5,5,1.5,9 (xywh)",)


def test_wrong_sizes_and_unreadable_headers(write_noise, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    records = [
        write_noise("a.png", height=41),
        write_noise("text2.png", file_name=str(tmp_path / "text.png")),
        write_noise("b.png"),
    ]
    found = check_files(records)
    assert summary(found) == [
        ("error", "images that cannot be read", 1),
        ("error", "images of another size than annotated", 1),
    ]
    assert found[1].examples == (f"{records[0]['file_name']}: found 60x40, annotated 60x41",)


def test_tiles_must_fit_their_image(write_noise):
    whole = write_noise("a.png")
    tiles = [whole | {"corner": [x, 0, x + 30, 40], "height": 40, "width": 30} for x in (0, 30, 31)]
    (finding,) = check_files(tiles)
    assert finding.examples == (f"{whole['file_name']}: found 60x40, annotated a tile up to 61x40",)


def test_a_cut_off_image_is_found_by_decoding(write_noise, tmp_path):
    """Its header is whole; only decoding shows that the rest is missing."""
    records = [write_noise(f"{i}.jpg") for i in range(5)]
    path = tmp_path / "4.jpg"
    path.write_bytes(path.read_bytes()[:-400])
    assert check_files(records) == []
    assert summary(check_decoding(records, None)) == [("error", "images that cannot be decoded", 1)]
    # Two of five: the first and the last.
    assert check_decoding(records, 2)[0].examples[0].startswith(f"{path}: ")
    assert check_decoding(records[:4], 2) == []


def test_more_than_8_bits_are_found_by_decoding(write_noise, tmp_path):
    records = [write_noise("0.png")]
    cv2.imwrite(str(tmp_path / "0.png"), np.full((8, 8), 3000, np.uint16))
    (finding,) = check_decoding(records, None)
    assert "found pixels of more than 8 bits (mode I;16), expected 8" in finding.examples[0]


def test_copies_and_files_listed_twice(write_noise, tmp_path):
    records = [write_noise("a.png"), write_noise("b.png"), write_noise("c.png")]
    (tmp_path / "c.png").write_bytes((tmp_path / "a.png").read_bytes())
    found = check_files([*records, records[1]])
    assert summary(found) == [
        ("warning", "image files listed more than once", 1),
        ("warning", "images that have a copy in the same split", 1),
    ]
    assert found[1].examples == (f"{tmp_path}/c.png = {tmp_path}/a.png",)


def test_images_in_two_splits(write_noise, tmp_path):
    train = [write_noise("a.png"), write_noise("b.png")]
    val = [write_noise("copy_of_a.png"), write_noise("c.png"), train[1]]
    (tmp_path / "copy_of_a.png").write_bytes((tmp_path / "a.png").read_bytes())
    (finding,) = check_splits({"train": (train, ["car"]), "val": (val, ["car"])})
    assert finding.count == 2
    assert finding.examples == (
        f"{tmp_path}/copy_of_a.png = {tmp_path}/a.png",
        f"{tmp_path}/b.png = {tmp_path}/b.png",
    )
    assert finding.what.startswith("images of val that are also in train")


def test_two_splits_of_the_very_same_files_leak_all_of_them(tmp_path):
    files = []
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(name.encode() * 9)
        files.append(f"{tmp_path}/{name}")
    assert identical_files(files, files) == [f"{f} = {f}" for f in files]
    assert identical_files(files) == []


def test_same_length_is_not_same_content(tmp_path):
    (tmp_path / "a").write_bytes(b"12")
    (tmp_path / "b").write_bytes(b"21")
    files = [f"{tmp_path}/{name}" for name in ("a", "b", "missing", "missing too")]
    assert identical_files(files) == []
    assert identical_files(files[:2], files[2:]) == []


def test_splits_of_different_classes(write_noise):
    splits = {"train": ([write_noise("a.png")], ["car"]), "val": ([write_noise("b.png")], ["bus"])}
    (finding,) = check_splits(splits)
    assert finding.what == "train and val have different classes"
    assert finding.examples == ("train: car", "val: bus")


def test_the_readers_losses_are_findings():
    report = ReadReport("set", strict=False, clipped=4)
    report.drop_box("not a number", "a.txt:3", "x", "a number")
    report.drop_image("missing", "a.json:images[0]", "no file", "it", boxes=7)
    assert summary(check_report(report)) == [
        ("warning", "images left out: missing", 1),
        ("warning", "boxes left out: image dropped: missing", 7),
        ("warning", "boxes left out: not a number", 1),
        ("note", "boxes cut at the image's border", 4),
    ]
