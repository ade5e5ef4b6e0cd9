"""The runs of an ablation: where they lie, what is known of them, and how they are started."""

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from ..atomic import write_atomically
from .ablation_job import FINISHED, WEIGHTS
from .ablation_list import Ablation, Run
from .ablation_settings import Settings, differences, read_settings

__all__ = ["Job", "check_records", "missing_weights", "plan", "start"]

_RECORD, _CONSOLE, _LOCK = "specification.json", "console.log", ".lock"


@dataclass(frozen=True, eq=False)
class Job:
    """A run with one seed.

    Attributes:
        folder: of all its files.
        settings: see `ablation_settings.read_settings`.
        start: whose weights it begins with.
    """

    run: Run
    seed: int
    folder: Path
    settings: Settings
    start: "Job | None" = None

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.run.name} seed {self.seed}"

    @property
    def is_finished(self) -> bool:
        return (self.folder / FINISHED).is_file()

    @property
    def is_begun(self) -> bool:
        return (self.folder / _RECORD).is_file()

    @property
    def console(self) -> Path:
        """All that the run prints."""
        return self.folder / _CONSOLE

    @property
    def iterations(self) -> int:
        return 0 if self.run.untrained else int(self.settings["train.max_iter"])

    def last_words(self) -> str:
        """Why it stopped, in a line."""
        text = self.console.read_text(errors="replace") if self.console.is_file() else ""
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("error:")]
        return (errors or lines or ["it printed nothing"])[-1].removeprefix("error: ")


def plan(
    ablation: Ablation, output: Path, *, only: Collection[str] = (), seeds: Collection[int] = ()
) -> tuple[list[Job], list[Job]]:
    """The runs of a list, and the starts that they need: seed by seed, so that a part that is
    finished early can be compared.

    Args:
        output: folder of the ablation.
        only: names of runs; none: all.
        seeds: some of the list's; none: all.

    Returns:
        Starts and runs.

    Raises:
        ValueError: an unknown run or seed, or a config that cannot be read.
    """
    for found, known in ((only, [*ablation.runs]), (seeds, [*ablation.seeds])):
        for name in found:
            if name not in known:
                expected = ", ".join(map(str, known))
                raise ValueError(f"found {name!r}, expected of {ablation.name}: {expected}")
    chosen = [run for name, run in ablation.runs.items() if not only or name in only]
    needed = [ablation.starts[name] for name in {run.start: 0 for run in chosen} if name]
    settings = [(run, read_settings(run, ablation.starts)) for run in (*needed, *chosen)]
    starts: list[Job] = []
    runs: list[Job] = []
    for seed in [seed for seed in ablation.seeds if not seeds or seed in seeds]:
        of_seed: dict[str, Job] = {}
        for run, values in settings[: len(needed)]:
            folder = output / "starts" / run.name / f"seed{seed}"
            of_seed[run.name] = Job(run, seed, folder, values)
        starts += of_seed.values()
        for run, values in settings[len(needed) :]:
            folder = output / "runs" / run.name / f"seed{seed}"
            runs.append(Job(run, seed, folder, values, of_seed.get(run.start)))
    return starts, runs


def check_records(jobs: Collection[Job]) -> list[str]:
    """What was begun with other settings than those of the list: a sentence a run."""
    sentences = []
    for job in jobs:
        if not job.is_begun:
            continue
        changed = differences(json.loads((job.folder / _RECORD).read_text()), job.settings)
        if changed:
            shown = [f"{key} {old} -> {new}" for key, (old, new) in [*changed.items()][:4]]
            more = f" and {len(changed) - 4} more" if len(changed) > 4 else ""
            sentences.append(f"{job.name} was begun with other settings: {'; '.join(shown)}{more}")
    return sentences


def missing_weights(jobs: Collection[Job]) -> list[str]:
    """What ``train.init_checkpoint`` names and is not there: a sentence a file.

    A run that goes on from a checkpoint of its own needs it no more; addresses are not looked up.
    """
    needed: dict[str, dict[str, None]] = {}
    for job in jobs:
        path = job.settings.get("train.init_checkpoint", "None")
        goes_on = job.is_finished or (job.folder / "last_checkpoint").is_file()
        is_file = path not in ("", "None") and "://" not in path
        if is_file and not goes_on and not Path(path).is_file():
            needed.setdefault(path, {})[job.run.name] = None
    return [
        f"no weights at {path}, the train.init_checkpoint of {', '.join(names)}"
        for path, names in needed.items()
    ]


def start(job: Job, slot: int, slots: int) -> subprocess.Popen | None:
    """Start or resume a run, unless another process on any machine is at it: then None.

    Args:
        slot: number of this process among `slots` at once; they share the cores and the GPUs.

    Raises:
        OSError: its folder cannot be written.
    """
    job.folder.mkdir(parents=True, exist_ok=True)
    # The run itself holds the lock, so it ends with the run, however that or this process ends.
    with open(job.folder / _LOCK, "w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        if job.is_finished:  # by another process, a moment ago
            return None
        if not job.is_begun:
            content = json.dumps(dict(job.settings), indent=1).encode()
            write_atomically(job.folder / _RECORD, lambda file: file.write(content))
        with open(job.console, "a") as console:
            return subprocess.Popen(
                _command(job),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                env=_environment(slot, slots),
                pass_fds=[lock.fileno()],
            )


def _command(job: Job) -> list[str]:
    command = [sys.executable, "-m", "efpnbs_d2.tools.ablation_job"]
    command += ["--config-file", str(job.run.config), "--folder", str(job.folder)]
    command += ["--seed", str(job.seed)]
    if job.start:
        command += ["--start", str(job.start.folder / WEIGHTS)]
    if job.run.untrained:
        command.append("--untrained")
    return [*command, "--", *job.run.overrides]


def _environment(slot: int, slots: int) -> Mapping[str, str]:
    """Cores and GPUs shared out; what the user has set stays."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    shared = {"OMP_NUM_THREADS": str(max(1, (cores or 1) // slots)), **os.environ}
    gpus = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if gpus == [""]:
        gpus = [str(n) for n in range(torch.cuda.device_count())]
    return {**shared, "CUDA_VISIBLE_DEVICES": gpus[slot % len(gpus)]} if gpus else shared
