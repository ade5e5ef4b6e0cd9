"""Finding image files and their sizes without decoding them."""

import os
from collections.abc import Iterable, Sequence

from PIL import Image

__all__ = ["IMAGE_SUFFIXES", "check_depth", "image_size", "locate_images"]

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")

_EXIF_ORIENTATION = 0x0112
_EXIF_TURNED_BY_90_DEGREES = (5, 6, 7, 8)


def image_size(path: str) -> tuple[int, int]:
    """Height and width of an image, read from its header.

    They are the size that Detectron2's ``read_image`` delivers: a photo that its EXIF tag turns
    by 90 degrees has its sides exchanged.

    Returns:
        (height, width) in pixels.

    Raises:
        ValueError: the file is not a readable image.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            turned = image.getexif().get(_EXIF_ORIENTATION) in _EXIF_TURNED_BY_90_DEGREES
    # A damaged header can raise nearly anything from Pillow's format plugins.
    except Exception as error:
        raise ValueError(f"{path}: found no readable image ({error})") from error
    return (width, height) if turned else (height, width)


def check_depth(image: Image.Image, name: object) -> None:
    """Refuse more than 8 bits a sample, of which Pillow's conversion would make nearly all white.

    Args:
        image: opened, not decoded.
        name: of the file, for the message.

    Raises:
        ValueError: it has more.
    """
    if image.mode.startswith("I") or image.mode == "F":
        raise ValueError(
            f"{name}: found pixels of more than 8 bits (mode {image.mode}), expected 8 bits a "
            "sample: scale them, for example with gdal_translate -ot Byte -scale"
        )


def locate_images(names: Iterable[str], folders: Sequence[str]) -> dict[str, str]:
    """Find each image in the first of several folders that holds it.

    Each folder is listed once instead of asking the file system per image.

    Args:
        names: file names relative to a folder, sub-folders allowed.
        folders: candidate folders in the order of preference.

    Returns:
        name -> path, without the names that no folder holds.
    """
    listings: dict[str, frozenset[str]] = {}
    found: dict[str, str] = {}
    for name in names:
        for folder in folders:
            path = os.path.join(folder, name)
            parent, base = os.path.split(path)
            if parent not in listings:
                listings[parent] = _list_files(parent)
            if base in listings[parent]:
                found[name] = path
                break
    return found


def _list_files(folder: str) -> frozenset[str]:
    # ValueError: names taken from a damaged annotation file may hold NUL or lone surrogates.
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries if entry.is_file())
    except (OSError, ValueError):
        return frozenset()
