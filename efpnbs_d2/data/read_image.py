"""Pixels of a record: the whole image, or the tile that its `corner` names.

Shapes: H x W x 3, uint8, original-image pixels.
"""

from io import BytesIO
from typing import Any

import cv2
import numpy as np
from detectron2.data import detection_utils as utils
from detectron2.utils.file_io import PathManager
from PIL import Image

from ..image_files import check_depth

_JPEG = b"\xff\xd8\xff"
_JPEG_END = b"\xff\xd9"
_ORIENTATION = 0x0112  # EXIF tag; 1 is upright
_COLOR_AS_STORED = cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION


def read_record_image(record: dict[str, Any], image_format: str) -> np.ndarray:
    """Read the image of a record, cropped to its `corner` if it has one.

    Args:
        record: Detectron2's dataset dict; one without `height` and `width` gets them. `corner` is
            [x1, y1, x2, y2] in the image of `file_name`, and height and width are then the tile's.
        image_format: "BGR", or a mode of PIL, as in `detectron2.data.detection_utils.read_image`.

    Returns:
        H x W x channels, uint8, perhaps read-only or a view.

    Raises:
        ValueError: the image cannot be read, is not as large as annotated, or does not hold the
            corner.
    """
    name = record["file_name"]
    try:
        image = read_image(name, image_format)
        if record.get("corner") is None:
            utils.check_image_size(record, image)
    # PIL raises SyntaxError for some broken PNG files.
    except (
        OSError,
        SyntaxError,
        Image.DecompressionBombError,
        utils.SizeMismatchError,
    ) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"cannot read image {name}: {reason}; restore the file or take it out of the data set"
        ) from error
    return image if record.get("corner") is None else _tile(record, image)


def read_image(file_name: str, image_format: str) -> np.ndarray:
    """The bytes that Detectron2's `read_image` gives, sooner for plain colour JPEG files.

    Raises:
        OSError: there is no such file, or it holds no whole image.
        ValueError: it has more than 8 bits a sample.
    """
    if image_format == "BGR":
        with PathManager.open(file_name, "rb") as file:
            start = file.read(len(_JPEG))
            data = start + file.read() if start == _JPEG else b""
        if data and _is_plain(data):
            image = cv2.imdecode(np.frombuffer(data, np.uint8), _COLOR_AS_STORED)
            if image is not None:
                return image
    with PathManager.open(file_name, "rb") as file, Image.open(file) as opened:
        check_depth(opened, file_name)
    return utils.read_image(file_name, format=image_format)


def _is_plain(jpeg: bytes) -> bool:
    """Whether OpenCV and PIL decode alike: whole, three colours, upright.

    OpenCV would fill up a truncated file with grey, and converts CMYK by a formula of its own.
    """
    if not jpeg.endswith(_JPEG_END):
        return False
    header = Image.open(BytesIO(jpeg))
    if header.format != "JPEG" or header.mode != "RGB":
        return False
    try:
        return header.getexif().get(_ORIENTATION, 1) == 1
    except Exception:  # any of many, for broken EXIF data: Detectron2's reader knows what to do
        return False


def _tile(record: dict[str, Any], image: np.ndarray) -> np.ndarray:
    corner = list(record["corner"])
    place = f"{record['file_name']}: corner {corner}"
    if len(corner) != 4 or any(number != int(number) for number in corner):
        raise ValueError(f"{place} is not [x1, y1, x2, y2] in whole pixels; make the tiles anew")
    x1, y1, x2, y2 = map(int, corner)
    height, width = image.shape[:2]
    if not (0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height):
        raise ValueError(
            f"{place} is not inside the image, which is {width} x {height} px; expected the whole "
            "image that the tiles were cut from: restore it or make the tiles anew"
        )
    expected = record.setdefault("width", x2 - x1), record.setdefault("height", y2 - y1)
    if expected != (x2 - x1, y2 - y1):
        raise ValueError(
            f"{place} is {x2 - x1} x {y2 - y1} px, but the annotated tile is "
            f"{expected[0]} x {expected[1]} px; make the tiles anew"
        )
    return image[y1:y2, x1:x2]
