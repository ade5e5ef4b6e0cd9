"""Test-time augmentation: boxes of every version lie where they lie in the image."""

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from detectron2.modeling.postprocessing import detector_postprocess
from detectron2.structures import Boxes, Instances
from torch import nn

from efpnbs_d2.inference.augmented import AugmentedPredictor
from efpnbs_d2.inference.batch import BatchPredictor

SIDE = 64


class BrightSpot(nn.Module):
    """Finds the bright rectangle of an image; its score says at which width it was read."""

    def __init__(self):
        super().__init__()
        self.some = nn.Parameter(torch.zeros(1))
        self.seen = []

    def forward(self, inputs):
        outputs = []
        for entry in inputs:
            image = entry["image"]
            self.seen.append(tuple(image.shape[1:]))
            rows, columns = np.nonzero(image[0].numpy() > 127)
            found = Instances(tuple(image.shape[1:]))
            box = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
            found.pred_boxes = Boxes(torch.tensor([box], dtype=torch.float32))
            # Of the image and its mirror image, the version in which the spot is further left.
            found.scores = torch.tensor([0.9 - float(box[0]) / 1000])
            found.pred_classes = torch.tensor([int(image[1].max() > 127)])
            outputs.append(
                {"instances": detector_postprocess(found, entry["height"], entry["width"])}
            )
        return outputs


def spot(x1, y1, x2, y2, *, second_class=False):
    image = np.zeros((SIDE, SIDE, 3), np.uint8)
    image[y1:y2, x1:x2, 0] = 255
    image[y1:y2, x1:x2, 1] = 255 * second_class
    return image


def predictor(**options):
    return AugmentedPredictor(BatchPredictor(BrightSpot()), **options)


@pytest.mark.parametrize("scale", [1, 2, 0.5])
@pytest.mark.parametrize("flip", [False, True])
def test_every_version_finds_the_object_where_it_is(scale, flip):
    """The spot is 8 x 4 px, at even coordinates: exact at all three scales."""
    predict = predictor(flip=flip, scales=[scale])
    found = predict([spot(40, 8, 48, 12), spot(4, 20, 12, 24)])
    for one, box in zip(found, [[40, 8, 48, 12], [4, 20, 12, 24]]):
        np.testing.assert_allclose(one.pred_boxes.tensor.numpy(), [box], atol=1.01 / scale)
        assert one.image_size == (SIDE, SIDE)
    model = predict.versions[0].model
    assert set(model.seen) == {(SIDE * scale, SIDE * scale)}


def test_the_same_object_counts_once_with_its_highest_score():
    """In the mirror image the spot starts at 64 - 48 = 16, so that is the surer version."""
    (found,) = predictor(flip=True)([spot(40, 8, 48, 12)])
    assert found.scores.tolist() == pytest.approx([0.9 - 0.016])


def test_what_only_one_version_finds_stays():
    """At half the size the box is another one; at an IoU threshold of 1 nothing is a duplicate."""
    image = spot(40, 8, 48, 12)
    (found,) = predictor(flip=True, scales=[1, 2], iou_threshold=1.0)([image])
    assert len(found) == 4
    (merged,) = predictor(flip=True, scales=[1, 2])([image])
    assert len(merged) == 1


def test_a_scale_is_applied_behind_the_detectors_own_resizing():
    """Ahead of it, it would have no effect: 64 px would become 128 whatever was done before."""
    model = BrightSpot()
    resize = T.ResizeShortestEdge([128, 128], 1000)
    AugmentedPredictor(BatchPredictor(model, resize), scales=[1, 1.5])([spot(40, 8, 48, 12)])
    assert model.seen == [(128, 128), (192, 192)]


def test_one_version_is_the_plain_predictor():
    image = spot(10, 10, 20, 14, second_class=True)
    (plain,), (same,) = BatchPredictor(BrightSpot())([image]), predictor()([image])
    assert torch.equal(plain.pred_boxes.tensor, same.pred_boxes.tensor)
    assert same.pred_classes.tolist() == [1]


def test_a_single_pixel_can_be_made_smaller():
    image = np.full((1, 1, 3), 255, np.uint8)
    assert len(predictor(scales=[0.25])([image])[0]) == 1


@pytest.mark.parametrize("options", [{"scales": []}, {"scales": [0]}, {"scales": [-1, 1]}])
def test_scales_that_make_no_image_are_refused(options):
    with pytest.raises(ValueError, match="expected one or more, all above 0"):
        predictor(**options)


def test_an_impossible_threshold_is_refused():
    with pytest.raises(ValueError, match="expected 0 to 1"):
        predictor(iou_threshold=1.5)
