"""Pictures show what they are given: boxes where they are, counts, and nothing over the object."""

import numpy as np
import torch
from detectron2.structures import Boxes, Instances

from efpnbs_d2.inference.drawing import (
    class_color,
    crowded_corners,
    draw_boxes,
    draw_detections,
    heat_map,
)

NAMES = ["ship", "car"]


def test_a_box_is_drawn_around_its_object_and_not_over_it():
    image = np.zeros((100, 100, 3), np.uint8)
    drawn = draw_boxes(image, np.array([[10, 20, 16, 26]]), [1], NAMES)
    zoom = drawn.shape[1] // 100
    assert zoom == 9
    inside = drawn[20 * zoom : 26 * zoom, 10 * zoom : 16 * zoom]
    assert not inside.any()
    assert tuple(drawn[20 * zoom - 1, 12 * zoom]) == class_color(1)
    assert tuple(drawn[23 * zoom, 16 * zoom + 1]) == class_color(1)


def test_names_that_are_no_text_can_be_drawn():
    """OpenCV crashes on a lone surrogate, as names of files that are no UTF-8 have."""
    image = np.zeros((50, 50, 3), np.uint8)
    drawn = draw_boxes(image, np.array([[5, 5, 15, 15]]), [0], ["a\udcff"], "b\udcff.png")
    assert np.array_equal(
        drawn, draw_boxes(image, np.array([[5, 5, 15, 15]]), [0], ["a?"], "b?.png")
    )


def test_crowded_corners_are_inside_and_hold_what_is_counted():
    centres = np.array([(2.0, 2), (10, 10), (12, 11), (49, 39)])
    corners, held = crowded_corners(centres, (10, 6), (40, 50, 3))
    assert corners.tolist() == [[0, 0], [5, 7], [7, 8], [40, 34]]
    assert held.tolist() == [1, 2, 2, 1]
    assert len(crowded_corners(np.ones((2001, 2)), (10, 6), (40, 50))[0]) == 667


def test_only_detections_from_the_threshold_on_are_drawn():
    found = Instances((50, 50))
    found.pred_boxes = Boxes(torch.tensor([[5.0, 5, 15, 15], [30, 30, 40, 40]]))
    found.scores = torch.tensor([0.9, 0.1])
    found.pred_classes = torch.tensor([0, 1])
    image = np.zeros((50, 50, 3), np.uint8)
    only_first = draw_boxes(image, np.array([[5, 5, 15, 15]]), [0], NAMES)
    assert np.array_equal(draw_detections(image, found, NAMES, min_score=0.5), only_first)
    assert not np.array_equal(draw_detections(image, found, NAMES, min_score=0.05), only_first)


def test_a_heat_map_lies_where_its_cells_are():
    values = np.zeros((2, 4))
    values[0, 3] = 1.0  # the upper right quarter
    shown = heat_map(np.zeros((50, 100, 3), np.uint8), values).astype(int)
    hot, cold = shown[10, -10], shown[10, 10]
    assert hot[2] > hot[0] and cold[0] > cold[2]  # BGR: red against blue
