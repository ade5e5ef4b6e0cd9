"""One definition, two config systems: the same model from LazyConfig and from yacs."""

import inspect

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from efpnbs_d2 import add_efpnbs_config
from efpnbs_d2.engine.recipe import LazyRecipe, YacsRecipe
from efpnbs_d2.modeling import EFPNBS, DCLoss, TinyObjectRCNN

# Every option of ours away from its default, in both systems: at default values a key that is
# not handed on passes unseen.
LAZY = [
    "+model.backbone.sources=[p5]",
    "+model.backbone.targets=[p2,p4]",
    "+model.backbone.context_channels=24",
    "+model.backbone.mask_channels=12",
    "model.fbsm_loss_weight=0.7",
    "+model.fbsm_focal_gamma=1.5",
    "model.roi_heads.box_predictor.dc_loss.strength=0.8",
    "+model.roi_heads.box_predictor.dc_loss.limit=3.0",
    "+model.roi_heads.box_predictor.dc_loss.momentum=0.9",
    "+model.roi_heads.box_predictor.dc_loss.bin_edges=[6.0,12.0]",
    "+model.roi_heads.box_predictor.dc_loss.target=uniform",
    "model.roi_heads.box_predictor.test_score_thresh=0.0",
]
YACS = [
    "MODEL.EFPN_BS.SOURCES=['p5']",
    "MODEL.EFPN_BS.TARGETS=['p2','p4']",
    "MODEL.CEM.CONTEXT_CHANNELS=24",
    "MODEL.FBSM.MASK_CHANNELS=12",
    "MODEL.FBSM.LOSS_WEIGHT=0.7",
    "MODEL.FBSM.FOCAL_GAMMA=1.5",
    "MODEL.DC_LOSS.STRENGTH=0.8",
    "MODEL.DC_LOSS.LIMIT=3.0",
    "MODEL.DC_LOSS.MOMENTUM=0.9",
    "MODEL.DC_LOSS.BIN_EDGES=[6.0,12.0]",
    "MODEL.DC_LOSS.TARGET=uniform",
    "MODEL.ROI_HEADS.SCORE_THRESH_TEST=0.0",
]


def _batch():
    generator = torch.Generator().manual_seed(0)
    batch = []
    for height, width in ((96, 128), (128, 96)):
        corner = torch.rand(12, 2, generator=generator) * 80
        side = torch.rand(12, 2, generator=generator) * 14 + 3
        instances = Instances((height, width))
        instances.gt_boxes = Boxes(torch.cat([corner, corner + side], dim=1))
        instances.gt_classes = torch.randint(0, 8, (12,), generator=generator)
        instances.gt_scale = instances.gt_boxes.area().sqrt()
        image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)
        regions = Boxes(torch.tensor([[0.0, 0.0, width / 2, height]]))
        batch.append({"image": image, "instances": instances, "ignore_boxes": regions})
    return batch


def _losses(model):
    model.train()
    torch.manual_seed(0)  # proposals are sampled at random
    with EventStorage():
        for _ in range(2):  # the second step sees DCLoss's averages of the first
            losses = model(_batch())
    return {name: loss.item() for name, loss in losses.items()}


def _detections(model):
    model.eval()
    with torch.no_grad():
        return [output["instances"] for output in model(_batch())]


@pytest.mark.parametrize("options", ["default", "changed"])
def test_both_systems_build_the_same_model(small_lazy, small_yacs, options):
    changed = options == "changed"
    lazy = LazyRecipe(small_lazy(*(LAZY if changed else LAZY[-1:]))).build_model()
    yacs = YacsRecipe(small_yacs(*(YACS if changed else YACS[-1:]))).build_model()
    shapes = {k: v.shape for k, v in lazy.state_dict().items()}
    assert shapes == {k: v.shape for k, v in yacs.state_dict().items()}
    for part in ("proposal_generator", "roi_heads"):
        assert type(getattr(lazy, part)) is type(getattr(yacs, part))

    with torch.no_grad():
        for name, parameter in lazy.named_parameters():
            if "alpha" in name or "beta" in name or "gamma" in name:
                parameter.fill_(0.3)  # trained gates, so that CEM and FBSM show in the results
    yacs.load_state_dict(lazy.state_dict())
    assert _losses(lazy) == _losses(yacs)
    for found, expected in zip(_detections(yacs), _detections(lazy), strict=True):
        assert len(expected) > 0
        assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
        assert torch.equal(found.scores, expected.scores)


@pytest.mark.parametrize(("lazy", "yacs"), list(zip(LAZY[:-1], YACS[:-1], strict=True)))
def test_every_option_shows(small_lazy, small_yacs, lazy, yacs):
    """Each option alone changes the yacs model as it changes the LazyConfig's."""
    reference = YacsRecipe(small_yacs()).build_model()
    changed = YacsRecipe(small_yacs(yacs)).build_model()
    assert _describe(changed) != _describe(reference), f"{yacs} changes nothing"
    assert _describe(changed) == _describe(LazyRecipe(small_lazy(lazy)).build_model())


def _describe(model):
    """What our options set on a model."""
    dc_loss, backbone = model.roi_heads.box_predictor.dc_loss, model.backbone
    return (
        {k: tuple(v.shape) for k, v in model.state_dict().items()},
        (tuple(backbone.targets), tuple(backbone.sources)),
        (model.fbsm_loss_weight, model.fbsm_focal_gamma),
        (dc_loss.strength, dc_loss.limit, dc_loss.momentum, dc_loss.target),
        dc_loss.edges.tolist(),
    )


@pytest.mark.parametrize("cls", [EFPNBS, DCLoss, TinyObjectRCNN])
def test_fresh_yacs_defaults_are_the_signatures(cls):
    cfg = get_cfg()
    add_efpnbs_config(cfg)
    cfg.MODEL.RESNETS.OUT_FEATURES = cfg.MODEL.FPN.IN_FEATURES = ["res2", "res3", "res4", "res5"]
    cfg.MODEL.BACKBONE.NAME = "EFPNBS"
    cfg.MODEL.RPN.IN_FEATURES = cfg.MODEL.ROI_HEADS.IN_FEATURES = ["p2"]
    cfg.MODEL.DEVICE = "cpu"
    arguments = (cfg, ShapeSpec(channels=3)) if cls is EFPNBS else (cfg,)
    defaults = _defaults(cls)
    read = cls.from_config(*arguments)
    # Parts, and what Detectron2's own configs define, have no default of ours.
    compared = {n: v for n, v in read.items() if n in defaults and n != "top_block"}
    assert len(compared) >= 2
    for name, value in compared.items():
        assert _plain(value) == _plain(defaults[name]), name


def _defaults(cls):
    signature = inspect.signature(cls.__init__)
    return {n: p.default for n, p in signature.parameters.items() if p.default is not p.empty}


def _plain(value):
    return list(value) if isinstance(value, (tuple, list)) else value
