"""The command writes a file that agrees with its model, or none; the example in docs/ runs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.data.detection_utils import read_image
from PIL import Image

from efpnbs_d2.checkpoint import CARD_KEY
from efpnbs_d2.data.tinyscenes import generate_scene
from efpnbs_d2.engine.cli import load_config
from efpnbs_d2.inference.export_check import Agreement, compare
from efpnbs_d2.inference.predictors import load_predictor
from efpnbs_d2.tools import export
from efpnbs_d2.tools.export import main

ROOT = Path(__file__).resolve().parents[2]
NAMES = [f"kind {index}" for index in range(8)]
CARD = {
    "class_names": NAMES,
    "category_ids": list(range(5, 45, 5)),
    "input": {"format": "BGR", "min_size_test": 100, "max_size_test": 160},
}
# What hides Detectron2 and this package from a Python that has both.
BLOCKER = """
import sys
sys.modules.update({name: None for name in ("detectron2", "efpnbs_d2")})
"""


@pytest.fixture
def detector(tmp_path, small_overrides):
    """--config-file and --weights of a small model with random weights that find something."""
    base = str(ROOT / "configs/tinyscenes/efpn_bs_r18.py")
    torch.manual_seed(3)
    model = instantiate(load_config(base, small_overrides).model)
    torch.nn.init.normal_(model.roi_heads.box_predictor.cls_score.weight, std=2)
    torch.save({"model": model.state_dict(), CARD_KEY: CARD}, tmp_path / "weights.pth")
    (tmp_path / "config.py").write_text(
        "from efpnbs_d2.engine.cli import load_config\n"
        f"cfg = load_config({base!r}, {small_overrides!r})\n"
        "model, dataloader = cfg.model, cfg.dataloader\n"
    )
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield ["--config-file", str(tmp_path / "config.py"), "--weights", str(tmp_path / "weights.pth")]
    torch.set_num_threads(before)


@pytest.fixture
def photo(tmp_path):
    """A scene of 120 x 200 px, which the model sees with 96 x 160."""
    path = tmp_path / "photo.png"
    Image.fromarray(generate_scene(7, size=200)[0][:120, :, ::-1]).save(path)
    return path


def example(file_format):
    """The blocks of code of docs/export.md that belong to one format."""
    onnx, torchscript, rest = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/export.md").read_text(), re.DOTALL
    )
    return {"onnx": onnx, "torchscript": torchscript}[file_format] + rest


@pytest.mark.parametrize(
    ("file_format", "name"), [("onnx", "detector.onnx"), ("torchscript", "detector.ts")]
)
def test_the_example_finds_what_the_predictor_finds(
    file_format, name, detector, photo, tmp_path, capsys
):
    options = [*detector, "--format", file_format, "--sample", str(photo)]
    assert main([*options, "--output", str(tmp_path / name)]) == 0
    printed = capsys.readouterr().out
    assert "| 160 x 96 |" in printed and "| 96 x 160 |" in printed
    code = BLOCKER + example(file_format).replace("photo.jpg", photo.name).split("\n\n\nfor ")[0]
    code += f"\n\nboxes, scores, names = detect({photo.name!r})"
    code += "\nnp.savez('found.npz', boxes=boxes, scores=scores, names=names)"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, env=environment)
    with np.load(tmp_path / "found.npz") as arrays:
        classes = np.array([NAMES.index(name) for name in arrays["names"]])
        found = arrays["boxes"], arrays["scores"], classes
    predictor = load_predictor(*detector[1::2])
    image = read_image(str(photo), format="BGR")
    expected = predictor(image)["instances"].to("cpu")
    boxes, scores = expected.pred_boxes.tensor.numpy(), expected.scores.numpy()
    agreement = compare((120, 200), (boxes, scores, expected.pred_classes.numpy()), found)
    assert agreement.expected >= 20
    assert agreement.holds, agreement


@pytest.mark.parametrize(
    "wrong",
    [{"unmatched": 1}, {"box": 0.02}, {"score": 0.001}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_nothing_is_written_where_the_file_differs(
    wrong, detector, photo, tmp_path, capsys, monkeypatch
):
    same = {
        "height": 9,
        "width": 8,
        "expected": 7,
        "found": 7,
        "unmatched": 0,
        "box": 0,
        "score": 0,
    }
    agreements = [Agreement(**same), Agreement(**{**same, "width": 77, **wrong})]
    monkeypatch.setattr(export, "check_export", lambda *_: agreements)
    monkeypatch.setattr(export, "load_predictor", lambda *_: _Predictor())
    monkeypatch.setitem(export._EXPORTS, "onnx", lambda *args: args[-1].write_bytes(b"file"))
    target = tmp_path / "out/detector.onnx"
    command = [*detector, "--format", "onnx", "--output", str(target)]
    assert main(command) == 1
    assert "in 1 of 2 images (77 x 9 px)" in capsys.readouterr().err
    assert not target.exists()
    assert main([*command, "--no-check"]) == 0
    assert target.read_bytes() == b"file"


class _Predictor:
    """Stands for a predictor that leaves images as they are."""

    model = torch.nn.Identity()
    input_format = "BGR"

    @staticmethod
    def aug(image):
        return image


def test_mistakes_end_in_a_sentence(detector, tmp_path, capsys, monkeypatch):
    command = [*detector, "--format", "onnx", "--output", str(tmp_path / "detector.onnx")]
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"none")
    assert main([*command, "--sample", str(bad)]) == 1
    assert "bad.png" in capsys.readouterr().err
    torch.save({"model": {}}, tmp_path / "other.pth")
    monkeypatch.setattr(export, "load_predictor", lambda *_: _Predictor())
    assert main([*command, "--weights", str(tmp_path / "other.pth")]) == 1
    assert "other.pth has no card" in capsys.readouterr().err
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    assert main(command) == 1
    assert "pip install onnx onnxruntime" in capsys.readouterr().err
    assert not (tmp_path / "detector.onnx").exists()
