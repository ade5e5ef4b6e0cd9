"""What is to be predicted: images and videos, each with a name of its own."""

import glob
import hashlib
import os
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..image_files import IMAGE_SUFFIXES

__all__ = ["VIDEO_SUFFIXES", "Source", "list_sources"]

VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg")
_SUFFIXES = (*IMAGE_SUFFIXES, *VIDEO_SUFFIXES)
# What follows the stem of a video in the names of its frames.
_FRAME = re.compile(r"_\d{6,}$")


@dataclass(frozen=True)
class Source:
    """One file to predict.

    Attributes:
        path: of the file, absolute.
        name: without suffix, no two alike: what is written about it is named so.
    """

    path: Path
    name: str

    @property
    def is_video(self) -> bool:
        return _is_video(self.path)


def list_sources(patterns: Sequence[str], output: Path) -> list[Source]:
    """The files named, those that globs match, and all images in the folders named.

    A file that is named twice comes once; what is below `output` is never an input. A stem that
    several files have is followed by eight digits that stand for the path, and that of a video too
    whose frames would be called as an image is.

    Args:
        patterns: paths or globs ("**" for any depth), in the order to predict them.
        output: where the results go.

    Raises:
        FileNotFoundError: there is no such path, or no match.
        ValueError: a folder holds no image.
    """
    # Not resolved: a link has a name that somebody chose.
    output = Path(os.path.abspath(output))
    found = (Path(os.path.abspath(file)) for pattern in patterns for file in _expand(pattern))
    files = list(dict.fromkeys(file for file in found if output not in file.parents))
    if not files:
        raise ValueError(f"found no image outside of the output folder {output}")
    # Some file systems do not tell upper from lower case.
    stems = [file.stem.lower() for file in files]
    shared = {stem for stem, number in Counter(stems).items() if number > 1}
    frames_of = {_FRAME.sub("", stem) for stem in stems if _FRAME.search(stem)}

    def name(file: Path, stem: str) -> str:
        is_clear = stem not in shared and not (stem in frames_of and _is_video(file))
        return file.stem if is_clear else f"{file.stem}-{_digits(file)}"

    return [Source(file, name(file, stem)) for file, stem in zip(files, stems)]


def _expand(pattern: str) -> Iterator[Path]:
    path = Path(pattern)
    if path.is_dir():
        yield from _images_below(path)
    elif path.exists():
        yield path
    elif not glob.has_magic(pattern):
        raise FileNotFoundError(f"{pattern} not found")
    else:
        matches = [Path(match) for match in sorted(glob.glob(pattern, recursive=True))]
        known = [match for match in matches if match.suffix.lower() in _SUFFIXES]
        if not known:
            raise FileNotFoundError(f"{pattern} matches no image and no video")
        yield from known


def _images_below(folder: Path) -> list[Path]:
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
    )
    if not found:
        raise ValueError(f"{folder} holds no image ({' '.join(IMAGE_SUFFIXES)})")
    return found


def _is_video(file: Path) -> bool:
    return file.suffix.lower() in VIDEO_SUFFIXES


def _digits(file: Path) -> str:
    return hashlib.sha256(str(file).encode(errors="surrogateescape")).hexdigest()[:8]
