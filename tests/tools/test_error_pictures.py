"""Where and in which colour an image's errors are drawn."""

import numpy as np

from efpnbs_d2.evaluation.analysis.image_errors import ImageBoxes
from efpnbs_d2.tools.error_pictures import LEGEND, densest_errors, enlarged, grey_image, whole_image

MISSED, FALSE, RIGHT, IGNORED, ENLARGED = (color for _, color in LEGEND)


def boxes_of(found=(), true=(), size=(200, 400)):
    """`found` and `true`: (state, x, y, w, h)."""
    found, true = (np.array(rows, dtype=float).reshape(-1, 5) for rows in (found, true))
    return ImageBoxes(
        image=0,
        name="0",
        size=size,
        found_boxes=found[:, 1:],
        found_category=np.ones(len(found), int),
        found_scores=np.ones(len(found)),
        found_state=found[:, 0].astype(np.int8),
        found_error=np.zeros(len(found), np.int8),
        true_boxes=true[:, 1:],
        true_category=np.ones(len(true), int),
        true_state=true[:, 0].astype(np.int8),
    )


def drawn(boxes, window=(0, 0, 400, 200)):
    return whole_image(np.zeros((200, 400, 3), np.uint8), boxes, window)


def color(picture, x, y):
    return tuple(picture[y, x].tolist())


def test_each_state_has_its_colour():
    """Lines stand one pixel outside of the boxes; the pixels of an object stay as they are."""
    found = [(1, 10, 10, 20, 20), (0, 50, 10, 20, 20), (2, 90, 10, 20, 20)]
    true = [(1, 130, 10, 20, 20), (0, 170, 10, 20, 20), (2, 210, 10, 20, 20)]
    picture = drawn(boxes_of(found, true))
    expected = [RIGHT, FALSE, IGNORED, (0, 0, 0), MISSED, IGNORED]
    assert [color(picture, x, 9) for x in range(20, 240, 40)] == expected
    assert [color(picture, x, 10) for x in range(20, 240, 40)] == [(0, 0, 0)] * 6


def test_errors_lie_over_what_is_right():
    box = (10, 10, 20, 20)
    assert color(drawn(boxes_of([(0, *box), (1, *box)])), 20, 9) == FALSE
    assert color(drawn(boxes_of([(1, *box)], [(0, *box)])), 20, 9) == MISSED
    assert color(drawn(boxes_of([(0, *box)], [(0, *box)])), 20, 9) == MISSED
    assert color(drawn(boxes_of([(1, *box)], [(2, *box)])), 20, 9) == RIGHT


def test_a_large_image_is_made_smaller_with_its_boxes():
    """2,400 px wide are shown on 800: a box from 300 on starts at 100."""
    boxes = boxes_of(true=[(0, 300, 300, 60, 60)])
    picture = whole_image(np.zeros((1200, 2400, 3), np.uint8), boxes, (0, 0, 2400, 1200))
    assert picture.shape == (400, 800, 3)
    assert color(picture, 99, 110) == MISSED and color(picture, 100, 110) == (0, 0, 0)


def test_boxes_far_outside_do_no_harm():
    found = [(0, -1e12, -1e12, 1e12 + 50, 1e12 + 50), (0, 1e12, 1e12, 1, 1)]
    assert color(drawn(boxes_of(found)), 20, 51) == FALSE


def test_the_window_holds_most_errors_of_all_runs():
    """Three errors of two runs on the right, one on the left beside many right boxes."""
    left, right = (20, 20, 8, 8), (340, 150, 8, 8)
    one = boxes_of([(1, *left)] * 9 + [(0, *right)], [(0, *left), (0, *right)])
    two = boxes_of([(0, *right)])
    x, y, width, height = densest_errors((200, 400, 3), [one, two])
    # 16 times the median side, but at least 150 px.
    assert (width, height) == (150, 150)
    assert x <= 340 and x + width >= 348 and y <= 150 and y + height >= 158
    larger = boxes_of(true=[(0, 300, 50, 20, 20)])
    assert densest_errors((900, 900, 3), [larger])[2:] == (320, 320)
    assert densest_errors((100, 90, 3), [larger])[2:] == (90, 100)
    assert densest_errors((100, 90, 3), [boxes_of()])[2:] == (90, 100)


def test_the_enlarged_part_shows_boxes_where_they_are():
    """A part of 100 px becomes 800: a box 10 px into it starts at 80, behind a line of 2 px."""
    boxes = boxes_of([(0, 110, 60, 20, 20)])
    picture = enlarged(np.zeros((200, 400, 3), np.uint8), boxes, (100, 50, 100, 100))
    assert picture.shape == (800, 800, 3)
    assert color(picture, 78, 160) == FALSE and color(picture, 82, 160) == (0, 0, 0)


def test_the_window_is_framed_where_it_is_a_part():
    window = (100, 50, 100, 100)
    assert color(drawn(boxes_of(), window), 98, 100) == ENLARGED
    assert not drawn(boxes_of(), (0, 0, 400, 200)).any()


def test_a_plane_in_place_of_an_image():
    assert grey_image([boxes_of()]).shape == (200, 400, 3)
    unknown = boxes_of([(0, 90, 10, 30.5, 20)], [(0, 5, 70, 8, 8)], size=(0, 0))
    assert grey_image([boxes_of(size=(0, 0)), unknown]).shape == (78, 121, 3)
    far = boxes_of([(0, 1e9, 1e9, 5, 5)], size=(0, 0))
    assert max(grey_image([far]).shape) == 4000
    assert grey_image([boxes_of(size=(0, 0))]).shape == (1, 1, 3)
