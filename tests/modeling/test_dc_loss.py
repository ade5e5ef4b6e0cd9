"""The pure functions of DCLoss, and its state."""

import inspect
import math

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.utils.events import EventStorage
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from efpnbs_d2.config import add_efpnbs_config
from efpnbs_d2.modeling.dc_loss import (
    DCLoss,
    bin_names,
    bin_totals,
    bin_weights,
    gradient_magnitude,
    scale_bin,
    target_share,
)

EDGES = torch.tensor([8.0, 16.0, 32.0])


@pytest.fixture(autouse=True)
def storage():
    with EventStorage() as storage:
        yield storage


def observe(dc_loss, scale, gradient=None, reg_gradient=None, objects=None):
    """One batch whose proposals have the given scales; by default each is an object of its own."""
    scale = torch.tensor(scale, dtype=torch.float32)
    gradient = torch.ones(len(scale)) if gradient is None else torch.tensor(gradient)
    dc_loss.observe(
        cls_gradient=gradient,
        reg_gradient=gradient if reg_gradient is None else torch.tensor(reg_gradient),
        scale=scale,
        object_scale=scale if objects is None else torch.tensor(objects),
    )


def test_a_scale_on_an_edge_belongs_to_the_lower_bin():
    scale = torch.tensor([0.0, 7.9, 8.0, 8.1, 16.0, 16.1, 32.0, 32.1, 1e6])
    assert scale_bin(scale, EDGES).tolist() == [0, 0, 0, 1, 1, 2, 2, 3, 3]
    # A 4 x 16 box has AI-TOD's area bound of 8^2 exactly
    assert scale_bin(torch.tensor([4.0 * 16.0]).sqrt(), EDGES).tolist() == [0]


def test_bins_have_aitod_names_only_for_aitod_edges():
    assert bin_names((8, 16, 32)) == ("very_tiny", "tiny", "small", "medium")
    assert bin_names((10, 20.5)) == ("below_10", "10_to_20.5", "above_20.5")
    assert bin_names((12,)) == ("below_12", "above_12")


def test_bin_totals():
    totals = bin_totals(torch.tensor([1.0, 2.0, 4.0]), torch.tensor([2, 0, 2]), 4)
    assert totals.tolist() == [2, 0, 5, 0]
    assert bin_totals(torch.zeros(0), torch.zeros(0, dtype=torch.long), 2).tolist() == [0, 0]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_gradient_magnitude_of_softmax_is_twice_one_minus_p(dtype):
    torch.manual_seed(0)
    logits = (3 * torch.randn(6, 5)).to(dtype).requires_grad_()
    classes = torch.tensor([0, 1, 2, 3, 0, 1])
    # As in training: mixed precision outside, and here even gradients disabled
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        found = gradient_magnitude(
            lambda x: functional.cross_entropy(x, classes, reduction="none"), logits
        )
    p = logits.detach().float().softmax(dim=1)[torch.arange(6), classes]
    assert found.dtype == torch.float32
    assert not found.requires_grad
    torch.testing.assert_close(found, 2 * (1 - p))
    assert logits.grad is None


def test_gradient_magnitude_of_sigmoid():
    logits, onehot = torch.tensor([[0.0, math.log(3)]]), torch.tensor([[1.0, 0.0]])
    found = gradient_magnitude(
        lambda x: functional.binary_cross_entropy_with_logits(x, onehot, reduction="none").sum(1),
        logits,
    )
    # sigmoid = (1/2, 3/4), so |1/2 - 1| + |3/4 - 0|
    torch.testing.assert_close(found, torch.tensor([1.25]))


def test_weights_by_hand():
    gradient, target = torch.tensor([1.0, 3.0]), torch.tensor([0.5, 0.5])
    # Shares 1/4 and 3/4: ratios 2 and 2/3 already keep the total, 2 * 1 + 2/3 * 3 = 4
    full = bin_weights(gradient, target, strength=1, limit=math.inf)
    torch.testing.assert_close(full, torch.tensor([2.0, 2 / 3]))
    # Square roots 1.414 and 0.816 make 3.864, so the factor is 4 / 3.864
    half = bin_weights(gradient, target, strength=0.5, limit=math.inf)
    factor = 4 / (2**0.5 + 3 * (2 / 3) ** 0.5)
    torch.testing.assert_close(half, factor * torch.tensor([2**0.5, (2 / 3) ** 0.5]))
    # Clipped from both sides
    clipped = bin_weights(gradient, target, strength=1, limit=1.25)
    torch.testing.assert_close(clipped, torch.tensor([1.25, 0.8]))


def test_bins_never_seen_have_weight_one_and_are_left_out():
    nothing = bin_weights(torch.zeros(3), torch.zeros(3), strength=0.5, limit=4)
    assert nothing.tolist() == [1, 1, 1]
    # Bin 0 has objects but no sampled proposal: the other two are as if it did not exist, its
    # share of the target included.
    gradient, target = torch.tensor([0.0, 1.0, 3.0]), torch.tensor([0.8, 0.1, 0.1])
    found = bin_weights(gradient, target, strength=1, limit=math.inf)
    torch.testing.assert_close(found, torch.tensor([1.0, 2.0, 2 / 3]))


positive = st.lists(st.floats(1e-3, 1e3), min_size=4, max_size=4).map(torch.tensor)


@given(gradient=positive, objects=positive, strength=st.floats(0, 1))
def test_weights_keep_the_total_gradient_before_clipping(gradient, objects, strength):
    weights = bin_weights(gradient, objects, strength=strength, limit=math.inf)
    torch.testing.assert_close((weights * gradient).sum(), gradient.sum())


@given(gradient=positive, objects=positive, strength=st.floats(0, 1), limit=st.floats(1, 10))
def test_weights_stay_within_the_limit(gradient, objects, strength, limit):
    weights = bin_weights(gradient, objects, strength=strength, limit=limit)
    assert (weights <= limit * 1.0001).all()
    assert (weights >= 1 / limit * 0.9999).all()


@given(gradient=positive, objects=positive)
def test_half_strength_halves_the_log_imbalance(gradient, objects):
    """Log-imbalance: log(weighted share / target share) of one bin less that of another."""

    def imbalance(strength):
        weights = bin_weights(gradient, objects, strength=strength, limit=math.inf)
        return (weights * gradient / objects).log().diff()

    torch.testing.assert_close(imbalance(0.5), imbalance(0) / 2, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(imbalance(1), torch.zeros(3), rtol=0, atol=1e-3)


def test_target_shares():
    objects, samples = torch.tensor([1.0, 3.0]), torch.tensor([1.0, 9.0])
    assert target_share("per_object", objects=objects, samples=samples).tolist() == [0.25, 0.75]
    torch.testing.assert_close(
        target_share("per_sample", objects=objects, samples=samples), torch.tensor([0.1, 0.9])
    )
    assert target_share("uniform", objects=objects, samples=samples).tolist() == [0.5, 0.5]
    none = target_share("per_object", objects=torch.zeros(2), samples=torch.zeros(2))
    assert none.tolist() == [0, 0]


def test_direction_of_each_target_when_8_to_16_px_objects_dominate():
    """10 objects per bin but 70 of 8-16 px; assignment gives the smallest too few proposals.

    Proposals per object: 1 under 8 px, 3 from 8 to 16 px, 4 above. Gradient per proposal: 0.8 in
    the smallest bin, which is learnt worst, else 0.5.
    """
    objects = [5.0] * 10 + [12.0] * 70 + [24.0] * 10 + [40.0] * 10
    scale = [5.0] * 10 + [12.0] * 210 + [24.0] * 40 + [40.0] * 40
    gradient = [0.8] * 10 + [0.5] * 290
    found = {}
    for target in ("per_object", "uniform", "per_sample"):
        dc_loss = DCLoss(target=target)
        observe(dc_loss, scale, gradient, objects=objects)
        found[target] = dict(zip(dc_loss.bin_names, dc_loss.weights()[0].tolist(), strict=True))
    # Every object pulls equally: up where an object gets few proposals, down where it gets many
    assert found["per_object"]["very_tiny"] > 1.3
    assert 0.95 < found["per_object"]["tiny"] < 1.05
    assert found["per_object"]["small"] < 0.95
    # Every bin pulls equally: the dominating bin goes down by a third, all others up
    assert found["uniform"]["tiny"] < 0.7
    assert all(found["uniform"][name] > 1.2 for name in ("very_tiny", "small", "medium"))
    # Every proposal pulls equally: only the larger gradient of the smallest bin is undone
    assert found["per_sample"]["very_tiny"] < 0.9
    assert 1 < found["per_sample"]["tiny"] < 1.05


def test_averages_are_bias_corrected():
    dc_loss = DCLoss(momentum=0.9)
    assert dc_loss.weights()[0].tolist() == [1, 1, 1, 1]  # before the first batch
    observe(dc_loss, [5.0, 12.0], [2.0, 4.0], [6.0, 8.0])
    torch.testing.assert_close(
        dc_loss.gradients(), torch.tensor([[2.0, 4.0, 0.0, 0.0], [6.0, 8.0, 0.0, 0.0]])
    )
    observe(dc_loss, [5.0], [8.0], [6.0])
    # (0.9 * 0.1 * 2 + 0.1 * 8) / (1 - 0.9^2), and 0.09 * 4 / 0.19
    expected = torch.tensor([[0.98 / 0.19, 0.36 / 0.19, 0, 0], [6.0, 0.72 / 0.19, 0, 0]])
    torch.testing.assert_close(dc_loss.gradients(), expected)
    assert dc_loss.steps.item() == 2


def test_a_batch_with_one_bin_does_not_cancel_its_own_weight():
    dc_loss = DCLoss(strength=1.0, limit=math.inf, target="uniform")
    for _ in range(100):
        observe(dc_loss, [5.0, 12.0, 12.0, 12.0])
    observe(dc_loss, [5.0])
    # Shares 1/4 and 3/4 give weights 2 and 2/3; one batch of 100 hardly moves them
    assert dc_loss.weights()[0][:2].tolist() == pytest.approx([2, 2 / 3], rel=0.05)


def test_objects_without_proposals_count():
    dc_loss = DCLoss(strength=1.0, limit=math.inf, target="per_object")
    observe(dc_loss, [5.0, 12.0], objects=[5.0] * 3 + [12.0])
    # Equal gradients, three quarters of the objects in bin 0: w = (3/4) / (1/2) and (1/4) / (1/2)
    assert dc_loss.weights()[0].tolist() == pytest.approx([1.5, 0.5, 1, 1])


def test_empty_batches_are_counted_and_harmless():
    dc_loss = DCLoss()
    observe(dc_loss, [], [], objects=[])
    assert dc_loss.steps.item() == 1
    assert dc_loss.weights()[0].tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_non_finite_batch_leaves_the_state_alone(bad):
    dc_loss = DCLoss()
    observe(dc_loss, [5.0, 12.0], [1.0, 2.0])
    before = {name: value.clone() for name, value in dc_loss.state_dict().items()}
    observe(dc_loss, [5.0, 12.0], [bad, 2.0])
    for name, value in dc_loss.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_scalars_are_logged(storage):
    dc_loss = DCLoss(strength=1.0, target="uniform")
    observe(dc_loss, [5.0, 12.0, 12.0, 12.0], reg_gradient=[3.0, 1.0, 1.0, 1.0])
    logged = {name: value for name, (value, _) in storage.latest().items()}
    assert len(logged) == 16
    assert logged["dc_loss/cls_share/very_tiny"] == pytest.approx(0.25)
    assert logged["dc_loss/cls_weight/very_tiny"] == pytest.approx(2)
    assert logged["dc_loss/reg_share/tiny"] == pytest.approx(0.5)
    assert logged["dc_loss/reg_weight/tiny"] == pytest.approx(1)
    assert logged["dc_loss/cls_share/medium"] == 0
    assert logged["dc_loss/cls_weight/medium"] == 1


def test_state_survives_a_checkpoint(tmp_path):
    first = DCLoss(strength=1.0, target="per_object")
    for scale in ([5.0, 12.0, 12.0], [12.0, 40.0]):
        observe(first, scale, objects=[5.0, 5.0, 12.0, 40.0])
    assert set(first.state_dict()) == {"averages", "steps"}
    torch.save(first.state_dict(), tmp_path / "state.pth")
    second = DCLoss(strength=1.0, target="per_object")
    second.load_state_dict(torch.load(tmp_path / "state.pth"))
    assert not torch.equal(second.weights()[0], torch.ones(4))
    for dc_loss in (first, second):
        observe(dc_loss, [5.0, 24.0])
    for a, b in zip(first.weights(), second.weights(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("strength", -0.1),
        ("strength", 1.5),
        ("strength", math.nan),
        ("target", "per_image"),
        ("bin_edges", ()),
        ("bin_edges", (0.0, 8.0)),
        ("bin_edges", (16.0, 8.0)),
        ("bin_edges", (8.0, math.inf)),
        ("momentum", 1.0),
        ("momentum", -0.5),
        ("limit", 0.5),
        ("limit", math.nan),
    ],
)
def test_bad_options_are_named(option, value):
    with pytest.raises(ValueError, match=f"DCLoss option {option} is .*, expected "):
        DCLoss(**{option: value})


def test_yacs_defaults_are_those_of_the_signature():
    cfg = get_cfg()
    add_efpnbs_config(cfg)
    found = {**DCLoss.from_config(cfg), "bin_edges": tuple(cfg.MODEL.DC_LOSS.BIN_EDGES)}
    parameters = inspect.signature(DCLoss).parameters.values()
    assert found == {parameter.name: parameter.default for parameter in parameters}


def test_every_yacs_key_reaches_the_module():
    cfg = get_cfg()
    add_efpnbs_config(cfg)
    values = {
        "STRENGTH": 0.7,
        "TARGET": "uniform",
        "BIN_EDGES": [10.0, 20.0],
        "MOMENTUM": 0.5,
        "LIMIT": math.inf,
    }
    assert set(values) == set(cfg.MODEL.DC_LOSS)
    cfg.MODEL.DC_LOSS.update(values)
    dc_loss = DCLoss(cfg)
    assert (dc_loss.strength, dc_loss.target, dc_loss.momentum) == (0.7, "uniform", 0.5)
    assert dc_loss.limit == math.inf
    assert dc_loss.edges.tolist() == [10, 20]
