"""The detector that a command line describes: its model, tiles, augmentation and thresholds."""

import argparse
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.structures import Instances

from ..checkpoint import read_card
from ..inference.augmented import AugmentedPredictor
from ..inference.batch import BatchPredictor, Predict
from ..inference.predictors import category_ids, class_names, load_predictor
from ..inference.scene import Scene, read_whole
from ..inference.thresholds import keep_confident, score_thresholds
from ..inference.tiled import TiledPredictor
from ..mixed_precision import PRECISIONS
from ..tile_corners import OVERLAP

__all__ = ["Detector", "add_detector_options", "detector_settings", "load_detector"]

_BY_WINDOWS = "read it by windows, for example with --tile 1024 1024"
# What "scales" stands for in --tta, beside the size as it is.
_SCALES = (0.75, 1.5)
_TILES_AT_ONCE = 4


@dataclass(frozen=True)
class Detector:
    """Finds objects in images and scenes, from a score on.

    Attributes:
        predict: of images in memory.
        tiled: of scenes, by windows; None to read images whole.
        thresholds: the least score of each class.
        class_names: of the K classes.
        category_ids: of the K classes, in files.
        metadata: of the data set, or of the checkpoint.
        batch_size: images that go through the model at once.
    """

    predict: Predict
    tiled: TiledPredictor | None
    thresholds: Sequence[float]
    class_names: Sequence[str]
    category_ids: Sequence[int]
    metadata: Any
    batch_size: int

    def find(self, scenes: Sequence[Scene]) -> list[Instances]:
        """The detections in each of several images, on the CPU.

        Raises:
            OSError: a scene cannot be read.
            ValueError: without tiles, a scene is too large.
        """
        if self.tiled is not None:
            found = [self.tiled(scene) for scene in scenes]
        else:
            found = self.predict([read_whole(scene, _BY_WINDOWS) for scene in scenes])
        return [keep_confident(one.to("cpu"), self.thresholds) for one in found]


def add_detector_options(parser: argparse.ArgumentParser) -> None:
    """Add what `load_detector` reads, but for a score threshold."""
    parser.add_argument("--config-file", required=True, help="of the model: a .py or .yaml file")
    parser.add_argument("--weights", required=True, help="a checkpoint of train_net.py")
    parser.add_argument(
        "--tile",
        nargs=2,
        type=int,
        metavar=("WIDTH", "HEIGHT"),
        help="detect window by window; for images larger than the training crops",
    )
    parser.add_argument(
        "--overlap",
        nargs=2,
        type=int,
        metavar=("WIDTH", "HEIGHT"),
        help=f"pixels that neighbouring windows share [{OVERLAP[1]} {OVERLAP[0]}]",
    )
    parser.add_argument(
        "--whole-image", action="store_true", help="with --tile: also detect in the whole image"
    )
    parser.add_argument(
        "--tta",
        default="",
        metavar="LIST",
        help="test-time augmentation: flip, scales "
        f"({' and '.join(map(str, _SCALES))} times the size) or factors, as in flip,0.5,2",
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        help=f"windows or images at once [{_TILES_AT_ONCE} windows, 1 image]",
    )
    parser.add_argument("--device", help="such as cpu or cuda:1 [a GPU if there is one]")
    parser.add_argument("--precision", choices=list(PRECISIONS), default="float32")


def detector_settings(args: argparse.Namespace) -> dict[str, Any]:
    """What the detections depend on, as plain data."""
    # On the device and the number at once they depend within rounding only.
    options = ("tile", "overlap", "whole_image", "tta", "precision")
    return {
        "config file": _digest(args.config_file),
        "weights": _digest(args.weights),
        **{f"--{name.replace('_', '-')}": getattr(args, name) for name in options},
    }


def load_detector(
    args: argparse.Namespace, min_score: float | None, *, show_windows: bool = False
) -> Detector:
    """Build the model and what is around it.

    Args:
        args: of a parser with `add_detector_options`.
        min_score: the least score for all classes; None takes the checkpoint's thresholds.
        show_windows: with a progress bar of the windows of each image.

    Raises:
        OSError: a file is missing.
        ValueError: an option is out of its range, or the weights do not fit the config.
    """
    batch_size = args.batch_size
    if batch_size is None:
        batch_size = _TILES_AT_ONCE if args.tile else 1
    if batch_size < 1:
        raise ValueError(f"found --batch-size {batch_size}, expected 1 or more")
    if not args.tile and (args.overlap or args.whole_image):
        raise ValueError("--overlap and --whole-image belong to --tile, which is not given")
    factors, flip = _augmentation(args.tta)
    device = _device(args.device)
    predictor = load_predictor(args.config_file, args.weights)
    plain = BatchPredictor.from_default(predictor, device=device, precision=args.precision)
    predict: Predict = plain
    if flip or len(factors) > 1:
        predict = AugmentedPredictor(plain, flip=flip, scales=factors)
    tiled = None
    if args.tile:
        overlap = OVERLAP if args.overlap is None else tuple(args.overlap[::-1])
        tiled = TiledPredictor(
            predict,
            window=tuple(args.tile[::-1]),
            overlap=overlap,
            batch_size=batch_size,
            whole_image=args.whole_image,
            progress=show_windows,
        )
    num_classes = predictor.model.roi_heads.num_classes
    thresholds = score_thresholds(read_card(args.weights), num_classes, min_score)
    return Detector(
        predict,
        tiled,
        thresholds,
        class_names(predictor),
        category_ids(predictor.metadata, num_classes),
        predictor.metadata,
        batch_size,
    )


def _augmentation(text: str) -> tuple[list[float], bool]:
    """The scales and whether to mirror, of the option's words."""
    factors, flip = [1.0], False
    for word in filter(None, (word.strip() for word in text.split(","))):
        if word == "flip":
            flip = True
        elif word == "scales":
            factors += _SCALES
        else:
            try:
                factors.append(float(word))
            except ValueError:
                raise ValueError(
                    f"found --tta {word!r}, expected flip, scales or a factor such as 1.5"
                ) from None
    return list(dict.fromkeys(factors)), flip


def _device(name: str | None) -> str | None:
    if name is None:
        return None
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"found --device {name}, expected cpu, cuda or cuda:1") from error
    if device.type == "cuda":
        if not torch.cuda.is_available():
            raise ValueError(f"found --device {name}, but there is no GPU here that torch can use")
        if (device.index or 0) >= (number := torch.cuda.device_count()):
            raise ValueError(f"found --device {name}, expected cuda:0 to cuda:{number - 1}")
    return name


def _digest(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(2**20):
            digest.update(piece)
    return digest.hexdigest()
