"""Where the time of a training step goes, by stages of the detector and the trainer."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from operator import attrgetter
from typing import Any
from unittest.mock import patch

import torch
from detectron2.utils.events import EventStorage
from omegaconf import DictConfig
from torch import nn
from tqdm import tqdm

from ..engine.cli import load_config
from ..engine.recipe import LazyRecipe, Recipe, YacsRecipe
from ..engine.trainer import TinyTrainer
from .bench_report import Report, number, spread
from .bench_turns import Measurement, summarise, wait_for

SHARE = "%"
REST = "rest"
STEP = "step"
_WARM_UP_STEPS = 2
_SHARE_OF = "share of the step, "

# A stage, and the methods of the detector that belong to it, by their path; a stage within another
# counts for itself alone. What a detector does not have is left out.
_DETECTOR_STAGES = {
    "ResNet": ["backbone.bottom_up.forward"],
    "FPN": ["backbone.forward"],
    "CEM": ["backbone.cem.forward"],
    "FBSM": ["backbone.fbsm.forward"],
    "mask supervision": ["_mask_loss"],
    "RPN head, anchors": ["proposal_generator.forward"],
    "anchor matching": ["proposal_generator.label_and_sample_anchors"],
    "RPN losses": ["proposal_generator.losses"],
    "proposals, NMS": ["proposal_generator.predict_proposals"],
    "proposal matching": [
        "roi_heads.label_and_sample_proposals",
        "roi_heads._match_and_label_boxes",
    ],
    "ROI align": ["roi_heads.box_pooler.forward"],
    "box head": ["roi_heads.box_head.forward", "roi_heads.box_predictor.forward"],
    "box losses": ["roi_heads.box_predictor.losses"],
    "DCLoss": ["roi_heads.box_predictor._weight_change"],
}


class Stopwatch:
    """Seconds by stage; while a stage runs, the one around it stands still."""

    def __init__(self, device: str, clock: Callable[[], float] = time.perf_counter) -> None:
        self.seconds: dict[str, float] = {}
        self._device, self._clock = device, clock
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what runs inside for `name`."""
        self._switch()
        self._running.append(name)
        try:
            yield
        finally:
            self._switch()
            self._running.pop()

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, which counts for `name`."""

        def run(*args: Any, **options: Any) -> Any:
            with self.stage(name):
                return function(*args, **options)

        return run

    def _switch(self) -> None:
        wait_for(self._device)
        now = self._clock()
        if self._running:
            name = self._running[-1]
            self.seconds[name] = self.seconds.get(name, 0.0) + now - self._since
        self._since = now


def profile(
    config_file: str, overrides: Sequence[str], steps: int
) -> tuple[dict[str, Measurement], str]:
    """Train a recipe from random weights for a few steps.

    The data is loaded in this process, so that its own cost shows; a run's workers hide it behind
    the step where there are cores for them.

    Args:
        config_file: a LazyConfig or yacs file.
        overrides: "key=value" of it.
        steps: to measure, after two others.

    Returns:
        By stage, seconds of a step and the share of the step, in percent, and the whole step; and
        the device that the recipe runs on.

    Raises:
        ValueError, OSError: the config or its data cannot be used.
    """
    cfg = load_config(config_file, overrides)
    lazy = isinstance(cfg, DictConfig)
    if lazy:
        cfg.dataloader.train.num_workers = 0
    else:
        cfg.defrost()
        cfg.DATALOADER.NUM_WORKERS = 0
    recipe: Recipe = LazyRecipe(cfg) if lazy else YacsRecipe(cfg)
    torch.manual_seed(0)
    model = recipe.build_model()
    trainer = TinyTrainer(
        model.train(),
        recipe.build_train_loader(),
        recipe.build_optimizer(model),
        amp_dtype=recipe.options.amp_dtype,
        accumulation=recipe.options.accumulation,
        clip_grad_norm=recipe.options.clip_grad_norm,
    )
    return shares(profile_steps(trainer, steps)), recipe.options.device


def profile_steps(trainer: TinyTrainer, steps: int) -> list[dict[str, float]]:
    """Seconds by stage, of each of `steps` steps of a trainer."""
    trainer.iter = trainer.start_iter = 0
    found = []
    with EventStorage() as trainer.storage:
        trainer.before_train()
        data = iter(trainer.data_loader)
        for number in tqdm(range(-_WARM_UP_STEPS, steps), "profile", leave=False, disable=None):
            watch = Stopwatch(str(trainer.device))
            # Where `SimpleTrainer` keeps the iterator that its steps are fed from.
            trainer._data_loader_iter_obj = _timed_batches(data, watch)
            with _watched(trainer, watch), watch.stage(REST):
                trainer.run_step()
            trainer.iter += 1
            trainer.storage.step()
            if number >= 0:
                found.append(watch.seconds)
    return found


def shares(steps: Sequence[dict[str, float]]) -> dict[str, Measurement]:
    """Seconds and share of every stage, the largest first, and the whole step, over the steps."""
    whole = [sum(step.values()) for step in steps]
    found = {}
    for name in {name: None for step in steps for name in step}:
        seconds = [step.get(name, 0.0) for step in steps]
        percent = [100 * own / total for own, total in zip(seconds, whole, strict=True)]
        found[name] = summarise(seconds, "s"), summarise(percent, SHARE)
    ordered = sorted(found.items(), key=lambda item: item[1][0].median, reverse=True)
    return {
        STEP: summarise(whole, "s"),
        **{f"{STEP}, {name}": seconds for name, (seconds, _) in ordered},
        **{f"{_SHARE_OF}{name}": share for name, (_, share) in ordered},
    }


def markdown(report: Report) -> str:
    """The stages of a profile's report as a table for a document, and the machine below it."""
    found = report.measurements
    lines = ["| stage | share of the step [%] | quartiles | [s] |", "|---|---|---|---|"]
    for name, share in found.items():
        if share.unit == SHARE:
            stage = name.removeprefix(_SHARE_OF)
            seconds = number(found[f"{STEP}, {stage}"].median)
            lines.append(f"| {stage} | {share.median:.1f} | {spread(share)} | {seconds} |")
    lines.append(f"| whole | | | {number(found[STEP].median)} |")
    return "\n".join([*lines, "", report.heading() + "."])


def _timed_batches(data: Iterator[Any], watch: Stopwatch) -> Iterator[Any]:
    while True:
        with watch.stage("data"):
            batch = next(data)
        yield batch


@contextmanager
def _watched(trainer: TinyTrainer, watch: Stopwatch) -> Iterator[None]:
    """While inside, what the trainer does is counted by `watch`."""
    with ExitStack() as stack:

        def count(owner: Any, method: str, stage: str) -> None:
            timed = watch.timed(stage, getattr(owner, method))
            stack.enter_context(patch.object(owner, method, timed))

        for stage, paths in _DETECTOR_STAGES.items():
            for path in paths:
                for owner, method in _found(trainer.model, path):
                    count(owner, method, stage)
        count(trainer, "_check_and_clip_gradient", "clipping")
        count(trainer.optimizer, "zero_grad", "optimizer")
        count(trainer.optimizer, "step", "optimizer")
        backward = torch.Tensor.backward

        def timed_backward(self: torch.Tensor, *args: Any, **options: Any) -> None:
            watch.timed("backward", partial(backward, self))(*args, **options)

        stack.enter_context(patch.object(torch.Tensor, "backward", timed_backward))
        yield


def _found(model: nn.Module, path: str) -> Iterator[tuple[Any, str]]:
    """The owners of the method `path`, with its name; a cascade has one for every stage."""
    owner_path, _, method = path.rpartition(".")
    try:
        owner = attrgetter(owner_path)(model) if owner_path else model
    except AttributeError:
        return
    for one in owner if isinstance(owner, nn.ModuleList) else [owner]:
        if hasattr(one, method):
            yield one, method
