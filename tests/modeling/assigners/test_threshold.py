"""The threshold rule: Detectron2's matches without Detectron2's matrix."""

import pytest
import torch
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes, pairwise_iou

from efpnbs_d2.modeling.assigners import ThresholdAssigner, as_assigner, assigner
from efpnbs_d2.modeling.assigners.similarity import similarity_function

RPN_RULE = ([0.3, 0.7], [0, -1, 1])


def in_grid(stride=4, sizes=(6, 12), side=128):
    """Priors as a level lays them out: row by row, several a place."""
    places = torch.cartesian_prod(torch.arange(0, side, stride), torch.arange(0, side, stride))
    centre = places.flip(1).float()[:, None]
    half = torch.tensor(sizes)[:, None] / 2
    return torch.cat([centre - half, centre + half], dim=2).reshape(-1, 4)


@pytest.mark.parametrize("low_quality", [True, False])
@pytest.mark.parametrize("rule", [RPN_RULE, ([0.5], [0, 1]), ([0.4, 0.5], [-1, 0, 1])])
@pytest.mark.parametrize("shuffled", [False, True])
def test_the_bits_of_detectron2s_matcher(
    few_pairs_at_once, random_boxes, rule, low_quality, shuffled
):
    """Ties, objects that no prior touches and objects outside the image included."""
    objects, priors = random_boxes(40), in_grid()
    objects[1] = objects[0]
    objects[2] = torch.tensor([8.0, 8.0, 16.0, 16.0])  # many priors tie
    objects[3] += 500
    if shuffled:
        priors = priors[torch.randperm(len(priors), generator=torch.Generator().manual_seed(0))]
    for count in (40, 3, 1, 0):
        matcher = Matcher(*rule, allow_low_quality_matches=low_quality)
        given = Boxes(objects[:count]), Boxes(priors)
        expected = matcher(pairwise_iou(*given))
        for found, want in zip(as_assigner(matcher)(*given), expected, strict=True):
            assert torch.equal(found, want) and found.dtype == want.dtype


@pytest.mark.parametrize("min_quality", [None, 0.1])
@pytest.mark.parametrize("name", ["iou", "nwd", "dotd", "rfd_kl"])
def test_chunks_leave_no_trace(monkeypatch, random_boxes, name, min_quality):
    rule = ThresholdAssigner(*RPN_RULE, similarity=name, min_quality=min_quality)
    objects, priors = random_boxes(30), in_grid(stride=8)
    results = []
    for pairs in (10**9, 3000, 1):
        monkeypatch.setattr(assigner, "_PAIRS_AT_ONCE", {"cpu": pairs})
        results.append(rule(objects, priors))
    assert (results[0][1] == 1).sum() > 10
    for matches, labels in results[1:]:
        assert torch.equal(labels, results[0][1])
        assert torch.equal(matches[labels != 0], results[0][0][labels != 0])


@pytest.mark.parametrize("name", ["nwd", "dotd", "rfd_kl", "rfd_wd"])
def test_other_similarities_go_through_the_same_rule(few_pairs_at_once, random_boxes, name):
    """Matches of background may differ: the most similar object may not have been compared."""
    objects, priors = random_boxes(20), in_grid()
    objects[5] += 300  # less similar to its best prior than other objects are, and to all below 0.3
    matrix = similarity_function(name, 12.8)(objects[:, None], priors)
    matches, labels = Matcher(*RPN_RULE, allow_low_quality_matches=True)(matrix)
    found_matches, found_labels = ThresholdAssigner(*RPN_RULE, similarity=name)(objects, priors)
    assert torch.equal(found_labels, labels)
    assert torch.equal(found_matches[labels != 0], matches[labels != 0])
    best = matrix[5].argmax()
    assert labels[best] == 1 and matches[best] != 5 and matrix[:, best].max() < 0.3


def test_a_rescued_prior_belongs_to_the_object_it_rescues():
    """The middle prior is the best of both objects; 'min_quality' gives the other its own."""
    objects = torch.tensor([[0.0, 0.0, 10.0, 10.0], [4.0, 0.0, 24.0, 10.0]])
    priors = torch.tensor([[2.0, 0.0, 12.0, 10.0], [50.0, 0.0, 60.0, 10.0]])
    # IoU 80 / 120 with the first object, 80 / 220 with the second
    rule = ThresholdAssigner([0.3, 0.7], [0, -1, 1])
    matches, labels = rule(objects, priors)
    assert (matches.tolist(), labels.tolist()) == ([0, 0], [1, 0])
    # The second object alone wants the second prior now, which resembles the first object more
    objects = torch.tensor([[0.0, 0.0, 10.0, 10.0], [6.0, 0.0, 26.0, 10.0]])
    priors = torch.tensor([[0.0, 0.0, 10.0, 11.0], [2.0, 0.0, 13.0, 10.0]])
    assert ThresholdAssigner([0.3, 0.7], [0, -1, 1])(objects, priors)[0].tolist() == [0, 0]
    rescue = ThresholdAssigner([0.3, 0.7], [0, -1, 1], min_quality=0.2)
    matches, labels = rescue(objects, priors)
    assert (matches.tolist(), labels.tolist()) == ([0, 1], [1, 1])


def test_a_contested_best_prior_goes_to_the_more_similar_object():
    objects = torch.tensor([[0.0, 0.0, 10.0, 14.0], [0.0, 0.0, 10.0, 11.0], [0.0, 0.0, 10.0, 15.0]])
    prior = torch.tensor([[0.0, 0.0, 10.0, 10.0]])
    matches, labels = ThresholdAssigner([0.95], [0, 1], min_quality=0.3)(objects, prior)
    assert (matches.tolist(), labels.tolist()) == ([1], [1])


def test_low_quality_has_a_minimum():
    objects, priors = (
        torch.tensor([[0.0, 0, 4, 4]]),
        torch.tensor([[0.0, 0, 8, 8], [8.0, 0, 16, 8]]),
    )
    for minimum, expected in ((None, [1, 0]), (0.25, [1, 0]), (0.26, [0, 0])):  # IoU 16 / 64
        _, labels = ThresholdAssigner(*RPN_RULE, min_quality=minimum)(objects, priors)
        assert labels.tolist() == expected


def test_nothing_to_match_is_background():
    rule = ThresholdAssigner(*RPN_RULE, similarity="nwd")
    matches, labels = rule(torch.zeros(0, 4), in_grid())
    assert matches.sum() == 0 and labels.sum() == 0 and len(labels) == len(in_grid())
    assert [len(x) for x in rule(in_grid(), torch.zeros(0, 4))] == [0, 0]


def test_objects_that_touch_nothing_do_not_list_every_prior_each(monkeypatch):
    """Detectron2 makes all priors positive for one; nine of them keep one entry for each prior."""
    objects = torch.tensor([[900.0, 900, 910, 910]]).repeat(9, 1)
    priors = torch.tensor([[0.0, 0, 8, 8]]).repeat(50, 1)
    assigner = ThresholdAssigner([0.3, 0.7], [0, -1, 1], allow_low_quality_matches=True)
    claims = []
    best_priors = assigner._best_priors
    monkeypatch.setattr(
        assigner, "_best_priors", lambda *args: claims.append(best_priors(*args)) or claims[-1]
    )
    matches, labels = assigner(objects, priors)
    assert labels.tolist() == [1] * 50
    assert matches.tolist() == [0] * 50
    assert len(claims[0][0]) == 50


def test_as_assigner_keeps_a_rule_and_translates_a_matcher():
    rule = ThresholdAssigner(*RPN_RULE)
    assert as_assigner(rule) is rule
    matcher = Matcher([0.4, 0.6], [0, -1, 1], allow_low_quality_matches=False)
    translated = as_assigner(matcher, "nwd", constant=20.0)
    assert (translated.bounds, translated.labels) == (matcher.thresholds, matcher.labels)
    assert not translated.allow_low_quality_matches
    a, b = torch.tensor([[0.0, 0, 8, 8]]), torch.tensor([[5.0, 0, 13, 8]])
    assert torch.equal(translated.similarity(a, b), similarity_function("nwd", 20.0)(a, b))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"similarity": "ioo"}, "'ioo' is unknown"),
        ({"similarity": "nwd", "constant": -1.0}, "positive, got -1.0 px"),
        ({"thresholds": [0.7, 0.3]}, r"ascend, got \[0.7, 0.3\]"),
        ({"thresholds": [0.0, 0.3]}, "must be positive"),
        ({"thresholds": []}, "must be positive"),
        ({"labels": [0, 1]}, r"2 thresholds need a label for each of the 3 ranges.*got \[0, 1\]"),
        ({"labels": [0, 1, 2]}, r"1, 0 or -1, got \[0, 1, 2\]"),
    ],
)
def test_wrong_options_are_refused(options, message):
    given = dict(zip(("thresholds", "labels"), RPN_RULE, strict=True)) | options
    with pytest.raises(ValueError, match=message):
        ThresholdAssigner(**given)


def test_an_object_like_no_prior_does_not_take_them_all():
    """3,000 px beside anchors of 6 and 12 px: its NWD is 0 in float32 for every one."""
    priors = in_grid()
    objects = torch.tensor([[0.0, 0.0, 3000.0, 3000.0], [8.0, 8.0, 16.0, 16.0]])
    rule = ThresholdAssigner([0.3, 0.7], [0, -1, 1], similarity="nwd")
    alone = rule(Boxes(objects[1:]), Boxes(priors))[1]
    both = rule(Boxes(objects), Boxes(priors))[1]
    assert torch.equal(both, alone) and 0 < (both == 1).sum() < len(priors) / 4
