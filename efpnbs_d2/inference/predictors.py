"""From a checkpoint to a predictor that knows its class names and its input scale."""

from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data import MetadataCatalog

from ..config import add_efpnbs_config

# Where a checkpoint says what it is: class names and input scale.
CARD_KEY = "efpnbs_d2"


def read_card(path: str | Path) -> dict[str, Any]:
    """The card of a checkpoint: `class_names` (list of str) and `input` (format, test sizes in px).

    Returns an empty dict for a checkpoint that another program wrote.

    Raises:
        FileNotFoundError: there is no such file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"checkpoint {path} not found")
    if Path(path).suffix != ".pth":
        return {}
    return torch.load(path, map_location="cpu", mmap=True).get(CARD_KEY, {})


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
    return cfg
