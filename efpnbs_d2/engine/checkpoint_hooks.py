"""When a run is saved and evaluated, so that `--resume` repeats neither too little nor too much."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detectron2.engine import hooks
from detectron2.utils import comm

from ..atomic import write_atomically
from ..checkpoint import Checkpointer
from .preemption import leave

# Beside `model_best`: its metric, and which evaluation was the last that came to its end.
EVALUATION_RECORD = "model_best.json"


class PeriodicCheckpointer(hooks.PeriodicCheckpointer):
    """Detectron2's, saving also the steps before an evaluation and before an early stop."""

    def __init__(self, checkpointer: Checkpointer, period: int, *, kept: int, eval_period: int):
        """
        Args:
            checkpointer: saves model, optimizer, schedule and the hooks' state.
            period: iterations between checkpoints.
            kept: how many are kept beside the last one.
            eval_period: iterations between evaluations; 0 for none but the last.
        """
        super().__init__(checkpointer, period, max_to_keep=kept)
        self._regular_period, self._eval_period = period, eval_period

    def before_train(self) -> None:
        super().before_train()
        # Those of the interrupted run count too, or each resume would leave some for good.
        older = Path(self.checkpointer.save_dir).glob(f"{self.file_prefix}_{'[0-9]' * 7}.pth")
        self.recent_checkpoints = [
            str(path)
            for path in sorted(older)
            if int(path.stem.removeprefix(f"{self.file_prefix}_")) < self.trainer.start_iter
        ]

    def after_step(self) -> None:
        now = self.trainer.stopping or _is_due(self.trainer.iter + 1, self._eval_period)
        self.period = 1 if now else self._regular_period
        super().after_step()


class Evaluation(hooks.EvalHook):
    """Detectron2's; `--resume` makes up for the evaluation that the run was interrupted in.

    Raises (where it evaluates):
        SystemExit: SIGTERM came before the evaluation, to one of the processes.
    """

    def __init__(self, period: int, evaluate: Callable[[], dict[str, Any]], folder: str):
        """
        Args:
            period: iterations between evaluations; 0 evaluates after training only.
            evaluate: gives nested dicts of metrics.
            folder: of the run.
        """
        super().__init__(period, evaluate)
        self._record = Path(folder, EVALUATION_RECORD)

    def before_train(self) -> None:
        trainer, start = self.trainer, self.trainer.start_iter
        # The last evaluation follows training, so it is made up for anyway.
        if not _is_due(start, self._period) or start >= trainer.max_iter:
            return
        if not self._record.is_file() or json.loads(self._record.read_text())["evaluated"] < start:
            trainer.storage.iter = start - 1
            self._do_eval()
            trainer.storage.iter = start

    def after_train(self) -> None:
        # Detectron2 would also evaluate after a last step that failed.
        if self.trainer.iter >= self.trainer.max_iter:
            super().after_train()

    def _do_eval(self) -> None:
        self.trainer.at_rest = True
        # SIGTERM may have come after the processes agreed to go on past the present step.
        if any(comm.all_gather(self.trainer.stop_requested)):
            leave()
        super()._do_eval()
        self.trainer.at_rest = False


class BestCheckpointer(hooks.BestCheckpointer):
    """Detectron2's, remembering the best value across `--resume`.

    The value stands in a file beside `model_best`: the state in a checkpoint was saved before the
    evaluation of its own iteration.
    """

    def __init__(self, eval_period: int, checkpointer: Checkpointer, val_metric: str):
        """
        Args:
            eval_period: iterations between evaluations, as of `Evaluation`.
            checkpointer: saves the evaluated model.
            val_metric: the metric whose largest value is the best, e.g. "bbox/AP".
        """
        super().__init__(eval_period, checkpointer, val_metric)
        self._record = Path(checkpointer.save_dir, EVALUATION_RECORD)

    def before_train(self) -> None:
        if self.trainer.start_iter == 0:
            self._record.unlink(missing_ok=True)  # of an earlier run in this folder
        elif self._record.is_file():
            record = json.loads(self._record.read_text())
            if record["metric"] == self._val_metric:
                self.best_metric, self.best_iter = record["value"], record["iteration"]
        if self._val_metric in self.trainer.storage.latest():  # of the evaluation made up for
            self._best_checking()

    def after_train(self) -> None:
        if self.trainer.iter >= self.trainer.max_iter:  # as `Evaluation`, not when interrupted
            super().after_train()

    def _best_checking(self) -> None:
        super()._best_checking()
        record = {
            "metric": self._val_metric,
            "value": self.best_metric,
            "iteration": self.best_iter,
            # After the last step, the storage is one iteration further.
            "evaluated": min(self.trainer.storage.iter + 1, self.trainer.max_iter),
        }
        write_atomically(self._record, lambda file: file.write(json.dumps(record).encode()))


def _is_due(steps: int, period: int) -> bool:
    return steps > 0 and period > 0 and steps % period == 0
