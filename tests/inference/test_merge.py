"""What windows found becomes one set: cut boxes yield or are joined, duplicates go.

Most tests have two windows of 100 px side by side that share 20 px, x from 80 to 100.
"""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from efpnbs_d2.inference.box_pairs import box_iou, intersecting_pairs
from efpnbs_d2.inference.merge import WindowDetections, merge_windows
from efpnbs_d2.tile_corners import tile_corners

LEFT, RIGHT = (0, 0, 100, 100), (80, 0, 180, 100)


def columns(*rows):
    """Rows of (window, box, score) or (window, box, score, class)."""
    windows, boxes, scores, classes = zip(*((*row, 0)[:4] for row in rows))
    boxes = np.array(boxes, dtype=np.float64)
    return WindowDetections(boxes, np.array(scores), np.array(classes), np.array(windows))


def merged(*rows, **options):
    """Boxes with their scores, after merging."""
    result = merge_windows(columns(*rows), **options)
    return [(*box, score) for box, score in zip(result.boxes.tolist(), result.scores.tolist())]


def test_a_cut_box_gives_way_to_the_whole_one_whatever_their_scores():
    """Of the 20 px wide object the left window shows 6 px: their overlap, 0.3, is no duplicate."""
    cut, whole = (LEFT, (94, 10, 100, 30), 0.9), (RIGHT, (94, 10, 114, 30), 0.4)
    assert merged(cut, whole) == [(94, 10, 114, 30, 0.4)]


def test_within_a_pixel_of_the_border_is_cut():
    """The right window's box, of 4 px less at its other end, has the lower score."""
    near, whole = (LEFT, (82, 10, 99.2, 30), 0.9), (RIGHT, (82, 10, 97, 30), 0.8)
    assert merged(near, whole) == [(82, 10, 97, 30, 0.8)]
    farther = (LEFT, (82, 10, 98.8, 30), 0.9)
    assert merged(farther, whole) == [(82, 10, 98.8, 30, 0.9)]  # plain suppression


def test_what_goes_on_in_the_other_window_is_cut():
    """The left box ends 3 px before the border, but its object does not."""
    short, whole = (LEFT, (90, 10, 97, 30), 0.9), (RIGHT, (90, 10, 108, 30), 0.4)
    assert merged(short, whole) == [(90, 10, 108, 30, 0.4)]


def test_every_border_cuts():
    """The four neighbours of a window show an object whole that it shows in part."""
    centre = (100, 100, 200, 200)
    for window, box, part in [
        ((20, 100, 120, 200), (90, 140, 110, 150), (100, 140, 110, 150)),
        ((180, 100, 280, 200), (190, 140, 210, 150), (190, 140, 200, 150)),
        ((100, 20, 200, 120), (140, 90, 150, 110), (140, 100, 150, 110)),
        ((100, 180, 200, 280), (140, 190, 150, 210), (140, 190, 150, 200)),
    ]:
        assert merged((centre, part, 0.9), (window, box, 0.4)) == [(*box, 0.4)]


def test_the_border_of_the_image_cuts_nothing():
    """Both windows show all that there is of an object at the lower border."""
    one, other = (LEFT, (84, 90, 96, 100), 0.9), (RIGHT, (84, 92, 96, 100), 0.8)
    assert merged(one, other) == [(84, 90, 96, 100, 0.9)]


def test_a_cut_box_that_nobody_saw_whole_stays():
    assert merged((LEFT, (94, 10, 100, 30), 0.9)) == [(94, 10, 100, 30, 0.9)]


def test_only_one_object_gives_way():
    """Another class, or boxes that overlap little in the shared area, are other objects."""
    cut, whole = (94, 10, 100, 30), (94, 10, 114, 30)
    assert len(merged((LEFT, cut, 0.9, 1), (RIGHT, whole, 0.4, 2))) == 2
    lower = (94, 18, 114, 38)  # in the shared area 12 of 28 rows are common
    assert len(merged((LEFT, cut, 0.9), (RIGHT, lower, 0.4))) == 2


def test_boxes_that_both_windows_cut_become_one():
    """40 px of an object in a shared area of 20."""
    parts = (LEFT, (70, 10, 100, 30), 0.4), (RIGHT, (80, 12, 110, 30), 0.9)
    assert merged(*parts) == [(70, 10, 110, 30, 0.9)]
    assert len(merged(*parts, join_cut=False)) == 2


def test_a_chain_of_windows_is_joined():
    third = (160, 0, 260, 100)
    parts = (LEFT, (50, 10, 100, 30), 0.4), (RIGHT, (80, 10, 180, 30), 0.5)
    ends = (third, (160, 10, 200, 30), 0.6)
    other = (third, (220, 10, 240, 30), 0.3)
    assert merged(*parts, ends, other) == [(50, 10, 200, 30, 0.6), (220, 10, 240, 30, 0.3)]


def test_a_joined_box_suppresses_in_all_windows():
    """No window's own suppression has seen it; 65 of 95 columns are common."""
    parts = (LEFT, (20, 10, 100, 30), 0.9), (RIGHT, (80, 10, 110, 30), 0.7)
    close = (LEFT, (15, 10, 85, 30), 0.8)
    assert merged(*parts, close) == [(20, 10, 110, 30, 0.9)]


def test_a_window_that_saw_it_whole_stands_for_all_parts():
    parts = (LEFT, (60, 10, 100, 30), 0.9), (RIGHT, (80, 10, 120, 30), 0.8)
    third = ((55, 0, 155, 100), (60, 10, 118, 30), 0.5)
    assert merged(*parts, third) == [(60, 10, 118, 30, 0.5)]


def test_what_gave_way_to_a_box_that_gave_way_is_gone():
    """The left one is cut at right, the right one below; the last one, whole but imprecise, has
    too little in common with the left one.
    """
    first, second = (LEFT, (94, 79, 100, 96), 0.9), (RIGHT, (94, 79, 104, 100), 0.8)
    last = ((80, 80, 180, 180), (94, 90, 104, 110), 0.7)
    assert merged(first, second, last) == [(94, 90, 104, 110, 0.7)]


def test_boxes_that_give_way_in_a_circle_leave_the_highest():
    """Imprecise boxes of an object of about 14 x 20 px: the first touches its window's right
    border, the second the lower one, and the first begins above the third one's window.
    """
    below = (0, 80, 100, 180)
    first, second = (LEFT, (85, 75, 99.5, 98), 0.4), (RIGHT, (85, 79.5, 98.5, 99.5), 0.9)
    third = (below, (85, 82, 98.5, 100), 0.5)
    assert merged(first, second, third) == [(85, 79.5, 98.5, 99.5, 0.9)]


def test_duplicates_are_suppressed_between_windows_only():
    """Inside a window the detector has decided; the second pair is as close as the first."""
    one, two = (85, 10, 95, 20), (88, 10, 98, 20)  # 7 of 13 columns are common: 0.54
    found = (LEFT, one, 0.9), (LEFT, two, 0.8), (RIGHT, one, 0.7), (RIGHT, two, 0.6)
    assert merged(*found) == [(*one, 0.9), (*two, 0.8)]
    assert merged(*found, iou_threshold=0.6) == [(*one, 0.9), (*two, 0.8)]
    assert len(merged(found[0], found[3], iou_threshold=0.5)) == 1
    assert len(merged(found[0], found[3], iou_threshold=0.6)) == 2


def test_the_highest_of_equal_boxes_stays_and_suppressed_ones_suppress_nothing():
    """The second is a duplicate of the first, the third one only of the second."""
    first, second, third = (81, 10, 91, 20), (84, 10, 94, 20), (87, 10, 97, 20)
    found = (LEFT, first, 0.9), (RIGHT, second, 0.8), (LEFT, third, 0.7)
    assert merged(*found) == [(*first, 0.9), (*third, 0.7)]


def test_nothing_found_is_nothing_merged():
    empty = WindowDetections(*(np.empty((0, *n)) for n in [(4,), (), (), (4,)]))
    assert len(merge_windows(empty).boxes) == 0


def boxes_in_windows(least=1):
    """At least so many random boxes, many of them cut, in windows of 40 px that share 15."""

    def build(seed_and_number):
        seed, count = seed_and_number
        rng = np.random.default_rng(seed)
        windows = np.array(tile_corners(90, 110, (40, 40), (15, 15)))
        windows = windows[rng.integers(0, len(windows), count)]
        low = windows[:, :2] + rng.integers(-20, 39, (count, 2))
        boxes = np.hstack([low, low + rng.integers(1, 40, (count, 2))]).astype(np.float64)
        boxes = np.clip(boxes, np.tile(windows[:, :2], 2), np.tile(windows[:, 2:], 2))
        # Few scores, so that there are ties.
        scores = rng.integers(1, 5, count) / 5
        return WindowDetections(boxes, scores, rng.integers(0, 2, count), windows)

    return st.tuples(st.integers(0, 2**32 - 1), st.integers(least, 60)).map(build)


@settings(deadline=None)
@given(boxes_in_windows(), st.booleans(), st.randoms(use_true_random=False))
def test_the_order_of_what_is_found_does_not_matter(found, join_cut, random):
    rows = list(range(len(found.boxes)))
    random.shuffle(rows)
    one = merge_windows(found, join_cut=join_cut)
    other = merge_windows(found[np.array(rows)], join_cut=join_cut)
    for name in ("boxes", "scores", "classes"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (np.diff(one.scores) <= 0).all()


@settings(deadline=None)
@given(boxes_in_windows())
def test_nothing_is_lost(found):
    """Whatever went, went for a box of its class that it meets, or that meets one that it meets."""
    result = merge_windows(found)
    nonempty = (found.boxes[:, :2] < found.boxes[:, 2:]).all(axis=1)
    reach = (box_iou_table(found, found) > 0) | np.eye(len(found.boxes), dtype=bool)
    for _ in range(6):
        reach = (reach.astype(int) @ reach) > 0
    connected = (reach.astype(int) @ (box_iou_table(found, result) > 0)) > 0
    assert connected.any(axis=1)[nonempty].all()


@settings(deadline=None)
@given(boxes_in_windows())
def test_no_duplicates_are_left(found):
    """Of equal class, from windows of their own, and overlapping by more than the threshold."""
    result = merge_windows(found)
    overlap = box_iou_table(result, result)
    apart = (result.windows[:, None] != result.windows).any(axis=2)
    assert not (apart & (overlap > 0.5)).any()


def box_iou_table(one, other):
    """(D, E) overlaps of each with each, 0 between classes."""
    rows, partners = np.indices((len(one.boxes), len(other.boxes))).reshape(2, -1)
    overlap = box_iou(one.boxes[rows], other.boxes[partners])
    same_class = one.classes[rows] == other.classes[partners]
    return (overlap * same_class).reshape(len(one.boxes), len(other.boxes))


@settings(deadline=None)
@given(boxes_in_windows(least=0))
def test_pairs_are_all_that_intersect(found):
    expected = np.triu(box_iou_table(found, found) > 0, k=1)
    pairs = np.zeros_like(expected, dtype=int)
    for one, other in intersecting_pairs(found.boxes, found.classes):
        np.add.at(pairs, (np.minimum(one, other), np.maximum(one, other)), 1)
    np.testing.assert_array_equal(pairs, expected.astype(int))


@pytest.mark.parametrize("chunk", [1, 7])
def test_pairs_come_in_pieces(chunk, monkeypatch):
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 50, (60, 2))
    boxes = np.hstack([low, low + rng.uniform(1, 20, (60, 2))])
    group = np.zeros(60, dtype=int)
    whole = [np.stack(pair, axis=1) for pair in intersecting_pairs(boxes, group)]
    monkeypatch.setattr("efpnbs_d2.inference.box_pairs._CHUNK", chunk)
    pieces = [np.stack(pair, axis=1) for pair in intersecting_pairs(boxes, group)]
    assert len(pieces) > 10
    np.testing.assert_array_equal(np.concatenate(pieces), np.concatenate(whole))


def test_a_hundred_thousand_detections_take_seconds():
    """Of tiny objects of one class, crowded; comparing all that share columns takes 11 s."""
    rng = np.random.default_rng(0)
    windows = np.array(tile_corners(1500, 1500, (512, 512), (256, 256)))
    windows = windows[rng.integers(0, len(windows), 100_000)]
    low = windows[:, :2] + rng.uniform(0, 500, (100_000, 2))
    boxes = np.hstack([low, low + rng.uniform(4, 12, (100_000, 2))])
    found = WindowDetections(boxes, rng.random(100_000), np.zeros(100_000, int), windows)
    start = time.process_time()
    assert len(merge_windows(found).boxes) > 50_000
    assert time.process_time() - start < 6
