"""Detection in images larger than a detector's own, window by window.

Shapes: R detections. Boxes are xyxy; windows are corners, x1, y1, x2, y2 with the ends outside.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from detectron2.structures import Boxes, Instances
from tqdm import tqdm

from ..tile_corners import OVERLAP, TILE, Corner, tile_corners
from .batch import Predict
from .merge import WindowDetections, merge_windows
from .scene import ArrayScene, Scene

__all__ = ["TiledPredictor"]


class TiledPredictor:
    """Runs a detector on overlapping windows of an image and merges what it finds there.

    Memory holds two batches of windows and the detections, not a scene that is read by windows.
    The default windows are the tiles of TinyPerson's authors.
    """

    def __init__(
        self,
        predict: Predict,
        *,
        window: tuple[int, int] = TILE,
        overlap: tuple[int, int] = OVERLAP,
        batch_size: int = 4,
        whole_image: bool = False,
        whole_side: int = 2048,
        iou_threshold: float = 0.5,
        join_cut: bool = True,
        max_detections: int | None = None,
        progress: bool = False,
    ):
        """
        Args:
            predict: the detector, a `BatchPredictor` for one.
            window: height and width in pixels; a smaller image is one window.
            overlap: of neighbours in y and in x, pixels; at least as large as most objects.
            batch_size: windows that `predict` gets at once.
            whole_image: also run it on the whole image, for objects larger than the windows.
            whole_side: a longer whole image is read reduced to this many pixels on its longer side.
            iou_threshold: of the suppression of duplicates, see `merge_windows`.
            join_cut: whether boxes that two windows cut become one, see `merge_windows`.
            max_detections: how many of the highest scores are returned; None for all.
            progress: show a progress bar.

        Raises:
            ValueError: a number out of its range.
        """
        tile_corners(1, 1, window, overlap)  # refuses bad windows
        for name, value in [("batch_size", batch_size), ("whole_side", whole_side)]:
            if value < 1:
                raise ValueError(f"Found {name} {value}, expected 1 or more.")
        if max_detections is not None and max_detections < 1:
            raise ValueError(f"Found max_detections {max_detections}, expected None, 1 or more.")
        if not 0 <= iou_threshold <= 1:
            raise ValueError(f"Found iou_threshold {iou_threshold}, expected 0 to 1.")
        self.predict = predict
        self.window, self.overlap, self.batch_size = window, overlap, batch_size
        self.whole_image, self.whole_side = whole_image, whole_side
        self.iou_threshold, self.join_cut = iou_threshold, join_cut
        self.max_detections = max_detections
        self.progress = progress

    def __call__(self, image: np.ndarray | Scene) -> Instances:
        """Detect objects.

        Args:
            image: H x W x 3, BGR, uint8; or a scene, as `open_scene` gives it.

        Returns:
            `Instances` of the full image's size on the CPU, by descending score: `pred_boxes`
            (float32, in pixels of the full image), `scores` (float32), `pred_classes` (int64).

        Raises:
            ValueError: the array is no image.
            OSError: a window of the scene cannot be read.
        """
        scene = ArrayScene(image) if isinstance(image, np.ndarray) else image
        corners = tile_corners(scene.height, scene.width, self.window, self.overlap)
        found = list(self._find(scene, corners))
        if self.whole_image and len(corners) > 1:
            found.append(self._find_whole(scene))
        merged = merge_windows(
            _concatenate(found), iou_threshold=self.iou_threshold, join_cut=self.join_cut
        )
        return _instances(merged[: self.max_detections], scene.height, scene.width)

    def _find(self, scene: Scene, corners: Sequence[Corner]) -> Iterator[WindowDetections]:
        batches = [
            corners[start : start + self.batch_size]
            for start in range(0, len(corners), self.batch_size)
        ]

        def read(batch: Sequence[Corner]) -> list[np.ndarray]:
            return [scene.read(corner) for corner in batch]

        # The next batch is decoded while the detector has this one.
        with (
            ThreadPoolExecutor(max_workers=1) as reader,
            tqdm(total=len(corners), unit="window", disable=not self.progress) as bar,
        ):
            upcoming = reader.submit(read, batches[0])
            for batch, following in zip(batches, [*batches[1:], []]):
                images = upcoming.result()
                upcoming = reader.submit(read, following)
                for found, corner in zip(self.predict(images), batch, strict=True):
                    yield _window_detections(found, corner)
                bar.update(len(batch))

    def _find_whole(self, scene: Scene) -> WindowDetections:
        image = scene.read_reduced(self.whole_side)
        (output,) = self.predict([image])
        scale = scene.width / image.shape[1], scene.height / image.shape[0]
        return _window_detections(output, (0, 0, scene.width, scene.height), scale)


def _window_detections(
    output: Instances, corner: Corner, scale: tuple[float, float] = (1.0, 1.0)
) -> WindowDetections:
    """A window's detections in full-image pixels; `scale` is by how much x and y were reduced."""
    window = np.array(corner)
    offset = np.tile(window[:2], 2)
    boxes = output.pred_boxes.tensor.double().cpu().numpy() * np.tile(scale, 2) + offset
    # No box is larger than its window, which the merge takes for granted.
    boxes = np.clip(boxes, offset, np.tile(window[2:], 2))
    return WindowDetections(
        boxes,
        output.scores.float().cpu().numpy(),
        output.pred_classes.cpu().numpy(),
        np.broadcast_to(window, boxes.shape),
    )


def _concatenate(found: Sequence[WindowDetections]) -> WindowDetections:
    columns = zip(*((part.boxes, part.scores, part.classes, part.windows) for part in found))
    return WindowDetections(*(np.concatenate(column) for column in columns))


def _instances(found: WindowDetections, height: int, width: int) -> Instances:
    return Instances(
        (height, width),
        pred_boxes=Boxes(torch.from_numpy(found.boxes.astype(np.float32))),
        scores=torch.from_numpy(found.scores),
        pred_classes=torch.from_numpy(found.classes),
    )
