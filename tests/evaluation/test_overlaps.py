"""Overlaps of boxes, and the pairs worth looking at."""

import numpy as np
import pytest

from efpnbs_d2.evaluation import overlaps
from efpnbs_d2.evaluation.overlaps import candidate_pairs, overlap


@pytest.mark.parametrize(
    ("box", "over_union", "over_first"),
    [
        ([0, 0, 10, 10], 1, 1),
        ([5, 0, 10, 10], 50 / 150, 0.5),
        ([5, 5, 10, 10], 25 / 175, 0.25),
        ([2, 2, 5, 5], 0.25, 1),
        ([-5, -5, 20, 20], 0.25, 0.25),
        # Common edges and points are no area, and neither is an empty box.
        ([10, 0, 10, 10], 0, 0),
        ([10, 10, 10, 10], 0, 0),
        ([20, 20, 5, 5], 0, 0),
        ([5, 5, 0, 5], 0, 0),
    ],
)
def test_overlap_without_added_pixels(box, over_union, over_first):
    boxes, objects = np.array([box] * 2, float), np.array([[0, 0, 10, 10]] * 2, float)
    found = overlap(boxes, objects, np.array([False, True]))
    assert found == pytest.approx([over_union, over_first], abs=1e-15)


@pytest.mark.parametrize("chunk", [1, 4, 10**6])
@pytest.mark.parametrize("least", [0, 0.2])
def test_candidates_are_all_pairs_that_overlap_enough(monkeypatch, chunk, least):
    """Four images of three detections each; one image has no objects."""
    monkeypatch.setattr(overlaps, "_CHUNK", chunk)
    random = np.random.default_rng(0)
    boxes, objects = (random.integers(1, 9, (n, 4)).astype(float) for n in (12, 9))
    absorbs = random.random(9) < 0.5
    first, count = np.repeat([0, 3, 3, 4], 3), np.repeat([3, 0, 1, 5], 3)
    found = [
        pair
        for parts in candidate_pairs(boxes, first, count, objects, absorbs, least)
        for pair in zip(*(part.tolist() for part in parts), strict=True)
    ]
    expected = [
        (d, g, overlap(boxes[d, None], objects[g, None], absorbs[g, None])[0])
        for d in range(12)
        for g in range(first[d], first[d] + count[d])
    ]
    expected = [pair for pair in expected if pair[2] >= least and pair[2] > 0]
    assert found == expected
    assert 0 < len(expected) < count.sum()


def test_no_detections_and_no_objects():
    none = np.zeros((0, 4))
    empty, flags = np.zeros(0, int), np.zeros(0, bool)
    assert not any(len(d) for d, _, _ in candidate_pairs(none, empty, empty, none, flags, 0.5))
    zero = np.zeros(2, int)
    boxes = np.ones((2, 4))
    assert not any(len(d) for d, _, _ in candidate_pairs(boxes, zero, zero, none, flags, 0.5))
