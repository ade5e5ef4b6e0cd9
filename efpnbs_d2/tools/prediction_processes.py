"""The processes that share the files of one prediction: as many as torchrun started, mostly one."""

import contextlib
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import TypeVar

import torch.distributed as dist
from detectron2.utils import comm

from ..engine.distributed import process_group, started_by_torchrun

__all__ = ["Processes", "join_processes"]

_T = TypeVar("_T")
# One may be at a long video while the rest have finished; who is gone is noticed at once.
_PATIENCE = timedelta(days=30)
_GLANCE = 0.05  # seconds


@contextlib.contextmanager
def join_processes() -> Iterator["Processes"]:
    """Meet the other processes that torchrun started; without torchrun there are none.

    Among several processes SIGTERM, by which launchers and schedulers stop a run, does what Ctrl-C
    does.

    Raises:
        ValueError: more processes than GPUs on this machine.
    """
    if not started_by_torchrun():
        yield Processes(None)
        return
    with process_group():
        # Of its own: the default one may be NCCL's, or lose patience.
        group = dist.new_group(backend="gloo", timeout=_PATIENCE)
        before = signal.signal(signal.SIGTERM, _interrupt)
        try:
            yield Processes(group)
        finally:
            signal.signal(signal.SIGTERM, before)


def _interrupt(*_: object) -> None:
    """Answer a signal as Ctrl-C, once: a scheduler sends it, and so does its launcher."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise KeyboardInterrupt


class Processes:
    """All processes of this run, as one of them sees them.

    Every process has to call `together`, `from_main` and `gathered` in the same order. They raise
    a `ConnectionError` when another process is gone.

    Attributes:
        size: how many.
        rank: of this one, from 0.
        is_main: whether it is the one that speaks, and writes what all have found.
    """

    def __init__(self, group: dist.ProcessGroup | None) -> None:
        self._group = group
        self.size, self.rank = comm.get_world_size(), comm.get_rank()
        self.is_main = comm.is_main_process()

    def share(self, items: Sequence[_T]) -> list[_T]:
        """This process's part of a list; nothing is in two parts, and lengths differ by one."""
        return list(items[self.rank :: self.size])

    def say(self, text: str) -> None:
        """Print a line, once for all."""
        if self.is_main:
            print(text, flush=True)

    def together(self, step: Callable[[], _T]) -> _T:
        """Do a step in every process, and go on when all have done it.

        Raises:
            ValueError, OSError: on the main process, what went wrong in it or else in another one.
            SystemExit: on the others, with status 0: it is the main process that reports and fails.
        """
        if self.size == 1:
            return step()
        mistake = None
        try:
            outcome = step()
        except (ValueError, OSError) as error:
            mistake = error
        # As text: not every exception can be pickled.
        texts = self.gathered(None if mistake is None else str(mistake))
        first = next((text for text in texts if text is not None), None)
        if first is None:
            return outcome
        if not self.is_main:
            sys.exit(0)
        raise ValueError(first) from mistake

    def from_main(self, compute: Callable[[], _T]) -> _T:
        """What the main process computes, which the others do not; errors as in `together`."""
        return self.gathered(self.together(lambda: [compute()] if self.is_main else []))[0][0]

    def gathered(self, value: _T) -> list[_T]:
        """What each process gives, by rank: waits for all of them, however long one takes.

        Ctrl-C meanwhile is theirs to answer, since they get it too; a second one is obeyed.
        """
        if self.size == 1:
            return [value]
        try:
            self._meet()
            return comm.all_gather(value, self._group)
        except RuntimeError as error:  # The group's: torch has no type for all of them.
            raise ConnectionError(
                f"process {self.rank} of this run lost another one (killed, or stopped by an error "
                "of its own, which it reports itself); the same command continues"
            ) from error

    def _meet(self) -> None:
        """Wait with short glances: no signal would get through to a collective operation."""
        arrival = dist.barrier(group=self._group, async_op=True)
        assert arrival is not None, "this process is in its own group"
        is_stopped = False
        while not arrival.is_completed():
            try:
                time.sleep(_GLANCE)
            except KeyboardInterrupt:
                if is_stopped:
                    raise
                is_stopped = True
        arrival.wait()
