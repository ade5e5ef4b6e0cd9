"""What `bench` measures: a suite takes an effort and a device, and gives measurements by name."""

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import torch
from detectron2.modeling import GeneralizedRCNN

from . import bench_evaluation, bench_mapper, bench_matching, bench_tiled
from .bench_detectors import (
    DETECTORS,
    EFPN_BS,
    EVERYTHING,
    FPN,
    Setting,
    detection,
    in_channels_last,
    memory,
    training_step,
    with_compiled_backbone,
)
from .bench_turns import Measurement, compared, take_turns, timed
from .complexity import measure_flops, measure_latency
from .memory import in_fresh_process
from .sample_boxes import Sizes

_YAML = Path(__file__).resolve().parents[2] / "configs/yacs/tinyscenes-EFPNBS-R18.yaml"
_BOXES = Sizes(images=2_000, objects=50_000, detections=600_000, classes=8)
_PLAIN = "float32"


@dataclass(frozen=True)
class Effort:
    """How much is measured.

    Attributes:
        depth: of the detectors' ResNet.
        side: of their images, in px.
        images: of a training step.
        rounds: of everything that takes turns, but for evaluation.
        fresh: processes that memory is measured in, for each detector; 0 leaves it out.
        files: JPEG files that the mappers read a round.
        matching: scale of the image whose anchors are matched.
        boxes: what is evaluated.
        evaluations: rounds of that.
        scene: (height, width) in px of the image that is detected window by window.
        compiles: whether backbones are compiled, which takes minutes.
        narrow: whether the detectors are.
    """

    depth: int
    side: int
    images: int
    rounds: int
    fresh: int
    files: int
    matching: float
    boxes: Sizes
    evaluations: int
    scene: tuple[int, int]
    compiles: bool
    narrow: bool

    def setting(self, device: str) -> Setting:
        """Of the detectors."""
        return Setting(self.depth, (self.side, self.side), self.images, device, self.narrow)

    def __str__(self) -> str:
        kind = "narrow R" if self.narrow else "R"
        return (
            f"{kind}{self.depth}, {self.side}x{self.side} px, {self.images} images a training step"
        )


FULL = Effort(50, 800, 2, 10, 3, 16, 1.0, _BOXES / 4, 3, (1080, 1920), True, False)
QUICK = Effort(18, 256, 2, 5, 0, 2, 0.2, _BOXES / 100, 3, (512, 640), False, True)


@dataclass
class Found:
    """What a suite measured, and why it did not measure the rest."""

    measurements: dict[str, Measurement] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)


def complexity(effort: Effort, device: str) -> Found:
    """FLOPs and inference of E-FPN-BS against the stock FPN."""
    setting = effort.setting(device)
    return Found(measure_flops(setting) | measure_latency(setting, effort.rounds))


def training(effort: Effort, device: str) -> Found:
    """A training step of E-FPN-BS, mask supervision and DCLoss, each against the stock FPN."""
    setting = effort.setting(device)
    steps = {
        name: timed(training_step(detector, setting), device=device)
        for name, detector in setting.build(list(DETECTORS)).items()
    }
    seconds = take_turns(steps, effort.rounds, label="training step")
    return Found(compared("training step", seconds, FPN, "s"))


def peak_memory(effort: Effort, device: str) -> Found:
    """Memory that E-FPN-BS needs in inference and training, against the stock FPN."""
    if not effort.fresh:
        return Found(skipped={"memory": "not in a quick run: each takes a process of its own"})
    setting = effort.setting(device)
    fresh = {
        name: partial(in_fresh_process, memory, name, setting)
        for name in (FPN, EFPN_BS, EVERYTHING)
    }
    peaks = take_turns(fresh, effort.fresh, warm_up=0, label="memory")
    found = Found()
    for what in ("inference", "training"):
        values = {name: [peak[what] for peak in own] for name, own in peaks.items()}
        if what == "inference":
            values.pop(EVERYTHING)  # supervision and DCLoss take part in training only
        found.measurements |= compared(f"memory of {what}", values, FPN, "GB")
    return found


def variants(effort: Effort, device: str) -> Found:
    """The same detector in other precisions and layouts, and compiled, against plain float32."""
    setting = effort.setting(device)
    precisions = [torch.bfloat16] if device == "cpu" else [torch.bfloat16, torch.float16]
    found = Found()
    for what, prepare in {"inference": detection, "training step": training_step}.items():
        (detector,) = setting.build([EVERYTHING]).values()
        last = in_channels_last(detector)
        calls = {
            _PLAIN: prepare(detector, setting),
            "channels last": prepare(last, setting),
        }
        for precision in precisions:
            name = str(precision).removeprefix("torch.")
            calls[name] = prepare(detector, setting, precision=precision)
            calls[f"{name}, channels last"] = prepare(last, setting, precision=precision)
        if effort.compiles:
            calls |= _compiled(detector, setting, prepare, precisions[0])
        else:
            found.skipped[f"{what}, compiled"] = "not in a quick run: compiling takes minutes"
        found.measurements |= _supported(
            f"{what} of E-FPN-BS", calls, effort, device, found.skipped
        )
    return found


def mapper(effort: Effort, device: str) -> Found:
    """Loading an image by our mapper, against Detectron2's; on the CPU in any case."""
    seconds = bench_mapper.measure(effort.files, effort.rounds, min(effort.side, 800))
    return Found(compared("mapper, an image", seconds, "stock, cropped", "s"))


def matching(effort: Effort, device: str) -> Found:
    """Label assignment, against Detectron2's matching of a few objects."""
    seconds = bench_matching.measure(effort.matching, effort.rounds, device)
    named = {f"{name} ({objects} objects)": own for (name, objects), own in seconds.items()}
    return Found(compared("matching", named, next(iter(named)), "s"))


def evaluation(effort: Effort, device: str) -> Found:
    """Evaluating detections, against pycocotools; on the CPU in any case."""
    seconds = bench_evaluation.measure(effort.boxes, effort.evaluations)
    skipped = {}
    if "faster-coco-eval" not in seconds:
        skipped["evaluation: faster-coco-eval"] = "not installed: pip install '.[dev]'"
    return Found(compared("evaluation", seconds, "pycocotools", "s"), skipped)


def tiled(effort: Effort, device: str) -> Found:
    """Detection window by window, against SAHI and the bare model on the same windows."""
    if not _YAML.is_file():
        return Found(skipped={"tiled inference": f"{_YAML} is missing: run it in a checkout"})
    predictor = bench_tiled.detector(str(_YAML), None, ["MODEL.DEVICE", device])
    image = np.random.default_rng(0).integers(0, 256, (*effort.scene, 3), dtype=np.uint8)
    runs = bench_tiled.measure(bench_tiled.Task(predictor, image, batch_size=4), effort.rounds)
    seconds = {name: [wall for _, wall, _ in own] for name, own in runs.items()}
    found = Found(compared("tiled inference", seconds, "bare model", "s"))
    if importlib.util.find_spec("sahi") is None:
        found.skipped["tiled inference: SAHI"] = "not installed: pip install sahi"
    else:
        pair = {name: own for name, own in seconds.items() if name != "bare model"}
        found.measurements |= compared("tiled inference", pair, "SAHI", "s")
    return found


SUITES: dict[str, Callable[[Effort, str], Found]] = {
    "complexity": complexity,
    "training": training,
    "memory": peak_memory,
    "variants": variants,
    "mapper": mapper,
    "matching": matching,
    "evaluation": evaluation,
    "tiled": tiled,
}


def _compiled(
    detector: GeneralizedRCNN,
    setting: Setting,
    prepare: Callable[..., Callable[[], None]],
    precision: torch.dtype,
) -> dict[str, Callable[[], None]]:
    """Contestants whose backbones are compiled, each for itself."""
    name = str(precision).removeprefix("torch.")
    mixed = with_compiled_backbone(in_channels_last(detector))
    return {
        "compiled": prepare(with_compiled_backbone(detector), setting),
        f"compiled, {name}, channels last": prepare(mixed, setting, precision=precision),
    }


def _supported(
    title: str,
    calls: Mapping[str, Callable[[], None]],
    effort: Effort,
    device: str,
    skipped: dict[str, str],
) -> dict[str, Measurement]:
    """Measure what this machine can do; `skipped` gets the rest."""
    contestants = {}
    for name, call in calls.items():
        try:
            call()
        except Exception as error:  # of any kind: a missing kernel, a missing compiler
            if name == _PLAIN:
                raise
            reason = (str(error).strip().splitlines() or [""])[0]
            skipped[f"{title}: {name}"] = f"{type(error).__name__}: {reason}"
        else:
            contestants[name] = timed(call, device=device)
    return compared(title, take_turns(contestants, effort.rounds, label=title), _PLAIN, "s")
