"""The training step in two gloo processes, on a model whose gradient is known by hand."""

import contextlib
from datetime import timedelta

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.utils.events import EventStorage
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from efpnbs_d2.engine.lost_processes import explain_lost_process
from efpnbs_d2.engine.trainer import TinyTrainer


class Line(nn.Module):
    """loss = w * x, so that its gradient is x."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(1.0))

    def forward(self, batch):
        return {"loss_line": self.w * batch[0]["x"]}


def _process(rank, folder, values):
    dist.init_process_group(
        "gloo", f"file://{folder}/store", rank=rank, world_size=2, timeout=timedelta(minutes=1)
    )
    model = DistributedDataParallel(Line())
    batches = [[{"x": x, "file_name": f"{x}.png"}] for x in values[rank]]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    trainer = TinyTrainer(model, batches, optimizer, accumulation=2)
    unexchanged, no_sync = [], model.no_sync
    model.no_sync = lambda: unexchanged.append(trainer.iter) or no_sync()
    message = ""
    with EventStorage(0) as trainer.storage, contextlib.suppress(StopIteration):
        try:
            for trainer.iter in range(2):
                trainer.run_step()
        except FloatingPointError as error:
            message = str(error)
    torch.save((model.module.w.item(), unexchanged, message), f"{folder}/{rank}")
    dist.barrier()  # a group that ends while the other still talks may abort its process
    dist.destroy_process_group()


def _run(tmp_path, values):
    # Not forked: a fork of a process that has trained before, with its threads, would hang.
    mp.start_processes(_process, (str(tmp_path), values), nprocs=2, start_method="spawn")
    return [torch.load(tmp_path / str(rank)) for rank in range(2)]


def test_parts_of_two_processes_are_one_step(tmp_path):
    first, second = _run(tmp_path, [[1.0, 2.0, 0.0, 0.0], [3.0, 6.0, 0.0, 8.0]])
    # The mean of all four parts is 3, then 2; one part of a step goes without an exchange.
    assert first == second
    weight, unexchanged, message = first
    assert abs(weight - (1.0 - 0.1 * 3 - 0.1 * 2)) < 1e-6
    assert (unexchanged, message) == ([0, 1], "")


def test_all_processes_stop_at_the_loss_of_one(tmp_path):
    first, second = _run(tmp_path, [[1.0, 1.0], [1.0, float("nan")]])
    assert first[0] == second[0] == 1.0
    assert first[2] == "stopped at iteration 0: another process met a non-finite loss"
    assert "a loss is not finite; losses: loss_line = nan; images: nan.png" in second[2]


def test_nccl_errors_are_lost_processes_too():
    explained = explain_lost_process(dist.DistBackendError("NCCL watchdog"))
    assert isinstance(explained, ConnectionError) and "--resume" in str(explained)
    assert explain_lost_process(RuntimeError("shapes do not fit")) is None
