"""Pictures of detections, ground truth and masks, readable with hundreds of tiny objects.

Shapes: images are H x W x 3, BGR uint8; boxes xyxy in the pixels of their image.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from detectron2.structures import Instances

# Small scenes are magnified to about this many pixels, so that boxes stay apart from objects.
TARGET_SIDE = 900
LEGEND_LINE = 22
FONT = cv2.FONT_HERSHEY_SIMPLEX


def class_color(index: int) -> tuple[int, int, int]:
    """The BGR colour of a class, the same in every picture: saturated, neighbours far apart."""
    hue = int(180 * (index * 0.618034 % 1))  # the golden ratio spreads any number of hues
    blue, green, red = cv2.cvtColor(np.uint8([[[hue, 230, 255]]]), cv2.COLOR_HSV2BGR)[0, 0]
    return int(blue), int(green), int(red)


def outline_boxes(
    canvas: np.ndarray, boxes: np.ndarray, colors: Sequence[tuple[int, int, int]], line: int
) -> None:
    """Draw a rectangle around each box into the picture, just outside of the box's own pixels.

    Args:
        canvas: H x W x 3, BGR uint8; changed.
        boxes: R x 4, xyxy in the pixels of `canvas`.
        colors: R BGR colours.
        line: thickness in pixels.
    """
    for box, color in zip(boxes, colors, strict=True):
        x0, y0 = np.floor(box[:2]).astype(int) - line
        x1, y1 = np.ceil(box[2:]).astype(int) + line
        cv2.rectangle(canvas, (int(x0), int(y0)), (int(x1), int(y1)), color, line, cv2.LINE_8)


def draw_boxes(
    image: np.ndarray,
    boxes: np.ndarray,
    classes: Sequence[int],
    class_names: Sequence[str],
    title: str = "",
) -> np.ndarray:
    """Draw thin boxes around objects, and class names with counts below the picture.

    Boxes stand one line outside the object's own pixels: a line over a 6 px object would hide it.

    Args:
        image: H x W x 3, BGR uint8.
        boxes: R x 4, xyxy in the image's pixels.
        classes: R class indices.
        class_names: one name a class.
        title: first line of the legend.

    Returns:
        A magnified BGR picture with the legend below it.
    """
    zoom = max(1, TARGET_SIDE // max(image.shape[:2]))
    line = 2 if zoom > 1 else 1
    canvas = cv2.resize(image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
    colors = [class_color(int(index)) for index in classes]
    outline_boxes(canvas, np.asarray(boxes).reshape(-1, 4) * zoom, colors, line)
    counts = np.bincount(np.asarray(classes, dtype=int), minlength=len(class_names))
    present = [(class_color(i), f"{class_names[i]} {n}") for i, n in enumerate(counts) if n]
    return np.vstack([canvas, legend(canvas.shape[1], title, present)])


def draw_detections(
    image: np.ndarray,
    instances: Instances,
    class_names: Sequence[str],
    *,
    min_score: float = 0.5,
    title: str = "",
) -> np.ndarray:
    """`draw_boxes` for a detector's output, from `min_score` on."""
    kept = instances[instances.scores >= min_score].to("cpu")
    boxes = kept.pred_boxes.tensor.numpy()
    return draw_boxes(image, boxes, kept.pred_classes.tolist(), class_names, title)


def heat_map(image: np.ndarray, values: np.ndarray, title: str = "") -> np.ndarray:
    """Lay a map of [0, 1] values over an image, from dark blue (0) to dark red (1).

    Args:
        image: H x W x 3, BGR uint8.
        values: h x w, any size; stretched over the image, cell by cell.
        title: line below the picture.
    """
    zoom = max(1, TARGET_SIDE // max(image.shape[:2]))
    size = image.shape[1] * zoom, image.shape[0] * zoom
    base = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    cells = cv2.resize(values.astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
    heat = cv2.applyColorMap((np.clip(cells, 0, 1) * 255).astype(np.uint8), cv2.COLORMAP_JET)
    blended = cv2.addWeighted(base, 0.45, heat, 0.55, 0)
    return np.vstack([blended, legend(size[0], title, [])])


def crowded_corners(
    centres: np.ndarray, size: tuple[int, int], shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Windows centred on objects, where the border allows it, and how many each of them holds.

    Args:
        centres: (R, 2) x, y of objects.
        size: width and height of the windows, at most the image's.
        shape: height and width of the image, and what follows.

    Returns:
        (W, 2) int x, y of the upper left corners, and (W,) numbers of objects; W is R, or, of more
        than a thousand objects, about a thousand.
    """
    tried = centres[:: len(centres) // 1000 + 1]
    limits = np.array([shape[1] - size[0], shape[0] - size[1]])
    corners = np.clip(tried - np.array(size) / 2, 0, limits).astype(int)
    offset = centres - corners[:, None]
    return corners, ((offset >= 0) & (offset < size)).all(axis=2).sum(axis=1)


def legend(
    width: int, title: str, entries: Sequence[tuple[tuple[int, int, int], str]]
) -> np.ndarray:
    """A white strip that says what colours mean, in as many lines as it takes.

    Args:
        width: pixels.
        title: first entry, without a colour.
        entries: BGR colour and text.
    """
    title, entries = _drawable(title), [(color, _drawable(text)) for color, text in entries]
    lines: list[list[tuple[int, tuple[int, int, int] | None, str]]] = [[(8, None, title)]]
    x = 8 + _text_width(title) + 24 if title else 8
    for color, text in entries:
        needed = 18 + _text_width(text) + 16
        if x + needed > width and x > 8:
            lines.append([])
            x = 8
        lines[-1].append((x, color, text))
        x += needed
    strip = np.full((LEGEND_LINE * len(lines) + 6, width, 3), 255, np.uint8)
    for row, line in enumerate(lines):
        baseline = LEGEND_LINE * row + 18
        for left, swatch, text in line:
            if swatch is not None:
                cv2.rectangle(strip, (left, baseline - 11), (left + 11, baseline), swatch, -1)
                left += 18
            cv2.putText(strip, text, (left, baseline), FONT, 0.48, (20, 20, 20), 1, cv2.LINE_AA)
    return strip


def _drawable(text: str) -> str:
    """Without lone surrogates, which names of files may hold: they crash OpenCV."""
    return text.encode(errors="replace").decode()


def _text_width(text: str) -> int:
    return cv2.getTextSize(text, FONT, 0.48, 1)[0][0]
