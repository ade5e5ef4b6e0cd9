"""The paired bootstrap: exact where a draw can be built by hand, statistics elsewhere."""

from dataclasses import replace

import numpy as np
import pytest

from efpnbs_d2.evaluation.analysis.bootstrap import compare, compared_metrics, weighted_metrics
from efpnbs_d2.evaluation.evaluate import evaluate
from efpnbs_d2.protocols import ALL_SIZES, PROTOCOLS, Metric

# AP is then the share of the objects that are found, as long as nothing is wrong.
SIMPLE = replace(
    PROTOCOLS["coco"],
    iou_thresholds=(0.5,),
    size_ranges=(ALL_SIZES,),
    interpolation="all points",
    metrics=(Metric("AP", "AP", 0.5, "all", 100),),
)
BOX = [10, 10, 10, 10]


def detections_where(columns, found, images=None):
    """One object in each image, and the detections of those that `found` marks."""
    images = range(len(found)) if images is None else images
    objects = [{"image": i, "box": BOX} for i in images]
    hits = [{"image": i, "box": BOX, "score": 0.9} for i in np.flatnonzero(found)]
    return columns(objects, hits, images=len(found))


@pytest.fixture
def crowded(columns):
    """Twelve images of three classes: misplaced, mislabelled and doubled boxes, ignored boxes of
    each kind and (category 0) ignored regions; scores that are equal in different images."""
    rng = np.random.default_rng(5)

    def boxes(count):
        return np.concatenate([rng.uniform(1, 90, (count, 2)), rng.uniform(3, 40, (count, 2))], 1)

    objects = [
        {
            "image": i // 8,
            "box": box,
            "category": rng.integers(1, 4),
            "crowd": rng.random() < 0.05,
            "ignore": rng.random() < 0.1,
        }
        for i, box in enumerate(boxes(96).tolist())
    ]
    found = [
        {
            "image": image,
            "box": np.abs(
                rng.normal((of := rng.choice(objects[8 * image :][:8]))["box"], 2)
            ).tolist(),
            "category": rng.choice([of["category"], 2]),
            "score": score / 40,
        }
        for image in range(12)
        for score in rng.permutation(40)[:25]
    ]
    regions = [{"image": i, "box": [20, 20, 15, 15], "category": 0} for i in (2, 7)]
    return columns(objects + regions, found, images=12, classes={1: "car", 2: "bus", 3: "van"})


def repeated(truth, found, weights):
    """The benchmark with each image copied as often as its weight says, copies side by side."""
    sources = np.repeat(np.arange(len(weights)), weights)

    def copy(rows, **columns):
        parts = [np.flatnonzero(rows.image == source) for source in sources]
        image = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
        return replace(rows.select(np.concatenate(parts)), image=image, **columns)

    names = tuple(str(k) for k in range(len(sources)))
    copies = copy(truth, image_ids=names, image_names=names, image_sizes=truth.image_sizes[sources])
    ids = np.arange(1, len(copies.image) + 1)
    return replace(copies, annotation_id=ids), copy(found)


def metrics_of(protocol, truth, found):
    values = evaluate(protocol, truth, found, progress=False).metrics
    scale = 100 if protocol.percent else 1
    return [values[metric.name] / scale for metric in compared_metrics(protocol)]


@pytest.mark.parametrize("name", ["coco", "aitod", "visdrone", "tinyperson"])
def test_a_weight_is_that_many_copies_of_an_image(crowded, name):
    truth, found = crowded
    protocol = PROTOCOLS[name]
    weights = np.array([[1] * 12, [2, 0, 1, 3, 0, 1, 1, 0, 1, 2, 0, 1], [0] * 11 + [4]])
    values = weighted_metrics(protocol, truth, found, weights.T.astype(np.int32))
    for value, row in zip(values.T, weights):
        expected = metrics_of(protocol, *repeated(truth, found, row))
        # The official codes say -1 where no object is in a range.
        assert np.nan_to_num(value, nan=-1) == pytest.approx(expected, abs=1e-12)
    assert np.ptp(values[0]) > 0.01


@pytest.mark.parametrize(
    "case",
    [
        "coco/all_sizes",
        "aitod/dense_scene",
        "aitod/ties_and_exact_iou",
        "visdrone/ignored_regions",
        "visdrone/others_and_score0",
        "tinyperson/few_images_first_fp",
        "tinyperson/iscrowd_and_area_field",
    ],
)
def test_weights_of_one_give_the_official_numbers(load_case, case):
    truth, found = load_case(case).truth, load_case(case).found
    protocol = PROTOCOLS[case.split("/")[0]]
    once = np.ones((len(truth.image_ids), 1), dtype=np.int32)
    values = weighted_metrics(protocol, truth, found, once)[:, 0]
    expected = metrics_of(protocol, truth, found)
    assert np.nan_to_num(values, nan=-1) == pytest.approx(expected, abs=1e-12)


def test_the_headline_comes_first_and_what_has_no_value_is_left_out():
    names = {
        name: [metric.name for metric in compared_metrics(protocol)]
        for name, protocol in PROTOCOLS.items()
    }
    assert names["aitod"] == ["AP", "AP50", "AP75", "APvt", "APt", "APs", "APm"]
    assert names["visdrone"] == ["AP_all", "AP_50", "AP_75"]
    assert names["tinyperson"][:3] == ["AP50_tiny", "AP25_all", "AP25_tiny"]
    assert len(names["tinyperson"]) == 21
    # At another limit other detections are matched.
    metric = Metric("AP10", "AP", None, "all", 10)
    early = replace(PROTOCOLS["coco"], metrics=(metric,), headline="AP10")
    assert compared_metrics(early) == []


def test_a_protocol_may_have_nothing_to_compare(crowded):
    truth, found = crowded
    bare = replace(SIMPLE, metrics=())
    assert compare(bare, truth, found, found, resamples=3).differences == ()


def test_a_detector_does_not_differ_from_itself(crowded):
    truth, found = crowded
    result = compare(PROTOCOLS["tinyperson"], truth, found, found, resamples=50)
    assert result.resamples == 50
    for difference in result.differences:
        assert difference.first == difference.second
        assert (difference.low, difference.high, difference.p_value) == (0, 0, 1)


def test_a_better_detector_is_recognised(columns):
    truth, half = detections_where(columns, np.arange(40) % 2 == 0)
    _, all_found = detections_where(columns, np.ones(40, dtype=bool))
    (better,) = compare(SIMPLE, truth, half, all_found, resamples=199).differences
    assert (better.first, better.second, better.difference) == (0.5, 1, 0.5)
    # The number of missed images is binomial: 20 of 40, standard deviation 3.2 images.
    assert better.low == pytest.approx(0.5 - 1.96 * 3.16 / 40, abs=0.05)
    assert better.high == pytest.approx(0.5 + 1.96 * 3.16 / 40, abs=0.05)
    assert better.p_value == 2 / 200
    (worse,) = compare(SIMPLE, truth, all_found, half, resamples=199).differences
    assert (worse.low, worse.high) == pytest.approx((-better.high, -better.low))
    assert (worse.difference, worse.p_value) == (-0.5, 2 / 200)


def test_the_p_value_is_twice_the_share_of_draws_of_the_other_sign(columns):
    # Of two images the second is found by the better detector alone. A quarter of the draws has
    # that image never, a quarter twice: differences of 0, 1/2 and 1.
    truth, nothing = detections_where(columns, np.array([False, False]))
    _, one = detections_where(columns, np.array([False, True]))
    (difference,) = compare(SIMPLE, truth, nothing, one, resamples=4000).differences
    assert difference.p_value == pytest.approx(2 / 4, abs=0.03)
    assert (difference.low, difference.high) == (0, 1)
    _, other = detections_where(columns, np.array([True, False]))
    (tie,) = compare(SIMPLE, truth, other, one, resamples=4000).differences
    assert (tie.low, tie.high, tie.p_value) == (-1, 1, 1)


def test_both_detectors_see_the_same_draws(columns):
    # One image more is found, always the same: the draws of the other 59 do not matter.
    rng = np.random.default_rng(0)
    found = rng.random(60) < 0.5
    found[0] = False
    truth, first = detections_where(columns, found)
    found[0] = True
    _, second = detections_where(columns, found)
    (difference,) = compare(SIMPLE, truth, first, second, resamples=300).differences
    # Unpaired, the standard deviation would be 0.09.
    assert 0 <= difference.low <= difference.high <= 4 / 60


def test_equal_seeds_give_equal_numbers(crowded):
    truth, found = crowded
    second = found.select(np.arange(len(found.image)) % 3 > 0)
    protocol = PROTOCOLS["visdrone"]
    results = [
        compare(protocol, truth, found, second, resamples=40, seed=seed) for seed in (1, 1, 2)
    ]
    assert results[0] == results[1]
    assert results[0].differences[0].low != results[2].differences[0].low
    official = evaluate(protocol, truth, second, progress=False).metrics
    # In percent, as VisDrone's code prints them.
    for difference in results[0].differences:
        assert difference.second == pytest.approx(official[difference.name], abs=1e-9)


def test_draws_without_objects_are_left_out(columns):
    truth, found = detections_where(columns, np.array([True, False]), images=[0])
    (difference,) = compare(SIMPLE, truth, found, found, resamples=50).differences
    assert (difference.low, difference.high, difference.p_value) == (0, 0, 1)
    empty, found = columns([], [], images=2)
    (difference,) = compare(SIMPLE, empty, found, found, resamples=50).differences
    assert np.isnan([difference.first, difference.low, difference.high, difference.p_value]).all()


def test_the_interval_covers_the_true_difference_as_often_as_it_says(columns):
    # Each of 50 objects is found with probability 0.5 by one detector and 0.7 by the other.
    rng = np.random.default_rng(1)
    covered = []
    for _ in range(150):
        truth, first = detections_where(columns, rng.random(50) < 0.5)
        _, second = detections_where(columns, rng.random(50) < 0.7)
        (d,) = compare(SIMPLE, truth, first, second, resamples=150).differences
        covered.append(d.low <= 0.2 <= d.high)
    # 95% of 150, give or take three standard deviations of 1.8%.
    assert 0.89 <= np.mean(covered) <= 0.995


def test_no_resamples_are_refused(crowded):
    truth, found = crowded
    with pytest.raises(ValueError, match="found 0 resamples, expected at least 1"):
        compare(SIMPLE, truth, found, found, resamples=0)
