"""An exported file finds what its model finds, at sizes it was not traced at."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from torchvision import ops

from efpnbs_d2.data.tinyscenes import generate_scene
from efpnbs_d2.inference.export import detect_at_size, export_onnx, export_torchscript
from efpnbs_d2.inference.export_check import check_export, compare, varied
from efpnbs_d2.inference.run_exported import load
from efpnbs_d2.inference.traced_nms import nms_for_onnx, nms_for_torchscript

PARTS = Path(__file__).resolve().parents[2] / "configs/common/parts.py"
EXPORTS = {"torchscript": export_torchscript, "onnx": export_onnx}
FORMATS = pytest.mark.parametrize("file_format", list(EXPORTS))
CARD = {"class_names": ["buoy", "raft"], "min_size_test": 256, "max_size_test": 512}
SAMPLE = generate_scene(5, size=224)[0]
# Detectors, as a config and what is changed in it.
KINDS = {
    "stock FPN": ("fpn_r18.py", ()),
    "E-FPN-BS, DCLoss": ("efpn_bs_r18.py", ()),
    "cascade, E-FPN-BS, DCLoss": ("cem_fbsm_r18.py", ("use_cascade", "use_dc_loss")),
    "receptive-field priors": ("fpn_r18.py", ("use_rfla",)),
}


@pytest.fixture(autouse=True)
def one_thread():
    """So little work is slower with two, and far slower on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def spread(model):
    """Random weights where new ones would make all scores and boxes alike, or a part do nothing."""
    torch.manual_seed(3)
    backbone, heads = model.backbone, model.roi_heads
    if hasattr(backbone, "cem"):
        scales = [backbone.cem.gamma, backbone.fbsm.alpha, backbone.fbsm.beta]
        for scale in (scale for level in scales for scale in level.values()):
            torch.nn.init.normal_(scale, std=0.3)
    many = isinstance(heads.box_predictor, torch.nn.ModuleList)
    for predictor in heads.box_predictor if many else [heads.box_predictor]:
        torch.nn.init.normal_(predictor.cls_score.weight, std=2)
        torch.nn.init.normal_(predictor.bbox_pred.weight, std=0.3)
    torch.nn.init.normal_(model.proposal_generator.rpn_head.objectness_logits.weight)
    return model.eval()


@pytest.fixture
def detector(small_lazy):
    """Build a detector of `KINDS`, with random weights that find something."""

    def build(kind):
        name, parts = KINDS[kind]
        config = small_lazy(config=f"tinyscenes/{name}").model
        for part in parts:
            LazyConfig.load(str(PARTS), part)(config)
        return spread(instantiate(config))

    return build


def expect(model, image, image_format="BGR"):
    with torch.no_grad():
        found = detect_at_size(model, torch.tensor(np.ascontiguousarray(image)), image_format)
    return [values.numpy() for values in found]


@FORMATS
@pytest.mark.parametrize("kind", KINDS)
def test_a_file_finds_what_its_model_finds(kind, file_format, detector, tmp_path):
    model = detector(kind)
    EXPORTS[file_format](model, SAMPLE, "BGR", CARD, tmp_path / "file")
    run = load(file_format, str(tmp_path / "file"))
    images = [*varied(SAMPLE), np.zeros_like(SAMPLE), SAMPLE[:33], SAMPLE[:1, :1]]
    agreements = []
    for image in map(np.ascontiguousarray, images):
        agreements.append(compare(image.shape[:2], expect(model, image), run(image)))
    assert all(a.holds for a in agreements), agreements
    assert all(a.expected >= 20 for a in agreements[:-1]), agreements


@FORMATS
def test_an_image_in_which_nothing_is_found(file_format, detector, tmp_path):
    """With the best score in black as its threshold, the model finds nothing there."""
    model = detector("stock FPN")
    black = np.zeros_like(SAMPLE)
    highest = expect(model, black)[1].max()
    model.roi_heads.box_predictor.test_score_thresh = float(highest)
    assert len(expect(model, SAMPLE)[0]) > 0
    EXPORTS[file_format](model, SAMPLE, "BGR", CARD, tmp_path / "file")
    boxes, scores, classes = load(file_format, str(tmp_path / "file"))(black)
    assert (boxes.shape, scores.shape, classes.shape) == ((0, 4), (0,), (0,))


@FORMATS
def test_the_file_takes_bgr_whatever_the_model_was_trained_on(file_format, detector, tmp_path):
    model = detector("stock FPN")
    EXPORTS[file_format](model, SAMPLE, "RGB", CARD, tmp_path / "file")
    found = load(file_format, str(tmp_path / "file"))(SAMPLE)
    assert compare(SAMPLE.shape[:2], expect(model, SAMPLE[:, :, ::-1]), found).holds
    assert not compare(SAMPLE.shape[:2], expect(model, SAMPLE), found).holds


def test_the_card_is_in_the_file(detector, tmp_path):
    model = detector("stock FPN")
    trained = {name: p.requires_grad for name, p in model.named_parameters()}
    export_onnx(model, SAMPLE, "BGR", CARD, tmp_path / "file.onnx")
    export_torchscript(model, SAMPLE, "BGR", CARD, tmp_path / "file.ts")
    (entry,) = onnx.load(tmp_path / "file.onnx").metadata_props
    assert (entry.key, json.loads(entry.value)) == ("efpnbs_d2", CARD)
    extra = {"efpnbs_d2": ""}
    torch.jit.load(tmp_path / "file.ts", _extra_files=extra)
    assert json.loads(extra["efpnbs_d2"]) == CARD
    assert trained == {name: p.requires_grad for name, p in model.named_parameters()}


def test_both_places_with_nms_are_replaced(detector, tmp_path):
    """A plain trace has one way of NMS for the proposals and one for the detections."""
    model = detector("stock FPN")
    export_torchscript(model, SAMPLE, "BGR", CARD, tmp_path / "file.ts")
    assert str(torch.jit.load(tmp_path / "file.ts").inlined_graph).count("torchvision::nms(") == 4
    export_onnx(model, SAMPLE, "BGR", CARD, tmp_path / "file.onnx")
    nodes = onnx.load(tmp_path / "file.onnx").graph.node
    nms = [node for node in nodes if node.op_type == "NonMaxSuppression"]
    assert [len(node.input) for node in nms] == [5, 5]  # with the threshold that keeps groups apart


@FORMATS
def test_a_sample_without_detections_is_refused(file_format, detector, tmp_path):
    model = detector("stock FPN")
    model.roi_heads.box_predictor.test_score_thresh = 1.0
    with pytest.raises(ValueError, match="detects nothing in the sample of 224 x 224 px"):
        EXPORTS[file_format](model, SAMPLE, "BGR", CARD, tmp_path / "file")
    assert not list(tmp_path.iterdir())


def crowd(number, groups):
    """`number` boxes of about 10 px within 1,300 px, so many in each place that NMS has to choose.

    Shifted apart in float32, 80 groups lie at 100,000 px, where coordinates are rounded to 1/128.
    """
    generator = torch.Generator().manual_seed(number)
    corner = 1300 * torch.rand(6, 2, generator=generator)[torch.arange(number) % 6]
    corner = corner + 5 * torch.rand(number, 2, generator=generator)
    sides = 6 + 5 * torch.rand(number, 2, generator=generator)
    labels = torch.randint(groups, (number,), generator=generator)
    return torch.cat([corner, corner + sides], 1), torch.rand(number, generator=generator), labels


@pytest.mark.parametrize("number", [0, 1, 999, 1000, 1001, 5000])
@pytest.mark.parametrize("groups", [1, 80])
def test_nms_for_onnx_keeps_what_torchvision_keeps(number, groups):
    boxes, scores, labels = crowd(number, groups)
    kept = nms_for_onnx(boxes, scores, labels, 0.5)
    assert kept.tolist() == ops.batched_nms(boxes, scores, labels, 0.5).tolist()


def test_of_equal_scores_the_first_box_comes_first():
    boxes = torch.tensor([[0.0, 0, 9, 9], [20, 0, 29, 9], [40, 0, 49, 9]])
    kept = nms_for_onnx(boxes, torch.full((3,), 0.5), torch.tensor([2, 0, 1]), 0.5)
    assert kept.tolist() == [0, 1, 2]


def test_a_trace_chooses_by_the_number_of_boxes_of_each_image():
    """Of 5,000 boxes, shifting them apart keeps others than taking them group by group."""
    few, many = crowd(100, 80), crowd(5000, 80)
    traced = torch.jit.trace(lambda *boxes: nms_for_torchscript(*boxes, 0.5), few)
    plain = torch.jit.trace(lambda *boxes: ops.batched_nms(*boxes, 0.5), few)
    assert traced(*few).tolist() == ops.batched_nms(*few, 0.5).tolist()
    assert traced(*many).tolist() == ops.batched_nms(*many, 0.5).tolist()
    assert plain(*many).tolist() != traced(*many).tolist()


def found(*rows):
    """Boxes 10 px wide and high, scores and classes, of (x, score, class)."""
    boxes = np.array([[x, 0, x + 10, 10] for x, _, _ in rows], float).reshape(-1, 4)
    return boxes, np.array([s for _, s, _ in rows]), np.array([c for _, _, c in rows], int)


EXPECTED = found((0, 0.9, 1), (50, 0.8, 1), (50, 0.7, 2))


@pytest.mark.parametrize(
    ("other", "unmatched", "box", "score", "holds"),
    [
        (EXPECTED, 0, 0, 0, True),
        (found((50, 0.8, 1), (50, 0.7, 2), (0, 0.9, 1)), 0, 0, 0, True),
        (found((0.009, 0.9, 1), (50, 0.8, 1), (50, 0.70009, 2)), 0, 0.009, 9e-5, True),
        (found((0.011, 0.9, 1), (50, 0.8, 1), (50, 0.7, 2)), 0, 0.011, 0, False),
        (found((0, 0.9, 1), (50, 0.8, 1), (50, 0.7002, 2)), 0, 0, 2e-4, False),
        # One is missing; one is too many, at the place of another; one is elsewhere; a class is
        # another one: the last two leave one without a partner on both sides.
        (found((0, 0.9, 1), (50, 0.8, 1)), 1, 0, 0, False),
        (found((0, 0.9, 1), (50, 0.8, 1), (50, 0.7, 2), (0, 0.1, 1)), 1, 0, 0, False),
        (found((0, 0.9, 1), (52, 0.8, 1), (50, 0.7, 2)), 2, 0, 0, False),
        (found((0, 0.9, 1), (50, 0.8, 3), (50, 0.7, 2)), 2, 0, 0, False),
        (found(), 3, 0, 0, False),
    ],
)
def test_detections_are_compared_one_to_one(other, unmatched, box, score, holds):
    agreement = compare((20, 70), EXPECTED, other)
    assert (agreement.height, agreement.width) == (20, 70)
    assert (agreement.expected, agreement.found) == (3, len(other[0]))
    assert agreement.unmatched == unmatched
    assert agreement.box == pytest.approx(box) and agreement.score == pytest.approx(score)
    assert agreement.holds is holds


def test_a_detection_is_the_partner_of_one_other_only():
    expected, other = found((0, 0.9, 1), (0.5, 0.8, 1)), found((0, 0.9, 1), (30, 0.8, 1))
    assert compare((20, 70), expected, other).unmatched == 2


def test_nan_does_not_agree():
    boxes = EXPECTED[0].copy()
    boxes[0] = np.nan
    assert not compare((20, 70), EXPECTED, (boxes, *EXPECTED[1:])).holds
    scores = EXPECTED[1] * np.nan
    assert not compare((20, 70), EXPECTED, (EXPECTED[0], scores, EXPECTED[2])).holds


def test_the_check_looks_at_tall_wide_odd_and_small_images():
    sizes = [image.shape[:2] for image in varied(np.zeros((96, 192, 3), np.uint8))]
    assert sizes == [(96, 192), (192, 96), (65, 192), (97, 96), (61, 45)]


def test_the_check_runs_the_file_apart_and_sees_other_weights(detector, tmp_path):
    model = detector("stock FPN")
    export_onnx(model, SAMPLE, "BGR", CARD, tmp_path / "file")
    images = varied(SAMPLE)[1:3]
    agreements = check_export(model, "BGR", tmp_path / "file", "onnx", images)
    assert [(a.height, a.width) for a in agreements] == [i.shape[:2] for i in images]
    assert all(a.holds for a in agreements)
    with torch.no_grad():
        model.roi_heads.box_predictor.bbox_pred.bias += 0.01
    agreements = check_export(model, "BGR", tmp_path / "file", "onnx", images)
    assert not any(a.holds for a in agreements)


def test_a_file_that_does_not_run_is_named_so(tmp_path):
    (tmp_path / "file").write_bytes(b"none")
    with pytest.raises(ValueError, match="the exported file does not run: .*"):
        check_export(torch.nn.Identity(), "BGR", tmp_path / "file", "onnx", [SAMPLE])
