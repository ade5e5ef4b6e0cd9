"""What a run is trained with, as flat text that can be compared and kept."""

from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from omegaconf import DictConfig, OmegaConf

from ..engine.cli import load_config
from .ablation_list import Comparison, Run

__all__ = ["Settings", "differences", "read_settings", "short_key", "unfair_keys"]

# Key of the resolved config -> its value as text.
Settings = Mapping[str, str]

# Where things are and how fast they come, not what is learnt.
_OF_THE_MACHINE = (
    "train.output_dir",
    "train.seed",
    "train.device",
    "train.log_period",
    "train.eval_period",
    "train.best_metric",
    "train.checkpointer.",
    "dataloader.train.num_workers",
    "dataloader.test.num_workers",
)
# What CEM, FBSM and DCLoss are switched by; everything else is held fixed within a comparison.
_METHOD = (
    "model.backbone.",
    "model.fbsm_loss_weight",
    "model.roi_heads._target_",
    "model.roi_heads.box_predictor._target_",
    "model.roi_heads.box_predictor.dc_loss",
)
_NOT_THE_METHOD = (
    "model.backbone.bottom_up.",
    "model.backbone.in_features",
    "model.backbone.out_channels",
    "model.backbone.norm",
    "model.backbone.fuse_type",
    "model.backbone.square_pad",
)


def read_settings(run: Run, starts: Mapping[str, Run]) -> dict[str, str]:
    """All that a run's weights depend on beside the seed: its resolved config, and its start's.

    Raises:
        ValueError: a config cannot be read, or an override does not fit it.
    """
    try:
        kept = dict(_resolved(str(run.config), run.overrides))
    except ValueError as error:
        raise ValueError(f"run {run.name}: {error}") from error
    if run.untrained:
        kept["untrained"] = "True"
    if run.start:
        # In their place: the start's weights differ by seed, and lie beside the run's folder.
        del kept["train.init_checkpoint"], kept["train.init_backbone_only"]
        of_start = read_settings(starts[run.start], starts)
        kept |= {f"start.{key}": text for key, text in of_start.items()}
    return kept


@cache  # reading a config takes a tenth of a second, and runs share them
def _resolved(config: str, overrides: tuple[str, ...]) -> Settings:
    cfg = load_config(config, overrides)
    if not isinstance(cfg, DictConfig):
        raise ValueError(f"found the yacs config {config}, expected a LazyConfig (.py)")
    flat = dict(_flatten(OmegaConf.to_container(cfg, resolve=True)))
    return {key: text for key, text in flat.items() if not key.startswith(_OF_THE_MACHINE)}


def differences(before: Settings, after: Settings) -> dict[str, tuple[str, str]]:
    """Key -> both values, where they differ; "–" stands for a key that one has not."""
    keys = [*before, *(key for key in after if key not in before)]
    pairs = {key: (before.get(key, "–"), after.get(key, "–")) for key in keys}
    return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}


def unfair_keys(comparison: Comparison, baseline: Settings, run: Settings) -> list[str]:
    """The keys that differ though a comparison holds them fixed."""

    def is_compared(key: str) -> bool:
        of_method = key.startswith(_METHOD) and not key.startswith(_NOT_THE_METHOD)
        return of_method or key.startswith(comparison.may_differ)

    return [key for key in differences(baseline, run) if not is_compared(key)]


def short_key(key: str) -> str:
    """A key without the parts that readers know."""
    key = key.removesuffix("._target_")
    for known in ("model.roi_heads.box_predictor.", "model.backbone.", "model."):
        key = key.removeprefix(known)
    return key.removeprefix("roi_heads.") if key == "roi_heads.box_predictor" else key


def _flatten(node: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, dict) and node:
        for key, value in node.items():
            yield from _flatten(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(node, Sequence) and not isinstance(node, str) and any(map(_is_node, node)):
        for index, value in enumerate(node):
            yield from _flatten(value, f"{prefix}.{index}")
    else:
        yield prefix, _leaf(node)


def _is_node(value: object) -> bool:
    return isinstance(value, dict)


def _leaf(value: Any) -> str:
    """Classes and functions by name: their repr has an address."""
    return value.__qualname__ if hasattr(value, "__qualname__") else str(value)
