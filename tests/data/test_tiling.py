"""Which boxes tiles hold, by the rules of TinyPerson's authors."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efpnbs_d2.data.tiling import split_boxes, stays
from efpnbs_d2.tile_corners import tile_corners


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
