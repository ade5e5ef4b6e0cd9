"""Several runs of an ablation at once, each in its own process."""

import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .ablation_runs import Job, start

__all__ = ["run_all"]

_POLL, _POLL_OTHERS = 0.2, 5.0  # seconds


@dataclass
class _Active:
    process: subprocess.Popen
    slot: int
    began: float


def run_all(
    jobs: Sequence[Job], processes: int, after_each: Callable[[], object]
) -> dict[Job, str]:
    """Finish all runs, `processes` at once; one that fails does not stop the others.

    A run that another process is at, perhaps on another machine, is waited for.

    Args:
        jobs: in the order of starting.
        after_each: called whenever a run has ended.

    Returns:
        Those that failed, and why.

    Raises:
        OSError: a run's folder cannot be written.
    """
    queue = _Queue(jobs, processes)
    try:
        while queue.waiting or queue.active:
            is_busy_elsewhere = queue.start_ready()
            if queue.collect():
                after_each()
            elif is_busy_elsewhere and not queue.active:
                time.sleep(_POLL_OTHERS)
            else:
                time.sleep(_POLL)
    except BaseException:
        queue.stop()
        raise
    return queue.failures


class _Queue:
    def __init__(self, jobs: Sequence[Job], processes: int) -> None:
        self.waiting = [job for job in jobs if not job.is_finished]
        self.total, self.done = len(jobs), len(jobs) - len(self.waiting)
        self.active: dict[Job, _Active] = {}
        self.failures: dict[Job, str] = {}
        self.processes = processes
        self._elsewhere: set[Job] = set()
        self._iterations, self._seconds = 0, 0.0

    def start_ready(self) -> bool:
        """Start what can be; whether only others' runs are waited for."""
        for job in list(self.waiting):
            if job.is_finished:  # by another process
                self._end(job, "finished elsewhere")
            elif job.start in self.failures:
                self.failures[job] = f"its start {job.start.name} failed"
                self._end(job, "not run, as its start failed")
            elif len(self.active) < self.processes and (not job.start or job.start.is_finished):
                self._try(job)
        return bool(self._elsewhere)

    def _try(self, job: Job) -> None:
        taken = {active.slot for active in self.active.values()}
        slot = min(set(range(self.processes)) - taken)
        verb = "resumed" if job.is_begun else "started"
        process = start(job, slot, self.processes)
        if process is None:
            if job not in self._elsewhere:
                print(f"{job.name} is run by another process, waiting for it", flush=True)
            self._elsewhere.add(job)
            return
        self._elsewhere.discard(job)
        self.waiting.remove(job)
        self.active[job] = _Active(process, slot, time.monotonic())
        print(f"[{self.done}/{self.total}] {job.name} {verb}: {job.console}", flush=True)

    def collect(self) -> bool:
        """Take in what has ended; whether anything has."""
        ended = [job for job, active in self.active.items() if active.process.poll() is not None]
        for job in ended:
            active = self.active.pop(job)
            seconds = time.monotonic() - active.began
            code = active.process.returncode
            if code == 0 and job.is_finished:
                self._iterations += job.iterations
                self._seconds += seconds
                self._end(job, f"finished in {_duration(seconds)}{self._time_left()}")
            else:
                why = f"killed by signal {-code}" if code < 0 else job.last_words()
                self.failures[job] = why
                self._end(job, f"FAILED after {_duration(seconds)}: {why}")
        return bool(ended)

    def stop(self) -> None:
        """End all processes."""
        for active in self.active.values():
            active.process.terminate()
        for active in self.active.values():
            active.process.wait()

    def _end(self, job: Job, words: str) -> None:
        self.done += 1
        self._elsewhere.discard(job)
        if job in self.waiting:
            self.waiting.remove(job)
        print(f"[{self.done}/{self.total}] {job.name} {words}", flush=True)

    def _time_left(self) -> str:
        """By the iterations of what is left, as fast as those of what this process has run."""
        left = sum(job.iterations for job in (*self.waiting, *self.active))
        if not left or not self._iterations:
            return ""
        seconds = left * self._seconds / self._iterations / self.processes
        return f"; about {_duration(seconds)} left"


def _duration(seconds: float) -> str:
    hours, minutes = divmod(round(seconds / 60), 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min" if seconds >= 100 else f"{seconds:.0f} s"
