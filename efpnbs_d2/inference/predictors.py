"""From a checkpoint to a predictor that knows its class names and its input scale.

Both config systems have one: `DefaultPredictor(predictor_config(yaml, weights))` and
`LazyPredictor(config, weights)`. With the same weights they find the same.
"""

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, LazyConfig, get_cfg, instantiate
from detectron2.data import Metadata, MetadataCatalog
from detectron2.data import transforms as T
from detectron2.engine import DefaultPredictor
from detectron2.modeling import build_model
from detectron2.structures import Instances
from omegaconf import DictConfig

from ..checkpoint import Checkpointer, read_card
from ..config import add_efpnbs_config, is_lazy
from .batch import BatchPredictor

__all__ = ["LazyPredictor", "category_ids", "class_names", "load_predictor", "predictor_config"]


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
        ValueError: the file is no yacs config, or the checkpoint belongs to another model.
            `DefaultPredictor` would skip what does not fit and predict with random layers.
    """
    _require_file(config_file)
    card = read_card(weights)
    cfg = get_cfg()
    add_efpnbs_config(cfg)
    try:
        cfg.merge_from_file(str(config_file))
    except (KeyError, AssertionError, ValueError) as error:
        raise ValueError(f"{config_file}: {error.args[0]}") from error
    cfg.MODEL.WEIGHTS = str(weights)
    if not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    if card:
        names = card["class_names"]
        cfg.DATASETS.TEST = (_catalogue_entry(weights, card),)
        cfg.MODEL.ROI_HEADS.NUM_CLASSES = len(names)
        cfg.INPUT.FORMAT = card["input"]["format"]
        cfg.INPUT.MIN_SIZE_TEST = card["input"]["min_size_test"]
        cfg.INPUT.MAX_SIZE_TEST = card["input"]["max_size_test"]
    cfg.freeze()
    Checkpointer(build_model(cfg)).load(str(weights))
    return cfg


class LazyPredictor:
    """`DefaultPredictor` for a LazyConfig: the same call, the same attributes.

    The number of classes, the channel order and the test size are those of the checkpoint's card;
    weights without a card take the config's.

    Attributes:
        cfg: the completed config.
        model: in evaluation mode.
        metadata: its `thing_classes` are the class names.
        aug: resizes images for the model.
        input_format: the model's channel order, "BGR" or "RGB".
    """

    def __init__(self, config: str | Path | DictConfig, weights: str | Path):
        """
        Args:
            config: a LazyConfig with `model` and `dataloader.test`, or its file.
            weights: a checkpoint of `train_net.py`, from either config system.

        Raises:
            FileNotFoundError: the config or the checkpoint is missing.
            ValueError: the config defines no detector, or the checkpoint belongs to another model.
        """
        if isinstance(config, DictConfig):
            self.cfg = deepcopy(config)
        else:
            _require_file(config)
            self.cfg = LazyConfig.load(str(config))
        missing = [key for key in ("model", "dataloader") if key not in self.cfg]
        if missing:
            raise ValueError(
                f"the config defines no {', '.join(missing)}; import it as "
                "configs/tinyscenes/fpn_r18.py does"
            )
        card = read_card(weights)
        test = self.cfg.dataloader.test
        if card:
            names, scale = card["class_names"], card["input"]
            self.cfg.model.roi_heads.num_classes = len(names)
            self.metadata: Metadata = MetadataCatalog.get(_catalogue_entry(weights, card))
            self.input_format: str = scale["format"]
            self.aug: T.Augmentation = T.ResizeShortestEdge(
                [scale["min_size_test"]] * 2, scale["max_size_test"]
            )
        else:
            names = test.dataset.names
            self.metadata = MetadataCatalog.get(names if isinstance(names, str) else names[0])
            self.input_format = test.mapper.image_format
            self.aug = T.AugmentationList(instantiate(test.mapper.augmentations))
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = instantiate(self.cfg.model).to(device).eval()
        Checkpointer(self.model).load(str(weights))

    def __call__(self, image: np.ndarray) -> dict[str, Instances]:
        """Detect objects in one image; `BatchPredictor.from_default` takes several at once.

        Args:
            image: H x W x 3, BGR, uint8.

        Returns:
            Under "instances" the detections, boxes xyxy in the image's pixels.

        Raises:
            ValueError: an array of another kind.
        """
        (found,) = BatchPredictor.from_default(self)([image])
        return {"instances": found}


def load_predictor(config_file: str | Path, weights: str | Path) -> Any:
    """`LazyPredictor` for a LazyConfig, `DefaultPredictor` for a yacs config.

    Raises:
        FileNotFoundError, ValueError: see `LazyPredictor` and `predictor_config`.
    """
    _require_file(config_file)
    if is_lazy(config_file):
        return LazyPredictor(config_file, weights)
    return DefaultPredictor(predictor_config(config_file, weights))


def class_names(predictor: Any) -> list[str]:
    """The names of a predictor's classes, or "class 0" and so on where nothing tells them."""
    number = predictor.model.roi_heads.num_classes
    return predictor.metadata.get("thing_classes") or [f"class {i}" for i in range(number)]


def category_ids(metadata: Any, num_classes: int) -> list[int]:
    """What each class is called by in files for other programs.

    Args:
        metadata: of a data set that was loaded, or of a predictor, which has its checkpoint's.
        num_classes: K.

    Returns:
        K numbers: the classes' ids in the annotations, or 1 to K where these are not known.
    """
    index_of = metadata.get("thing_dataset_id_to_contiguous_id") or {}
    id_of = {index: number for number, index in index_of.items()}
    if id_of.keys() != set(range(num_classes)):
        return list(range(1, num_classes + 1))
    return [id_of[index] for index in range(num_classes)]


def _require_file(config_file: str | Path) -> None:
    if not Path(config_file).is_file():
        raise FileNotFoundError(f"config file {config_file} not found")


def _catalogue_entry(weights: str | Path, card: Mapping[str, Any]) -> str:
    """Name of a catalogue entry with the checkpoint's classes."""
    names = card["class_names"]
    # A name of its own: the catalogue's entry for a data set cannot be changed once set.
    entry = f"{Path(weights).resolve()}:{len(names)}"
    MetadataCatalog.pop(entry, None)
    MetadataCatalog.get(entry).set(
        thing_classes=names,
        # Checkpoints of earlier versions have none.
        thing_dataset_id_to_contiguous_id={
            number: index for index, number in enumerate(card.get("category_ids", []))
        },
    )
    return entry
