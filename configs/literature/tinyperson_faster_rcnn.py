"""Faster R-CNN on TinyPerson's tiles: published with 47.35 AP50 of tiny objects.

Anchors, tiles, erased regions, rate, batch, length and detections are the published ones. Assumed
are maskrcnn-benchmark's defaults: warm-up over 500 iterations from a third of the rate, twice the
rate for biases, smooth L1, no anchors across the border, flips, 1,000 proposals, score above 0.05.
"""

from ..common.data import dataloader
from ..common.models.faster_rcnn import model
from ..common.published import run_length, stock_heads
from ..common.schedule import sgd, warmup_steps
from ..common.train import train

stock_heads(model, num_classes=1)
model.proposal_generator.anchor_generator.update(
    sizes=[[8.31], [12.5], [18.55], [30.23], [60.41]], aspect_ratios=[0.5, 1.3, 2.0]
)
model.proposal_generator.update(
    anchor_boundary_thresh=0,
    pre_nms_topk=(2000, 1000),
    post_nms_topk=(1000, 1000),
    smooth_l1_beta=1.0 / 9,
)
# Detections of a tile; evaluation merges the tiles of an image.
model.roi_heads.box_predictor.update(smooth_l1_beta=1.0, test_topk_per_image=200)

dataloader.train.dataset.names = "tinyperson_tiles_train"
dataloader.test.dataset.names = "tinyperson_tiles_test"
dataloader.train.mapper.ignore = "erase"

# 12 epochs of 1,603 iterations.
run_length(train, dataloader, max_iter=19236, epoch=1603, batch=2)
train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
train.output_dir = "output/literature/tinyperson_faster_rcnn"
train.best_metric = "bbox/AP50_tiny"

optimizer = sgd(lr=0.01)
optimizer.params.base_lr = "${..lr}"
optimizer.params.bias_lr_factor = 2.0
optimizer.params.weight_decay_bias = 0.0
lr_multiplier = warmup_steps(19236, [6 * 1603, 10 * 1603], warmup_iters=500)
lr_multiplier.warmup_factor = 1.0 / 3
