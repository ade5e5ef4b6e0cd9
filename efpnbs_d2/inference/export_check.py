"""Whether an exported file finds what the detector finds.

Shapes: images are H x W x 3, BGR, uint8; R detections, boxes R x 4, xyxy in the image's pixels.
"""

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from detectron2.modeling import GeneralizedRCNN

from . import run_exported
from .export import OUTPUTS, detect_at_size

__all__ = ["BOX_TOLERANCE", "SCORE_TOLERANCE", "Agreement", "check_export", "compare", "varied"]

# Pixels by which a corner may differ, and a score.
BOX_TOLERANCE = 1e-2
SCORE_TOLERANCE = 1e-4
# Detections further apart are two different ones.
_SAME = 1.0


@dataclass(frozen=True)
class Agreement:
    """How the detections of a file and of its model agree on one image.

    Attributes:
        height: of the image in pixels, like `width`.
        width: of the image.
        expected: number of the model's detections.
        found: number of the file's.
        unmatched: detections of either without a partner in the other.
        box: largest difference of a coordinate between partners, in pixels.
        score: largest difference between partners' scores.
    """

    height: int
    width: int
    expected: int
    found: int
    unmatched: int
    box: float
    score: float

    @property
    def holds(self) -> bool:
        """Whether all are matched one to one, within the tolerances."""
        close = self.box <= BOX_TOLERANCE and self.score <= SCORE_TOLERANCE
        return self.unmatched == 0 and close


def varied(image: np.ndarray) -> list[np.ndarray]:
    """An image in other sizes: tall and wide, of odd sides, less than 64 px; the first as it is."""
    height, width = image.shape[:2]
    turned = image.transpose(1, 0, 2)
    return [
        image,
        turned,
        image[: height * 2 // 3 | 1],
        turned[: width // 2 | 1],
        image[:61, :45],
    ]


def check_export(
    model: GeneralizedRCNN,
    image_format: str,
    file: Path,
    file_format: str,
    images: Sequence[np.ndarray],
) -> list[Agreement]:
    """Run a file in a process of its own, and its model, on the same images.

    Args:
        model: in evaluation mode, on the CPU.
        image_format: channel order of its input, "BGR" or "RGB".
        file: what was exported.
        file_format: "torchscript" or "onnx".
        images: of any sizes.

    Returns:
        One `Agreement` an image.

    Raises:
        ValueError: the file does not run.
    """
    images = [np.ascontiguousarray(image) for image in images]
    agreements = []
    for image, found in zip(images, _run(file, file_format, images), strict=True):
        with torch.no_grad():
            expected = detect_at_size(model, torch.tensor(image), image_format)
        agreements.append(compare(image.shape[:2], [x.numpy() for x in expected], found))
    return agreements


def compare(
    size: tuple[int, ...], expected: Sequence[np.ndarray], found: Sequence[np.ndarray]
) -> Agreement:
    """Pair detections of one class, each with the nearest that is left, the best scores first.

    Args:
        size: (height, width) of the image in pixels.
        expected: boxes, scores and classes, best first.
        found: the same.
    """
    boxes, scores, classes = found
    free = np.ones(len(boxes), dtype=bool)
    differences = []
    for box, score, label in zip(*expected, strict=True):
        candidates = np.flatnonzero(free & (classes == label))
        distances = np.abs(boxes[candidates] - box).max(axis=1)
        if not len(candidates) or not distances.min() <= _SAME:
            continue
        nearest = candidates[distances.argmin()]
        free[nearest] = False
        differences.append((distances.min(), abs(scores[nearest] - score)))
    unmatched = len(expected[0]) + len(boxes) - 2 * len(differences)
    counts = len(expected[0]), len(boxes), unmatched
    largest = np.array([(0.0, 0.0), *differences]).max(axis=0)
    return Agreement(size[0], size[1], *counts, *largest.tolist())


def _run(file: Path, file_format: str, images: Sequence[np.ndarray]) -> list[list[np.ndarray]]:
    with tempfile.TemporaryDirectory() as folder:
        given, results = Path(folder, "images.npz"), Path(folder, "results.npz")
        np.savez(given, **{str(number): image for number, image in enumerate(images)})
        command = [sys.executable, run_exported.__file__, file_format, file, given, results]
        process = subprocess.run(list(map(str, command)), capture_output=True, text=True)
        if process.returncode:
            reason = (process.stderr.strip().splitlines() or ["without a message"])[-1]
            raise ValueError(f"the exported file does not run: {reason}")
        with np.load(results) as arrays:
            return [[arrays[f"{n}.{name}"] for name in OUTPUTS] for n in range(len(images))]
