"""The stock FPN on TinyPerson: ResNet-50 with ImageNet weights, crops of the official tile size."""

from ..common.augmentation import oblique
from ..common.data import dataloader
from ..common.fine_tune import twelve_epochs
from ..common.models.faster_rcnn import model
from ..common.train import train

model.roi_heads.num_classes = 1
# The official recipe keeps 200 detections a 640 x 512 tile; whole images hold six of them.
model.roi_heads.box_predictor.test_topk_per_image = 1200

dataloader.train.dataset.names = "tinyperson_train"
dataloader.test.dataset.names = "tinyperson_test"
dataloader.train.mapper.augmentations = oblique(size=(512, 640))
dataloader.train.num_workers = 8

# An epoch shows six tiles of each of the 746 images.
optimizer, lr_multiplier = twelve_epochs(train, 746 * 6, "output/tinyperson/fpn_r50")
# The number that papers compare.
train.best_metric = "bbox/AP50_tiny"
