"""The weight average and the memory of the best checkpoint."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from efpnbs_d2.checkpoint import Checkpointer
from efpnbs_d2.engine.hooks import BestCheckpointer, WeightAverage


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


def test_the_best_value_survives_a_resume(tmp_path):
    def hook(value, start):
        best = BestCheckpointer(1, Checkpointer(nn.Linear(1, 1), str(tmp_path)), "bbox/AP")
        best.trainer = SimpleNamespace(
            start_iter=start, storage=SimpleNamespace(latest=lambda: {"bbox/AP": (value, start)})
        )
        best.before_train()
        best._best_checking()
        return best.best_metric

    assert hook(12.5, start=0) == 12.5
    assert hook(3.0, start=300) == 12.5  # a resumed run's worse value does not replace it
    assert hook(20.0, start=600) == 20.0
    assert hook(1.0, start=0) == 1.0  # a new run in the same folder starts anew
