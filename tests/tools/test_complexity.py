"""The comparison with the stock FPN: counts by hand, timing on a clock of ours, the command."""

import json
from pathlib import Path

import pytest
import torch

from efpnbs_d2.tools import complexity


def test_default_configuration_is_within_the_flops_budget() -> None:
    """What E-FPN-BS adds to R50 at 800x800, by hand, in multiply-adds.

    CEM works on 25 x 25 cells: 512 -> 64, a 5x5 depthwise, 64 -> 64, and 64 -> 256 three times.
    FBSM works on 200^2 + 100^2 + 50^2 cells: 256 -> 32, a 3x3 depthwise, 32 -> 1.
    """
    cem = 25**2 * (512 * 64 + 25 * 64 + 64 * 64 + 3 * 64 * 256)
    fbsm = (200**2 + 100**2 + 50**2) * (256 * 32 + 9 * 32 + 32)
    stock, enhanced = complexity.build_pair(depth=50, device="cpu")
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
    stock, _ = complexity.build_pair(depth=18, device="cpu")
    images = stock.preprocess_image([{"image": torch.rand(3, 320, 320) * 255}])
    proposals, _ = stock.proposal_generator(images, stock.backbone(images.tensor), None)
    assert len(proposals[0]) == stock.proposal_generator.post_nms_topk[False]


@pytest.mark.parametrize("depth", [18, 50])
def test_both_detectors_have_the_same_weights(depth: int) -> None:
    stock, enhanced = complexity.build_pair(depth, "cpu")
    parameters = enhanced.state_dict()
    assert all(torch.equal(value, parameters[name]) for name, value in stock.state_dict().items())
    assert type(enhanced.backbone).__name__ == "EFPNBS"


def test_latencies_are_compared_in_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine that slows down from 1 to 8 times as the calls go on, their ratio stays 1.5."""
    clock, order = [0.0], []
    monkeypatch.setattr(complexity.time, "perf_counter", lambda: clock[0])

    def call(name: str, seconds: float) -> None:
        order.append(name)
        pair = max(0, len(order) - 5) // 2  # after two warm-up runs of each
        clock[0] += seconds * 2**pair

    result = complexity.paired_latency(lambda: call("stock", 2), lambda: call("ours", 3), repeats=4)
    assert order[4:] == ["stock", "ours", "ours", "stock"] * 2
    assert result == {
        "stock": 6,  # the median of 2, 4, 8, 16
        "enhanced": 9,
        "ratio": 1.5,
        "ratio_quartile_1": 1.5,
        "ratio_quartile_3": 1.5,
    }


def test_command_prints_a_table_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "complexity.json"
    options = "--size 32 64 --depth 18 --repeats 2 --device cpu --output".split()
    complexity.main([*options, str(output)])
    result = json.loads(output.read_text())
    table = capsys.readouterr().out
    assert "R18, 32x64 px, cpu" in table
    for quantity in ("flops", "latency"):
        for part in ("detector", "backbone"):
            values = result[quantity][part]
            assert values["ratio"] > 0
            assert f"{part} {quantity}" in table
            assert f"{values['ratio']:.4f}" in table
    flops = result["flops"]["backbone"]
    assert flops["ratio"] == flops["enhanced"] / flops["stock"]


@pytest.mark.parametrize("options", [["--repeats", "1"], ["--size", "0", "8"], ["--depth", "7"]])
def test_wrong_options_end_with_a_message(
    options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as error:
        complexity.main(options)
    assert error.value.code == 2
    assert options[0] in capsys.readouterr().err
