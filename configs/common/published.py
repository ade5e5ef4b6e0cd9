"""Recipes as others released them: every value that one states, whatever our own base has there.

Source: the released configs and logs of NWD, NWD-RKA and RFLA, all on mmdetection 2, and
TinyPerson's on maskrcnn-benchmark. `docs/literature.md` says what stays different.
"""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L

from efpnbs_d2.modeling import ThresholdAssigner

from .parts import use_cascade, use_rfla
from .schedule import sgd, warmup_steps


def stock_heads(model, num_classes):
    """The heads of the stock Faster R-CNN, whose sampling and losses all of these recipes share."""
    rpn, heads = model.proposal_generator, model.roi_heads
    rpn.anchor_generator.sizes = [[32], [64], [128], [256], [512]]
    rpn.batch_size_per_image = 256
    rpn.smooth_l1_beta = 0.0
    heads.num_classes = num_classes
    heads.batch_size_per_image = 512
    heads.box_predictor.smooth_l1_beta = 0.0
    heads.box_predictor.test_score_thresh = 0.05
    heads.box_predictor.test_nms_thresh = 0.5


def mmdetection_faster_rcnn(model, dataloader, num_classes):
    """Faster R-CNN of the AI-TOD recipes: anchors of 32..512 px, 3,000 proposals and detections."""
    stock_heads(model, num_classes)
    rpn = model.proposal_generator
    # An object's best anchors are foreground from IoU 0.3 on only, unlike in Detectron2, where the
    # smallest objects get anchors that hardly touch them.
    rpn.anchor_matcher = L(ThresholdAssigner)(
        thresholds=[0.3, 0.7], labels=[0, -1, 1], min_quality=0.3
    )
    rpn.pre_nms_topk = rpn.post_nms_topk = (3000, 3000)
    model.roi_heads.box_predictor.test_topk_per_image = 3000
    # torchvision's ResNet-50: RGB of unit variance, the stride in the 3x3 convolutions.
    model.backbone.bottom_up.stages.stride_in_1x1 = False
    model.input_format = dataloader.train.mapper.image_format = "RGB"
    model.pixel_mean = [123.675, 116.28, 103.53]
    model.pixel_std = [58.395, 57.12, 57.375]


def mmdetection_cascade(model):
    """Cascade R-CNN over `mmdetection_faster_rcnn`: smooth L1, later stages count less."""
    use_cascade(model)
    model.proposal_generator.smooth_l1_beta = 1.0 / 9
    model.proposal_generator.anchor_boundary_thresh = 0  # anchors across the border take no loss
    # The inverse of the released standard deviations, which are rounded.
    deviations = [(0.1, 0.2), (0.05, 0.1), (0.033, 0.067)]
    stages = zip(model.roi_heads.box_predictors, deviations, [1.0, 0.5, 0.25], strict=True)
    for predictor, (xy, wh), weight in stages:
        predictor.box2box_transform.weights = (1 / xy, 1 / xy, 1 / wh, 1 / wh)
        predictor.smooth_l1_beta = 1.0
        predictor.loss_weight = weight


def nwd_in_rpn(model):
    """Anchors by NWD under the thresholds of IoU."""
    model.proposal_generator.anchor_matcher.similarity = "nwd"


def nwd_in_heads(model):
    """Proposals by NWD too, in each stage of a cascade at its own threshold."""
    heads = model.roi_heads
    if "proposal_matchers" in heads:
        heads.proposal_matchers = [_nwd_from(m.thresholds[0]) for m in heads.proposal_matchers]
    else:
        heads.proposal_matcher = _nwd_from(0.5)


def _nwd_from(threshold):
    return L(ThresholdAssigner)(
        thresholds=[threshold], labels=[0, 1], allow_low_quality_matches=False, similarity="nwd"
    )


def published_rfla(model):
    """RFLA with the released sizes: half of 35, 91, 267, 427 and 555 px, P6 as a convolution."""
    use_rfla(model)
    model.proposal_generator.anchor_generator.pop("stride_in_1x1")
    model.proposal_generator.anchor_generator.sizes = [17.5, 45.5, 133.5, 213.5, 277.5]


def resize(dataloader, short_edge, long_edge):
    """Resize images, in training and testing, to a short edge of at most so many pixels."""
    resized = L(T.ResizeShortestEdge)(short_edge_length=short_edge, max_size=long_edge)
    dataloader.train.mapper.augmentations = [resized, L(T.RandomFlip)(horizontal=True)]
    dataloader.test.mapper.augmentations = [resized]


def mmdetection_schedule(
    train, dataloader, *, images, batch, lr, epochs=12, steps=(8, 11), warmup_iters=500
):
    """Set a run's length, batch and start; return its optimizer and learning-rate schedule.

    An epoch is images / batch iterations, rounded up; a tenth of the rate after each epoch of
    `steps`. Evaluated once, as the published numbers are those of the last weights.
    """
    epoch = -(-images // batch)
    run_length(train, dataloader, max_iter=epochs * epoch, epoch=epoch, batch=batch)
    train.init_checkpoint = "detectron2://ImageNetPretrained/torchvision/R-50.pkl"
    schedule = warmup_steps(train.max_iter, [step * epoch for step in steps], warmup_iters)
    schedule.warmup_factor = 0.001
    return sgd(lr=lr), schedule


def run_length(train, dataloader, *, max_iter, epoch, batch):
    """Iterations of a run from ImageNet weights, a checkpoint an epoch, and images a step."""
    train.max_iter = train.eval_period = max_iter
    train.checkpointer.period = epoch
    train.init_backbone_only = True
    train.reference_batch_size = dataloader.train.total_batch_size = batch
    dataloader.train.num_workers = 4
