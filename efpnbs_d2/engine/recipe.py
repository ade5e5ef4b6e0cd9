"""One run, read from either config system: what to build, and how to train it."""

import difflib
from abc import ABC, abstractmethod
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode, instantiate
from detectron2.data import (
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.data.transforms import ResizeShortestEdge
from detectron2.modeling import build_model
from detectron2.solver import build_lr_scheduler, build_optimizer
from omegaconf import DictConfig
from torch import nn

from ..data.mapper import TinyObjectMapper
from ..data.train_loader import TrainLoader
from .adaptation import available_device, available_precision, learning_rate_scale


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How one run is trained; `configs/common/train.py` explains each option."""

    output_dir: str
    init_checkpoint: str
    init_backbone_only: bool
    max_iter: int
    seed: int
    device: str
    amp_dtype: str | None
    channels_last: bool
    accumulation: int
    clip_grad_norm: float
    ema_decay: float | None
    checkpoint_period: int
    checkpoints_kept: int
    eval_period: int
    best_metric: str
    log_period: int
    ddp: dict[str, Any]


class Recipe(ABC):
    """The parts of a run, built on demand."""

    options: TrainOptions
    train_names: tuple[str, ...]
    test_names: tuple[str, ...]
    # Channel order and test sizes (shortest edge and ceiling, px; 0 keeps the native size).
    input_scale: dict[str, Any]

    def build_model(self) -> nn.Module:
        """The detector, on the CPU or the device of the config."""
        model = self._build_model()
        if self.options.channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return model

    @abstractmethod
    def _build_model(self) -> nn.Module: ...

    @abstractmethod
    def build_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        """With the learning rate scaled to the images a step, as `learning_rate_scale` says."""

    @abstractmethod
    def build_lr_scheduler(self, optimizer: torch.optim.Optimizer) -> Any:
        """What `detectron2.engine.hooks.LRScheduler` takes."""

    @abstractmethod
    def build_train_loader(self) -> Any: ...

    @abstractmethod
    def build_test_loader(self, name: str) -> Any: ...


class LazyRecipe(Recipe):
    """A run described by a LazyConfig."""

    def __init__(self, cfg: DictConfig):
        missing = [
            k
            for k in ("model", "dataloader", "optimizer", "lr_multiplier", "train")
            if k not in cfg
        ]
        if missing:
            raise ValueError(
                f"the config defines no {', '.join(missing)}; import it as "
                "configs/tinyscenes/fpn_r18.py does"
            )
        self.cfg = cfg
        train = cfg.train
        _require_known_keys(train)
        self.options = TrainOptions(
            output_dir=train.output_dir,
            init_checkpoint=train.init_checkpoint,
            init_backbone_only=train.init_backbone_only,
            max_iter=train.max_iter,
            seed=train.seed,
            device=(device := available_device(train.device)),
            amp_dtype=available_precision(train.amp.dtype, device) if train.amp.enabled else None,
            channels_last=train.channels_last,
            accumulation=train.accumulation,
            clip_grad_norm=train.clip_grad_norm,
            ema_decay=train.ema.decay if train.ema.enabled else None,
            checkpoint_period=train.checkpointer.period,
            checkpoints_kept=train.checkpointer.max_to_keep,
            eval_period=train.eval_period,
            best_metric=train.best_metric,
            log_period=train.log_period,
            ddp=dict(train.ddp),
        )
        self.train_names = _names(cfg.dataloader.train.dataset.names)
        self.test_names = _names(cfg.dataloader.test.dataset.names)
        self.input_scale = {"format": cfg.dataloader.test.mapper.image_format, **self._test_size()}

    def _test_size(self) -> dict[str, int]:
        augmentations = list(instantiate(self.cfg.dataloader.test.mapper.augmentations))
        match augmentations:
            case []:
                return {"min_size_test": 0, "max_size_test": 0}
            case [ResizeShortestEdge() as resize] if len(set(resize.short_edge_length)) == 1:
                return {
                    "min_size_test": int(resize.short_edge_length[0]),
                    "max_size_test": int(resize.max_size),
                }
        raise ValueError(
            f"dataloader.test.mapper.augmentations is {augmentations}; expected none, or one "
            "ResizeShortestEdge to one size, which the checkpoint's predictors can repeat"
        )

    def _build_model(self) -> nn.Module:
        return _build(self.cfg.model).to(self.options.device)

    def build_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        cfg = deepcopy(self.cfg.optimizer)
        cfg.params.model = model
        cfg.lr *= learning_rate_scale(
            self.cfg.dataloader.train.total_batch_size, self.cfg.train.reference_batch_size
        )
        return _build(cfg)

    def build_lr_scheduler(self, optimizer: torch.optim.Optimizer) -> Any:
        return _build(self.cfg.lr_multiplier)

    def build_train_loader(self) -> Any:
        return _build(self.cfg.dataloader.train)

    def build_test_loader(self, name: str) -> Any:
        cfg = deepcopy(self.cfg.dataloader)  # the whole: its parts refer to each other
        cfg.test.dataset.names = name
        return _build(cfg.test)


class YacsRecipe(Recipe):
    """A run described by a yacs config."""

    def __init__(self, cfg: CfgNode):
        self.cfg = cfg = cfg.clone()
        cfg.defrost()
        cfg.MODEL.DEVICE = available_device(cfg.MODEL.DEVICE)
        cfg.freeze()
        solver = cfg.SOLVER
        self.options = TrainOptions(
            output_dir=cfg.OUTPUT_DIR,
            init_checkpoint=cfg.MODEL.WEIGHTS,
            init_backbone_only=cfg.MODEL.WEIGHTS_BACKBONE_ONLY,
            max_iter=solver.MAX_ITER,
            seed=cfg.SEED,
            device=cfg.MODEL.DEVICE,
            amp_dtype=available_precision("float16", cfg.MODEL.DEVICE)
            if solver.AMP.ENABLED
            else None,
            channels_last=solver.CHANNELS_LAST,
            accumulation=solver.ACCUMULATION,
            clip_grad_norm=0.0,  # SOLVER.CLIP_GRADIENTS is applied by Detectron2's optimizer
            ema_decay=solver.EMA.DECAY if solver.EMA.ENABLED else None,
            checkpoint_period=solver.CHECKPOINT_PERIOD,
            checkpoints_kept=solver.CHECKPOINTS_KEPT,
            eval_period=cfg.TEST.EVAL_PERIOD,
            best_metric=cfg.TEST.BEST_METRIC,
            log_period=20,
            ddp={"broadcast_buffers": False},
        )
        self.train_names = tuple(cfg.DATASETS.TRAIN)
        self.test_names = tuple(cfg.DATASETS.TEST)
        self.input_scale = {
            "format": cfg.INPUT.FORMAT,
            "min_size_test": cfg.INPUT.MIN_SIZE_TEST,
            "max_size_test": cfg.INPUT.MAX_SIZE_TEST,
        }

    def _build_model(self) -> nn.Module:
        return build_model(self.cfg)

    def build_optimizer(self, model: nn.Module) -> torch.optim.Optimizer:
        cfg, solver = self.cfg.clone(), self.cfg.SOLVER
        cfg.defrost()
        cfg.SOLVER.BASE_LR *= learning_rate_scale(solver.IMS_PER_BATCH, solver.REFERENCE_BATCH_SIZE)
        return build_optimizer(cfg, model)

    def build_lr_scheduler(self, optimizer: torch.optim.Optimizer) -> Any:
        return build_lr_scheduler(self.cfg, optimizer)

    def build_train_loader(self) -> Any:
        cfg, mapper = self.cfg, TinyObjectMapper(self.cfg, is_train=True)
        if cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler":
            if cfg.SOLVER.ACCUMULATION > 1:
                raise ValueError(
                    f"SOLVER.ACCUMULATION is {cfg.SOLVER.ACCUMULATION}, but Detectron2's loader "
                    f"for {cfg.DATALOADER.SAMPLER_TRAIN} cannot split a step: set it to 1, or "
                    'DATALOADER.SAMPLER_TRAIN to "TrainingSampler"'
                )
            return build_detection_train_loader(cfg, mapper=mapper)
        return TrainLoader(
            get_detection_dataset_dicts(
                cfg.DATASETS.TRAIN, filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
            ),
            mapper=mapper,
            total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
            aspect_ratio_grouping=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
            num_workers=cfg.DATALOADER.NUM_WORKERS,
        )

    def build_test_loader(self, name: str) -> Any:
        mapper = TinyObjectMapper(self.cfg, is_train=False)
        return build_detection_test_loader(self.cfg, name, mapper=mapper)


# The keys of `train` that are read here and by Detectron2's `default_setup`, nested ones too.
_TRAIN_KEYS = {
    "": "output_dir init_checkpoint init_backbone_only max_iter seed device amp clip_grad_norm ema "
    "ddp checkpointer eval_period best_metric log_period cudnn_benchmark float32_precision "
    "channels_last accumulation reference_batch_size",
    "amp": "enabled dtype",
    "ema": "enabled decay",
    "checkpointer": "period max_to_keep",
    "ddp": "broadcast_buffers find_unused_parameters fp16_compression",
}


def _require_known_keys(train: DictConfig) -> None:
    for node, known in _TRAIN_KEYS.items():
        path = f"train.{node}." if node else "train."
        for key in map(str, train[node] if node else train):
            if key not in known.split():
                close = difflib.get_close_matches(key, known.split(), n=1)
                hint = f" (did you mean {close[0]!r}?)" if close else ""
                raise ValueError(f"the config sets {path}{key}, which nothing reads{hint}")


def _build(cfg: Any) -> Any:
    try:
        return instantiate(cfg)
    except TypeError as error:
        if "unexpected keyword argument" not in str(error):
            raise
        raise ValueError(f"the config has a key that nothing takes: {error}") from error


def _names(names: Any) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)
