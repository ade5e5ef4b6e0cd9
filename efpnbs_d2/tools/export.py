"""Write a detector to one file that runs without Detectron2, and check it by running it.

python -m efpnbs_d2.tools.export --config-file C --weights W --format onnx --output FILE
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import transforms as T
from detectron2.data.detection_utils import read_image
from PIL import Image
from tabulate import tabulate

from ..atomic import write_atomically
from ..checkpoint import read_card
from ..data.tinyscenes import generate_scene
from ..inference.export import export_onnx, export_torchscript
from ..inference.export_check import (
    BOX_TOLERANCE,
    SCORE_TOLERANCE,
    Agreement,
    check_export,
    varied,
)
from ..inference.predictors import load_predictor

_EXPORTS = {"torchscript": export_torchscript, "onnx": export_onnx}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 when the file was written, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m efpnbs_d2.tools.export",
        description="Write a detector to one file that runs without Detectron2.",
    )
    parser.add_argument("--config-file", required=True, help="of the model: a .py or .yaml file")
    parser.add_argument("--weights", required=True, help="a checkpoint of train_net.py")
    parser.add_argument("--format", required=True, choices=list(_EXPORTS))
    parser.add_argument("--output", required=True, type=Path, metavar="FILE")
    parser.add_argument(
        "--sample",
        type=Path,
        metavar="IMAGE",
        help="an image with objects, to trace and to check with [a synthetic scene]",
    )
    parser.add_argument(
        "--no-check", action="store_true", help="do not compare the file with the model"
    )
    args = parser.parse_args(argv)
    try:
        export(args)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"written: {args.output}")
    return 0


def export(args: argparse.Namespace) -> None:
    """Write `args.output`, after the check if there is one.

    Raises:
        ValueError: there is no ONNX here, the weights do not fit the config, nothing is detected
            in the sample, or the file finds other objects than the model.
        OSError: a file cannot be read or written.
    """
    _require_packages(args.format)
    predictor = load_predictor(args.config_file, args.weights)
    model, image_format = predictor.model.cpu(), predictor.input_format
    sample = _read_sample(args.sample, predictor.aug)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "exported")
        print(f"exporting, with a sample of {sample.shape[1]} x {sample.shape[0]} px")
        card = _card(args.weights)
        _EXPORTS[args.format](model, sample, image_format, card, file)
        if not args.no_check:
            print("running the file, and the model, on images of several sizes")
            images = varied(sample)
            agreements = check_export(model, image_format, file, args.format, images)
            print(_table(agreements))
            _require_agreement(agreements)
        content = file.read_bytes()
    write_atomically(args.output, lambda stream: stream.write(content))


def _require_packages(file_format: str) -> None:
    packages = ("onnx", "onnxruntime") if file_format == "onnx" else ()
    missing = [package for package in packages if find_spec(package) is None]
    if missing:
        raise ValueError(
            f"--format onnx needs {' and '.join(missing)}, not installed here: "
            f"pip install {' '.join(missing)}"
        )


def _read_sample(path: Path | None, resize: T.Augmentation) -> np.ndarray:
    """The image, or a synthetic scene, at the test scale; BGR."""
    if path is None:
        image, _ = generate_scene(0)
    else:
        try:
            image = read_image(str(path), format="BGR")
        except (SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise ValueError(f"cannot read {path}: {error}") from error
    resized = T.AugInput(image)
    resize(resized)
    return np.ascontiguousarray(resized.image)


def _card(weights: str) -> dict[str, Any]:
    """What a user of the file has to know."""
    card = read_card(weights)
    if not card:
        raise ValueError(
            f"{weights} has no card (class names and input scale), expected a checkpoint of "
            "train_net.py"
        )
    # Checkpoints of earlier versions have no ids.
    classes: dict[str, Any] = {k: card[k] for k in ("class_names", "category_ids") if k in card}
    scale = {key: card["input"][key] for key in ("min_size_test", "max_size_test")}
    return {**classes, **scale}


def _table(agreements: Sequence[Agreement]) -> str:
    headers = ("image", "model", "file", "unmatched", "boxes differ [px]", "scores differ")
    rows = [
        (f"{a.width} x {a.height}", a.expected, a.found, a.unmatched, f"{a.box:.1e}", a.score)
        for a in agreements
    ]
    return tabulate(rows, headers, tablefmt="github", floatfmt=".1e")


def _require_agreement(agreements: Sequence[Agreement]) -> None:
    wrong = [f"{a.width} x {a.height}" for a in agreements if not a.holds]
    if wrong:
        raise ValueError(
            f"the file and the model do not find the same in {len(wrong)} of {len(agreements)} "
            f"images ({', '.join(wrong)} px): allowed are {BOX_TOLERANCE} px and "
            f"{SCORE_TOLERANCE} in scores, and none unmatched; nothing was written"
        )


if __name__ == "__main__":
    sys.exit(main())
