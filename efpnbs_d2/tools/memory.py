"""How much memory a program has had in use."""

import multiprocessing
import resource
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
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
    """`function(*arguments)`, in a process that had nothing else in memory before.

    Raises:
        Exception: what `function` raises.
        RuntimeError: the process ended without a result; it may have needed too much memory.
    """
    # A forked child would start with this process's memory. A pool's would stay if this one is
    # killed.
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send_result, args=(sender, function, arguments))
    process.start()
    sender.close()
    try:
        result, error = receiver.recv()
    except EOFError:
        process.join()
        raise RuntimeError(
            f"its process ended with code {process.exitcode}; -9: killed, often for lack of memory"
        ) from None
    process.join()
    if error is not None:
        raise error
    return result


def _send_result(
    sender: Connection, function: Callable[..., object], arguments: tuple[object, ...]
) -> None:
    outcome: tuple[object, Exception | None]
    try:
        outcome = function(*arguments), None
    except Exception as error:
        outcome = None, error
    sender.send(outcome)
