"""The stock FPN on the embedded data set: ResNet-18 from scratch, narrow, for two CPU cores."""

from ..common.data import dataloader
from ..common.models.faster_rcnn import model
from ..common.parts import narrow, train_from_scratch, use_resnet
from ..common.schedule import adamw, warmup_cosine
from ..common.train import train

use_resnet(model, 18)
train_from_scratch(model)
# 64 channels and 256 units instead of 256 and 1,024 buy more iterations on a CPU.
narrow(model, channels=64, fc_dim=256)
# Scenes of 256 px hold tens of objects, not hundreds: fewer samples are enough, and faster.
model.proposal_generator.pre_nms_topk = (1000, 1000)
model.proposal_generator.post_nms_topk = (500, 500)
model.proposal_generator.batch_size_per_image = 256
model.roi_heads.batch_size_per_image = 128
model.roi_heads.box_predictor.test_topk_per_image = 300

dataloader.train.dataset.names = "tinyscenes_train"
dataloader.test.dataset.names = "tinyscenes_val"
dataloader.train.total_batch_size = train.reference_batch_size = 4

optimizer = adamw(lr=5e-4)
lr_multiplier = warmup_cosine(warmup=0.05)

train.output_dir = "output/tinyscenes/fpn_r18"
train.max_iter = 300
train.eval_period = 100
train.checkpointer.period = 300
train.clip_grad_norm = 10.0
