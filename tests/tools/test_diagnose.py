"""The command: its files and its terminal say the numbers; mistakes end in a sentence."""

import json
from pathlib import Path

import pytest

from efpnbs_d2.data import register_tiny_dataset
from efpnbs_d2.tools import diagnose
from efpnbs_d2.tools.diagnose_page import write_page, write_picture
from efpnbs_d2.tools.diagnose_tables import readings, tables

CONFIG = str(Path(__file__).resolve().parents[2] / "configs/tinyscenes/efpn_bs_r18.py")


def level(name, none, positives=2.0):
    return {
        "level": name,
        "stride": 32,
        "anchor_sizes": [64.0],
        "positives_per_image": positives,
        "share_of_positives": 0.5,
        "images_with_none": none,
    }


def found(**changes):
    """Numbers of a detector with two levels, P5 and P6, and a rule without an IoU limit."""
    row = {
        "size": "tiny 8–16",
        "objects": 4,
        "positives_per_object": 1.5,
        "positives_per_object_by_level": {"p5": 1.0, "p6": 0.5},
        "no_iou_above_half": 0.75,
        "no_positive": 0.25,
    }
    return {
        "config": "mine.py",
        "dataset": "mine",
        "rule": "RankingAssigner by nwd",
        "positive_iou": None,
        "images": 3,
        "levels": [level("p5", 0.5), level("p6", 0.6)],
        "sizes": {"AI-TOD": [row, {"size": "small 16–32", "objects": 0}, {**row, "size": "all"}]},
        **changes,
    }


def gradients(p5, p6):
    """`found` with gradients: FPN 1.0 and E-FPN-BS `p5`, `p6` at the two levels."""
    norm = {"loss_cls": 1.0}
    maps = [
        {
            "map": name,
            "stock_mean": 1.0,
            "stock_std": 0.25,
            "enhanced_mean": enhanced,
            "enhanced_std": 0.0,
            "ratio": enhanced,
            "ratio_quartile_1": 0.5,
            "ratio_quartile_3": 8.0,
            "samples_without_positive": 0.125,
        }
        for name, enhanced in (("p5", p5), ("p6", p6))
    ]
    shares = dict.fromkeys(("objects", "proposals", "target"), 0.3)
    shares |= {f"{kind}_{what}": 0.7 for kind in ("cls", "reg") for what in ("share", "weight")}
    shares |= {f"{kind}_weighted_share": 0.4 for kind in ("cls", "reg")}
    return found(
        weights="",
        samples=2,
        gradients=maps,
        gradients_by_loss=[
            {"level": name, "stock": norm, "enhanced": {**norm, "loss_fbsm": 0.5}}
            for name in ("p5", "p6")
        ],
        box_head=[{"scale": "very_tiny", **shares}],
    )


def test_levels_without_positives_in_most_images_are_named():
    said = readings(found())
    assert said[0] == ("warning", "P6 has no positive anchor in 60.0% of the images.")
    assert said[1] == ("note", "25.0% of the objects own no positive anchor.")
    assert len(said) == 2
    fine = readings(found(levels=[level("p5", 0.1)]))
    assert fine[0] == ("good", "Every level has a positive anchor in most images.")


def test_what_is_said_of_gradients():
    same = readings(gradients(1.0, 1.0))[-1]
    assert "changes no gradient" in same[1]
    said = [sentence for _, sentence in readings(gradients(2.0, 4.0))[-2:]]
    assert said[0].startswith("With E-FPN-BS the gradient that reaches P5 is 2.00 times the FPN's")
    assert "P6 is 4.00 times" in said[1] and "0.50–8.00" in said[1]


def test_tables_hold_the_numbers():
    levels, sizes, maps, losses, box = tables(gradients(2.0, 4.0))
    assert levels[2][1] == ["P6", 32, "64", "2.00", "50.0%", "60.0%"]
    # No column of a limit that the rule does not have
    assert sizes[1][-2:] == ["no anchor of IoU 0.5", "own no positive"]
    assert sizes[2][0] == ["tiny 8–16", 4, "1.50", "1.00", "0.50", "75.0%", "25.0%"]
    assert sizes[2][1] == ["small 16–32", 0, *[None] * 5]
    assert maps[2][0] == ["P5", "1", "0.25", "2", "0", "2.000", "0.50–8.00", "12.5%"]
    assert losses[1][2:] == ["loss_cls", "loss_fbsm"]
    assert losses[2][:2] == [["P5", "FPN", "1", None], ["P5", "E-FPN-BS", "1", "0.5"]]
    assert box[2][0][1:7] == ["30.0%", "30.0%", "30.0%", "70.0%", "0.70", "40.0%"]
    assert all(
        len(row) == len(header) for _, header, rows in tables(gradients(2, 4)) for row in rows
    )


def test_a_limit_by_iou_has_a_column():
    result = found(positive_iou=0.7)
    for row in result["sizes"]["AI-TOD"]:
        row["no_iou_above_threshold"] = 0.875
    _, header, rows = tables(result)[1]
    assert header[-2] == "of IoU 0.7" and rows[0][-2] == "87.5%"


@pytest.mark.parametrize("result", [found(), gradients(2.0, 4.0)], ids=["anchors", "gradients"])
def test_page_and_picture(result, tmp_path):
    write_page(result, tmp_path / "page.html")
    write_picture(result, tmp_path / "picture.png")
    text = (tmp_path / "page.html").read_text()
    assert text.count("<svg") == (6 if "gradients" in result else 3)
    assert "RankingAssigner by nwd" in text and "mathdefault" not in text
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_the_command(scenes, small_overrides, tmp_path, capsys):
    options = ["--config-file", CONFIG, "--images", "4", "--samples", "1", "--output"]
    assert diagnose.main([*options, str(tmp_path / "new"), *small_overrides]) == 0
    result = json.loads((tmp_path / "new/diagnosis.json").read_text())
    assert (result["dataset"], result["images"], result["samples"]) == ("tinyscenes_train", 4, 1)
    assert result["rule"] == "ThresholdAssigner by iou" and result["positive_iou"] == 0.7
    printed = capsys.readouterr().out
    page = (tmp_path / "new/diagnosis.html").read_text()
    for one in result["levels"]:
        assert f"{one['positives_per_image']:.2f}" in printed
        assert f"{one['positives_per_image']:.2f}" in page
    assert "changes no gradient" in printed and "changes no gradient" in page
    assert (tmp_path / "new/diagnosis.png").is_file()


def test_anchors_alone_need_no_weights(scenes, small_overrides, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = ["--config-file", CONFIG, "--dataset", "tinyscenes_val", "--samples", "0"]
    weights = "train.init_checkpoint=missing.pth"
    assert diagnose.main([*options, weights, *small_overrides]) == 0
    folder = tmp_path / "output/diagnose/tinyscenes-efpn_bs_r18-tinyscenes_val"
    result = json.loads((folder / "diagnosis.json").read_text())
    assert result["images"] == 2 and "gradients" not in result
    assert "Gradient" not in capsys.readouterr().out


def test_images_are_taken_evenly():
    assert diagnose._evenly(list(range(9)), 3) == [0, 4, 8]
    assert diagnose._evenly(list(range(3)), 5) == [0, 1, 2]
    assert diagnose._evenly(list(range(3)), 1) == [0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--dataset", "tinyscene"], "Unknown data set 'tinyscene'"),
        (["train.init_checkpoint=missing.pth"], "missing.pth not found. Name a file with"),
        (["model.roi_heads.num_classes=3"], "3 classes"),
        (["model.backbon.cem=False"], "no key 'model.backbon.cem'"),
        (["dataloader.train.dataset.names=[]"], "--dataset"),
        (["--dataset", "unlabelled"], "unlabelled has no annotations"),
        (["--config-file", "missing.py"], "'missing.py' not found"),
    ],
)
def test_mistakes_end_in_a_sentence(
    options, message, scenes, registry, small_overrides, tmp_path, capsys
):
    images = str(scenes / "tinyscenes/images/val")
    register_tiny_dataset(
        "unlabelled", annotations=None, images=images, classes=["a"], format="visdrone"
    )
    output = tmp_path / "none"
    command = ["--config-file", CONFIG, "--samples", "1", "--images", "1", "--output", str(output)]
    assert diagnose.main([*command, *options, *small_overrides]) == 1
    errors = capsys.readouterr().err.strip().splitlines()
    assert message in errors[-1] and errors[-1].startswith("diagnose: ")
    assert not output.exists()


@pytest.mark.parametrize("options", [["--images", "0"], ["--samples", "-1"], ["--images", "x"]])
def test_wrong_numbers(options, capsys):
    with pytest.raises(SystemExit) as error:
        diagnose.main(["--config-file", CONFIG, *options])
    assert error.value.code == 2
    assert options[0] in capsys.readouterr().err
