"""The gold cases: inputs whose numbers came from the official evaluators."""

import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from efpnbs_d2.evaluation.columns import Detections, GroundTruth
from efpnbs_d2.evaluation.files.ground_truth import read_ground_truth
from efpnbs_d2.evaluation.files.results import read_results
from efpnbs_d2.protocols import PROTOCOLS

CASES = Path(__file__).parent / "cases"


class Case(NamedTuple):
    name: str
    truth: GroundTruth
    found: Detections
    expected: dict


def read_case(name):
    """What the files of a case hold, for example of "aitod/dense_scene"; tiles are merged."""
    folder = CASES / name
    protocol = PROTOCOLS[folder.parent.name]
    truth_file, results, images = "gt.json", "results.json", None
    if protocol.ignore == "regions":
        truth_file, results, images = "annotations", "results", str(folder / "image_sizes.json")
    elif (folder / "expected_merged_results.json").exists():
        results = "expected_merged_results.json"
    if not (folder / results).exists():
        results += ".gz"
    truth = read_ground_truth(str(folder / truth_file), protocol, images=images)
    # Some cases hold detections of classes that are not listed.
    found = read_results(str(folder / results), truth, protocol, ignore_unknown_classes=True)
    expected = json.loads((folder / "expected.json").read_bytes())
    return Case(folder.name, truth, found, expected)


def cases_of(protocol):
    """A fixture: each of the protocol's cases in turn."""
    names = sorted(f"{protocol}/{folder.name}" for folder in (CASES / protocol).iterdir())
    assert names

    @pytest.fixture(scope="session", params=names)
    def case(request):
        return read_case(request.param)

    return case


aitod_case, coco_case, tinyperson_case, visdrone_case = map(
    cases_of, ("aitod", "coco", "tinyperson", "visdrone")
)


@pytest.fixture(scope="session")
def load_case():
    """`load_case("aitod/dense_scene")`: one case."""
    return read_case


@pytest.fixture
def columns():
    """`columns(objects, detections)` of dictionaries: the columns of a small example.

    An object has image, box and, optionally, other columns; a detection image, box and score. The
    category is 1, or one of `classes`.
    """

    def build(objects, detections, images=1, classes=None):
        classes = classes or {1: "person"}
        names = tuple(str(image) for image in range(images))

        def column(rows, name, default, kind):
            values = [row.get(name, default(row)) for row in rows]
            shape = (len(rows), 4) if name == "box" else len(rows)
            return np.array(values, dtype=kind).reshape(shape)

        def area(row):
            return row["box"][2] * row["box"][3]

        def zero(row):
            return 0

        truth = GroundTruth(
            source="truth",
            image_ids=tuple(range(images)),
            image_names=names,
            image_sizes=np.full((images, 2), 1000),
            classes=classes,
            image=column(objects, "image", zero, int),
            category=column(objects, "category", lambda row: 1, int),
            boxes=column(objects, "box", zero, float),
            area=column(objects, "area", area, float),
            side=column(objects, "side", lambda row: row.get("area", area(row)) ** 0.5, float),
            annotation_id=np.arange(1, len(objects) + 1),
            crowd=column(objects, "crowd", zero, bool),
            ignore=column(objects, "ignore", zero, bool),
            uncertain=column(objects, "uncertain", zero, bool),
        )
        if any("id" in row for row in objects):
            truth = replace(truth, annotation_id=np.array([row["id"] for row in objects]))
        found = Detections(
            source="found",
            image=column(detections, "image", zero, int),
            category=column(detections, "category", lambda row: 1, int),
            boxes=column(detections, "box", zero, float),
            scores=column(detections, "score", zero, float),
            missing=(),
        )
        return truth, found

    return build
