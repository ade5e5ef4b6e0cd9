"""Folders of VisDrone text files: quirks of the official files, damage, and the cache.

Images are 200 wide and 100 high unless a test says otherwise.
"""

import os
import time

import numpy as np
import pytest
from detectron2.structures import BoxMode

from efpnbs_d2.data import read_cache, visdrone_folder
from efpnbs_d2.data.report import ReadReport
from efpnbs_d2.data.visdrone import load_visdrone
from efpnbs_d2.file_format import BrokenEntry, DataFormatError
from efpnbs_d2.visdrone_txt import parse_visdrone_file, parse_visdrone_line


def load(folder, strict=False, annotations="annotations"):
    report = ReadReport("test", strict)
    texts = None if annotations is None else str(folder / annotations)
    records = load_visdrone(str(folder / "images"), texts, num_classes=10, report=report)
    return records, report


def boxes_of(records):
    return [a["bbox"] for r in records for a in r["annotations"]]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize("comma", [b"", b","])
@pytest.mark.parametrize("last", [True, False])
def test_line_ends_and_trailing_commas(write_visdrone, end, comma, last):
    lines = [b"10,20,30,40,1,4,0,1" + comma, b"5,6,7,8,1,1,0,0" + comma]
    folder = write_visdrone({"a": end.join(lines) + (end if last else b"")})
    records, report = load(folder, strict=True)
    assert boxes_of(records) == [[10.0, 20.0, 30.0, 40.0], [5.0, 6.0, 7.0, 8.0]]
    assert report.boxes == report.kept == 2


def test_record_is_detectron2s_standard_dict(write_visdrone):
    folder = write_visdrone({"b": b"1,2,3,4,1,10,0,0\n", "a": b""})
    records, _ = load(folder)
    assert [os.path.basename(r["file_name"]) for r in records] == ["a.jpg", "b.jpg"]
    assert records[1] == {
        "file_name": str(folder / "images" / "b.jpg"),
        "height": 100,
        "width": 200,
        "image_id": 2,
        "annotations": [
            {
                "bbox": [1.0, 2.0, 3.0, 4.0],
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": 9,
                "iscrowd": 0,
            }
        ],
    }
    # An image on which nothing was found is a training image all the same.
    assert records[0]["annotations"] == []


def test_unusable_images_keep_their_number(write_visdrone):
    """A result file names images by their place among all of the folder's files."""
    folder = write_visdrone({"a": b"", "b": b"", "c": b""})
    (folder / "images" / "a.jpg").unlink()
    records, _ = load(folder)
    assert [record["image_id"] for record in records] == [2, 3]


def test_ignored_rows_become_crowds_that_name_their_kind(write_visdrone):
    rows = b"1,1,9,9,0,0,0,0\n1,1,9,9,0,11,0,0\n1,1,9,9,0,4,0,0\n1,1,9,9,1,4,0,0\n"
    records, report = load(write_visdrone({"a": rows}))
    kinds = [
        (a["category_id"], a["iscrowd"], a.get("ignored_as")) for a in records[0]["annotations"]
    ]
    assert kinds == [(0, 1, "region"), (0, 1, "others"), (3, 1, "unscored"), (3, 0, None)]
    assert (report.kept, report.ignored) == (4, 3)


def test_boxes_are_clipped_and_empty_ones_dropped_even_in_strict_mode(write_visdrone):
    rows = [
        b"-10,-20,30,40,1,1,0,0",  # 20x20 of it inside
        b"190,90,30,40,1,1,0,0",  # 10x10 of it inside
        b"200,50,5,5,1,1,0,0",  # begins at the border
        b"-5,0,5,5,1,1,0,0",  # ends at the border
        b"50,50,0,7,1,1,0,0",  # no width
        b"50,50,7,0,1,1,0,0",  # no height, as three boxes of the official train files
    ]
    records, report = load(write_visdrone({"a": b"\n".join(rows)}), strict=True)
    assert boxes_of(records) == [[0.0, 0.0, 20.0, 20.0], [190.0, 90.0, 10.0, 10.0]]
    assert report.clipped == 2
    assert dict(report.dropped) == {"outside the image": 2, "zero size": 2}
    assert report.boxes == len(rows)
    assert any(p.endswith("a.txt:5: found box 50,50,0,7 (xywh) on a 200x100 image, expected a box "
                          "that covers part of the image") for p in report.problems)  # fmt: skip


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"1,2,3,4,1,1,0", "wrong number of columns"),
        (b"1,2,3,4,1,1,0,0,0", "wrong number of columns"),
        (b"1,2,3,4,1,1,0,0,,", "wrong number of columns"),
        (b"1 2 3 4 1 1 0 0", "wrong number of columns"),
        (b"\xff\xfe\x00,1,1,1,1,1,1,1", "not a number"),
        (b"1,,3,4,1,1,0,0", "not a number"),
        (b"1,2,x,4,1,1,0,0", "not a number"),
        (b"1_0,2,3,4,1,1,0,0", "not a number"),
        (b"nan,2,3,4,1,1,0,0", "number out of range"),
        (b"1,2,3,inf,1,1,0,0", "number out of range"),
        (b"-1e300,2,3,4,1,1,0,0", "number out of range"),
        (b"1" * 5000 + b",2,3,4,1,1,0,0", "number out of range"),
        (b"1,2,-3,4,1,1,0,0", "negative size"),
        (b"1,2,3,4,1,12,0,0", "unknown category"),
        (b"1,2,3,4,1,-1,0,0", "unknown category"),
        (b"1,2,3,4,1,1.5,0,0", "unknown category"),
    ],
)
def test_broken_lines(write_visdrone, line, reason):
    with pytest.raises(BrokenEntry) as caught:
        parse_visdrone_line(line, 10)
    assert caught.value.reason == reason
    folder = write_visdrone({"a": b"1,2,3,4,1,1,0,0\n\n" + line + b"\n5,6,7,8,1,1,0,0"})
    records, report = load(folder)
    assert boxes_of(records) == [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0]]
    assert dict(report.dropped) == {reason: 1}
    # The place is the line of the file, counted with the empty one.
    assert report.problems[0].startswith(f"{folder / 'annotations' / 'a.txt'}:3: found ")
    assert ", expected " in report.problems[0]
    assert len(report.problems[0]) < len(str(folder)) + 250
    with pytest.raises(DataFormatError, match="a.txt:3: found .*, expected "):
        load(folder, strict=True)


def test_numbers_of_ones_own_files(write_visdrone):
    """Fractions, spaces and a byte order mark are not official, yet harmless."""
    rows, broken = parse_visdrone_file(b"\xef\xbb\xbf 1.5, 2.25,3,4,0.9,1,0,0 \n", 10)
    assert not broken
    assert rows == [(1.0, 1.5, 2.25, 3.0, 4.0, 0.9, 1.0, 0.0, 0.0)]


def test_files_without_a_partner_are_named(write_visdrone):
    folder = write_visdrone({"a": b"1,2,3,4,1,1,0,0", "b": b"1,2,3,4,1,1,0,0\n" * 3, "c": b""})
    (folder / "images" / "b.jpg").unlink()
    (folder / "annotations" / "c.txt").unlink()
    records, report = load(folder)
    assert [os.path.basename(r["file_name"]) for r in records] == ["a.jpg"]
    assert dict(report.images_dropped) == {"missing": 1, "without annotation file": 1}
    assert (report.kept, report.boxes) == (1, 4)
    assert report.dropped["image dropped: missing"] == 3
    with pytest.raises(DataFormatError, match="b.txt: found no image b"):
        load(folder, strict=True)


def test_unreadable_image_is_dropped_with_its_boxes(write_visdrone):
    folder = write_visdrone({"a": b"1,2,3,4,1,1,0,0\n" * 2, "b": b"5,6,7,8,1,1,0,0"})
    (folder / "images" / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0 no image")
    records, report = load(folder)
    # The boxes of the second file stay with the second image, now the first record.
    assert boxes_of(records) == [[5.0, 6.0, 7.0, 8.0]]
    assert (len(records), report.kept, report.boxes) == (1, 1, 3)
    with pytest.raises(DataFormatError, match="a.jpg: found no readable image"):
        load(folder, strict=True)


def test_images_of_one_name_are_not_silently_merged(write_visdrone, write_image):
    folder = write_visdrone({"a": b"1,2,3,4,1,1,0,0"})
    write_image(folder / "images" / "a.png")
    records, report = load(folder)
    assert (len(records), dict(report.images_dropped)) == (1, {"second of one name": 1})


def test_split_without_labels(write_visdrone):
    folder = write_visdrone({"a": b"", "b": b""})
    records, report = load(folder, annotations=None)
    assert ["annotations" in r for r in records] == [False, False]
    assert (report.images, report.boxes) == (2, 0)


def test_no_usable_image_is_an_error(write_visdrone, tmp_path):
    folder = write_visdrone({"a": b"1,2,3,4,1,1,0,0"})
    (folder / "images" / "a.jpg").unlink()
    with pytest.raises(ValueError, match=r"no usable image in .*images.*1 missing"):
        load(folder)


class TestCache:
    """The second reading of a folder parses nothing, and gives the same."""

    @pytest.fixture
    def folder(self, write_visdrone):
        folder = write_visdrone({"a": b"1,2,3,4,1,1,0,0\n0,0,bad\n", "b": b"5,6,7.5,8,1,2,0,0\n"})
        time.sleep(2 * read_cache._SETTLE_SECONDS)
        return folder

    @pytest.fixture
    def parsed(self, monkeypatch):
        """Names of the files that were parsed, in order."""
        calls = []

        def parse(data, num_classes):
            calls.append(data)
            return parse_visdrone_file(data, num_classes)

        monkeypatch.setattr(visdrone_folder, "parse_visdrone_file", parse)
        return calls

    def test_same_records_and_report(self, folder, parsed):
        first, first_report = load(folder)
        assert len(parsed) == 2
        second, second_report = load(folder)
        assert len(parsed) == 2
        assert second == first
        assert second_report == first_report
        assert second_report.dropped == {"wrong number of columns": 1}

    def test_strict_mode_raises_from_the_cache_too(self, folder, parsed):
        load(folder)
        with pytest.raises(DataFormatError, match="a.txt:2"):
            load(folder, strict=True)
        assert len(parsed) == 2

    @pytest.mark.parametrize("change", ["same length", "same time", "removed", "added", "image"])
    def test_any_change_invalidates(self, folder, parsed, write_image, change):
        load(folder)
        text, image = folder / "annotations" / "b.txt", folder / "images" / "b.jpg"
        before = text.stat()
        if change in ("same length", "same time"):
            text.write_bytes(text.read_bytes().replace(b"5,6", b"4,6"))
        if change == "same time":
            os.utime(text, ns=(before.st_atime_ns, before.st_mtime_ns))
        if change == "removed":
            text.unlink()
            image.unlink()
        if change == "added":
            write_image(folder / "images" / "c.jpg")
            (folder / "annotations" / "c.txt").write_bytes(b"9,9,9,9,1,1,0,0")
        if change == "image":
            write_image(image, 50, 60)
        del parsed[:]
        records, _ = load(folder)
        assert parsed
        expected = {
            "removed": [[1.0, 2.0, 3.0, 4.0]],
            "added": [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.5, 8.0], [9.0, 9.0, 9.0, 9.0]],
            "image": [[1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.5, 8.0]],
        }
        changed = [[1.0, 2.0, 3.0, 4.0], [4.0, 6.0, 7.5, 8.0]]
        assert boxes_of(records) == expected.get(change, changed)
        if change == "image":
            assert (records[1]["height"], records[1]["width"]) == (50, 60)

    def test_files_written_just_now_are_not_cached(self, folder, parsed, monkeypatch):
        monkeypatch.setattr(read_cache, "_SETTLE_SECONDS", 3600)
        load(folder)
        load(folder)
        assert len(parsed) == 4

    @pytest.mark.parametrize("damage", ["cut", "noise", "empty", "other arrays"])
    def test_damaged_cache_is_ignored(self, folder, parsed, tmp_path, damage):
        first, _ = load(folder)
        (path,) = (tmp_path / "cache" / "efpnbs_d2").iterdir()
        data = path.read_bytes()
        noisy = bytearray(data)
        noisy[len(data) // 2 : len(data) // 2 + 40] = b"x" * 40
        if damage == "other arrays":
            with np.load(path) as stored:
                np.savez(path, fingerprint=stored["fingerprint"], sizes=stored["sizes"])
        else:
            path.write_bytes({"cut": data[:-60], "noise": bytes(noisy), "empty": b""}[damage])
        again, _ = load(folder)
        assert again == first
        assert len(parsed) == 4

    def test_unwritable_cache_is_no_error(self, folder, parsed, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("not a folder")
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
        assert load(folder)[0] == load(folder)[0]
        assert len(parsed) == 4

    def test_relative_cache_home_is_ignored(self, folder, tmp_path, monkeypatch):
        """The XDG specification asks for absolute paths; ours then lies under the home folder."""
        monkeypatch.setenv("XDG_CACHE_HOME", "cache-here")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        monkeypatch.chdir(tmp_path)
        load(folder)
        assert not (tmp_path / "cache-here").exists()
        assert len(list((tmp_path / "home" / ".cache" / "efpnbs_d2").iterdir())) == 1


def test_real_files_are_read_whole(real_data):
    """Counts published for the mini sets; boxes read and dropped are the lines of the files."""
    for split, images, boxes, regions in (("train", 169, 9392, 239), ("val", 50, 3374, 75)):
        folder = real_data / "visdrone-mini" / f"VisDrone2019-DET-{split}"
        records, report = load(folder)
        annotations = [a for r in records for a in r["annotations"]]
        assert len(records) == images
        assert sum(not a["iscrowd"] for a in annotations) == boxes
        assert sum(a.get("ignored_as") == "region" for a in annotations) == regions
        assert report.boxes == _lines(folder)


def test_real_quirks_are_counted(real_data):
    folder = real_data / "fixtures" / "visdrone"
    _, report = load(folder)
    assert report.boxes == _lines(folder)
    # Half of the text files come without their image.
    assert dict(report.images_dropped) == {"missing": 4}


def _lines(folder):
    texts = (folder / "annotations").glob("*.txt")
    return sum(len(t.read_bytes().split()) for t in texts)
