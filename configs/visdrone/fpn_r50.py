"""The stock FPN on VisDrone-DET: ResNet-50 with ImageNet weights, crops at native resolution."""

from ..common.augmentation import oblique
from ..common.data import dataloader
from ..common.models.faster_rcnn import model
from ..common.schedule import sgd, warmup_steps
from ..common.train import train

model.roi_heads.num_classes = 10
# VisDrone's protocol scores 500 detections an image.
model.roi_heads.box_predictor.test_topk_per_image = 500

dataloader.train.dataset.names = "visdrone_train"
dataloader.test.dataset.names = "visdrone_val"
# Images reach 2,000 x 1,500 px: a crop keeps the scale, a resize would shrink tiny objects.
dataloader.train.mapper.augmentations = oblique(size=(800, 800))
dataloader.train.num_workers = 8

optimizer = sgd(lr=0.01)  # for 8 images, as the published recipes for tiny objects scale it
# 12 epochs = 6,471 / 8 x 12 iterations, steps after epochs 8 and 11.
train.max_iter = 9707
lr_multiplier = warmup_steps(train.max_iter, steps=[6471, 8898], warmup_iters=500)

train.init_checkpoint = "detectron2://ImageNetPretrained/MSRA/R-50.pkl"
train.init_backbone_only = True
train.output_dir = "output/visdrone/fpn_r50"
train.eval_period = train.checkpointer.period = 2427  # 3 epochs
