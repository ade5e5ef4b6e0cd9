"""COCO-style JSON: AI-TOD, TinyPerson, one's own; every entry becomes a box or a counted loss.

Images are 200 wide and 100 high.
"""

import json

import pytest
from detectron2.structures import BoxMode

from efpnbs_d2.data.coco import load_coco
from efpnbs_d2.data.report import ReadReport
from efpnbs_d2.file_format import DataFormatError

IMAGE = {"id": 1, "file_name": "a.jpg", "height": 100, "width": 200}
CATEGORIES = [{"id": 1, "name": "ship"}, {"id": 2, "name": "person"}]


def box(x=10, y=20, w=30, h=40, **changes):
    return {"id": 1, "image_id": 1, "category_id": 1, "bbox": [x, y, w, h], "iscrowd": 0} | changes


def coco(*annotations, images=(IMAGE,), categories=CATEGORIES):
    return {"images": list(images), "annotations": list(annotations), "categories": categories}


def load(path, images, strict=False, classes=None, **options):
    report = ReadReport("test", strict)
    records, ids, names = load_coco(
        str(path), [str(images)], classes=classes, report=report, **options
    )
    return records, report, ids, names


def boxes_of(records):
    return [a["bbox"] for r in records for a in r["annotations"]]


def test_record_is_detectron2s_standard_dict(write_coco):
    path, images = write_coco(coco(box(1.5, 2, 3, 4.25, category_id=2)))
    records, report, ids, names = load(path, images, strict=True)
    assert records == [
        {
            "file_name": str(images / "a.jpg"),
            "height": 100,
            "width": 200,
            "image_id": 1,
            "annotations": [
                {
                    "bbox": [1.5, 2.0, 3.0, 4.25],
                    "bbox_mode": BoxMode.XYWH_ABS,
                    "category_id": 1,
                    "iscrowd": 0,
                }
            ],
        }
    ]
    assert (ids, names, report.kept) == ({1: 0, 2: 1}, ["ship", "person"], 1)


@pytest.mark.parametrize("first", [0, 1, 7])
def test_ids_may_start_anywhere(write_coco, first):
    """Image, annotation and category ids; boxes find their images in whatever order they come."""
    images = [IMAGE | {"id": first + i, "file_name": f"{i}.jpg"} for i in (1, 0)]
    boxes = [box(x, image_id=first + x % 2, category_id=first, id=x) for x in range(4)]
    path, folder = write_coco(
        coco(*boxes, images=images, categories=[{"id": first, "name": "ship"}])
    )
    records, report, ids, _ = load(path, folder, strict=True)
    assert [r["image_id"] for r in records] == [first, first + 1]
    assert [[a["bbox"][0] for a in r["annotations"]] for r in records] == [[0, 2], [1, 3]]
    assert ids == {first: 0}


@pytest.mark.parametrize(
    ("flags", "kind"),
    [
        ({"iscrowd": 1}, "crowd"),
        ({"iscrowd": True}, "crowd"),
        ({"ignore": True}, "ignore"),
        ({"ignore": 1, "uncertain": True}, "ignore"),
        ({"uncertain": True}, "uncertain"),
        ({"logo": True}, "logo"),
        ({"ignore": False, "uncertain": False, "logo": False, "in_dense_image": True}, None),
    ],
)
def test_flags_make_ignore_regions(write_coco, flags, kind):
    path, images = write_coco(coco(box(**flags)))
    records, report, *_ = load(path, images, strict=True)
    (annotation,) = records[0]["annotations"]
    assert annotation["iscrowd"] == int(kind is not None)
    assert annotation.get("ignored_as") == kind
    assert report.ignored == int(kind is not None)


def test_boxes_are_clipped_and_empty_ones_dropped(write_coco):
    boxes = [box(-10, -20, 30, 40), box(190.5, 90, 30, 40), box(200, 0, 5, 5), box(5, 5, 0, 3)]
    path, images = write_coco(coco(*boxes))
    records, report, *_ = load(path, images, strict=True)
    assert boxes_of(records) == [[0.0, 0.0, 20.0, 20.0], [190.5, 90.0, 9.5, 10.0]]
    assert dict(report.dropped) == {"outside the image": 1, "zero size": 1}
    assert report.problems[1].startswith(f"{path}:annotations[3]: found box 5,5,0,3 (xywh) on a")


def test_uncut_boxes_keep_their_numbers(write_coco):
    """0.1 + 0.2 - 0.1 is not 0.2 in floating point: extents must not be recomputed."""
    path, images = write_coco(coco(box(0.1, 0.7, 0.2, 0.1)))
    assert boxes_of(load(path, images)[0]) == [[0.1, 0.7, 0.2, 0.1]]


def test_extent_lost_in_rounding_is_none(write_coco):
    """50 + 1e-20 is 50: such a box would have no area wherever corners are computed."""
    path, images = write_coco(coco(box(50, 50, 1e-20, 4)))
    records, report, *_ = load(path, images)
    assert (boxes_of(records), report.dropped.total()) == ([], 1)


@pytest.mark.parametrize(
    ("annotation", "reason"),
    [
        ([1, 2], "no annotation entry"),
        (None, "no annotation entry"),
        (box(image_id=2), "unknown image"),
        (box(image_id="1"), "unknown image"),
        (box(image_id=True), "unknown image"),
        (box(image_id=[1]), "unknown image"),
        (box(category_id=9), "unknown category"),
        (box(category_id=None), "unknown category"),
        (box(category_id={}), "unknown category"),
        (box(bbox=None), "bad bbox"),
        (box(bbox=[]), "bad bbox"),
        (box(bbox=[1, 2, 3]), "bad bbox"),
        (box(bbox=[1, 2, 3, "4"]), "bad bbox"),
        (box(bbox=[1, 2, 3, True]), "bad bbox"),
        (box(bbox=[float("nan"), 2, 3, 4]), "bad bbox"),
        (box(bbox=[1, 2, float("inf"), 4]), "bad bbox"),
        (box(bbox=[10**400, 2, 3, 4]), "bad bbox"),
        (box(w=-1), "negative size"),
        (box(iscrowd=2), "bad flag"),
        (box(ignore="yes"), "bad flag"),
        (box(uncertain=None), "bad flag"),
    ],
)
def test_broken_annotations(write_coco, annotation, reason):
    path, images = write_coco(coco(box(), annotation, box(1)))
    records, report, *_ = load(path, images)
    assert len(boxes_of(records)) == 2
    assert dict(report.dropped) == {reason: 1}
    assert report.boxes == 3
    assert report.problems[0].startswith(f"{path}:annotations[1]: found ")
    with pytest.raises(DataFormatError, match=r"annotations\[1\]: found .*, expected "):
        load(path, images, strict=True)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"file_name": None}, "bad file name"),
        ({"file_name": ""}, "bad file name"),
        ({"width": 0}, "bad width"),
        ({"width": 1.5}, "bad width"),
        ({"height": "100"}, "bad height"),
        ({"height": None}, "bad height"),
        ({"id": "1"}, "bad id"),
        ({"id": 1}, "id used twice"),
        ({"corner": [0, 0, 5, 5]}, "bad corner"),
        ({"corner": [-1, 0, 199, 100]}, "bad corner"),
        ({"corner": "0,0,200,100"}, "bad corner"),
    ],
)
def test_broken_images(write_coco, change, reason):
    path, images = write_coco(coco(box(), box(image_id=2)))
    data = json.loads(path.read_text())
    data["images"].append(IMAGE | {"id": 2} | change)
    path.write_text(json.dumps(data))
    records, report, *_ = load(path, images)
    assert len(records) == 1
    assert dict(report.images_dropped) == {reason: 1}
    # Its box refers to an image that is not there.
    assert (report.kept, report.dropped["unknown image"], report.boxes) == (1, 1, 2)
    with pytest.raises(DataFormatError, match=r"images\[1\]: found .*, expected "):
        load(path, images, strict=True)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"boxes.json:1: found broken JSON"),
        (b'{"images": [\n{"id": 1,', r"boxes.json:2: found broken JSON .* cut short"),
        (b'{"images": "\xff\xfe"}', "expected UTF-8 text"),
        (b"[" * 200_000, "found no readable JSON"),
        (b'{"images": [' + b"1" * 5000 + b"]}", "found no readable JSON"),
        (b"[]", "found a list, expected a JSON object"),
        (b"{}", "found no 'images'"),
        (b'{"images": {}}', "found a dict in 'images', expected a list"),
        (b'{"images": [], "annotations": 5}', "found a int in 'annotations'"),
        (b'{"images": [], "categories": [{"id": 1}]}', r"categories\[0\]: found"),
        (b'{"images": [], "categories": [5]}', r"categories\[0\]: found"),
    ],
)
def test_files_that_are_no_coco_json(tmp_path, content, message):
    path = tmp_path / "boxes.json"
    path.write_bytes(content)
    with pytest.raises(DataFormatError, match=message):
        load(path, tmp_path, classes=["ship"])


def test_byte_order_mark_and_missing_sections(write_coco):
    """Neither info nor licenses are needed, categories only where no classes are given."""
    path, images = write_coco(coco(box(category_id=2), categories=CATEGORIES))
    data = json.loads(path.read_text())
    del data["categories"]
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(data).encode())
    records, _, ids, names = load(path, images, strict=True, classes=["ship", "person"])
    assert records[0]["annotations"][0]["category_id"] == 1
    assert (ids, names) == ({1: 0, 2: 1}, ["ship", "person"])
    with pytest.raises(ValueError, match="found no categories"):
        load(path, images)


def test_file_without_annotations_is_unlabelled(write_coco):
    path, images = write_coco({"images": [IMAGE], "categories": CATEGORIES})
    records, report, *_ = load(path, images, strict=True)
    assert "annotations" not in records[0]
    assert report.images == 1


def test_classes_decide_the_order(write_coco):
    path, images = write_coco(coco(box(category_id=1), box(category_id=2)))
    records, _, ids, names = load(path, images, classes=["person", "ship", "bridge"])
    assert [a["category_id"] for a in records[0]["annotations"]] == [1, 0]
    # The file has no id for a bridge; it gets a free one, since evaluation goes back to ids.
    assert (ids, names) == ({2: 0, 1: 1, 3: 2}, ["person", "ship", "bridge"])


def test_categories_of_another_data_set_are_refused(write_coco):
    path, images = write_coco(coco(box()))
    with pytest.raises(ValueError, match="found the categories 'person', expected only ship, bus"):
        load(path, images, classes=["ship", "bus"])


def test_two_categories_of_one_name_are_refused(write_coco):
    twins = [{"id": 1, "name": "ship"}, {"id": 2, "name": "ship"}]
    path, images = write_coco(coco(box(), categories=twins))
    with pytest.raises(ValueError, match="categories of the same name"):
        load(path, images)


def test_finer_classes_are_merged(write_coco):
    """As TinyPerson's sea_person and earth_person; one id stays for the way back."""
    fine = [{"id": 1, "name": "sea_person"}, {"id": 2, "name": "earth_person"}]
    path, images = write_coco(coco(box(category_id=1), box(category_id=2), categories=fine))
    merged = {"sea_person": "person", "earth_person": "person"}
    records, _, ids, names = load(path, images, classes=["person"], merged=merged)
    assert [a["category_id"] for a in records[0]["annotations"]] == [0, 0]
    assert (ids, names) == ({1: 0}, ["person"])


def test_tiles_keep_their_corner(write_coco):
    """Two records of one file; their boxes are relative to the corner and clipped to the tile."""
    tiles = [
        IMAGE | {"id": 0, "corner": [0, 0, 200, 100]},
        IMAGE | {"id": 1, "corner": [150, 0, 350, 100]},
    ]
    path, images = write_coco(
        coco(box(150, 0, 60, 10, image_id=0), box(0, 0, 60, 10), images=tiles)
    )
    records, report, *_ = load(path, images, strict=True)
    assert [r["corner"] for r in records] == [[0, 0, 200, 100], [150, 0, 350, 100]]
    assert records[0]["file_name"] == records[1]["file_name"]
    assert boxes_of(records) == [[150.0, 0.0, 50.0, 10.0], [0.0, 0.0, 60.0, 10.0]]


class TestMissingImages:
    @pytest.fixture
    def files(self, write_coco):
        names = ["1036__0_600.png", "8.tif__600_0.png", "0000271_07201_d_0000408__560_0.png"]
        images = [IMAGE | {"id": i, "file_name": n} for i, n in enumerate(["a.png", *names])]
        boxes = [box(image_id=i) for i in (0, 1, 1, 2, 3, 3, 3)] + [box(image_id=1, bbox="?")]
        path, folder = write_coco(coco(*boxes, images=images))
        for name in names:
            (folder / name).unlink()
        return path, folder

    def test_they_are_counted_with_their_boxes_and_origin(self, files):
        path, folder = files
        origin = lambda name: None if "_d_" in name else "xView part"  # noqa: E731
        records, report, *_ = load(path, folder, origin=origin)
        assert [r["image_id"] for r in records] == [0]
        assert dict(report.images_dropped) == {"missing (xView part)": 2, "missing": 1}
        assert dict(report.dropped) == {
            "image dropped: missing (xView part)": 4,
            "image dropped: missing": 3,
        }
        assert report.boxes == 8
        assert "2 missing (xView part)" in report.summary()

    def test_strict_mode_names_the_first(self, files):
        with pytest.raises(DataFormatError, match="found no file '1036__0_600.png', expected it"):
            load(*files, strict=True)

    def test_none_at_all_is_an_error(self, files, tmp_path):
        path, _ = files
        with pytest.raises(ValueError, match="found none of the 4 images of .*elsewhere"):
            load(path, tmp_path / "elsewhere")

    def test_file_names_no_file_system_can_hold(self, files):
        path, folder = files
        data = json.loads(path.read_text())
        data["images"][1]["file_name"] = "a\0b/c.png"
        data["images"][2]["file_name"] = "\ud800/x.png"
        data["images"][3]["file_name"] = "../" * 5000 + "x.png"
        path.write_text(json.dumps(data))
        records, report, *_ = load(path, folder)
        assert (len(records), report.images_dropped["missing"]) == (1, 3)
        assert report.summary().isascii()


def test_images_in_several_folders(write_coco, write_image, tmp_path):
    """The first folder that holds an image wins, each image for itself."""
    images = [IMAGE | {"id": i, "file_name": f"{i}.jpg"} for i in range(2)]
    path, folder = write_coco(coco(box(image_id=0), images=images))
    write_image(tmp_path / "second" / "1.jpg", 100, 200)
    report = ReadReport("test", True)
    folders = [str(tmp_path / "second"), str(folder)]
    records, *_ = load_coco(str(path), folders, classes=None, report=report)
    assert [r["file_name"] for r in records] == [str(folder / "0.jpg"), f"{folders[0]}/1.jpg"]


def test_real_aitod_style_file(real_data):
    """Cut by the recipe of AI-TOD's authors, boxes not clipped at the border of a tile."""
    folder = real_data / "fixtures" / "aitod"
    path = folder / "aitod_style_mini.json"
    records, report, ids, names = load(path, folder / "images", strict=True)
    assert len(records) == 4
    assert report.boxes == len(json.loads(path.read_text())["annotations"])
    assert report.clipped > 0
    assert ids == {i + 1: i for i in range(8)}
    for record in records:
        for x, y, w, h in (a["bbox"] for a in record["annotations"]):
            assert 0 <= x < x + w <= record["width"] and 0 <= y < y + h <= record["height"]


def test_real_tinyperson_samples(real_data, write_image, tmp_path):
    """The two samples printed in the official description: flags, no info, corners as x1y1x2y2."""
    folder = real_data / "fixtures" / "tinyperson"
    write_image(tmp_path / "labeled_images" / "bb_V0032_I0001640.jpg", 720, 1280)
    whole, report, *_ = load(
        folder / "tiny_set_train_doc_sample.json",
        tmp_path,
        strict=True,
        classes=["person"],
        merged={"sea_person": "person", "earth_person": "person"},
    )
    assert [a["ignored_as"] for a in whole[0]["annotations"]] == ["ignore"]
    tiles = json.loads(
        (folder / "tiny_set_train_sw640_sh512_all_images_doc_sample.json").read_text()
    )
    path = tmp_path / "tiles.json"
    path.write_text(json.dumps({"images": tiles, "annotations": []}))
    records, *_ = load(path, tmp_path, strict=True, classes=["person"])
    assert [r["corner"] for r in records] == [t["corner"] for t in tiles]
