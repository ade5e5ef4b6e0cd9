"""Recall against size."""

import numpy as np
import pytest

from efpnbs_d2.evaluation.analysis.outcome import Outcome
from efpnbs_d2.evaluation.analysis.size_recall import SIZE_EDGES, recall_by_size, wilson_interval
from efpnbs_d2.evaluation.matching import match
from efpnbs_d2.protocols import PROTOCOLS

COCO = PROTOCOLS["coco"]


def test_objects_are_counted_by_size(columns):
    def square(k, length, **flags):
        return {"box": [100 * k, 0, length, length], **flags}

    # A side of 8 is in the bin from 8; the area of the file decides, neither w * h nor its size;
    # crowds are out.
    objects = [square(0, 7.9), square(1, 8), square(2, 10), square(3, 10, area=16**2, side=99)]
    objects += [square(4, 400), square(5, 8, crowd=True)]
    hits = [{"box": objects[k]["box"], "score": k / 10} for k in (0, 2, 3)]
    truth, found = columns(objects, hits)
    outcome = Outcome.of(COCO, truth, found, match(COCO, truth, found), 0)
    result = recall_by_size(truth, outcome, found.scores >= 0.3)
    assert result.iou == 0.5
    assert result.edges.tolist() == list(SIZE_EDGES)
    bins = {(6, 8): (1, 1, 0), (8, 11): (2, 1, 0), (16, 23): (1, 1, 1), (256, np.inf): (1, 0, 0)}
    expected = [bins.get(edges, (0, 0, 0)) for edges in zip(SIZE_EDGES, SIZE_EDGES[1:])]
    columns_of_result = (result.objects, result.found, result.found_confident)
    assert np.stack(columns_of_result, axis=1).tolist() == [list(e) for e in expected]
    middle = SIZE_EDGES.index(8)
    assert result.recall[middle] == 0.5
    assert result.recall_confident[middle] == 0
    assert np.isnan(result.recall[0])
    assert result.interval[middle] == pytest.approx(wilson_interval(*np.array([[1], [2]]))[0])
    assert result.interval_confident[middle] == pytest.approx(
        wilson_interval(*np.array([[0], [2]]))[0]
    )


def test_the_edges_are_two_bins_per_octave():
    finite = np.array(SIZE_EDGES[1:-1])
    assert np.diff(np.log2(finite)) == pytest.approx(0.5, abs=0.1)


def test_wilson_interval():
    # z = 1.96: 0 of n reaches up to z2 / (n + z2), n of n down to n / (n + z2); 8 of 10 is the
    # usual example.
    found, objects = np.array([0, 10, 8, 0]), np.array([10, 10, 10, 0])
    z2 = 1.959964**2
    expected = [[0, z2 / (10 + z2)], [10 / (10 + z2), 1], [0.490162, 0.943318], [np.nan] * 2]
    interval = wilson_interval(found, objects)
    assert interval == pytest.approx(np.array(expected), abs=1e-6, nan_ok=True)
    assert interval[:3].min() >= 0
    assert interval[:3].max() <= 1
