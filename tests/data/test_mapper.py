"""The mapper keeps original scale and ignored regions through every augmentation."""

import inspect

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import detection_utils
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from PIL import Image

from efpnbs_d2 import add_efpnbs_config
from efpnbs_d2.data.augmentation import ObjectCrop
from efpnbs_d2.data.copy_paste import TinyObjectCopyPaste
from efpnbs_d2.data.mapper import TinyObjectMapper
from efpnbs_d2.data.read_image import read_image


@pytest.fixture
def record(tmp_path):
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), np.zeros((60, 100, 3), np.uint8))

    def make(*boxes, crowd=()):
        annotations = [
            {"bbox": box, "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, "iscrowd": int(is_crowd)}
            for box, is_crowd in [(b, False) for b in boxes] + [(b, True) for b in crowd]
        ]
        return {"file_name": str(path), "height": 60, "width": 100, "annotations": annotations}

    return make


def _map(record, *augmentations, **options):
    mapper = TinyObjectMapper(
        True, augmentations=list(augmentations), image_format="BGR", **options
    )
    return mapper(record)


def _pixels(mapped):
    return mapped["image"].numpy().transpose(1, 2, 0)


def test_scale_is_of_the_original_image(record):
    # A 4 x 9 box has scale 6, also in an image of twice the size.
    mapped = _map(record([10, 10, 4, 9]), T.Resize((120, 200)))
    assert mapped["instances"].gt_boxes.tensor.tolist() == [[20, 20, 28, 38]]
    assert mapped["instances"].gt_scale.tolist() == [6.0]


def test_scale_stays_with_its_object_when_others_are_dropped(record):
    crop = T.CropTransform(x0=50, y0=0, w=50, h=60)
    mapped = _map(record([0, 0, 9, 9], [60, 10, 4, 4]), crop)
    assert mapped["instances"].gt_scale.tolist() == [4.0]
    assert mapped["instances"].gt_boxes.tensor.tolist() == [[10, 10, 14, 14]]


def test_a_cut_object_stays_from_seven_tenths_of_its_scale(record):
    # Visible width of 10 at x0 = 50: 5.0 -> sqrt(0.50) = 0.707 stays; 4.8 -> 0.693 goes.
    crop = T.CropTransform(x0=50, y0=0, w=50, h=60)
    mapped = _map(record([45, 0, 10, 10], [44.8, 20, 10, 10]), crop)
    assert mapped["instances"].gt_boxes.tensor.tolist() == [[0, 0, 5, 10]]


def test_crowds_become_ignored_regions_and_move_with_the_image(record):
    mapped = _map(record([0, 0, 4, 4], crowd=[[80, 10, 20, 30]]), T.RandomFlip(prob=1.0))
    assert len(mapped["instances"]) == 1
    assert mapped["ignore_boxes"].tensor.tolist() == [[0, 10, 20, 40]]


def test_an_image_of_which_nothing_is_left_has_empty_targets(record):
    mapped = _map(record([0, 0, 4, 4]), T.CropTransform(x0=50, y0=0, w=50, h=60))
    assert len(mapped["instances"]) == 0 and len(mapped["ignore_boxes"]) == 0
    assert mapped["instances"].gt_boxes.tensor.shape == (0, 4)


@pytest.mark.parametrize("seed", range(5))
def test_boxes_move_as_stock_detectron2_moves_them(record, seed):
    from detectron2.data import DatasetMapper

    rng = np.random.default_rng(seed)
    boxes = np.concatenate([rng.uniform(0, 40, (20, 2)), rng.uniform(2, 18, (20, 2))], 1).tolist()
    augmentations = [T.RandomFlip(), T.RandomRotation([90, 180], sample_style="choice")]
    sources = {"image_format": "BGR", "augmentations": augmentations}
    np.random.seed(seed)
    ours = TinyObjectMapper(True, **sources)(record(*boxes))
    np.random.seed(seed)
    stock = DatasetMapper(True, **sources)(record(*boxes))
    assert torch.equal(ours["image"], stock["image"])
    torch.testing.assert_close(
        ours["instances"].gt_boxes.tensor, stock["instances"].gt_boxes.tensor
    )


@pytest.mark.parametrize("content", [b"", b"not an image"])
def test_an_unreadable_image_is_named(record, content):
    sample = record()
    with open(sample["file_name"], "wb") as file:
        file.write(content)
    with pytest.raises(ValueError, match="cannot read image .*image.png"):
        _map(sample)


def test_an_image_too_large_for_the_reader_is_named(record, monkeypatch):
    monkeypatch.setattr("PIL.Image.MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match="cannot read image .*image.png.*exceeds limit"):
        _map(record())


def test_a_wrong_image_size_is_named(record):
    sample = {**record(), "width": 99}
    with pytest.raises(ValueError, match="cannot read image .*image.png.*Mismatched"):
        _map(sample)


def test_the_record_is_left_as_it_is(record):
    sample = record([10, 10, 4, 4], crowd=[[80, 10, 20, 30]])
    before = {**sample, "annotations": [dict(a) for a in sample["annotations"]]}
    _map(sample, T.Resize((120, 200)), TinyObjectCopyPaste(prob=1.0), ignore="erase")
    assert sample == before


def test_augmentations_see_boxes_and_regions(record):
    seen = []

    class Look(T.Augmentation):
        def get_transform(self, boxes, ignore_boxes):
            seen.extend([boxes.tolist(), ignore_boxes.tolist()])
            return T.NoOpTransform()

    _map(record([10, 10, 4, 4], crowd=[[80, 10, 20, 30]]), T.Resize((120, 200)), Look())
    assert seen == [[[20, 20, 28, 28]], [[160, 20, 200, 80]]]


def test_copies_have_class_and_scale_of_their_originals(record):
    # Scales 4 and 6 in the original image; twice as large in the model's input.
    sample = record([10, 10, 4, 4], [60, 30, 4, 9])
    sample["annotations"][1]["category_id"] = 5
    np.random.seed(0)
    copies = TinyObjectCopyPaste(prob=1.0, max_copies=6, ring=1)
    instances = _map(sample, copies, T.Resize((120, 200)))["instances"]
    assert len(instances) > 3
    assert torch.equal(instances.gt_boxes.area().sqrt(), instances.gt_scale * 2)
    kinds = zip(instances.gt_scale.tolist(), instances.gt_classes.tolist(), strict=True)
    assert set(kinds) == {(4.0, 0), (6.0, 5)}


def _write(sample, pixels):
    cv2.imwrite(sample["file_name"], pixels)
    return pixels


def test_erased_regions_have_their_mean_colour_and_are_not_handed_over(record):
    sample = record([5, 5, 4, 4], crowd=[[10, 10, 20.5, 30], [90, 50, 10, 10]])
    pixels = _write(sample, np.random.default_rng(0).integers(0, 256, (60, 100, 3), np.uint8))
    mapped = _map(sample, ignore="erase")
    assert "ignore_boxes" not in mapped and len(mapped["instances"]) == 1
    expected = pixels.copy()
    # Every pixel that the region touches: x from 10 to 30.5.
    expected[10:40, 10:31] = pixels[10:40, 10:31].mean(axis=(0, 1)).round()
    expected[50:60, 90:100] = pixels[50:60, 90:100].mean(axis=(0, 1)).round()
    assert np.array_equal(_pixels(mapped), expected)


def test_objects_inside_an_erased_region_stay(record):
    sample = record([20, 20, 4, 4], crowd=[[10, 10, 20, 30]])
    pixels = _write(sample, np.random.default_rng(0).integers(0, 256, (60, 100, 3), np.uint8))
    erased = _pixels(_map(sample, ignore="erase"))
    assert np.array_equal(erased[20:24, 20:24], pixels[20:24, 20:24])
    assert len(np.unique(erased[10:20, 10:30].reshape(-1, 3), axis=0)) == 1


def test_erased_regions_are_no_ground_for_copies(record):
    # Free are only the object's own place and the 20 columns at the right.
    sample = record([5, 5, 4, 4], crowd=[[12, 0, 68, 60], [0, 12, 80, 48]])
    copies = TinyObjectCopyPaste(prob=1.0, ring=1, attempts=100)
    np.random.seed(0)
    boxes = _map(sample, copies, ignore="erase")["instances"].gt_boxes.tensor
    assert len(boxes) > 1 and (boxes[1:, 0] >= 80).all()


def test_testing_erases_nothing(record):
    sample = record(crowd=[[10, 10, 20, 30]])
    pixels = _write(sample, np.random.default_rng(0).integers(0, 256, (60, 100, 3), np.uint8))
    mapper = TinyObjectMapper(False, augmentations=[], image_format="BGR", ignore="erase")
    mapped = mapper(sample)
    assert np.array_equal(_pixels(mapped), pixels)
    assert "instances" not in mapped and "annotations" not in mapped


def test_unknown_choices_are_named(record):
    with pytest.raises(ValueError, match="ignore is 'paint'.*no_loss.*erase"):
        _map(record(), ignore="paint")


def _tile(sample, corner, **changed):
    x1, y1, x2, y2 = corner
    return {**sample, "corner": corner, "height": y2 - y1, "width": x2 - x1, **changed}


@pytest.mark.parametrize("is_train", [True, False])
def test_a_tile_is_cut_from_its_image_first(record, is_train):
    sample = record([10, 10, 4, 9])
    pixels = _write(sample, np.random.default_rng(0).integers(0, 256, (60, 100, 3), np.uint8))
    mapper = TinyObjectMapper(is_train, augmentations=[], image_format="BGR")
    mapped = mapper(_tile(sample, [64, 20, 100, 60]))
    assert np.array_equal(_pixels(mapped), pixels[20:60, 64:100])
    assert (mapped["height"], mapped["width"]) == (40, 36)
    if is_train:  # boxes of a tile are in its own pixels
        assert mapped["instances"].gt_boxes.tensor.tolist() == [[10, 10, 14, 19]]


@pytest.mark.parametrize(
    ("corner", "changed", "message"),
    [
        ([64, 20, 101, 60], {}, "not inside the image, which is 100 x 60 px"),
        ([-1, 20, 50, 60], {}, "not inside the image"),
        ([50, 20, 50, 60], {}, "not inside the image"),
        ([64, 20, 100, 60], {"width": 640}, "36 x 40 px, but the annotated tile is 640 x 40"),
        ([64.5, 20, 100.5, 60], {}, "whole pixels"),
    ],
)
def test_a_tile_that_does_not_fit_is_named(record, corner, changed, message):
    with pytest.raises(ValueError, match=f"image.png: corner .*{message}"):
        _map(_tile(record(), corner, **changed))


def _exif(orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


@pytest.mark.parametrize(
    ("suffix", "mode", "options"),
    [
        ("jpg", "RGB", {"quality": 90}),
        ("jpg", "RGB", {"quality": 60, "subsampling": 0}),
        ("jpg", "RGB", {"progressive": True}),
        ("jpg", "RGB", {"exif": _exif(1)}),
        ("jpg", "RGB", {"exif": _exif(6)}),
        ("jpg", "RGB", {"exif": _exif(3)}),
        ("jpg", "RGB", {"exif": b"Exif\0\0broken"}),
        ("jpg", "L", {}),
        ("jpg", "CMYK", {}),
        ("png", "RGB", {}),
        ("png", "RGBA", {}),
    ],
)
@pytest.mark.parametrize("image_format", ["BGR", "RGB"])
def test_images_are_read_as_detectron2_reads_them(tmp_path, suffix, mode, options, image_format):
    noise = np.random.default_rng(0).integers(0, 256, (12, 15, 4), np.uint8)
    smooth = cv2.resize(noise, (101, 67), interpolation=cv2.INTER_CUBIC)
    pixels = {"L": smooth[..., 0], "RGB": smooth[..., :3]}.get(mode, smooth)
    path = str(tmp_path / f"image.{suffix}")
    Image.fromarray(np.ascontiguousarray(pixels), mode).save(path, **options)
    expected = detection_utils.read_image(path, image_format)
    assert np.array_equal(read_image(path, image_format), expected)


def test_a_truncated_jpeg_is_not_filled_up(tmp_path, record):
    path = tmp_path / "half.jpg"
    pixels = np.random.default_rng(0).integers(0, 256, (60, 100, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match="cannot read image .*half.jpg.*truncated"):
        _map({**record(), "file_name": str(path)})


def _yacs(*overrides):
    cfg = get_cfg()
    add_efpnbs_config(cfg)
    cfg.merge_from_list(list(overrides))
    return cfg


def test_yacs_keys_reach_the_mapper():
    mapper = TinyObjectMapper(_yacs("INPUT.IGNORE_REGIONS", "erase", "INPUT.CROP.ENABLED", True))
    assert mapper.ignore == "erase"
    assert isinstance(mapper.augmentations.augs[0], T.RandomCrop)

    crop = ["INPUT.CROP.ENABLED", True, "INPUT.CROP.TYPE", "absolute"]
    crop += ["INPUT.CROP.SIZE", [320, 400], "INPUT.CROP.OBJECT_PROB", 0.4]
    first, *others = TinyObjectMapper(_yacs(*crop)).augmentations.augs
    assert (type(first), first.size, first.object_prob) == (ObjectCrop, (320, 400), 0.4)
    assert [type(a) for a in others] == [T.ResizeShortestEdge, T.RandomFlip]
    testing = TinyObjectMapper(_yacs(*crop), is_train=False).augmentations.augs
    assert [type(a) for a in testing] == [T.ResizeShortestEdge]


def test_fresh_yacs_defaults_are_the_signatures():
    cfg = _yacs()
    parameters = inspect.signature(TinyObjectMapper.__init__).parameters
    assert cfg.INPUT.IGNORE_REGIONS == parameters["ignore"].default
    parameters = inspect.signature(ObjectCrop).parameters
    assert cfg.INPUT.CROP.OBJECT_PROB == parameters["object_prob"].default


@pytest.mark.parametrize("key", ["MODEL.MASK_ON", "MODEL.KEYPOINT_ON", "MODEL.LOAD_PROPOSALS"])
def test_what_is_not_read_is_refused(key):
    with pytest.raises(ValueError, match=key):
        TinyObjectMapper(_yacs(key, True))
