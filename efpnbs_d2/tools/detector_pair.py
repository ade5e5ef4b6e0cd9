"""One recipe as two detectors with the same weights: on the stock FPN and on E-FPN-BS."""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import instantiate
from detectron2.modeling import GeneralizedRCNN
from detectron2.modeling.backbone.fpn import FPN
from detectron2.utils.env import seed_all_rng

from ..checkpoint import Checkpointer
from ..data.mapper import TinyObjectMapper
from ..engine.recipe import LazyRecipe, Recipe, YacsRecipe
from ..engine.run import check_random_layers
from ..modeling import EFPNBS, DCLoss

__all__ = ["DetectorPair", "build_pair", "training_samples"]


@dataclass(frozen=True)
class DetectorPair:
    """Two detectors in training mode whose common weights are the same.

    DCLoss does nothing in either, so that what differs is the pyramid.

    Attributes:
        stock: without CEM and FBSM.
        enhanced: with those of the recipe, or with both where the recipe has the stock FPN.
        dc_loss: the recipe's DCLoss, or one of default options.
    """

    stock: GeneralizedRCNN
    enhanced: GeneralizedRCNN
    dc_loss: DCLoss


def build_pair(recipe: Recipe) -> DetectorPair:
    """Build both detectors, with the recipe's initial weights or, where it names none, random ones.

    Raises:
        ValueError: the backbone is neither an FPN nor an E-FPN-BS, layers are frozen without
            weights, or the weights belong to another model.
        OSError: the weights are missing or cannot be fetched.
    """
    enhanced = _enhanced(recipe)
    options = recipe.options
    check_random_layers(enhanced, has_weights=bool(options.init_checkpoint))
    if options.init_checkpoint:
        checkpointer = Checkpointer(
            enhanced, starts_training=True, backbone_only=options.init_backbone_only
        )
        try:
            checkpointer.load(options.init_checkpoint)
        except OSError as error:
            raise OSError(
                f"cannot load the weights {options.init_checkpoint}: {error}. Name a file with "
                "train.init_checkpoint=FILE (yacs: MODEL.WEIGHTS FILE), or measure anchors alone "
                "with --samples 0"
            ) from error
    found = [part for part in enhanced.modules() if isinstance(part, DCLoss)]
    dc_loss = deepcopy(found[0]) if found else DCLoss()
    for part in found:
        part.strength = 0.0
    stock = deepcopy(enhanced)
    stock.backbone.cem = stock.backbone.fbsm = None
    stock.fbsm_loss_weight = 0.0
    return DetectorPair(stock.train(), enhanced.train(), dc_loss.cpu())


def _enhanced(recipe: Recipe) -> GeneralizedRCNN:
    torch.manual_seed(0)
    model = recipe.build_model()
    if isinstance(model.backbone, EFPNBS):
        return model
    if type(model.backbone) is not FPN:
        raise ValueError(
            f"the backbone is a {type(model.backbone).__name__}, expected an FPN or an EFPNBS: "
            "gradients are compared between these two (--samples 0 measures none)"
        )
    torch.manual_seed(0)
    return _with_efpn_bs(recipe).build_model()


def _with_efpn_bs(recipe: Recipe) -> Recipe:
    if isinstance(recipe, LazyRecipe):
        cfg = deepcopy(recipe.cfg)
        cfg.model.backbone._target_ = EFPNBS
        return LazyRecipe(cfg)
    assert isinstance(recipe, YacsRecipe)
    cfg = recipe.cfg.clone()
    cfg.defrost()
    cfg.MODEL.BACKBONE.NAME = "EFPNBS"
    return YacsRecipe(cfg)


def training_samples(
    recipe: Recipe, records: Sequence[Mapping[str, Any]]
) -> Iterator[dict[str, Any]]:
    """What the recipe's training mapper makes of each record, the same each time.

    Raises:
        ValueError, OSError: an image cannot be read.
    """
    if isinstance(recipe, LazyRecipe):
        mapper = instantiate(recipe.cfg.dataloader.train.mapper)
    else:
        assert isinstance(recipe, YacsRecipe)
        mapper = TinyObjectMapper(recipe.cfg, is_train=True)
    for seed, record in enumerate(records):
        seed_all_rng(seed)
        yield mapper(deepcopy(dict(record)))
