"""The training step: Detectron2's, on any device, stopping at the first non-finite loss."""

import time
from typing import Any

import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from torch import nn


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
            FloatingPointError: a loss is NaN or infinite, on every process if on one; names the
                iteration, the losses and the image files, before any weight has changed.
        """
        assert self.model.training, "the model was switched to evaluation during training"
        start = time.perf_counter()
        batch = next(self._data_loader_iter)
        data_time = time.perf_counter() - start

        with torch.autocast(
            self.device.type, dtype=self.amp_dtype, enabled=self.amp_dtype is not None
        ):
            losses = self.model(batch)
            total = sum(losses.values())
        self._check_finite(losses, total, batch)

        self.optimizer.zero_grad()
        self.grad_scaler.scale(total).backward()
        self.after_backward()
        self._clip_gradient()
        self._write_metrics(losses, data_time)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def _clip_gradient(self) -> None:
        if self.clip_grad_norm <= 0:
            return
        self.grad_scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_grad_norm)
        self.storage.put_scalar("grad_norm", norm)

    def _check_finite(
        self, losses: dict[str, torch.Tensor], total: torch.Tensor, batch: list[dict[str, Any]]
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
        values = ", ".join(f"{name} = {value.item():g}" for name, value in losses.items())
        files = ", ".join(str(sample.get("file_name", "?")) for sample in batch)
        raise FloatingPointError(
            f"non-finite loss at iteration {self.iter}: {values}; images: {files}. The last good "
            "checkpoint is intact; lower the learning rate, clip the gradient "
            "(train.clip_grad_norm) or check these images' annotations, then use --resume"
        )

    def state_dict(self) -> dict[str, Any]:
        return {**super().state_dict(), "grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
