"""What no object can want is not compared, and nobody sees a difference."""

import pytest
import torch

from efpnbs_d2.modeling.assigners import (
    HierarchicalAssigner,
    RankingAssigner,
    ReceptiveFieldAnchorGenerator,
    ThresholdAssigner,
    assigner,
    ranking,
    threshold,
)
from efpnbs_d2.modeling.assigners.similarity import highest_among, similarity_function

RPN_RULE = ([0.3, 0.7], [0, -1, 1])
RULES = [
    ThresholdAssigner(*RPN_RULE),
    ThresholdAssigner(*RPN_RULE, similarity="nwd"),
    ThresholdAssigner(*RPN_RULE, similarity="dotd", min_quality=0.3),
    RankingAssigner(topk=3),
    RankingAssigner(topk=2, negative_below=0.3),
    RankingAssigner(topk=2, similarity="iou"),
    HierarchicalAssigner(),
    HierarchicalAssigner(similarity="rfd_wd"),
]


@pytest.mark.parametrize("name", ["nwd", "rfd_kl", "rfd_wd"])
def test_a_box_of_another_size_is_not_alike_wherever_it_lies(name):
    """Objects of 200 px among priors of 8 px: the bound is what the best of them reaches."""
    function = similarity_function(name)
    objects = torch.tensor([[0.0, 0, 200, 200], [90, 90, 110, 290], [96, 96, 104, 104]])
    place = torch.cartesian_prod(torch.arange(80.0, 121, 4), torch.arange(80.0, 121, 4))
    priors = torch.cat([place - 4, place + 4], dim=1)
    found = function(objects[:, None], priors).amax(dim=1)
    bound = highest_among(function, objects, priors)
    assert (bound >= found).all()
    # The second object lies beside the priors
    torch.testing.assert_close(bound[[0, 2]], found[[0, 2]], rtol=2e-3, atol=0)


@pytest.mark.parametrize("number", range(len(RULES)))
def test_a_fraction_of_the_pairs_gives_the_same(monkeypatch, number):
    """Objects of 8 px on a canvas of 512 px, a chunk of which holds two rows of priors."""
    rule = RULES[number]
    generator = ReceptiveFieldAnchorGenerator(strides=[4, 8], depth=50)
    levels = generator([torch.zeros(1, 1, 128, 128), torch.zeros(1, 1, 64, 64)])
    priors = torch.cat([level.tensor for level in levels])
    place = torch.rand(40, 2, generator=torch.Generator().manual_seed(0)) * 500
    objects = torch.cat([place, place + 8], dim=1)
    objects[7] = objects[8]
    objects[9] += 400  # outside

    monkeypatch.setattr(assigner, "_PAIRS_AT_ONCE", {"cpu": 40 * 256 * 3})
    function, pairs = rule.similarity, []

    def counted(a, b):
        pairs.append(len(a) * len(b))
        return function(a, b)

    def assign(bound):
        pairs.clear()
        for module in (ranking, threshold):
            monkeypatch.setattr(module, "highest_among", bound)
        matches, labels = rule(objects, priors)
        return matches, labels, sum(pairs)

    monkeypatch.setattr(rule, "similarity", counted)
    if function is threshold.iou:
        monkeypatch.setattr(threshold, "iou", counted)
    matches, labels, some = assign(lambda _, a, b: highest_among(function, a, b))
    all_matches, all_labels, every = assign(lambda _, a, b: torch.ones(len(a)))
    assert (labels == 1).sum() > 20
    assert some < 0.4 * every
    assert max(pairs) <= 40 * 256 * 3  # memory does not grow with the crowd
    assert torch.equal(labels, all_labels)
    assert torch.equal(matches[labels != 0], all_matches[labels != 0])
