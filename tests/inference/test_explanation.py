"""What is explained is what the predictor computes: the same features, proposals, detections."""

import math

import numpy as np
import pytest
import torch
from detectron2.data import transforms as T
from detectron2.modeling import RetinaNet

from efpnbs_d2.engine.recipe import LazyRecipe
from efpnbs_d2.inference.batch import BatchPredictor
from efpnbs_d2.inference.explanation import explain

# Sides that no stride divides, so that every level has padding; resized by 1.5 for the network.
HEIGHT, WIDTH = 70, 130
READ = 105, 195


class Predictor:
    """What `explain` reads of a predictor."""

    def __init__(self, model, input_format="BGR"):
        self.model, self.input_format = model.eval(), input_format
        self.aug = T.ResizeShortestEdge([READ[0]] * 2)


@pytest.fixture
def build(small_lazy):
    def build(*overrides, config="tinyscenes/efpn_bs_r18.py", input_format="BGR"):
        torch.manual_seed(0)
        # Any score is a detection, so that there are some to compare.
        score = "model.roi_heads.box_predictor.test_score_thresh=0"
        model = LazyRecipe(small_lazy(score, *overrides, config=config)).build_model()
        with torch.no_grad():
            for name, value in model.named_parameters():
                if name.split(".")[-2] in ("alpha", "beta", "gamma"):
                    value.uniform_(0.2, 0.9)  # at zero, CEM and FBSM change nothing
        return Predictor(model, input_format)

    return build


@pytest.fixture
def image():
    return np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def network_input(predictor, image):
    """As Detectron2's `DefaultPredictor` makes it."""
    if predictor.input_format == "RGB":
        image = image[:, :, ::-1]
    resized = predictor.aug.get_transform(image).apply_image(image)
    pixels = torch.as_tensor(resized.astype("float32").transpose(2, 0, 1))
    return predictor.model.preprocess_image([{"image": pixels}])


def rms(maps, stride):
    rows, columns = (math.ceil(side / stride) for side in READ)
    return maps[0].square().mean(dim=0).sqrt().numpy()[:rows, :columns]


@pytest.mark.parametrize("nms", ["iou", "nwd"])
@pytest.mark.parametrize("input_format", ["BGR", "RGB"])
def test_it_is_what_the_predictor_computes(build, image, nms, input_format):
    overrides = [
        "+model.proposal_generator.nms_type=nwd",
        "model.proposal_generator.nms_thresh=0.85",
    ]
    predictor = build(*(overrides if nms == "nwd" else []), input_format=input_format)
    explained = explain(predictor, image)
    assert explained.network_size == READ

    (expected,) = BatchPredictor.from_default(predictor)([image])
    assert len(expected) > 10
    assert explained.instances.image_size == (HEIGHT, WIDTH)
    torch.testing.assert_close(explained.instances.pred_boxes.tensor, expected.pred_boxes.tensor)
    torch.testing.assert_close(explained.instances.scores, expected.scores)

    # The maps that the model's own call gives are those after the last part of the backbone.
    model = predictor.model
    images = network_input(predictor, image)
    with torch.no_grad():
        features = model.extract_features(images)
        (proposals,), _ = model.proposal_generator(images, features)
    assert list(explained.energy) == ["FPN", "CEM", "FBSM"]
    last = {**explained.energy["FPN"], **explained.energy["FBSM"]}
    for level, stride in zip(("p2", "p3", "p4", "p5", "p6"), (4, 8, 16, 32, 64)):
        np.testing.assert_allclose(last[level], rms(features[level], stride), rtol=1e-5)
    for level, mask in explained.masks.items():
        logits = features[f"fbsm_logits_{level}"][0, 0, : mask.shape[0], : mask.shape[1]]
        np.testing.assert_allclose(mask, logits.sigmoid().numpy(), rtol=1e-5)
    assert list(explained.masks) == list(explained.gates) == ["p2", "p3", "p4"]
    assert explained.gates["p3"] == (
        model.backbone.fbsm.alpha["p3"].item(),
        model.backbone.fbsm.beta["p3"].item(),
    )

    shown = explained.proposals
    boxes = proposals.proposal_boxes.tensor / 1.5  # from network-input pixels to the image's
    np.testing.assert_allclose(shown.boxes, boxes.numpy(), rtol=1e-4, atol=1e-3)
    np.testing.assert_allclose(
        shown.scores, proposals.objectness_logits.sigmoid().numpy(), rtol=1e-5
    )


def test_each_part_changes_its_levels_only(build, image):
    energy = explain(build(), image).energy
    assert {stage: list(levels) for stage, levels in energy.items()} == {
        "FPN": ["p2", "p3", "p4", "p5", "p6"],
        "CEM": ["p2", "p3", "p4"],
        "FBSM": ["p2", "p3", "p4"],
    }
    assert all(
        not np.allclose(energy[before]["p2"], energy[after]["p2"])
        for before, after in [("FPN", "CEM"), ("CEM", "FBSM")]
    )


def test_the_gate_takes_features_from_background_to_foreground(build, image):
    """A cell's energy is multiplied by 1 + alpha * M - beta * (1 - M)."""
    explained = explain(build(), image)
    for level, (alpha, beta) in explained.gates.items():
        mask = explained.masks[level]
        gain = explained.energy["FBSM"][level] / explained.energy["CEM"][level]
        np.testing.assert_allclose(gain, abs(1 + alpha * mask - beta * (1 - mask)), rtol=1e-4)


def test_a_proposals_level_is_where_its_score_was_computed(build, image):
    # Ten of each level at most, so that no level fills the list alone.
    predictor = build("model.proposal_generator.pre_nms_topk=[10,10]")
    model = predictor.model
    shown = explain(predictor, image).proposals
    images = network_input(predictor, image)
    with torch.no_grad():
        features = model.extract_features(images)
        logits, _ = model.proposal_generator.rpn_head([features[n] for n in shown.level_names])
    assert shown.level_names == ("p2", "p3", "p4", "p5", "p6")
    assert len(set(shown.levels.tolist())) > 3
    for score, level in zip(shown.scores, shown.levels, strict=True):
        assert np.abs(logits[level].sigmoid().numpy() - score).min() < 1e-7


@pytest.mark.parametrize(
    ("config", "stages"),
    [("fpn_r18", ["FPN"]), ("cem_r18", ["FPN", "CEM"]), ("fbsm_r18", ["FPN", "FBSM"])],
)
def test_parts_that_a_backbone_lacks(build, image, config, stages):
    predictor = build(config=f"tinyscenes/{config}.py")
    explained = explain(predictor, image)
    assert list(explained.energy) == stages
    assert bool(explained.masks) == bool(explained.gates) == ("FBSM" in stages)
    (expected,) = BatchPredictor.from_default(predictor)([image])
    torch.testing.assert_close(explained.instances.scores, expected.scores)


def test_other_detectors_are_refused(build, image):
    predictor = build()
    predictor.model = RetinaNet.__new__(RetinaNet)
    torch.nn.Module.__init__(predictor.model)
    with pytest.raises(ValueError, match="found a RetinaNet .* expected a two-stage detector"):
        explain(predictor, image)
    with pytest.raises(ValueError, match="expected an image"):
        explain(build(), image.astype(float))
