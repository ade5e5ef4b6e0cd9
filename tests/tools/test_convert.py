"""The command: its output, its exit status, and one line for a mistake."""

import json
import re

import pytest
from PIL import Image

from efpnbs_d2.tools.convert import main


@pytest.fixture
def visdrone(tmp_path, monkeypatch):
    """Arguments for a VisDrone folder of one image."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "VisDrone2019-DET-val"
    for name in ("annotations", "images"):
        (folder / name).mkdir(parents=True)
    (folder / "annotations/a.txt").write_text("1,2,3,4,1,4,0,0\n0,0,9,9,0,0,0,0\nbroken\n")
    Image.new("1", (20, 10)).save(folder / "images/a.png")
    return ["--annotations", str(folder / "annotations"), "--images", str(folder / "images")]


def test_converts_and_says_what_was_lost(visdrone, tmp_path, capsys):
    output = tmp_path / "y"
    assert main(["--from", "visdrone", "--to", "yolo", *visdrone, "--output", str(output)]) == 0
    assert (output / "labels/a.txt").read_text() == "3 0.125000 0.400000 0.150000 0.400000\n"
    lines = capsys.readouterr().out.splitlines()
    assert "read 1 of 1 images and 2 of 3 boxes" in lines[0] and "wrong number of col" in lines[0]
    assert lines[1:] == [
        "wrote 1 images and 1 boxes",
        "dropped: 1 ignore regions ('region'): YOLO has none",
        str(output),
    ]


def test_converts_a_published_data_set_by_name(visdrone, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    output = tmp_path / "c"
    arguments = ["--from", "visdrone_val", "--to", "coco", "--output", str(output), "--quiet"]
    assert main(arguments) == 0
    content = json.loads((output / "annotations.json").read_text())
    assert [a["bbox"] for a in content["annotations"]] == [[1, 2, 3, 4], [0, 0, 9, 9]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "visdrone", "--strict"], r"a\.txt:3: found 1 columns"),
        (["--from", "yolo"], "found no class names"),
        (["--from", "yolo", "--classes", "none.txt"], "class file none.txt not found"),
        (["--from", "coco"], "found no annotations at"),
        (["--from", "visdrone", "--images", "nowhere"], "found no folder of images at nowhere"),
        (["--from", "voc"], "expected one of visdrone, coco, yolo, or a data set"),
        (["--from", "visdrone_val"], "leave --annotations and --images"),
    ],
)
def test_one_line_for_a_mistake(visdrone, tmp_path, capsys, arguments, message):
    output = tmp_path / "out"
    assert main([*visdrone, "--to", "coco", "--output", str(output), "--quiet", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("convert: ") and error.count("\n") == 1
    assert re.search(message, error)
    assert not output.exists()


def test_files_are_needed_and_labels_too(tmp_path, capsys):
    output = ["--to", "coco", "--output", str(tmp_path / "out")]
    assert main(["--from", "coco", *output]) == 1
    assert "needs --annotations and --images" in capsys.readouterr().err
