"""SIGTERM: what a scheduler sends to a job that has to leave its machine."""

import contextlib
import logging
import multiprocessing
import signal
import threading
from collections.abc import Iterator
from multiprocessing.util import Finalize
from typing import TYPE_CHECKING, Any, NoReturn

from detectron2.engine import HookBase
from detectron2.utils import comm

if TYPE_CHECKING:
    from .trainer import TinyTrainer

logger = logging.getLogger(__name__)

# What shells report for a process that SIGTERM ended.
EXIT_CODE = 128 + signal.SIGTERM


@contextlib.contextmanager
def stopping_on_sigterm(trainer: "TinyTrainer") -> Iterator[None]:
    """Let SIGTERM end `trainer` after its step, or at once where a checkpoint holds its state."""

    def request(*_: Any) -> None:
        if trainer.at_rest:
            leave()
        trainer.stop_requested = True

    if threading.current_thread() is not threading.main_thread():
        yield  # Python handles signals in the main thread alone
        return
    previous = signal.signal(signal.SIGTERM, request)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


class StopAfterStep(HookBase):
    """Leaves the run once all processes agreed to; follows the hook that saves the step."""

    def after_step(self) -> None:
        """
        Raises:
            SystemExit: with `EXIT_CODE`.
        """
        if self.trainer.stopping:
            comm.synchronize()  # a process that leaves early takes the one that saves with it
            leave()


def leave() -> NoReturn:
    """End this process, whose state a checkpoint holds, with `EXIT_CODE`."""
    logger.warning("Stopped by SIGTERM; a checkpoint holds all of it, --resume continues there")
    raise SystemExit(EXIT_CODE)


@contextlib.contextmanager
def shielding_from_sigterm() -> Iterator[None]:
    """Processes that are started meanwhile never see SIGTERM.

    Schedulers send it to every process of a job; data-loading ones have to outlive it, to let
    their trainer finish its step.
    """
    others = set(multiprocessing.active_children())
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for process in set(multiprocessing.active_children()) - others:
            # At exit, multiprocessing sends SIGTERM and waits: for ever, were they not gone.
            Finalize(None, _kill, (process,), exitpriority=0)


def _kill(process: Any) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # PyTorch's handler would raise
    process.kill()
