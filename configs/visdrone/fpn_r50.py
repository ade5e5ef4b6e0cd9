"""The stock FPN on VisDrone-DET: ResNet-50 with ImageNet weights, crops at native resolution."""

from ..common.augmentation import oblique
from ..common.data import dataloader
from ..common.fine_tune import twelve_epochs
from ..common.models.faster_rcnn import model
from ..common.train import train

model.roi_heads.num_classes = 10
# VisDrone's protocol scores 500 detections an image.
model.roi_heads.box_predictor.test_topk_per_image = 500

dataloader.train.dataset.names = "visdrone_train"
dataloader.test.dataset.names = "visdrone_val"
# Images reach 2,000 x 1,500 px: a crop keeps the scale, a resize would shrink tiny objects.
dataloader.train.mapper.augmentations = oblique(size=(800, 800))
dataloader.train.num_workers = 8

optimizer, lr_multiplier = twelve_epochs(train, 6471, "output/visdrone/fpn_r50")
