"""Receptive fields of ResNets, measured and computed, and the priors made of them."""

import pytest
import torch
from detectron2.modeling.backbone import resnet
from detectron2.modeling.backbone.resnet import BasicStem, ResNet
from torch import nn

from efpnbs_d2.modeling.assigners import ReceptiveFieldAnchorGenerator, receptive_fields


def test_resnet_50_as_published():
    assert receptive_fields(50) == (35, 91, 267, 427)
    assert receptive_fields(50, stride_in_1x1=True) == (35, 99, 291, 483)


def measured(depth, stride_in_1x1, side):
    """Side of the input square whose gradient reaches one feature of each stage of Detectron2's.

    All weights are positive, so that nothing cancels and no ReLU cuts a path; the maximum, which
    passes one gradient on, has become an average.
    """
    options = {"stride_in_1x1": stride_in_1x1} if depth >= 50 else {}
    stages = ResNet.make_default_stages(depth, norm="", **options)
    net = ResNet(BasicStem(norm=""), stages, out_features=["res2", "res3", "res4", "res5"])
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.constant_(module.weight, 1 / module.weight[0].numel())
    image = torch.ones(1, 3, 8, side, requires_grad=True)  # a strip shows the width
    sides = []
    for feature in net(image).values():
        middle = feature[0, :, 0, feature.shape[3] // 2].sum()
        (gradient,) = torch.autograd.grad(middle, image, retain_graph=True)
        columns = gradient.sum(dim=(0, 1, 2)).nonzero()
        sides.append(int(columns.max() - columns.min()) + 1)
    return tuple(sides)


@pytest.mark.parametrize(("depth", "stride_in_1x1"), [(18, False), (50, False), (50, True)])
def test_what_a_gradient_reaches(monkeypatch, depth, stride_in_1x1):
    monkeypatch.setattr(resnet.F, "max_pool2d", nn.functional.avg_pool2d)
    found = measured(depth, stride_in_1x1, side=640)
    assert found == receptive_fields(depth, stride_in_1x1=stride_in_1x1)


@pytest.mark.parametrize(
    ("strides", "expected"),
    [
        ([4, 8, 16, 32, 64], [17.5, 45.5, 133.5, 213.5, 213.5]),
        ([8, 16, 32], [45.5, 133.5, 213.5]),
    ],
)
def test_priors_are_half_a_receptive_field(strides, expected):
    generator = ReceptiveFieldAnchorGenerator(strides=strides, depth=50)
    levels = generator([torch.zeros(1, 1, 3, 2)] * len(strides))
    for priors, stride, side in zip(levels, strides, expected, strict=True):
        boxes = priors.tensor.reshape(3, 2, 3, 4)  # rows, columns, ratios
        centre = (boxes[..., :2] + boxes[..., 2:]) / 2
        assert torch.allclose(centre[2, 1], torch.tensor([stride * 1.0, stride * 2.0]))
        size = boxes[..., 2:] - boxes[..., :2]
        assert torch.allclose(size.prod(dim=-1), torch.tensor(side**2))
        assert torch.allclose(size[0, 0, :, 1] / size[0, 0, :, 0], torch.tensor([0.5, 1, 2]))


def test_the_gold_cases_priors(gold):
    """The released code counts P6 for a convolution of its own, so its sizes are given here."""
    case = gold("rfla_01_generic")
    generator = ReceptiveFieldAnchorGenerator(
        strides=[4, 8, 16, 32, 64], sizes=[17.5, 45.5, 133.5, 213.5, 277.5]
    )
    priors = generator([torch.zeros(1, 1, *shape) for shape in case["level_shapes"]])
    found = torch.cat([p.tensor for p in priors])
    assert torch.allclose(found, torch.tensor(case["priors"]), atol=1e-4)


def test_wrong_options_are_refused():
    with pytest.raises(ValueError, match="ResNet-152, only for 18, 34, 50, 101"):
        receptive_fields(152)
    with pytest.raises(ValueError, match="2 levels need as many sizes"):
        ReceptiveFieldAnchorGenerator(strides=[4, 8], sizes=[10.0])
    with pytest.raises(ValueError, match="below a stride of 4"):
        ReceptiveFieldAnchorGenerator(strides=[2, 4])
    with pytest.raises(ValueError, match="must be positive"):
        ReceptiveFieldAnchorGenerator(strides=[4, 8], fraction=0.0)
