"""The stock FPN on TinyPerson: ResNet-50 with ImageNet weights, crops of the official tile size."""

from ..common.augmentation import oblique
from ..common.data import dataloader
from ..common.models.faster_rcnn import model
from ..common.schedule import sgd, warmup_steps
from ..common.train import train

model.roi_heads.num_classes = 1
# The official recipe keeps 200 detections a 640 x 512 tile; whole images hold six of them.
model.roi_heads.box_predictor.test_topk_per_image = 1200

dataloader.train.dataset.names = "tinyperson_train"
dataloader.test.dataset.names = "tinyperson_test"
dataloader.train.mapper.augmentations = oblique(size=(512, 640))
dataloader.train.num_workers = 8

optimizer = sgd(lr=0.01)  # for 8 images, as the published recipes for tiny objects scale it
# 12 epochs of six tiles an image = 746 x 6 / 8 x 12 iterations, steps after epochs 8 and 11.
train.max_iter = 6714
lr_multiplier = warmup_steps(train.max_iter, steps=[4476, 6155], warmup_iters=500)

train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
train.init_backbone_only = True
train.output_dir = "output/tinyperson/fpn_r50"
train.eval_period = train.checkpointer.period = 1679  # 3 epochs
