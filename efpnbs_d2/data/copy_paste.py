"""Copies of tiny objects on free ground of the same image.

Shapes: G objects, M ignored regions, B = G + M obstacles, S candidates, A attempts, P pasted
objects; xyxy in pixels of the H x W image. A patch is an object's box, grown to whole pixels, with
`ring` pixels of its surroundings on each side.
"""

from typing import NamedTuple

import numpy as np
from detectron2.data import transforms as T

from .augmentation import SceneInput, check_probability


class Patch(NamedTuple):
    """Pixels to paste: (h, w, channels), their opacity (h, w), and the top left corner."""

    pixels: np.ndarray
    opacity: np.ndarray
    x: int
    y: int


class PasteTransform(T.Transform):
    """Blend patches into an image; nothing moves."""

    def __init__(self, patches: list[Patch]):
        super().__init__()
        self.patches = patches

    def apply_image(self, img: np.ndarray) -> np.ndarray:
        """A copy of the H x W x channels image with the patches in it."""
        img = img.copy()
        for pixels, opacity, x, y in self.patches:
            ground = img[y : y + pixels.shape[0], x : x + pixels.shape[1]]
            blended = ground + opacity[..., None] * (pixels - ground.astype(np.float32))
            ground[...] = np.rint(blended) if img.dtype == np.uint8 else blended
        return img

    def apply_coords(self, coords: np.ndarray) -> np.ndarray:
        """The (N, 2) points as they are."""
        return coords

    def apply_segmentation(self, segmentation: np.ndarray) -> np.ndarray:
        """The mask as it is."""
        return segmentation


class TinyObjectCopyPaste(T.Augmentation):
    """Paste copies of tiny objects, each with a ring of its own background, onto free ground.

    An object may be copied if it lies in the image whole with its ring, and the ring touches no
    other object and no ignored region. A copy goes where its patch touches none either; the ring
    fades into the ground, the object's own pixels stay exact. A copy keeps its size, class and
    `gt_scale`. Needs the `SceneInput` that `TinyObjectMapper` hands over.

    Args:
        prob: how likely an image gets copies at all.
        max_copies: their number is uniform from 1 to this; fewer where there is no room.
        max_size: bound of sqrt(area) of what is copied, px of the image at that moment.
        ring: width of the surroundings, px.
        max_rise: how far up or down a copy may move, as a share of the image's height: less than 1
            for oblique views, where size depends on the distance.
        attempts: places tried for each copy.

    Raises:
        ValueError: an option out of range, or another input than `SceneInput`.

    Source: our own reading of copy-paste for small objects (Kisantal et al., "Augmentation for
    small object detection", 2019); there with masks, here with the box and its ring.
    """

    def __init__(
        self,
        prob: float = 0.5,
        max_copies: int = 8,
        max_size: float = 32.0,
        ring: int = 4,
        max_rise: float = 1.0,
        attempts: int = 20,
    ):
        super().__init__()
        check_probability("TinyObjectCopyPaste: prob", prob)
        check_probability("TinyObjectCopyPaste: max_rise", max_rise)
        for name, value, least in (
            ("max_copies", max_copies, 1),
            ("max_size", max_size, 1),
            ("ring", ring, 0),
            ("attempts", attempts, 1),
        ):
            if value < least:
                raise ValueError(f"TinyObjectCopyPaste: {name} is {value}, expected >= {least}")
        self.prob, self.max_copies, self.max_size = prob, max_copies, max_size
        self.ring, self.max_rise, self.attempts = ring, max_rise, attempts

    def __call__(self, aug_input: T.AugInput) -> T.Transform:
        """Paste into `aug_input`, in place."""
        if not isinstance(aug_input, SceneInput):
            raise ValueError(
                f"TinyObjectCopyPaste: found {type(aug_input).__name__}, expected the SceneInput "
                "of TinyObjectMapper; set it as the loader's mapper"
            )
        if self._rand_range() >= self.prob:
            return T.NoOpTransform()
        image, boxes = aug_input.image, aug_input.boxes
        obstacles = np.concatenate([boxes, aug_input.ignore_boxes])
        candidates = self._candidates(boxes, obstacles, image.shape[:2])
        patches: list[Patch] = []
        pasted: list[np.ndarray] = []
        originals: list[int] = []
        for row in self._draw(candidates):
            area = _patch_area(boxes[row], self.ring)
            shift = self._find_place(area, obstacles, image.shape[:2])
            if shift is None:
                continue
            x1, y1, x2, y2 = area
            opacity = _opacity(y2 - y1, x2 - x1, self.ring)
            patches.append(Patch(image[y1:y2, x1:x2], opacity, x1 + shift[0], y1 + shift[1]))
            pasted.append(boxes[row] + np.tile(shift, 2))
            originals.append(row)
            obstacles = np.concatenate([obstacles, _patch_area(pasted[-1], 0)[None]])
        if not patches:
            return T.NoOpTransform()
        transform = PasteTransform(patches)
        aug_input.transform(transform)
        aug_input.add_objects(np.stack(pasted), np.array(originals))
        return transform

    def _candidates(
        self, boxes: np.ndarray, obstacles: np.ndarray, limits: tuple[int, int]
    ) -> np.ndarray:
        """(S,) rows of the boxes that may be copied."""
        area = _patch_area(boxes, self.ring)
        sides = boxes[:, 2:] - boxes[:, :2]
        tiny = (sides > 0).all(axis=1) & (sides.prod(axis=1) <= self.max_size**2)
        inside = (area[:, :2] >= 0).all(axis=1) & (area[:, 2:] <= limits[::-1]).all(axis=1)
        rows = np.flatnonzero(tiny & inside)
        # Each patch touches its own object.
        return rows[_touches(area[rows], obstacles).sum(axis=1) == 1]

    def _draw(self, candidates: np.ndarray) -> list[int]:
        if len(candidates) == 0:
            return []
        return np.random.choice(candidates, np.random.randint(1, self.max_copies + 1)).tolist()

    def _find_place(
        self, area: np.ndarray, obstacles: np.ndarray, limits: tuple[int, int]
    ) -> np.ndarray | None:
        """How far to move the (4,) patch, (2,) int x and y; None if no attempt finds room."""
        rise = int(self.max_rise * limits[0])
        start = np.maximum(-area[:2], (-limits[1], -rise))
        end = np.minimum(np.array(limits[::-1]) - area[2:], (limits[1], rise))
        shifts = np.random.randint(start, end + 1, (self.attempts, 2))
        free = ~_touches(area + np.tile(shifts, 2), obstacles).any(axis=1)
        return shifts[free.argmax()] if free.any() else None


def _patch_area(boxes: np.ndarray, ring: int) -> np.ndarray:
    """(..., 4) int: the boxes grown to whole pixels and by `ring`."""
    return np.concatenate(
        [np.floor(boxes[..., :2]) - ring, np.ceil(boxes[..., 2:]) + ring], axis=-1
    ).astype(np.int64)


def _touches(boxes: np.ndarray, obstacles: np.ndarray) -> np.ndarray:
    """(S, B) bool: whether (S, 4) and (B, 4) boxes share more than a border."""
    low = np.maximum(boxes[:, None, :2], obstacles[:, :2])
    high = np.minimum(boxes[:, None, 2:], obstacles[:, 2:])
    return (low < high).all(axis=2)


def _opacity(height: int, width: int, ring: int) -> np.ndarray:
    """(height, width) float32: 1 on the object, falling evenly to the patch's border."""
    rows, columns = (
        np.minimum(np.arange(1, n + 1), np.arange(n, 0, -1)).clip(max=ring + 1) / (ring + 1)
        for n in (height, width)
    )
    return np.minimum(rows[:, None], columns).astype(np.float32)
