"""Runs of train_net.py in processes of their own, which can be killed."""

import json
import multiprocessing
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests/engine/train_process.py"
LAZY = ROOT / "configs/tinyscenes/efpn_bs_r18.py"
TIMEOUT = 240  # seconds; a run takes two or three

# Average and DCLoss on, a checkpoint every second step of six, no evaluation.
SHORT = [
    "model.backbone.bottom_up.stem.out_channels=8",
    "train.device=cpu",
    "train.ema.enabled=True",
    "train.ema.decay=0.5",
    "train.max_iter=6",
    "train.eval_period=0",
    "train.checkpointer.period=2",
    "train.log_period=1",
    "dataloader.train.total_batch_size=4",
    "dataloader.train.num_workers=0",
    "dataloader.test.num_workers=0",
    "dataloader.test.dataset.names=[]",
]

# What a process does that was forked from a server with everything imported.
IN_CHILD = """
import multiprocessing, os, runpy, sys
log = os.open({log!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
os.dup2(log, 1)
os.dup2(log, 2)
os.setpgrp()
multiprocessing.set_start_method("fork", force=True)  # of data loading, as usual
os.environ.update({environment!r})
sys.argv = ["train_net.py", *{arguments!r}]
runpy.run_path({script!r}, run_name="__main__")
"""


@dataclass
class Run:
    """What a run left: how its processes ended, what they printed, and its folder."""

    folder: Path
    exit_codes: list[int]

    @property
    def exit_code(self):
        assert len(self.exit_codes) == 1
        return self.exit_codes[0]

    @property
    def output(self):
        return "".join(p.read_text() for p in sorted(self.folder.parent.glob("output.*")))

    @property
    def sentence(self):
        """The last line, which must not follow a traceback."""
        assert "Traceback" not in self.output, self.output[-4000:]
        return self.output.strip().splitlines()[-1]

    @property
    def final(self):
        return torch.load(self.folder / "model_final.pth")

    @property
    def best(self):
        return torch.load(self.folder / "model_best.pth")

    @property
    def metrics(self):
        lines = (self.folder / "metrics.json").read_text().splitlines()
        return [json.loads(line) for line in lines]

    @property
    def files(self):
        return {path.name for path in self.folder.iterdir()}

    def steps(self, rank=0):
        """Iteration -> what it computed; a repeated iteration has to repeat that."""
        found = {}
        for line in (self.folder.parent / f"steps.{rank}").read_text().splitlines():
            iteration, values = json.loads(line)
            assert found.setdefault(iteration, values) == values
        return found


@pytest.fixture(scope="session")
def run_training(scenes_root, small_overrides):
    """Run train_net.py to its end: forked here, or by a launcher that starts its processes."""
    # Forked from a process that has imported everything: starting one costs nothing.
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload(
        ["efpnbs_d2.engine.cli", "efpnbs_d2.data.tinyscenes", "torch.utils.tensorboard"]
    )

    def run(folder, *overrides, config=LAZY, options=(), processes=1, launcher=None, **environment):
        folder.mkdir(exist_ok=True)
        for path in folder.glob("output.*"):
            path.unlink()
        output = "train.output_dir" if config == LAZY else "OUTPUT_DIR"
        arguments = [*options, "--config-file", str(config)]
        if config == LAZY:
            arguments += [*small_overrides, *SHORT]
        arguments += [*overrides, f"{output}={folder}/run"]
        environment = {
            "CUDA_VISIBLE_DEVICES": "",
            "DETECTRON2_DATASETS": str(scenes_root),
            "FOLDER": f"{folder}/run",
            "OMP_NUM_THREADS": "1",
            "STEPS": f"{folder}/steps",
            **environment,
        }
        if launcher:
            return _launched(folder, [*launcher, str(SCRIPT), *arguments], environment)
        return _forked(server, folder, arguments, environment, processes)

    return run


def _launched(folder, command, environment):
    with open(folder / "output.0", "w") as output:
        process = subprocess.run(
            [sys.executable, *command],
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            timeout=TIMEOUT,
        )
    return Run(folder / "run", [process.returncode])


def _forked(server, folder, arguments, environment, processes):
    port, started = _free_port(), []
    for rank in range(processes):
        code = IN_CHILD.format(
            log=f"{folder}/output.{rank}",
            environment=environment | (_torchrun(rank, processes, port) if processes > 1 else {}),
            arguments=arguments,
            script=str(SCRIPT),
        )
        started.append(server.Process(target=exec, args=(code,)))
        started[-1].start()
    for process in started:
        process.join(TIMEOUT)
    hung = [process for process in started if process.is_alive()]
    for process in hung:
        process.kill()
    assert not hung, f"the run did not end: {(folder / 'output.0').read_text()[-2000:]}"
    return Run(folder / "run", [process.exitcode for process in started])


def _torchrun(rank, processes, port):
    """The variables that torchrun sets for a process, on one machine."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(processes),
        "LOCAL_WORLD_SIZE": str(processes),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def differences():
    """Paths at which two nested states differ, down to the last bit."""

    def find(first, second, path=""):
        if type(first) is not type(second):
            return [path]
        if isinstance(first, dict):
            missing = [f"{path}/{key}" for key in first.keys() ^ second.keys()]
            both = [key for key in first if key in second]
            return missing + [d for k in both for d in find(first[k], second[k], f"{path}/{k}")]
        if isinstance(first, (list, tuple)):
            pairs = zip(first, second, strict=True)
            return [d for i, (a, b) in enumerate(pairs) for d in find(a, b, f"{path}/{i}")]
        equal = torch.equal(first, second) if torch.is_tensor(first) else first == second
        return [] if equal else [path]

    return find
