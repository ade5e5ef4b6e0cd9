"""Processes that work together: started by torchrun, or by Detectron2's launcher."""

import contextlib
import os
from collections.abc import Iterator

import torch
import torch.distributed as dist
from detectron2.engine.launch import DEFAULT_TIMEOUT
from detectron2.utils import comm
from torch import nn


def started_by_torchrun() -> bool:
    """Whether this process was started by torchrun (or a scheduler that sets its variables)."""
    return {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE"} <= os.environ.keys()


@contextlib.contextmanager
def process_group() -> Iterator[None]:
    """Join the other processes of torchrun: NCCL where there are GPUs, gloo on CPUs.

    Raises:
        ValueError: more processes than GPUs on this machine.
    """
    local_rank, local_size = int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"])
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        if local_size > torch.cuda.device_count():
            raise ValueError(
                f"{local_size} processes were started on a machine with "
                f"{torch.cuda.device_count()} GPUs: lower torchrun's --nproc-per-node"
            )
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if on_gpu else "gloo", timeout=DEFAULT_TIMEOUT)
    try:
        comm.create_local_process_group(local_size)
        yield
    finally:
        dist.destroy_process_group()


def share_buffers(model: nn.Module) -> None:
    """Give every process the buffers of the first one, which are those that checkpoints hold.

    Each process keeps BatchNorm statistics of its own images: without this, the processes that
    share an evaluation would evaluate different models.
    """
    if comm.get_world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, src=0)
