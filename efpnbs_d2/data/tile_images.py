"""Cutting image files into tiles, by several processes, continued where it was stopped."""

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image, ImageOps
from tqdm import tqdm

from ..atomic import write_atomically
from ..tile_corners import Corner

__all__ = ["IMAGE_FORMATS", "CutJob", "cut_images", "tile_file_name"]

# Options of Pillow's writers. JPEG without chroma subsampling, which would blur the colour of
# objects of a few pixels.
_WRITERS: dict[str, dict[str, Any]] = {
    "png": {"format": "PNG", "compress_level": 4},
    "jpg": {"format": "JPEG", "quality": 95, "subsampling": 0},
}
IMAGE_FORMATS = tuple(_WRITERS)


@dataclass(frozen=True)
class CutJob:
    """One image and the tile files to cut from it.

    Attributes:
        source: the image file.
        height: that it is expected to have, in pixels; like `width`.
        width: see `height`.
        targets: place in the image and file of each tile.
    """

    source: str
    height: int
    width: int
    targets: list[tuple[Corner, Path]]


def tile_file_name(file_name: str, corner: Corner, image_format: str) -> str:
    """`a/b.jpg` at x 590, y 208 becomes `a/b__590_208.png`: the name that AI-TOD's tiles have."""
    return f"{os.path.splitext(file_name)[0]}__{corner[0]}_{corner[1]}.{image_format}"


def cut_images(
    jobs: Sequence[CutJob], image_format: str, *, workers: int = 1, progress: bool = True
) -> int:
    """Write every tile file that is not there yet.

    A file counts as there if it can be decoded, has the tile's size and is not older than its
    source. Images are turned as their EXIF tag says, as Detectron2 does on loading.

    Args:
        jobs: what to cut.
        image_format: "png" (no loss) or "jpg" (quality 95, full colour resolution).
        workers: processes.
        progress: show a progress bar.

    Returns:
        The number of files written; the others were there.

    Raises:
        ValueError: a source cannot be read or has another size than expected.
        OSError: a file cannot be written; those that are finished stay.
    """
    written = 0
    with (
        _mapper(min(workers, len(jobs))) as run,
        tqdm(total=len(jobs), unit="image", desc="cutting", disable=not progress) as bar,
    ):
        for number in run(partial(_cut, image_format=image_format), jobs):
            written += number
            bar.update()
    return written


@contextmanager
def _mapper(workers: int) -> Iterator[Callable[..., Iterable[int]]]:
    """`map`, here or over fresh processes: forked ones may hang in libraries that use threads."""
    if workers <= 1:
        yield map
        return
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_leave_interrupts_to_parent)
    try:
        yield partial(pool.map, chunksize=4)
    finally:
        pool.shutdown(cancel_futures=True)


def _leave_interrupts_to_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _cut(job: CutJob, image_format: str) -> int:
    changed = os.stat(job.source).st_mtime
    missing = [entry for entry in job.targets if not _is_whole(*entry, changed)]
    if not missing:
        return 0
    image = _read(job)
    for corner, target in missing:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, partial(image.crop(corner).save, **_WRITERS[image_format]))
    return len(missing)


def _is_whole(corner: Corner, target: Path, changed: float) -> bool:
    try:
        if target.stat().st_mtime < changed:
            return False
        with Image.open(target) as tile:
            tile.load()
            return tile.size == (corner[2] - corner[0], corner[3] - corner[1])
    # A damaged file can raise nearly anything from Pillow's format plugins.
    except Exception:
        return False


def _read(job: CutJob) -> Image.Image:
    try:
        with Image.open(job.source) as file:
            image = ImageOps.exif_transpose(file).convert("RGB")
    # As above.
    except Exception as error:
        raise ValueError(
            f"cannot read image {job.source}: {error}; restore the file or take it out of the "
            "data set"
        ) from error
    if image.size != (job.width, job.height):
        raise ValueError(
            f"{job.source}: found an image of {image.width}x{image.height} px, expected "
            f"{job.width}x{job.height} as annotated; restore the file or correct the annotation"
        )
    return image
