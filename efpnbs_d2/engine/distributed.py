"""Processes that work together: started by torchrun, or by Detectron2's launcher."""

import contextlib
import os
from collections.abc import Iterator

import torch
import torch.distributed as dist
from detectron2.engine.launch import DEFAULT_TIMEOUT
from detectron2.utils import comm


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


@contextlib.contextmanager
def lost_peers_explained() -> Iterator[None]:
    """Turn the errors of collective operations into a sentence.

    Raises:
        ConnectionError: another process of this run is gone.
    """
    try:
        yield
    except RuntimeError as error:
        if not _is_of_communication(error):
            raise
        raise ConnectionError(
            f"process {comm.get_rank()} lost another process of this run (killed, or stopped by an "
            "error of its own, which it reports itself); --resume continues from the last "
            "checkpoint"
        ) from error


def _is_of_communication(error: RuntimeError) -> bool:
    return isinstance(error, dist.DistError) or "gloo/" in str(error)
