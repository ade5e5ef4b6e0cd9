"""FLOPs and latency of a Faster R-CNN with E-FPN-BS beside the same one with the stock FPN.

    python -m efpnbs_d2.tools.complexity --size 800 800 --depth 50 --repeats 20

Both detectors have the same weights, the gates of E-FPN-BS are at their start (the identity), so
that proposals and detections are the same too. FLOPs are fvcore's: one multiply-add is one.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2 import model_zoo
from detectron2.config import get_cfg
from detectron2.modeling import GeneralizedRCNN, build_model
from detectron2.utils.analysis import FlopCountAnalysis

from efpnbs_d2.config import add_efpnbs_config

# Narrow ResNets have no bottleneck to widen res2 to 256 channels.
_BASIC_BLOCK_DEPTHS = (18, 34)
_WARM_UP_RUNS = 2


def build_pair(depth: int, device: str) -> tuple[GeneralizedRCNN, GeneralizedRCNN]:
    """A Faster R-CNN with the stock FPN, and one with E-FPN-BS and its weights, for inference.

    Args:
        depth: of the ResNet: 18, 34, 50, 101 or 152.
        device: e.g. "cpu" or "cuda".
    """
    cfg = get_cfg()
    add_efpnbs_config(cfg)
    cfg.merge_from_file(model_zoo.get_config_file("COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"))
    cfg.MODEL.DEVICE = device
    cfg.MODEL.RESNETS.DEPTH = depth
    if depth in _BASIC_BLOCK_DEPTHS:
        cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    torch.manual_seed(0)
    stock = build_model(cfg).eval()
    # Random offsets throw the anchors together, so that NMS leaves three proposals. Without, the
    # box head has its full number, as in a trained detector.
    torch.nn.init.zeros_(stock.proposal_generator.rpn_head.anchor_deltas.weight)
    cfg.MODEL.META_ARCHITECTURE = "TinyObjectRCNN"
    cfg.MODEL.BACKBONE.NAME = "EFPNBS"
    enhanced = build_model(cfg).eval()
    loaded = enhanced.load_state_dict(stock.state_dict(), strict=False)
    assert not loaded.unexpected_keys
    return stock, enhanced


def count_flops(detector: GeneralizedRCNN, image: torch.Tensor) -> dict[str, float]:
    """FLOPs of one (3, H, W) image through the "detector" and, within it, the "backbone"."""
    analysis = FlopCountAnalysis(detector, [{"image": image}])
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.tracer_warnings("none")
    by_module = analysis.by_module()
    return {"detector": by_module[""], "backbone": by_module["model.backbone"]}


def paired_latency(
    stock: Callable[[], Any], enhanced: Callable[[], Any], repeats: int
) -> dict[str, float]:
    """Time two calls in alternation, so that a drift of the machine meets both.

    Args:
        stock: the reference; returns when its work is done.
        enhanced: what is compared with it.
        repeats: number of pairs; which call goes first changes from pair to pair.

    Returns:
        Median seconds of each, the median `ratio` of the pairs, and that ratio's quartiles.
    """
    calls = {"stock": stock, "enhanced": enhanced}
    for _ in range(_WARM_UP_RUNS):
        for call in calls.values():
            call()
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for pair in range(repeats):
        for name in sorted(calls, reverse=pair % 2 == 0):
            start = time.perf_counter()
            calls[name]()
            seconds[name].append(time.perf_counter() - start)
    ratios = [b / a for a, b in zip(seconds["stock"], seconds["enhanced"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return {
        **{name: statistics.median(values) for name, values in seconds.items()},
        "ratio": middle,
        "ratio_quartile_1": low,
        "ratio_quartile_3": high,
    }


@torch.no_grad()
def measure(size: tuple[int, int], depth: int, repeats: int, device: str) -> dict[str, Any]:
    """Compare the two detectors.

    Args:
        size: (height, width) of the image, in network-input pixels.
        depth: of the ResNet.
        repeats: pairs of timed runs.
        device: e.g. "cpu" or "cuda".

    Returns:
        The setting, and under "flops" and "latency" a dict for "detector" and for "backbone" with
        `stock`, `enhanced` and `ratio`; latencies in seconds.
    """
    stock, enhanced = build_pair(depth, device)
    image = torch.rand(3, *size, device=device) * 255
    counted = count_flops(stock, image), count_flops(enhanced, image)
    flops = {
        part: {
            "stock": counted[0][part],
            "enhanced": counted[1][part],
            "ratio": counted[1][part] / counted[0][part],
        }
        for part in counted[0]
    }
    latency = {
        "detector": paired_latency(_detect(stock, image), _detect(enhanced, image), repeats),
        "backbone": paired_latency(_extract(stock, image), _extract(enhanced, image), repeats),
    }
    setting = {"size": list(size), "depth": depth, "device": device, "repeats": repeats}
    return {**setting, "threads": torch.get_num_threads(), "flops": flops, "latency": latency}


def _detect(detector: GeneralizedRCNN, image: torch.Tensor) -> Callable[[], None]:
    def run() -> None:
        detector([{"image": image}])
        _finish(image.device)

    return run


def _extract(detector: GeneralizedRCNN, image: torch.Tensor) -> Callable[[], None]:
    images = detector.preprocess_image([{"image": image}])
    extract = getattr(detector, "extract_features", None)

    def run() -> None:
        if extract is None:
            detector.backbone(images.tensor)
        else:
            extract(images)
        _finish(image.device)

    return run


def _finish(device: torch.device) -> None:
    """Wait for kernels that were only queued."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def format_table(result: dict[str, Any]) -> str:
    """The result of `measure` as text, one line per quantity and part."""
    height, width = result["size"]
    lines = [
        f"R{result['depth']}, {height}x{width} px, {result['device']}, "
        f"{result['threads']} threads, {result['repeats']} pairs",
        f"{'':22}{'FPN':>12}{'E-FPN-BS':>12}{'ratio':>9}",
    ]
    for quantity, unit, scale in (("flops", "G", 1e-9), ("latency", "ms", 1e3)):
        for part, values in result[quantity].items():
            stock, enhanced = values["stock"] * scale, values["enhanced"] * scale
            line = f"{f'{part} {quantity} [{unit}]':22}{stock:12.2f}{enhanced:12.2f}"
            line += f"{values['ratio']:9.4f}"
            if quantity == "latency":
                line += f"  ({values['ratio_quartile_1']:.3f}-{values['ratio_quartile_3']:.3f})"
            lines.append(line)
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: measure, print the table, and write it as JSON if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, nargs=2, default=[800, 800], metavar=("H", "W"))
    parser.add_argument("--depth", type=int, default=50, choices=[18, 34, 50, 101, 152])
    parser.add_argument("--repeats", type=int, default=20, help="pairs of timed runs, >= 2")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, help="write the numbers here, as JSON")
    options = parser.parse_args(arguments)
    if options.repeats < 2:
        parser.error(f"--repeats must be at least 2, got {options.repeats}")
    if min(options.size) < 1:
        parser.error(f"--size must be positive, got {options.size}")
    result = measure(tuple(options.size), options.depth, options.repeats, options.device)
    print(format_table(result))
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
