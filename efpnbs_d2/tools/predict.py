"""Detect objects in images: `python -m efpnbs_d2.tools.predict --help`.

IMAGES are files or folders. Writes a picture an image and one `detections.json`.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
from detectron2.data.detection_utils import read_image
from detectron2.engine import DefaultPredictor
from detectron2.structures import Instances
from PIL import Image
from tqdm import tqdm

from ..atomic import write_atomically
from ..inference.drawing import draw_detections
from ..inference.predictors import predictor_config

IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; 0 when every image was read, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m efpnbs_d2.tools.predict", description="Detect objects in images."
    )
    parser.add_argument("images", nargs="+", type=Path, help="image files, or folders of them")
    parser.add_argument("--config-file", required=True, help="one of configs/yacs/")
    parser.add_argument("--weights", required=True, help="a checkpoint of train_net.py")
    parser.add_argument("--output", type=Path, default=Path("output/predict"))
    parser.add_argument("--min-score", type=float, default=0.5, help="of what is written [0.5]")
    args = parser.parse_args(argv)
    try:
        files = list_images(args.images)
        predictor = DefaultPredictor(predictor_config(args.config_file, args.weights))
        failed = predict(predictor, files, args.output, args.min_score)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{len(files) - len(failed)} of {len(files)} images: {args.output}")
    for message in failed:
        print(f"error: {message}", file=sys.stderr)
    return 1 if failed else 0


def list_images(paths: Sequence[Path]) -> list[Path]:
    """The files named, and all images in the folders named, sorted within each folder.

    Raises:
        FileNotFoundError: a path does not exist.
        ValueError: a folder holds no image.
    """
    files: list[Path] = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"{path} not found")
        found = [path]
        if path.is_dir():
            found = sorted(p for p in path.rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
            if not found:
                raise ValueError(f"{path} holds no image ({' '.join(sorted(IMAGE_SUFFIXES))})")
        files += found
    return files


def predict(
    predictor: DefaultPredictor, files: Sequence[Path], output: Path, min_score: float
) -> list[str]:
    """Write `output`/pictures/*.png and `output`/detections.json.

    The JSON lists, for each detection: `image` (path), `category` (name), `category_id` (from 0),
    `bbox` (x, y, width, height in the image's pixels) and `score`.

    Returns:
        One sentence for each image that could not be read; the others are written all the same.

    Raises:
        OSError: the output cannot be written.
    """
    names = predictor.metadata.thing_classes
    pictures = output / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    records: list[dict[str, Any]] = []
    failed = []
    for number, file in enumerate(tqdm(files, unit="image", dynamic_ncols=True)):
        try:
            image = read_image(str(file), format="BGR")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            failed.append(f"cannot read {file}: {error}")
            continue
        found = predictor(image)["instances"].to("cpu")
        found = found[found.scores >= min_score]
        records += _records(file, found, names)
        drawn = draw_detections(image, found, names, min_score=min_score, title=file.name)
        # Numbered: files of different folders may share a name.
        picture = cv2.imencode(".png", drawn)[1].tobytes()
        _write(pictures / f"{number:05d}_{file.stem}.png", picture)
    _write(output / "detections.json", json.dumps(records, indent=1).encode())
    return failed


def _write(target: Path, content: bytes) -> None:
    write_atomically(target, lambda file: file.write(content))


def _records(file: Path, found: Instances, names: Sequence[str]) -> list[dict[str, Any]]:
    boxes = found.pred_boxes.tensor.clone()
    boxes[:, 2:] -= boxes[:, :2]
    return [
        {
            "image": str(file),
            "category": names[index],
            "category_id": index,
            "bbox": [round(value, 2) for value in box],
            "score": round(score, 4),
        }
        for box, index, score in zip(
            boxes.tolist(), found.pred_classes.tolist(), found.scores.tolist(), strict=True
        )
    ]


if __name__ == "__main__":
    sys.exit(main())
