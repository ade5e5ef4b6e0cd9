"""Runs of the published recipes: data, input, length, batch and rates that a source states.

The table is typed from the sources, not from the configs: released configs and logs, and
defaults of the sources' frameworks where a config's docstring calls a value assumed.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate
from detectron2.data.transforms import RandomFlip, ResizeShortestEdge

from efpnbs_d2.engine.cli import load_config
from efpnbs_d2.engine.recipe import LazyRecipe

FOLDER = Path(__file__).resolve().parents[2] / "configs/literature"


@dataclass
class Run:
    """What a source states; the defaults are those of the NWD rows on AI-TOD v1."""

    data: tuple = ("aitod_v1_trainval", "aitod_v1_test")
    batch: int = 8
    lr: float = 0.01
    warmup: tuple = (500, 0.001)  # iterations, first factor
    epochs: int = 12
    steps: tuple = (8, 11)
    iterations: int = 1753  # an epoch: 14,018 / 8 rounded up
    weights: str = "torchvision/R-50.pkl"
    rgb: bool = True
    resize: tuple = ()
    erased: bool = False
    legacy_biases: bool = False  # twice the rate, no weight decay
    best: str = "bbox/AP"


V2 = {"data": ("aitod_v2_trainval", "aitod_v2_test"), "batch": 2, "iterations": 7004}
RFLA = {"batch": 2, "lr": 0.02 / 4, "warmup": (5000, 0.001)}
AITOD_RFLA = Run(**RFLA, iterations=7009)  # 14,018 / 2
VISDRONE = Run(
    **RFLA,
    data=("visdrone_train", "visdrone_val"),
    iterations=3236,  # 6,471 / 2 rounded up
    resize=(800, 1333),
)
TINYPERSON = Run(
    data=("tinyperson_tiles_train", "tinyperson_tiles_test"),
    batch=2,
    warmup=(500, 1 / 3),
    steps=(6, 10),
    iterations=19236 // 12,
    weights="MSRA/R-50.pkl",
    rgb=False,
    erased=True,
    legacy_biases=True,
    best="bbox/AP50_tiny",
)

RUNS = {
    "aitod_faster_rcnn": Run(),
    "aitod_faster_rcnn_24e": Run(epochs=24, steps=(16, 22)),
    "aitod_faster_rcnn_nwd": Run(),
    "aitod_faster_rcnn_nwd_rpn": Run(),
    "aitod_cascade_rcnn": Run(),
    "aitod_cascade_rcnn_nwd": Run(),
    "aitod_rfla": AITOD_RFLA,
    "aitod_rfla_efpn_bs": AITOD_RFLA,
    "aitodv2_faster_rcnn": Run(**V2),
    "aitodv2_faster_rcnn_nwd_rka": Run(**V2),
    "aitodv2_rfla": Run(**{**V2, **RFLA}),
    "visdrone_faster_rcnn": VISDRONE,
    "visdrone_cascade_rcnn": VISDRONE,
    "visdrone_rfla": VISDRONE,
    "visdrone_rfla_efpn_bs": VISDRONE,
    "tinyperson_faster_rcnn": TINYPERSON,
    "tinyperson_faster_rcnn_efpn_bs": TINYPERSON,
}


@cache
def config_of(name):
    """A config that all tests share."""
    return load_config(str(FOLDER / f"{name}.py"), [])


def test_every_config_has_a_run_here():
    assert {path.stem for path in FOLDER.glob("*.py")} == set(RUNS)


@pytest.mark.parametrize("name", RUNS)
def test_images_come_as_the_weights_know_them(name):
    published, cfg = RUNS[name], config_of(name)
    assert cfg.train.init_checkpoint == f"detectron2://ImageNetPretrained/{published.weights}"
    assert cfg.train.init_backbone_only
    mean, std = [103.53, 116.28, 123.675], [1.0, 1.0, 1.0]
    if published.rgb:
        mean, std = mean[::-1], [58.395, 57.12, 57.375]
    assert list(cfg.model.pixel_mean) == mean and list(cfg.model.pixel_std) == std
    stages = cfg.model.backbone.bottom_up.stages
    assert (stages.depth, stages.stride_in_1x1) == (50, not published.rgb)
    assert cfg.model.backbone.bottom_up.freeze_at == 2
    order = "RGB" if published.rgb else "BGR"
    for part in ("train", "test"):
        mapper = cfg.dataloader[part].mapper
        assert mapper.image_format == cfg.model.input_format == order
        augmentations = instantiate(mapper.augmentations)
        if published.resize:
            first = augmentations.pop(0)
            assert isinstance(first, ResizeShortestEdge)
            assert set(first.short_edge_length) == {published.resize[0]}
            assert first.max_size == published.resize[1]
        assert [type(a) for a in augmentations] == [RandomFlip] * (part == "train")
        assert all(a.prob == 0.5 and a.horizontal for a in augmentations)
    erased = "erase" if published.erased else "no_loss"
    assert cfg.dataloader.train.mapper.ignore == erased


@pytest.mark.parametrize("name", RUNS)
def test_length_batch_and_rates_are_the_published_ones(name):
    published, cfg = RUNS[name], config_of(name)
    loader, train = cfg.dataloader, cfg.train
    assert (loader.train.dataset.names, loader.test.dataset.names) == published.data
    assert loader.train.total_batch_size == train.reference_batch_size == published.batch
    assert train.max_iter == published.epochs * published.iterations
    assert train.eval_period == train.max_iter  # the numbers are those of the last weights
    assert train.best_metric == published.best
    assert train.output_dir == f"output/literature/{name}"
    assert (train.amp.enabled, train.ema.enabled, train.clip_grad_norm) == (False, False, 0)

    run = LazyRecipe(cfg)  # refuses keys of `train` that nothing reads
    optimizer = run.build_optimizer(torch.nn.Linear(1, 1))
    for group in optimizer.param_groups:
        bias = group["params"][0].ndim == 1
        legacy = bias and published.legacy_biases
        assert group["lr"] == pytest.approx(published.lr * (2 if legacy else 1))
        assert group["weight_decay"] == (0 if legacy else 1e-4)
        assert group["momentum"] == 0.9

    factor = run.build_lr_scheduler(optimizer)

    def at(iteration):
        return factor(iteration / train.max_iter)

    warmup, first = published.warmup
    assert at(0) == pytest.approx(first)
    assert at(warmup / 2) == pytest.approx((first + 1) / 2)  # linear
    assert at(warmup) == pytest.approx(1)
    for i, epoch in enumerate(published.steps):
        step = epoch * published.iterations
        assert at(step - 1) == pytest.approx(0.1**i)
        assert at(step + 1) == pytest.approx(0.1 ** (i + 1))
