"""Sizes of the images of a VisDrone ground truth, whose text files do not hold them."""

import os
from collections.abc import Sequence

import numpy as np

from ...coco_file import is_id, kind_of, read_json
from ...file_format import DataFormatError, shorten
from ...image_files import IMAGE_SUFFIXES, image_size

__all__ = ["images_beside", "read_image_sizes"]


def read_image_sizes(
    annotations: str, stems: Sequence[str], needed: Sequence[str], images: str | None
) -> np.ndarray:
    """Sizes from a JSON, or from the headers of the images that need one.

    Args:
        annotations: the folder of text files.
        stems: names of the I images, without suffix.
        needed: those of which the header is read.
        images: a JSON ``{stem: [height, width]}`` or the folder of images; None: the folder
            ``images`` beside `annotations`, if there is one.

    Returns:
        (I, 2) int, height and width, 0 where unknown.

    Raises:
        DataFormatError: the JSON is none, or holds something else.
        ValueError: an image cannot be read.
        OSError: the file or folder cannot be read.
    """
    if images is not None and not os.path.isdir(images):
        known = _from_json(images)
    else:
        folder = images or images_beside(annotations)
        known = _from_headers(folder, needed) if folder is not None and needed else {}
    sizes = [known.get(stem, (0, 0)) for stem in stems]
    return np.array(sizes, dtype=np.int64).reshape(-1, 2)


def images_beside(annotations: str) -> str | None:
    """The folder ``images`` beside a folder of annotations, where there is one."""
    folder = os.path.join(os.path.dirname(os.path.abspath(annotations)), "images")
    return folder if os.path.isdir(folder) else None


def _from_json(path: str) -> dict[str, tuple[int, int]]:
    with open(path, "rb") as file:
        content = read_json(path, file.read())
    if not isinstance(content, dict):
        raise DataFormatError(
            f"{path}:1: found {kind_of(content)}, expected a JSON object: name, [height, width]"
        )
    for name, size in content.items():
        good = isinstance(size, list) and len(size) == 2 and all(is_id(s) and s > 0 for s in size)
        if not good:
            raise DataFormatError(
                f"{path}:{name}: found {shorten(size)}, expected [height, width] in pixels"
            )
    return {name: (height, width) for name, (height, width) in content.items()}


def _from_headers(folder: str, needed: Sequence[str]) -> dict[str, tuple[int, int]]:
    paths = {
        os.path.splitext(name)[0]: os.path.join(folder, name)
        for name in os.listdir(folder)
        if name.lower().endswith(IMAGE_SUFFIXES)
    }
    return {stem: image_size(paths[stem]) for stem in needed if stem in paths}
