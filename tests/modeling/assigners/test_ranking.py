"""Rules by rank: who gets which prior, and that nobody goes without."""

import pytest
import torch

from efpnbs_d2.modeling.assigners import (
    HierarchicalAssigner,
    RankingAssigner,
    assigner,
)
from efpnbs_d2.modeling.assigners.claims import award, provide
from efpnbs_d2.modeling.assigners.similarity import nwd, rfd_kl

RULES = [
    RankingAssigner(topk=2),
    RankingAssigner(topk=3, similarity="dotd"),
    HierarchicalAssigner(),
]


def in_row(*lefts, side=8.0):
    """Squares on one line, at these places."""
    left = torch.tensor(lefts, dtype=torch.float32)
    return torch.stack([left, torch.zeros_like(left), left + side, left * 0 + side], dim=1)


def owned(rule, objects, priors):
    """For each object, the set of its priors."""
    matches, labels = rule(objects, priors)
    return [
        set(((matches == i) & (labels == 1)).nonzero()[:, 0].tolist()) for i in range(len(objects))
    ]


def test_each_object_takes_its_nearest_priors():
    """The rest is background, however near: the released code's band of 0.3 would ignore it."""
    priors, objects = in_row(0, 10, 20, 30, 40, 50), in_row(1, 42)
    rule = RankingAssigner(topk=2)
    assert owned(rule, objects, priors) == [{0, 1}, {4, 5}]
    _, labels = rule(objects, priors)
    assert labels.tolist() == [1, 1, 0, 0, 1, 1]
    # NWD of 19 px: exp(-19 / 12.8) = 0.23, of 12 px 0.39
    _, labels = RankingAssigner(topk=2, negative_below=0.3)(objects, priors)
    assert labels.tolist() == [1, 1, 0, -1, 1, 1]


def test_no_prior_is_ignored_in_a_crowd(gold):
    case = gold("rka_02_special_k3")
    _, labels = RankingAssigner(topk=3)(torch.tensor(case["gt"]), torch.tensor(case["priors"]))
    assert len(case["expected"]["final"]["ignored"]) == 361
    assert (labels == -1).sum() == 0


def test_equal_priors_are_taken_in_their_order():
    """Four priors tie for one object; the released codes would take all of them."""
    priors, objects = in_row(*[10.0] * 4), in_row(12.0)
    for rule in RULES:
        k = rule.topk if isinstance(rule.topk, int) else rule.topk[0]
        assert owned(rule, objects, priors) == [set(range(k))]


def test_a_contested_prior_goes_to_the_better_object():
    """Both want priors 1 and 2 of three; object 1 lies nearer to 2 and object 0 nearer to 1."""
    priors = in_row(0, 10, 20, 60)
    for order in ([0, 1], [1, 0]):
        objects = in_row(11, 18)[order]
        got = owned(RankingAssigner(topk=2), objects, priors)
        assert [got[i] for i in order] == [{1}, {2}]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("copies", [2, 3, 5])
def test_objects_of_the_same_box_each_get_a_prior(rule, copies):
    priors = in_row(*range(0, 100, 5))
    objects = in_row(*[42.0] * copies, 10.0)
    got = owned(rule, objects, priors)
    assert all(got), "an object has no prior"
    assert sum(map(len, got)) == len(set().union(*got))
    # All lie around the objects: the next best where the best are gone
    nearest = sorted(range(20), key=lambda i: abs(i * 5 - 42))[: max(copies, 3)]
    assert set().union(*got[:-1]) <= set(nearest)


@pytest.mark.parametrize("rule", RULES)
def test_fewer_priors_than_an_object_may_take(rule):
    assert owned(rule, in_row(0.0), in_row(3.0)) == [{0}]
    assert [len(x) for x in rule(in_row(0.0), torch.zeros(0, 4))] == [0, 0]
    got = owned(rule, in_row(0.0, 0.0, 0.0), in_row(3.0, 4.0))
    assert sorted(map(len, got)) == [0, 1, 1]  # as many as there are


def test_no_object_goes_without_where_others_can_spare_a_prior():
    """Three objects want the same two priors; the fourth, far away, has two and keeps one."""
    priors, objects = in_row(0, 2, 100, 104), in_row(1, 1, 1, 101)
    got = owned(RankingAssigner(topk=2), objects, priors)
    assert sorted(map(len, got)) == [1, 1, 1, 1]
    assert got[3] == {3} and got[2] == {2}  # what is taken is what suits the taker


@pytest.mark.parametrize("rule", RULES)
def test_an_image_without_objects_is_background(rule):
    matches, labels = rule(torch.zeros(0, 4), in_row(0.0, 10.0))
    assert labels.tolist() == [0, 0] and matches.tolist() == [0, 0]


@pytest.mark.parametrize("rule", [*RULES, RankingAssigner(topk=2, negative_below=0.3)])
def test_chunks_leave_no_trace(monkeypatch, random_boxes, rule):
    objects, priors = random_boxes(40, side=6.0), random_boxes(700, side=16.0, seed=1)
    objects[3] = objects[4]
    priors[500:540] = priors[:40]  # ties far apart
    results = []
    for pairs in (10**9, 3000, 1):
        monkeypatch.setattr(assigner, "_PAIRS_AT_ONCE", {"cpu": pairs})
        results.append(rule(objects, priors))
    for matches, labels in results[1:]:
        assert torch.equal(matches, results[0][0])
        assert torch.equal(labels, results[0][1])


def test_a_crowd_is_assigned_as_by_the_full_matrix(random_boxes):
    """Whoever is not contested has exactly its three best; everybody has one at least."""
    objects, priors = random_boxes(60, side=5.0), random_boxes(900, side=16.0, seed=1)
    best = nwd(objects[:, None], priors).topk(3, dim=1).indices
    matches, labels = RankingAssigner(topk=3)(objects, priors)
    assert set((labels == 1).nonzero()[:, 0].tolist()) == set(best.flatten().tolist())
    wanted, counts = best.unique(return_counts=True)
    assert (counts > 1).sum() > 5
    for prior in wanted[counts == 1].tolist():
        assert matches[prior] == (best == prior).any(dim=1).nonzero()[0, 0]
    assert torch.bincount(matches[labels == 1], minlength=60).min() >= 1


def test_the_second_ranking_adds_to_the_first(gold):
    """Object 6 of this case gets a fourth prior, the best of the shrunken ones."""
    case = gold("rfla_02_special")
    objects, priors = torch.tensor(case["gt"]), torch.tensor(case["priors"])
    sizes = [len(x) for x in owned(HierarchicalAssigner(), objects, priors)]
    assert sizes == [1, 2, 3, 3, 3, 3, 4] or sizes == [2, 1, 3, 3, 3, 3, 4]


def test_similar_priors_left_over_are_ignored():
    """Prior 3 is as similar as the three taken; shrunk to 0.9 its KL is small still."""
    objects, priors = in_row(10.0, side=16.0), in_row(10.0, 10.5, 9.5, 11.0, 40.0, side=16.0)
    _, labels = HierarchicalAssigner()(objects, priors)
    assert labels.tolist() == [1, 1, 1, -1, 0]
    _, labels = HierarchicalAssigner(negative_below=None)(objects, priors)
    assert labels.tolist() == [1, 1, 1, 0, 0]


@pytest.mark.parametrize("rule", RULES)
def test_priors_and_objects_stay_as_they_are(rule, random_boxes):
    """The released RFLA writes the shrunken boxes into the priors that targets are encoded with."""
    objects, priors = random_boxes(5), random_boxes(50, seed=1)
    before = objects.clone(), priors.clone()
    rule(objects, priors)
    assert torch.equal(objects, before[0]) and torch.equal(priors, before[1])


def test_half_precision_boxes_are_ranked_in_float32(random_boxes):
    objects, priors = random_boxes(10).half(), random_boxes(200, seed=1).half()
    found = HierarchicalAssigner()(objects, priors)
    for a, b in zip(found, HierarchicalAssigner()(objects.float(), priors.float()), strict=True):
        assert torch.equal(a, b)


def test_award_and_provide_by_hand():
    """Objects 0 and 1 want priors 4 and 7; 2 wants 7 and 5 and is worse at both."""
    wanted = torch.tensor([[4, 7], [4, 7], [7, 5]])
    scores = torch.tensor([[0.9, 0.5], [0.8, 0.6], [0.4, 0.3]])
    owner = award(wanted, scores, 8)
    assert owner.tolist() == [-1, -1, -1, -1, 0, 2, -1, 1]
    # Object 1 loses both: the rivals have one each, so it takes the best free one
    owner = award(wanted[:2], torch.tensor([[0.9, 0.7], [0.8, 0.6]]), 8)
    assert owner.tolist() == [-1, -1, -1, -1, 0, -1, -1, 0]
    provide(owner, wanted[:2], pytest.fail)
    assert owner.tolist() == [-1, -1, -1, -1, 1, -1, -1, 0]
    owner = torch.tensor([-1, 0, -1])
    provide(owner, torch.tensor([[1], [1]]), lambda i: torch.tensor([0.1, 0.9, 0.2]))
    assert owner.tolist() == [-1, 0, 1]


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (RankingAssigner, {"topk": 0}, "at least 1 prior an object, got 0"),
        (HierarchicalAssigner, {"topk": [3, 0]}, "got 0"),
        (HierarchicalAssigner, {"topk": [3]}, "ranks twice"),
        (HierarchicalAssigner, {"shrink": 0.0}, "shrink must be positive"),
        (HierarchicalAssigner, {"similarity": "kl"}, "rfd_kl"),
    ],
)
def test_wrong_options_are_refused(cls, options, message):
    with pytest.raises(ValueError, match=message):
        cls(**options)


def test_the_object_is_the_reference_of_kl(random_boxes):
    """KL is not symmetric: the other way round other priors would win."""
    objects, priors = random_boxes(20, side=30.0), random_boxes(300, seed=1)
    scores = rfd_kl(objects[:, None], priors)
    _, labels = HierarchicalAssigner(topk=(1, 1), shrink=1.0)(objects, priors)
    assert labels[scores.argmax(dim=1)].min() == 1
    reverse = rfd_kl(priors, objects[:, None]).argmax(dim=1)
    assert labels[reverse].min() < 1
