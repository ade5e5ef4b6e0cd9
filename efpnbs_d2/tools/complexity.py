"""FLOPs and latency of a Faster R-CNN with E-FPN-BS beside the same one with the stock FPN.

    python -m efpnbs_d2.tools.complexity --size 800 800 --depth 50 --repeats 20

Both detectors have the same weights, the gates of E-FPN-BS are at their start (the identity), so
that proposals and detections are the same too. FLOPs are fvcore's: one multiply-add is one.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from detectron2.modeling import GeneralizedRCNN
from detectron2.utils.analysis import FlopCountAnalysis

from .bench_detectors import EFPN_BS, FPN, Setting, detection
from .bench_report import Report, table
from .bench_turns import Measurement, compared, take_turns, timed

_PAIR = (FPN, EFPN_BS)
_WARM_UP_ROUNDS = 2


def count_flops(detector: GeneralizedRCNN, image: torch.Tensor) -> dict[str, float]:
    """FLOPs of one (3, H, W) image through the "detector" and, within it, the "backbone"."""
    analysis = FlopCountAnalysis(detector, [{"image": image}])
    analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
    analysis.tracer_warnings("none")
    by_module = analysis.by_module()
    return {"detector": by_module[""], "backbone": by_module["model.backbone"]}


@torch.no_grad()
def measure_flops(setting: Setting) -> dict[str, Measurement]:
    """Counts of both detectors' detector and backbone, for one image, and their ratios."""
    image = setting.batch()[0]["image"].to(setting.device)
    counts = {
        name: count_flops(detector.eval(), image) for name, detector in setting.build(_PAIR).items()
    }
    found: dict[str, Measurement] = {}
    for part in counts[FPN]:
        giga = {name: [counted[part] / 1e9] for name, counted in counts.items()}
        found |= compared(f"{part} FLOPs", giga, FPN, "G")
    return found


def measure_latency(setting: Setting, rounds: int) -> dict[str, Measurement]:
    """Seconds of both detectors' detector and backbone for one image, in turn, and their ratios."""
    detectors = setting.build(_PAIR)
    found: dict[str, Measurement] = {}
    for part, prepare in {"detector": detection, "backbone": _extraction}.items():
        contestants = {
            name: timed(prepare(detector, setting), device=setting.device)
            for name, detector in detectors.items()
        }
        title = f"{part} inference"
        seconds = take_turns(contestants, rounds, warm_up=_WARM_UP_ROUNDS, label=title)
        found |= compared(title, seconds, FPN, "s")
    return found


def _extraction(detector: GeneralizedRCNN, setting: Setting) -> Callable[[], None]:
    detector.eval()
    images = detector.preprocess_image(setting.batch()[:1])
    extract = getattr(detector, "extract_features", None)

    @torch.no_grad()
    def run() -> None:
        if extract is None:
            detector.backbone(images.tensor)
        else:
            extract(images)

    return run


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
    setting = Setting(options.depth, tuple(options.size), images=1, device=options.device)
    report = Report.of_this_machine(
        options.device,
        setting=f"R{setting.depth}, {setting.size[0]}x{setting.size[1]} px, {options.device}",
    )
    report.measurements.update(measure_flops(setting))
    report.measurements.update(measure_latency(setting, options.repeats))
    print(f"{report.setting}\n{table(report.measurements)}")
    if options.output:
        report.write(options.output)


if __name__ == "__main__":
    main()
