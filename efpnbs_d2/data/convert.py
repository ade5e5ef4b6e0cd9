"""Labels from one format to another, whole or not at all: VisDrone TXT, COCO JSON, YOLO TXT."""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from .convert_coco import read_coco, write_coco
from .convert_form import ConversionReport, LabelledSet
from .convert_visdrone import read_visdrone, write_visdrone
from .convert_yolo import read_yolo, write_yolo
from .report import ReadReport

__all__ = ["FORMATS", "IMAGE_PLACEMENTS", "convert_dataset"]

IMAGE_PLACEMENTS = ("link", "copy", "none")

_Reader = Callable[[str, Sequence[str], Sequence[str] | None, ConversionReport, bool], LabelledSet]
_Writer = Callable[[LabelledSet, Path, ConversionReport, bool], list[str]]


@dataclass(frozen=True)
class _Format:
    """One format: its two directions, and whether its annotations are a file or a folder."""

    read: _Reader
    write: _Writer
    exists: Callable[[str], bool]
    annotations: str


_FORMATS = {
    "visdrone": _Format(read_visdrone, write_visdrone, os.path.isdir, "a folder of text files"),
    "coco": _Format(read_coco, write_coco, os.path.isfile, "a COCO JSON"),
    "yolo": _Format(read_yolo, write_yolo, os.path.isdir, "a folder of label files"),
}
FORMATS = tuple(_FORMATS)


def convert_dataset(
    source: str,
    target: str,
    *,
    annotations: str,
    images: Sequence[str],
    output: str | os.PathLike[str],
    classes: Sequence[str] | None = None,
    place_images: str = "link",
    strict: bool | None = None,
    progress: bool = True,
) -> ConversionReport:
    """Convert labels. Boxes are xywh in original pixels; they are not judged, only carried over.

    ``output`` gets ``images/`` and, for "visdrone", ``annotations/*.txt``; for "coco",
    ``annotations.json``; for "yolo", ``labels/`` and ``data.yaml``. It appears whole or not at all.

    Args:
        source: one of ``FORMATS``.
        target: likewise; the same format writes the labels anew, without what is broken.
        annotations: the JSON file, or the folder of text files.
        images: folders of images; "visdrone" and "yolo" read the first.
        output: a folder that is empty or does not exist.
        classes: names in the order of their index; None takes those of the source.
        place_images: "link" (symbolic links) or "copy" images into ``output``, or "none".
        strict: stop at the first entry that cannot be read; None takes the environment variable
            ``EFPNBS_STRICT_DATA``.
        progress: show progress bars.

    Returns:
        The account of what was read, written, dropped and lost.

    Raises:
        ValueError: a wrong option, nothing to convert, a folder in the way, or labels that the
            target has no room for (two images of one label file, tiles).
        DataFormatError: a broken file; in strict mode, a broken entry.
        OSError: the disk is full or not writable; nothing is left behind.
    """
    target_folder = Path(os.path.abspath(os.path.expanduser(output)))
    _check(source, target, annotations, images, place_images, target_folder)
    report = ConversionReport(ReadReport(f"{source} {annotations}", strict))
    dataset = _FORMATS[source].read(annotations, images, classes, report, progress)
    if not dataset.images:
        # Broken lines, which may come first, are not why.
        reasons = (p for p in report.read.problems if ": found no " in p)
        raise ValueError(next(reasons, f"found no image to convert in {', '.join(images)}"))
    with _new_folder(target_folder) as part:
        names = _FORMATS[target].write(dataset, part, report, progress)
        if place_images != "none":
            paths = [image.path for image in dataset.images]
            _place(paths, names, part / "images", place_images == "copy", progress)
    return report


def _check(
    source: str,
    target: str,
    annotations: str,
    images: Sequence[str],
    place_images: str,
    output: Path,
) -> None:
    for option, value, known in (
        ("source", source, FORMATS),
        ("target", target, FORMATS),
        ("place_images", place_images, IMAGE_PLACEMENTS),
    ):
        if value not in known:
            raise ValueError(f"found {option} {value!r}, expected one of {', '.join(known)}.")
    if not _FORMATS[source].exists(annotations):
        kind = _FORMATS[source].annotations
        raise ValueError(f"found no annotations at {annotations}, expected {kind} there.")
    for folder in images:
        if not os.path.isdir(folder):
            raise ValueError(f"found no folder of images at {folder}.")
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise ValueError(
            f"{output} is in the way, expected an empty folder or none; move it or name another."
        )


@contextmanager
def _new_folder(target: Path) -> Iterator[Path]:
    """A temporary folder that becomes ``target`` when the block ends well."""
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{target.name}-part-", dir=target.parent))
    try:
        yield part
        part.chmod(0o755)
        # Onto an empty folder, too; anything that came there meanwhile is kept and reported.
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _place(
    paths: Sequence[str | None], names: Sequence[str], folder: Path, copy: bool, progress: bool
) -> None:
    # Tiles share an image.
    wanted = {name: path for name, path in zip(names, paths, strict=True) if path is not None}
    for name, path in tqdm(wanted.items(), unit="image", desc="files", disable=not progress):
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if copy:
            shutil.copy2(path, place)
        else:
            place.symlink_to(os.path.abspath(path))
