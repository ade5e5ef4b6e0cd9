"""The command that cuts a data set into tiles: its files, its account, and their use."""

import json
import os
import subprocess
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from PIL import Image

from efpnbs_d2.data import read_dataset, register_own_datasets, register_tiny_dataset
from efpnbs_d2.data.mapper import TinyObjectMapper
from efpnbs_d2.tools.tile import main

REAL_DATA = os.environ.get("EFPNBS_REAL_DATA")
needs_real_data = pytest.mark.skipif(not REAL_DATA, reason="EFPNBS_REAL_DATA is not set")

# Tiles of a 90x60 (width x height) image are 40x30 px and share 10: x 0, 30, 50; y 0, 20, 30.
TILING = ["--tile", "40", "30", "--overlap", "10", "10", "--workers", "1"]
SIZE = {"height": 60, "width": 90}
OBJECT = {"image_id": 7, "category_id": 2, "iscrowd": 0}


@pytest.fixture(autouse=True)
def clean_slate(tmp_path, monkeypatch, registry):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))


@pytest.fixture
def harbour(tmp_path):
    """Two images of noise, registered: one with three objects and an ignore region, one bare."""
    images = tmp_path / "harbour"
    rng = np.random.default_rng(0)
    for name in ("a", "sub/b"):
        path = images / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), rng.integers(0, 255, (60, 90, 3), dtype=np.uint8))
    data = {
        "images": [
            {"id": 7, "file_name": "a.png"} | SIZE,
            {"id": 9, "file_name": "sub/b.png"} | SIZE,
        ],
        "categories": [{"id": 2, "name": "ship"}, {"id": 5, "name": "buoy"}],
        "annotations": [
            # Whole in the first tile only.
            OBJECT | {"id": 1, "bbox": [5, 5, 8, 4]},
            # As large as the image: a piece of it in every tile, 22 % of its area.
            OBJECT | {"id": 2, "bbox": [0, 0, 90, 60]},
            OBJECT | {"id": 3, "bbox": [60, 40, 10, 10], "category_id": 5},
            OBJECT | {"id": 4, "bbox": [35, 0, 10, 5], "uncertain": True},
        ],
    }
    path = tmp_path / "harbour.json"
    path.write_text(json.dumps(data))
    register_tiny_dataset("harbour", annotations=str(path), images=str(images), protocol="aitod")
    return images


def run(tmp_path, *arguments):
    return main(["harbour", *TILING, "--output", str(tmp_path / "tiles"), *arguments])


def use(tmp_path, name):
    """Register the tile sets of the output folder as a user does; the records of one of them."""
    register_own_datasets(str(tmp_path / "tiles" / "tiles.yaml"))
    return read_dataset(name, strict=True)


def test_annotations_are_official_records(tmp_path, harbour, capsys):
    assert run(tmp_path) == 0
    data = json.loads((tmp_path / "tiles" / "harbour_sw40_sh30_ow10_oh10.json").read_text())
    first = {"file_name": "a.png", "height": 30, "width": 40, "id": 0, "corner": [0, 0, 40, 30]}
    assert data["images"][0] == first | {"original_id": 7}
    corners = [[x, y, x + 40, y + 30] for y in (0, 20, 30) for x in (0, 30, 50)]
    assert [image["corner"] for image in data["images"]] == 2 * corners
    assert [image["id"] for image in data["images"]] == list(range(18))
    assert [image["original_id"] for image in data["images"]] == 9 * [7] + 9 * [9]
    originals = [("a.png", 7), ("sub/b.png", 9)]
    assert [(o["file_name"], o["id"]) for o in data["old_images"]] == originals
    assert data["categories"] == [
        {"id": 2, "name": "ship", "supercategory": "none"},
        {"id": 5, "name": "buoy", "supercategory": "none"},
    ]
    found = [(a["image_id"], a["category_id"], a["bbox"]) for a in data["annotations"]]
    assert found == [
        (0, 2, [5, 5, 8, 4]),
        # The ignore region ends at x 45: 5 px of it in the first tile, all in the second.
        (0, 2, [35, 0, 5, 5]),
        (1, 2, [5, 0, 10, 5]),
        # The buoy at x 60..70, y 40..50: in the tiles at x 30 and 50, y 20 and 30.
        (4, 5, [30, 20, 10, 10]),
        (5, 5, [10, 20, 10, 10]),
        (7, 5, [30, 10, 10, 10]),
        (8, 5, [10, 10, 10, 10]),
    ]
    assert [a["uncertain"] for a in data["annotations"]] == [False, True, True] + 4 * [False]
    assert {a["area"] for a in data["annotations"][3:]} == {100}
    # The ship of the image's size is cut in all 9 tiles.
    assert (
        "harbour: 2 images, 18 tiles of 40x30 px; 13 without objects, kept; 3 objects: 5 boxes "
        "kept, 9 pieces cut away, 1 objects in no tile; 2 pieces of ignore regions\n"
    ) in capsys.readouterr().out


def test_the_printed_export_is_one_of_a_shell(tmp_path, harbour, capsys):
    folder = tmp_path / "it's a folder"
    assert main(["harbour", *TILING, "--output", str(folder)]) == 0
    export = capsys.readouterr().out.splitlines()[-1].partition(": ")[2]
    script = f'{export}; printf %s "$EFPNBS_DATASETS"'
    shell = subprocess.run(
        ["sh", "-c", script], capture_output=True, text=True, env={"EFPNBS_DATASETS": "mine.yaml"}
    )
    assert shell.stdout == f"{folder.resolve()}/tiles.yaml:mine.yaml"


def test_boxes_find_the_tiles_of_their_image(tmp_path, harbour):
    """The second image's tiles are 9 to 17; 7 boxes of the first image come before its box."""
    path = tmp_path / "harbour.json"
    data = json.loads(path.read_text())
    data["annotations"].append(OBJECT | {"id": 5, "image_id": 9, "bbox": [5, 5, 8, 4]})
    path.write_text(json.dumps(data))
    assert run(tmp_path) == 0
    tiles = json.loads((tmp_path / "tiles" / "harbour_sw40_sh30_ow10_oh10.json").read_text())
    assert [a["image_id"] for a in tiles["annotations"]] == [0, 0, 1, 4, 5, 7, 8, 9]
    assert [a["id"] for a in tiles["annotations"]] == list(range(1, 9))


def test_tiles_are_a_data_set_again(tmp_path, harbour):
    """Registered with the file that was written, in strict mode; ignore regions keep their kind."""
    assert run(tmp_path) == 0
    records, report = use(tmp_path, "harbour_sw40_sh30_ow10_oh10")
    assert (len(records), report.kept, report.ignored, report.clipped) == (18, 7, 2, 0)
    assert records[0]["file_name"] == str(harbour / "a.png")
    assert records[1]["corner"] == [30, 0, 70, 30]
    kinds = [a.get("ignored_as") for a in records[0]["annotations"]]
    assert kinds == [None, "uncertain"]
    metadata = MetadataCatalog.get("harbour_sw40_sh30_ow10_oh10")
    assert (metadata.thing_classes, metadata.protocol) == (["ship", "buoy"], "aitod")


def test_tiles_are_not_tiled_again(tmp_path, harbour, capsys):
    assert run(tmp_path) == 0
    use(tmp_path, "harbour_sw40_sh30_ow10_oh10")
    assert main(["harbour_sw40_sh30_ow10_oh10", "--output", str(tmp_path)]) == 1
    assert "found tiles, expected whole images" in capsys.readouterr().err


def test_images_are_cut_and_lead_back_to_the_original(tmp_path, harbour):
    assert run(tmp_path, "--images") == 0
    name = "harbour_sw40_sh30_ow10_oh10_png"
    data = json.loads((tmp_path / "tiles" / f"{name}.json").read_text())
    assert not any("corner" in entry for entry in data["images"])
    assert data["images"][10]["file_name"] == "sub/b__30_0.png"
    sources = {entry["id"]: harbour / entry["file_name"] for entry in data["old_images"]}
    for entry in data["images"]:
        x1, y1, x2, y2 = entry["cut_from"]
        tile = cv2.imread(str(tmp_path / "tiles" / name / entry["file_name"]))
        whole = cv2.imread(str(sources[entry["original_id"]]))
        np.testing.assert_array_equal(tile, whole[y1:y2, x1:x2])
    records, _ = use(tmp_path, name)
    assert records[10]["file_name"].endswith(f"tiles/{name}/sub/b__30_0.png")
    assert "corner" not in records[10]


def test_a_stopped_run_is_continued(tmp_path, harbour, capsys):
    """Whole tiles are left alone; absent, truncated, wrongly sized and outdated ones are cut."""
    assert run(tmp_path, "--images") == 0
    folder = tmp_path / "tiles" / "harbour_sw40_sh30_ow10_oh10_png"
    expected = {path: path.read_bytes() for path in folder.rglob("*.png")}
    assert len(expected) == 18
    (folder / "a__0_0.png").unlink()
    whole = expected[folder / "a__30_0.png"]
    (folder / "a__30_0.png").write_bytes(whole[: len(whole) // 2])
    Image.new("RGB", (39, 30)).save(folder / "a__50_0.png")
    outdated = folder / "a__0_20.png"
    os.utime(outdated, (0, 0))
    kept = folder / "sub" / "b__0_0.png"
    stamp = time.time() + 1000
    os.utime(kept, (stamp, stamp))
    capsys.readouterr()
    assert run(tmp_path, "--images") == 0
    assert "4 image files cut" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == expected
    assert kept.stat().st_mtime == pytest.approx(stamp)


def test_jpeg_tiles_keep_the_colour_of_a_pixel(tmp_path, harbour):
    """With the usual halved chroma, one red pixel on grey would come out as a dull 2x2 blot."""
    image = np.full((60, 90, 3), 128, np.uint8)
    image[10, 11] = (0, 0, 255)
    cv2.imwrite(str(harbour / "a.png"), image)
    assert run(tmp_path, "--images", "jpg", "--drop-empty") == 0
    folder = tmp_path / "tiles" / "harbour_sw40_sh30_ow10_oh10_nonempty_jpg"
    # Tiles with objects: one of the ship, four of the buoy.
    assert len(list(folder.rglob("*.jpg"))) == 5
    tile = cv2.imread(str(folder / "a__0_0.jpg")).astype(int)
    blue, _, red = tile[10, 11]
    assert red - blue > 200


def test_drop_empty_leaves_out_tiles_without_objects(tmp_path, harbour, capsys):
    assert run(tmp_path, "--drop-empty") == 0
    records, report = use(tmp_path, "harbour_sw40_sh30_ow10_oh10_nonempty")
    # The ignore region's second piece lies in a tile without an object.
    assert (len(records), report.kept, report.ignored) == (5, 6, 1)
    assert all(record["annotations"] for record in records)
    out = capsys.readouterr().out
    assert "5 tiles" in out
    assert "13 without objects, dropped" in out
    assert "1 pieces of ignore regions" in out


def test_a_file_of_the_users_own_is_not_rewritten(tmp_path, harbour, capsys):
    (tmp_path / "tiles").mkdir()
    mine = tmp_path / "tiles" / "tiles.yaml"
    mine.write_text("# my own list\nquay: {annotations: a.json, images: b}\n")
    assert run(tmp_path) == 1
    assert "was not written by this command" in capsys.readouterr().err
    assert mine.read_text().startswith("# my own list")


def test_turned_photos_are_cut_as_they_are_loaded(tmp_path):
    """An EXIF tag turns a 60x90 file into a 90x60 image, of which tiles are cut."""
    images = tmp_path / "photos"
    images.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((90, 60, 3), np.uint8)
    pixels[80:] = 255
    Image.fromarray(pixels).save(images / "a.png", exif=exif)
    register_tiny_dataset("photos", annotations=None, images=str(images), classes=["x"])
    output = tmp_path / "out"
    assert main(["photos", *TILING, "--images", "--output", str(output)]) == 0
    # Turned clockwise, the white foot is at the left.
    tile = cv2.imread(str(output / "photos_sw40_sh30_ow10_oh10_png" / "a__0_0.png"))
    assert (tile[:, :10] == 255).all()
    assert (tile[:, 10:] == 0).all()
    data = json.loads((output / "photos_sw40_sh30_ow10_oh10_png.json").read_text())
    assert "annotations" not in data


def test_mistakes_end_in_one_line(tmp_path, harbour, capsys):
    def message(*arguments):
        assert main([*arguments, "--output", str(tmp_path / "out")]) == 1
        return capsys.readouterr().err.strip().splitlines()[-1]

    assert message("nowhere").startswith("tile: Unknown data set 'nowhere'")
    assert "overlap of 50 px for a tile height of 40" in message("harbour", "--tile", "640", "40")
    assert "0 workers" in message("harbour", "--workers", "0")
    cv2.imwrite(str(harbour / "a.png"), np.zeros((10, 10, 3), np.uint8))
    arguments = ("harbour", "--images", "--workers", "1")
    assert "an image of 10x10 px, expected 90x60 as annotated" in message(*arguments)
    (harbour / "a.png").write_bytes(b"no image")
    assert f"cannot read image {harbour / 'a.png'}" in message(*arguments)
    assert not list(tmp_path.glob("out/*.json"))


def test_images_of_one_name_are_not_mixed_up(tmp_path, harbour, capsys):
    (harbour / "b.png").write_bytes((harbour / "a.png").read_bytes())
    (harbour / "b.bmp").write_bytes((harbour / "a.png").read_bytes())
    entries = [{"id": i, "file_name": f"b.{kind}"} | SIZE for i, kind in enumerate(("png", "bmp"))]
    data = {"images": entries, "annotations": [], "categories": [{"id": 1, "name": "x"}]}
    (tmp_path / "b.json").write_text(json.dumps(data))
    register_tiny_dataset("b", annotations=str(tmp_path / "b.json"), images=str(harbour))
    assert main(["b", *TILING, "--images", "--output", str(tmp_path / "out")]) == 1
    assert "same names" in capsys.readouterr().err


def test_several_processes_cut_the_same(tmp_path, harbour):
    assert run(tmp_path, "--images") == 0
    folder = tmp_path / "tiles" / "harbour_sw40_sh30_ow10_oh10_png"
    alone = {path: path.read_bytes() for path in folder.rglob("*.png")}
    for path in alone:
        path.unlink()
    assert run(tmp_path, "--images", "--workers", "2") == 0
    assert {path: path.read_bytes() for path in folder.rglob("*.png")} == alone


def test_both_forms_train_alike(tmp_path, harbour):
    """Cropped on loading or cut before: the same pixels, boxes and ignore regions for a model."""
    assert run(tmp_path) == run(tmp_path, "--images") == 0
    cropped, _ = use(tmp_path, "harbour_sw40_sh30_ow10_oh10")
    cut, _ = read_dataset("harbour_sw40_sh30_ow10_oh10_png")
    mapper = TinyObjectMapper(is_train=True, augmentations=[], image_format="BGR")
    for one, other in zip(cropped, cut, strict=True):
        one, other = mapper(one), mapper(other)
        torch.testing.assert_close(one["image"], other["image"], rtol=0, atol=0)
        assert one["image"].shape == (3, 30, 40)
        assert torch.equal(one["instances"].gt_boxes.tensor, other["instances"].gt_boxes.tensor)
        assert torch.equal(one["ignore_boxes"].tensor, other["ignore_boxes"].tensor)


def test_the_published_tile_split_reads_our_records(tmp_path):
    """Our tiles of `tinyperson_train`, at the official place, are `tinyperson_tiles_train`."""
    home = tmp_path / "tiny_set"
    (home / "train" / "labeled_images").mkdir(parents=True)
    image = {"file_name": "labeled_images/a.jpg", "height": 720, "width": 1280, "id": 0}
    cv2.imwrite(str(home / "train" / image["file_name"]), np.zeros((720, 1280, 3), np.uint8))
    person = {"id": 0, "image_id": 0, "category_id": 2, "bbox": [600.5, 5, 20.25, 9], "iscrowd": 0}
    classes = [{"id": 1, "name": "sea_person"}, {"id": 2, "name": "earth_person"}]
    data = {"type": "instance", "images": [image], "annotations": [person], "categories": classes}
    (home / "annotations" / "corner" / "task").mkdir(parents=True)
    (home / "annotations" / "tiny_set_train.json").write_text(json.dumps(data))
    assert main(["tinyperson_train", "--output", str(tmp_path / "tiles")]) == 0
    ours = tmp_path / "tiles" / "tinyperson_train_sw640_sh512.json"
    tiled = json.loads(ours.read_text())
    assert [entry["file_name"] for entry in tiled["images"]] == 6 * ["labeled_images/a.jpg"]
    assert tiled["categories"] == [{"id": 1, "name": "person", "supercategory": "none"}]
    official = home / "annotations" / "corner" / "task" / "tiny_set_train_sw640_sh512_all.json"
    ours.rename(official)
    records, report = read_dataset("tinyperson_tiles_train", strict=True)
    assert (len(records), report.kept) == (6, 2)
    assert [record["annotations"][0]["bbox"] for record in records[:2]] == [
        [600.5, 5.0, 20.25, 9.0],
        [10.5, 5.0, 20.25, 9.0],
    ]


@needs_real_data
def test_real_tinyperson_tiles_have_the_official_structure(tmp_path, monkeypatch):
    """Every key of the two samples in the official description, and values of their types."""
    real = Path(REAL_DATA)
    monkeypatch.setenv("DETECTRON2_DATASETS", str(real / "tinyperson-mini"))
    assert main(["tinyperson_test", "--output", str(tmp_path)]) == 0
    data = json.loads((tmp_path / "tinyperson_test_sw640_sh512.json").read_text())
    samples = real / "fixtures" / "tinyperson"
    tiles = json.loads(
        (samples / "tiny_set_train_sw640_sh512_all_images_doc_sample.json").read_text()
    )
    whole = json.loads((samples / "tiny_set_train_doc_sample.json").read_text())
    annotation = whole["annotations"][0]
    # It cannot be told from the boxes.
    del annotation["in_dense_image"]
    for entry, sample in ((data["images"][0], tiles[0]), (data["annotations"][0], annotation)):
        assert {key: type(entry[key]) for key in sample} == {k: type(v) for k, v in sample.items()}
    assert whole.keys() <= data.keys()
    # 20 images of 640x640: two tiles each, y 0 and 128.
    assert {tuple(entry["corner"]) for entry in data["images"]} == {
        (0, 0, 640, 512),
        (0, 128, 640, 640),
    }
    assert len(data["images"]) == 40


@needs_real_data
def test_real_visdrone_tiles_lose_no_object(tmp_path, monkeypatch, capsys):
    """Images of 960x540 to 2000x1500: each box of a tile is a part of an original one."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(Path(REAL_DATA) / "visdrone-mini"))
    assert main(["visdrone_val", "--output", str(tmp_path / "tiles")]) == 0
    assert " 0 objects in no tile" in capsys.readouterr().out
    originals, report = read_dataset("visdrone_val")
    tiles, read_back = use(tmp_path, "visdrone_val_sw640_sh512")
    assert not read_back.dropped
    assert len({tile["file_name"] for tile in tiles}) == len(originals)
    boxes = {
        (record["file_name"], annotation["category_id"], *annotation["bbox"])
        for record in originals
        for annotation in record["annotations"]
        if not annotation["iscrowd"]
    }
    whole = Counter()
    for tile in tiles:
        x, y = tile["corner"][:2]
        for annotation in tile["annotations"]:
            left, top, width, height = annotation["bbox"]
            key = (tile["file_name"], annotation["category_id"], left + x, top + y, width, height)
            whole[key] += key in boxes
    # All but those that are larger than what two tiles share are whole in some tile.
    assert sum(count > 0 for count in whole.values()) > 0.99 * len(boxes)
    assert report.ignored > 0
    assert read_back.ignored >= report.ignored
