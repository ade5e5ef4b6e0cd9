"""One call for several images gives what `DefaultPredictor` gives for each."""

import numpy as np
import pytest
import torch
from detectron2.engine import DefaultPredictor

from efpnbs_d2.inference.batch import BatchPredictor

RNG = np.random.default_rng(0)
# Of several sizes, two of them equal.
IMAGES = [
    RNG.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w in [(90, 120), (1, 1), (90, 120)]
]


@pytest.fixture(params=["BGR", "RGB"])
def default(request, small_yacs):
    """Detectron2's own predictor of an untrained model, that resizes to 128 px."""
    torch.manual_seed(0)
    size = "INPUT.MIN_SIZE_TEST=128"
    return DefaultPredictor(small_yacs(f"INPUT.FORMAT={request.param}", size, "MODEL.DEVICE=cpu"))


def assert_close(found, expected):
    """The same detections within a thousandth; nearly equal scores may come in another order."""
    assert found.image_size == expected.image_size and len(found) == len(expected)
    rows = [
        torch.cat([x.pred_boxes.tensor, x.scores[:, None], x.pred_classes[:, None]], dim=1)
        for x in (found, expected)
    ]
    apart = torch.cdist(*rows, compute_mode="donot_use_mm_for_euclid_dist")
    assert (apart.min(dim=1).values < 1e-3).all()


def test_one_image_is_what_the_default_predictor_finds(default):
    predict = BatchPredictor.from_default(default)
    for image in IMAGES:
        (found,) = predict([image])
        expected = default(image)["instances"]
        assert len(expected) > 0 or image.size == 3
        assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
        assert torch.equal(found.scores, expected.scores)
        assert torch.equal(found.pred_classes, expected.pred_classes)
        assert found.image_size == expected.image_size == image.shape[:2]


def test_a_batch_is_each_image_of_it(default):
    found = BatchPredictor.from_default(default)(IMAGES)
    assert len(found) == 3
    for image, instances in zip(IMAGES, found):
        assert_close(instances, default(image)["instances"])


def test_no_images_no_detections(default):
    assert BatchPredictor.from_default(default)([]) == []


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_other_precisions_find_about_the_same(default, precision):
    """Of an untrained model's many boxes of nearly equal scores: the highest one, roughly."""
    predict = BatchPredictor.from_default(default, device="cpu", precision=precision)
    (found,) = predict(IMAGES[:1])
    expected = default(IMAGES[0])["instances"]
    assert found.pred_boxes.tensor.dtype == found.scores.dtype == torch.float32
    assert found.scores[0] != expected.scores[0]
    assert found.scores[0] == pytest.approx(expected.scores[0].item(), rel=0.1)


def test_mixed_precision_pools_float32_features(default):
    pooled = []
    hook = default.model.roi_heads.box_pooler.register_forward_hook(
        lambda pooler, inputs, output: pooled.append(inputs[0][0].dtype)
    )
    BatchPredictor.from_default(default, device="cpu", precision="bfloat16")(IMAGES[:1])
    hook.remove()
    assert pooled == [torch.float32]


def test_unknown_options_are_refused(default):
    with pytest.raises(ValueError, match="image format 'L'"):
        BatchPredictor(default.model, image_format="L")
    with pytest.raises(ValueError, match="precision 'half'"):
        BatchPredictor(default.model, precision="half")


def test_a_model_in_training_is_put_into_evaluation(default):
    default.model.train()
    (found,) = BatchPredictor.from_default(default)(IMAGES[:1])
    assert len(found) > 0
