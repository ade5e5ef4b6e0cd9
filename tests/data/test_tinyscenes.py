"""The synthetic scenes hold what their documentation says."""

import numpy as np
import pytest

from efpnbs_d2.data.tinyscenes import generate_scene, write_dataset


@pytest.mark.parametrize("difficulty", ["easy", "hard"])
def test_boxes_lie_inside_and_counts_in_range(difficulty):
    for seed in range(5):
        image, annotations = generate_scene(seed, size=(200, 256), difficulty=difficulty)
        assert image.shape == (200, 256, 3) and image.dtype == np.uint8
        assert 10 <= len(annotations) <= 200
        for a in annotations:
            x, y, w, h = a["bbox"]
            assert 0 <= x < x + w <= 256 and 0 <= y < y + h <= 200
            assert a["area"] == w * h and 1 <= a["category_id"] <= 8


def test_same_arguments_give_the_same_files(tmp_path):
    a, b = (
        write_dataset(tmp_path / name, splits={"train": 2, "val": 1}, size=128, progress=False)
        for name in "ab"
    )
    files = sorted(p.relative_to(a) for p in a.rglob("*.*"))
    assert len(files) == 5
    assert all((a / f).read_bytes() == (b / f).read_bytes() for f in files)
