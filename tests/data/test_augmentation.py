"""Whatever an augmentation does, pixels, objects and ignored regions stay together."""

from pathlib import Path

import numpy as np
import pytest
from detectron2.config import LazyConfig, instantiate
from detectron2.data import transforms as T
from omegaconf import OmegaConf

from efpnbs_d2.data.augmentation import ObjectCrop, RandomScale, SceneInput
from efpnbs_d2.data.copy_paste import TinyObjectCopyPaste

LISTS = Path(__file__).resolve().parents[2] / "configs/common/augmentation.py"
HEIGHT, WIDTH = 60, 90
SEEDS = range(40)


def _scene(seed, objects=8, ignored=3, cell=15, side=(2, 9)):
    """Boxes on the pixel grid, at most one in a cell of a chequerboard, each of its own colour."""
    rng = np.random.default_rng(seed)
    cells = rng.permutation((HEIGHT // cell) * (WIDTH // cell))[: objects + ignored]
    corner = np.stack([cells % (WIDTH // cell), cells // (WIDTH // cell)], 1) * cell
    extent = rng.integers(*side, (len(cells), 2))
    corner = corner + rng.integers(0, cell - side[1], (len(cells), 2))
    boxes = np.concatenate([corner, corner + extent], 1)
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for number, (x1, y1, x2, y2) in enumerate(boxes, start=1):
        image[y1:y2, x1:x2] = (number, 255 - number, 100)
    boxes = boxes.astype(np.float64)
    return SceneInput(image, boxes=boxes[:objects], ignore_boxes=boxes[objects:])


def _extent(image, number):
    """xyxy of the pixels of one colour; None where there are none."""
    rows, columns = np.nonzero(image[..., 0] == number)
    if len(rows) == 0:
        return None
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def _clipped(box, image):
    height, width = image.shape[:2]
    x1, y1, x2, y2 = box.clip(0, [width, height, width, height])
    return [x1, y1, x2, y2] if x1 < x2 and y1 < y2 else None


def _shares_ground(box, others):
    low, high = np.maximum(box[:2], others[:, :2]), np.minimum(box[2:], others[:, 2:])
    return (low < high).all(axis=1).any()


EXACT = {
    "crop": [ObjectCrop((30, 40))],
    "flips": [T.RandomFlip(), T.RandomFlip(horizontal=False, vertical=True)],
    "turns": [T.RandomRotation([0, 90, 180, 270], sample_style="choice")],
    "all": [
        ObjectCrop((50, 70)),
        T.RandomRotation([0, 90, 180, 270], sample_style="choice"),
        T.RandomFlip(),
        ObjectCrop((30, 40)),
    ],
}


@pytest.mark.parametrize("augmentations", EXACT.values(), ids=EXACT)
def test_exact_transforms_move_boxes_regions_and_pixels_together(augmentations):
    moved = 0
    for seed in SEEDS:
        scene, before = _scene(seed), _scene(seed)
        np.random.seed(seed)
        T.AugmentationList(augmentations)(scene)
        boxes = np.concatenate([scene.boxes, scene.ignore_boxes])
        for number, box in enumerate(boxes, start=1):
            # Detectron2's rotation leaves 1e-14 of a pixel.
            assert _extent(scene.image, number) == _clipped(box.round(9), scene.image)
        moved += not np.array_equal(boxes[:8], before.boxes)
    assert moved > len(SEEDS) / 2  # the property was put to the test


def test_scaled_boxes_and_regions_follow_the_pixels_within_one_pixel():
    for seed in SEEDS:
        scene = _scene(seed)
        scene.image = np.where(scene.image > 0, 255, 0).astype(np.uint8)
        np.random.seed(seed)
        RandomScale(0.5, 2.0)(scene)
        white = scene.image[..., 0] > 127
        expected = np.zeros((3, *white.shape), bool)
        for x1, y1, x2, y2 in np.concatenate([scene.boxes, scene.ignore_boxes]):
            for layer, margin in zip(expected, (-1, 0, 1), strict=True):
                inner = np.array([x1 - margin, y1 - margin, x2 + margin, y2 + margin]).round()
                left, top, right, bottom = inner.clip(0).astype(int)
                layer[top:bottom, left:right] = True
        assert (white >= expected[0]).all() and (white <= expected[2]).all()


def test_scale_factors_are_as_likely_to_shrink_as_to_enlarge():
    np.random.seed(0)
    image = np.zeros((400, 600, 3), np.uint8)
    factors = []
    for _ in range(400):
        transform = RandomScale(0.5, 2.0).get_transform(image)
        assert transform.new_w / 600 == pytest.approx(transform.new_h / 400, abs=1 / 400)
        factors.append(transform.new_h / 400)
    assert 0.5 <= min(factors) < 0.55 and 1.85 < max(factors) <= 2.0
    # 4 standard deviations of a share of 400 draws at one half are 0.1.
    assert np.mean(np.array(factors) < 1) == pytest.approx(0.5, abs=0.1)


def _crop(scene, size, object_prob):
    return ObjectCrop(size, object_prob).get_transform(scene.image, scene.boxes)


def test_a_crop_at_an_object_holds_one_whole():
    starts = set()
    for seed in SEEDS:
        scene = _scene(seed, objects=2)
        np.random.seed(seed)
        crop = _crop(scene, (20, 25), 1.0)
        assert (crop.h, crop.w) == (20, 25)
        assert 0 <= crop.x0 <= WIDTH - 25 and 0 <= crop.y0 <= HEIGHT - 20
        left, right = scene.boxes[:, :2] - (crop.x0, crop.y0), scene.boxes[:, 2:]
        inside = (left >= 0).all(1) & (right - (crop.x0, crop.y0) <= (25, 20)).all(1)
        assert inside.any()
        starts.add(tuple(left[inside][0]))
    assert len(starts) > len(SEEDS) / 2  # not always at the same place in the crop


def test_an_object_larger_than_the_crop_has_its_centre_in_it():
    # Centre at (45, 30); the object reaches over the border, its visible part is 0 to 60 and so on.
    scene = SceneInput(
        np.zeros((HEIGHT, WIDTH, 3), np.uint8),
        boxes=np.array([[20.0, 5.5, 70.0, 54.5]]),
        ignore_boxes=np.zeros((0, 4)),
    )
    for seed in SEEDS:
        np.random.seed(seed)
        crop = _crop(scene, (20, 25), 1.0)
        assert crop.x0 <= 45 <= crop.x0 + 25 and crop.y0 <= 30 <= crop.y0 + 20


def test_the_share_of_crops_at_objects_is_the_one_asked_for():
    # One object of 2 x 2 px: of the 71 x 41 uniform crops, at most 19 x 19 hold it (12 %).
    scene = _scene(0, objects=0)
    scene.boxes = np.array([[40.0, 30.0, 42.0, 32.0]])
    held = []
    np.random.seed(0)
    for _ in range(600):
        crop = _crop(scene, (20, 20), 0.5)
        held.append(crop.x0 <= 40 and crop.y0 <= 30 and crop.x0 >= 22 and crop.y0 >= 12)
    # 0.5 + 0.5 x 361 / 2911 = 0.56; 4 standard deviations of 600 draws are 0.08.
    assert np.mean(held) == pytest.approx(0.56, abs=0.08)


@pytest.mark.parametrize("boxes", [None, np.zeros((0, 4)), np.array([[-30.0, 2, -20, 9]])])
def test_without_objects_in_sight_every_crop_is_as_likely(boxes):
    image, crop = np.zeros((6, 7, 3), np.uint8), ObjectCrop((4, 4), 1.0)
    np.random.seed(0)
    starts = {(c.x0, c.y0) for c in (crop.get_transform(image, boxes) for _ in range(200))}
    assert starts == {(x, y) for x in range(4) for y in range(3)}


@pytest.mark.parametrize(
    ("size", "expected"), [((100, 100), (60, 90)), ((100, 50), (60, 50)), ((30, 90), (30, 90))]
)
def test_a_side_shorter_than_the_crop_is_kept_whole(size, expected):
    scene = _scene(0)
    ObjectCrop(size)(scene)
    assert scene.image.shape[:2] == expected


@pytest.mark.parametrize("seed", range(60))
def test_copies_are_exact_and_harm_nothing(seed):
    scene, before = _scene(seed), _scene(seed)
    # Ground and objects with detail, so that a wrong pixel shows.
    detail = np.random.default_rng(seed).integers(0, 256, before.image.shape, dtype=np.uint8)
    scene.image, before.image = detail, detail.copy()
    np.random.seed(seed)
    TinyObjectCopyPaste(prob=1.0, max_copies=5, ring=2)(scene)

    assert np.array_equal(scene.boxes[:8], before.boxes)
    assert np.array_equal(scene.ignore_boxes, before.ignore_boxes)
    assert scene.source.tolist()[:8] == list(range(8))
    taken, untouched = np.concatenate([before.boxes, before.ignore_boxes]), np.ones_like(detail)
    for box, source in zip(scene.boxes[8:], scene.source[8:], strict=True):
        assert (box[:2] - 2 >= 0).all() and (box[2:] + 2 <= (WIDTH, HEIGHT)).all()
        assert not _shares_ground(box + (-2, -2, 2, 2), taken)
        taken = np.concatenate([taken, box[None]])
        (x1, y1, x2, y2), (u1, v1, u2, v2) = box.astype(int), before.boxes[source].astype(int)
        assert np.array_equal(scene.image[y1:y2, x1:x2], before.image[v1:v2, u1:u2])
        untouched[y1 - 2 : y2 + 2, x1 - 2 : x2 + 2] = 0
    for x1, y1, x2, y2 in np.concatenate([before.boxes, before.ignore_boxes]).astype(int):
        assert untouched[y1:y2, x1:x2].all()
    kept = untouched.astype(bool)
    assert np.array_equal(scene.image[kept], before.image[kept])


def test_most_images_with_room_get_copies():
    counts = []
    for seed in SEEDS:
        scene = _scene(seed)
        np.random.seed(seed)
        TinyObjectCopyPaste(prob=1.0, max_copies=5, ring=2)(scene)
        counts.append(len(scene.boxes) - 8)
    assert set(counts) >= {1, 2, 3, 4, 5} and max(counts) == 5


def test_a_seed_gives_the_same_copies_again():
    results = []
    for seed in (3, 3, 4):
        scene = _scene(0)
        np.random.seed(seed)
        TinyObjectCopyPaste(prob=1.0)(scene)
        results.append(scene.image)
    assert np.array_equal(results[0], results[1]) and not np.array_equal(results[0], results[2])


def test_the_ring_fades_into_the_ground():
    # An object of 2 px and value 90 with a ring of 2 px of value 60, pasted on ground of 0: of the
    # ring's two pixels the inner keeps 2/3, the outer 1/3.
    image = np.zeros((8, 40, 1), np.uint8)
    image[1:7, 1:7], image[3:5, 3:5] = 60, 90
    scene = SceneInput(
        image, boxes=np.array([[3.0, 3, 5, 5]]), ignore_boxes=np.array([[0.0, 0, 12, 8]])
    )
    scene.ignore_boxes = np.array([[8.0, 0, 20, 8]])
    np.random.seed(1)
    TinyObjectCopyPaste(prob=1.0, max_copies=1, ring=2, attempts=200)(scene)
    x1, y1, x2, y2 = scene.boxes[1].astype(int)
    assert x1 >= 22
    row = scene.image[y1, x1 - 3 : x2 + 3, 0].tolist()
    assert row[1:-1] == [20, 40, 90, 90, 40, 20]
    assert scene.image[y1 - 2, x1, 0] == 20 and scene.image[y2, x1, 0] == 40


def _paste(boxes, ignored=(), **options):
    scene = SceneInput(
        np.zeros((HEIGHT, WIDTH, 3), np.uint8),
        boxes=np.array(boxes, dtype=np.float64),
        ignore_boxes=np.array(ignored, dtype=np.float64).reshape(-1, 4),
    )
    np.random.seed(0)
    TinyObjectCopyPaste(prob=1.0, ring=3, attempts=100, **options)(scene)
    return scene


@pytest.mark.parametrize(
    ("boxes", "ignored"),
    [
        ([[10, 10, 20, 20], [22, 10, 32, 20]], []),  # neighbours inside each other's ring
        ([[10, 10, 20, 20]], [[22, 0, 30, 30]]),  # an ignored region inside the ring
        ([[1, 10, 9, 20]], []),  # the ring is cut by the image's border
        ([[85, 30, 95, 40]], []),  # the object is cut by the image's border
        ([[10, 10, 60, 50]], []),  # not tiny
        ([[10, 10, 20, 20]], [[0, 24, 90, 60], [24, 0, 90, 60]]),  # no free ground
        ([[10, 10, 10, 20]], []),  # empty
    ],
)
def test_what_must_not_be_copied_is_not(boxes, ignored):
    assert len(_paste(boxes, ignored).boxes) == len(boxes)


def test_fractions_of_pixels_are_kept():
    boxes = _paste([[10.25, 10.5, 20.75, 20.5]], max_copies=4).boxes
    assert len(boxes) > 1
    assert np.allclose((boxes - boxes[0]) % 1, 0)


def test_copies_stay_near_their_row_where_asked():
    boxes = _paste([[40, 25, 46, 31]], max_copies=8, max_rise=0.1).boxes
    assert len(boxes) > 1
    # A tenth of 60 rows.
    assert (np.abs(boxes[1:, 1] - 25) <= 6).all()


def test_probability_zero_pastes_nothing():
    scene = _scene(0)
    for _ in range(20):
        TinyObjectCopyPaste(prob=0.0)(scene)
    assert len(scene.boxes) == 8


def test_copy_paste_says_which_mapper_it_needs():
    with pytest.raises(ValueError, match="AugInput.*TinyObjectMapper"):
        TinyObjectCopyPaste()(T.AugInput(np.zeros((4, 4, 3), np.uint8)))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ObjectCrop((0.9, 0.9)), "size is"),
        (lambda: ObjectCrop((10,)), "size is"),
        (lambda: ObjectCrop((10, 10), 1.5), "object_prob is 1.5"),
        (lambda: RandomScale(0, 1), "0 < low <= high"),
        (lambda: RandomScale(2, 1), "0 < low <= high"),
        (lambda: TinyObjectCopyPaste(prob=2), "prob is 2"),
        (lambda: TinyObjectCopyPaste(max_rise=-1), "max_rise is -1"),
        (lambda: TinyObjectCopyPaste(ring=-1), "ring is -1"),
    ],
)
def test_options_out_of_range_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("name", ["crop_and_flip", "oblique", "nadir"])
def test_the_lists_are_plain_configs_that_give_one_size(name):
    augmentations = LazyConfig.load(str(LISTS), name)(size=(30, 40))
    config = OmegaConf.create({"augmentations": augmentations}, flags={"allow_objects": True})
    assert OmegaConf.to_yaml(config)  # nothing that a saved config could not hold
    chain = T.AugmentationList(instantiate(config.augmentations))
    shapes = set()
    for seed in range(10):
        scene = _scene(seed)
        np.random.seed(seed)
        chain(scene)
        shapes.add(scene.image.shape)
        assert len(scene.boxes) == len(scene.source) >= 8
        assert scene.image.dtype == np.uint8
    # A quarter turn swaps the sides.
    assert shapes <= {(30, 40, 3), (40, 30, 3)}
