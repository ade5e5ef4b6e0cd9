"""From a checkpoint to a predictor that knows its class names and its input scale."""

from pathlib import Path

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import MetadataCatalog
from detectron2.modeling import build_model

from ..checkpoint import Checkpointer, read_card
from ..config import add_efpnbs_config


def predictor_config(config_file: str | Path, weights: str | Path) -> CfgNode:
    """The yacs config for `DefaultPredictor`, completed from the checkpoint's card.

    The number of classes, the channel order and the test sizes are those that the checkpoint was
    trained with, and `DefaultPredictor(cfg).metadata.thing_classes` are its class names, also on a
    machine that has no data set.

    Args:
        config_file: one of `configs/yacs/`, or your own YAML.
        weights: a checkpoint of `train_net.py`, from either config system.

    Raises:
        FileNotFoundError: the config or the checkpoint is missing.
        ValueError: the checkpoint belongs to another model. `DefaultPredictor` would skip what
            does not fit and predict with random layers.
    """
    if not Path(config_file).is_file():
        raise FileNotFoundError(f"config file {config_file} not found")
    card = read_card(weights)
    cfg = get_cfg()
    add_efpnbs_config(cfg)
    cfg.merge_from_file(str(config_file))
    cfg.MODEL.WEIGHTS = str(weights)
    if not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    if card:
        names = card["class_names"]
        # A name of its own: the catalogue's entry for a data set cannot be changed once set.
        entry = f"{Path(weights).resolve()}:{len(names)}"
        MetadataCatalog.pop(entry, None)
        MetadataCatalog.get(entry).set(thing_classes=names)
        cfg.DATASETS.TEST = (entry,)
        cfg.MODEL.ROI_HEADS.NUM_CLASSES = len(names)
        cfg.INPUT.FORMAT = card["input"]["format"]
        cfg.INPUT.MIN_SIZE_TEST = card["input"]["min_size_test"]
        cfg.INPUT.MAX_SIZE_TEST = card["input"]["max_size_test"]
    cfg.freeze()
    Checkpointer(build_model(cfg)).load(str(weights))
    return cfg
