"""What the tests share: a small data set on disk, and a detector small enough to train in them."""

import os
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from efpnbs_d2.data import catalog
from efpnbs_d2.data.tinyscenes import write_dataset
from efpnbs_d2.engine.cli import load_config

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs"

# A detector of a few thousand times less work than the real one, as overrides of efpn_bs_r18.py.
SMALL_MODEL = [
    "model.backbone.out_channels=16",
    "model.proposal_generator.head.in_channels=16",
    "model.proposal_generator.post_nms_topk=[50,50]",
    "model.roi_heads.box_head.input_shape.channels=16",
    "model.roi_heads.box_head.fc_dims=[32]",
    "model.roi_heads.box_predictor.input_shape.channels=32",
    "model.roi_heads.batch_size_per_image=32",
]
SMALL_YACS = [
    "MODEL.FPN.OUT_CHANNELS=16",
    "MODEL.RPN.POST_NMS_TOPK_TRAIN=50",
    "MODEL.RPN.POST_NMS_TOPK_TEST=50",
    "MODEL.ROI_BOX_HEAD.NUM_FC=1",
    "MODEL.ROI_BOX_HEAD.FC_DIM=32",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE=32",
]


@pytest.fixture(autouse=True, scope="session")
def few_threads():
    torch.set_num_threads(min(2, os.cpu_count() or 1))


@pytest.fixture
def registry():
    """Take what a test registers out of the catalogues again."""
    before = set(DatasetCatalog)
    yield
    for name in set(DatasetCatalog) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
        catalog._SOURCES.pop(name, None)


@pytest.fixture(scope="session")
def scenes_root(tmp_path_factory):
    """A folder of data sets that holds tinyscenes: 6 and 2 scenes of 128 px."""
    root = tmp_path_factory.mktemp("datasets")
    write_dataset(root, splits={"train": 6, "val": 2}, size=128, progress=False)
    return root


@pytest.fixture
def scenes(scenes_root, monkeypatch):
    """tinyscenes_train and tinyscenes_val can be loaded in this test."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(scenes_root))
    return scenes_root


@pytest.fixture(scope="session")
def small_overrides():
    """Overrides for tests that run train_net.py as a user does."""
    return SMALL_MODEL


@pytest.fixture
def small_lazy(tmp_path):
    """The demo's LazyConfig with a small model, two iterations, and its own output folder."""

    def load(*overrides, config="tinyscenes/efpn_bs_r18.py"):
        train = [
            "train.max_iter=2",
            "train.eval_period=0",
            "train.checkpointer.period=2",
            "dataloader.train.num_workers=0",
            "dataloader.test.num_workers=0",
            f"train.output_dir={tmp_path}/lazy",
        ]
        return load_config(str(CONFIGS / config), [*SMALL_MODEL, *train, *overrides])

    return load


@pytest.fixture
def small_yacs(tmp_path):
    """The demo's yacs config with the same small model."""

    def load(*overrides):
        train = [
            "SOLVER.MAX_ITER=2",
            "TEST.EVAL_PERIOD=0",
            "SOLVER.STEPS=(1,)",
            "SOLVER.WARMUP_ITERS=0",
            "DATALOADER.NUM_WORKERS=0",
            f"OUTPUT_DIR={tmp_path}/yacs",
        ]
        path = str(CONFIGS / "yacs/tinyscenes-EFPNBS-R18.yaml")
        return load_config(path, [*SMALL_YACS, *train, *overrides])

    return load
