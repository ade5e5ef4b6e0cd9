"""Similarities by hand and against the released codes' own values."""

import math

import pytest
import torch
from detectron2.structures import Boxes, pairwise_iou

from efpnbs_d2.modeling.assigners import similarity as similarities
from efpnbs_d2.modeling.assigners.similarity import similarity_function

NAMES = ["iou", "nwd", "dotd", "rfd_kl", "rfd_wd"]


def box(*values, dtype=torch.float64):
    return torch.tensor(values, dtype=dtype)


def test_by_hand():
    """Centres 3 and 4 px apart, sides 4 and 8 against 8 and 4: W2^2 = 25 + (16 + 16) / 4 = 33."""
    a, b = box(8, 6, 12, 14), box(9, 12, 17, 16)
    assert similarities.squared_wasserstein(a, b) == 33
    assert similarities.nwd(a, b, constant=10) == pytest.approx(
        math.exp(-math.sqrt(33.000001) / 10)
    )
    assert similarities.dotd(a, b, constant=10) == pytest.approx(
        math.exp(-math.sqrt(25.000001) / 10)
    )
    assert similarities.rfd_wd(a, b) == pytest.approx(1 / 34.000001)
    # KL(b || a) = (8^2/4^2 + 4^2/8^2 + 4*9/16 + 4*16/64 + ln(1/4) + ln(4) - 2) / 2
    assert similarities.rfd_kl(a, b) == pytest.approx(1 / (1 + (4 + 0.25 + 2.25 + 1 - 2) / 2))
    assert similarities.iou(a, b) == pytest.approx(3 * 2 / (32 + 32 - 6))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("b", [(10, 10, 18, 18), (10, 10, 18, 19)])
def test_only_the_same_box_is_alike_in_full(name, b):
    value = similarity_function(name)(box(10, 10, 18, 18), box(*b))
    same = b == (10, 10, 18, 18)
    assert value == pytest.approx(1, abs=1e-4) if same else value < 0.98


def test_pairs_and_aligned_boxes_are_one_formula(random_boxes):
    a, b = random_boxes(5), random_boxes(5, seed=1)
    for name in NAMES:
        function = similarity_function(name)
        pairs = function(a[:, None], b)
        assert pairs.shape == (5, 5)
        assert torch.equal(pairs.diagonal(), function(a, b))


def test_iou_has_the_bits_of_detectron2(random_boxes):
    a, b = random_boxes(50, side=60.0), random_boxes(3000, side=60.0, seed=1)
    b[0, 2:] = b[0, :2]  # no area
    assert torch.equal(similarities.iou(a[:, None], b), pairwise_iou(Boxes(a), Boxes(b)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_mixed_precision_computes_in_float32(name, dtype):
    """300 px apart squared is 90,000: beyond half precision, whose largest number is 65,504."""
    a, b = box(0, 0, 8, 8, dtype=dtype), box(300, 0, 308, 8, dtype=dtype)
    function = similarity_function(name)
    for given in (b, a):
        assert function(a, given).dtype == torch.float32
        assert function(a, given) == function(a.float(), given.float())


@pytest.mark.parametrize("name", ["nwd", "dotd", "rfd_kl", "rfd_wd"])
def test_boxes_without_area_have_a_similarity(name):
    a, b = box(5, 5, 5, 5, dtype=torch.float32), box(0, 0, 400, 300, dtype=torch.float32)
    function = similarity_function(name)
    assert all(0 <= value <= 1 for value in (function(a, b), function(b, a), function(a, a)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("side", [2.0, 30.0])
def test_no_box_is_more_alike_than_its_place_allows(name, side, random_boxes):
    objects, boxes = random_boxes(60, side=side), random_boxes(400, seed=1) / 4 + 100
    function = similarity_function(name)
    bound = similarities.highest_among(function, objects, boxes)
    assert (function(objects[:, None], boxes).amax(dim=1) <= bound * 1.0001).all()
    if name != "iou":
        assert (bound < 0.3).sum() > 30  # it says something


def test_an_unknown_name_is_refused():
    with pytest.raises(ValueError, match="'giou' is unknown.*iou, nwd"):
        similarity_function("giou")


def test_a_constant_without_length_is_refused():
    with pytest.raises(ValueError, match="positive, got 0"):
        similarity_function("nwd", 0)


@pytest.mark.parametrize(
    ("dtype", "key", "tolerance"), [("float32", "f32", 1e-5), ("float64", "f64", 1e-9)]
)
def test_gold_pairs(gold, dtype, key, tolerance):
    case = gold("nwd_pairs_01")
    a, b = (torch.tensor([p[x] for p in case["pairs"]]).to(getattr(torch, dtype)) for x in "ab")
    columns = {
        "nwd_C12.8": ("nwd", 12.8),
        "nwd_C12.7": ("nwd", 12.7),
        "nwd_C24.0": ("nwd", 24.0),
        "dotd_C12.7": ("dotd", 12.7),
    }
    for column, (name, constant) in columns.items():
        expected = torch.tensor(case["expected"][column][key], dtype=a.dtype)
        found = similarity_function(name, constant)(a, b)
        assert (found - expected).abs().max() < tolerance, column


def test_gold_iou(gold):
    """The released code adds 1e-6 to small unions, Detectron2 does not."""
    case = gold("nwd_pairs_01")
    a, b = (torch.tensor([p[x] for p in case["pairs"]]).double() for x in "ab")
    expected = torch.tensor(case["expected"]["iou_distance_metric"]["f64"], dtype=torch.float64)
    assert (similarities.iou(a, b) - expected).abs().max() < 1e-5


def test_gold_matrix(gold):
    case = gold("nwd_pairs_01")["matrix"]
    pairs = gold("nwd_pairs_01")["pairs"]
    a, b = (torch.tensor([p[x] for p in pairs])[:8].double() for x in "ab")
    expected = torch.tensor(case["nwd_C12.8_f64"], dtype=torch.float64)
    assert (similarities.nwd(a[:, None], b) - expected).abs().max() < 1e-9


@pytest.mark.parametrize(
    ("dtype", "key", "tolerance"), [("float32", "f32", 1e-5), ("float64", "f64", 1e-9)]
)
@pytest.mark.parametrize(("name", "column"), [("rfd_kl", "kl"), ("rfd_wd", "wd")])
def test_gold_receptive_field_distances(gold, dtype, key, tolerance, name, column):
    case = gold("rfd_scores_01")
    objects = torch.tensor(case["gt"]).to(getattr(torch, dtype))
    priors = torch.tensor(case["priors"]).to(objects.dtype)
    expected = torch.tensor(case["expected"][column][key], dtype=objects.dtype)
    found = similarity_function(name)(objects[:, None], priors)
    assert ((found - expected) / expected).abs().max() < tolerance
