"""What a run writes down about itself: metrics.json and TensorBoard events, a step once only."""

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

from detectron2.engine import hooks
from detectron2.utils.events import CommonMetricPrinter, JSONWriter, TensorboardXWriter

from ..atomic import write_atomically

METRICS = "metrics.json"


class MetricsWriter(hooks.PeriodicWriter):
    """Detectron2's writers; a resumed run replaces what it repeats.

    Raises (at any of its calls):
        OSError: the folder cannot be written to.
    """

    def __init__(self, folder: str, period: int, *, resume: bool):
        """
        Args:
            folder: of the run.
            period: iterations between two entries.
            resume: replace the metrics there from the first iteration of this run on; otherwise
                they stay as they are, and new ones follow.
        """
        super().__init__([], period)
        self._folder, self._resume = folder, resume

    def before_train(self) -> None:
        start, path = self.trainer.start_iter, Path(self._folder, METRICS)
        options = {"purge_step": start} if self._resume else {}
        with self._explained():
            path.parent.mkdir(parents=True, exist_ok=True)
            if self._resume and path.is_file():
                _keep_steps_before(start, path)
            self._writers = [
                CommonMetricPrinter(self.trainer.max_iter),
                JSONWriter(str(path)),
                _EventsWriter(self._folder, **options),
            ]

    def after_step(self) -> None:
        with self._explained():
            super().after_step()

    def after_train(self) -> None:
        with self._explained():
            super().after_train()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise OSError(
                f"could not write the metrics to {self._folder}: {error.strerror or error}; free "
                "disk space, then --resume continues from the last checkpoint"
            ) from error


class _EventsWriter(TensorboardXWriter):
    """Detectron2's, with every entry on the disk at once, as those of metrics.json are.

    TensorBoard keeps up to two minutes of them in memory. A run that ends in its last evaluation
    would lose them for good: `--resume` repeats no step then.
    """

    def write(self) -> None:
        super().write()
        self._writer.flush()


def _keep_steps_before(start: int, path: Path) -> None:
    """Drop the entries from iteration `start` on, and a last line that was cut off."""
    kept = [line for line in path.read_text().splitlines() if _iteration(line) < start]
    write_atomically(path, lambda file: file.writelines(f"{line}\n".encode() for line in kept))


def _iteration(line: str) -> float:
    try:
        return json.loads(line)["iteration"]
    except ValueError:
        return float("inf")
