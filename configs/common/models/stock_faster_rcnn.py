"""Detectron2's own Faster R-CNN on FPN, untouched: what one gets without this package.

Anchors of 32..512 px by IoU, 1,000 proposals, 100 detections above a score of 0.05.
"""

from detectron2 import model_zoo

model = model_zoo.get_config("common/models/mask_rcnn_fpn.py").model
for key in ("mask_in_features", "mask_pooler", "mask_head"):
    model.roi_heads.pop(key)
model.backbone.bottom_up.freeze_at = 2
