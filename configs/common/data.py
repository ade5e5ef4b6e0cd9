"""Loaders without their data set: a config sets names, crops and batch size."""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L
from detectron2.data import build_detection_test_loader, get_detection_dataset_dicts
from omegaconf import OmegaConf

from efpnbs_d2.data.mapper import TinyObjectMapper
from efpnbs_d2.data.train_loader import TrainLoader

dataloader = OmegaConf.create()

dataloader.train = L(TrainLoader)(
    dataset=L(get_detection_dataset_dicts)(names="???"),
    mapper=L(TinyObjectMapper)(
        is_train=True,
        augmentations=[L(T.RandomFlip)(horizontal=True)],
        image_format="BGR",
        ignore="no_loss",
    ),
    total_batch_size=8,
    num_workers=2,
)

dataloader.test = L(build_detection_test_loader)(
    dataset=L(get_detection_dataset_dicts)(names="???", filter_empty=False),
    mapper=L(TinyObjectMapper)(
        is_train=False,
        augmentations=[],  # native resolution: shrinking makes tiny objects vanish
        image_format="${...train.mapper.image_format}",
    ),
    num_workers=2,
)
