"""Narrowing columns to some of their rows."""

from dataclasses import fields

import numpy as np
import pytest

from efpnbs_d2.evaluation.columns import Detections, GroundTruth


def columns(kind, images):
    """Three rows; each column counts on from another number."""
    fixed = {"source": "file", "missing": ("b.jpg",), "classes": {1: "car"}} | images
    values = {}
    for n, field in enumerate(fields(kind)):
        shape = (3, 4) if field.name == "boxes" else (3,)
        values[field.name] = fixed.get(
            field.name, 100 * n + np.arange(np.prod(shape)).reshape(shape)
        )
    return kind(**values)


@pytest.mark.parametrize("rows", [np.array([True, False, True]), np.array([2, 0])], ids=str)
@pytest.mark.parametrize("kind", [GroundTruth, Detections])
def test_select_narrows_every_column(kind, rows):
    images = {"image_ids": (7,), "image_names": ("a.jpg",), "image_sizes": np.array([[5, 6]])}
    whole = columns(kind, images)
    part = whole.select(rows)
    for field in fields(kind):
        before, after = getattr(whole, field.name), getattr(part, field.name)
        if field.name in ("source", "missing", "classes", *images):
            assert after is before
        else:
            assert after.tolist() == before[rows].tolist()
