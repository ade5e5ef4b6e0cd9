"""Pictures of crowds: thin boxes around objects, close-ups where they are closest together."""

import cv2
import numpy as np
import pytest

from efpnbs_d2.inference.drawing import class_color, legend
from efpnbs_d2.inference.scene import ArrayScene
from efpnbs_d2.tools.prediction_pictures import crowded_windows, draw_crowd, draw_frame

NAMES = ["ship", "car"]
RED = class_color(0)


def grid(x, y, number, step=10, size=6):
    """`number` x `number` boxes from (x, y) on."""
    corners = np.array([(x + step * i, y + step * j) for j in range(number) for i in range(number)])
    return np.hstack([corners, corners + size]).astype(float)


def where(picture, color):
    """Rows and columns of the pixels of a colour."""
    return np.nonzero((picture == color).all(axis=2))


def test_large_images_are_reduced_and_boxes_with_them():
    """2 x 4000 px wide: half the size, with lines just outside of the box's own pixels."""
    image = np.zeros((1000, 4000, 3), np.uint8)
    picture = draw_crowd(image, np.array([[2000, 400, 2100, 500]]), [0], NAMES)
    assert picture.shape[:2] == (500 + len(legend(2000, "", [(RED, "ship 1")])), 2000)
    rows, columns = where(picture[:500], RED)
    # At 50 px a line of 2, whose pixels lie around the box at 1000..1050 x 200..250.
    assert (columns.min(), columns.max()) == (997, 1053)
    assert (rows.min(), rows.max()) == (197, 253)
    assert not picture[200:250, 1000:1050].any()


def test_lines_grow_with_objects_and_small_ones_stay_on_top():
    image = np.zeros((1000, 1000, 3), np.uint8)
    boxes = np.array([[100, 100, 106, 106], [90, 90, 103, 500], [300, 300, 700, 700]])
    picture = draw_crowd(image, boxes, [0, 1, 1], NAMES)
    # Around 73 px (the root of 13 x 410) and around 400 px; a small object has a line of 1 px.
    medium = (picture[250] == class_color(1)).all(axis=1)[:95].sum()
    large = (picture[600] == class_color(1)).all(axis=1)[:400].sum()
    assert 1 < medium < large < 8
    assert (picture[103, 90:100] == RED).all(axis=1).sum() == 1
    # The small box is drawn whole, though a large one was given after it.
    assert (picture[99, 99:107] == RED).all() and (picture[99:107, 99] == RED).all()


@pytest.mark.parametrize("shape", [(1200, 1600), (1600, 900), (700, 700)])
def test_close_ups_show_the_crowd_enlarged(shape):
    """A crowd of 25 in one corner, a few objects elsewhere: A is the crowd's."""
    image = np.full((*shape, 3), 60, np.uint8)
    boxes = np.vstack([grid(shape[1] - 150, 30, 5), grid(20, shape[0] - 40, 1)])
    scene = ArrayScene(image)
    picture = draw_crowd(scene, boxes, [0] * len(boxes), NAMES)
    width = round(shape[1] * min(1, 2000 / max(shape)))
    side = (round(shape[0] * min(1, 2000 / max(shape))) - 16) // 3
    assert picture.shape[1] == width + 8 + side
    panel = picture[:side, width + 8 :]
    rows, columns = where(panel, RED)
    # 6 px become 26 on the panel, so that the crowd of 46 px is about 200 px wide.
    assert 0.9 * 200 < columns.max() - columns.min() < 1.1 * 200
    # One crowd, one close-up.
    assert not where(picture[side + 8 : shape[0], width:], RED)[0].size


def test_objects_large_enough_need_no_close_up():
    image = np.zeros((1000, 1000, 3), np.uint8)
    boxes = grid(0, 0, 10, step=60, size=30)
    assert draw_crowd(image, boxes, [0] * 100, NAMES).shape[1] == 1000
    few = grid(0, 0, 2)
    assert draw_crowd(image, few, [0] * 4, NAMES).shape[1] == 1000


def test_the_crowded_windows_hold_most_and_do_not_overlap():
    """Crowds of 36, 25 and 16, so far apart that none shares a window of 80 px with another."""
    crowds = [grid(300, 300, 6), grid(20, 20, 5), grid(20, 300, 4), grid(300, 20, 1)]
    centres = np.vstack([(c[:, :2] + c[:, 2:]) / 2 for c in crowds])
    windows = crowded_windows(centres, 80, (400, 400))
    held = [
        int(((centres >= w[:2]) & (centres < w[2:])).all(axis=1).sum())
        for w in map(np.array, windows)
    ]
    assert held == [36, 25, 16]
    for w in windows:
        assert w[2] - w[0] == w[3] - w[1] == 80
        assert min(w[:2]) >= 0 and max(w[2:]) <= 400


def test_windows_inside_one_crowd_do_not_overlap():
    centres = grid(0, 0, 30)[:, :2]
    windows = crowded_windows(centres, 60, (306, 306))
    assert len(windows) == 3
    for number, a in enumerate(windows):
        for b in windows[:number]:
            assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1]


def test_no_objects_no_windows():
    assert crowded_windows(np.empty((0, 2)), 10, (40, 40)) == []
    picture = draw_crowd(np.zeros((1, 1, 3), np.uint8), np.empty((0, 4)), [], NAMES)
    assert picture.shape[1] == 8


def test_the_scene_is_only_read_where_it_is_shown():
    class Watched(ArrayScene):
        pixels = 0

        def read(self, corner):
            self.pixels += (corner[2] - corner[0]) * (corner[3] - corner[1])
            return super().read(corner)

    scene = Watched(np.zeros((3000, 4000, 3), np.uint8))
    draw_crowd(scene, grid(100, 100, 10), [0] * 100, NAMES)
    assert 0 < scene.pixels < 400 * 400


@pytest.mark.parametrize("shape", [(61, 83), (480, 640), (1079, 1919)])
def test_frames_of_a_video_have_one_even_size(shape):
    image = np.full((*shape, 3), 9, np.uint8)
    names = [f"class {i}" for i in range(12)]
    sizes = {
        draw_frame(image, np.tile([[1, 1, 9, 9]], (n, 1)), list(range(12)) * (n // 12), names).shape
        for n in (0, 12, 1200)
    }
    assert len(sizes) == 1
    height, width, _ = sizes.pop()
    assert height % 2 == 0 and width % 2 == 0
    assert cv2.countNonZero(image[:, :, 0] - 9) == 0  # the frame given is not drawn into
