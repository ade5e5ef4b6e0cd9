"""Positive anchors by level and size: boxes laid on anchors by hand, and known numbers of VisDrone.

Two levels unless said otherwise: P2 of stride 4 with squares of 8 px, P3 of stride 8 with squares
of 16 px, centred on multiples of the stride.
"""

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.matcher import Matcher
from detectron2.structures import BoxMode

from efpnbs_d2.data import read_dataset
from efpnbs_d2.data.statistics import bins_of_protocol
from efpnbs_d2.modeling.assigners import RankingAssigner, ThresholdAssigner
from efpnbs_d2.tools.anchor_statistics import anchor_statistics, assign, positive_iou

NATIVE = {"format": "BGR", "min_size_test": 0, "max_size_test": 0}
AITOD = bins_of_protocol("aitod")[0]


def detector(rule=None, strides=(4, 8), sizes=((8,), (16,)), ratios=(1.0,), outside=-1):
    """What `assign` asks of a detector, without a network."""
    names = [f"p{number + 2}" for number in range(len(strides))]
    shapes = {name: SimpleNamespace(stride=s) for name, s in zip(names, strides, strict=True)}
    return SimpleNamespace(
        device=torch.device("cpu"),
        backbone=SimpleNamespace(output_shape=lambda: shapes),
        proposal_generator=SimpleNamespace(
            in_features=names,
            anchor_generator=DefaultAnchorGenerator(
                sizes=sizes, aspect_ratios=[ratios], strides=strides, offset=0.0
            ),
            anchor_matcher=rule or Matcher([0.3, 0.7], [0, -1, 1], True),
            anchor_boundary_thresh=outside,
        ),
    )


def record(size, boxes, crowd=()):
    """A record of one image; `boxes` xywh, `crowd` the indices of ignored ones."""
    return {
        "height": size[0],
        "width": size[1],
        "annotations": [
            {
                "bbox": list(box),
                "bbox_mode": BoxMode.XYWH_ABS,
                "category_id": 0,
                "iscrowd": int(number in crowd),
            }
            for number, box in enumerate(boxes)
        ],
    }


def test_an_object_on_an_anchor_of_each_level():
    """Their neighbours, a stride away, have IoU 1/3; the two objects have 1/4 with each other."""
    found = assign(detector(), torch.tensor([[4.0, 4, 12, 12], [0, 0, 16, 16]]), (32, 32))
    assert found.positives.tolist() == [1, 1]
    assert found.owned.tolist() == [[1, 0], [0, 1]]
    assert found.best_iou.tolist() == [1, 1]


def test_anchors_that_tie_for_an_object_too_small_are_all_positive():
    """1 px in the middle of four anchors' overlap: each contains it, IoU 1/64."""
    found = assign(detector(), torch.tensor([[5.5, 5.5, 6.5, 6.5]]), (32, 32))
    assert found.positives.tolist() == [4, 0]
    assert found.owned.tolist() == [[4, 0]]
    assert found.best_iou.tolist() == [1 / 64]


def test_the_second_of_two_equal_objects_owns_nothing():
    found = assign(detector(), torch.tensor([[4.0, 4, 12, 12]] * 2), (32, 32))
    assert found.owned.tolist() == [[1, 0], [0, 0]]


def test_cells_are_those_that_the_image_covers():
    """33 x 20 px: 9 x 5 cells of stride 4 and 5 x 3 of stride 8, none of them padding."""
    seen = []

    def rule(objects, priors):
        seen.append(len(priors))
        return torch.zeros(len(priors), dtype=torch.int64), torch.zeros(len(priors))

    assign(detector(rule), torch.tensor([[4.0, 4, 12, 12]]), (33, 20))
    assert seen == [9 * 5 + 5 * 3]


def test_the_models_own_rule_decides():
    """A rule of one's own: the last two anchors, both of P3, belong to the second object."""

    def rule(objects, priors):
        labels = torch.full((len(priors),), -1, dtype=torch.int8)
        labels[-2:] = 1
        return torch.ones(len(priors), dtype=torch.int64), labels

    model = detector(rule)
    found = assign(model, torch.tensor([[4.0, 4, 12, 12], [0, 0, 16, 16]]), (32, 32))
    assert found.positives.tolist() == [0, 2]
    assert found.owned.tolist() == [[0, 0], [0, 2]]
    assert positive_iou(model) is None


def test_a_ranking_gives_each_object_its_number():
    boxes = torch.tensor([[5.5, 5.5, 6.5, 6.5], [16, 16, 24, 24]])
    found = assign(detector(RankingAssigner(topk=3)), boxes, (32, 32))
    assert found.owned.sum(axis=1).tolist() == [3, 3]


def test_a_limit_belongs_to_rules_by_iou():
    assert positive_iou(detector()) == 0.7
    nwd = ThresholdAssigner([0.3, 0.7], [0, -1, 1], similarity="nwd")
    assert positive_iou(detector(nwd)) is None


def test_anchors_that_leave_the_image_where_the_detector_leaves_them_out():
    """Four anchors contain the corner's 4 px; three of them reach over the border."""
    box = torch.tensor([[0.0, 0, 4, 4]])
    assert assign(detector(), box, (32, 32)).positives.tolist() == [4, 0]
    assert assign(detector(outside=0), box, (32, 32)).positives.tolist() == [1, 0]


def test_an_image_without_objects():
    found = assign(detector(), torch.zeros(0, 4), (32, 32))
    assert found.positives.tolist() == [0, 0]
    assert found.owned.shape == (0, 2) and found.best_iou.shape == (0,)


def test_numbers_of_three_images():
    """One object on an anchor of P2 (8 px); a region and an object of 1 px, on four; nothing."""
    records = [
        record((32, 32), [(4, 4, 8, 8)]),
        record((32, 32), [(0, 0, 16, 16), (5.5, 5.5, 1, 1)], crowd=[0]),
        record((32, 32), []),
    ]
    found = anchor_statistics(detector(), records, NATIVE, progress=False)
    p2, p3 = found.level_numbers()
    assert p2["positives_per_image"] == 5 / 3 and p2["share_of_positives"] == 1
    assert p2["images_with_none"] == 1 / 3 and p3["images_with_none"] == 1
    assert (p2["stride"], p2["anchor_sizes"]) == (4, [8])
    sizes = found.size_numbers(AITOD)
    assert [row["objects"] for row in sizes] == [2, 0, 0, 0, 2]
    assert sizes[0]["positives_per_object"] == 2.5
    assert sizes[0]["positives_per_object_by_level"] == {"p2": 2.5, "p3": 0}
    assert sizes[0]["no_iou_above_half"] == sizes[0]["no_iou_above_threshold"] == 0.5
    assert sizes[0]["no_positive"] == 0


def test_shares_that_differ():
    """Two equal objects of 8 px, and one that overlaps its best anchor by 48 / 80."""
    records = [record((32, 32), [(4, 4, 8, 8), (4, 4, 8, 8), (18, 16, 8, 8)])]
    everything = anchor_statistics(detector(), records, NATIVE, progress=False).size_numbers(AITOD)
    assert everything[-1]["no_positive"] == 1 / 3
    assert everything[-1]["no_iou_above_half"] == 0
    assert everything[-1]["no_iou_above_threshold"] == 1 / 3


def test_images_are_resized_as_in_tests_and_sizes_stay_original():
    """4 px in an image of 16 px, which is tested at 32 px, lie on an anchor of 8 px."""
    scale = {"format": "BGR", "min_size_test": 32, "max_size_test": 100}
    records = [record((16, 16), [(2, 2, 4, 4)])]
    found = anchor_statistics(detector(), records, scale, progress=False)
    assert found.best_iou.tolist() == [1]
    assert found.areas.tolist() == [16]


def test_a_wide_image_that_reaches_the_ceiling():
    """16 x 64 px stay so: the object is on an anchor of P2, not on one of P3 as at 32 x 128 px."""
    scale = {"format": "BGR", "min_size_test": 32, "max_size_test": 64}
    records = [record((16, 64), [(4, 4, 8, 8)])]
    found = anchor_statistics(detector(), records, scale, progress=False)
    assert found.owned.tolist() == [[1, 0]]


REAL_DATA = os.environ.get("EFPNBS_REAL_DATA")
# Positives an image and images with none, P2 to P6, and objects without an anchor of IoU 0.5.
KNOWN = {
    "stock": (
        (32, 64, 128, 256, 512),
        ["484.04", "38.96", "11.18", "0.90", "0.06"],
        ["6", "8", "6", "82", "98"],
        "45.2",
    ),
    "tiny": (
        (8, 16, 32, 64, 128),
        ["11.10", "25.82", "23.76", "11.34", "3.98"],
        ["30", "18", "8", "8", "4"],
        "28.7",
    ),
}


@pytest.mark.skipif(not REAL_DATA, reason="EFPNBS_REAL_DATA names no folder")
@pytest.mark.parametrize("anchors", KNOWN)
def test_known_numbers_of_visdrone(anchors, monkeypatch):
    """50 validation images at native resolution, as another program of ours counted them."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(Path(REAL_DATA, "visdrone-mini")))
    sizes, positives, none, without = KNOWN[anchors]
    model = detector(
        strides=(4, 8, 16, 32, 64), sizes=[[size] for size in sizes], ratios=(0.5, 1.0, 2.0)
    )
    records, _ = read_dataset("visdrone_val")
    found = anchor_statistics(model, records, NATIVE, progress=False)
    levels, objects = found.level_numbers(), found.size_numbers(AITOD)[-1]
    assert (len(found.positives), objects["objects"]) == (50, 3374)
    assert [f"{level['positives_per_image']:.2f}" for level in levels] == positives
    assert [f"{100 * level['images_with_none']:.0f}" for level in levels] == none
    assert f"{100 * objects['no_iou_above_half']:.1f}" == without
    assert np.array_equal(found.owned.sum(axis=0), found.positives.sum(axis=0))
