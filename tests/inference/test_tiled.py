"""Window by window is as good as at once: seams neither lose objects nor double them.

The images here carry their own coordinates, so that a stand-in for a detector knows which part of
the scene it is shown.
"""

import weakref

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, Instances
from hypothesis import given, settings
from hypothesis import strategies as st

from efpnbs_d2.engine.recipe import LazyRecipe
from efpnbs_d2.inference.batch import BatchPredictor
from efpnbs_d2.inference.box_pairs import box_iou
from efpnbs_d2.inference.scene import ArrayScene, Scene
from efpnbs_d2.inference.tiled import TiledPredictor


def coordinates(height, width):
    """An image of which each pixel tells its x and y, each below 4096."""
    y, x = np.indices((height, width))
    return np.stack([x & 255, y & 255, (x >> 8) | (y >> 8) << 4], axis=2).astype(np.uint8)


def corner_of(window):
    """x1, y1, x2, y2 of a window of `coordinates`."""
    low_x, low_y, high = window[0, 0].astype(int)
    x, y = low_x | (high & 15) << 8, low_y | (high >> 4) << 8
    return x, y, x + window.shape[1], y + window.shape[0]


def instances(size, boxes, scores, classes):
    return Instances(
        size,
        pred_boxes=Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)),
        scores=torch.tensor(scores, dtype=torch.float32),
        pred_classes=torch.tensor(classes, dtype=torch.int64),
    )


def nothing(images):
    return [instances(image.shape[:2], [], [], []) for image in images]


class Oracle:
    """Finds known boxes in any window: clipped to it, and a little imprecise.

    Of a clipped box it finds what is 6 px or more, or the whole side.
    """

    def __init__(self, boxes, classes):
        self.boxes, self.classes = np.asarray(boxes, dtype=float).reshape(-1, 4), classes
        self.batches = []

    def __call__(self, images):
        self.batches.append(len(images))
        return [self._find(image) for image in images]

    def _find(self, image):
        corner = np.array(corner_of(image))
        rng = np.random.default_rng(corner)
        low = np.maximum(self.boxes[:, :2], corner[:2])
        high = np.minimum(self.boxes[:, 2:], corner[2:])
        visible = np.minimum(self.boxes[:, 2:] - self.boxes[:, :2], 6)
        rows = np.flatnonzero((high - low >= visible).all(axis=1))
        size = (high - low)[rows]
        boxes = np.hstack([low[rows], high[rows]]) - np.tile(corner[:2], 2)
        boxes += rng.uniform(-1, 1, boxes.shape) * np.tile(np.minimum(0.5, size / 25), 2)
        boxes = np.clip(boxes, 0, np.tile(image.shape[1::-1], 2))
        scores = rng.uniform(0.3, 1, len(rows))
        return instances(image.shape[:2], boxes, scores, [self.classes[row] for row in rows])


def assert_each_found_once(found, boxes, classes):
    result = found.pred_boxes.tensor.double().numpy()
    assert len(result) == len(boxes)
    for box, label in zip(np.asarray(boxes, dtype=float), classes):
        overlap = box_iou(np.broadcast_to(box, result.shape), result)
        match = (overlap > 0.7) & (found.pred_classes.numpy() == label)
        assert match.sum() == 1, f"{box} of class {label}: {result[overlap > 0]}"


def scatter(seed, height, width, number):
    """Boxes that do not touch: tiny ones in clusters, and some larger than the overlap of 32 px or
    than a window of 128 px.
    """
    rng = np.random.default_rng(seed)
    boxes = np.empty((0, 4))
    centres = rng.uniform(0, (width, height), (3, 2))
    for _ in range(number):
        large = rng.random() < 0.2
        size = rng.uniform(20, 200, 2) if large else rng.uniform(4, 14, 2)
        near = centres[rng.integers(3)] + rng.normal(0, 40, 2)
        low = rng.uniform(0, (width, height)) if large else near
        box = np.append(low, low + size)
        grown = boxes + (-1, -1, 1, 1)
        meets = (np.maximum(grown[:, :2], low) < np.minimum(grown[:, 2:], low + size)).all(axis=1)
        if (low >= 0).all() and (box[2:] <= (width, height)).all() and not meets.any():
            boxes = np.vstack([boxes, box])
    return boxes, rng.integers(0, 2, len(boxes)).tolist()


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(30, 500), st.integers(30, 500))
def test_objects_at_seams_are_found_once(seed, height, width):
    boxes, classes = scatter(seed, height, width, 80)
    predict = TiledPredictor(Oracle(boxes, classes), window=(128, 128), overlap=(32, 32))
    assert_each_found_once(predict(coordinates(height, width)), boxes, classes)


@pytest.mark.parametrize("gap", [0.0, 1.0, -2.0])
def test_neighbours_of_one_class_stay_two(gap):
    """Pairs of 8 px objects, side by side or overlapping by a quarter, at every place of a seam."""
    starts = np.arange(82, 118, 1.7)
    left = np.stack([starts, 14.0 * np.arange(len(starts))], axis=1)
    right = left + (8 + gap, 0)
    boxes = np.vstack([np.hstack([low, low + 8]) for low in (left, right)])
    predict = TiledPredictor(Oracle(boxes, [0] * len(boxes)), window=(128, 100), overlap=(20, 20))
    assert_each_found_once(predict(coordinates(320, 200)), boxes, [0] * len(boxes))


def test_split_boxes_stay_apart_when_not_joined():
    boxes = [[40, 10, 160, 30]]
    image = coordinates(100, 200)
    options = {"window": (100, 110), "overlap": (20, 20)}
    assert len(TiledPredictor(Oracle(boxes, [0]), **options)(image)) == 1
    parts = TiledPredictor(Oracle(boxes, [0]), join_cut=False, **options)(image)
    assert len(parts) == 2


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300), st.integers(1, 300), st.data())
def test_windows_show_every_pixel(height, width, data):
    window = data.draw(st.tuples(st.integers(1, 150), st.integers(1, 150)))
    overlap = tuple(data.draw(st.integers(0, min(side - 1, 60))) for side in window)
    shown = np.zeros((height, width), dtype=int)

    def predict(images):
        for x1, y1, x2, y2 in map(corner_of, images):
            shown[y1:y2, x1:x2] += 1
        return nothing(images)

    # So many windows of 1 px that each takes a call are left out.
    if height * width / ((window[0] - overlap[0]) * (window[1] - overlap[1])) < 1000:
        found = TiledPredictor(predict, window=window, overlap=overlap)(coordinates(height, width))
        assert shown.min() >= 1
        assert len(found) == 0 and found.image_size == (height, width)


def test_the_default_is_the_official_tiling_of_tinyperson():
    """640 x 512 px that share 50: in 1920 x 1080 px at x 0, 590, 1180, 1280 and y 0, 462, 568."""
    seen = []

    def predict(images):
        seen.extend(map(corner_of, images))
        return nothing(images)

    TiledPredictor(predict)(coordinates(1080, 1920))
    assert seen == [(x, y, x + 640, y + 512) for y in (0, 462, 568) for x in (0, 590, 1180, 1280)]


def test_results_are_equal_for_every_batch_size():
    boxes, classes = scatter(0, 400, 500, 100)
    results = []
    for batch_size in (1, 3, 7, 100):
        oracle = Oracle(boxes, classes)
        predict = TiledPredictor(oracle, window=(128, 128), overlap=(32, 32), batch_size=batch_size)
        results.append(predict(coordinates(400, 500)))
        assert sum(oracle.batches) == 20 and max(oracle.batches) == min(batch_size, 20)
    for result in results[1:]:
        assert torch.equal(result.pred_boxes.tensor, results[0].pred_boxes.tensor)
        assert torch.equal(result.scores, results[0].scores)
        assert torch.equal(result.pred_classes, results[0].pred_classes)


def test_memory_is_bounded_by_the_batch():
    """A scene of 1.2 GB, of which no more windows are alive than two batches hold."""
    alive, most = weakref.WeakValueDictionary(), []

    class Zeros(Scene):
        height = width = 20_000

        def read(self, corner):
            x1, y1, x2, y2 = corner
            window = np.zeros((y2 - y1, x2 - x1, 3), np.uint8)
            alive[corner] = window
            most.append(len(alive))
            return window

    assert len(TiledPredictor(nothing, window=(1000, 1000), batch_size=3)(Zeros())) == 0
    assert len(most) == 21 * 21 and max(most) <= 6


def test_results_are_sorted_and_limited():
    boxes, classes = scatter(1, 300, 300, 60)
    options = {"window": (128, 128), "overlap": (32, 32)}
    every = TiledPredictor(Oracle(boxes, classes), **options)(coordinates(300, 300))
    assert every.scores.tolist() == sorted(every.scores.tolist(), reverse=True)
    some = TiledPredictor(Oracle(boxes, classes), max_detections=5, **options)
    assert some(coordinates(300, 300)).scores.tolist() == every.scores[:5].tolist()


def test_the_whole_image_finds_what_no_window_holds():
    """A box of the image reduced to a quarter comes back at its place, and beats its parts."""

    def predict(images):
        found = []
        for image in images:
            if image.shape[:2] == (100, 150):
                found.append(instances((100, 150), [[10, 20, 140, 90]], [0.5], [0]))
            else:
                x, y, _, _ = corner_of(image)
                part = np.clip(np.array([40, 80, 560, 360]) - (x, y, x, y), 0, 200)
                found.append(instances((200, 200), part, [0.9], [0]))
        return found

    options = {"window": (200, 200), "overlap": (20, 20), "whole_image": True}
    found = TiledPredictor(predict, whole_side=150, **options)(coordinates(400, 600))
    assert found.pred_boxes.tensor.tolist() == [[40, 80, 560, 360]]
    assert found.scores.tolist() == [0.5]


def test_one_window_is_not_predicted_twice():
    oracle = Oracle([[1, 1, 9, 9]], [0])
    TiledPredictor(oracle, whole_image=True)(coordinates(50, 60))
    assert oracle.batches == [1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": (64, 64), "overlap": (64, 0)}, "overlap of 64"),
        ({"window": (0, 64), "overlap": (0, 0)}, "tile height of 0"),
        ({"batch_size": 0}, "batch_size 0"),
        ({"whole_side": 0}, "whole_side 0"),
        ({"max_detections": 0}, "max_detections 0"),
        ({"iou_threshold": 50}, "iou_threshold 50"),
    ],
)
def test_bad_options_are_refused_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        TiledPredictor(nothing, **options)


@pytest.mark.parametrize(
    "array", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 3)), np.zeros((0, 5, 3), np.uint8)]
)
def test_arrays_that_are_no_images_are_refused(array):
    with pytest.raises(ValueError, match="expected an image of shape"):
        TiledPredictor(nothing)(array)


@pytest.fixture
def detector(small_lazy):
    """A small untrained model that finds ten boxes in a window."""
    torch.manual_seed(0)
    config = small_lazy("model.roi_heads.box_predictor.test_topk_per_image=10")
    return BatchPredictor(LazyRecipe(config).build_model())


def rows(found, x=0.0):
    """(R, 6) box, score and class, with the boxes moved by x."""
    boxes = found.pred_boxes.tensor + torch.tensor([x, 0, x, 0])
    columns = boxes, found.scores[:, None], found.pred_classes[:, None].float()
    return torch.cat(columns, dim=1)


def test_a_single_window_is_the_plain_predictor(detector):
    image = np.random.default_rng(0).integers(0, 256, (100, 130, 3), dtype=np.uint8)
    (plain,) = detector([image])
    for scene in (image, ArrayScene(image)):
        found = TiledPredictor(detector, window=(100, 130), iou_threshold=0.01)(scene)
        assert len(found) == 10 and torch.equal(rows(found), rows(plain))


def test_shifting_the_image_shifts_the_boxes(detector):
    """By 64 and 192 px, in windows that are 64 px apart: far from the ends nothing else changes."""
    image = np.random.default_rng(0).integers(0, 256, (128, 1216, 3), dtype=np.uint8)
    predict = TiledPredictor(detector, window=(128, 128), overlap=(64, 64), batch_size=1)
    expected = rows(predict(image))
    for shift in (64, 192):
        found = rows(predict(image[:, shift:]), x=shift)
        inside = [r[(r[:, 0] > 192 + 256) & (r[:, 2] < 1216 - 256)] for r in (expected, found)]
        assert len(inside[0]) > 20
        torch.testing.assert_close(inside[1], inside[0], rtol=0, atol=1e-3)
