"""The comparison with the stock FPN: counts by hand, the command."""

import json
from pathlib import Path

import pytest
import torch
from detectron2.modeling import GeneralizedRCNN

from efpnbs_d2.tools import complexity
from efpnbs_d2.tools.bench_detectors import EFPN_BS, FPN, Setting


def pair(depth: int) -> list[GeneralizedRCNN]:
    detectors = Setting(depth, (320, 320), 1, "cpu").build([FPN, EFPN_BS])
    return [detector.eval() for detector in detectors.values()]


def test_default_configuration_is_within_the_flops_budget() -> None:
    """What E-FPN-BS adds to R50 at 800x800, by hand, in multiply-adds.

    CEM works on 25 x 25 cells: 512 -> 64, a 5x5 depthwise, 64 -> 64, and 64 -> 256 three times.
    FBSM works on 200^2 + 100^2 + 50^2 cells: 256 -> 32, a 3x3 depthwise, 32 -> 1.
    """
    cem = 25**2 * (512 * 64 + 25 * 64 + 64 * 64 + 3 * 64 * 256)
    fbsm = (200**2 + 100**2 + 50**2) * (256 * 32 + 9 * 32 + 32)
    stock, enhanced = pair(depth=50)
    image = torch.rand(3, 800, 800) * 255
    with torch.no_grad():
        before = complexity.count_flops(stock, image)
        after = complexity.count_flops(enhanced, image)
    added = after["backbone"] - before["backbone"]
    # Beside the convolutions, bilinear upsampling counts a few per cell of its output.
    assert cem + fbsm < added < 1.3 * (cem + fbsm)
    assert after["detector"] - before["detector"] == added
    assert after["detector"] / before["detector"] <= 1.015


@torch.no_grad()
def test_box_head_has_its_full_number_of_proposals() -> None:
    stock, _ = pair(depth=18)
    images = stock.preprocess_image([{"image": torch.rand(3, 320, 320) * 255}])
    proposals, _ = stock.proposal_generator(images, stock.backbone(images.tensor), None)
    assert len(proposals[0]) == stock.proposal_generator.post_nms_topk[False]


@pytest.mark.parametrize("depth", [18, 50])
def test_both_detectors_have_the_same_weights(depth: int) -> None:
    stock, enhanced = pair(depth)
    parameters = enhanced.state_dict()
    assert all(torch.equal(value, parameters[name]) for name, value in stock.state_dict().items())
    assert type(enhanced.backbone).__name__ == "EFPNBS"


def test_command_prints_a_table_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "complexity.json"
    options = "--size 32 64 --depth 18 --repeats 2 --device cpu --output".split()
    complexity.main([*options, str(output)])
    result = json.loads(output.read_text())["measurements"]
    table = capsys.readouterr().out
    assert "R18, 32x64 px, cpu" in table
    for quantity, runs in (("FLOPs", 1), ("inference", 2)):
        for part in ("detector", "backbone"):
            stock, enhanced, ratio = (
                result[f"{part} {quantity}: {name}"] for name in (FPN, EFPN_BS, "E-FPN-BS / FPN")
            )
            assert stock["median"] > 0 and stock["n"] == enhanced["n"] == runs
            assert f"{part} {quantity}: E-FPN-BS / FPN" in table
            if quantity == "FLOPs":
                assert ratio["median"] == enhanced["median"] / stock["median"] > 1


@pytest.mark.parametrize("options", [["--repeats", "1"], ["--size", "0", "8"], ["--depth", "7"]])
def test_wrong_options_end_with_a_message(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        complexity.main(options)
    assert error.value.code == 2
    assert options[0] in capsys.readouterr().err
