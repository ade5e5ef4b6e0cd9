"""Which samples an ignored region takes out of training, by hand-computable boxes."""

import pytest
import torch
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes, Instances, pairwise_ioa

from efpnbs_d2.modeling import ignore
from efpnbs_d2.modeling.assigners import as_assigner
from efpnbs_d2.modeling.ignore import (
    TargetsWithRegions,
    inside_ignored,
    match_outside_ignored,
    regions_of,
)


def boxes(*rows):
    return Boxes(torch.tensor(rows, dtype=torch.float32).reshape(-1, 4))


def target(*objects):
    instances = Instances((100, 100))
    instances.gt_boxes = boxes(*objects)
    return instances


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        ((2, 2, 8, 8), True),
        ((5, 0, 15, 10), True),  # 50 of 100 px
        ((5.1, 0, 15.1, 10), False),  # 49 of 100 px
        ((-10, 0, 10, 10), True),  # 100 of 200 px: what lies outside the image counts
        ((0, 0, 20, 20), False),  # the region is inside the box: 100 of 400 px
        ((15, 0, 35, 10), False),  # 50 of 200 px in each of two regions, none of which holds half
        ((50, 50, 60, 60), False),
        ((4, 4, 4, 8), False),  # no area
        ((4, 4, 4, 4), False),
        ((8, 8, 2, 2), False),  # inside out
    ],
)
def test_half_of_the_own_area_in_one_region_is_inside(box, expected):
    regions = boxes((0, 0, 10, 10), (12, 0, 20, 10), (30, 0, 40, 10))
    assert inside_ignored(boxes(box), regions).tolist() == [expected]


def test_nothing_is_inside_no_region():
    assert inside_ignored(boxes((0, 0, 4, 4)), boxes()).tolist() == [False]
    assert inside_ignored(boxes(), boxes((0, 0, 4, 4))).tolist() == []
    assert inside_ignored(boxes(), boxes()).tolist() == []


def test_memory_is_bounded_in_the_number_of_regions(monkeypatch):
    compared = []

    def counted(regions, samples):
        compared.append(len(regions) * len(samples))
        return pairwise_ioa(regions, samples)

    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(250, 2, generator=generator) * 80
    size = torch.rand(250, 2, generator=generator) * 25
    some = Boxes(torch.cat([corner, corner + size], dim=1))
    samples, regions = some[:200], some[200:]
    expected = (pairwise_ioa(regions, samples) >= 0.5).any(dim=0)
    assert 0 < expected.sum() < 200
    monkeypatch.setattr(ignore, "pairwise_ioa", counted)
    monkeypatch.setattr(ignore, "_COMPARED_AT_ONCE", 1399)
    assert torch.equal(inside_ignored(samples, regions), expected)
    assert compared == [1200] * 8 + [400]  # 6 regions at a time, 50 in all
    # More samples than that: one region at a time
    monkeypatch.setattr(ignore, "_COMPARED_AT_ONCE", 10)
    assert torch.equal(inside_ignored(samples, regions), expected)
    assert max(compared[9:]) == 200


def test_targets_carry_their_regions():
    first, second = target((0, 0, 4, 4)), target()
    plain = [first, second]
    targets = TargetsWithRegions(plain, [boxes((1, 2, 3, 4)), boxes()])
    assert targets == plain
    assert [len(r) for r in regions_of(targets)] == [1, 0]
    assert [tuple(r.tensor.shape) for r in regions_of(plain)] == [(0, 4), (0, 4)]


RULE = as_assigner(Matcher([0.5], [0, 1], allow_low_quality_matches=False))
REGION = boxes((0, 0, 40, 40))


def test_background_inside_a_region_is_left_out():
    given = boxes(
        (10, 10, 20, 20),  # the object
        (10, 10, 20, 28),  # IoU 100 / 180: foreground
        (10, 10, 20, 31),  # IoU 100 / 210: background, inside
        (35, 0, 45, 10),  # half inside
        (36, 0, 46, 10),  # 40 % inside
        (60, 60, 70, 70),
    )
    found = match_outside_ignored(RULE, boxes((10, 10, 20, 20)), given, REGION)
    assert [x.tolist() for x in found[1:]] == [
        [1, 1, 0, 0, 0, 0],
        [False, False, True, True, False, False],
    ]


def test_a_region_without_objects_and_images_without_regions():
    given = boxes((1, 1, 9, 9), (50, 50, 60, 60))
    assert match_outside_ignored(RULE, boxes(), given, REGION)[2].tolist() == [True, False]
    assert match_outside_ignored(RULE, boxes(), given, boxes())[2].tolist() == [False, False]
    assert match_outside_ignored(RULE, boxes(), boxes(), REGION)[2].tolist() == []
