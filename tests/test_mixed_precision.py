"""Boxes in mixed precision."""

import pytest
import torch
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes
from torch import nn

from efpnbs_d2.mixed_precision import mixed_precision


class Pools(nn.Module):
    """A convolution that changes nothing, and the mean of one box on its output."""

    def __init__(self):
        super().__init__()
        self.keep = nn.Conv2d(1, 1, 1, bias=False)
        nn.init.ones_(self.keep.weight)
        self.pooler = ROIPooler((1, 1), [0.25], sampling_ratio=2, pooler_type="ROIAlignV2")

    def forward(self, features, box):
        kept = self.keep(features)
        return kept.dtype, self.pooler([kept], [Boxes(torch.tensor([box]))])


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16, torch.float16])
def test_a_tiny_box_far_from_the_origin_stays_where_it_is(precision):
    """In bfloat16 it would be pooled from 1,024 to 1,040 px, in float16 from 1,028 to 1,036."""
    model = Pools()
    # A cell of 4 px says how many lie between it and the one at 1,000 px.
    features = (torch.arange(300) - 250.0).clamp(0, 20).expand(1, 1, 8, 300)
    with mixed_precision(model, precision), torch.no_grad():
        computed_in, pooled = model(features, [1028.25, 8.0, 1036.25, 16.0])
    assert computed_in == precision and pooled.dtype == torch.float32
    # The box's middle, 1032.25 px, lies 32.25 px behind there; a cell's own middle 2 px.
    assert pooled.item() == pytest.approx((32.25 - 2) / 4)


def test_nothing_stays_behind():
    model = Pools()
    with pytest.raises(ZeroDivisionError), mixed_precision(model, torch.bfloat16):
        raise ZeroDivisionError
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        _, pooled = model(torch.zeros(1, 1, 8, 300), [0.0, 0.0, 8.0, 8.0])
    assert pooled.dtype == torch.bfloat16
    assert not torch.is_autocast_enabled("cpu")
