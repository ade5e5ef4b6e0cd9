"""What the local page asks for: the detections in an uploaded image, and files about them.

Boxes are xyxy in pixels of the original image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.structures import Instances

from ..atomic import write_atomically
from ..image_files import IMAGE_SUFFIXES
from ..inference.batch import BatchPredictor
from ..inference.drawing import heat_map
from ..inference.explanation import explain
from ..inference.predictors import category_ids, class_names
from ..inference.scene import Scene, open_scene, read_whole
from ..inference.tiled import TiledPredictor
from ..tile_corners import tile_corners
from .prediction_files import write_files
from .prediction_pictures import draw_crowd
from .prediction_records import Record

__all__ = ["Found", "Results", "Tiling", "WebDetector", "write_results"]

# The least window in pixels: smaller ones make more windows than anyone wants to wait for.
_LEAST_WINDOW = 64
_WINDOWS_AT_ONCE = 4
# Masks are computed and drawn from the whole image, reduced to this many pixels where it is larger.
_MASK_SIDE = 1600

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Tiling:
    """Square windows.

    Attributes:
        window: side in pixels.
        overlap: of neighbours in pixels.
    """

    window: int
    overlap: int

    def __post_init__(self) -> None:
        if self.window < _LEAST_WINDOW:
            raise ValueError(
                f"found windows of {self.window} px, expected {_LEAST_WINDOW} px or more"
            )
        if not 0 <= self.overlap <= self.window // 2:
            raise ValueError(
                f"found an overlap of {self.overlap} px, expected 0 to {self.window // 2} px, half "
                "of the window"
            )


@dataclass(frozen=True)
class Found:
    """What a detector says about an image.

    Attributes:
        path: of the image.
        instances: all detections, whatever their score, on the CPU.
        masks: by level, FBSM's probabilities of foreground; empty without FBSM.
    """

    path: Path
    instances: Instances
    masks: dict[str, np.ndarray]


class WebDetector:
    """Detects in uploaded files.

    Attributes:
        class_names: one name a class.
        category_ids: one number a class, for files.
        description: the model in a line.
    """

    def __init__(self, predictor: Any, description: str):
        """
        Args:
            predictor: a `DefaultPredictor` or `LazyPredictor`.
            description: the model in a line.
        """
        self._predictor = predictor
        self.class_names: Sequence[str] = class_names(predictor)
        self.category_ids: Sequence[int] = category_ids(predictor.metadata, len(self.class_names))
        self.description = description

    def detect(self, path: Path, tiling: Tiling | None, progress: Progress) -> Found:
        """Detect objects in an image file.

        Args:
            path: of the image.
            tiling: None to read the image whole.
            progress: called with the number of windows that are done, and of all.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is no image, or too large.
        """
        if path.suffix.lower() not in IMAGE_SUFFIXES:
            raise ValueError(
                f"found a file {path.name}, expected an image ({' '.join(IMAGE_SUFFIXES)})"
            )
        with open_scene(path) as scene:
            if tiling is None:
                explanation = explain(self._predictor, read_whole(scene, "detect in windows"))
                return Found(path, explanation.instances, explanation.masks)
            instances = self._detect_by_windows(scene, tiling, progress)
            reduced = np.ascontiguousarray(scene.read_reduced(_MASK_SIDE))
            return Found(path, instances, explain(self._predictor, reduced).masks)

    def _detect_by_windows(self, scene: Scene, tiling: Tiling, progress: Progress) -> Instances:
        window, overlap = (tiling.window,) * 2, (tiling.overlap,) * 2
        total = len(tile_corners(scene.height, scene.width, window, overlap))
        predict = BatchPredictor.from_default(self._predictor)
        done = 0

        def counted(images: Sequence[np.ndarray], /) -> list[Instances]:
            nonlocal done
            found = predict(images)
            done += len(images)
            progress(done, total)
            return found

        tiled = TiledPredictor(counted, window=window, overlap=overlap, batch_size=_WINDOWS_AT_ONCE)
        return tiled(scene)


@dataclass(frozen=True)
class Results:
    """Files about the detections from a score on.

    Attributes:
        picture: with a box around each object.
        masks: pictures of the masks, with their levels.
        downloads: what a user may want to keep, the picture among it.
        counts: name and number of each class that was found, most first.
    """

    picture: Path
    masks: list[tuple[Path, str]]
    downloads: list[Path]
    counts: list[tuple[str, int]]


def write_results(
    found: Found,
    min_score: float,
    names: Sequence[str],
    category_ids: Sequence[int],
    folder: Path,
) -> Results:
    """Write a picture, COCO results, CSV, and GeoJSON if the image has a geo-reference.

    Args:
        found: in an image whose file is still there.
        min_score: of what is kept.
        names: one name a class.
        category_ids: one number a class.
        folder: an existing one, for these results alone.

    Raises:
        OSError: the image cannot be read, or a file cannot be written.
    """
    kept = found.instances[found.instances.scores >= min_score]
    classes = kept.pred_classes.tolist()
    with open_scene(found.path) as scene:
        record = Record(
            found.path.name,
            found.path.stem,
            scene.height,
            scene.width,
            georeference=scene.georeference,
        )
        boxes = kept.pred_boxes.tensor.numpy()
        drawn = draw_crowd(scene, boxes, classes, names, found.path.name)
        image = scene.read_reduced(_MASK_SIDE) if found.masks else None
    picture = _write_picture(folder / "detections.png", drawn)
    masks = []
    for level, mask in found.masks.items():
        target = folder / f"mask_{level}.png"
        masks.append((_write_picture(target, heat_map(image, mask)), f"mask of {level}"))
    record.add(kept)
    # VisDrone's folder of text files cannot be downloaded as a file.
    written = write_files(folder, [record], names, category_ids)
    files = [path for path in written if path.is_file()]
    counts = np.bincount(np.asarray(classes, dtype=int), minlength=len(names))
    order = np.argsort(-counts, kind="stable")
    return Results(
        picture,
        masks,
        [picture, *files],
        [(names[index], int(counts[index])) for index in order if counts[index]],
    )


def _write_picture(target: Path, picture: np.ndarray) -> Path:
    done, data = cv2.imencode(".png", picture)
    assert done
    write_atomically(target, lambda file: file.write(data.tobytes()))
    return target
