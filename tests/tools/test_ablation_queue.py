"""Running, resuming and sharing runs: a stub of a few lines takes the place of training."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from efpnbs_d2.tools import ablation_queue, ablation_runs
from efpnbs_d2.tools.ablation_list import Run
from efpnbs_d2.tools.ablation_queue import run_all
from efpnbs_d2.tools.ablation_runs import Job, check_records, missing_weights

# Arguments: the run's folder, and what to do. Notes when it began and ended in `times`.
STUB = """
import os, pathlib, sys, time
folder, action = pathlib.Path(sys.argv[1]), sys.argv[2]
began = time.monotonic()
print("threads", os.environ["OMP_NUM_THREADS"], "gpu", os.environ.get("CUDA_VISIBLE_DEVICES"))
if action == "fail":
    sys.exit("error: no luck")
if action == "die once" and not (folder / "half").exists():
    (folder / "half").touch()
    os.kill(os.getpid(), 9)
time.sleep(0.2)
(folder / "times").write_text(f"{began} {time.monotonic()}")
(folder / "finished.json").write_text("{}")
"""


@pytest.fixture(autouse=True)
def stub(monkeypatch):
    monkeypatch.setattr(ablation_queue, "_POLL", 0.01)
    monkeypatch.setattr(ablation_queue, "_POLL_OTHERS", 0.01)
    monkeypatch.setattr(
        ablation_runs,
        "_command",
        lambda job: [sys.executable, "-S", "-c", STUB, str(job.folder), *job.run.overrides],
    )
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,7")


@pytest.fixture
def job(tmp_path):
    def job(name, action="train", start=None, **settings):
        run = Run(name, Path("fpn.py"), (action,))
        return Job(run, 1, tmp_path / name, {"train.max_iter": "5", **settings}, start)

    return job


def times(job):
    return [float(part) for part in (job.folder / "times").read_text().split()]


def test_runs_follow_their_start_and_share_the_machine(job, capsys):
    first = job("first")
    runs = [job(name, start=first) for name in "abc"]
    calls = []
    assert run_all([*runs, first], 2, lambda: calls.append(1)) == {}
    spans = [times(run) for run in runs]
    assert all(times(first)[1] < began for began, _ in spans)
    assert max(sum(b <= at < e for b, e in spans) for at, _ in spans) == 2
    assert len(calls) >= 2
    cores = max(1, len(os.sched_getaffinity(0)) // 2)
    words = {run.console.read_text() for run in runs}
    assert words == {f"threads {cores} gpu 4\n", f"threads {cores} gpu 7\n"}
    assert "[4/4]" in capsys.readouterr().out


def test_weights_to_begin_with_are_looked_for(job, tmp_path):
    def begins(name, weights):
        return job(name, **{"train.init_checkpoint": str(weights)})

    (tmp_path / "there.pth").touch()
    there = begins("there", tmp_path / "there.pth")
    others = [begins("zoo", "detectron2://R-50.pkl"), begins("random", ""), begins("null", None)]
    assert missing_weights([there, *others, job("of a start")]) == []
    # Each file once, with all that begin with it, whatever the seed.
    a, b, c = begins("a", "none.pth"), begins("b", "none.pth"), begins("c", "other.pth")
    assert missing_weights([a, a, b, c]) == [
        "no weights at none.pth, the train.init_checkpoint of a, b",
        "no weights at other.pth, the train.init_checkpoint of c",
    ]
    # What is finished, or goes on from its own checkpoint, needs them no more.
    for run, file in ((a, "finished.json"), (b, "last_checkpoint")):
        run.folder.mkdir()
        (run.folder / file).touch()
    assert [s[-1] for s in missing_weights([a, b, c])] == ["c"]


def test_a_finished_run_is_not_run_again(job):
    run = job("a")
    run_all([run], 1, int)
    before = times(run)
    assert run_all([run, job("b")], 1, int) == {}
    assert times(run) == before


def test_a_failed_run_does_not_stop_the_others(job):
    bad = job("bad", "fail")
    follower, good = job("follower", start=bad), job("good")
    failures = run_all([bad, follower, good], 1, int)
    assert failures == {bad: "no luck", follower: "its start bad seed 1 failed"}
    assert good.is_finished and not follower.is_begun


def test_a_killed_run_goes_on(job, capsys):
    run = job("a", "die once")
    assert run_all([run], 1, int) == {run: "killed by signal 9"}
    assert run.is_begun and not run.is_finished
    assert run_all([run], 1, int) == {}
    assert "a seed 1 resumed" in capsys.readouterr().out


def test_a_run_of_another_process_is_waited_for(job, capsys):
    other, own = job("other"), job("own")
    follower = job("follower", start=other)
    other.folder.mkdir()
    with open(other.folder / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = threading.Thread(target=run_all, args=([other, follower, own], 1, int))
        waiting.start()
        while not own.is_finished:
            time.sleep(0.01)
        assert waiting.is_alive() and not other.is_begun
        # It finishes there: it must not be run again here.
        (other.folder / "finished.json").write_text("{}")
    waiting.join(timeout=20)
    assert not waiting.is_alive()
    assert follower.is_finished and not (other.folder / "times").exists()
    output = capsys.readouterr().out
    assert output.count("other seed 1 is run by another process") == 1
    assert "other seed 1 finished elsewhere" in output


def test_the_lock_is_the_run_s_own_and_ends_with_it(job):
    run = job("a")
    process = ablation_runs.start(run, 0, 1)
    assert ablation_runs.start(run, 0, 1) is None  # though this process holds no file of it
    process.wait()
    assert run.is_finished
    assert ablation_runs.start(run, 0, 1) is None  # finished, while it was looked for
    (run.folder / "finished.json").unlink()
    again = ablation_runs.start(run, 0, 1)
    again.send_signal(signal.SIGKILL)
    again.wait()
    ablation_runs.start(run, 0, 1).wait()
    assert run.is_finished


def test_stopping_the_command_ends_its_runs(job, monkeypatch):
    started = []
    real = subprocess.Popen

    def popen(*args, **options):
        started.append(real(*args, **options))
        return started[-1]

    monkeypatch.setattr(subprocess, "Popen", popen)

    def stop():
        raise KeyboardInterrupt

    runs = [job("quick", "fail"), job("slow")]
    with pytest.raises(KeyboardInterrupt):
        run_all(runs, 2, stop)
    assert all(process.poll() is not None for process in started)
    assert len(started) == 2


def test_other_settings_are_noticed(job):
    run = job("a")
    run_all([run], 1, int)
    assert json.loads((run.folder / "specification.json").read_text()) == run.settings
    assert check_records([run, job("never_begun")]) == []
    changed = Job(run.run, 1, run.folder, {**run.settings, "train.max_iter": "6"})
    (sentence,) = check_records([changed])
    assert sentence == "a seed 1 was begun with other settings: train.max_iter 5 -> 6"


def test_what_the_user_sets_stays(job, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    run = job("a")
    run_all([run], 1, int)
    assert run.console.read_text() == "threads 3 gpu 4\n"
