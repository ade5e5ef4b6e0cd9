"""FBSM's gate, the maps that supervise it, and its loss, with expectations worked out by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional as F

from efpnbs_d2.modeling import fbsm as fbsm_module
from efpnbs_d2.modeling.fbsm import FBSM, fbsm_loss, foreground_map, valid_map

STRIDES = {"p2": 4, "p3": 8}
NO_BOXES = torch.zeros(0, 4)


def make_fbsm() -> FBSM:
    torch.manual_seed(0)
    return FBSM(channels=8, targets=STRIDES, mask_channels=4)


def train(fbsm: FBSM) -> FBSM:
    """As if trained: gates away from zero, masks that vary over the image."""
    for name in fbsm.targets:
        nn.init.normal_(fbsm.alpha[name])
        nn.init.normal_(fbsm.beta[name])
    nn.init.normal_(fbsm.predict.weight)
    return fbsm


def pyramid(height: int, width: int, images: int = 1) -> dict[str, Tensor]:
    """Random maps of images of this size, in network-input pixels."""
    return {
        name: torch.randn(images, 8, -(-height // stride), -(-width // stride))
        for name, stride in STRIDES.items()
    }


def test_new_module_is_the_exact_identity() -> None:
    features = pyramid(40, 24, images=2)
    gated, logits = make_fbsm()(features, [(40, 24), (17, 3)])
    for name, feature in features.items():
        assert torch.equal(gated[name], feature)
        assert logits[name].shape == (2, 1, *feature.shape[-2:])


@pytest.mark.parametrize(
    ("alpha", "beta", "gain"),
    [
        (0.5, 0.0, 1.4),  # 1 + 0.5 * 0.8
        (0.0, 0.5, 0.9),  # 1 - 0.5 * 0.2
        (1.0, 2.0, 1.4),  # 1 + 0.8 - 2 * 0.2
    ],
)
def test_foreground_is_amplified_and_background_damped(
    alpha: float, beta: float, gain: float
) -> None:
    fbsm, features = make_fbsm(), pyramid(40, 24)
    nn.init.zeros_(fbsm.predict.weight)
    fbsm.set_mask_prior(0.8)
    nn.init.constant_(fbsm.alpha["p3"], alpha)
    nn.init.constant_(fbsm.beta["p3"], beta)
    gated, _ = fbsm(features)
    torch.testing.assert_close(gated["p3"], features["p3"] * gain)
    assert torch.equal(gated["p2"], features["p2"])


def test_mask_prior() -> None:
    fbsm, features = make_fbsm(), pyramid(40, 24)
    for probability in (0.5, 0.01):
        if probability != 0.5:  # the default
            fbsm.set_mask_prior(probability)
        mask = fbsm(features)[1]["p2"].sigmoid()
        torch.testing.assert_close(mask, torch.full_like(mask, probability), rtol=0.2, atol=0)
    for wrong in (0.0, 1.0, -1.0):
        with pytest.raises(ValueError, match="mask prior"):
            fbsm.set_mask_prior(wrong)


def test_gates_learn_from_the_start_and_masks_after() -> None:
    fbsm, features = make_fbsm(), pyramid(40, 24)
    sum(value.square().sum() for value in fbsm(features)[0].values()).backward()
    for name in STRIDES:
        assert fbsm.alpha[name].grad.item() != 0
        assert fbsm.beta[name].grad.item() != 0
    assert fbsm.predict.weight.grad.count_nonzero() == 0

    sum(value.square().sum() for value in train(fbsm)(features)[0].values()).backward()
    assert fbsm.predict.weight.grad.count_nonzero() > 0


@pytest.mark.parametrize("size", [(1, 1), (33, 1), (31, 40)])
def test_padding_has_no_influence(size: tuple[int, int]) -> None:
    """An image alone equals the same image in a larger batch, even if the padding holds NaN."""
    fbsm = train(make_fbsm())
    alone, batch = pyramid(*size), pyramid(48, 64, images=2)
    for name, stride in STRIDES.items():
        rows, columns = -(-size[0] // stride), -(-size[1] // stride)
        batch[name][1] = float("nan")
        batch[name][1, :, :rows, :columns] = alone[name][0]
    expected, actual = fbsm(alone, [size]), fbsm(batch, [(48, 64), size])
    for name in STRIDES:
        rows, columns = expected[0][name].shape[-2:]
        for before, after in zip(expected, actual, strict=True):
            torch.testing.assert_close(
                after[name][1:, :, :rows, :columns], before[name], rtol=1e-4, atol=1e-5
            )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_keeps_dtype_and_values(dtype: torch.dtype) -> None:
    fbsm, features = train(make_fbsm()), pyramid(40, 24)
    expected = fbsm(features)[0]
    low = {name: value.to(dtype) for name, value in features.items()}
    with torch.autocast("cpu", dtype=dtype):
        autocast, float_maps = fbsm(low)[0], fbsm(features)[0]
    pure = fbsm.to(dtype)(low)[0]
    for name, value in expected.items():
        assert autocast[name].dtype == pure[name].dtype == dtype
        assert float_maps[name].dtype == torch.float32
        for actual in (autocast, pure, float_maps):
            torch.testing.assert_close(actual[name].float(), value, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("inplace", [True, False])
def test_memory_format_is_kept_and_input_spared_unless_asked(inplace: bool) -> None:
    fbsm, features = train(make_fbsm()), pyramid(40, 24)
    last = {k: v.contiguous(memory_format=torch.channels_last) for k, v in features.items()}
    with torch.no_grad():
        expected = fbsm(features)[0]
        actual = fbsm(last, inplace=inplace)[0]
    for name, value in actual.items():
        assert expected[name].is_contiguous()
        assert value.is_contiguous(memory_format=torch.channels_last)
        torch.testing.assert_close(value, expected[name])
        assert torch.equal(last[name], value if inplace else features[name])


def test_foreground_is_the_covered_fraction() -> None:
    """Box x 2-8, y 1-7 on cells of 4 px: columns covered 0.5, 1, 0; rows 0.75, 0.75."""
    foreground = foreground_map(torch.tensor([[2.0, 1.0, 8.0, 7.0]]), (2, 3), 4)
    # The centre (5, 4) lies in cell (row 1, column 1).
    assert foreground.tolist() == [[0.375, 0.75, 0.0], [0.375, 1.0, 0.0]]


def test_the_box_that_covers_most_of_a_cell_counts() -> None:
    """Boxes do not add up: a quarter beside a half is a half."""
    boxes = torch.tensor([[-8.0, 0.0, 2.0, 4.0], [3.0, 0.0, 9.0, 4.0]])
    foreground = foreground_map(boxes, (1, 3), 4)
    # Clipped, the first is 0-2 with its centre in column 0; the second has its centre in column 1.
    assert foreground.tolist() == [[1.0, 1.0, 0.25]]
    assert foreground_map(boxes + torch.tensor([12.0, 0, 12, 0]), (1, 5), 4).tolist() == [
        [0.0, 1.0, 1.0, 0.5, 1.0]
    ]


@pytest.mark.parametrize("stride", [4, 8, 16])
@pytest.mark.parametrize("left", [0.0, 3.0, 12.0, 24.0])
def test_every_small_object_owns_a_cell(stride: int, left: float) -> None:
    """An 8 px object, also where four cells of stride 16 share it, a quarter of 1/4 each."""
    box = torch.tensor([[left, left, left + 8, left + 8]])
    assert foreground_map(box, (32 // stride, 32 // stride), stride).max() == 1


def test_boxes_at_and_beyond_the_edge_stay_on_the_grid() -> None:
    boxes = torch.tensor([[31.0, 31.0, 40.0, 40.0], [32.0, 0.0, 32.0, 4.0]])
    foreground = foreground_map(boxes, (2, 2), 16)
    assert foreground.tolist() == [[0.0, 1.0], [0.0, 1.0]]


boxes_in_pixels = st.lists(
    st.tuples(*[st.integers(0, 23)] * 2, *[st.integers(1, 12)] * 2), max_size=6
)


# No deadline: the first call warms torch up.
@settings(max_examples=50, deadline=None, derandomize=True)
@given(boxes_in_pixels, st.sampled_from([4, 8]))
def test_foreground_agrees_with_counted_pixels(
    boxes: list[tuple[int, int, int, int]], stride: int
) -> None:
    """Whole-pixel boxes, drawn one by one on a 24 px canvas and counted cell by cell."""
    cells = 24 // stride
    expected = torch.zeros(cells, cells)
    xyxy = torch.zeros(0, 4)
    for x, y, width, height in boxes:
        canvas = torch.zeros(1, 1, 24, 24)
        canvas[..., y : y + height, x : x + width] = 1
        expected = expected.maximum(F.avg_pool2d(canvas, stride)[0, 0])
        right, bottom = min(x + width, 24), min(y + height, 24)
        xyxy = torch.cat([xyxy, torch.tensor([[x, y, right, bottom]]).float()])
    for left, top, right, bottom in xyxy.tolist():
        expected[int((top + bottom) / 2) // stride, int((left + right) / 2) // stride] = 1
    torch.testing.assert_close(foreground_map(xyxy, (cells, cells), stride), expected)


def test_rendering_in_chunks_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    corner = torch.rand(50, 2) * 60
    boxes = torch.cat([corner, corner + torch.rand(50, 2) * 20], dim=1)
    at_once = foreground_map(boxes, (16, 16), 4)
    monkeypatch.setattr(fbsm_module, "_RENDERED_AT_ONCE", 16 * 16 * 3)
    assert torch.equal(foreground_map(boxes, (16, 16), 4), at_once)


def test_padding_and_half_ignored_cells_are_not_valid() -> None:
    """A 12 x 9 px image on 4 x 4 cells of 4 px: rows 0-2 (9 px touch 3), columns 0-2."""
    ignored = torch.tensor([[0.0, 0.0, 6.0, 4.0], [4.0, 4.0, 5.0, 8.0]])
    valid = valid_map((9, 12), ignored, (4, 4), 4)
    # The first region covers column 0 whole and half of column 1 in row 0; the second a quarter.
    assert valid.int().tolist() == [[0, 0, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 0]]


def test_ignored_regions_do_not_add_up() -> None:
    """As the text says: half of the cell inside *one* region."""
    ignored = torch.tensor([[0.0, 0.0, 1.5, 4.0], [2.5, 0.0, 4.0, 4.0]])
    assert valid_map((4, 4), ignored, (1, 1), 4).item()


def test_loss_without_modulation_is_cross_entropy_per_foreground_cell() -> None:
    """One 4 px object that fills one of four cells: three cells with target 0, one with 1."""
    logits = torch.tensor([[0.3, -1.2], [2.0, 0.1]]).view(1, 1, 2, 2)
    boxes = torch.tensor([[4.0, 0.0, 8.0, 4.0]])
    target = torch.tensor([[0.0, 1.0], [0.0, 0.0]]).view(1, 1, 2, 2)
    expected = F.binary_cross_entropy_with_logits(logits, target, reduction="sum")
    actual = fbsm_loss([logits], [boxes], [(8, 8)], None, [4], focal_gamma=0)
    torch.testing.assert_close(actual, expected)


def test_loss_is_modulated_summed_and_divided_over_levels_and_images() -> None:
    """All logits 0: p = 0.5, so each cell counts 0.5^2 * ln 2.

    Two images of 8 x 8 px, levels of 2 x 2 and 1 x 1 cells: 10 cells. The first image's 8 px object
    covers all 5 of its cells: 5 foreground cells.
    """
    logits = [torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 1, 1)]
    boxes = [torch.tensor([[0.0, 0.0, 8.0, 8.0]]), NO_BOXES]
    loss = fbsm_loss(logits, boxes, [(8, 8)] * 2, None, [4, 8], focal_gamma=2)
    assert loss.item() == pytest.approx(10 * 0.25 * math.log(2) / 5)


def test_partly_covered_cells_have_soft_targets() -> None:
    """A mask equal to the covered fraction costs nothing under modulation."""
    boxes = torch.tensor([[0.0, 0.0, 6.0, 4.0]])  # the second cell is half covered
    logits = torch.tensor([30.0, 0.0]).view(1, 1, 1, 2)
    assert fbsm_loss([logits], [boxes], [(4, 8)], None, [4]).item() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("focal_gamma", [0, 0.5, 2])
def test_images_without_objects_give_finite_losses_and_gradients(focal_gamma: float) -> None:
    logits = torch.tensor([0.0, -200.0, 200.0, 1.0]).view(1, 1, 2, 2).requires_grad_()
    loss = fbsm_loss([logits], [NO_BOXES], [(8, 8)], [NO_BOXES], [4], focal_gamma)
    loss.backward()
    assert loss.isfinite()
    assert logits.grad.isfinite().all()


def test_padding_and_ignored_cells_get_no_gradient_but_objects_do() -> None:
    """Cells of 4 px: image 12 px wide of 16, the first 8 px ignored, an object on the second 4."""
    logits = torch.zeros(1, 1, 1, 4, requires_grad=True)
    objects, ignored = torch.tensor([[4.0, 0, 8, 4]]), torch.tensor([[0.0, 0, 8, 4]])
    fbsm_loss([logits], [objects], [(4, 12)], [ignored], [4]).backward()
    assert (logits.grad != 0).flatten().tolist() == [False, True, True, False]


def test_an_object_cut_by_the_image_edge_owns_a_cell_inside() -> None:
    """Image 6 px wide; the box goes on to 16 px, where its own centre would lie in the padding."""
    logits = torch.zeros(1, 1, 1, 4, requires_grad=True)
    fbsm_loss([logits], [torch.tensor([[5.0, 0, 16, 4]])], [(4, 6)], None, [4]).backward()
    # Down to raise the logit: foreground. The padding has no part in it.
    assert logits.grad.sign().flatten().tolist() == [1, -1, 0, 0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_loss_is_float32(dtype: torch.dtype) -> None:
    logits = torch.randn(1, 1, 8, 8).to(dtype)
    boxes = [torch.tensor([[4.0, 4, 12, 12]])]
    expected = fbsm_loss([logits.float()], boxes, [(32, 32)], None, [4])
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(fbsm_loss([logits], boxes, [(32, 32)], None, [4]), expected)
    assert expected.dtype == torch.float32


def test_negative_gamma_is_refused() -> None:
    with pytest.raises(ValueError, match="focal_gamma"):
        fbsm_loss([torch.zeros(1, 1, 1, 1)], [NO_BOXES], [(4, 4)], None, [4], focal_gamma=-1)
