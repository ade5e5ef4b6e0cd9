"""Assignments of the released codes, see cases/README.md for what may differ."""

import pytest
import torch

from efpnbs_d2.modeling.assigners import HierarchicalAssigner, RankingAssigner, ThresholdAssigner

RFLA = ["rfla_01_generic", "rfla_02_special", "rfla_03_points_dense", "rfla_04_exact_ties"]
RKA = ["rka_01_stock_k2", "rka_02_special_k3"]


def assigner_of(case):
    params = case["params"]
    if case["kind"] == "rfla_hierarchical_assignment":
        return HierarchicalAssigner(
            topk=params["topk"],
            shrink=params["ratio"],
            negative_below=params["ignore_threshold"],
            similarity=f"rfd_{params['metric']}",
        )
    if case["kind"] == "nwd_rka_assignment":
        return RankingAssigner(
            topk=params["topk"],
            similarity=params["metric"],
            constant=params["constant"],
            negative_below=params["neg_thr"],
        )
    return ThresholdAssigner(
        [params["neg_thr"], params["pos_thr"]],
        [0, -1, 1],
        similarity=params["metric"],
        constant=params["constant"],
        min_quality=params["min_pos"],
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", [*RFLA, *RKA, "nwdmax_01_stock"])
def test_the_released_codes_assignment(gold, name, dtype):
    case = gold(name)
    objects, priors = (torch.tensor(case[key]).to(dtype) for key in ("gt", "priors"))
    matches, labels = assigner_of(case)(objects, priors)

    final = case["expected"]["final"]
    expected = torch.zeros(len(priors), dtype=torch.int8)
    expected_matches = torch.zeros(len(priors), dtype=torch.int64)
    positive, owners = torch.tensor(final["positive"]).T
    expected[positive], expected_matches[positive] = 1, owners
    expected[final["ignored"]] = -1
    assert (expected == 0).sum() == final["num_negative"]

    settled = torch.ones(len(priors), dtype=torch.bool)
    settled[case["precision_sensitive"]] = False
    assert torch.equal(labels[settled], expected[settled])
    for key in ("contested", "contested_stage1", "contested_stage2"):
        settled[[prior for prior, _ in case.get(key, [])]] = False
    foreground = settled & (expected == 1)
    assert foreground.sum() > 0 or name == "rfla_04_exact_ties"
    assert torch.equal(matches[foreground], expected_matches[foreground])
    if case["kind"] != "nwd_max_assignment":  # there small objects are left out by design
        assert set(matches[labels == 1].tolist()) == set(range(len(objects)))


def test_one_prior_a_point(gold):
    """The anchor-free head's targets: square priors of half the receptive field around points."""
    case = gold("rfla_fcos_targets_01")
    fields = [35, 91, 267, 427, 555]  # the released code's table
    priors, points = [], []
    for level, ((rows, columns), stride, field) in enumerate(
        zip(case["level_shapes"], case["strides"], fields, strict=True)
    ):
        x = torch.arange(columns) * stride + stride // 2
        y = torch.arange(rows) * stride + stride // 2
        centre = torch.cartesian_prod(y, x).flip(1).float()
        priors.append(torch.cat([centre - field / 4, centre + field / 4], dim=1))
        points += [(level, index) for index in range(len(centre))]
    matches, labels = HierarchicalAssigner()(torch.tensor(case["gt"]), torch.cat(priors))
    found = {points[i]: int(matches[i]) for i in (labels == 1).nonzero()[:, 0].tolist()}
    expected = {
        (point["level"], point["index"]): point["label"]  # each object has a class of its own
        for point in case["expected_single_image_batch"]
    }
    assert found.keys() == expected.keys()
    # Wanted by objects 3 and 4: there the last one gets both, here the better one
    assert {point for point in found if found[point] != expected[point]} <= {(0, 77), (0, 78)}
