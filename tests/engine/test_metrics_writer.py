"""metrics.json and the events hold a step once, whatever happened to the run."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from detectron2.utils.events import EventStorage
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from efpnbs_d2.engine.metrics_writer import MetricsWriter


def _write(folder, start, *, resume):
    """Run one step from `start` on; return the iterations of metrics.json."""
    hook = MetricsWriter(str(folder), 1, resume=resume)
    with EventStorage(start) as storage:
        hook.trainer = SimpleNamespace(start_iter=start, max_iter=100, iter=start, storage=storage)
        hook.before_train()
        storage.put_scalar("total_loss", 1.0)
        storage.put_scalar("time", 0.5)
        hook.after_step()
        hook.after_train()
    return [json.loads(line)["iteration"] for line in (folder / "metrics.json").open()]


def test_a_resumed_run_replaces_what_it_repeats(tmp_path):
    lines = [json.dumps({"iteration": i, "total_loss": 9.0}) for i in (0, 1, 2, 3)]
    (tmp_path / "metrics.json").write_text("\n".join([*lines, '{"iteration": 4, "tot']))
    assert _write(tmp_path, 2, resume=True) == [0, 1, 2]


def test_a_resume_before_the_first_checkpoint_replaces_everything(tmp_path):
    (tmp_path / "metrics.json").write_text('{"iteration": 0}\n{"iteration": 1}\n')
    assert _write(tmp_path, 0, resume=True) == [0]


def test_a_new_run_leaves_the_entries_of_an_earlier_one(tmp_path):
    (tmp_path / "metrics.json").write_text('{"iteration": 7}\n')
    assert _write(tmp_path, 0, resume=False) == [7, 0]


def _log(folder, steps, loss, *, resume, crashed):
    """A run that logs `loss` in each of `steps`, and a picture in its last one."""
    hook = MetricsWriter(str(folder), 1, resume=resume)
    with EventStorage(steps.start) as storage:
        hook.trainer = SimpleNamespace(start_iter=steps.start, max_iter=100, storage=storage)
        hook.before_train()
        for step in steps:
            storage.iter = hook.trainer.iter = step
            storage.put_scalar("total_loss", loss)
            if storage.iter == steps[-1]:
                storage.put_image("predictions/0", np.zeros((3, 4, 4), dtype=np.uint8))
            hook.after_step()
    if not crashed:
        for writer in hook._writers:
            writer.close()


def _events(folder):
    events = EventAccumulator(str(folder)).Reload()
    losses = [(event.step, event.value) for event in events.Scalars("total_loss")]
    return losses, [event.step for event in events.Images("predictions/0")]


def test_events_that_a_resumed_run_repeats_are_purged(tmp_path, monkeypatch):
    # Files of one second are read in the order of their counter's digits: 10 before 9.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    _log(tmp_path, range(0, 6), 9.0, resume=False, crashed=True)
    assert _events(tmp_path) == ([(step, 9.0) for step in range(6)], [5])
    # Resumed from the checkpoint after the third step, crashed once more, and resumed from there.
    _log(tmp_path, range(3, 5), 2.0, resume=True, crashed=True)
    assert _events(tmp_path) == ([(0, 9.0), (1, 9.0), (2, 9.0), (3, 2.0), (4, 2.0)], [4])
    _log(tmp_path, range(4, 7), 1.0, resume=True, crashed=False)
    losses = [(0, 9.0), (1, 9.0), (2, 9.0), (3, 2.0), (4, 1.0), (5, 1.0), (6, 1.0)]
    assert _events(tmp_path) == (losses, [6])


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "metrics.json").mkdir()
    with pytest.raises(OSError, match=f"could not write the metrics to {tmp_path}: Is a directory"):
        _write(tmp_path, 0, resume=False)
