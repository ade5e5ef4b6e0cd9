"""Predict one file after the other: its record, its picture or annotated video."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TypeVar

import cv2
import numpy as np
from detectron2.structures import Instances
from tqdm import tqdm

from ..atomic import write_atomically
from ..inference.scene import ArrayScene, Scene, open_scene
from .detector_options import Detector
from .prediction_inputs import Source
from .prediction_pictures import draw_crowd, draw_frame
from .prediction_records import Record, Records
from .video import VideoReader, VideoWriter

__all__ = ["PredictionRun"]

_Item = TypeVar("_Item")
# Thin coloured lines need all of the colour resolution.
_JPEG = [
    cv2.IMWRITE_JPEG_QUALITY,
    92,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
    cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
]


class PredictionRun:
    """Writes `records`, and `pictures` and `videos` unless they are not wanted.

    Attributes:
        written: names of the files that there is a new record of.
        failed: a sentence for each file that could not be read, or not to its end.
    """

    def __init__(
        self, detector: Detector, records: Records, output: Path, *, pictures: bool = True
    ) -> None:
        self.detector, self.records, self.output = detector, records, output
        self.pictures = pictures
        self.written: list[str] = []
        self.failed: list[str] = []
        if pictures:
            for name in ("pictures", "videos"):
                (output / name).mkdir(exist_ok=True)

    def is_done(self, source: Source) -> bool:
        """Whether an earlier run did all there is to do."""
        record = self.records.find(source)
        if record is None or not record.whole:
            return False
        return not self.pictures or self._target(source).is_file()

    def predict(
        self, sources: Sequence[Source], *, title: str | None = None, silent: bool = False
    ) -> None:
        """Predict files, with progress and rate; one that cannot be read does not stop the rest.

        Args:
            sources: images come first, then videos.
            title: of the progress bar of images.
            silent: show no progress.

        Raises:
            KeyboardInterrupt: between two files, or with what was seen of a video kept.
            OSError: the output cannot be written.
        """
        detector = self.detector
        at_once = 1 if detector.tiled else detector.batch_size
        images = [source for source in sources if not source.is_video]
        disable = silent or not images
        progress = {"unit": "image", "desc": title, "dynamic_ncols": True, "disable": disable}
        with tqdm(total=len(images), **progress) as bar:
            for some in _batches(images, at_once):
                self._predict_images(some)
                bar.update(len(some))
        for source in sources:
            if source.is_video:
                self._predict_video(source, silent)

    def _predict_images(self, sources: Sequence[Source]) -> None:
        with ExitStack() as stack:
            scenes: list[tuple[Source, Scene]] = []
            for source in sources:
                try:
                    scenes.append((source, stack.enter_context(open_scene(source.path))))
                except (OSError, ValueError) as error:
                    self._fail(source, error)
            try:
                found = self.detector.find([scene for _, scene in scenes])
            except (OSError, ValueError) as error:
                if len(scenes) == 1:
                    self._fail(scenes[0][0], error)
                else:  # Which one it was is seen when each is alone.
                    for source, _ in scenes:
                        self._predict_images([source])
                return
            for (source, scene), instances in zip(scenes, found):
                self._keep(source, scene, instances)

    def _keep(self, source: Source, scene: Scene, found: Instances) -> None:
        record = Record(
            str(source.path),
            source.name,
            scene.height,
            scene.width,
            georeference=scene.georeference,
        )
        record.add(found)
        if self.pictures:
            picture = draw_crowd(scene, *self._drawn(found), title=source.path.name)
            content = cv2.imencode(".jpg", picture, _JPEG)[1].tobytes()
            write_atomically(self._target(source), lambda file: file.write(content))
        # Last: an image with a record is done.
        self._write_record(source, record)

    def _predict_video(self, source: Source, silent: bool) -> None:
        try:
            reader = VideoReader(source.path)
        except OSError as error:
            self._fail(source, error)
            return
        record = Record(
            str(source.path), source.name, reader.height, reader.width, frames=0, whole=False
        )
        title = source.path.name
        progress = {"unit": "frame", "desc": title, "dynamic_ncols": True, "disable": silent}
        try:
            with (
                reader,
                VideoWriter(self._target(source), reader.rate) as writer,
                tqdm(total=reader.frames or None, **progress) as bar,
            ):
                for frames in _batches(reader, self.detector.batch_size):
                    self._predict_frames(frames, record, writer)
                    bar.update(len(frames))
            record.whole = bool(record.frames)
        finally:
            self._write_record(source, record)
        # Containers announce a few frames too many or too few.
        if not record.frames or record.frames < 0.95 * reader.frames - 1:
            self.failed.append(
                f"{source.path}: {record.frames} of {reader.frames} frames could be read"
            )

    def _predict_frames(
        self, frames: Sequence[np.ndarray], record: Record, writer: VideoWriter
    ) -> None:
        found = self.detector.find([ArrayScene(frame) for frame in frames])
        for frame, instances in zip(frames, found):
            record.add(instances)
            if self.pictures:
                title = f"{record.name} {record.frames}"
                writer.write(draw_frame(frame, *self._drawn(instances), title=title))

    def _write_record(self, source: Source, record: Record) -> None:
        self.records.write(source, record)
        self.written.append(source.name)

    def _drawn(self, found: Instances) -> tuple[np.ndarray, list[int], Sequence[str]]:
        boxes = found.pred_boxes.tensor.numpy()
        return boxes, found.pred_classes.tolist(), self.detector.class_names

    def _target(self, source: Source) -> Path:
        """Where the picture or the annotated video goes."""
        if source.is_video:
            return self.output / "videos" / f"{source.name}.mp4"
        return self.output / "pictures" / f"{source.name}.jpg"

    def _fail(self, source: Source, error: Exception) -> None:
        text = str(error)
        self.failed.append(text if str(source.path) in text else f"{source.path}: {text}")


def _batches(items: Iterable[_Item], size: int) -> Iterator[list[_Item]]:
    remaining = iter(items)
    while batch := list(islice(remaining, size)):
        yield batch
