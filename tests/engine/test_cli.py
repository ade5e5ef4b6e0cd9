"""A user's mistakes on the command line end in one sentence, without a traceback."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig
from omegaconf import OmegaConf

from efpnbs_d2.engine import cli
from efpnbs_d2.engine.cli import load_config, main
from efpnbs_d2.engine.recipe import LazyRecipe

ROOT = Path(__file__).resolve().parents[2]
LAZY = str(ROOT / "configs/tinyscenes/efpn_bs_r18.py")
YACS = str(ROOT / "configs/yacs/tinyscenes-EFPNBS-R18.yaml")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config-file", "configs/none.py"], "config file 'configs/none.py' not found"),
        (
            ["--config-file", LAZY, "train.max_itr=5"],
            r"no key 'train.max_itr' \(did you mean 'train.max_iter'\?\)",
        ),
        (["--config-file", LAZY, "train.max_iter=abc"], "train.max_iter is 300, a number; 'abc'"),
        (["--config-file", LAZY, "train"], "override 'train' is not of the form key=value"),
        (
            ["--config-file", YACS, "SOLVER.MAX_ITR=5"],
            r"SOLVER.MAX_ITR \(did you mean 'SOLVER.MAX_ITER'\?\)",
        ),
        (
            ["--config-file", LAZY, "--eval-only", "train.init_checkpoint=none.pth"],
            "checkpoint none.pth not found",
        ),
        (
            ["--config-file", LAZY, "+model.roi_heads.box_head.spam=1"],
            "a key that nothing takes: .*'spam'",
        ),
    ],
)
def test_one_sentence_and_a_non_zero_exit(scenes, tmp_path, arguments, message):
    output = f"{'OUTPUT_DIR' if YACS in arguments else 'train.output_dir'}={tmp_path}/run"
    if "none.py" not in arguments[1]:
        arguments = [*arguments, output]
    with pytest.raises(SystemExit, match=f"error: .*{message}") as exit_info:
        main(arguments)
    assert "\n" not in str(exit_info.value)
    assert not list(tmp_path.glob("run/*.pth"))


def test_a_missing_data_folder_is_named(monkeypatch, tmp_path):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path / "nothing"))
    with pytest.raises(SystemExit, match="DETECTRON2_DATASETS"):
        main(["--config-file", LAZY, f"train.output_dir={tmp_path}/run"])


def test_an_unreadable_image_is_named(scenes, tmp_path, monkeypatch):
    import shutil

    broken = tmp_path / "datasets"
    shutil.copytree(scenes, broken)
    for path in (broken / "tinyscenes/images/train").glob("*.png"):
        path.write_bytes(path.read_bytes()[:300])
    process = subprocess.run(
        [sys.executable, str(ROOT / "train_net.py"), "--config-file", LAZY]
        + [f"train.output_dir={tmp_path}/run"],
        capture_output=True,
        text=True,
        env={"DETECTRON2_DATASETS": str(broken), "PATH": "/usr/bin:/bin"},
    )
    assert process.returncode == 1
    assert process.stderr.strip().splitlines()[-1].startswith("error: ")
    assert "cannot read image" in process.stderr and ".png" in process.stderr
    assert "Traceback" not in process.stderr + process.stdout


def test_an_unknown_key_in_the_file_itself_is_refused():
    for line, message in [
        ("train.max_itr = 5", r"train.max_itr, which nothing reads \(did you mean 'max_iter'"),
        ("train.ema.decai = 0.9", "train.ema.decai, which nothing reads"),
        ("optimizer.lrr = 5", "a key that nothing takes: .*'lrr'"),
    ]:
        cfg = LazyConfig.load(LAZY)
        key, value = line.split(" = ")
        OmegaConf.update(cfg, key, float(value), force_add=True)
        with pytest.raises(ValueError, match=message):
            LazyRecipe(cfg).build_optimizer(torch.nn.Linear(1, 1))


def test_a_full_disk_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    run = tmp_path / "run"
    with pytest.raises(SystemExit, match=f"could not write {run}.*No space left.*free disk space"):
        main(["--config-file", LAZY, f"train.output_dir={run}"])
    assert list(run.iterdir()) == []


def test_sigterm_before_the_launchers_processes_exist_ends_it(monkeypatch):
    monkeypatch.setattr(cli.multiprocessing, "active_children", list)
    with pytest.raises(SystemExit) as exit_info:
        cli._terminate_children()
    assert exit_info.value.code == 143


def test_overrides_reach_both_config_systems():
    assert load_config(LAZY, ["train.max_iter=7"]).train.max_iter == 7
    assert load_config(YACS, ["SOLVER.MAX_ITER=7"]).SOLVER.MAX_ITER == 7
    assert load_config(YACS, ["SOLVER.MAX_ITER", "7"]).SOLVER.MAX_ITER == 7


def test_the_config_of_a_run_is_one_that_can_be_run(tmp_path):
    """What a run's folder holds is a LazyConfig as YAML; `.yaml` alone would mean yacs."""
    written = load_config(LAZY, ["train.max_iter=7"])
    LazyConfig.save(written, str(tmp_path / "config.yaml"))
    read = load_config(str(tmp_path / "config.yaml"), ["train.seed=5"])
    assert (read.train.max_iter, read.train.seed) == (7, 5)
    built = [str(LazyRecipe(cfg).build_model()) for cfg in (read, written)]
    assert built[0] == built[1]
