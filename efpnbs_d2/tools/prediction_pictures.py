"""Pictures of what was found, readable with hundreds of objects of a few pixels.

Shapes: R detections. Images are H x W x 3, BGR uint8; boxes xyxy in pixels of the original image,
"shown" ones in pixels of the picture.
"""

from collections.abc import Sequence

import cv2
import numpy as np

from ..inference.drawing import FONT, class_color, crowded_corners, legend, outline_boxes
from ..inference.scene import ArrayScene, Scene
from ..tile_corners import Corner

__all__ = ["crowded_windows", "draw_crowd", "draw_frame"]

# Pixels of the longer side: a larger image is reduced, a small one magnified.
_LONGEST, _LEAST = 2000, 1280
_MAX_ZOOM = 8
# Objects of this many pixels are large enough to be looked at without a close-up.
_READABLE = 26
_CLOSE_UPS, _FEWEST_OBJECTS = 3, 6
_GAP = 8
_LETTERS = "ABC"
# Digits that a frame's counts have room for, so that all legends of a video are of one height.
_WIDEST_COUNT = 9999


def draw_crowd(
    image: np.ndarray | Scene,
    boxes: np.ndarray,
    classes: Sequence[int],
    class_names: Sequence[str],
    title: str = "",
) -> np.ndarray:
    """The whole image with a thin box around each object, a legend, and close-ups at its right.

    A close-up shows where objects too small to be seen well are closest together; frames with
    letters say where it is.

    Args:
        image: of any size; of a scene, only what is shown is read.
        boxes: R x 4.
        classes: R indices.
        class_names: one name a class.
        title: first line of the legend.

    Returns:
        A BGR picture.

    Raises:
        OSError: the scene cannot be read.
    """
    scene = ArrayScene(image) if isinstance(image, np.ndarray) else image
    boxes = np.asarray(boxes, dtype=float).reshape(-1, 4)
    canvas = _magnified(scene.read_reduced(_LONGEST))
    scale = canvas.shape[1] / scene.width, canvas.shape[0] / scene.height
    shown = boxes * np.tile(scale, 2)
    colors = [class_color(int(index)) for index in classes]
    _outline(canvas, shown, colors)

    side = (canvas.shape[0] - (_CLOSE_UPS - 1) * _GAP) // _CLOSE_UPS
    windows = _close_up_windows(scene, boxes, shown, scale[0], side)
    panels = []
    for letter, window in zip(_LETTERS, windows):
        panels.append(_close_up(scene, window, boxes, colors, side, letter))
        _mark(canvas, np.array(window) * np.tile(scale, 2), letter)
    if panels:
        canvas = np.hstack([canvas, _column(panels, canvas.shape[0], side)])
    return np.vstack([canvas, legend(canvas.shape[1], title, _counts(classes, class_names))])


def draw_frame(
    image: np.ndarray,
    boxes: np.ndarray,
    classes: Sequence[int],
    class_names: Sequence[str],
    title: str = "",
) -> np.ndarray:
    """As `draw_crowd`, for a frame of a video: all frames of a size give pictures of one size.

    There are no close-ups, which would jump about. As codecs want it, sides are even and lines not
    thinner than 2 px, since colours have half the resolution.
    """
    canvas = _magnified(image)
    zoom = canvas.shape[1] // image.shape[1]
    colors = [class_color(int(index)) for index in classes]
    _outline(canvas, np.asarray(boxes, dtype=float).reshape(-1, 4) * zoom, colors, thinnest=2)
    widest = [(class_color(i), f"{name} {_WIDEST_COUNT}") for i, name in enumerate(class_names)]
    height = len(legend(canvas.shape[1], title, widest))
    strip = legend(canvas.shape[1], title, _counts(classes, class_names))[:height]
    height += (canvas.shape[0] + height) % 2
    white = {"borderType": cv2.BORDER_CONSTANT, "value": (255,) * 3}
    strip = cv2.copyMakeBorder(strip, 0, height - len(strip), 0, 0, **white)
    picture = np.vstack([canvas, strip])
    return cv2.copyMakeBorder(picture, 0, 0, 0, picture.shape[1] % 2, **white)


def _magnified(image: np.ndarray) -> np.ndarray:
    """A copy, small images enlarged by a whole number."""
    zoom = max(1, min(_MAX_ZOOM, _LEAST // max(image.shape[:2])))
    return cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)


def _counts(
    classes: Sequence[int], class_names: Sequence[str]
) -> list[tuple[tuple[int, int, int], str]]:
    """Colour and text of each class that is present."""
    counts = np.bincount(np.asarray(classes, dtype=int), minlength=len(class_names))
    return [(class_color(i), f"{class_names[i]} {n}") for i, n in enumerate(counts) if n]


def _sizes(boxes: np.ndarray) -> np.ndarray:
    return np.sqrt((boxes[:, 2:] - boxes[:, :2]).clip(0).prod(axis=1))


def _outline(
    canvas: np.ndarray,
    shown: np.ndarray,
    colors: Sequence[tuple[int, int, int]],
    thinnest: int = 1,
) -> None:
    """Lines that grow with the objects, small objects over large ones."""
    sizes = _sizes(shown)
    lines = np.maximum(np.digitize(sizes, (48, 160)) + 1, thinnest)
    for row in np.argsort(-sizes, kind="stable"):
        outline_boxes(canvas, shown[row : row + 1], [colors[row]], int(lines[row]))


def _close_up_windows(
    scene: Scene, boxes: np.ndarray, shown: np.ndarray, scale: float, side: int
) -> list[Corner]:
    """Where to look closer: crowds, as close as makes small objects readable on `side` px."""
    if len(boxes) < _FEWEST_OBJECTS or side < 4 * _READABLE:
        return []
    small = max(float(np.quantile(_sizes(shown), 0.25)), 1.0)
    magnified = min(_READABLE / small, _MAX_ZOOM)
    if magnified < 1.5:
        return []
    length = max(1, round(side / (magnified * scale)))
    if length >= min(scene.height, scene.width):
        return []
    return crowded_windows((boxes[:, :2] + boxes[:, 2:]) / 2, length, (scene.height, scene.width))


def crowded_windows(centres: np.ndarray, length: int, shape: tuple[int, int]) -> list[Corner]:
    """Squares centred on objects, where the border allows it, that hold most and do not overlap.

    Args:
        centres: (R, 2) x, y of objects.
        length: of a side, at most the image's shorter one.
        shape: height and width of the image.

    Returns:
        Up to three, the one with most objects first; none with few.
    """
    corners, held = crowded_corners(centres, (length, length), shape)
    windows: list[Corner] = []
    while len(windows) < _CLOSE_UPS and held.max(initial=0) >= _FEWEST_OBJECTS:
        x, y = corners[held.argmax()].tolist()
        windows.append((x, y, x + length, y + length))
        held[(abs(corners - (x, y)) < length).all(axis=1)] = 0
    return windows


def _close_up(
    scene: Scene,
    window: Corner,
    boxes: np.ndarray,
    colors: Sequence[tuple[int, int, int]],
    side: int,
    letter: str,
) -> np.ndarray:
    """A square of the image, `side` pixels wide, with the boxes that reach into it."""
    part = cv2.resize(scene.read(window), (side, side), interpolation=cv2.INTER_CUBIC)
    corner = np.array(window, dtype=float)
    shown = (boxes - np.tile(corner[:2], 2)) * (side / (corner[2] - corner[0]))
    seen = (shown[:, 2:] > 0).all(axis=1) & (shown[:, :2] < side).all(axis=1)
    _outline(part, shown[seen], [colors[row] for row in np.flatnonzero(seen)])
    cv2.rectangle(part, (0, 0), (side - 1, side - 1), (0, 0, 0), 3)
    cv2.rectangle(part, (1, 1), (side - 2, side - 2), (255, 255, 255), 1)
    _label(part, letter, (6, 24))
    return part


def _column(panels: Sequence[np.ndarray], height: int, side: int) -> np.ndarray:
    """Panels one below the other, a gap at the left and between them."""
    column = np.full((height, side + _GAP, 3), 255, np.uint8)
    for number, panel in enumerate(panels):
        top = number * (side + _GAP)
        column[top : top + side, _GAP:] = panel
    return column


def _mark(canvas: np.ndarray, shown: np.ndarray, letter: str) -> None:
    """Frame a window on the whole image, in black and white to be seen on anything."""
    x1, y1, x2, y2 = shown.round().astype(int).tolist()
    cv2.rectangle(canvas, (x1, y1), (x2, y2), (0, 0, 0), 3)
    cv2.rectangle(canvas, (x1, y1), (x2, y2), (255, 255, 255), 1)
    _label(canvas, letter, (x1 + 4, max(y1 - 6, 22)))


def _label(canvas: np.ndarray, text: str, origin: tuple[int, int]) -> None:
    for color, line in (((0, 0, 0), 4), ((255, 255, 255), 1)):
        cv2.putText(canvas, text, origin, FONT, 0.8, color, line, cv2.LINE_AA)
