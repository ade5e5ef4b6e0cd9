"""Frames in and out of video files, through OpenCV. Frames are H x W x 3, BGR uint8."""

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import cv2
import numpy as np

__all__ = ["VideoReader", "VideoWriter"]

# Where a file does not say it.
_DEFAULT_RATE = 25.0


def _is_text(name: str) -> bool:
    """Whether OpenCV takes it: lone surrogates crash the process."""
    return name == name.encode(errors="replace").decode()


class VideoReader:
    """A video to iterate over, frame by frame; a context manager that closes its file.

    Attributes:
        path: of the file.
        height: in pixels, like `width`.
        width: of the frames.
        rate: frames a second.
        frames: how many the file announces, which can be wrong; 0 if it does not say.
    """

    def __init__(self, path: str | Path):
        """
        Raises:
            OSError: the file is missing, or no video that can be decoded.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path} not found")
        self.path = path
        if not _is_text(str(path)):
            raise OSError(f"cannot read video {path}: its name is no UTF-8, rename it")
        self._capture = cv2.VideoCapture(str(path))
        if not self._capture.isOpened():
            raise OSError(f"cannot read video {path}: damaged, or of an unknown format")
        self.height = int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
        self.width = int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH))
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self.rate = rate if 0 < rate <= 1000 else _DEFAULT_RATE
        self.frames = max(0, int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT)))

    def __iter__(self) -> Iterator[np.ndarray]:
        while True:
            is_read, frame = self._capture.read()
            if not is_read:
                return
            yield frame

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._capture.release()


class VideoWriter:
    """An MP4 file that takes its name when the context ends, by an exception or not.

    What was written so far is then a whole, playable file; without any frame there is none.
    """

    def __init__(self, path: Path, rate: float):
        """
        Args:
            path: of the file; ".mp4".
            rate: frames a second.
        """
        self.path, self.rate = path, rate
        self._temporary = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
        self._file: cv2.VideoWriter | None = None

    def write(self, frame: np.ndarray) -> None:
        """Append a frame, of the size of the first one; both sides even.

        Raises:
            OSError: the file cannot be written.
        """
        if self._file is None:
            code = cv2.VideoWriter_fourcc(*"mp4v")
            size = frame.shape[1], frame.shape[0]
            self._file = cv2.VideoWriter(str(self._temporary), code, self.rate, size)
            if not self._file.isOpened():
                raise OSError(f"could not write {self.path}: OpenCV has no encoder for MP4")
        self._file.write(frame)

    def __enter__(self) -> "VideoWriter":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._file is not None:
            self._file.release()
            if self._temporary.is_file():
                os.replace(self._temporary, self.path)
