"""Where tiles lie and which boxes they hold, against the records of TinyPerson's authors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efpnbs_d2.data.tiling import split_boxes, stays, tile_corners


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


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 900),
    st.integers(1, 900),
    st.lists(st.tuples(*[st.floats(0, 1)] * 2, *[st.floats(0.5, 50)] * 2), max_size=8),
)
def test_an_object_within_the_overlap_is_whole_in_a_tile(height, width, drawn):
    """50 px of overlap: whatever is smaller is cut by no tile border without a tile that has it."""
    boxes = np.array(
        [
            [
                x * max(width - w, 0),
                y * max(height - h, 0),
                min(x * max(width - w, 0) + w, width),
                min(y * max(height - h, 0) + h, height),
            ]
            for x, y, w, h in drawn
        ]
    ).reshape(-1, 4)
    corners = np.array(tile_corners(height, width, (200, 300)), dtype=float)
    pieces, visible = split_boxes(boxes, corners)
    assert pieces.shape == (len(corners), len(boxes), 4)
    assert (visible.max(axis=0, initial=0) > 1 - 1e-9).all()
    assert (visible <= 1 + 1e-9).all()


def test_pieces_are_clipped_and_moved_to_their_tile():
    """A 20x10 box across x = 100: 14 px of it in the left tile, 6 px in the right one."""
    boxes = np.array([[86.0, 5, 106, 15], [150, 0, 160, 10], [3, 3, 3, 9]])
    pieces, visible = split_boxes(boxes, np.array([[0.0, 0, 100, 50], [100, 0, 200, 50]]))
    assert pieces[:, 0].tolist() == [[86, 5, 100, 15], [0, 5, 6, 15]]
    # sqrt(14 * 10) / sqrt(20 * 10) and sqrt(6 * 10) / sqrt(20 * 10)
    np.testing.assert_allclose(visible[:, 0], [np.sqrt(0.7), np.sqrt(0.3)])
    # Nothing of the second box is in the left tile; nothing of an empty box is anywhere.
    assert visible[:, 1].tolist() == [0, 1]
    assert visible[:, 2].tolist() == [0, 0]


@pytest.mark.parametrize(("inside", "kept"), [(4.9, True), (4.89, False)])
def test_an_object_stays_from_seven_tenths_of_its_scale(inside, kept):
    """sqrt(0.49) = 0.7: 4.9 of 10 px inside is just enough; an ignore region stays anyway."""
    _, visible = split_boxes(
        np.array([[100 - inside, 0, 110 - inside, 10]] * 2), np.array([[0, 0, 100, 100]])
    )
    assert stays(visible, np.array([False, True])).tolist() == [[kept, True]]


def test_seven_tenths_are_inclusive():
    """7x7 of 10x10 px, whose numbers are exact in floating point."""
    _, visible = split_boxes(np.array([[93.0, 93, 103, 103]]), np.array([[0, 0, 100, 100]]))
    assert stays(visible, np.array([False])).all()


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
