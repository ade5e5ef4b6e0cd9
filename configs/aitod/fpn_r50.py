"""The stock FPN on AI-TOD v2: ResNet-50 with ImageNet weights, 800 px tiles as they are."""

from ..common.augmentation import nadir
from ..common.data import dataloader
from ..common.fine_tune import twelve_epochs
from ..common.models.faster_rcnn import model
from ..common.train import train

dataloader.train.dataset.names = "aitod_v2_trainval"
dataloader.test.dataset.names = "aitod_v2_test"
dataloader.train.mapper.augmentations = nadir(size=(800, 800))
dataloader.train.num_workers = 8

optimizer, lr_multiplier = twelve_epochs(train, 14018, "output/aitod/fpn_r50")
