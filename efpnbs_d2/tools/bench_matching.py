"""Seconds and memory to match a crowd with a million anchors, beside Detectron2's own matching.

    python -m efpnbs_d2.tools.bench_matching --output matching.json

The anchors are three a place on P2 to P6 of an image of 2,304 x 1,736 px. The objects are made up;
VisDrone's fullest image has 902. Detectron2 matches 50: it compares all pairs at once, which would
take some 20 GB for 900. All take turns in one process; the memory of each is measured in a process
of its own.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
from detectron2.modeling.matcher import Matcher
from detectron2.structures import Boxes, pairwise_iou
from torch import Tensor

from efpnbs_d2.atomic import write_atomically
from efpnbs_d2.modeling import HierarchicalAssigner, RankingAssigner, ThresholdAssigner
from efpnbs_d2.modeling.assigners import Assigner
from efpnbs_d2.tools.bench_turns import take_turns, timed
from efpnbs_d2.tools.memory import in_fresh_process, peak_memory_on

# Width and height of the image, in px, that gives a million anchors.
_SIZE = (2304, 1736)
_STRIDES = (4, 8, 16, 32, 64)
_CROWD = 900
_FEW = 50
_THRESHOLDS, _LABELS = [0.3, 0.7], [0, -1, 1]
_OURS = ("IoU thresholds", "NWD thresholds", "NWD ranking", "RFLA")

# A rule, and the number of objects that it is given.
Case = tuple[str, int]
STOCK: Case = ("Detectron2, IoU", _FEW)
CASES = [STOCK, *((name, objects) for name in _OURS for objects in (_FEW, _CROWD))]


def detectron2_matching(gt_boxes: Boxes, priors: Boxes) -> tuple[Tensor, Tensor]:
    """What the stock RPN does."""
    matcher = Matcher(_THRESHOLDS, _LABELS, allow_low_quality_matches=True)
    return matcher(pairwise_iou(gt_boxes, priors))


def rule(name: str) -> Assigner:
    """The matching of one line of the table."""
    rules: dict[str, Callable[[], Assigner]] = {
        "Detectron2, IoU": lambda: detectron2_matching,
        "IoU thresholds": lambda: ThresholdAssigner(_THRESHOLDS, _LABELS),
        "NWD thresholds": lambda: ThresholdAssigner(_THRESHOLDS, _LABELS, similarity="nwd"),
        "NWD ranking": RankingAssigner,
        "RFLA": HierarchicalAssigner,
    }
    return rules[name]()


def measure(scale: float, rounds: int, device: str) -> dict[Case, list[float]]:
    """Match made-up objects with the anchors of an image by every rule, in turn.

    Args:
        scale: of the image's sides, 1 for a million anchors.
        rounds: how often.
        device: "cpu" or "cuda".

    Returns:
        By case, the seconds of each round.
    """
    contestants = {
        f"{name}, {objects} objects": timed(_matching(name, objects, scale, device), device=device)
        for name, objects in CASES
    }
    seconds = take_turns(contestants, rounds, label="matching")
    return dict(zip(CASES, seconds.values(), strict=True))


def extra_memory(name: str, objects: int, scale: float, device: str) -> float:
    """By how much one matching raises the peak of memory, in GB; arguments as above.

    In a fresh process: a peak does not sink.
    """
    match = _matching(name, objects, scale, device)
    before = peak_memory_on(device)
    match()
    return (peak_memory_on(device) - before) / 1e9


def _matching(name: str, objects: int, scale: float, device: str) -> Callable[[], object]:
    gt_boxes, priors = _boxes(objects, scale, device)
    assign = rule(name)
    return lambda: assign(gt_boxes, priors)


def benchmark(scale: float, repeats: int, device: str) -> list[dict[str, str | int | float]]:
    """Measure every case.

    Returns:
        For each case the rule, the number of objects, seconds of the fastest round, seconds in
        those of Detectron2 with 50 objects, and extra memory in GB.
    """
    seconds = {case: min(rounds) for case, rounds in measure(scale, repeats, device).items()}
    return [
        {
            "rule": name,
            "objects": objects,
            "seconds": seconds[name, objects],
            "ratio": seconds[name, objects] / seconds[STOCK],
            "extra_gb": in_fresh_process(extra_memory, name, objects, scale, device),
        }
        for name, objects in CASES
    ]


def _boxes(objects: int, scale: float, device: str) -> tuple[Boxes, Boxes]:
    """Objects of some 20 px, spread over the image, and its anchors."""
    width, height = (round(side * scale) for side in _SIZE)
    maps = [torch.zeros(1, 1, -(-height // s), -(-width // s)) for s in _STRIDES]
    generator = DefaultAnchorGenerator(
        sizes=[[2 * s] for s in _STRIDES], aspect_ratios=[[0.5, 1.0, 2.0]], strides=_STRIDES
    )
    random = torch.Generator().manual_seed(0)
    corner = torch.rand(objects, 2, generator=random) * torch.tensor([width, height])
    size = torch.exp(torch.randn(objects, 2, generator=random) * 0.6 + 2.9)
    gt_boxes = Boxes(torch.cat([corner, corner + size], dim=1))
    return gt_boxes.to(device), Boxes.cat(generator(maps)).to(device)


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: measure, print the table, and write it if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="of the image; 1 is full size")
    parser.add_argument("--repeats", type=int, default=3, help="the fastest run counts")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--output", type=Path, help="JSON file for the table")
    options = parser.parse_args(arguments)
    if options.scale <= 0 or options.repeats < 1:
        parser.error("--scale and --repeats must be positive")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: no GPU was found")
    found = benchmark(options.scale, options.repeats, options.device)
    print(f"{'':20}{'objects':>10}{'time [s]':>12}{'of stock':>12}{'memory [GB]':>14}")
    for case in found:
        print(
            f"{case['rule']:20}{case['objects']:10}{case['seconds']:12.3f}"
            f"{case['ratio']:12.2f}{case['extra_gb']:14.2f}"
        )
    if options.output is not None:
        text = json.dumps(found, indent=2).encode()
        write_atomically(options.output, lambda file: file.write(text))


if __name__ == "__main__":
    main()
