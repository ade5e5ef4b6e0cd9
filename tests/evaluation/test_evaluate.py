"""The numbers of the gold cases, a benchmark of one's own, and what is said beside the numbers."""

import math
from dataclasses import replace

import pytest

from efpnbs_d2.evaluation.evaluate import evaluate
from efpnbs_d2.protocols import ALL_SIZES, PROTOCOLS, SizeRange, coco_metrics

BOX, FAR = [0, 0, 10, 10], [50, 0, 10, 10]


def measure(protocol, truth, found):
    return evaluate(PROTOCOLS.get(protocol, protocol), truth, found, progress=False)


def assert_numbers(found, expected):
    """Those of `expected`, where None is NaN, are among the found ones."""
    wanted = {name: math.nan if value is None else value for name, value in expected.items()}
    assert {name: found[name] for name in wanted} == pytest.approx(wanted, abs=1e-9, nan_ok=True)


def test_aitod(aitod_case):
    evaluation = measure("aitod", aitod_case.truth, aitod_case.found)
    assert list(evaluation.metrics) == list(aitod_case.expected["stats"])
    assert_numbers(evaluation.metrics, aitod_case.expected["stats"])
    parts = {"oLRP": "olrp", "oLRP_Loc": "olrp_loc", "oLRP_FP": "olrp_fp", "oLRP_FN": "olrp_fn"}
    parts["oLRP_threshold"] = "lrp_opt_thr"
    assert len(evaluation.per_class) == len(aitod_case.expected["per_category"])
    for expected in aitod_case.expected["per_category"].values():
        values = evaluation.per_class[expected["name"]]
        of_all = expected["all"]
        assert_numbers(values, {name: of_all[parts.get(name, name)] for name in parts})
        names = ("AP", "AP50", "AP75", "AR1", "AR100", "AR1500")
        assert_numbers(values, {name: of_all[name] for name in names})
        for letters, size in zip(("vt", "t", "s", "m"), ("verytiny", "tiny", "small", "medium")):
            assert_numbers(values, {f"AP{letters}": expected[size]["AP"]})
            assert_numbers(values, {f"AR{letters}": expected[size]["AR1500"]})


def test_visdrone(visdrone_case):
    evaluation = measure("visdrone", visdrone_case.truth, visdrone_case.found)
    assert list(evaluation.metrics) == list(visdrone_case.expected["stats"])
    assert_numbers(evaluation.metrics, visdrone_case.expected["stats"])
    per_class = visdrone_case.expected["per_class"].values()
    for expected in per_class:
        name = expected["name"]
        values = {k.replace("AP", "AP_all") if k == "AP" else k: v for k, v in expected.items()}
        del values["name"]
        assert_numbers(evaluation.per_class[name], values)
    weights = visdrone_case.expected["class_weight_images"]
    present = [c for c, weight in zip(per_class, weights.values()) if weight]
    plain = sum(c["AP_50"] for c in present) / len(present)
    assert evaluation.unofficial["AP_50 plain mean"] == pytest.approx(plain, abs=1e-9)


def test_tinyperson(tinyperson_case):
    evaluation = measure("tinyperson", tinyperson_case.truth, tinyperson_case.found)
    expected = tinyperson_case.expected
    assert list(evaluation.metrics)[:42] == list(expected["stats_AP"])
    assert_numbers(evaluation.metrics, expected["stats_AP"])
    assert_numbers(evaluation.metrics, expected["stats_MR"])
    for category, values in expected["per_category"].items():
        found = evaluation.per_class[tinyperson_case.truth.classes[int(category)]]
        for kind, numbers in values.items():
            assert_numbers(found, {f"{kind}{place}": value for place, value in numbers.items()})


def test_coco(coco_case):
    evaluation = measure("coco", coco_case.truth, coco_case.found)
    assert list(evaluation.metrics) == list(coco_case.expected["stats"])
    assert_numbers(evaluation.metrics, coco_case.expected["stats"])
    assert not evaluation.unofficial


@pytest.mark.parametrize("name", ["aitod/crowd_and_ids", "tinyperson/few_images_first_fp"])
def test_numbers_with_ids_from_1_are_beside_the_official_ones(load_case, name):
    case = load_case(name)
    evaluation = measure(name.split("/")[0], case.truth, case.found)
    expected = case.expected["stats_if_annotation_ids_start_at_1"]
    expected = expected.get("stats_AP", {}) | expected.get("stats_MR", {}) or expected
    official = evaluation.metrics
    changed = {k for k, v in expected.items() if abs(v - official[k]) > 1e-9}
    said = {k.removesuffix(" with ids from 1"): v for k, v in evaluation.unofficial.items()}
    assert_numbers(said, {name: expected[name] for name in changed})
    assert changed == {name for name in said if " " not in name}
    assert any("match with id 0" in note and "AP" in note for note in evaluation.notes)


def test_ids_without_an_effect_are_not_mentioned(tinyperson_case):
    """In the cases where the official code yields the same with ids from 1."""
    if tinyperson_case.expected.get("stats_if_annotation_ids_start_at_1") == "identical":
        evaluation = measure("tinyperson", tinyperson_case.truth, tinyperson_case.found)
        assert not any("ids" in name for name in evaluation.unofficial)
        assert not any("match with id 0" in note for note in evaluation.notes)


def test_repeated_ids(columns):
    """The second annotation stands for both: two objects at its place, one of them missed."""
    objects = [{"box": BOX, "id": 4}, {"box": [50, 0, 10, 10], "id": 4}]
    found = [{"box": o["box"], "score": 1 - n / 10} for n, o in enumerate(objects)]
    evaluation = measure("coco", *columns(objects, found))
    assert evaluation.metrics["AP"] == pytest.approx(51 / 101 / 2)
    assert evaluation.unofficial["AP with ids from 1"] == pytest.approx(1)
    assert len(evaluation.notes) == 1


def test_repeated_ids_change_only_their_classes(columns):
    objects = [{"box": BOX, "id": 4, "category": 2}, {"box": FAR, "id": 4, "category": 2}]
    objects.append({"box": BOX, "id": 1, "category": 1})
    found = [{"box": o["box"], "category": o["category"], "score": 0.5} for o in objects]
    evaluation = measure("aitod", *columns(objects, found, classes={1: "a", 2: "b"}))
    assert evaluation.metrics["AR1500"] == pytest.approx((1 + 1 / 2) / 2)
    assert evaluation.unofficial["AR1500 with ids from 1"] == pytest.approx(1)
    assert evaluation.unofficial["oLRP with ids from 1"] == pytest.approx(0)


def test_wrapped_index_of_the_miss_rate(columns):
    """With 2 images one false positive is 0.5 per image: 7 of the 9 points are before it. The
    official code takes the last recall, 1/2, there: the miss rate is 1/2 at every point, but 1 at
    the 7 points in truth and 1/2 at the others."""
    example = columns(
        [{"box": BOX}, {"box": FAR}],
        [{"box": [200, 0, 10, 10], "score": 0.9}, {"box": BOX, "score": 0.8}],
        images=2,
    )
    evaluation = measure("tinyperson", *example)
    assert evaluation.metrics["MR50_tiny2"] == pytest.approx(0.5)
    corrected = evaluation.unofficial["MR50_tiny2 without wrapped index"]
    assert corrected == pytest.approx(math.exp(math.log(0.5) * 2 / 9))
    assert not any(name.startswith("AP") for name in evaluation.unofficial)
    assert any("best detection is a false positive" in note for note in evaluation.notes)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_detections(columns, protocol):
    evaluation = measure(protocol, *columns([{"box": BOX}], []))
    assert evaluation.metrics[PROTOCOLS[protocol].headline] == 0
    if protocol == "tinyperson":
        assert evaluation.metrics["MR50_All"] == 1
    assert evaluation.notes == ()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_no_objects(columns, protocol):
    evaluation = measure(protocol, *columns([], [{"box": BOX, "score": 1}]))
    undefined = math.nan if protocol == "visdrone" else -1
    assert set(map(str, evaluation.metrics.values())) == {str(float(undefined))}


def test_missing_images_are_counted_and_named(columns):
    truth, found = columns([{"box": BOX}], [{"box": BOX, "score": 1}], images=6)
    found = replace(found, missing=("1", "2", "3", "4", "5"))
    (note,) = measure("coco", truth, found).notes
    assert note.startswith("Images without results: 5 of 6 (1, 2, 3, ...)")


def test_detections_without_effect_are_counted(columns):
    found = [{"box": BOX, "score": 0.5} for _ in range(104)]
    found += [{"box": BOX, "score": 0.5, "category": 8} for _ in range(2)]
    of_classes, beyond = measure("coco", *columns([{"box": BOX}], found)).notes
    assert of_classes == "Detections of classes that are not evaluated: 2."
    assert (
        beyond == "Detections without effect: 4, as only the best 100 of a class and image count."
    )

    found = [{"box": BOX, "score": 0.5} for _ in range(510)]
    truth, found = columns([{"box": FAR}, {"box": BOX, "category": 0}], found)
    (in_region,) = measure("visdrone", truth, found).notes
    assert in_region == "Detections dropped because they are in ignored regions: 510."
    elsewhere = replace(found, boxes=found.boxes + [[300, 0, 0, 0]])
    (beyond,) = measure("visdrone", truth, elsewhere).notes
    assert beyond.startswith("Detections without effect: 10, as only the first 500 rows")


def test_classes_of_one_name_stay_apart(columns):
    example = columns([{"box": BOX}], [], classes={1: "car", 2: "bus", 5: "car"})
    assert list(measure("coco", *example).per_class) == ["car (1)", "bus", "car (5)"]


def test_a_benchmark_of_ones_own(columns):
    """SODA-D's sizes: data alone make a protocol. One object of each size and one on a common
    limit (144) that is in two; only the objects of 144 and 500 are found."""
    ranges = (
        ALL_SIZES,
        SizeRange("es", 0, 144),
        SizeRange("rs", 144, 400),
        SizeRange("gs", 400, 1024),
        SizeRange("normal", 1024, 2000),
    )
    soda = replace(
        PROTOCOLS["coco"],
        name="soda-d",
        title="SODA-D",
        size_ranges=ranges,
        metrics=coco_metrics(ranges, 1, 10, 100),
    )
    sides = [(10, 10), (12, 12), (15, 15), (20, 25), (40, 40), (50, 50)]
    objects = [{"box": [100 * n, 0, *side]} for n, side in enumerate(sides)]
    found = [{**objects[n], "score": 0.5} for n in (1, 3)]
    metrics = measure(soda, *columns(objects, found)).metrics
    # 2 of 6 found, all detections right: recalls 0 to 0.33 of 101.
    assert metrics["AP"] == pytest.approx(34 / 101)
    assert metrics["APes"] == metrics["APrs"] == pytest.approx(51 / 101)
    assert metrics["APgs"] == pytest.approx(1)
    assert metrics["APnormal"] == 0
    assert metrics["ARes"] == metrics["ARrs"] == 0.5
    assert list(metrics) == [m.name for m in soda.metrics]


def test_the_plain_class_mean_of_fractions(columns):
    """Class 1 in two images and found there, class 2 in one and not: 2/3, plainly 1/2."""
    objects = [{"box": BOX, "image": 0}, {"box": BOX, "image": 1}]
    found = [{**entry, "score": 0.5} for entry in objects]
    objects.append({"box": FAR, "category": 2})
    example = columns(objects, found, images=2, classes={1: "a", 2: "b", 3: "c"})
    evaluation = measure(replace(PROTOCOLS["visdrone"], percent=False), *example)
    assert evaluation.metrics["AP_all"] == pytest.approx(2 / 3)
    assert evaluation.unofficial["AP_all plain mean"] == pytest.approx(1 / 2)
    assert list(evaluation.per_class) == ["a", "b", "c"]
