"""Images to read by windows: arrays, image files, and TIFF files larger than memory.

Pixels are BGR, uint8, H x W x 3; windows are corners, x1, y1, x2, y2 with the ends outside.
"""

import warnings
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np
from detectron2.data.detection_utils import read_image
from PIL import Image

from ..image_files import check_depth
from ..tile_corners import Corner
from .batch import check_image
from .georeference import GeoReference

__all__ = ["ArrayScene", "RasterScene", "Scene", "open_scene", "read_whole"]

# What is decoded whole: Pillow warns of larger images, which take it more than 1 GB.
MAX_PIXELS = 89_478_485
# Megabytes that GDAL keeps of decoded blocks, of which a row of windows should be a part.
CACHE_MB = 256
# Bytes of a block, the least that GDAL reads at once.
MAX_BLOCK = 256 * 2**20

TIFF_SUFFIXES = {".tif", ".tiff"}
_TILE_IT = "write it anew in tiles: gdal_translate -co TILED=YES {path} tiled.tif"


class Scene:
    """An image that can be read by windows; a context manager that closes its file.

    Attributes:
        height: in pixels, like `width`.
        width: of the image.
        georeference: where its pixels lie on the earth, if its file says so.
    """

    height: int
    width: int
    georeference: GeoReference | None = None

    def read(self, corner: Corner) -> np.ndarray:
        """The pixels of a window inside the image; do not write into them.

        Raises:
            OSError: they cannot be read.
        """
        raise NotImplementedError

    def read_reduced(self, longest: int) -> np.ndarray:
        """The whole image, reduced by averaging so that no side is longer than `longest` px.

        Raises:
            OSError: it cannot be read.
        """
        raise NotImplementedError

    def close(self) -> None:
        """Close the file, if there is one; a closed scene cannot be read."""

    def __enter__(self) -> "Scene":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _reduced_size(self, longest: int) -> tuple[int, int]:
        """Height and width of what `read_reduced` returns."""
        factor = min(1.0, longest / max(self.height, self.width))
        return max(1, round(self.height * factor)), max(1, round(self.width * factor))


class ArrayScene(Scene):
    """An image in memory."""

    def __init__(self, image: np.ndarray):
        """
        Args:
            image: H x W x 3, BGR, uint8; not copied.

        Raises:
            ValueError: an array of another kind.
        """
        check_image(image)
        self.image = image
        self.height, self.width = image.shape[:2]

    def read(self, corner: Corner) -> np.ndarray:
        x1, y1, x2, y2 = corner
        return self.image[y1:y2, x1:x2]

    def read_reduced(self, longest: int) -> np.ndarray:
        height, width = self._reduced_size(longest)
        if (height, width) == self.image.shape[:2]:
            return self.image
        return cv2.resize(self.image, (width, height), interpolation=cv2.INTER_AREA)


class RasterScene(Scene):
    """A file that rasterio reads by windows, such as a GeoTIFF."""

    def __init__(self, path: str | Path):
        """
        Args:
            path: of a file with 8 bits a sample: one band is grey, of several the red, green and
                blue ones are taken, or the first three where none is named so.

        Raises:
            ImportError: rasterio is not installed.
            OSError: the file cannot be opened.
            ValueError: its samples are not bytes, it has two bands, or its blocks are too large to
                be read by windows.
        """
        import rasterio

        # Beside its default, a share of the machine's memory, a scene would not be read in less.
        self._settings = {"GDAL_CACHEMAX": CACHE_MB}
        self._rasterio: Any = rasterio
        self.path = path
        with rasterio.Env(**self._settings), warnings.catch_warnings():
            # A scene without a place on the earth is as good as any.
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            try:
                self._file = rasterio.open(path)
            except rasterio.errors.RasterioIOError as error:
                raise OSError(f"cannot read image {path}: {error}") from error
        self.height, self.width = self._file.shape
        try:
            self._bands = self._color_bands()
            self._check_blocks()
        except ValueError:
            self.close()
            raise
        self.georeference = GeoReference.of_raster(self._file)

    def read(self, corner: Corner) -> np.ndarray:
        x1, y1, x2, y2 = corner
        return self._read(window=((y1, y2), (x1, x2)))

    def read_reduced(self, longest: int) -> np.ndarray:
        return self._read(
            out_shape=(len(self._bands), *self._reduced_size(longest)),
            resampling=self._rasterio.enums.Resampling.average,
        )

    def close(self) -> None:
        self._file.close()

    def _read(self, **options: Any) -> np.ndarray:
        with self._rasterio.Env(**self._settings):
            try:
                planes = self._file.read(self._bands, **options)
            except self._rasterio.errors.RasterioIOError as error:
                raise OSError(f"cannot read image {self.path}: {error}") from error
        return cv2.merge([planes[0]] * 3 if len(planes) == 1 else list(planes[::-1]))

    def _color_bands(self) -> list[int]:
        """Numbers of the bands of red, green and blue, or of grey."""
        kinds = set(self._file.dtypes)
        names = [interpretation.name for interpretation in self._file.colorinterp]
        if kinds != {"uint8"}:
            raise ValueError(
                f"{self.path}: found samples of type {', '.join(sorted(kinds))}, expected uint8; "
                f"scale them: gdal_translate -ot Byte -scale {self.path} bytes.tif"
            )
        if names[0] == "palette" or len(names) == 2:
            raise ValueError(
                f"{self.path}: found bands {', '.join(names)}, expected grey, or red, green and "
                f"blue; convert it: gdal_translate -expand rgb {self.path} color.tif"
            )
        if {"red", "green", "blue"} <= set(names):
            return [names.index(color) + 1 for color in ("red", "green", "blue")]
        return [1, 2, 3] if len(names) > 2 else [1]

    def _check_blocks(self) -> None:
        largest = max(rows * columns for rows, columns in self._file.block_shapes) * len(
            self._bands
        )
        if largest > MAX_BLOCK:
            raise ValueError(
                f"{self.path}: found blocks of {largest / 2**20:.0f} MB, of which none can be read "
                f"in part, expected {MAX_BLOCK / 2**20:.0f} MB or less; "
                + _TILE_IT.format(path=self.path)
            )


def read_whole(scene: Scene, remedy: str) -> np.ndarray:
    """All pixels of a scene, H x W x 3, BGR, uint8.

    Raises:
        ValueError: it has more than `MAX_PIXELS`; the message ends with the remedy.
        OSError: it cannot be read.
    """
    if scene.height * scene.width > MAX_PIXELS:
        raise ValueError(
            f"found an image of {scene.width} x {scene.height} px, too large to be read whole: "
            f"{remedy}"
        )
    return scene.read((0, 0, scene.width, scene.height))


def open_scene(path: str | Path) -> Scene:
    """Open an image file for reading by windows.

    TIFF files are read by windows if rasterio is installed (`pip install .[geo]`), other files are
    decoded whole, turned as their EXIF tag says.

    Args:
        path: of the file.

    Returns:
        A scene; close it, or use it in a `with` statement.

    Raises:
        OSError: the file is missing or damaged.
        ValueError: a TIFF whose bands or blocks cannot be used (`RasterScene`), or a file that is
            too large to be decoded whole or has more than 8 bits a sample.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} not found")
    advice = "convert it to a TIFF, which is read by windows: gdal_translate -co TILED=YES"
    if path.suffix.lower() in TIFF_SUFFIXES:
        try:
            return RasterScene(path)
        except ImportError:
            advice = "install rasterio, which reads TIFF files by windows: pip install '.[geo]'"
    _check_header(path, advice)
    try:
        return ArrayScene(read_image(str(path), format="BGR"))
    # Of a damaged file, Pillow's format plugins raise SyntaxError too.
    except (OSError, SyntaxError, ValueError) as error:
        raise OSError(f"cannot read image {path}: {error}") from error


def _check_header(path: Path, advice: str) -> None:
    limit = Image.MAX_IMAGE_PIXELS
    try:
        # The limit is our own, with a message that helps.
        Image.MAX_IMAGE_PIXELS = None
        with Image.open(path) as image:
            width, height = image.size
    except (OSError, SyntaxError, ValueError) as error:
        raise OSError(f"cannot read image {path}: {error}") from error
    finally:
        Image.MAX_IMAGE_PIXELS = limit
    check_depth(image, path)
    if width * height > MAX_PIXELS:
        raise ValueError(
            f"{path}: found an image of {width} x {height} px, which would have to be decoded "
            f"whole, expected {MAX_PIXELS / 1e6:.0f} million pixels at most; {advice}"
        )
