"""DCLoss in two processes on the CPU: the state of one process on all images, and no deadlock."""

import os
import subprocess
import sys
from datetime import timedelta

import torch
import torch.distributed as dist
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from efpnbs_d2.modeling.box_predictor import DCFastRCNNOutputLayers, LabelledProposals
from efpnbs_d2.modeling.dc_loss import DCLoss

STEPS = 3


def images(step):
    """Four images: two with objects, one with objects that no proposal found, one empty."""
    generator = torch.Generator().manual_seed(step)
    found = []
    for objects, foreground in ((5, 5), (3, 2), (4, 0), (0, 0)):
        size = 4 + 40 * torch.rand(objects, 1, generator=generator)
        boxes = torch.cat([torch.ones(objects, 2), 1 + size, 1 + size], dim=1)
        target = Instances((64, 64), gt_boxes=Boxes(boxes), gt_scale=size[:, 0])
        target.gt_classes = torch.zeros(objects, dtype=torch.long)
        proposals = Instances((64, 64), proposal_boxes=Boxes(torch.rand(6, 4, generator=generator)))
        proposals.proposal_boxes.tensor[:, 2:] += 10
        proposals.gt_classes = (torch.arange(6) >= foreground).long()
        if objects > 0:
            matched = torch.arange(6).clamp(max=objects - 1)
            proposals.gt_boxes, proposals.gt_scale = target.gt_boxes[matched], size[matched, 0]
        predictions = torch.randn(6, 2, generator=generator), torch.randn(6, 4, generator=generator)
        found.append((proposals, target, predictions))
    return found


def train(chosen):
    """The state of DCLoss after a few steps on the images with the chosen indices."""
    predictor = DCFastRCNNOutputLayers(
        ShapeSpec(channels=8),
        box2box_transform=Box2BoxTransform(weights=(10, 10, 5, 5)),
        num_classes=1,
        box_reg_loss_type="giou",
        dc_loss=DCLoss(momentum=0.5),
    )
    with EventStorage():
        for step in range(STEPS):
            batch = images(step)
            proposals, targets, predictions = zip(*(batch[i] for i in chosen), strict=True)
            logits, deltas = (torch.cat(part) for part in zip(*predictions, strict=True))
            losses = predictor.losses((logits, deltas), LabelledProposals(proposals, list(targets)))
            assert all(value.isfinite() for value in losses.values())
    return predictor.dc_loss.state_dict()


def train_one_rank(rank, folder):
    torch.set_num_threads(1)
    # A rank that waits for the other in vain fails after this time
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/rendezvous",
        world_size=2,
        rank=rank,
        timeout=timedelta(seconds=90),
    )
    # The second rank has no foreground, and in its own last image not even objects
    torch.save(train([(0, 1), (2, 3)][rank]), f"{folder}/state{rank}.pth")
    dist.destroy_process_group()


def test_two_processes_agree_with_one(tmp_path):
    # This file as a script: a test module cannot be imported by name in every way of running pytest
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ranks = [
        subprocess.Popen([sys.executable, __file__, str(rank), str(tmp_path)], env=environment)
        for rank in range(2)
    ]
    expected = train((0, 1, 2, 3))
    assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    assert expected["steps"].item() == STEPS
    assert (expected["averages"] > 0).sum() > 8
    for rank in range(2):
        found = torch.load(tmp_path / f"state{rank}.pth")
        torch.testing.assert_close(found, expected)


if __name__ == "__main__":
    train_one_rank(int(sys.argv[1]), sys.argv[2])
