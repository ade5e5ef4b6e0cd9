"""Damage at every place of a file: the reader gives clean columns or a clear error."""

import copy
import json
import math

import numpy as np
import pytest

from efpnbs_d2.evaluation.files.ground_truth import read_ground_truth
from efpnbs_d2.evaluation.files.results import read_results
from efpnbs_d2.file_format import DataFormatError
from efpnbs_d2.protocols import PROTOCOLS

IMAGES = [{"id": 0, "file_name": "a.jpg", "height": 9, "width": 9}, {"id": 3}]
CATEGORIES = [{"id": 1, "name": "ship"}, {"id": 2, "name": "person"}]
BOXES = [
    {"id": 0, "image_id": 0, "category_id": 1, "bbox": [1.5, 2, 3, 4], "area": 9, "iscrowd": 0},
    {"id": 5, "image_id": 3, "category_id": 2, "bbox": [1, 2, 3, 4], "ignored_as": "region"},
]
TRUTH = {"images": IMAGES, "annotations": BOXES, "categories": CATEGORIES}
RESULTS = [
    {"image_id": 0, "category_id": 1, "bbox": [1.5, 2, 3, 4], "score": 0.5},
    {"image_id": 3, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 1},
]
JUNK = [None, True, -1, 0, 1.5, 1e308, math.nan, math.inf, 10**400, "", "1", "\ud800", "a\0b"]
JUNK += [[], {}, [[]], [1, 2, 3, 4], {"id": 0}]


def places(node, path=()):
    for key, value in node.items() if isinstance(node, dict) else enumerate(node):
        yield (*path, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*path, key))


def damaged(document):
    """Copies in which one value is gone or replaced."""
    for path in places(document):
        for junk in [*JUNK, KeyError]:
            copied = copy.deepcopy(document)
            parent = copied
            for key in path[:-1]:
                parent = parent[key]
            if junk is KeyError:
                del parent[path[-1]]
            else:
                parent[path[-1]] = junk
            yield copied


def read_or_refuse(read, target, content):
    target.write_text(json.dumps(content))
    try:
        return read(str(target))
    except DataFormatError as error:
        message = str(error)
        assert message.startswith(str(target)) and "found" in message and "expected" in message
        assert len(message) < len(str(target)) + 400


def assert_clean(columns, images):
    assert np.isfinite(columns.boxes).all() and (columns.boxes[:, 2:] >= 0).all()
    assert ((columns.image >= 0) & (columns.image < images)).all()
    assert len(columns.image) == len(columns.category) == len(columns.boxes)


@pytest.mark.parametrize(("name", "strict"), [("coco", True), ("visdrone", False)])
def test_ground_truth(tmp_path, name, strict):
    for content in damaged(TRUTH):
        truth = read_or_refuse(
            lambda path: read_ground_truth(path, PROTOCOLS[name], strict=strict),
            tmp_path / "gt.json",
            content,
        )
        if truth is not None:
            assert_clean(truth, len(truth.image_ids))
            assert np.isfinite(truth.area).all() and np.isfinite(truth.side).all()


def test_results(tmp_path):
    (tmp_path / "gt.json").write_text(json.dumps(TRUTH))
    truth = read_ground_truth(str(tmp_path / "gt.json"), PROTOCOLS["coco"])
    for content in damaged(RESULTS):
        found = read_or_refuse(
            lambda path: read_results(path, truth, PROTOCOLS["coco"]),
            tmp_path / "results.json",
            content,
        )
        if found is not None:
            assert_clean(found, 2)
            assert np.isfinite(found.scores).all()
