"""The stock FPN on AI-TOD v2: ResNet-50 with ImageNet weights, 800 px tiles as they are."""

from ..common.augmentation import nadir
from ..common.data import dataloader
from ..common.models.faster_rcnn import model
from ..common.schedule import sgd, warmup_steps
from ..common.train import train

dataloader.train.dataset.names = "aitod_v2_trainval"
dataloader.test.dataset.names = "aitod_v2_test"
dataloader.train.mapper.augmentations = nadir(size=(800, 800))
dataloader.train.num_workers = 8

optimizer = sgd(lr=0.01)  # for 8 images, as the published recipes for tiny objects scale it
# 12 epochs = 14,018 / 8 x 12 iterations, steps after epochs 8 and 11.
train.max_iter = 21027
lr_multiplier = warmup_steps(train.max_iter, steps=[14018, 19275], warmup_iters=500)

train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
train.init_backbone_only = True
train.output_dir = "output/aitod/fpn_r50"
train.eval_period = train.checkpointer.period = 5257  # 3 epochs
