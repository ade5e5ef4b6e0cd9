"""Labels survive a conversion and its way back, and what a format cannot hold is counted."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from efpnbs_d2.data.coco import load_coco
from efpnbs_d2.data.convert import convert_dataset
from efpnbs_d2.data.convert_classes import parse_classes, write_class_file
from efpnbs_d2.data.report import ReadReport
from efpnbs_d2.data.visdrone import load_visdrone
from efpnbs_d2.file_format import DataFormatError

FEW = settings(max_examples=15, deadline=None)
CLASSES = ("car", "van")
# What folders are called in each format.
LABELS = {"visdrone": "annotations", "coco": "annotations.json", "yolo": "labels"}

sides = st.integers(20, 3000)


def run(source, target, folder: Path, output: Path, **options):
    """Convert a data set that this module wrote, or its own output."""
    options = {"annotations": str(folder / LABELS[source]), "progress": False} | options
    return convert_dataset(
        source, target, images=[str(folder / "images")], output=output, **options
    )


def text_set(folder: Path, source: str, files: dict[str, str], size=(100, 200)) -> Path:
    """A data set of text files with images of (height, width)."""
    for name, text in files.items():
        label = folder / LABELS[source] / f"{name}.txt"
        image = folder / "images" / f"{name}.png"
        for path in (label, image):
            path.parent.mkdir(parents=True, exist_ok=True)
        label.write_bytes(text.encode())
        Image.new("1", size[::-1]).save(image)
    return folder


def coco_set(folder: Path, annotations: list[dict], size=(100, 200), **sections) -> Path:
    """A COCO data set of one image, a.png."""
    (folder / "images").mkdir(parents=True)
    height, width = size
    Image.new("1", (width, height)).save(folder / "images" / "a.png")
    content = {
        "images": [{"id": 1, "file_name": "a.png", "height": height, "width": width}],
        "annotations": [{"id": i, "image_id": 1, **a} for i, a in enumerate(annotations, 1)],
        "categories": [{"id": 1, "name": "car"}, {"id": 2, "name": "van"}],
    }
    (folder / "annotations.json").write_text(json.dumps(content | sections))
    return folder


def texts(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): p.read_text() for p in sorted(folder.rglob("*.txt"))}


def annotations_of(folder: Path) -> list[dict]:
    return json.loads((folder / "annotations.json").read_text())["annotations"]


def read_equals_written_and_dropped(report) -> bool:
    return report.read.kept == report.boxes_written + report.boxes_dropped.total()


visdrone_rows = st.lists(
    st.tuples(
        st.integers(-50, 4000),
        st.integers(-50, 4000),
        st.integers(0, 500),
        st.integers(0, 500),
        st.integers(0, 1),
        st.integers(0, 11),
        st.integers(0, 1),
        st.integers(0, 2),
    ),
    max_size=8,
)


@FEW
@given(files=st.lists(visdrone_rows, min_size=1, max_size=3))
def test_visdrone_comes_back_from_coco_as_it_was(files):
    # Boxes outside the image and of no height included: both formats can hold them.
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        lines = {f"i{n}": [",".join(map(str, row)) for row in rows] for n, rows in enumerate(files)}
        source = text_set(
            root / "s", "visdrone", {k: "".join(f"{x}\n" for x in v) for k, v in lines.items()}
        )
        to_coco = run("visdrone", "coco", source, root / "c")
        back = run("coco", "visdrone", root / "c", root / "v")
        assert texts(root / "v/annotations") == texts(source / "annotations")
        assert not (to_coco.lost or to_coco.boxes_dropped or back.lost or back.boxes_dropped)
        assert read_equals_written_and_dropped(back)


def test_trailing_commas_crlf_and_empty_lines_are_what_visdrone_loses(tmp_path):
    text = "10,20,5,0,1,1,0,0,\r\n\r\n7,8,9,10,0,0,0,0\r\n"
    source = text_set(tmp_path / "s", "visdrone", {"a": text})
    report = run("visdrone", "coco", source, tmp_path / "c")
    run("coco", "visdrone", tmp_path / "c", tmp_path / "v")
    expected = "10,20,5,0,1,1,0,0\n7,8,9,10,0,0,0,0\n"
    assert texts(tmp_path / "v/annotations") == {"a.txt": expected}
    assert report.noted == {"boxes of zero width or height, kept": 1}


def test_visdrone_as_coco_trains_like_visdrone(tmp_path):
    # Category 0, 11 ("others") and score 0 are ignore regions in both; boxes are clipped alike.
    rows = ["5,5,9,9,1,4,1,2", "-3,2,9,9,1,1,0,0", "0,0,50,50,0,0,0,0", "1,2,3,4,0,11,0,0"]
    rows += ["8,8,4,4,0,3,0,0", "9,9,0,4,1,1,0,0"]
    source = text_set(tmp_path / "s", "visdrone", {"a": "\n".join(rows)})
    run("visdrone", "coco", source, tmp_path / "c")
    images, labels = str(tmp_path / "c/images"), str(source / "annotations")
    expected = load_visdrone(images, labels, num_classes=10, report=ReadReport("v"))
    found, _, names = load_coco(
        str(tmp_path / "c/annotations.json"), [images], classes=None, report=ReadReport("c")
    )
    assert len(names) == 10
    for record in (*expected, *found):
        for annotation in record["annotations"]:
            annotation.pop("ignored_as", None)  # the kind: "region" here, "crowd" there
    assert len(expected[0]["annotations"]) == 5
    assert found == expected


fractions = st.integers(0, 10**12).map(lambda n: f"{n / 10**12:.12f}".rstrip("0"))
padded = fractions.map(lambda t: t.split(".")[0] + "." + t.split(".")[1].ljust(6, "0"))


@FEW
@given(
    rows=st.lists(st.tuples(st.integers(0, 1), padded, padded, padded, padded), max_size=8),
    height=sides,
    width=sides,
)
def test_yolo_comes_back_from_coco_digit_by_digit(rows, height, width):
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        text = "".join(" ".join(map(str, row)) + "\n" for row in rows)
        source = text_set(root / "s", "yolo", {"sub/a": text, "b": ""}, (height, width))
        run("yolo", "coco", source, root / "c", classes=CLASSES)
        report = run("coco", "yolo", root / "c", root / "y")
        assert texts(root / "y/labels") == texts(source / "labels")
        assert not report.lost and not report.boxes_dropped


@FEW
@given(data=st.data(), height=sides, width=sides)
def test_coco_boxes_come_back_from_yolo(data, height, width):
    # Centre inside the image and no larger than it: what YOLO can hold.
    def box(draw):
        w, h = draw(st.floats(0, width)), draw(st.floats(0, height))
        cx, cy = draw(st.floats(0, width)), draw(st.floats(0, height))
        return [cx - w / 2, cy - h / 2, w, h]

    boxes = [box(data.draw) for _ in range(data.draw(st.integers(1, 5)))]
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        entries = [{"bbox": b, "category_id": 1 + i % 2} for i, b in enumerate(boxes)]
        source = coco_set(root / "s", entries, (height, width))
        there = run("coco", "yolo", source, root / "y")
        run("yolo", "coco", root / "y", root / "c")
        found = annotations_of(root / "c")
        assert [a["category_id"] for a in found] == [e["category_id"] for e in entries]
        assert not there.boxes_dropped
        for annotation, expected in zip(found, boxes, strict=True):
            assert annotation["bbox"] == pytest.approx(expected, abs=1e-9)


@FEW
@given(x=st.integers(-90, 290), y=st.integers(-90, 190), w=st.integers(0, 90))
def test_every_box_is_written_or_counted(x, y, w):
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        row = f"{x},{y},{w},{w},1,1,0,0\n7,8,9,10,0,0,0,0\nbroken\n"
        source = text_set(root / "s", "visdrone", {"a": row})
        report = run("visdrone", "yolo", source, root / "y")
        assert report.read.boxes == 3 and report.read.dropped.total() == 1
        assert read_equals_written_and_dropped(report)
        (text,) = texts(root / "y/labels").values()
        assert len(text.splitlines()) == report.boxes_written
        # Ultralytics throws the whole image away for one number outside 0..1.
        assert all(0 <= float(n) <= 1 for line in text.splitlines() for n in line.split()[1:])


def test_whole_pixels_come_back_whole_from_yolo(tmp_path):
    # 1361 x 765: hardly a fraction of these sides has a short decimal form.
    rows = [f"{x},{x // 2},{x % 37 + 1},{x % 23 + 1},1,1,0,0" for x in range(0, 1300, 7)]
    source = text_set(tmp_path / "s", "visdrone", {"a": "\n".join(rows)}, (765, 1361))
    run("visdrone", "yolo", source, tmp_path / "y")
    run("yolo", "coco", tmp_path / "y", tmp_path / "c")
    boxes = [a["bbox"] for a in annotations_of(tmp_path / "c")]
    assert boxes == [list(map(int, row.split(",")[:4])) for row in rows]


def test_yolo_says_what_it_cannot_hold(tmp_path):
    rows = ["10,10,20,20,1,4,1,2", "0,0,9,9,0,0,0,0", "0,0,9,9,0,11,0,0", "5,5,9,9,0,4,0,0"]
    rows += ["-30,10,40,20,1,4,0,0", "-50,10,40,20,1,4,0,0"]
    source = text_set(tmp_path / "s", "visdrone", {"a": "\n".join(rows)})
    report = run("visdrone", "yolo", source, tmp_path / "y")
    assert report.boxes_dropped == {
        "ignore regions ('region'): YOLO has none": 1,
        "ignore regions ('others'): YOLO has none": 1,
        "ignore regions ('unscored'): YOLO has none": 1,
        "boxes outside their image: YOLO has none": 1,
    }
    assert report.lost == {
        "values of 'truncation'": 1,
        "values of 'occlusion'": 1,
        "boxes cut at the border of their image": 1,
    }
    # The second box kept: x from 0 to 10 of 200 px, y from 10 to 30 of 100 px.
    assert texts(tmp_path / "y/labels")["a.txt"].splitlines() == [
        "3 0.100000 0.200000 0.100000 0.200000",
        "3 0.025000 0.200000 0.050000 0.200000",
    ]


def test_visdrone_says_what_it_cannot_hold(tmp_path):
    box = {"category_id": 2, "bbox": [1.5, 2.25, 0.25, 3]}
    entries = [
        box | {"area": 0.75, "segmentation": [[1, 2, 3, 4, 5, 6]], "note": "x"},
        {"category_id": 1, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 0, "ignore": True},
    ]
    source = coco_set(tmp_path / "s", entries, info={"year": 2026})
    report = run("coco", "visdrone", source, tmp_path / "v")
    # 2.25 and 1.5 are rounded; a width of 0.25 px must not become none. The flag sets score 0.
    text = "2,2,1,3,1,2,0,0\n1,2,3,4,0,1,0,0\n"
    assert texts(tmp_path / "v") == {"annotations/a.txt": text, "classes.txt": "car\nvan\n"}
    assert report.lost == {
        "boxes of fractional pixels, rounded": 1,
        "annotation keys 'segmentation'": 1,
        "annotation keys 'note'": 1,
        "flags 'ignore': like all ignore regions, the boxes have score 0": 1,
        "section 'info'": 1,
    }
    again = run("visdrone", "coco", tmp_path / "v", tmp_path / "c")
    assert [(a["category_id"], a["iscrowd"]) for a in annotations_of(tmp_path / "c")] == [
        (2, 0),
        (1, 1),
    ]
    assert not again.lost


def test_coco_holds_everything(tmp_path):
    entries = [
        {"category_id": 6, "bbox": [1.5, 2, 3, 0], "area": 5, "iscrowd": 1, "extra": [None]},
        {"category_id": 0, "bbox": [1, 2, 3, 4], "uncertain": True, "id": 70},
    ]
    sections = {
        "info": {"year": 1},
        "licenses": [{"id": 1}],
        "categories": [{"id": 0, "name": "van", "supercategory": "v"}, {"id": 6, "name": "car"}],
        "images": [{"id": 1, "file_name": "a.png", "height": 100, "width": 200, "seed": 3}],
    }
    source = coco_set(tmp_path / "s", entries, **sections)
    report = run("coco", "coco", source, tmp_path / "c")
    found = json.loads((tmp_path / "c/annotations.json").read_text())
    written = json.loads((source / "annotations.json").read_text())
    for key in sections:
        assert found[key] == written[key]
    for annotation, expected in zip(found["annotations"], written["annotations"], strict=True):
        assert annotation | expected == annotation
    assert not report.lost and not report.boxes_dropped


def test_category_gaps_are_closed_and_counted(tmp_path):
    sections = {"categories": [{"id": 11, "name": "van"}, {"id": 0, "name": "car"}]}
    source = coco_set(tmp_path / "s", [{"category_id": 11, "bbox": [0, 0, 100, 50]}], **sections)
    report = run("coco", "yolo", source, tmp_path / "y")
    assert texts(tmp_path / "y/labels") == {"a.txt": "1 0.250000 0.250000 0.500000 0.500000\n"}
    assert report.lost["category ids (classes are numbered in the order of their ids)"] == 2
    run("yolo", "coco", tmp_path / "y", tmp_path / "c")
    content = json.loads((tmp_path / "c/annotations.json").read_text())
    assert [c["name"] for c in content["categories"]] == ["car", "van"]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("2 0.5 0.5 0.1 0.1", "unknown class"),
        ("0.5 0.5 0.5 0.1 0.1", "unknown class"),
        ("0 50 40 10 10", "not normalised"),
        ("0 nan 0.5 0.1 0.1", "not normalised"),
        ("0 0.5 0.5 -0.001 0.1", "negative size"),
        ("0 0.1 0.1 0.2 0.1 0.2 0.2", "wrong number of columns"),
        ("0 0.5 0.5 0.1 1_0", "not a number"),
    ],
)
def test_broken_yolo_lines_are_counted_or_stop(tmp_path, line, reason):
    source = text_set(tmp_path / "s", "yolo", {"a": f"1 0.5 0.5 0.1 0.1\n{line}\n"})
    report = run("yolo", "coco", source, tmp_path / "c", classes=CLASSES)
    assert report.read.dropped == {reason: 1} and report.boxes_written == 1
    with pytest.raises(DataFormatError, match=r"a\.txt:2: found .*, expected"):
        run("yolo", "coco", source, tmp_path / "d", classes=CLASSES, strict=True)
    assert not (tmp_path / "d").exists()


def test_missing_counterparts_are_counted(tmp_path):
    source = text_set(tmp_path / "s", "yolo", dict.fromkeys("ab", "0 0.5 0.5 0.1 0.1\n"))
    (source / "images/a.png").unlink()
    (source / "labels/b.txt").unlink()
    (source / "labels/classes.txt").write_text("car\n")
    report = run("yolo", "visdrone", source, tmp_path / "v")
    assert report.read.images_dropped == {"missing": 1}
    assert report.read.dropped == {"image dropped: missing": 1}
    assert report.noted["images without a label file, taken as without objects"] == 1
    assert texts(tmp_path / "v/annotations") == {"b.txt": ""}

    source = text_set(tmp_path / "t", "visdrone", dict.fromkeys("abc", "1,2,3,4,1,1,0,0\n"))
    (source / "images/a.png").unlink()
    (source / "annotations/b.txt").unlink()
    report = run("visdrone", "coco", source, tmp_path / "c")
    assert report.read.images_dropped == {"missing": 1, "without annotation file": 1}
    assert report.boxes_written == 1


def test_a_json_whose_images_are_missing(tmp_path):
    images = [
        {"id": i, "file_name": f"{c}.png", "height": 9, "width": 9} for i, c in enumerate("ab")
    ]
    entries = [{"category_id": 1, "bbox": [0, 0, 9, 9], "image_id": i} for i in (0, 1)]
    source = coco_set(tmp_path / "s", entries, images=images)
    report = run("coco", "yolo", source, tmp_path / "y")
    assert sorted(texts(tmp_path / "y/labels")) == ["a.txt", "b.txt"]
    assert [p.name for p in (tmp_path / "y/images").iterdir()] == ["a.png"]
    noted = dict(report.noted)
    assert noted.pop("image files of another size than the JSON's, which was used") == 1
    assert list(noted.values()) == [1] and "not found" in next(iter(noted))
    (source / "images/a.png").unlink()
    with pytest.raises(ValueError, match=r"found none of the 2 images \(a\.png, \.\.\.\) of"):
        run("coco", "yolo", source, tmp_path / "z")


@pytest.mark.parametrize("source", ["visdrone", "yolo"])
def test_a_wrong_folder_of_images_is_an_error_with_the_first_image(tmp_path, source):
    labels = text_set(tmp_path / "s", source, {"a": "broken", "b": ""})
    (tmp_path / "empty").mkdir()
    options = {"annotations": str(labels / LABELS[source]), "classes": CLASSES}
    with pytest.raises(ValueError) as error:
        convert_dataset(
            source, "coco", images=[str(tmp_path / "empty")], output=tmp_path / "c", **options
        )
    label, images = labels / LABELS[source] / "a.txt", tmp_path / "empty"
    assert str(error.value).startswith(f"{label}: found no image a.* in {images}, expected one per")
    (labels / LABELS[source] / "a.txt").unlink()
    (labels / LABELS[source] / "b.txt").unlink()
    with pytest.raises(ValueError, match="^found no image to convert in .*empty$"):
        convert_dataset(
            source, "coco", images=[str(tmp_path / "empty")], output=tmp_path / "c", **options
        )


@pytest.mark.parametrize("target", ["visdrone", "yolo"])
def test_ids_that_count_images_and_boxes_anew_are_no_loss(tmp_path, target):
    images = [{"id": 2507, "file_name": "a.png", "height": 100, "width": 200, "note": "x"}]
    entries = [{"category_id": 1, "bbox": [0, 0, 9, 9], "image_id": 2507, "id": 70}]
    source = coco_set(tmp_path / "s", entries, images=images)
    assert run("coco", target, source, tmp_path / "t").lost == {"image keys 'note'": 1}


@pytest.mark.parametrize("name", ["../a.png", "/tmp/a.png", "..", "a\0.png"])
def test_no_file_is_written_outside_the_output(tmp_path, name):
    images = [
        {"id": 1, "file_name": "a.png", "height": 100, "width": 200},
        {"id": 2, "file_name": name, "height": 9, "width": 9},
    ]
    entries = [{"category_id": 1, "bbox": [0, 0, 9, 9], "image_id": i} for i in (1, 2)]
    source = coco_set(tmp_path / "s", entries, images=images)
    report = run("coco", "yolo", source, tmp_path / "y")
    assert report.read.images_dropped == {"bad file name": 1}
    assert report.read.dropped == {"image dropped: bad file name": 1}
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "cache") == ["s", "y"]


def test_two_images_of_one_label_file(tmp_path):
    # YOLO keeps folders, VisDrone has none.
    files = {"x/a": "0 0.500000 0.500000 0.100000 0.100000\n", "y/a": ""}
    source = text_set(tmp_path / "s", "yolo", files)
    run("yolo", "yolo", source, tmp_path / "y", classes=CLASSES)
    assert texts(tmp_path / "y/labels") == texts(source / "labels")
    with pytest.raises(ValueError, match="found the images x/a.png and y/a.png"):
        run("yolo", "visdrone", source, tmp_path / "v", classes=CLASSES)
    (source / "images/y/a.png").rename(source / "images/x/b.png")
    report = run("yolo", "visdrone", source, tmp_path / "v", classes=CLASSES)
    assert sorted(p.name for p in (tmp_path / "v/images").iterdir()) == ["a.png", "b.png"]
    assert report.lost == {"folders of images: VisDrone keeps all images in one": 2}


def test_tiles_stay_in_coco(tmp_path):
    tile = {"file_name": "a.png", "height": 50, "width": 80}
    images = [
        tile | {"id": 1, "corner": [0, 0, 80, 50]},
        tile | {"id": 2, "corner": [120, 50, 200, 100]},
    ]
    source = coco_set(tmp_path / "s", [], images=images)
    run("coco", "coco", source, tmp_path / "c")
    content = json.loads((tmp_path / "c/annotations.json").read_text())
    assert content["images"] == images
    with pytest.raises(ValueError, match="found a tile of a.png"):
        run("coco", "yolo", source, tmp_path / "y")


def test_repeated_annotation_ids_are_counted_anew(tmp_path):
    box = {"category_id": 1, "bbox": [0, 0, 9, 9], "id": 5}
    report = run("coco", "coco", coco_set(tmp_path / "s", [box, box]), tmp_path / "c")
    assert [a["id"] for a in annotations_of(tmp_path / "c")] == [1, 2]
    assert report.noted["annotation ids counted anew: some were missing or there twice"] == 2


@pytest.mark.parametrize("how", ["link", "copy", "none"])
def test_images_are_placed(tmp_path, how):
    source = coco_set(tmp_path / "s", [])
    run("coco", "yolo", source, tmp_path / "y", place_images=how)
    image = tmp_path / "y/images/a.png"
    assert (image.exists(), image.is_symlink()) == (how != "none", how == "link")


def test_nothing_is_left_of_a_failed_conversion(tmp_path, monkeypatch):
    source = coco_set(tmp_path / "s", [])

    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("shutil.copy2", full)
    with pytest.raises(OSError, match="No space left"):
        run("coco", "yolo", source, tmp_path / "out/y", place_images="copy")
    assert not list((tmp_path / "out").iterdir())


def test_a_folder_in_the_way_is_kept(tmp_path):
    source = coco_set(tmp_path / "s", [])
    (tmp_path / "y").mkdir()
    (tmp_path / "y/mine").write_text("")
    with pytest.raises(ValueError, match="is in the way"):
        run("coco", "yolo", source, tmp_path / "y")
    (tmp_path / "y/mine").unlink()
    run("coco", "yolo", source, tmp_path / "y")
    assert (tmp_path / "y").stat().st_mode & 0o777 == 0o755


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("data.yaml", "names: [car, 7]", ["car", "7"]),
        ("data.yaml", "names: {1: van, 0: car}", ["car", "van"]),
        ("obj.names", "car\r\n\r\nvan ", ["car", "van"]),
        ("data.yaml", "names: {1: van}", "expected 0, 1, 2"),
        ("data.yaml", "nc: 2", "found no 'names'"),
        ("data.yaml", "names: [", "no readable class names"),
        ("classes.txt", "car\ncar\n", "different, non-empty names"),
        ("classes.txt", "", "different, non-empty names"),
    ],
)
def test_class_files(tmp_path, file, text, expected):
    path = tmp_path / file
    path.write_text(text)
    if isinstance(expected, list):
        assert parse_classes(str(path)) == expected
    else:
        with pytest.raises(ValueError, match=expected):
            parse_classes(str(path))


def test_visdrone_takes_classes_txt_and_no_other_tools_file(tmp_path):
    source = text_set(tmp_path / "s", "visdrone", {"a": "1,2,3,4,1,1,0,0\n"})
    (source / "data.yaml").write_text("names: [ignored regions, pedestrian]")
    run("visdrone", "coco", source, tmp_path / "c")
    names = [
        c["name"] for c in json.loads((tmp_path / "c/annotations.json").read_text())["categories"]
    ]
    assert names[0] == "pedestrian" and len(names) == 10


def test_class_names_without_a_file(tmp_path):
    assert parse_classes("car, big van") == ["car", "big van"]
    with pytest.raises(ValueError, match="none.txt not found"):
        parse_classes("none.txt")
    with pytest.raises(ValueError, match="different, non-empty names"):
        parse_classes("car,,van")
    with pytest.raises(ValueError, match="text on one line"):
        write_class_file(tmp_path / "classes.txt", ["two\nlines"])


@pytest.mark.parametrize("split", ["train", "val"])
def test_real_visdrone_comes_back(real_data, tmp_path, split):
    source = real_data / f"visdrone-mini/VisDrone2019-DET-{split}"
    run("visdrone", "coco", source, tmp_path / "c")
    run("coco", "visdrone", tmp_path / "c", tmp_path / "v")
    found = texts(tmp_path / "v/annotations")
    assert found == _normalised(source / "annotations")
    report = run("visdrone", "yolo", source, tmp_path / "y")
    run("yolo", "coco", tmp_path / "y", tmp_path / "b")
    expected = [
        (a["category_id"], a["bbox"]) for a in annotations_of(tmp_path / "c") if not a["iscrowd"]
    ]
    assert [(a["category_id"], a["bbox"]) for a in annotations_of(tmp_path / "b")] == expected
    assert len(expected) == report.boxes_written > 3000


def test_real_quirks_come_back(real_data, tmp_path):
    labels = real_data / "fixtures/visdrone/annotations"
    text_set(tmp_path / "s", "visdrone", {p.stem: "" for p in labels.iterdir()})
    report = run("visdrone", "coco", tmp_path / "s", tmp_path / "c", annotations=str(labels))
    run("coco", "visdrone", tmp_path / "c", tmp_path / "v")
    assert texts(tmp_path / "v/annotations") == _normalised(labels)
    assert report.noted == {"boxes of zero width or height, kept": 3}


def _normalised(folder: Path) -> dict[str, str]:
    """Official files without trailing commas and CRLF."""
    return {
        name: "".join(line.removesuffix(",") + "\n" for line in text.splitlines())
        for name, text in texts(folder).items()
    }
