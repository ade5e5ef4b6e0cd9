"""The command writes a page and its pictures for each image, and says what it cannot explain."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from efpnbs_d2.checkpoint import Checkpointer
from efpnbs_d2.engine.cli import load_config
from efpnbs_d2.engine.recipe import LazyRecipe
from efpnbs_d2.tools.explain import main

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
CONFIG = str(CONFIGS / "tinyscenes/efpn_bs_r18.py")
STOCK = str(CONFIGS / "tinyscenes/fpn_r18.py")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """Of an untrained detector with CEM and FBSM, and of one without, by config."""

    def write(config):
        torch.manual_seed(0)
        recipe = LazyRecipe(load_config(config, []))
        folder = tmp_path_factory.mktemp("weights")
        Checkpointer(recipe.build_model(), str(folder)).save("model")
        return str(folder / "model.pth")

    return {config: write(config) for config in (CONFIG, STOCK)}


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "in" / "<b>harbour.png"
    path.parent.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), pixels)
    return path


def run(weights, *args, config=CONFIG):
    return main(["--config-file", config, "--weights", weights[config], *map(str, args)])


def test_a_page_and_pictures(weights, image, tmp_path, capsys):
    assert run(weights, image.parent, "--output", tmp_path / "out", "--proposals", 7) == 0
    folder = tmp_path / "out" / "<b>harbour"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [
            "detections.png",
            *(f"mask_{level}.png" for level in ("p2", "p3", "p4")),
            *(f"energy_p{i}_{part}.png" for i in (2, 3, 4) for part in ("fpn", "cem", "fbsm")),
            *(f"energy_p{i}_fpn.png" for i in (5, 6)),
            *(f"proposals_by_{what}.png" for what in ("level", "score")),
        ]
    )
    page = tmp_path / "out" / "<b>harbour.html"
    text = page.read_text()
    assert "<b>harbour" not in text and "&lt;b&gt;harbour" in text
    assert "the 7 of the highest score" in text
    assert str(page) in capsys.readouterr().out
    assert "http" not in text  # nothing from elsewhere


def test_a_stock_fpn_has_energy_and_proposals_only(weights, image, tmp_path):
    assert run(weights, image, "--output", tmp_path / "out", config=STOCK) == 0
    names = {path.stem for path in (tmp_path / "out" / "<b>harbour").iterdir()}
    assert names == {
        "detections",
        "proposals_by_level",
        "proposals_by_score",
        *(f"energy_p{i}_fpn" for i in (2, 3, 4, 5, 6)),
    }
    page = (tmp_path / "out" / "<b>harbour.html").read_text()
    assert "The backbone (FPN) has no FBSM, so there is no mask to show." in page


def test_an_unreadable_image_does_not_stop_the_rest(weights, image, tmp_path, capsys):
    (image.parent / "a.png").write_bytes(b"broken")
    (image.parent / "film.mp4").write_bytes(b"")
    inputs = [image.parent / "film.mp4", image.parent]
    assert run(weights, *inputs, "--output", tmp_path / "out") == 1
    errors = capsys.readouterr().err
    assert "a.png" in errors and "film.mp4: found a video, expected an image" in errors
    assert "Traceback" not in errors
    assert [page.stem for page in (tmp_path / "out").glob("*.html")] == ["<b>harbour"]


def test_a_path_that_is_not_there(weights, capsys):
    assert run(weights, "nowhere.png") == 1
    assert capsys.readouterr().err == "error: nowhere.png not found\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--proposals", "0"], "--proposals 0, expected 1 or more"),
        (["--min-score", "2"], "--min-score 2.0, expected 0 to 1"),
        (["--weights", "nowhere.pth"], "nowhere.pth"),
    ],
)
def test_mistakes_are_said_in_a_line(weights, image, tmp_path, capsys, options, message):
    assert run(weights, image, "--output", tmp_path / "out", *options) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: ") and message in error
    assert not (tmp_path / "out").exists()
