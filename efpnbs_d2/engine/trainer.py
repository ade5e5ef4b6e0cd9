"""The training step: Detectron2's, on any device, stopping at the first non-finite loss."""

import time
from typing import Any

import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from torch import nn

Batch = list[dict[str, Any]]


class TinyTrainer(SimpleTrainer):
    """`SimpleTrainer` with mixed precision, gradient clipping and a guard on the loss.

    One class for what Detectron2 splits in `SimpleTrainer` and `AMPTrainer`, because the guard has
    to stand between the loss and its gradient in both.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Any,
        optimizer: torch.optim.Optimizer,
        *,
        amp_dtype: str | None = None,
        clip_grad_norm: float = 0.0,
    ):
        """
        Args:
            model: returns a dict of scalar losses for a batch.
            data_loader: yields batches (lists of dicts that name their `file_name`).
            optimizer: steps the model's parameters.
            amp_dtype: None for float32, or "float16" (with loss scaling), "bfloat16".
            clip_grad_norm: largest norm of the whole gradient; 0 clips nothing.

        Raises:
            ValueError: an unknown `amp_dtype`.
        """
        super().__init__(model, data_loader, optimizer)
        if amp_dtype not in (None, "float16", "bfloat16"):
            raise ValueError(f"amp dtype must be 'float16' or 'bfloat16', got {amp_dtype!r}")
        self.amp_dtype = getattr(torch, amp_dtype) if amp_dtype else None
        self.clip_grad_norm = clip_grad_norm
        self.device = next(model.parameters()).device
        self.grad_scaler = torch.amp.GradScaler(
            self.device.type, enabled=self.amp_dtype == torch.float16
        )

    def run_step(self) -> None:
        """One forward, backward and optimiser step.

        Raises:
            FloatingPointError: a loss, the gradient or the RPN's predictions are NaN or infinite;
                names the iteration, the losses and the image files, before any weight has changed.
        """
        assert self.model.training, "the model was switched to evaluation during training"
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start

        losses = self._forward(batch)
        total = torch.stack(list(losses.values())).sum()
        self._check_finite(losses, total, batch)

        self.optimizer.zero_grad()
        self.grad_scaler.scale(total).backward()
        self.after_backward()
        self._check_and_clip_gradient(losses, batch)
        self._write_metrics(losses, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _forward(self, batch: Batch) -> dict[str, torch.Tensor]:
        try:
            with torch.autocast(
                self.device.type, dtype=self.amp_dtype, enabled=self.amp_dtype is not None
            ):
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
            if self.grad_scaler.is_enabled():
                return  # loss scaling skips such a step and lowers its scale
            # The gradient is the mean over all processes, so they all stop here.
            raise FloatingPointError(self._diverged("the gradient is not finite", losses, batch))
        if 0 < self.clip_grad_norm:
            nn.utils.clip_grads_with_norm_(self.model.parameters(), self.clip_grad_norm, norm)

    def _check_finite(
        self, losses: dict[str, torch.Tensor], total: torch.Tensor, batch: Batch
    ) -> None:
        finite = torch.isfinite(total.detach())
        everywhere = finite.float()
        if comm.get_world_size() > 1:
            # All processes stop together: one alone would leave the others waiting for it.
            torch.distributed.all_reduce(everywhere, op=torch.distributed.ReduceOp.MIN)
        if everywhere.item() == 1:
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
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        # A run may go on with another precision: the state of a disabled scaler is empty.
        if self.grad_scaler.is_enabled() and state_dict.get("grad_scaler"):
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
