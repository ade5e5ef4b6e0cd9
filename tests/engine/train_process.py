"""`train_net.py` with a narrow backbone and a fault, for tests that start real processes.

The environment names the fault (`FAULT`, a function here; none where it is not set), the process
that it strikes (`FAULT_RANK`, 0 where it is not set), before which step (`FAULT_ITERATION`, 2 where
it is not set), and a file for what each step computed, before any smoothing (`STEPS`; the process's
rank is appended).
"""

import json
import os
import resource
import signal
import time
from pathlib import Path

import torch
from detectron2.modeling.backbone.resnet import BasicBlock, ResNet
from detectron2.utils import comm

from efpnbs_d2.engine import cli
from efpnbs_d2.engine.trainer import TinyTrainer
from efpnbs_d2.evaluation.evaluator import ProtocolEvaluator

# After the checkpoint of iteration 1, before that of iteration 3, where nothing else is asked for.
FAULT_ITERATION = int(os.environ.get("FAULT_ITERATION", 2))


def narrow_stages(depth, **options):
    """ResNet-18 with an eighth of its channels: checkpoints of 4 MB instead of 180."""
    return [
        ResNet.make_stage(
            BasicBlock,
            2,
            stride_per_block=[1 if channels == 8 else 2, 1],
            in_channels=max(channels // 2, 8),
            out_channels=channels,
            norm=options["norm"],
        )
        for channels in (8, 16, 32, 64)
    ]


def kill_between_steps(trainer):
    os.kill(os.getpid(), signal.SIGKILL)


def kill_in_checkpoint(trainer):
    """Killed when half of the next checkpoint is on the disk."""

    def half(data, file):
        file.write(bytes(1000))
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)

    torch.save = half


def kill_in_evaluation(trainer):
    ProtocolEvaluator.process = lambda *_: os.kill(os.getpid(), signal.SIGKILL)


def terminate(trainer):
    os.kill(os.getpid(), signal.SIGTERM)


def terminate_group(trainer):
    """As schedulers do it: data-loading processes get the signal too."""
    os.killpg(os.getpgid(0), signal.SIGTERM)


def terminate_in_evaluation(trainer):
    ProtocolEvaluator.process = lambda *_: os.kill(os.getpid(), signal.SIGTERM)


def terminate_before_evaluation(trainer):
    """When all have agreed to go on past the present step, which an evaluation follows."""
    write = trainer._write_metrics

    def write_and_terminate(*arguments):
        write(*arguments)
        os.kill(os.getpid(), signal.SIGTERM)

    trainer._write_metrics = write_and_terminate
    ProtocolEvaluator.process = None  # no image may be evaluated


def terminate_launcher(trainer):
    """The process that started this one, which has to hand the signal on."""
    os.kill(os.getppid(), signal.SIGTERM)
    deadline = time.monotonic() + 60
    while not trainer.stop_requested:
        assert time.monotonic() < deadline, "the signal did not arrive here"
        time.sleep(0.01)


def kill_worker(trainer):
    workers = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    os.kill(int(workers[0]), signal.SIGKILL)


def no_room_for_checkpoints(trainer):
    """No file may grow beyond 1 MB, which the kernel refuses as it does a full disk's."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**6, 10**6))


def no_room_for_metrics(trainer):
    """The disk is full for the files that the run has open: log, metrics.json and events."""
    full = os.open("/dev/full", os.O_WRONLY)
    for link in list(Path("/proc/self/fd").iterdir()):
        if link.exists() and os.readlink(link).startswith(os.environ["FOLDER"]):
            os.dup2(full, int(link.name))


def truncate_images(trainer):
    for path in Path(os.environ["DETECTRON2_DATASETS"], "tinyscenes/images/train").iterdir():
        path.write_bytes(path.read_bytes()[:300])


def loss_is_nan(trainer):
    trainer._forward = lambda batch: {"loss_cls": torch.tensor(float("nan"), requires_grad=True)}


def no_objects(trainer):
    """From now on, this process's images have none."""
    forward = trainer._forward

    def forward_without_objects(batch):
        losses = forward([{**s, "instances": s["instances"][:0]} for s in batch])
        assert trainer.storage.latest()["roi_head/num_fg_samples"][0] == 0
        return losses

    trainer._forward = forward_without_objects


def prepare():
    torch.set_num_threads(1)
    ResNet.make_default_stages = staticmethod(narrow_stages)
    run_step = TinyTrainer.run_step

    def run_step_with_fault(trainer):
        struck = comm.get_rank() == int(os.environ.get("FAULT_RANK", 0))
        if "FAULT" in os.environ and struck and trainer.iter == FAULT_ITERATION:
            globals()[os.environ["FAULT"]](trainer)
        run_step(trainer)
        if "STEPS" in os.environ:
            record_step(trainer, Path(f"{os.environ['STEPS']}.{comm.get_rank()}"))

    TinyTrainer.run_step = run_step_with_fault


def record_step(trainer, path):
    """Append the iteration, its raw losses, its gradient's norm and DCLoss's state."""
    values = trainer.storage.latest().items()
    step = {k: v[0] for k, v in values if k.startswith(("loss", "grad_norm"))}
    step |= {k: b.tolist() for k, b in trainer.model.named_buffers() if ".dc_loss." in k}
    with open(path, "a") as file:
        file.write(json.dumps([trainer.iter, step]) + "\n")


prepare()
if __name__ == "__main__":
    cli.main()
