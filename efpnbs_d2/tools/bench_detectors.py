"""The detectors that the benchmarks compare, with the same weights, and what they do in a round.

Shapes: N images in a batch, all H x W network-input pixels.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from detectron2 import model_zoo
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import GeneralizedRCNN, build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from ..config import add_efpnbs_config
from ..mixed_precision import mixed_precision
from .bench_turns import wait_for
from .memory import peak_memory_on

# Narrow ResNets have no bottleneck to widen res2 to 256 channels.
_BASIC_BLOCK_DEPTHS = (18, 34)
_OBJECTS = 50

FPN, EFPN_BS, EVERYTHING = "FPN", "E-FPN-BS", "E-FPN-BS, masks supervised, DCLoss"
_EFPN_BS = ["MODEL.META_ARCHITECTURE", "TinyObjectRCNN", "MODEL.BACKBONE.NAME", "EFPNBS"]
_SUPERVISED = ["MODEL.FBSM.LOSS_WEIGHT", 1.0]
_DC_LOSS = ["MODEL.ROI_HEADS.NAME", "DCROIHeads"]

_NARROW = [
    *("MODEL.FPN.OUT_CHANNELS", 64, "MODEL.ROI_BOX_HEAD.FC_DIM", 256),
    *("MODEL.RPN.POST_NMS_TOPK_TRAIN", 500, "MODEL.RPN.POST_NMS_TOPK_TEST", 500),
    *("MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", 128),
]

# What differs from the stock detector, in yacs.
DETECTORS: dict[str, list[Any]] = {
    FPN: [],
    EFPN_BS: _EFPN_BS,
    "E-FPN-BS, masks supervised": [*_EFPN_BS, *_SUPERVISED],
    "FPN, DCLoss": _DC_LOSS,
    EVERYTHING: [*_EFPN_BS, *_SUPERVISED, *_DC_LOSS],
}


@dataclass(frozen=True)
class Setting:
    """What the detectors are and work on.

    Attributes:
        depth: of the ResNet: 18, 34, 50, 101 or 152.
        size: (height, width) of the images, in network-input pixels.
        images: N of a training step; detection gets one.
        device: e.g. "cpu" or "cuda".
        narrow: with a quarter of the channels and half of the proposals, as the recipes for CPUs.
    """

    depth: int
    size: tuple[int, int]
    images: int
    device: str
    narrow: bool = False

    def build(self, names: Sequence[str]) -> dict[str, GeneralizedRCNN]:
        """Some of `DETECTORS`, with the weights of the first one wherever they have the same."""
        detectors: dict[str, GeneralizedRCNN] = {}
        for name in names:
            cfg = _stock_config(self.depth, self.device)
            cfg.merge_from_list([*(_NARROW if self.narrow else []), *DETECTORS[name]])
            torch.manual_seed(0)
            detectors[name] = detector = build_model(cfg)
            # Random offsets throw the anchors together, so that NMS leaves three proposals.
            # Without, the box head has its full number, as in a trained detector.
            torch.nn.init.zeros_(detector.proposal_generator.rpn_head.anchor_deltas.weight)
            loaded = detector.load_state_dict(detectors[names[0]].state_dict(), strict=False)
            assert not loaded.unexpected_keys
        return detectors

    def batch(self) -> list[dict[str, Any]]:
        """Noise with objects of some 16 px, on the CPU as from a data loader."""
        random = torch.Generator().manual_seed(0)
        height, width = self.size
        return [
            {
                "image": torch.rand(3, height, width, generator=random) * 255,
                "instances": _objects(height, width, random),
            }
            for _ in range(self.images)
        ]


def detection(detector: GeneralizedRCNN, setting: Setting, **mode: Any) -> Callable[[], None]:
    """One image through the detector; `mode` as of `mixed_precision`."""
    detector.eval()
    batch = [{"image": setting.batch()[0]["image"].to(setting.device)}]

    @torch.no_grad()
    def run() -> None:
        with mixed_precision(detector, **mode):
            detector(batch)

    return run


def training_step(detector: GeneralizedRCNN, setting: Setting, **mode: Any) -> Callable[[], None]:
    """Losses, gradients and a step of SGD; `mode` as of `mixed_precision`.

    The learning rate is 0: each step does the work of the first one.
    """
    detector.train()
    batch = setting.batch()
    weights = [weight for weight in detector.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(weights, lr=0.0, momentum=0.9)
    scaled = mode.get("precision") == torch.float16
    scaler = torch.amp.GradScaler(torch.device(setting.device).type, enabled=scaled)

    def run() -> None:
        optimizer.zero_grad()
        with EventStorage(), mixed_precision(detector, **mode):
            losses = detector(batch)
        scaler.scale(torch.stack(list(losses.values())).sum()).backward()
        scaler.step(optimizer)
        scaler.update()

    return run


def memory(name: str, setting: Setting) -> dict[str, float]:
    """GB at the peak of "inference" and of "training", above the one before.

    In a fresh process, where building the detector has left little else behind.
    """
    detector = setting.build([name])[name]
    before = peak_memory_on(setting.device)
    peaks = {}
    # Training needs more: a peak does not sink.
    for what, prepare in (("inference", detection), ("training", training_step)):
        prepare(detector, setting)()
        wait_for(setting.device)
        peaks[what] = (peak_memory_on(setting.device) - before) / 1e9
    return peaks


def in_channels_last(detector: GeneralizedRCNN) -> GeneralizedRCNN:
    """A copy that stores its maps as NHWC."""
    return deepcopy(detector).to(memory_format=torch.channels_last)


def with_compiled_backbone(detector: GeneralizedRCNN) -> GeneralizedRCNN:
    """A copy whose backbone is compiled at its first use, pyramid included."""
    copy = deepcopy(detector)
    copy.backbone.compile()
    return copy


def _stock_config(depth: int, device: str) -> CfgNode:
    cfg = get_cfg()
    add_efpnbs_config(cfg)
    cfg.merge_from_file(model_zoo.get_config_file("COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"))
    cfg.MODEL.DEVICE = device
    cfg.MODEL.RESNETS.DEPTH = depth
    if depth in _BASIC_BLOCK_DEPTHS:
        cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64
    # Random layers without normalisation double the variance time and again: start from 1, so that
    # the maps stay within float16.
    cfg.MODEL.PIXEL_STD = [57.375, 57.12, 58.395]
    # DCLoss warns of plain L1, whose gradient is the same for every box.
    cfg.MODEL.ROI_BOX_HEAD.SMOOTH_L1_BETA = 1 / 9
    return cfg


def _objects(height: int, width: int, random: torch.Generator) -> Instances:
    """Objects of 80 classes; their scale is the size that they have here."""
    sizes = torch.exp(torch.randn(_OBJECTS, 2, generator=random) * 0.5 + 2.8)
    corners = torch.rand(_OBJECTS, 2, generator=random) * torch.tensor([width, height])
    boxes = Boxes(torch.cat([corners, corners + sizes], dim=1))
    boxes.clip((height, width))
    objects = Instances((height, width), gt_boxes=boxes)
    objects.gt_classes = torch.randint(80, (_OBJECTS,), generator=random)
    objects.gt_scale = boxes.area().sqrt()
    return objects
