"""The command from list to page, on six synthetic scenes."""

import csv
import json
import sys
from pathlib import Path

import pytest

from efpnbs_d2.tools import ablate, ablation_job, ablation_queue, ablation_runs

LIST = """
title: Two runs
seeds: [1, 2]
overrides: {overrides}
starts:
  random: {{config: {configs}/fpn_r18.py, untrained: true}}
runs:
  fpn: {{config: {configs}/fpn_r18.py, start: random}}
  all: {{config: {configs}/efpn_bs_r18.py, start: random}}
comparisons:
  - {{baseline: fpn, runs: [all]}}
"""


class Ended:
    """A process that has ended."""

    def __init__(self, returncode):
        self.returncode = returncode

    def poll(self):
        return self.returncode


@pytest.fixture
def in_process(monkeypatch):
    """Run each job's own command line in this process: starting Python takes ten times as long."""

    def start(job, slot, slots):
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / "specification.json").write_text(json.dumps(dict(job.settings)))
        command = ablation_runs._command(job)
        assert command[:3] == [sys.executable, "-m", ablation_job.__name__]
        started.append(job.name)
        ablation_job.main(command[3:])
        return Ended(0)

    started = []
    monkeypatch.setattr(ablation_queue, "start", start)
    return started


@pytest.fixture
def write_list(tmp_path, small_overrides):
    configs = ablate.find_list("tinyscenes").parent.parent / "tinyscenes"

    def write(max_iter=2):
        short = [
            *small_overrides,
            f"train.max_iter={max_iter}",
            "train.eval_period=0",
            "train.log_period=1",
            "dataloader.train.total_batch_size=1",
            "dataloader.train.num_workers=0",
            "dataloader.test.num_workers=0",
        ]
        path = tmp_path / "two.yaml"
        path.write_text(LIST.format(overrides=json.dumps(short), configs=configs))
        return str(path)

    return write


def first_losses(folder):
    return json.loads((folder / "metrics.json").read_text().splitlines()[0])


def test_runs_begin_alike_are_compared_and_not_repeated(
    scenes, in_process, write_list, tmp_path, capsys
):
    # A folder's name may have characters that overrides use.
    output = tmp_path / "out, it's = here"
    command = [write_list(), "--output", str(output)]
    ablate.main([*command, "--dry-run"])
    assert "6 of 6 runs to do" in capsys.readouterr().out
    ablate.main(command)
    assert in_process == [
        *("random seed 1", "random seed 2"),
        *("fpn seed 1", "all seed 1", "fpn seed 2", "all seed 2"),
    ]
    rows = list(csv.DictReader((output / "ablation.csv").read_text().splitlines()))
    assert len(rows) == 4 and all(float(row["peak_memory_mib"]) > 100 for row in rows)
    assert all(0 <= float(row["tinyscenes_val/any/AP"]) <= 100 for row in rows)
    assert "4 of 4" in (output / "ablation.html").read_text()
    assert "tinyscenes_val: recall" in (output / "ablation.md").read_text()

    # Same seed: same weights and images, and CEM and FBSM begin as the identity, so the RPN's first
    # losses agree to the bit; another seed has others.
    losses = {r: first_losses(output / "runs" / r) for r in ("fpn/seed1", "all/seed1", "fpn/seed2")}
    for name in ("loss_rpn_cls", "loss_rpn_loc"):
        assert losses["fpn/seed1"][name] == losses["all/seed1"][name] != losses["fpn/seed2"][name]

    in_process.clear()
    (output / "ablation.csv").unlink()
    ablate.main([*command, "--report-only"])
    assert in_process == [] and (output / "ablation.csv").is_file()
    capsys.readouterr()

    write_list(max_iter=3)
    with pytest.raises(SystemExit) as error:
        ablate.main([*command, "--only", "all", "--seeds", "2"])
    assert "all seed 2 was begun with other settings: train.max_iter 2 -> 3" in str(error.value)
    assert "fpn" not in str(error.value)
    ablate.main([*command, "--accept-changed"])
    assert in_process == []
    assert "begun with other settings" in (output / "ablation.html").read_text()


def test_nothing_is_started_without_the_weights_to_begin_with(
    in_process, write_list, tmp_path, capsys
):
    path = Path(write_list())
    start = "untrained: true, overrides: [train.init_checkpoint=none/model.pth]"
    path.write_text(path.read_text().replace("untrained: true", start))
    command = [str(path), "--output", str(tmp_path / "out")]
    message = "no weights at none/model.pth, the train.init_checkpoint of random"
    ablate.main([*command, "--dry-run"])
    printed = capsys.readouterr().out
    assert f"warning: {message}\n" in printed and "6 of 6 runs to do" in printed
    with pytest.raises(SystemExit, match=f"error: {message}; nothing was started.*two.yaml"):
        ablate.main(command)
    assert in_process == []
    ablate.main([*command, "--report-only"])


def test_a_failed_run_is_named_and_the_exit_code_says_so(write_list, tmp_path, monkeypatch, capsys):
    def start(job, slot, slots):
        job.folder.mkdir(parents=True)
        job.console.write_text("much\nerror: out of luck\n")
        return Ended(1)

    monkeypatch.setattr(ablation_queue, "start", start)
    with pytest.raises(SystemExit) as error:
        ablate.main([write_list(), "--output", str(tmp_path), "--seeds", "1"])
    assert error.value.code == 1
    output = capsys.readouterr().out
    assert "failed: random seed 1: out of luck" in output
    assert "failed: all seed 1: its start random seed 1 failed" in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["no_such_list"], "list 'no_such_list' not found"),
        (["tinyscenes", "--only", "cme"], "found 'cme', expected of tinyscenes: "),
        (["tinyscenes", "--jobs", "0"], "--jobs: found 0"),
    ],
)
def test_a_mistake_is_one_sentence(options, message):
    with pytest.raises(SystemExit) as error:
        ablate.main(options)
    assert str(error.value).startswith(f"error: {message}")
