"""The training step: Detectron2's, on any device, stopping at the first non-finite loss."""

import contextlib
import logging
import time
from typing import Any

import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from torch import nn

from ..data.train_loader import STEP_STREAM, TrainLoader, seed_at
from ..mixed_precision import PRECISIONS, mixed_precision
from .preemption import shielding_from_sigterm

logger = logging.getLogger(__name__)

# A sound gradient fits into float16 long before its loss is scaled this far down: a run that gets
# here has been skipping every step.
SMALLEST_SCALE = 2.0**-10

Batch = list[dict[str, Any]]


class TinyTrainer(SimpleTrainer):
    """`SimpleTrainer` that repeats itself exactly, with a guard on the loss.

    Also with mixed precision, gradient accumulation and clipping: one class for what Detectron2
    splits in `SimpleTrainer` and `AMPTrainer`, because the guard has to stand between the loss and
    its gradient in both.

    Every step draws its random numbers from (seed, iteration, process), and a `TrainLoader` is
    started at the trainer's iteration, so that a resumed run takes the steps of one that was never
    interrupted.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Any,
        optimizer: torch.optim.Optimizer,
        *,
        seed: int = 0,
        amp_dtype: str | None = None,
        accumulation: int = 1,
        clip_grad_norm: float = 0.0,
    ):
        """
        Args:
            model: returns a dict of scalar losses for a batch.
            data_loader: yields batches (lists of dicts that name their `file_name`).
            optimizer: steps the model's parameters.
            seed: of the run, not negative, the same in all processes.
            amp_dtype: None for float32, or "float16" (with loss scaling), "bfloat16".
            accumulation: batches a step, whose mean gradient is followed.
            clip_grad_norm: largest norm of the whole gradient; 0 clips nothing.

        Raises:
            ValueError: an unknown `amp_dtype`, `accumulation` below 1.
        """
        super().__init__(model, data_loader, optimizer)
        self._data_loader_iter_obj: Any = None
        if accumulation < 1:
            raise ValueError(f"a step takes at least one batch, got accumulation {accumulation}")
        if amp_dtype not in (None, "float16", "bfloat16"):
            raise ValueError(f"amp dtype must be 'float16' or 'bfloat16', got {amp_dtype!r}")
        self.precision = PRECISIONS[amp_dtype or "float32"]
        self.seed, self.accumulation, self.clip_grad_norm = seed, accumulation, clip_grad_norm
        self.device = next(model.parameters()).device
        # Whether this process was asked to stop; whether all agreed to after the present step;
        # whether a checkpoint holds the present state, so that nothing is lost by leaving.
        self.stop_requested = self.stopping = self.at_rest = False
        self.grad_scaler = torch.amp.GradScaler(
            self.device.type, enabled=self.precision == torch.float16
        )

    def before_train(self) -> None:
        """Start the data at this run's iteration.

        Raises:
            ValueError: a step's images cannot be shared out evenly.
        """
        if isinstance(self.data_loader, TrainLoader):
            self.data_loader.start_at(self.seed, self.start_iter, parts=self.accumulation)
        elif self.start_iter > 0:
            logger.warning(
                f"{type(self.data_loader).__name__} starts anew: the resumed run sees its images "
                "in another order than an uninterrupted one (efpnbs_d2.data.train_loader would not)"
            )
        super().before_train()

    def after_train(self) -> None:
        # Detectron2 counts one further also when a finished run is resumed and takes no step.
        self.iter: int = min(self.iter, max(self.start_iter, self.max_iter))
        super().after_train()

    @property
    def _data_loader_iter(self) -> Any:
        if self._data_loader_iter_obj is None:
            with shielding_from_sigterm():  # it may start processes
                self._data_loader_iter_obj = iter(self.data_loader)
        return self._data_loader_iter_obj

    def run_step(self) -> None:
        """Forward and backward passes, and one optimiser step.

        Raises:
            FloatingPointError: a loss, the gradient or the RPN's predictions are NaN or infinite;
                names the iteration, the losses and the image files, before any weight has changed.
        """
        assert self.model.training, "the model was switched to evaluation during training"
        self.optimizer.zero_grad()
        total: dict[str, torch.Tensor] = {}
        images: Batch = []
        data_time = 0.0
        for part in range(self.accumulation):
            start = time.perf_counter()
            batch = next(self._data_loader_iter)
            data_time += time.perf_counter() - start
            images += batch
            torch.manual_seed(seed_at(self.seed, STEP_STREAM, self.iter, part, comm.get_rank()))
            with self._gradients_exchanged(last=part == self.accumulation - 1):
                losses = {k: v / self.accumulation for k, v in self._forward(batch).items()}
                whole = torch.stack(list(losses.values())).sum()
                self._check_finite(losses, whole, batch)
                self.grad_scaler.scale(whole).backward()
            for name, loss in losses.items():
                total[name] = total.get(name, 0) + loss.detach()
        self.after_backward()
        self._check_and_clip_gradient(total, images)
        self._write_metrics(total, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _gradients_exchanged(self, *, last: bool) -> contextlib.AbstractContextManager[None]:
        """Let processes exchange gradients once a step, in its last backward pass."""
        if last or not isinstance(self.model, nn.parallel.DistributedDataParallel):
            return contextlib.nullcontext()
        return self.model.no_sync()

    def _forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        try:
            with mixed_precision(self.model, self.precision):
                return self.model(batch)
        except FloatingPointError as error:
            # Detectron2's RPN looks at its own predictions, before there is any loss.
            message = self._diverged(f"predictions are not finite ({error})", {}, batch)
            raise FloatingPointError(message) from error

    def _check_and_clip_gradient(self, losses: dict[str, torch.Tensor], batch: Batch) -> None:
        """Clip the gradient; a non-finite one must not reach the weights."""
        self.grad_scaler.unscale_(self.optimizer)
        gradients = [p.grad for p in self.model.parameters() if p.grad is not None]
        norm = nn.utils.get_total_norm(gradients)
        self.storage.put_scalar("grad_norm", norm)
        if not torch.isfinite(norm):
            if self.grad_scaler.get_scale() > SMALLEST_SCALE and self.grad_scaler.is_enabled():
                return  # loss scaling skips such a step and halves its scale
            # The gradient is the mean over all processes, so they all stop here.
            raise FloatingPointError(self._diverged("the gradient is not finite", losses, batch))
        if 0 < self.clip_grad_norm:
            nn.utils.clip_grads_with_norm_(self.model.parameters(), self.clip_grad_norm, norm)

    def _check_finite(
        self, losses: dict[str, torch.Tensor], total: torch.Tensor, batch: Batch
    ) -> None:
        finite = torch.isfinite(total.detach())
        # 0: not finite, 1: asked to stop after this step, 2: goes on. All processes take the
        # smallest: one that stopped alone would leave the others waiting for it.
        state = finite.float() * (1 if self.stop_requested else 2)
        if comm.get_world_size() > 1:
            torch.distributed.all_reduce(state, op=torch.distributed.ReduceOp.MIN)
        agreed = state.item()
        self.stopping = agreed == 1
        if agreed > 0:
            return
        if finite:
            raise FloatingPointError(
                f"stopped at iteration {self.iter}: another process met a non-finite loss"
            )
        raise FloatingPointError(self._diverged("a loss is not finite", losses, batch))

    def _diverged(self, what: str, losses: dict[str, torch.Tensor], batch: Batch) -> str:
        values = ", ".join(f"{name} = {value.item():g}" for name, value in losses.items())
        files = ", ".join(str(sample.get("file_name", "?")) for sample in batch)
        return (
            f"training stopped at iteration {self.iter}: {what}; losses: {values or 'none yet'}; "
            f"images: {files}. No weight was changed by this step; lower the learning rate, clip "
            "the gradient (train.clip_grad_norm) or check these images' annotations, then --resume"
        )

    def state_dict(self) -> dict[str, Any]:
        own = {"grad_scaler": self.grad_scaler.state_dict(), "seed": self.seed}
        return {**super().state_dict(), **own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.seed = state_dict.get("seed", self.seed)
        # A run may go on with another precision: the state of a disabled scaler is empty.
        if self.grad_scaler.is_enabled() and state_dict.get("grad_scaler"):
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
