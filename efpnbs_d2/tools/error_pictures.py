"""Images with a detector's errors: whole, and enlarged where the errors are densest.

Shapes: images H x W x 3, BGR uint8; boxes xywh in pixels of the original image.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from detectron2.data.detection_utils import read_image
from PIL.Image import DecompressionBombError

from ..evaluation.analysis.image_errors import ImageBoxes
from ..image_files import IMAGE_SUFFIXES, locate_images
from ..inference.drawing import outline_boxes
from .sample_pictures import crowded_corner

__all__ = ["LEGEND", "densest_errors", "enlarged", "grey_image", "open_image", "whole_image"]

# x, y, width and height of a part of an image, in its pixels.
Window = tuple[int, int, int, int]

# Okabe and Ito's colours, which people with any kind of colour vision tell apart.
_RIGHT, _FALSE, _MISSED = (233, 180, 86), (0, 94, 213), (66, 228, 240)
_IGNORED, _ENLARGED = (170, 170, 170), (255, 255, 255)
LEGEND = (
    ("missed object", _MISSED),
    ("false positive", _FALSE),
    ("true positive", _RIGHT),
    ("ignored: neither right nor wrong", _IGNORED),
    ("part that is enlarged", _ENLARGED),
)
_LONGEST_SIDE = 800  # pixels of a picture on the page
_GREY = 48
_LARGEST_PLANE = 4000  # pixels; a detection may lie anywhere
# A side of the enlarged part: so many times the median side of the boxes in error, within limits.
_TIMES_OBJECT, _SMALLEST, _LARGEST = 16, 150, 600


def open_image(folder: Path, name: str, size: tuple[int, int]) -> np.ndarray:
    """The image of that name, or of that name and an image's suffix.

    Args:
        folder: holds the images.
        name: as in the annotations.
        size: height and width in the annotations; 0 where unknown.

    Raises:
        ValueError: it is not there, cannot be read, or has another size.
    """
    names = [name, *(name + suffix for suffix in IMAGE_SUFFIXES)]
    found = locate_images(names, [str(folder)])
    if not found:
        raise ValueError(f"image {name} not found in {folder}")
    path = next(iter(found.values()))
    try:
        image = read_image(path, "BGR")
    except (ValueError, OSError, SyntaxError, DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error
    if all(size) and image.shape[:2] != tuple(size):
        raise ValueError(
            f"{path} has {image.shape[1]} x {image.shape[0]} px, its annotations say "
            f"{size[1]} x {size[0]}"
        )
    return np.ascontiguousarray(image)


def grey_image(runs: Sequence[ImageBoxes]) -> np.ndarray:
    """A grey plane in place of the image of the runs' boxes, large enough for them if the image's
    size is unknown."""
    height, width = runs[0].size
    if not (height and width):
        every = np.vstack([p for boxes in runs for p in (boxes.found_boxes, boxes.true_boxes)])
        ends = (every[:, :2] + every[:, 2:]).max(axis=0, initial=1)
        width, height = np.ceil(np.clip(ends, 1, _LARGEST_PLANE)).astype(int).tolist()
    return np.full((height, width, 3), _GREY, np.uint8)


def densest_errors(shape: tuple[int, ...], runs: Sequence[ImageBoxes]) -> Window:
    """The part of the image that holds most errors of all runs together.

    Args:
        shape: height and width of the image, and what follows.
        runs: boxes of the same image, from one detector each.
    """
    errors = np.vstack(
        [
            part
            for boxes in runs
            for part in (
                boxes.found_boxes[boxes.found_state == 0],
                boxes.true_boxes[boxes.true_state == 0],
            )
        ]
    )
    median = np.median(np.sqrt(errors[:, 2] * errors[:, 3])) if len(errors) else 0.0
    side = int(np.clip(_TIMES_OBJECT * median, _SMALLEST, _LARGEST))
    height, width = (min(side, length) for length in shape[:2])
    x, y = crowded_corner(errors[:, :2] + errors[:, 2:] / 2, width, height, shape)
    return x, y, width, height


def whole_image(image: np.ndarray, boxes: ImageBoxes, window: Window) -> np.ndarray:
    """The whole image, made smaller if it is large, with a frame around the window."""
    factor = min(1.0, _LONGEST_SIDE / max(image.shape[:2]))
    picture = _resized(image, factor) if factor < 1 else image.copy()
    _draw(picture, boxes, np.zeros(2), factor, 1)
    x, y, width, height = window
    if (height, width) != image.shape[:2]:
        frame = np.array([[x, y, x + width, y + height]]) * factor
        outline_boxes(picture, frame, [(0, 0, 0)], 4)
        outline_boxes(picture, frame, [_ENLARGED], 2)
    return picture


def enlarged(image: np.ndarray, boxes: ImageBoxes, window: Window) -> np.ndarray:
    """What the window shows of the image, enlarged."""
    x, y, width, height = window
    factor = max(1.0, _LONGEST_SIDE / max(width, height))
    picture = _resized(image[y : y + height, x : x + width], factor)
    _draw(picture, boxes, np.array([x, y]), factor, 2)
    return picture


def _resized(image: np.ndarray, factor: float) -> np.ndarray:
    kind = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    size = [max(1, round(side * factor)) for side in image.shape[1::-1]]
    return cv2.resize(image, size, interpolation=kind)


def _draw(
    picture: np.ndarray, boxes: ImageBoxes, corner: np.ndarray, factor: float, line: int
) -> None:
    """Errors last, where nothing covers them. A found object is drawn as it was detected."""
    found, true = boxes.found_boxes, boxes.true_boxes
    layers: Sequence[tuple[np.ndarray, tuple[int, int, int]]] = (
        (true[boxes.true_state == 2], _IGNORED),
        (found[boxes.found_state == 2], _IGNORED),
        (found[boxes.found_state == 1], _RIGHT),
        (found[boxes.found_state == 0], _FALSE),
        (true[boxes.true_state == 0], _MISSED),
    )
    for xywh, color in layers:
        corners = np.hstack([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]])
        shifted = (corners - np.tile(corner, 2)) * factor
        # Beyond 16 bits OpenCV's drawing overflows; such boxes end far outside all the same.
        outline_boxes(picture, np.clip(shifted, -9999, 9999), [color] * len(xywh), line)
