"""The mapper keeps original scale and ignored regions through every augmentation."""

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from detectron2.structures import BoxMode

from efpnbs_d2.data.mapper import TinyObjectMapper


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


def _map(record, *augmentations):
    mapper = TinyObjectMapper(True, augmentations=list(augmentations), image_format="BGR")
    return mapper(record)


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


def test_a_wrong_image_size_is_named(record):
    sample = {**record(), "width": 99}
    with pytest.raises(ValueError, match="cannot read image .*image.png.*Mismatched"):
        _map(sample)
