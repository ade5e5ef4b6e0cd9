"""The parts that a config puts together: each changes a model config in place.

`model` is the `LazyCall` of `models/faster_rcnn.py`; only what differs from it is named here.
"""

from copy import deepcopy

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from detectron2.modeling.matcher import Matcher

from efpnbs_d2.modeling import (
    EFPNBS,
    DCCascadeROIHeads,
    DCFastRCNNOutputLayers,
    DCLoss,
    DCROIHeads,
    HierarchicalAssigner,
    IgnoringCascadeROIHeads,
    RankingAssigner,
    ReceptiveFieldAnchorGenerator,
)

# Supervised ten times as hard, the masks pull the features away from the detector: in
# docs/results.md that cost 40 % of its AP.
FBSM_LOSS_WEIGHT = 0.1


def use_efpn_bs(model, *, cem=True, fbsm=True):
    """Replace the stock FPN by E-FPN-BS, whole or in part, its masks supervised."""
    model.backbone._target_ = EFPNBS
    model.backbone.update(cem=cem, fbsm=fbsm)
    model.fbsm_loss_weight = FBSM_LOSS_WEIGHT if fbsm else 0.0


def use_dc_loss(model, *, strength=0.5):
    """Balance the box head's losses over object scales."""
    heads = model.roi_heads
    is_cascade = "box_predictors" in heads
    heads._target_ = DCCascadeROIHeads if is_cascade else DCROIHeads
    for predictor in heads.box_predictors if is_cascade else [heads.box_predictor]:
        predictor._target_ = DCFastRCNNOutputLayers
        predictor.dc_loss = L(DCLoss)(strength=strength)


def use_nwd(model, *, topk=2):
    """Train each object's `topk` nearest anchors by NWD; published are 2, and 3 under a cascade."""
    model.proposal_generator.anchor_matcher = L(RankingAssigner)(topk=topk)


def use_rfla(model):
    """Replace anchors by receptive-field priors, and IoU by RFLA's hierarchy."""
    rpn, stages = model.proposal_generator, model.backbone.bottom_up.stages
    rpn.anchor_matcher = L(HierarchicalAssigner)()
    rpn.anchor_generator = L(ReceptiveFieldAnchorGenerator)(
        strides=rpn.anchor_generator.strides, depth="${...backbone.bottom_up.stages.depth}"
    )
    if "stride_in_1x1" in stages:
        rpn.anchor_generator.stride_in_1x1 = "${...backbone.bottom_up.stages.stride_in_1x1}"


def use_cascade(model):
    """Replace the box head by Cascade R-CNN's three stages, with the same limits."""
    heads = model.roi_heads
    head, predictor = heads.pop("box_head"), heads.pop("box_predictor")
    predictor.update(cls_agnostic_bbox_reg=True, num_classes="${...num_classes}")
    heads.pop("proposal_matcher")
    heads._target_ = IgnoringCascadeROIHeads
    heads.box_heads, heads.box_predictors, heads.proposal_matchers = [], [], []
    for xy, wh, threshold in [(10, 5, 0.5), (20, 10, 0.6), (30, 15, 0.7)]:
        heads.box_heads.append(deepcopy(head))
        heads.box_predictors.append(deepcopy(predictor))
        heads.box_predictors[-1].box2box_transform.weights = (xy, xy, wh, wh)
        heads.proposal_matchers.append(
            L(Matcher)(thresholds=[threshold], labels=[0, 1], allow_low_quality_matches=False)
        )


def use_resnet(model, depth):
    """Choose the ResNet below the pyramid: 18, 34, 50 or 101."""
    stages = model.backbone.bottom_up.stages
    stages.depth = depth
    if depth < 50:
        stages.pop("stride_in_1x1", None)  # basic blocks have no 1x1 convolution to put it in


def train_from_scratch(model, norm="BN"):
    """Freeze nothing and normalise everywhere: without pretrained weights, frozen layers are noise.

    `norm` "BN" wants 4 images a process or more, "GN" any number.
    """
    bottom_up, box_head = model.backbone.bottom_up, model.roi_heads.box_head
    bottom_up.freeze_at = 0
    bottom_up.stem.norm = bottom_up.stages.norm = norm
    model.backbone.norm = norm
    box_head.conv_norm = norm if box_head.conv_dims else ""
    # No pretrained weights fix the input's range, so give the layers unit variance.
    model.pixel_std = [57.375, 57.12, 58.395]


def narrow(model, channels, fc_dim):
    """Give neck and heads `channels` feature channels and `fc_dim` units, for CPUs."""
    model.backbone.out_channels = channels
    model.proposal_generator.head.in_channels = channels
    model.roi_heads.box_head.input_shape = ShapeSpec(channels=channels, height=7, width=7)
    model.roi_heads.box_head.fc_dims = [fc_dim, fc_dim]
    model.roi_heads.box_predictor.input_shape = ShapeSpec(channels=fc_dim)
