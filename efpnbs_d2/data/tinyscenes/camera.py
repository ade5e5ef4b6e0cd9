"""From the painted scene to the picture: light, haze, optics, noise and compression."""

from __future__ import annotations

import cv2
import numpy as np

from .geometry import smooth_noise
from .options import Difficulty

_HAZE_LEVEL = 215


def expose(rng: np.random.Generator, image: np.ndarray, options: Difficulty) -> np.ndarray:
    """The picture that a camera takes of `image`, uint8 (H, W, 3) BGR as it is."""
    h, w = image.shape[:2]
    light = 1 + 0.035 * smooth_noise(rng, h, w, max(h, w) / 2)
    tint = rng.normal(1, 0.014, 3) * rng.uniform(0.9, 1.07)
    haze = rng.uniform(0, options.haze)
    lit = image * (light[..., None] * tint.astype(np.float32)) * np.float32(1 - haze)
    picture: np.ndarray = cv2.GaussianBlur(lit, (0, 0), rng.uniform(*options.blur))
    noise = rng.standard_normal((h, w, 3), dtype=np.float32)
    picture += np.float32(rng.uniform(*options.noise)) * noise + np.float32(_HAZE_LEVEL * haze)
    result = np.clip(np.rint(picture), 0, 255).astype(np.uint8)
    if not options.compression:
        return result
    quality = int(rng.integers(70, 92))
    _, data = cv2.imencode(".jpg", result, [cv2.IMWRITE_JPEG_QUALITY, quality])
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
