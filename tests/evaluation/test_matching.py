"""Each rule of matching on a few boxes whose overlaps are seen at a glance."""

from dataclasses import replace

import numpy as np
import pytest

from efpnbs_d2.evaluation.matching import FALSE_POSITIVE, IGNORED, TRUE_POSITIVE, match
from efpnbs_d2.protocols import PROTOCOLS, SizeRange, coco_metrics

COCO, VISDRONE, TINYPERSON = (PROTOCOLS[name] for name in ("coco", "visdrone", "tinyperson"))
FP, TP, IG = FALSE_POSITIVE, TRUE_POSITIVE, IGNORED
FAR = [500, 500, 10, 10]


def with_ranges(protocol, *limits, ious=(0.5,)):
    ranges = tuple(SizeRange(f"{low}-{high}", low, high) for low, high in limits)
    metrics = coco_metrics(ranges, protocol.max_dets[-1])
    return replace(
        protocol, size_ranges=ranges, iou_thresholds=ious, metrics=metrics, headline="AP"
    )


def states(protocol, example, **options):
    """(A, T) lists of the detections' states, in file order."""
    matches = match(protocol, *example, **options)
    by_file = np.full((*matches.state.shape[:2], len(example[1].image)), -1)
    by_file[:, :, matches.order] = matches.state
    return by_file.tolist()


def test_best_score_chooses_first_and_each_object_is_found_once(columns):
    example = columns(
        [{"box": [0, 0, 10, 10]}],
        [{"box": [0, 0, 10, 10], "score": 0.5}, {"box": [0, 0, 10, 9], "score": 0.6}],
    )
    matches = match(COCO, *example)
    assert matches.order.tolist() == [1, 0]
    assert matches.rank.tolist() == [0, 1]
    # Overlap 0.9 is COCO's ninth threshold; at the tenth the object is still free.
    at = COCO.iou_thresholds.index(0.8999999999999999)
    assert matches.state[0, at].tolist() == [TP, FP]
    assert matches.matched[0, at].tolist() == [0, -1]
    assert matches.overlap[0, at].tolist() == [pytest.approx(0.9), 0]
    assert matches.state[0, at + 1].tolist() == [FP, TP]
    assert matches.overlap[0, at + 1].tolist() == [0, 1]


@pytest.mark.parametrize("protocol", [COCO, VISDRONE, TINYPERSON], ids=lambda p: p.name)
def test_equal_scores_keep_file_order_and_of_equal_overlaps_the_later_object_is_taken(
    columns, protocol
):
    example = columns(
        [{"box": [0, 0, 10, 10]}, {"box": [0, 0, 10, 10]}],
        [{"box": [0, 0, 10, 10], "score": 0.5} for _ in range(3)],
    )
    matches = match(protocol, *example)
    assert matches.order.tolist() == [0, 1, 2]
    assert matches.matched[0, 0].tolist() == [1, 0, -1]


def test_an_overlap_that_equals_the_threshold_matches(columns):
    example = columns([{"box": [0, 0, 10, 10]}], [{"box": [0, 0, 5, 10], "score": 1}])
    protocol = with_ranges(COCO, (0, 1e10), ious=(0.5, np.nextafter(0.5, 1)))
    assert states(protocol, example) == [[[TP], [FP]]]


def test_threshold_one_is_reached(columns):
    example = columns([{"box": [0.1, 0, 0.2, 1]}], [{"box": [0.1, 0, 0.2, 1 - 1e-11], "score": 1}])
    assert states(with_ranges(COCO, (0, 1e10), ious=(1.0,)), example) == [[[TP]]]


def test_boxes_match_in_their_image_and_class_only(columns):
    box = [0, 0, 10, 10]
    example = columns(
        [{"box": box, "image": 1, "category": 2}],
        [
            {"box": box, "score": 0.9, "image": 0, "category": 2},
            {"box": box, "score": 0.8, "image": 1, "category": 1},
            {"box": box, "score": 0.7, "image": 1, "category": 2},
            {"box": box, "score": 0.6, "image": 1, "category": 3},
        ],
        images=2,
        classes={1: "a", 2: "b"},
    )
    matches = match(COCO, *example)
    assert matches.order.tolist() == [0, 1, 2], "category 3 is not evaluated"
    assert matches.state[0, 0].tolist() == [FP, FP, TP]


def test_size_limits_are_inclusive(columns):
    """64 is in both ranges, an unmatched detection of 64 too; the file's area counts, not w * h."""
    example = columns(
        [
            {"box": [0, 0, 8, 8]},
            {"box": [100, 0, 8, 8], "area": 64.01},
            {"box": [200, 0, 8, 8], "area": 63.99},
        ],
        [
            {"box": [0, 0, 8, 8], "score": 0.9},
            {"box": [100, 0, 8, 8], "score": 0.8},
            {"box": [200, 0, 8, 8], "score": 0.7},
            {"box": [500, 0, 8, 8], "score": 0.6},
            {"box": [600, 0, 8, 8.01], "score": 0.5},
            {"box": [700, 0, 8, 7.99], "score": 0.4},
        ],
    )
    protocol = with_ranges(COCO, (0, 64), (64, 256))
    assert states(protocol, example) == [[[TP, IG, TP, FP, IG, FP]], [[TP, TP, IG, FP, FP, IG]]]
    assert match(protocol, *example).counted.tolist() == [[1, 0, 1], [1, 1, 0]]


def test_coco_crowd_absorbs_by_detection_area_any_number_but_objects_first(columns):
    example = columns(
        [
            {"box": [0, 0, 100, 100], "crowd": True},
            {"box": [0, 0, 10, 10]},
            {"box": [300, 0, 10, 10], "ignore": True},
        ],
        [
            {"box": [0, 0, 10, 12], "score": 0.9},
            {"box": [0, 0, 10, 10], "score": 0.8},
            {"box": [50, 50, 10, 10], "score": 0.7},
            # Half of it is in the crowd: 0.5; the next a little less.
            {"box": [95, 50, 10, 10], "score": 0.6},
            {"box": [95.1, 50, 10, 10], "score": 0.5},
            {"box": [300, 0, 10, 10], "score": 0.4},
        ],
    )
    # The overlap with the crowd is 1, more than the 0.83 with the object, which is still taken.
    protocol = with_ranges(COCO, (0, 1e10))
    assert states(protocol, example) == [[[TP, IG, IG, IG, FP, TP]]]
    assert match(protocol, *example).counted.tolist() == [[0, 1, 1]], "`ignore` is not COCO's"


def test_an_object_out_of_range_absorbs_one_detection(columns):
    example = columns(
        [{"box": [0, 0, 20, 20]}],
        [{"box": [0, 0, 20, 18], "score": 0.9}, {"box": [0, 0, 20, 15], "score": 0.8}],
    )
    assert states(with_ranges(COCO, (300, 399)), example) == [[[IG, FP]]]


def test_annotation_id_0_takes_its_detection_for_a_false_positive(columns):
    detections = [{"box": [0, 0, 10, 10], "score": s} for s in (0.9, 0.8)]
    detections.append({"box": [300, 0, 10, 10], "score": 0.7})
    objects = [{"box": [0, 0, 10, 10], "id": 0}, {"box": [300, 0, 10, 10], "id": 1}]
    example = columns(objects, detections)
    protocol = with_ranges(COCO, (0, 1e10), (200, 300))
    assert states(protocol, example) == [[[FP, FP, TP]], [[IG, IG, IG]]]
    assert match(protocol, *example).matched[0, 0].tolist() == [0, -1, 1], "the object is used up"
    assert states(with_ranges(VISDRONE, (0, 1e10)), example) == [[[TP, FP, TP]]]


def test_annotation_id_0_leaves_a_detection_out_of_range_ignored(columns):
    example = columns([{"box": [0, 0, 10, 10], "id": 0}], [{"box": [0, 0, 10, 9], "score": 1}])
    assert states(with_ranges(COCO, (0, 100), (95, 100)), example) == [[[FP]], [[IG]]]


def test_tinyperson_flags(columns):
    flags = ("ignore", "uncertain", "crowd")
    objects = [{"box": [100 * n, 0, 10, 10], flag: True} for n, flag in enumerate(flags)]
    detections = [{"box": [100 * n, 0, 10, 10], "score": 0.9 - n / 10} for n in range(3)]
    example = columns(objects, detections)
    assert states(with_ranges(TINYPERSON, (1, 1e10)), example) == [[[IG, IG, IG]]]
    assert not match(TINYPERSON, *example).counted.any()


def test_tinyperson_ignored_and_out_of_range_objects_absorb_any_number(columns):
    """By intersection over detection; also after the object was taken by overlap."""
    example = columns(
        [{"box": [0, 0, 40, 40]}, {"box": [200, 0, 40, 40], "ignore": True}],
        [
            {"box": [0, 0, 40, 40], "score": 0.9},
            {"box": [10, 10, 10, 10], "score": 0.8},
            {"box": [200, 0, 40, 40], "score": 0.7},
            {"box": [210, 10, 10, 10], "score": 0.6},
            {"box": [235, 10, 10, 10], "score": 0.5},
            {"box": [235.01, 10, 10, 10], "score": 0.4},
        ],
    )
    protocol = with_ranges(TINYPERSON, (1, 1e10), (1, 400))
    expected = [[[TP, FP, IG, IG, IG, FP]], [[IG, IG, IG, IG, IG, FP]]]
    assert states(protocol, example) == expected


def test_tinyperson_share_is_distorted_for_crowds_and_foreign_areas(columns):
    """Source: the official formula s / (1 + s) * (1 + area of object / area of detection).

    A crowd of 10,000, a detection of 100 with a tenth inside: 0.1 / 1.1 * 101 = 9.2. An ignored
    box of 400 with `area` 1600 in the file, half of the detection of 100 inside: overlap 50 / 450,
    1/9 / (10/9) * 17 = 1.7; with a true area of 30 it is 0.13.
    """
    example = columns(
        [
            {"box": [0, 0, 100, 100], "crowd": True},
            {"box": [300, 0, 20, 20], "ignore": True, "area": 1600},
            {"box": [400, 0, 20, 20], "ignore": True, "area": 30},
        ],
        [
            {"box": [99, 0, 10, 10], "score": 0.9},
            {"box": [315, 0, 10, 10], "score": 0.8},
            {"box": [415, 0, 10, 10], "score": 0.7},
            {"box": [50, 50, 0, 10], "score": 0.6},
        ],
    )
    protocol = with_ranges(TINYPERSON, (0, 1e10))
    assert states(protocol, example) == [[[IG, IG, FP, FP]]]


def test_visdrone_score_0_absorbs_and_counts_in_recall(columns):
    example = columns(
        [{"box": [0, 0, 100, 100], "ignore": True}, {"box": [0, 0, 10, 10]}],
        [{"box": [10 * n, 0, 10, 10], "score": 0.9 - n / 10} for n in range(3)],
    )
    matches = match(VISDRONE, *example)
    assert matches.state[0, 0].tolist() == [TP, IG, IG]
    assert matches.counted.tolist() == [[True, True]]


def test_visdrone_counts_boxes_of_any_size(columns):
    example = columns([{"box": FAR}], [{"box": [0, 0, 2e5, 2e5], "score": 1}])
    assert states(VISDRONE, example)[0][0] == [FP]
    assert states(COCO, example)[0][0] == [IG], "COCO's range ends at 1e10"


def test_limit_of_each_class_is_by_score(columns):
    detections = [{"box": FAR, "score": n / 10, "category": 1 + n % 2} for n in range(6)]
    example = columns([], detections, classes={1: "a", 2: "b"})
    assert match(COCO, *example, max_dets=2).order.tolist() == [4, 2, 5, 3]


def test_limit_of_each_image_is_by_file_order_of_all_classes(columns):
    """The first 3 of each image, of which category 11 is not evaluated."""
    categories, images = [11, 1, 2, 1, 1, 1], [0, 0, 0, 0, 1, 1]
    example = columns(
        [],
        [
            {"box": FAR, "score": n / 10, "category": c, "image": i}
            for n, (c, i) in enumerate(zip(categories, images))
        ],
        images=2,
        classes={1: "a", 2: "b"},
    )
    assert match(VISDRONE, *example, max_dets=3).order.tolist() == [1, 2, 5, 4]


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=lambda p: p.name)
@pytest.mark.parametrize("empty", ["objects", "detections", "both"])
def test_nothing_to_match(columns, protocol, empty):
    objects = [] if empty != "detections" else [{"box": [0, 0, 10, 10]}]
    detections = [] if empty != "objects" else [{"box": [0, 0, 10, 10], "score": 1}]
    matches = match(protocol, *columns(objects, detections))
    shape = (len(protocol.size_ranges), len(protocol.iou_thresholds), len(detections))
    assert matches.state.shape == matches.matched.shape == matches.overlap.shape == shape
    assert not (matches.state == TP).any()


def test_progress_is_shown_on_demand(columns, capsys):
    example = columns([{"box": FAR}], [{"box": FAR, "score": 1}])
    match(COCO, *example)
    assert capsys.readouterr().err == ""
    match(COCO, *example, progress=True)
    assert "Matching" in capsys.readouterr().err
