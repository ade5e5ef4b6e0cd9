"""How much memory a program has had in use."""

import multiprocessing
import resource
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

import torch

__all__ = ["in_fresh_process", "peak_memory", "peak_memory_on"]

Result = TypeVar("Result")


def peak_memory() -> int:
    """Bytes at the peak; of this program only where the system tells, else of its parent too."""
    status = Path("/proc/self/status")
    if status.exists():
        fields = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def peak_memory_on(device: str) -> int:
    """The most memory in use so far, in bytes: this program's, or what tensors held on a GPU."""
    return peak_memory() if device == "cpu" else torch.cuda.max_memory_allocated(device)


def in_fresh_process(function: Callable[..., Result], *arguments: object) -> Result:
    """`function(*arguments)`, in a process that had nothing else in memory before."""
    # A forked child would start with this process's memory.
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()
