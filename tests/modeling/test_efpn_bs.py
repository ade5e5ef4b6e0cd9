"""E-FPN-BS: the stock FPN at the start, through both config systems, over several bottom-ups."""

import copy
from typing import Any

import pytest
import torch
from detectron2.config import CfgNode, LazyCall, get_cfg, instantiate
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.modeling.backbone import BasicStem, ResNet
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool
from detectron2.structures import ImageList
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from efpnbs_d2 import add_efpnbs_config
from efpnbs_d2.modeling import EFPNBS

RES = ("res2", "res3", "res4", "res5")
LEVELS = {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}


class PatchBackbone(Backbone):
    """A bottom-up whose cells see their own pixels only: means of patches, 3 to 8 channels."""

    def __init__(self) -> None:
        super().__init__()
        self._out_features = list(RES)
        self._out_feature_strides = {name: 4 * 2**i for i, name in enumerate(RES)}
        self._out_feature_channels = dict.fromkeys(RES, 8)
        self.project = Conv2d(3, 8, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        pooled = {k: F.avg_pool2d(x, stride) for k, stride in self._out_feature_strides.items()}
        return {name: self.project(value) for name, value in pooled.items()}


def make(cls: type[FPN] = EFPNBS, **options: Any) -> FPN:
    torch.manual_seed(0)
    options = {"out_channels": 8, "top_block": LastLevelMaxPool(), **options}
    return cls(bottom_up=PatchBackbone(), in_features=RES, **options)


def train(backbone: FPN, spread: float = 1.0) -> FPN:
    """As if trained: every gate away from zero, masks that vary over the image."""
    torch.manual_seed(1)
    for name, parameter in backbone.named_parameters():
        if name.startswith(("cem.gamma", "fbsm.alpha", "fbsm.beta", "fbsm.predict.weight")):
            nn.init.normal_(parameter, std=spread)
    return backbone


def resnet_cfg(depth: int = 18, **model: Any) -> CfgNode:
    cfg = get_cfg()
    add_efpnbs_config(cfg)
    cfg.MODEL.META_ARCHITECTURE = "TinyObjectRCNN"
    cfg.MODEL.RESNETS.DEPTH = depth
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64 if depth < 50 else 256
    cfg.MODEL.RESNETS.OUT_FEATURES = list(RES)
    cfg.MODEL.FPN.IN_FEATURES = list(RES)
    cfg.MODEL.FPN.OUT_CHANNELS = 16
    for key, value in model.items():
        cfg.merge_from_list([f"MODEL.{key.replace('__', '.')}", value])
    return cfg


def build(cfg: CfgNode, name: str = "EFPNBS") -> FPN:
    torch.manual_seed(0)
    return BACKBONE_REGISTRY.get(name)(cfg, ShapeSpec(channels=3)).eval()


def test_fpn_checkpoint_is_a_valid_start() -> None:
    stock, ours = make(FPN), make()
    keys = set(ours.state_dict()) - set(stock.state_dict())
    assert all(key.startswith(("cem.", "fbsm.")) for key in keys)
    nn.init.constant_(stock.bottom_up.project.weight, 0.3)
    loaded = ours.load_state_dict(stock.state_dict(), strict=False)
    assert set(loaded.missing_keys) == keys
    assert not loaded.unexpected_keys

    images = torch.randn(2, 3, 96, 160)
    expected = stock(images)
    for actual in (ours(images), ours(images, [(96, 160), (70, 33)])):
        assert set(actual) - set(expected) == {"fbsm_logits_p2", "fbsm_logits_p3", "fbsm_logits_p4"}
        for name, value in expected.items():
            assert torch.equal(actual[name], value)
    assert ours.output_shape() == stock.output_shape()


@pytest.mark.parametrize("gate", ["cem.gamma.p2", "fbsm.alpha.p3", "fbsm.beta.p4"])
def test_outputs_differ_as_soon_as_one_gate_moves(gate: str) -> None:
    ours, images = make(), torch.randn(1, 3, 96, 160)
    before = ours(images)
    nn.init.constant_(ours.get_parameter(gate), 1e-3)
    after = ours(images)
    for name in LEVELS:
        assert torch.equal(before[name], after[name]) == (not gate.endswith(name))


def test_with_both_modules_off_it_is_the_fpn() -> None:
    stock, ours = make(FPN), make(cem=False, fbsm=False)
    assert list(ours.state_dict()) == list(stock.state_dict())
    assert ours.cem is ours.fbsm is None
    images = torch.randn(1, 3, 96, 160)
    expected, actual = stock(images), ours(images, [(96, 160)])
    assert list(actual) == list(expected)
    for name, value in expected.items():
        assert torch.equal(actual[name], value)


@pytest.mark.parametrize(("cem", "fbsm"), [(True, False), (False, True)])
def test_each_module_can_be_switched_off(cem: bool, fbsm: bool) -> None:
    ours = make(cem=cem, fbsm=fbsm, targets=("p2", "p4"))
    outputs = train(ours)(torch.randn(1, 3, 64, 64))
    logits = ["fbsm_logits_p2", "fbsm_logits_p4"] if fbsm else []
    assert list(outputs) == [*LEVELS, *logits]
    prefixes = {key.split(".")[0] for key in ours.state_dict()}
    assert ("cem" in prefixes, "fbsm" in prefixes) == (cem, fbsm)


def test_pyramid_without_p6() -> None:
    ours = make(top_block=None, sources=("p5",), targets=("p2", "p3", "p4"))
    assert "p6" not in ours(torch.randn(1, 3, 64, 64))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"top_block": None}, r"sources is \['p5', 'p6'\].*pyramid levels.*'p5'\]"),
        ({"targets": ("p1",)}, r"targets is \['p1'\].*pyramid levels"),
        ({"targets": ()}, r"targets is \[\]"),
        ({"sources": ("p5", "p5")}, r"sources is \['p5', 'p5'\].*different names"),
        ({"sources": ("p4", "p5")}, r"\['p4'\] are both"),
        ({"sources": ("p3",), "targets": ("p2", "p4")}, "source p3 .* finer than target p4"),
        ({"in_features": ("res2", "stage9")}, "in_features .*'stage9'.*bottom-up outputs.*'res5'"),
    ],
)
def test_levels_that_do_not_fit_are_refused(options: dict[str, Any], message: str) -> None:
    arguments = {"in_features": RES, "top_block": LastLevelMaxPool(), **options}
    with pytest.raises(ValueError, match=message):
        EFPNBS(bottom_up=PatchBackbone(), out_channels=8, **arguments)


def test_a_misspelled_option_is_refused() -> None:
    with pytest.raises(TypeError, match="context_chanels"):
        make(context_chanels=8)


def drift(backbone: FPN, images: list[Tensor], sized: bool) -> dict[str, float]:
    """Relative difference, on valid cells, of each level between images alone and in a batch."""

    def extract(chosen: list[Tensor]) -> dict[str, Tensor]:
        batch = ImageList.from_tensors(chosen, backbone.size_divisibility)
        return backbone(batch.tensor, *([batch.image_sizes] if sized else []))

    together, drifts = extract(images), {}
    alone = [extract([image]) for image in images]
    for name, stride in LEVELS.items():
        difference, total = 0.0, 0.0
        for index, image in enumerate(images):
            rows, columns = (-(-pixels // stride) for pixels in image.shape[-2:])
            one = alone[index][name][0, :, :rows, :columns]
            other = together[name][index, :, :rows, :columns]
            difference += (one - other).square().sum().item()
            total += one.square().sum().item()
        drifts[name] = (difference / total) ** 0.5
    return drifts


sizes_in_pixels = st.lists(st.tuples(*[st.integers(1, 100)] * 2), min_size=1, max_size=2)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(sizes_in_pixels)
@torch.no_grad()
def test_what_an_image_is_batched_with_has_no_influence(sizes: list[tuple[int, int]]) -> None:
    """Where the stock FPN does not care, neither do trained gates.

    The pyramid's 3x3 convolutions see their own cell only here, so that a difference is CEM's or
    FBSM's.
    """
    ours = train(make())
    for conv in ours.output_convs:
        conv.weight[:, :, [0, 0, 0, 1, 1, 2, 2, 2], [0, 1, 2, 0, 2, 0, 1, 2]] = 0
    images = [torch.randn(3, *size) for size in [*sizes, (1, 1)]]
    assert max(drift(ours, images, sized=True).values()) < 1e-5


@torch.no_grad()
def test_image_sizes_are_what_keeps_the_batch_out() -> None:
    ours = train(make())
    images = [torch.randn(3, 33, 47), torch.randn(3, 160, 90)]
    assert drift(ours, images, sized=False)["p2"] > 2 * drift(ours, images, sized=True)["p2"]


@torch.no_grad()
def test_batching_matters_no_more_than_to_the_stock_fpn() -> None:
    """Over a ResNet, whose convolutions do see the padding; batch norm as after training."""
    cfg = resnet_cfg(RESNETS__NORM="BN")
    ours, stock = build(cfg), build(cfg, "build_resnet_fpn_backbone")
    ours.train()(torch.randn(4, 3, 64, 64))
    stock.load_state_dict(ours.state_dict(), strict=False)
    images = [torch.randn(3, *size) for size in [(33, 1), (97, 131), (64, 160)]]
    expected = drift(stock, images, sized=False)
    # Not gates so far off that they cancel a map: a difference relative to nothing is large.
    actual = drift(train(ours.eval(), spread=0.3), images, sized=True)
    for name, value in expected.items():
        # The levels mix now, and differ unequally: some gain a few per cent, some lose.
        assert actual[name] <= 1.1 * value


def test_loss_on_p2_reaches_what_the_top_down_path_bypasses() -> None:
    """P5's output convolution is not on FPN's way down to P2, and it is on CEM's."""
    for backbone, reached in ((make(FPN), False), (train(make()), True)):
        backbone(torch.randn(1, 3, 96, 160))["p2"].square().sum().backward()
        gradient = backbone.fpn_output5.weight.grad
        assert (gradient is not None) == reached
    assert gradient.count_nonzero() > 0


def test_inference_equals_training_forward() -> None:
    ours, images = train(make()), torch.randn(2, 3, 96, 160)
    sizes = [(96, 160), (70, 33)]
    expected = ours(images, sizes)
    with torch.no_grad():
        actual = ours(images, sizes)
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_and_channels_last_keep_fpns_types(dtype: torch.dtype) -> None:
    stock, ours = make(FPN), train(make())
    images = torch.randn(2, 3, 96, 160).contiguous(memory_format=torch.channels_last)
    sizes = [(96, 160), (70, 33)]
    for model in (stock, ours):
        model.to(memory_format=torch.channels_last)
    float32 = ours(images, sizes)
    with torch.autocast("cpu", dtype=dtype):
        expected, actual = stock(images), ours(images, sizes)
    pure = ours.to(dtype)(images.to(dtype), sizes)
    for name in LEVELS:
        assert actual[name].dtype == expected[name].dtype
        assert pure[name].dtype == dtype
        assert actual[name].stride() == expected[name].stride()
        torch.testing.assert_close(actual[name].float(), float32[name], rtol=0.1, atol=0.15)


def test_a_deep_copy_stands_alone() -> None:
    """FPN keeps its convolutions in plain lists beside the modules; an EMA copies all that."""
    ours, images = train(make()), torch.randn(1, 3, 64, 64)
    twin, before = copy.deepcopy(ours), ours(images)
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.zero_()
    for name, value in twin(images).items():
        assert torch.equal(value, before[name])


@pytest.mark.parametrize("depth", [18, 34, 50, 101])
def test_builds_over_every_resnet(depth: int) -> None:
    backbone = build(resnet_cfg(depth))
    assert isinstance(backbone, EFPNBS)
    with torch.no_grad():
        outputs = backbone(torch.randn(1, 3, 32, 32), [(32, 32)])
    assert outputs["p2"].shape == (1, 16, 8, 8)


def test_every_yacs_key_reaches_the_module() -> None:
    backbone = build(
        resnet_cfg(
            FPN__NORM="GN",
            FPN__OUT_CHANNELS=32,
            FPN__FUSE_TYPE="avg",
            EFPN_BS__SOURCES=["p4", "p6"],
            EFPN_BS__TARGETS=["p2"],
            CEM__CONTEXT_CHANNELS=24,
            FBSM__MASK_CHANNELS=12,
        )
    )
    assert backbone.sources == ("p4", "p6")
    assert backbone.targets == ("p2",)
    assert backbone.cem.compress.weight.shape == (24, 64, 1, 1)
    assert backbone.fbsm.reduce.weight.shape == (12, 32, 1, 1)
    assert isinstance(backbone.fpn_output2.norm, nn.GroupNorm)
    assert backbone._fuse_type == "avg"
    off = build(resnet_cfg(CEM__ENABLED=False, FBSM__ENABLED=False))
    assert off.cem is off.fbsm is None


def test_another_bottom_up_by_name() -> None:
    @BACKBONE_REGISTRY.register()
    def patch_backbone_of_test(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
        return PatchBackbone()

    backbone = build(resnet_cfg(EFPN_BS__BOTTOM_UP="patch_backbone_of_test"))
    assert isinstance(backbone.bottom_up, PatchBackbone)


def test_mask_supervision_that_cannot_happen_is_refused() -> None:
    build(resnet_cfg(FBSM__LOSS_WEIGHT=1.0))
    with pytest.raises(ValueError, match="'GeneralizedRCNN' computes no mask loss.*TinyObjectRCNN"):
        build(resnet_cfg(FBSM__LOSS_WEIGHT=1.0, META_ARCHITECTURE="GeneralizedRCNN"))
    with pytest.raises(ValueError, match="ENABLED is False"):
        build(resnet_cfg(FBSM__LOSS_WEIGHT=1.0, FBSM__ENABLED=False))


def test_lazy_config() -> None:
    lazy = LazyCall
    config = lazy(EFPNBS)(
        bottom_up=lazy(ResNet)(
            stem=lazy(BasicStem)(in_channels=3, out_channels=64, norm="BN"),
            stages=lazy(ResNet.make_default_stages)(depth=18, norm="BN"),
            out_features=list(RES),
        ),
        in_features="${.bottom_up.out_features}",
        out_channels=16,
        top_block=lazy(LastLevelMaxPool)(),
        sources=["p5"],
        targets=["p2"],
    )
    backbone = instantiate(config)
    assert (backbone.sources, backbone.targets) == (("p5",), ("p2",))
    assert list(backbone.fbsm.targets) == ["p2"]


class Traceable(nn.Module):
    """A backbone with tensors for inputs and outputs, as a trace needs them."""

    def __init__(self, backbone: FPN):
        super().__init__()
        self.backbone = backbone

    def forward(self, images: Tensor, sizes: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.backbone(images, [sizes[0], sizes[1]]).values())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.jit itself
@torch.no_grad()
def test_a_trace_holds_for_other_sizes() -> None:
    ours = train(make())
    images, sizes = torch.randn(2, 3, 96, 160), torch.tensor([[96, 160], [96, 160]])
    traced = torch.jit.trace(Traceable(ours), (images, sizes))
    for height, width in ((96, 160), (64, 224)):
        images, sizes = torch.randn(2, 3, height, width), [(height, width), (33, 1)]
        expected = ours(images, sizes).values()
        for actual, value in zip(traced(images, torch.tensor(sizes)), expected, strict=True):
            torch.testing.assert_close(actual, value, rtol=1e-4, atol=1e-5)
