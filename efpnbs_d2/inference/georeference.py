"""Where the pixels of a geo-referenced image lie on the earth.

Shapes: R boxes, xyxy in full-image pixels.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

__all__ = ["GeoReference"]

# Longitude and latitude, as GeoJSON wants them.
_GEOGRAPHIC = "OGC:CRS84"


@dataclass(frozen=True)
class GeoReference:
    """From pixels to map coordinates and to longitude and latitude; needs rasterio.

    Attributes:
        transform: a, b, c, d, e, f of x = a * column + b * row + c, y = d * column + e * row + f;
            columns and rows count from the outer corner of the first pixel.
        crs: the coordinate reference system of x and y, as an authority's code or WKT.
    """

    transform: tuple[float, float, float, float, float, float]
    crs: str

    @classmethod
    def of_raster(cls, raster: Any) -> "GeoReference | None":
        """Of an open rasterio file; None if it has no transform or no reference system."""
        if raster.crs is None or raster.transform.is_identity:
            return None
        return cls(tuple(raster.transform)[:6], raster.crs.to_string())

    def map_rings(self, boxes: np.ndarray) -> np.ndarray:
        """The outline of each box in the image's own reference system.

        Args:
            boxes: (R, 4).

        Returns:
            (R, 5, 2) float64, x and y of the corners, the first one again at the end.
        """
        a, b, c, d, e, f = self.transform
        x1, y1, x2, y2 = np.asarray(boxes, dtype=np.float64).reshape(-1, 4).T
        column, row = np.stack([x1, x1, x2, x2, x1]), np.stack([y1, y2, y2, y1, y1])
        return np.stack([a * column + b * row + c, d * column + e * row + f]).T

    def geographic_rings(self, boxes: np.ndarray) -> np.ndarray:
        """As `map_rings`, in degrees of longitude and latitude (WGS 84), as in GeoJSON."""
        from rasterio.warp import transform

        rings = self.map_rings(boxes)
        x, y = rings.reshape(-1, 2).T
        return np.stack(transform(self.crs, _GEOGRAPHIC, x, y), axis=1).reshape(rings.shape)
