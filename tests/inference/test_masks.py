"""FBSM's masks come out by level, for the cells inside the image only."""

import math

import numpy as np
import pytest

from efpnbs_d2.engine.recipe import LazyRecipe
from efpnbs_d2.inference.masks import foreground_masks


def test_masks_have_a_cell_for_every_stride(small_lazy):
    model = LazyRecipe(small_lazy()).build_model().eval()
    image = np.random.default_rng(0).integers(0, 256, (70, 130, 3), dtype=np.uint8)
    masks = foreground_masks(model, image)
    shapes = {level: mask.shape for level, mask in masks.items()}
    assert shapes == {f"p{i}": (math.ceil(70 / 2**i), math.ceil(130 / 2**i)) for i in (2, 3, 4)}
    # Supervised masks start near their prior of 0.01.
    assert all(0 < mask.min() and mask.max() < 0.2 for mask in masks.values())


def test_a_model_without_masks_is_refused(small_lazy):
    model = LazyRecipe(small_lazy(config="tinyscenes/fpn_r18.py")).build_model().eval()
    with pytest.raises(ValueError, match="FPN has no FBSM"):
        foreground_masks(model, np.zeros((64, 64, 3), np.uint8))
