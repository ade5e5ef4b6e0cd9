"""VisDrone's ignored regions, against the official toolkit and a map of pixels."""

import json
from pathlib import Path

import numpy as np
import pytest

from efpnbs_d2.evaluation.columns import Detections, GroundTruth
from efpnbs_d2.evaluation.regions import covered_share, drop_ignored

CASES = sorted((Path(__file__).parent / "cases" / "visdrone").iterdir())


def as_truth(image, category, boxes, sizes):
    names = tuple(f"image{n}" for n in range(len(sizes)))
    boxes = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    unused = np.zeros(len(boxes))
    return GroundTruth(
        "annotations",
        names,
        names,
        np.array(sizes),
        {4: "car"},
        np.array(image, dtype=np.int64),
        np.array(category, dtype=np.int64),
        boxes,
        *[unused] * 6,
    )


def as_found(image, boxes):
    boxes = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    image = np.array(image, dtype=np.int64)
    return Detections("results", image, np.full(len(image), 4), boxes, np.ones(len(image)), ())


def read_rows(folder, names):
    """Image index and first eight numbers of each line."""
    lines = [
        [n, *line.split(",")[:8]]
        for n, name in enumerate(names)
        for line in (folder / f"{name}.txt").read_text().splitlines()
        if line.strip()
    ]
    return np.array(lines, dtype=np.float64).reshape(-1, 9)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_official_rows_are_dropped(case):
    expected = json.loads((case / "expected.json").read_text())["ignored_region_step"]
    sizes = json.loads((case / "image_sizes.json").read_text())
    rows = read_rows(case / "annotations", sizes)
    truth = as_truth(rows[:, 0], rows[:, 6], rows[:, 1:5], list(sizes.values()))
    rows = read_rows(case / "results", sizes)
    found = as_found(rows[:, 0], rows[:, 1:5])
    truth_kept, found_kept = drop_ignored(truth, found)
    for n, name in enumerate(sizes):
        dropped = [
            np.flatnonzero(~kept[columns.image == n]).tolist()
            for kept, columns in ((truth_kept, truth), (found_kept, found))
        ]
        assert dropped[0] == expected[name]["gt_dropped_lines"], name
        assert dropped[1] == expected[name]["det_dropped_lines"], name


def test_a_map_of_pixels_gives_the_same():
    """The toolkit's way, by the letter: 1-based pixels, both ends in, integral image at x and y.

    Its indices never reach pixel 0, so the integral image needs no row and column of zeros.
    """
    random = np.random.default_rng(1)
    height, width = 13, 17
    for _ in range(60):
        regions = random.integers(-4, 20, (random.integers(1, 5), 4))
        boxes = np.round(random.uniform(-4, 20, (30, 4)) * 2) / 2
        painted = np.zeros((height, width))
        for x, y, w, h in np.maximum(regions, 1):
            painted[y - 1 : min(height, y + h), x - 1 : min(width, x + w)] = 1
        integral = painted.cumsum(0).cumsum(1)
        expected = []
        for x, y, w, h in boxes:
            # Halves away from zero.
            x, y, w, h = (max(1, int(abs(v) + 0.5) * (1 if v > 0 else -1)) for v in (x, y, w, h))
            x2, y2 = min(width, x + w) - 1, min(height, y + h) - 1
            x1, y1 = min(width, x) - 1, min(height, y) - 1
            corners = integral[y1, x1] + integral[y2, x2] - integral[y1, x2] - integral[y2, x1]
            expected.append(corners / (w * h))
        assert covered_share(boxes, regions, height, width) == pytest.approx(expected, abs=1e-12)


def test_each_image_has_its_own_regions():
    """Image 1 has a region of columns and rows 1 to 11. Of a 10x9 box at 5, 1 (columns 6 to 15,
    rows 2 to 10) it covers six columns of ten; of one at 7, 1 four. Rows come in any order."""
    truth = as_truth(
        [2, 1, 1, 0, 1, 2],
        [4, 4, 0, 4, 4, 0],
        [
            [5, 1, 10, 9],
            [7, 1, 10, 9],
            [1, 1, 10, 10],
            [5, 1, 10, 9],
            [5, 1, 10, 9],
            [50, 50, 2, 2],
        ],
        [(0, 0), (100, 100), (100, 100)],
    )
    found = as_found([2, 1, 0, 1], [[50, 50, 2, 2], [5, 1, 10, 9], [5, 1, 10, 9], [7, 1, 10, 9]])
    truth_kept, found_kept = drop_ignored(truth, found)
    assert truth_kept.tolist() == [True, True, False, True, False, False]
    assert found_kept.tolist() == [False, False, True, True]


def test_nothing_to_judge_is_fine():
    truth = as_truth([0], [0], [[1, 1, 5, 5]], [(20, 20)])
    truth_kept, found_kept = drop_ignored(truth, as_found([], []))
    assert truth_kept.tolist() == [False]
    assert found_kept.shape == (0,)
    truth_kept, found_kept = drop_ignored(
        as_truth([], [], [], [(0, 0)]), as_found([0], [[1, 1, 2, 2]])
    )
    assert truth_kept.shape == (0,)
    assert found_kept.tolist() == [True]


@pytest.mark.parametrize("size", [(0, 0), (0, 20), (20, 0)])
def test_regions_need_the_size_of_their_image(size):
    truth = as_truth([1], [0], [[1, 1, 5, 5]], [(20, 20), size])
    with pytest.raises(
        ValueError, match=r"annotations: image1 has ignored regions.*size is unknown"
    ):
        drop_ignored(truth, as_found([0], [[1, 1, 2, 2]]))
