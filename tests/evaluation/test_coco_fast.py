"""The fast way gives the arrays of the official code, of pycocotools, and of the other engine."""

import contextlib
import io
import warnings
from dataclasses import fields, replace

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from efpnbs_d2.evaluation import coco_fast
from efpnbs_d2.evaluation.accumulation import compute_curves
from efpnbs_d2.evaluation.coco_fast import fast_curves, fits
from efpnbs_d2.evaluation.columns import Detections, GroundTruth
from efpnbs_d2.evaluation.official_rows import official_rows
from efpnbs_d2.protocols import PROTOCOLS, Metric

AITOD, COCO_PROTOCOL = PROTOCOLS["aitod"], PROTOCOLS["coco"]
# The parameter sets under which the official numbers of the COCO cases were taken.
CONFIGS = {
    "default": COCO_PROTOCOL,
    "aitod_bins_1500": replace(AITOD, metrics=()),
    "iou25_50_75_max200": replace(
        COCO_PROTOCOL,
        iou_thresholds=(0.25, 0.5, 0.75),
        size_ranges=PROTOCOLS["tinyperson"].size_ranges,
        max_dets=(200,),
        metrics=(),
    ),
}
LRP_ARRAYS = ("olrp", "olrp_loc", "olrp_fp", "olrp_fn", "lrp_opt_thr")


def assert_close(found, expected):
    expected = np.array(expected, dtype=float)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9, equal_nan=True)


def test_fits_the_protocols_that_count_like_coco():
    assert {name for name, protocol in PROTOCOLS.items() if fits(protocol)} == {"aitod", "coco"}
    others = {
        "limit": "image",
        "interpolation": "all points",
        "class_mean": "by images",
        "ignored_in_recall": True,
    }
    for name, value in others.items():
        assert not fits(replace(COCO_PROTOCOL, **{name: value})), name


def test_aitod_cases(aitod_case):
    _, truth, found, expected = aitod_case
    curves = fast_curves(AITOD, *official_rows(AITOD, truth, found))
    arrays = expected["arrays"]
    assert_close(curves.average_precision, arrays["ap_TKAM"])
    assert_close(curves.recall, arrays["recall_TKAM"])
    for part, name in zip(curves.lrp, LRP_ARRAYS, strict=True):
        assert_close(part[:, 0, 2], np.array(arrays[f"{name}_KAM"], dtype=float)[:, 0, 2])


@pytest.mark.parametrize("config", CONFIGS)
def test_coco_cases(coco_case, config):
    _, truth, found, expected = coco_case
    protocol, expected = CONFIGS[config], expected["configs"][config]
    curves = fast_curves(protocol, *official_rows(protocol, truth, found))
    assert_close(curves.recall, expected["recall_TKAM"])
    for at, size in enumerate(protocol.size_ranges):
        by_class = expected["per_category_AP"][size.name]
        wanted = [by_class[str(category)] for category in truth.classes]
        assert_close(curves.average_precision[:, :, at, -1].mean(axis=0), wanted)
    assert curves.lrp is None


def scene(seed):
    """Crowded boxes on a coarse grid: equal scores, equal overlaps, areas on the limits."""
    rng = np.random.default_rng(seed)
    images, objects, detections = 6, int(rng.integers(0, 150)), int(rng.integers(0, 900))
    sizes = np.array([4, 6, 8, 16, 24, 32])
    boxes = np.hstack([rng.integers(0, 16, (objects, 2)) * 4, rng.choice(sizes, (objects, 2))])
    area = boxes.prod(axis=1, where=[False, False, True, True]) * rng.choice(
        [1, 1, 1, 1.5], objects
    )
    truth = GroundTruth(
        source="truth",
        image_ids=tuple(range(images)),
        image_names=tuple(map(str, range(images))),
        image_sizes=np.zeros((images, 2), int),
        classes={1: "a", 3: "b", 4: "c"},
        # The last image has no objects, the class 4 neither.
        image=rng.integers(0, images - 1, objects),
        category=rng.choice([1, 1, 1, 2, 3], objects),
        boxes=boxes.astype(float),
        area=area.astype(float),
        side=np.sqrt(area),
        annotation_id=rng.permutation(objects) - (seed % 3 == 0) * objects // 2 + seed % 2,
        crowd=rng.random(objects) < 0.1,
        ignore=rng.random(objects) < 0.1,
        uncertain=np.zeros(objects, bool),
    )
    hits = rng.integers(0, max(objects, 1), detections) if objects else np.zeros(0, int)
    move = rng.integers(-1, 2, (len(hits), 4)) * rng.choice([0, 0, 1, 2], (len(hits), 4))
    found = Detections(
        source="found",
        image=np.where(rng.random(len(hits)) < 0.9, truth.image[hits], images - 1),
        category=rng.choice([1, 1, 2, 3, 4], len(hits)),
        boxes=truth.boxes[hits] + move,
        scores=rng.integers(0, 12, len(hits)) / 10,
        missing=(),
    )
    return truth, found


SMALL_LIMITS = replace(
    AITOD,
    max_dets=(1, 10, 40),
    metrics=(
        *(Metric(kind, kind, None, "all", 40) for kind in ("oLRP", "oLRP_FP")),
        Metric("oLRP of tiny", "oLRP", None, "tiny", 10),
    ),
)


def pycocotools(protocol, truth, found):
    """precision and recall; annotation ids as they are."""
    numbers = range(len(truth.image))
    data = {
        "info": {},
        "images": [{"id": number} for number in truth.image_ids],
        "categories": [{"id": number, "name": name} for number, name in truth.classes.items()],
        "annotations": [
            {
                "id": int(truth.annotation_id[i]),
                "image_id": int(truth.image[i]),
                "category_id": int(truth.category[i]),
                "bbox": truth.boxes[i].tolist(),
                "area": float(truth.area[i]),
                "iscrowd": int(truth.crowd[i]),
            }
            for i in numbers
        ],
    }
    rows = zip(found.image, found.boxes, found.scores, found.category, strict=True)
    results = np.array([[image, *box, score, category] for image, box, score, category in rows])
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = data
        coco.createIndex()
        evaluator = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluator.params.iouThrs = np.array(protocol.iou_thresholds)
        evaluator.params.areaRng = [[size.low, size.high] for size in protocol.size_ranges]
        evaluator.params.areaRngLbl = [size.name for size in protocol.size_ranges]
        evaluator.params.maxDets = list(protocol.max_dets)
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator.eval["precision"], evaluator.eval["recall"]


@pytest.mark.parametrize("seed", range(12))
def test_random_scenes_as_pycocotools_has_them(seed, monkeypatch):
    monkeypatch.setattr(coco_fast, "_CROWD", 7)
    truth, found = scene(seed)
    assert len(found.image) > 30
    curves = fast_curves(SMALL_LIMITS, truth, found)
    precision, recall = pycocotools(SMALL_LIMITS, truth, found)
    assert (precision[:, :, 0, 0, 2] > 0).any()
    assert_close(curves.precision, precision)
    assert_close(curves.recall, recall)


@pytest.mark.parametrize("seed", range(12, 24))
def test_random_scenes_as_the_other_engine_has_them(seed):
    truth, found = scene(seed)
    fast, other = (curves(SMALL_LIMITS, truth, found) for curves in (fast_curves, compute_curves))
    for name in ("average_precision", "recall", "precision"):
        assert_close(getattr(fast, name), getattr(other, name))
    needed = [(0, 2), (2, 1)]
    for size, limit in needed:
        assert_close(fast.lrp[:, :, size, limit], other.lrp[:, :, size, limit])
    assert np.count_nonzero(~np.isnan(fast.lrp[0])) == len(truth.classes) * len(needed)


@pytest.mark.parametrize("which", ["objects", "detections", "both"])
def test_nothing_to_compare(which):
    truth, found = scene(1)
    none = np.zeros(0, int)
    truth = truth.select(none) if which != "detections" else truth
    found = found.select(none) if which != "objects" else found
    fast, other = (curves(AITOD, truth, found) for curves in (fast_curves, compute_curves))
    for field in fields(fast):
        a, b = getattr(fast, field.name), getattr(other, field.name)
        assert_close(*((x[:, :, 0, 2] if field.name == "lrp" else x) for x in (a, b)))


def test_no_word_on_the_terminal(capfd):
    truth, found = scene(2)
    assert 0 in truth.annotation_id
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fast_curves(AITOD, truth, found)
    assert capfd.readouterr() == ("", "")
