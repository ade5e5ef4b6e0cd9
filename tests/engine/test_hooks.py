"""The weight average."""

import pytest
import torch
from torch import nn

from efpnbs_d2.engine.hooks import WeightAverage


def test_the_average_follows_the_weights():
    model = nn.Linear(1, 1, bias=False)
    average = WeightAverage(model, decay=0.9)
    values = [1.0, 2.0, 4.0]
    for value in values:
        nn.init.constant_(model.weight, value)
        average.after_step()
    # The first update copies: 1; then 0.9 * 1 + 0.1 * 2 = 1.1; then 0.9 * 1.1 + 0.1 * 4 = 1.39.
    assert average.averaged.module.weight.item() == pytest.approx(1.39)


def test_the_average_continues_after_a_resume():
    model = nn.Linear(1, 1, bias=False)
    first = WeightAverage(model, decay=0.9)
    first.after_step()
    second = WeightAverage(nn.Linear(1, 1, bias=False), decay=0.9)
    second.load_state_dict(first.state_dict())
    assert torch.equal(second.averaged.module.weight, first.averaged.module.weight)
    assert second.averaged.n_averaged == 1


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_that_never_averages_is_refused(decay):
    with pytest.raises(ValueError, match=r"must be in \[0, 1\)"):
        WeightAverage(nn.Linear(1, 1), decay)
