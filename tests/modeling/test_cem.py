"""CEM on maps of a few channels: identity, alignment, padding, dtypes, gradients."""

from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from efpnbs_d2.modeling.cem import CEM

STRIDES = {"p2": 4, "p3": 8, "p4": 16, "p5": 32, "p6": 64}
CHANNELS = 8


def make_cem(
    channels: int = CHANNELS,
    sources: Sequence[str] = ("p5", "p6"),
    targets: Sequence[str] = ("p2", "p3", "p4"),
    context_channels: int = 4,
) -> CEM:
    torch.manual_seed(0)
    return CEM(
        channels=channels,
        sources={name: STRIDES[name] for name in sources},
        targets={name: STRIDES[name] for name in targets},
        context_channels=context_channels,
    )


def train(cem: CEM) -> CEM:
    """As if trained: every scale away from zero."""
    for gamma in cem.gamma.values():
        nn.init.normal_(gamma)
    return cem


def pyramid(
    height: int, width: int, images: int = 1, channels: int = CHANNELS
) -> dict[str, Tensor]:
    """Random maps of images of this size, in network-input pixels."""
    return {
        name: torch.randn(images, channels, -(-height // stride), -(-width // stride))
        for name, stride in STRIDES.items()
    }


def passes_through(cem: CEM, source: int) -> CEM:
    """Set one-channel weights so that every target gets the aligned source number `source`."""
    for conv in cem.modules():
        if isinstance(conv, nn.Conv2d):
            nn.init.zeros_(conv.weight)
            nn.init.zeros_(conv.bias)
    with torch.no_grad():
        cem.compress.weight[0, source] = 1
        cem.local[0].weight[0, 0, 2, 2] = 1
        cem.local[2].weight.fill_(1)
        cem.gate[2].bias.fill_(100)  # sigmoid(100) is 1
        for name in cem.targets:
            cem.expand[name].weight.fill_(1)
            cem.gamma[name].fill_(1)
    return cem


def test_new_module_is_the_exact_identity() -> None:
    features = pyramid(96, 160, images=2)
    enhanced = make_cem()(features, [(96, 160), (70, 33)])
    assert list(enhanced) == ["p2", "p3", "p4"]
    for name, value in enhanced.items():
        assert torch.equal(value, features[name])


def test_each_gamma_moves_its_own_channel_and_level() -> None:
    features, cem = pyramid(96, 160), make_cem()
    with torch.no_grad():
        cem.gamma["p3"][5] = 0.1
    enhanced = cem(features)
    moved = enhanced["p3"] != features["p3"]
    assert moved[:, 5].all()
    assert moved.sum() == moved[:, 5].numel()
    assert torch.equal(enhanced["p2"], features["p2"])


@pytest.mark.parametrize("source", [0, 1])
def test_levels_are_aligned_by_their_strides(source: int) -> None:
    """A source that holds the x coordinate of its cells' centres adds just that to each target.

    The grids are P5 25 and P6 13 cells wide: resizing 13 cells to 25 would stretch the ramp by 4%.
    Outside the outermost centres of the source, interpolation repeats the border: not compared.
    """
    size = 800
    features = {name: torch.zeros(1, 1, 1, -(-size // stride)) for name, stride in STRIDES.items()}
    name = ["p5", "p6"][source]
    features[name] = centres("p5" if source == 0 else "p6", features[name].shape[-1])
    cem = passes_through(make_cem(channels=1, context_channels=1), source)

    for target, value in cem(features).items():
        expected = centres(target, value.shape[-1])
        inside = (expected > 64) & (expected < size - 64)
        torch.testing.assert_close(value[inside], expected[inside])


def centres(name: str, cells: int) -> Tensor:
    return ((torch.arange(cells) + 0.5) * STRIDES[name]).view(1, 1, 1, cells)


def test_sources_are_named_in_any_order() -> None:
    features = pyramid(96, 160)
    one, other = make_cem(), make_cem(sources=("p6", "p5"))
    assert torch.equal(one.context(features), other.context(features))


def test_gate_sees_the_whole_image_and_local_branch_its_surroundings() -> None:
    """Far from a change, the context changes through the gate only: by one factor a channel."""
    cem = make_cem(sources=("p5",))
    nn.init.ones_(cem.local[2].bias)  # no zeros to divide by
    before = torch.randn(1, CHANNELS, 20, 20)
    after = before.clone()
    after[..., 0, 0] += 100
    ratio = cem.context({"p5": after}) / cem.context({"p5": before})
    far = ratio[..., 5:, 5:].flatten(2)
    assert (far[..., 0] - 1).abs().min() > 1e-3
    torch.testing.assert_close(far, far[..., :1].expand_as(far), rtol=1e-3, atol=0)


@pytest.mark.parametrize("size", [(1, 1), (33, 1), (95, 129), (128, 64), (100, 224)])
@pytest.mark.parametrize("sources", [("p5", "p6"), ("p6",), ("p5",)])
def test_padding_has_no_influence(size: tuple[int, int], sources: Sequence[str]) -> None:
    """An image alone equals the same image in a larger batch, even if the padding holds NaN."""
    cem = train(make_cem(sources=sources))
    alone = pyramid(-(-size[0] // 32) * 32, -(-size[1] // 32) * 32)
    batch = pyramid(256, 320, images=2)
    for name, stride in STRIDES.items():
        rows, columns = -(-size[0] // stride), -(-size[1] // stride)
        batch[name][1] = float("nan")
        batch[name][1, :, :rows, :columns] = alone[name][0, :, :rows, :columns]

    expected = cem(alone, [size])
    actual = cem(batch, [(256, 320), size])
    for name, value in actual.items():
        rows, columns = -(-size[0] // STRIDES[name]), -(-size[1] // STRIDES[name])
        torch.testing.assert_close(
            value[1, :, :rows, :columns],
            expected[name][0, :, :rows, :columns],
            rtol=1e-4,
            atol=1e-5,
        )
        assert value[0].isfinite().all()


def test_without_sizes_everything_counts_as_image() -> None:
    cem = train(make_cem())
    features = pyramid(96, 160)
    unsized, sized = cem(features), cem(features, [(96, 160)])
    for name, value in unsized.items():
        assert torch.equal(value, sized[name])
    assert not torch.allclose(unsized["p2"], cem(features, [(64, 64)])["p2"])


@pytest.mark.parametrize("image_sizes", [None, [(96, 160), (70, 33)]])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_keeps_dtype_and_values(
    dtype: torch.dtype, image_sizes: list[tuple[int, int]] | None
) -> None:
    cem, features = train(make_cem()), pyramid(96, 160, images=2)
    expected = cem(features, image_sizes)
    low = {name: value.to(dtype) for name, value in features.items()}
    with torch.autocast("cpu", dtype=dtype):
        autocast = cem(low, image_sizes)
        float_maps = cem(features, image_sizes)
        with torch.no_grad():
            inference = cem(features, image_sizes)
    pure = cem.to(dtype)(low, image_sizes)
    for name, value in expected.items():
        assert autocast[name].dtype == pure[name].dtype == dtype
        assert float_maps[name].dtype == inference[name].dtype == torch.float32
        for actual in (autocast, pure, float_maps, inference):
            torch.testing.assert_close(actual[name].float(), value, rtol=0.1, atol=0.1)


def test_pooling_does_not_overflow_in_float16() -> None:
    """The sum over 30 x 30 cells of 100 is 90,000, above float16's largest number, 65,504."""
    cem = passes_through(make_cem(channels=1, sources=("p5",), context_channels=1), 0)
    with torch.no_grad():
        cem.gate[0].weight.fill_(1)
        cem.gate[2].weight.fill_(1)
        cem.gate[2].bias.fill_(-100)  # the gate is sigmoid(100 - 100) = 0.5
    cem.half()
    context = cem.context({"p5": torch.full((1, 1, 32, 32), 100.0).half()}, [(960, 960)])
    assert torch.equal(context, torch.full_like(context, 50))


@pytest.mark.parametrize("grad", [True, False])
@pytest.mark.parametrize("image_sizes", [None, [(70, 33), (96, 160)]])
def test_memory_format_is_kept(grad: bool, image_sizes: list[tuple[int, int]] | None) -> None:
    cem, features = train(make_cem()), pyramid(96, 160, images=2)
    last = {k: v.contiguous(memory_format=torch.channels_last) for k, v in features.items()}
    with torch.set_grad_enabled(grad):
        expected, actual = cem(features, image_sizes), cem(last, image_sizes)
        # P6 alone is upsampled to more cells than the targets have, and cropped.
        cropped = train(make_cem(sources=("p6",)))(last, image_sizes)
    for name in expected:
        assert expected[name].is_contiguous()
        assert actual[name].is_contiguous(memory_format=torch.channels_last)
        assert cropped[name].is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(actual[name], expected[name], rtol=1e-4, atol=1e-5)


def test_inference_path_gives_the_training_paths_values_and_spares_its_input() -> None:
    cem, features = train(make_cem()), pyramid(96, 160)
    before = {name: value.clone() for name, value in features.items()}
    expected = cem(features)
    with torch.no_grad():
        actual = cem(features)
    for name, value in actual.items():
        assert torch.equal(value, expected[name])
        assert torch.equal(features[name], before[name])


def test_loss_on_a_low_level_reaches_the_sources() -> None:
    cem, features = make_cem(), pyramid(96, 160)
    sources = [features[name].requires_grad_() for name in ("p5", "p6")]

    at_start = torch.autograd.grad(cem(features)["p2"].square().sum(), sources)
    assert all(gradient.count_nonzero() == 0 for gradient in at_start)

    trained = torch.autograd.grad(train(cem)(features)["p2"].square().sum(), sources)
    assert all((gradient != 0).all() for gradient in trained)


def test_gamma_learns_from_the_start() -> None:
    cem, features = make_cem(), pyramid(96, 160)
    sum(value.square().sum() for value in cem(features).values()).backward()
    for gamma in cem.gamma.values():
        assert gamma.grad is not None
        assert (gamma.grad != 0).all()


class Traceable(nn.Module):
    """CEM with tensors for inputs and outputs, as a trace needs them."""

    def __init__(self, cem: CEM, names: Sequence[str]):
        super().__init__()
        self.cem, self.names = cem, names

    def forward(self, sizes: Tensor, *maps: Tensor) -> tuple[Tensor, ...]:
        image_sizes = [sizes[0], (sizes[1, 0], sizes[1, 1])]
        return tuple(self.cem(dict(zip(self.names, maps, strict=True)), image_sizes).values())


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch.jit itself
@pytest.mark.filterwarnings("error::torch.jit.TracerWarning")
def test_a_trace_holds_for_other_image_sizes() -> None:
    cem, features = train(make_cem()).eval(), pyramid(96, 160, images=2)
    full = torch.tensor([[96, 160], [96, 160]])
    traced = torch.jit.trace(Traceable(cem, list(features)), (full, *features.values()))
    for sizes in ([(96, 160), (96, 160)], [(70, 33), (1, 160)]):
        actual = traced(torch.tensor(sizes), *features.values())
        for value, expected in zip(actual, cem(features, sizes).values(), strict=True):
            torch.testing.assert_close(value, expected, rtol=1e-4, atol=1e-5)
