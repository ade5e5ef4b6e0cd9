"""The stock FPN on a few hundred VisDrone images, on a CPU: ResNet-18 from scratch, small crops."""

from ..common.augmentation import crop_and_flip
from ..common.parts import narrow, train_from_scratch, use_resnet
from ..common.schedule import adamw, warmup_cosine
from .fpn_r50 import dataloader, model, train

use_resnet(model, 18)
train_from_scratch(model)
narrow(model, channels=64, fc_dim=256)
model.proposal_generator.post_nms_topk = (500, 1000)
model.roi_heads.batch_size_per_image = 128

dataloader.train.mapper.augmentations = crop_and_flip(size=(256, 256), object_prob=0.9)
dataloader.train.total_batch_size = 4
dataloader.train.num_workers = dataloader.test.num_workers = 2

optimizer = adamw(lr=5e-4)
lr_multiplier = warmup_cosine(warmup=0.05)

train.init_checkpoint = ""
train.init_backbone_only = False
train.clip_grad_norm = 35.0
train.max_iter = 800
train.eval_period = train.checkpointer.period = 800
train.output_dir = "output/visdrone/mini_fpn_r18"
