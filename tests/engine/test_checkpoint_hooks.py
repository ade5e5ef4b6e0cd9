"""What a resumed run remembers of checkpoints and evaluations."""

from types import SimpleNamespace

import pytest
from torch import nn

from efpnbs_d2.checkpoint import Checkpointer
from efpnbs_d2.engine.checkpoint_hooks import BestCheckpointer, Evaluation, PeriodicCheckpointer


def _best(folder, value, start):
    """The best value after a run that begins at `start` has measured `value`."""
    best = BestCheckpointer(1, Checkpointer(nn.Linear(1, 1), str(folder)), "bbox/AP")
    measured = {}
    best.trainer = SimpleNamespace(
        start_iter=start,
        max_iter=900,
        storage=SimpleNamespace(latest=lambda: measured, iter=start),
    )
    best.before_train()
    measured["bbox/AP"] = value, start
    best._best_checking()
    return best.best_metric


def test_the_best_value_survives_a_resume(tmp_path):
    assert _best(tmp_path, 12.5, start=0) == 12.5
    assert _best(tmp_path, 3.0, start=300) == 12.5  # worse, so it does not replace it
    assert _best(tmp_path, 20.0, start=600) == 20.0
    # A new run in the same folder starts anew, also when it is resumed before it has evaluated.
    assert _best(tmp_path, 1.0, start=0) == 1.0


def test_a_value_of_an_earlier_run_is_forgotten_at_once(tmp_path):
    _best(tmp_path, 12.5, start=0)
    best = BestCheckpointer(1, Checkpointer(nn.Linear(1, 1), str(tmp_path)), "bbox/AP")
    best.trainer = SimpleNamespace(start_iter=0, storage=SimpleNamespace(latest=dict))
    best.before_train()
    assert not (tmp_path / "model_best.json").exists()


@pytest.mark.parametrize(
    ("start", "evaluated", "made_up"),
    [(300, 200, [299]), (300, 300, []), (250, 200, []), (0, None, []), (300, None, [299])],
)
def test_only_an_evaluation_that_was_due_and_not_done_is_made_up(
    tmp_path, start, evaluated, made_up
):
    if evaluated:
        (tmp_path / "model_best.json").write_text(f'{{"evaluated": {evaluated}}}')
    done = []
    storage = SimpleNamespace(iter=start)
    hook = Evaluation(100, lambda: done.append(storage.iter), str(tmp_path))
    hook.trainer = SimpleNamespace(
        start_iter=start, max_iter=900, storage=storage, stop_requested=False
    )
    hook.before_train()
    assert done == made_up
    assert storage.iter == start


def test_a_run_that_failed_in_its_last_step_is_not_evaluated(tmp_path):
    done = []
    hook = Evaluation(0, lambda: done.append(1), str(tmp_path))
    hook.trainer = SimpleNamespace(iter=8, max_iter=9, stop_requested=False)
    hook.after_train()
    assert done == []
    hook.trainer.iter = 9
    hook.after_train()
    assert done == [1]


def test_steps_before_an_evaluation_and_before_a_stop_are_saved(tmp_path):
    (tmp_path / "model_0000001.pth").touch()
    (tmp_path / "model_0000900.pth").touch()  # of a longer run that was here before
    hook = PeriodicCheckpointer(
        Checkpointer(nn.Linear(1, 1), str(tmp_path)), period=5, kept=3, eval_period=8
    )
    hook.trainer = trainer = SimpleNamespace(start_iter=3, max_iter=100, stopping=False)
    hook.before_train()
    for trainer.iter in range(3, 12):
        trainer.stopping = trainer.iter == 11
        hook.after_step()
    # 5 and 10 by the period, 8 for the evaluation, 12 for the stop; three stay, as does the file
    # that this run did not write.
    names = sorted(path.stem for path in tmp_path.glob("*.pth"))
    assert names == ["model_0000007", "model_0000009", "model_0000011", "model_0000900"]
