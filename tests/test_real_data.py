"""The real mini sets train from their official layouts; skipped where they are not at hand."""

import os
from pathlib import Path

import pytest

from efpnbs_d2.data import register_tiny_dataset
from efpnbs_d2.engine.recipe import LazyRecipe
from efpnbs_d2.engine.run import train

REAL_DATA = os.environ.get("EFPNBS_REAL_DATA")
pytestmark = pytest.mark.skipif(not REAL_DATA, reason="EFPNBS_REAL_DATA names no folder")

SETS = {
    "visdrone_train": ("visdrone-mini", 10),
    "tinyperson_train": ("tinyperson-mini", 1),
    "aitod_style_train": ("fixtures/aitod", 8),
}


@pytest.fixture
def aitod_style(registry):
    """Tiles in AI-TOD's format are no split of AI-TOD, so they are registered as one's own."""
    folder = Path(REAL_DATA, "fixtures/aitod")
    register_tiny_dataset(
        "aitod_style_train",
        annotations=str(folder / "aitod_style_mini.json"),
        images=str(folder / "images"),
    )


@pytest.mark.parametrize("name", SETS)
def test_a_mini_set_trains(name, small_lazy, tmp_path, monkeypatch, aitod_style):
    folder, classes = SETS[name]
    monkeypatch.setenv("DETECTRON2_DATASETS", str(Path(REAL_DATA, folder)))
    cfg = small_lazy(
        f"dataloader.train.dataset.names={name}",
        "dataloader.test.dataset.names=[]",
        f"model.roi_heads.num_classes={classes}",
        config="visdrone/mini_efpn_bs_r18.py",
    )
    train(LazyRecipe(cfg))
    metrics = (tmp_path / "lazy/metrics.json").read_text()
    assert '"loss_fbsm"' in metrics and "NaN" not in metrics
    assert (tmp_path / "lazy/model_final.pth").is_file()
