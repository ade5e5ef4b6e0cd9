"""metrics.json holds a step once, whatever happened to the run."""

import json
from types import SimpleNamespace

import pytest
from detectron2.utils.events import EventStorage

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


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "metrics.json").mkdir()
    with pytest.raises(OSError, match=f"could not write the metrics to {tmp_path}: Is a directory"):
        _write(tmp_path, 0, resume=False)
