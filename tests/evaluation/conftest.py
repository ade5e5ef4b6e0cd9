"""The gold cases: inputs whose numbers came from the official evaluators."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from efpnbs_d2.evaluation.columns import Detections, GroundTruth
from efpnbs_d2.evaluation.ground_truth import read_ground_truth
from efpnbs_d2.evaluation.results import read_results
from efpnbs_d2.protocols import PROTOCOLS

CASES = Path(__file__).parent / "cases"


class Case(NamedTuple):
    truth: GroundTruth
    found: Detections
    expected: dict


def read_json(path):
    return json.loads(path.read_bytes() if path.exists() else gzip.open(f"{path}.gz").read())


@pytest.fixture(scope="session")
def load_case():
    """`load_case("aitod/dense_scene")`: what the case's files hold; tiles are merged."""

    def load(name):
        folder = CASES / name
        protocol = PROTOCOLS[folder.parent.name]
        truth_file, results = "gt.json", "results.json"
        if protocol.ignore == "regions":
            truth_file, results = "annotations", "results"
        elif (folder / "expected_merged_results.json").exists():
            results = "expected_merged_results.json"
        if not (folder / results).exists():
            results += ".gz"
        images = folder / "image_sizes.json"
        truth = read_ground_truth(
            str(folder / truth_file), protocol, images=str(images) if images.exists() else None
        )
        found = read_results(str(folder / results), truth, protocol)
        return Case(truth, found, read_json(folder / "expected.json"))

    return load


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
