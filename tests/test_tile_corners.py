"""Where tiles lie, against the records of TinyPerson's authors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efpnbs_d2.tile_corners import tile_corners


def test_corners_are_the_official_ones():
    """The six records that the official description prints for a 1280x720 image, in their order."""
    assert tile_corners(720, 1280) == [
        (0, 0, 640, 512),
        (590, 0, 1230, 512),
        (640, 0, 1280, 512),
        (0, 208, 640, 720),
        (590, 208, 1230, 720),
        (640, 208, 1280, 720),
    ]


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (1, 1, [(0, 0, 1, 1)]),
        (512, 640, [(0, 0, 640, 512)]),
        # One pixel more than a tile: the second tile is the first one shifted by that pixel.
        (400, 641, [(0, 0, 640, 400), (1, 0, 641, 400)]),
        # 590 + 640 = 1230 ends with the image: no tile is shifted.
        (512, 1230, [(0, 0, 640, 512), (590, 0, 1230, 512)]),
    ],
)
def test_corners_of_other_sizes(height, width, expected):
    assert tile_corners(height, width) == expected


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_tiles_cover_every_pixel_once_listed(data):
    """From 1x1 up: all pixels covered, no tile twice, one size, neighbours share the overlap."""
    size = np.array([data.draw(st.integers(1, 300)) for _ in "hw"])
    tile = tuple(data.draw(st.integers(1, 120)) for _ in "hw")
    overlap = tuple(data.draw(st.integers(0, min(side - 1, 60))) for side in tile)
    height, width = size.tolist()
    corners = tile_corners(height, width, tile, overlap)
    covered = np.zeros((height, width), dtype=int)
    for x1, y1, x2, y2 in corners:
        assert (y2 - y1, x2 - x1) == (min(tile[0], height), min(tile[1], width))
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height
        covered[y1:y2, x1:x2] += 1
    assert covered.min() >= 1
    assert len(set(corners)) == len(corners)
    for axis in (0, 1):
        starts = sorted({corner[axis] for corner in corners})
        shared = [a + tile[1 - axis] - b for a, b in zip(starts, starts[1:])]
        assert all(pixels >= overlap[1 - axis] for pixels in shared)
        assert all(pixels == overlap[1 - axis] for pixels in shared[:-1])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 10), "image height of 0"),
        ((10, -1), "image width of -1"),
        ((10, 10, (0, 5), (0, 0)), "tile height of 0"),
        ((10, 10, (5, 5), (0, 5)), "overlap of 5 px for a tile width of 5 px, expected 0 to 4"),
        ((10, 10, (5, 5), (-1, 0)), "overlap of -1 px"),
    ],
)
def test_sizes_that_do_not_fit_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        tile_corners(*arguments)
