"""Processes that a run depends on and that are suddenly gone: what PyTorch says, in our words."""

import contextlib
from collections.abc import Iterator

import torch.distributed as dist
from detectron2.utils import comm


@contextlib.contextmanager
def lost_processes_explained() -> Iterator[None]:
    """Turn PyTorch's errors about other processes into a sentence.

    Raises:
        ChildProcessError: a data-loading process was killed. PyTorch raises from a signal handler,
            so from any line, not only from the one that waits for a batch.
        ConnectionError: another training process of this run is gone.
    """
    try:
        yield
    except RuntimeError as error:
        explained = explain_lost_process(error)
        if explained is None:
            raise
        raise explained from error


def explain_lost_process(error: BaseException) -> OSError | None:
    """What `lost_processes_explained` raises for `error`; None where that is about anything else.

    Source: the wording of `torch.utils.data` and of gloo in PyTorch 2.11; NCCL has error types.
    """
    if not isinstance(error, RuntimeError):
        return None
    if "DataLoader worker (pid" in str(error):
        return ChildProcessError(
            "a data-loading process was killed, most often for want of memory; lower "
            "dataloader.train.num_workers (yacs: DATALOADER.NUM_WORKERS), then --resume"
        )
    if isinstance(error, dist.DistError) or "gloo" in str(error).lower():
        return ConnectionError(
            f"process {comm.get_rank()} lost another process of this run (killed, or stopped by an "
            "error of its own, which it reports itself); --resume continues from the last "
            "checkpoint"
        )
    return None
