"""Merging of results on tiles: the official merger's, and each rule on a few boxes."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from efpnbs_d2.evaluation.columns import Detections
from efpnbs_d2.evaluation.evaluate import evaluate
from efpnbs_d2.evaluation.files.ground_truth import read_ground_truth
from efpnbs_d2.evaluation.files.results import read_results
from efpnbs_d2.evaluation.tile_merge import Tiles, merge_tiles, read_tiles
from efpnbs_d2.file_format import DataFormatError
from efpnbs_d2.protocols import PROTOCOLS

CASE = Path(__file__).parent / "cases" / "tinyperson" / "tiles_merge"
TINYPERSON = PROTOCOLS["tinyperson"]


@pytest.fixture(scope="module")
def merged():
    """The case's merged results, and its ground truth."""
    truth = read_ground_truth(str(CASE / "gt.json"), TINYPERSON)
    corners = str(CASE / "gt_corner.json")
    tile_truth = read_ground_truth(corners, TINYPERSON)
    found = read_results(str(CASE / "results_tiles.json"), tile_truth, TINYPERSON)
    return merge_tiles(TINYPERSON, read_tiles(corners, truth), truth, found), truth


def test_merged_boxes_are_the_official_ones(merged):
    found, truth = merged
    expected = read_results(str(CASE / "expected_merged_results.json"), truth, TINYPERSON)
    assert found.image.tolist() == expected.image.tolist()
    assert found.category.tolist() == expected.category.tolist()
    assert found.scores.tolist() == expected.scores.tolist()
    # The file's digits; equality to the bit was seen where it was written.
    np.testing.assert_allclose(found.boxes, expected.boxes, rtol=0, atol=1e-4)


def test_merged_results_have_the_official_numbers(merged):
    found, truth = merged
    expected = json.loads((CASE / "expected.json").read_text())
    metrics = evaluate(TINYPERSON, truth, found, progress=False).metrics
    for name, value in (expected["stats_AP"] | expected["stats_MR"]).items():
        assert metrics[name] == pytest.approx(value, abs=1e-9), name


def tiles_at(*places):
    """Tiles 0, 1, ... at (image, x, y), gathered in this order."""
    number = np.arange(len(places))
    image, *offset = np.array(places).T
    names = tuple(f"{index}.jpg" for index in number)
    return Tiles(number, names, image, np.stack(offset, axis=1).astype(np.float64), number)


def merge(columns, tiles, *rows, images=1, missing=(), protocol=TINYPERSON):
    """Merge detections given as tile, box, score and, optionally, category."""
    truth, _ = columns([], [], images=images)
    found = Detections(
        "found",
        np.array([row[0] for row in rows], dtype=np.int64),
        np.array([(*row, 1)[3] for row in rows], dtype=np.int64),
        np.array([row[1] for row in rows], dtype=np.float64).reshape(-1, 4),
        np.array([row[2] for row in rows], dtype=np.float64),
        missing,
    )
    return merge_tiles(protocol, tiles, truth, found)


def test_boxes_move_by_the_corner_of_their_tile(columns):
    found = merge(columns, tiles_at((0, 0, 0), (0, 590, 208)), (1, [1, 2, 3, 4], 0.5))
    assert found.boxes.tolist() == [[591, 210, 3, 4]]
    assert found.boxes.dtype == np.float64


def test_boxes_are_rounded_as_the_official_code_does(columns):
    """Both corners are float32: at x = 1000 these are 1/16384 apart, a width of 0.1 becomes
    1638/16384."""
    found = merge(columns, tiles_at((0, 1000, 0)), (0, [0, 0, 0.1, 0.1], 0.123456789123))
    assert found.boxes.tolist() == [[1000, 0, 1638 / 16384, float(np.float32(0.1))]]
    assert found.scores.tolist() == [0.123456789123]


@pytest.mark.parametrize(("height", "stays"), [(4, False), (3.99, True)])
def test_sides_are_a_pixel_longer_when_compared(columns, height, stays):
    """9x9 is 10x10 pixels, 9x4 is 10x5 of them: half. Without that pixel it would be 36 / 81."""
    rows = [(0, [0, 0, 9, height], 0.5), (0, [0, 0, 9, 9], 0.6)]
    found = merge(columns, tiles_at((0, 0, 0)), *rows)
    assert found.scores.tolist() == ([0.5, 0.6] if stays else [0.6])


def test_duplicates_are_sought_in_the_whole_image_whatever_the_class(columns):
    """One object, seen on two tiles as two classes, and on a tile of another image."""
    tiles = tiles_at((0, 0, 0), (0, 590, 0), (1, 0, 0))
    rows = [(0, [600, 0, 9, 9], 0.5), (1, [10, 0, 9, 9], 0.6, 2), (2, [600, 0, 9, 9], 0.1)]
    found = merge(columns, tiles, *rows, images=2)
    assert found.scores.tolist() == [0.6, 0.1]
    assert found.category.tolist() == [2, 1]
    assert found.image.tolist() == [0, 1]


def test_other_protocols_keep_classes_apart(columns):
    """Three boxes at one place, two of them of one class; and that class on another image.
    VisDrone's takes the first rows of an image, so that they have to be its best."""
    tiles = tiles_at((0, 0, 0), (1, 0, 0))
    box = [0, 0, 9, 9]
    rows = [(0, box, 0.5, 1), (0, box, 0.6, 2), (0, box, 0.7, 1), (1, box, 0.1, 1)]
    found = merge(columns, tiles, *rows, images=2, protocol=PROTOCOLS["coco"])
    assert found.scores.tolist() == [0.6, 0.7, 0.1]
    found = merge(columns, tiles, *rows, images=2, protocol=PROTOCOLS["visdrone"])
    assert found.scores.tolist() == [0.7, 0.6, 0.1]


def test_what_is_dropped_drops_nothing(columns):
    """A drops B, which alone overlaps C; with C best, C drops B, and A stays as well."""
    a, b, c = ([x, 0, 9, 9] for x in (0, 3, 6))
    for scores in ((0.9, 0.8, 0.7), (0.7, 0.8, 0.9)):
        rows = [(0, box, score) for box, score in zip((a, b, c), scores)]
        found = merge(columns, tiles_at((0, 0, 0)), *rows)
        assert found.boxes[:, 0].tolist() == [0, 6]


def test_of_equal_scores_the_one_gathered_first_stays(columns):
    """Gathered by tile: the first row comes last. The scores are equal as float32."""
    tiles = tiles_at((0, 0, 0), (0, 5, 0))
    found = merge(columns, tiles, (1, [0, 0, 9, 9], 0.5 + 1e-12), (0, [5, 0, 9, 8], 0.5))
    assert found.boxes.tolist() == [[5, 0, 9, 8]]
    found = merge(columns, tiles, (1, [0, 0, 9, 9], 0.5 + 1e-6), (0, [5, 0, 9, 8], 0.5))
    assert found.boxes.tolist() == [[5, 0, 9, 9]]


def test_greedy_suppression_box_by_box_gives_the_same(columns):
    """Crowds with many equal scores, of two images on three tiles."""
    random = np.random.default_rng(0)
    tiles = tiles_at((1, 0, 0), (1, 20, 10), (0, 0, 0))
    for _ in range(20):
        rows = [
            (tile, [*random.integers(0, 40, 2), *random.integers(0, 25, 2)], score)
            for tile, score in zip(random.integers(0, 3, 120), random.integers(1, 9, 120) / 8)
        ]
        expected = []
        for image in (1, 0):
            gathered = sorted((r for r in rows if tiles.image[r[0]] == image), key=lambda r: r[0])
            boxes = [[*(box[:2] + tiles.offset[tile]), *box[2:]] for tile, box, _ in gathered]
            stays: list[int] = []
            for n in sorted(range(len(boxes)), key=lambda n: -gathered[n][2]):
                if all(inclusive_iou(boxes[n], boxes[other]) < 0.5 for other in stays):
                    stays.append(n)
            expected += [[image, gathered[n][2], *boxes[n]] for n in sorted(stays)]
        found = merge(columns, tiles, *rows, images=2)
        assert np.column_stack([found.image, found.scores, found.boxes]).tolist() == expected


def inclusive_iou(one, other):
    """Of boxes of whole numbers, xywh."""
    low = np.maximum(one[:2], other[:2])
    high = np.minimum(np.add(one[:2], one[2:]), np.add(other[:2], other[2:]))
    common = np.maximum(high - low + 1, 0).prod()
    return common / (sum((w + 1) * (h + 1) for _, _, w, h in (one, other)) - common)


def test_no_detections_and_no_tiles(columns):
    found = merge(columns, tiles_at((0, 0, 0)), images=2)
    assert found.boxes.shape == (0, 4)
    # Image 1 has no tile; the results say nothing of tiles that are missing.
    assert found.missing == ("1",)


def test_an_image_is_missing_if_all_its_tiles_are(columns):
    tiles = tiles_at((0, 0, 0), (0, 5, 0), (1, 0, 0), (1, 5, 0))
    rows = [(0, [0, 0, 9, 9], 0.5)]
    found = merge(columns, tiles, *rows, images=2, missing=("1.jpg", "2.jpg", "3.jpg"))
    assert found.missing == ("1",)
    # Tiles that are cropped on loading have the name of their image.
    shared = replace(tiles, names=("a", "a", "b", "b"))
    assert merge(columns, shared, *rows, images=2, missing=("a", "b", "b")).missing == ("1",)


OFFICIAL = {
    "old_images": [
        {"id": 1, "file_name": "x/b.jpg", "height": 720, "width": 1280},
        {"id": 0, "file_name": "x/a.jpg", "height": 720, "width": 1280},
    ],
    "images": [
        {"id": 2, "file_name": "x/a.jpg", "corner": [0, 0, 640, 512]},
        {"id": 0, "file_name": "x/b.jpg", "corner": [590, 0, 1230, 512]},
        {"id": 1, "file_name": "x/a.jpg", "corner": [0, 208, 640, 720]},
    ],
}


def write(tmp_path, data):
    path = tmp_path / "tiles.json"
    path.write_text(json.dumps(data))
    return str(path)


def test_tiles_of_tinyperson(columns, tmp_path):
    """By ascending id; gathered are b's tile, then a's two as the file lists them."""
    truth, _ = columns([], [], images=2)
    tiles = read_tiles(write(tmp_path, OFFICIAL), truth)
    assert tiles.ids.tolist() == [0, 1, 2]
    assert tiles.names == ("x/b.jpg", "x/a.jpg", "x/a.jpg")
    assert tiles.image.tolist() == [1, 0, 0]
    assert tiles.offset.tolist() == [[590, 0], [0, 208], [0, 0]]
    assert tiles.turn.tolist() == [0, 2, 1]


@pytest.mark.parametrize("place", ["corner", "cut_from"])
def test_tiles_of_the_packages_own_tool(columns, tmp_path, place):
    """Cut tiles have their own file name; whose they are is said by the id."""
    images = [
        {"id": 0, "file_name": "x/a_0_0.png", place: [0, 0, 9, 9], "original_id": 0},
        {"id": 1, "file_name": "x/b.jpg", place: [3, 4, 9, 9], "original_id": 0},
        {"id": 2, "file_name": "x/b_0_0.png", place: [0, 0, 9, 9], "original_id": 1},
    ]
    path = write(tmp_path, OFFICIAL | {"images": images})
    tiles = read_tiles(path, columns([], [], images=2)[0])
    assert tiles.image.tolist() == [0, 0, 1]
    assert tiles.offset.tolist() == [[0, 0], [3, 4], [0, 0]]
    assert tiles.turn.tolist() == [1, 2, 0]


def test_images_of_text_files_are_found_by_their_stem(columns, tmp_path):
    truth = replace(columns([], [], images=3)[0], image_ids=("a", "b", "c"))
    assert read_tiles(write(tmp_path, OFFICIAL), truth).image.tolist() == [1, 0, 0]


def test_tiles_of_images_that_the_ground_truth_lacks_are_refused(columns, tmp_path):
    with pytest.raises(
        ValueError, match=r"images\[1\]: found a tile of 'x/b.jpg', .* not in truth;"
    ):
        read_tiles(write(tmp_path, OFFICIAL), columns([], [], images=1)[0])


def broken(section, index, **changes):
    entries = [dict(entry) for entry in OFFICIAL[section]]
    entries[index] |= changes
    return OFFICIAL | {section: entries}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([], r"json:1: found a list, expected a JSON object"),
        (
            {"images": []},
            r"json:1: found a NoneType as 'old_images', expected the list of the whole",
        ),
        (OFFICIAL | {"images": 5}, r"json:1: found a int as 'images', expected the list of tiles"),
        (OFFICIAL | {"images": [5]}, r"images\[0\]: found a int, expected a JSON object"),
        (
            broken("images", 1, id="0"),
            r"images\[1\]: found id '0' and file_name 'x/b.jpg', expected",
        ),
        (broken("images", 1, id=2), r"images\[1\]: found id 2 again, expected it once"),
        (
            broken("old_images", 1, file_name=None),
            r"old_images\[1\]: found id 0 and file_name None",
        ),
        (
            broken("old_images", 1, file_name="x/b.jpg"),
            r"old_images\[1\]: found file_name .* again",
        ),
        (broken("images", 2, file_name="c"), r"images\[2\]: found file_name 'c', expected that of"),
        (broken("images", 2, original_id=7), r"images\[2\]: found original_id 7, expected that of"),
        (broken("images", 2, original_id=[7]), r"images\[2\]: found original_id \[7\], expected"),
        (broken("images", 2, corner=[1, 2]), r"images\[2\]: found corner \[1, 2\], expected 4"),
        (broken("images", 2, corner=None), r"images\[2\]: found corner None, expected 4 numbers"),
    ],
)
def test_broken_files_are_refused(columns, tmp_path, data, message):
    with pytest.raises(DataFormatError, match=message):
        read_tiles(write(tmp_path, data), columns([], [], images=2)[0])
