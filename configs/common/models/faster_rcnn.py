"""Faster R-CNN on the stock FPN, set up for tiny objects: the baseline of every comparison.

ResNet-50 with ImageNet weights (FrozenBN, two frozen stages); `parts.py` holds what others change.
"""

from detectron2 import model_zoo

from efpnbs_d2.modeling import (
    IgnoringROIHeads,
    IgnoringRPN,
    NWDFastRCNNOutputLayers,
    TinyObjectRCNN,
)

model = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model
model._target_ = TinyObjectRCNN
for key in ("mask_in_features", "mask_pooler", "mask_head"):
    model.roi_heads.pop(key)

# ImageNet weights are fine-tuned with their statistics and first two stages left alone.
model.backbone.bottom_up.freeze_at = 2

rpn, predictor = model.proposal_generator, model.roi_heads.box_predictor

# The stock parts would take ignored regions for background.
rpn._target_ = IgnoringRPN
model.roi_heads._target_ = IgnoringROIHeads
# The stock one, with one more box loss to choose.
predictor._target_ = NWDFastRCNNOutputLayers

# Anchors of 8..128 px instead of 32..512: AI-TOD's mean object is 12.8 px, and an anchor of 32 px
# has at most IoU 0.16 with it.
rpn.anchor_generator.sizes = [[8], [16], [32], [64], [128]]
# 3,000 proposals instead of 1,000: a VisDrone image holds up to 902 objects, and each needs
# several proposals to be found. Source: the published AI-TOD recipes.
rpn.pre_nms_topk = (3000, 3000)
rpn.post_nms_topk = (3000, 3000)
# 512 anchors and 1,024 proposals are sampled, so that 256 of each can be positive instead of 128.
rpn.batch_size_per_image = 512
model.roi_heads.batch_size_per_image = 1024
# 1,500 detections instead of 100: AI-TOD's detection limit. A data set's config sets its own.
predictor.test_topk_per_image = 1500
# AP is measured on the whole ranking; the stock 0.05 cuts its tail off.
predictor.test_score_thresh = 0.01
# With the stock beta of 0 (plain L1) every box has the same gradient, whatever its error.
predictor.smooth_l1_beta = 1.0 / 9
rpn.smooth_l1_beta = 1.0 / 9

model.roi_heads.num_classes = 8  # AI-TOD's classes, which tinyscenes has too
