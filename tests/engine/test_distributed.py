"""Two processes train one model: gloo on the CPU, as `--num-gpus 2` does with GPUs."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[2]


def test_two_processes_train_evaluate_and_save_once(scenes, small_overrides, tmp_path):
    run = tmp_path / "run"
    small = [
        *small_overrides,
        "train.max_iter=2",
        "train.eval_period=0",
        "dataloader.train.num_workers=0",
        "dataloader.test.num_workers=0",
        f"train.output_dir={run}",
    ]
    environment = {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "",
        "OMP_NUM_THREADS": "1",
        "DETECTRON2_DATASETS": str(scenes),
    }
    process = subprocess.run(
        [sys.executable, str(ROOT / "train_net.py"), "--num-gpus", "2", "--dist-url", "auto"]
        + ["--config-file", str(ROOT / "configs/tinyscenes/efpn_bs_r18.py"), *small],
        capture_output=True,
        text=True,
        env=environment,
        timeout=240,
    )
    assert process.returncode == 0, process.stderr[-2000:]
    state = torch.load(run / "model_final.pth")
    assert state["trainer"]["iteration"] == 1
    steps = [int(v) for k, v in state["model"].items() if k.endswith("dc_loss.steps")]
    assert steps == [2]
    entries = [json.loads(line) for line in (run / "metrics.json").read_text().splitlines()]
    assert sum("bbox/AP50" in entry for entry in entries) == 1
