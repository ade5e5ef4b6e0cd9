"""VisDrone's ignored regions, against the official toolkit and a map of pixels."""

from dataclasses import replace

import numpy as np
import pytest

from efpnbs_d2.evaluation.regions import covered_share, drop_ignored


def test_the_official_rows_are_dropped(visdrone_case):
    case = visdrone_case
    truth_kept, found_kept = drop_ignored(case.truth, case.found)
    for n, image in enumerate(case.truth.image_names):
        expected = case.expected["ignored_region_step"][image]
        dropped = np.flatnonzero(~truth_kept[case.truth.image == n])
        assert dropped.tolist() == expected["gt_dropped_lines"], image
        dropped = np.flatnonzero(~found_kept[case.found.image == n])
        assert dropped.tolist() == expected["det_dropped_lines"], image


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


def test_each_image_has_its_own_regions(columns):
    """Image 1 has a region of columns and rows 1 to 11. Of a 10x9 box at 5, 1 (columns 6 to 15,
    rows 2 to 10) it covers six columns of ten; of one at 7, 1 four. Rows come in any order."""
    small, other, region = [5, 1, 10, 9], [7, 1, 10, 9], [1, 1, 10, 10]
    far = [50, 50, 2, 2]
    objects = [
        {"image": 2, "box": far},
        {"image": 1, "box": other},
        {"image": 1, "box": region, "category": 0},
        {"image": 0, "box": small},
        {"image": 1, "box": small},
        {"image": 2, "box": far, "category": 0},
    ]
    detections = [
        {"image": image, "box": box}
        for image, box in ((2, far), (1, small), (0, small), (1, other))
    ]
    truth_kept, found_kept = drop_ignored(*columns(objects, detections, images=3))
    assert truth_kept.tolist() == [False, True, False, True, False, False]
    assert found_kept.tolist() == [False, False, True, True]


def test_nothing_to_judge_is_fine(columns):
    truth_kept, found_kept = drop_ignored(*columns([{"box": [1, 1, 5, 5], "category": 0}], []))
    assert truth_kept.tolist() == [False]
    assert found_kept.shape == (0,)
    truth_kept, found_kept = drop_ignored(*columns([], [{"box": [1, 1, 5, 5]}]))
    assert truth_kept.shape == (0,)
    assert found_kept.tolist() == [True]


@pytest.mark.parametrize("size", [(0, 0), (0, 20), (20, 0)])
def test_regions_need_the_size_of_their_image(columns, size):
    region = {"box": [1, 1, 5, 5], "category": 0, "image": 1}
    truth, found = columns([region], [], images=2)
    with pytest.raises(ValueError, match="truth: 1 has ignored regions, but its size is unknown"):
        drop_ignored(replace(truth, image_sizes=np.array([(20, 20), size])), found)
    truth_kept, _ = drop_ignored(replace(truth, image_sizes=np.array([size, (20, 20)])), found)
    assert truth_kept.tolist() == [False]
