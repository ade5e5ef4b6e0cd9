"""The weighted losses of the box predictor, against Detectron2's own and against arithmetic."""

import logging
import math
from collections import Counter

import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling.box_regression import Box2BoxTransform
from detectron2.modeling.roi_heads import FastRCNNOutputLayers
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage

from efpnbs_d2.modeling.box_predictor import (
    DCFastRCNNOutputLayers,
    LabelledProposals,
    NWDFastRCNNOutputLayers,
    object_scale,
)
from efpnbs_d2.modeling.dc_loss import DCLoss, bin_totals, gradient_magnitude, scale_bin

CLASSES = 3
BOX_LOSSES = ("smooth_l1", "giou", "diou", "ciou", "nwd")


@pytest.fixture(autouse=True)
def storage():
    with EventStorage() as storage:
        yield storage


@pytest.fixture
def warnings_of(caplog, monkeypatch):
    """The messages logged since the test began, as if nothing had been warned of before."""
    monkeypatch.setattr("detectron2.utils.logger._LOG_COUNTER", Counter())
    caplog.set_level(logging.WARNING)
    return lambda: [record.message for record in caplog.records if "DCLoss" in record.message]


def options(*, num_classes=CLASSES, box_loss="smooth_l1", sigmoid=False, agnostic=False, **other):
    return {
        "input_shape": ShapeSpec(channels=8),
        "box2box_transform": Box2BoxTransform(weights=(10, 10, 5, 5)),
        "num_classes": num_classes,
        "box_reg_loss_type": box_loss,
        "smooth_l1_beta": 0.5,
        "use_sigmoid_ce": sigmoid,
        "cls_agnostic_bbox_reg": agnostic,
        **other,
    }


def make_stock(**kwargs):
    """Without DCLoss: Detectron2's own, unless it does not know the loss."""
    is_nwd = kwargs.get("box_loss") == "nwd"
    return (NWDFastRCNNOutputLayers if is_nwd else FastRCNNOutputLayers)(**options(**kwargs))


def make(dc_loss=None, **kwargs):
    return DCFastRCNNOutputLayers(**options(**kwargs), dc_loss=dc_loss or DCLoss())


def image(scales, num_background=4, *, num_classes=CLASSES, seed=0):
    """An image's sampled proposals, one near each of its objects, and its targets."""
    generator = torch.Generator().manual_seed(seed)
    scales = torch.tensor(scales, dtype=torch.float32)
    size = scales[:, None] * torch.tensor([0.8, 1.25])
    corner = 50 * torch.rand(len(scales), 2, generator=generator)
    target = Instances((100, 100))
    target.gt_boxes = Boxes(torch.cat([corner, corner + size], dim=1))
    target.gt_classes = torch.arange(len(scales)) % num_classes
    target.gt_scale = scales / 2  # the image was enlarged by 2
    near = target.gt_boxes.tensor + 0.1 * size.repeat(1, 2) * torch.rand(
        len(scales), 4, generator=generator
    )
    background = torch.tensor([[60.0, 60.0, 90.0, 90.0]]).repeat(num_background, 1)
    proposals = Instances((100, 100))
    proposals.proposal_boxes = Boxes(torch.cat([near, background]))
    is_background = torch.full((num_background,), num_classes)
    proposals.gt_classes = torch.cat([target.gt_classes, is_background])
    if len(target) > 0:
        proposals.gt_boxes = Boxes(torch.cat([target.gt_boxes.tensor, background]))
        proposals.gt_scale = torch.cat([target.gt_scale, torch.full((num_background,), 99.0)])
    return proposals, target


def batch(*images):
    proposals, targets = zip(*images, strict=True)
    return LabelledProposals(proposals, list(targets))


def mixed_batch(num_classes=CLASSES):
    """Scales of all four bins, more of the second; one image without objects."""
    first = image([10.0, 20.0, 24.0, 28.0, 30.0], num_classes=num_classes)
    second = image([50.0, 80.0, 14.0], num_classes=num_classes, seed=1)
    return batch(first, image([], num_classes=num_classes), second)


def outputs(predictor, proposals, seed=0):
    """Random logits (R, K + 1) and deltas, leaves of the graph."""
    torch.manual_seed(seed)
    count = sum(len(p) for p in proposals)
    logits = torch.randn(count, predictor.cls_score.out_features)
    deltas = torch.randn(count, predictor.bbox_pred.out_features)
    return logits.requires_grad_(), deltas.requires_grad_()


def losses_and_gradients(predictor, proposals, seed=0):
    """Both losses, and the gradient of each by its own outputs."""
    predictions = outputs(predictor, proposals, seed)
    torch.manual_seed(seed)
    losses = predictor.losses(predictions, proposals)
    gradients = torch.autograd.grad(sum(losses.values()), predictions)
    return losses, gradients


variants = pytest.mark.parametrize("box_loss", BOX_LOSSES)
variants_all = [
    {"box_loss": box_loss, "sigmoid": sigmoid, "agnostic": agnostic}
    for box_loss in BOX_LOSSES
    for sigmoid in (False, True)
    for agnostic in (False, True)
]


@pytest.mark.parametrize(
    "variant", [*variants_all, {"loss_weight": {"loss_box_reg": 2.0}}], ids=str
)
def test_strength_zero_is_the_stock_loss_bit_for_bit(variant):
    stock, ours = make_stock(**variant), make(DCLoss(strength=0.0), **variant)
    proposals = mixed_batch()
    expected, expected_gradients = losses_and_gradients(stock, list(proposals))
    found, gradients = losses_and_gradients(ours, proposals)
    for name, value in expected.items():
        assert torch.equal(found[name], value), name
    assert all(map(torch.equal, gradients, expected_gradients))
    assert ours.dc_loss.steps.item() == 0


@pytest.mark.parametrize(
    "variant", [*variants_all, {"loss_weight": {"loss_box_reg": 2.0}}], ids=str
)
def test_strength_1e_6_converges_to_the_stock_loss(variant):
    stock, ours = make_stock(**variant), make(DCLoss(strength=1e-6), **variant)
    proposals = mixed_batch()
    expected, expected_gradients = losses_and_gradients(stock, list(proposals))
    found, gradients = losses_and_gradients(ours, proposals)
    torch.testing.assert_close(found, expected, rtol=2e-5, atol=0)
    torch.testing.assert_close(gradients, expected_gradients, rtol=2e-5, atol=1e-9)
    assert ours.dc_loss.steps.item() == 1  # it was the weighted path


def test_losses_are_the_weighted_sums_over_all_proposals():
    """sum(w_i * loss_i) / R with w = 1 for background, written out from softmax and smooth-L1."""
    ours = make(DCLoss(strength=1.0, target="uniform"), loss_weight={"loss_box_reg": 3.0})
    proposals = mixed_batch()
    logits, deltas = outputs(ours, proposals)
    losses = ours.losses((logits, deltas), proposals)

    classes = torch.cat([p.gt_classes for p in proposals])
    foreground = classes < CLASSES
    scale = torch.cat([t.gt_scale for t in proposals.targets])
    bins = scale_bin(scale, torch.tensor([8.0, 16.0, 32.0]))
    assert bins.unique().tolist() == [0, 1, 2, 3]
    cls_weights, reg_weights = ours.dc_loss.weights()
    assert len(cls_weights.unique()) == 4

    weights = torch.ones(len(classes))
    weights[foreground] = cls_weights[bins]
    per_proposal = -logits.log_softmax(dim=1)[torch.arange(len(classes)), classes]
    torch.testing.assert_close(losses["loss_cls"], (weights * per_proposal).sum() / len(classes))

    per_object = []
    row = 0
    for p in proposals:
        for i in range(len(p)):
            if p.gt_classes[i] < CLASSES:
                wanted = ours.box2box_transform.get_deltas(
                    p.proposal_boxes.tensor[i : i + 1], p.gt_boxes.tensor[i : i + 1]
                )[0]
                error = (deltas[row].view(CLASSES, 4)[p.gt_classes[i]] - wanted).abs()
                beta = 0.5
                loss = torch.where(error < beta, error**2 / (2 * beta), error - beta / 2)
                per_object.append(loss.sum())
            row += 1
    expected = 3 * (reg_weights[bins] * torch.stack(per_object)).sum() / len(classes)
    torch.testing.assert_close(losses["loss_box_reg"], expected)


@pytest.mark.parametrize("variant", variants_all, ids=str)
def test_weights_scale_the_stock_gradient_and_are_constants(variant):
    stock, ours = make_stock(**variant), make(DCLoss(strength=1.0), **variant)
    proposals = mixed_batch()
    _, expected = losses_and_gradients(stock, list(proposals))
    _, found = losses_and_gradients(ours, proposals)
    foreground = torch.cat([p.gt_classes for p in proposals]) < CLASSES
    bins = scale_bin(torch.cat([t.gt_scale for t in proposals.targets]), ours.dc_loss.edges)
    for ours_gradient, stock_gradient, by_bin in zip(
        found, expected, ours.dc_loss.weights(), strict=True
    ):
        weights = torch.ones(len(foreground))
        weights[foreground] = by_bin[bins]
        assert not by_bin.requires_grad
        assert len(by_bin.unique()) > 2
        torch.testing.assert_close(
            ours_gradient, weights[:, None] * stock_gradient, rtol=1e-4, atol=1e-7
        )


@pytest.mark.parametrize("variant", variants_all, ids=str)
def test_observed_magnitudes_are_those_of_the_stock_loss(variant):
    """The totals per bin equal the L1 norms of the stock gradients, times stock's divisor R."""
    stock, ours = make_stock(**variant), make(**variant)
    proposals = mixed_batch()
    _, (by_logits, by_deltas) = losses_and_gradients(stock, list(proposals))
    losses_and_gradients(ours, proposals)
    classes = torch.cat([p.gt_classes for p in proposals])
    foreground = classes < CLASSES
    bins = scale_bin(torch.cat([t.gt_scale for t in proposals.targets]), ours.dc_loss.edges)
    # Half for classification, so that softmax gives 1 - p_y
    for found, stock_gradient in zip(
        ours.dc_loss.gradients(), (by_logits / 2, by_deltas), strict=True
    ):
        magnitude = stock_gradient[foreground].abs().sum(dim=1) * len(classes)
        torch.testing.assert_close(found, bin_totals(magnitude, bins, 4), rtol=1e-4, atol=1e-5)


@variants
def test_box_gradient_magnitudes_against_finite_differences(box_loss):
    """Of the *stock* loss of one proposal at a time, by central differences."""
    ours, stock = make(box_loss=box_loss), make_stock(box_loss=box_loss)
    proposals, _ = image([10.0, 24.0, 50.0, 80.0], num_background=0)
    boxes, gt_boxes = proposals.proposal_boxes.tensor, proposals.gt_boxes.tensor
    torch.manual_seed(0)
    deltas, step = torch.randn(4, 4), 1e-2
    found = gradient_magnitude(lambda x: ours._reg_losses(x, boxes, gt_boxes), deltas)

    def stock_loss(i, row):
        return stock.box_reg_loss(
            boxes[i : i + 1], gt_boxes[i : i + 1], row[None], proposals.gt_classes[i : i + 1]
        )

    # ciou's alpha is a constant to autograd but not to a difference
    tolerance = 0.05 if box_loss == "ciou" else 0.01
    for i in range(4):
        expected = 0.0
        for j in range(4):
            change = torch.zeros(4)
            change[j] = step
            row = deltas[i].repeat(CLASSES)
            change = change.repeat(CLASSES)
            difference = stock_loss(i, row + change) - stock_loss(i, row - change)
            expected += abs(difference.item()) / (2 * step)
        assert found[i].item() == pytest.approx(expected, rel=tolerance)


@pytest.mark.parametrize(
    ("target", "box_loss"),
    [("per_object", "giou"), ("uniform", "smooth_l1"), ("per_sample", "smooth_l1")],
)
def test_strength_one_brings_the_weighted_shares_to_the_target(target, box_loss):
    """The equilibrium, measured on the gradients that training would see."""
    for shares, wanted in equilibrium(target, box_loss, strength=1.0):
        assert (shares / wanted - 1).abs().max().item() < 0.02
    # At half strength, the log-imbalance between bins is half of the stock one
    for (half, wanted), (none, _) in zip(
        equilibrium(target, box_loss, strength=0.5),
        equilibrium(target, box_loss, strength=0.0),
        strict=True,
    ):
        before, after = (none / wanted).log(), (half / wanted).log()
        assert (before - before.mean()).abs().max() > 0.2  # there was something to balance
        torch.testing.assert_close(
            after - after.mean(), (before - before.mean()) / 2, rtol=0, atol=0.03
        )


def equilibrium(target, box_loss, strength):
    """Share of each bin in the weighted classification and box gradients, and the target shares.

    A constructed stationary imbalance: batches that vary, dominated by 8-16 px objects; the smaller
    the object, the more wrong its logits and deltas; eight very tiny objects without any proposal.
    """
    dc_loss = DCLoss(strength=strength, limit=math.inf, target=target, momentum=0.96)
    predictor = make(dc_loss, box_loss=box_loss, agnostic=True)
    generator = torch.Generator().manual_seed(1)
    scales = torch.tensor([12.0] * 8 + [20.0, 24.0, 28.0] * 16 + [50.0] * 12 + [90.0] * 8)
    sums, objects, samples = torch.zeros(2, 4), torch.zeros(4), torch.zeros(4)
    for step in range(130):
        chosen = scales[torch.rand(len(scales), generator=generator) < 0.7].tolist()
        proposals, instances = image(chosen, seed=step)
        targets = image(chosen + [12.0] * 8)[1]
        bins = scale_bin(instances.gt_scale, dc_loss.edges)
        logits, deltas = (x.detach() for x in outputs(predictor, [proposals], seed=step))
        logits[torch.arange(len(bins)), instances.gt_classes] += bins
        deltas[: len(bins)] *= 0.25 ** bins[:, None]
        predictions = (logits.requires_grad_(), deltas.requires_grad_())
        losses = predictor.losses(predictions, LabelledProposals([proposals], [targets]))
        if step < 50:  # let the averages settle
            continue
        gradients = torch.autograd.grad(sum(losses.values()), predictions)
        for i, gradient in enumerate(gradients):
            magnitude = gradient[: len(bins)].abs().sum(dim=1) * len(proposals)
            sums[i] += bin_totals(magnitude, bins, 4)
        objects += scale_bin(targets.gt_scale, dc_loss.edges).bincount(minlength=4)
        samples += bins.bincount(minlength=4)
    counts = {"per_object": objects, "uniform": torch.ones(4), "per_sample": samples}[target]
    return [(total / total.sum(), counts / counts.sum()) for total in sums]


def test_averages_stand_still_without_gradients():
    ours, proposals = make(DCLoss(strength=1.0)), mixed_batch()
    predictions = outputs(ours, proposals)
    with torch.no_grad():
        before = ours.losses(predictions, proposals)
    assert ours.dc_loss.steps.item() == 0  # and all weights are still 1
    stock = make_stock().losses(predictions, proposals)
    torch.testing.assert_close(before, stock)

    weighted = ours.losses(predictions, proposals)
    averages = ours.dc_loss.averages.clone()
    with torch.no_grad():
        after = ours.losses(predictions, proposals)
    assert torch.equal(ours.dc_loss.averages, averages)
    assert ours.dc_loss.steps.item() == 1
    torch.testing.assert_close(after, weighted)  # validation uses the weights of training
    assert not torch.isclose(after["loss_cls"], stock["loss_cls"])


@variants
def test_mixed_precision_is_finite_and_close_to_float32(box_loss):
    ours, proposals = make(box_loss=box_loss), mixed_batch()
    exact, _ = losses_and_gradients(make(box_loss=box_loss), proposals)
    predictions = [x.detach().bfloat16().requires_grad_() for x in outputs(ours, proposals)]
    with torch.autocast("cpu", torch.bfloat16):
        found = ours.losses(tuple(predictions), proposals)
    gradients = torch.autograd.grad(sum(found.values()), predictions)
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert all(value.dtype == torch.float32 for value in found.values())
    torch.testing.assert_close(found, exact, rtol=0.02, atol=0)
    assert ours.dc_loss.averages.dtype == torch.float32


@variants
@pytest.mark.parametrize("sigmoid", [False, True])
@pytest.mark.parametrize(
    "proposals",
    [
        batch(image([])),
        batch(image([], num_background=0)),
        batch(image([], num_background=0), image([], num_background=0)),
        batch(image([20.0], num_background=0)),
    ],
    ids=["all negative", "no proposal", "no proposal in two images", "all foreground"],
)
def test_degenerate_batches(box_loss, sigmoid, proposals):
    ours = make(box_loss=box_loss, sigmoid=sigmoid)
    losses, gradients = losses_and_gradients(ours, proposals)
    stock = make_stock(box_loss=box_loss, sigmoid=sigmoid)
    expected = stock.losses(outputs(stock, proposals), proposals)
    # One bin at most: nothing to balance
    torch.testing.assert_close(losses, expected)
    assert all(gradient.isfinite().all() for gradient in gradients)
    assert ours.dc_loss.steps.item() == 1
    assert ours.dc_loss.averages.isfinite().all()


@pytest.mark.parametrize("sigmoid", [False, True])
def test_a_single_class(sigmoid):
    ours = make(num_classes=1, sigmoid=sigmoid)
    losses, _ = losses_and_gradients(ours, mixed_batch(num_classes=1))
    assert all(value.isfinite() for value in losses.values())
    assert len(ours.dc_loss.weights()[0].unique()) == 4


def test_objects_without_proposals_reach_the_count():
    proposals, _ = image([20.0, 24.0])
    ours = make()
    targets = [image([20.0, 24.0, 10.0, 10.0, 10.0])[1]]
    losses_and_gradients(ours, LabelledProposals([proposals], targets))
    _, _, objects, samples = ours.dc_loss.averages / ours.dc_loss.averages[3].sum() * 2
    assert objects.tolist() == pytest.approx([3, 2, 0, 0])
    assert samples.tolist() == pytest.approx([0, 2, 0, 0])


def test_scale_falls_back_to_the_resized_box_with_one_warning(warnings_of):
    _, target = image([20.0, 50.0])
    assert object_scale(target).tolist() == [10, 25]
    target.remove("gt_scale")
    empty = image([])[1]
    empty.remove("gt_scale")
    assert object_scale(empty).tolist() == []
    assert warnings_of() == []
    torch.testing.assert_close(object_scale(target), torch.tensor([20.0, 50.0]))
    object_scale(target)
    assert len(warnings_of()) == 1
    assert "gt_scale" in warnings_of()[0]


def test_l1_warns_once_and_only_where_it_matters(warnings_of):
    make(smooth_l1_beta=0.5)
    make(smooth_l1_beta=0.0, box_loss="giou")
    make(DCLoss(strength=0.0), smooth_l1_beta=0.0)
    assert warnings_of() == []
    predictor = make(smooth_l1_beta=0.0)
    make(smooth_l1_beta=0.0)
    assert len(warnings_of()) == 1
    assert "smooth_l1_beta" in warnings_of()[0]
    # What it warns of: each magnitude is 4, whatever the error
    losses_and_gradients(predictor, batch(image([20.0, 50.0, 50.0])))
    assert predictor.dc_loss.gradients()[1].tolist() == pytest.approx([0, 4, 8, 0])


def test_plain_proposals_are_refused():
    proposals = mixed_batch()
    predictor = make()
    with pytest.raises(ValueError, match="DCROIHeads or DCCascadeROIHeads"):
        predictor.losses(outputs(predictor, proposals), list(proposals))


def test_unsupported_losses_are_refused_at_construction():
    with pytest.raises(ValueError, match=r"'l7'.*expected one of smooth_l1, giou, diou, ciou, nwd"):
        make(box_loss="l7")
    federated = {
        "use_fed_loss": True,
        "sigmoid": True,
        "get_fed_loss_cls_weights": lambda: torch.ones(CLASSES),
    }
    with pytest.raises(ValueError, match="federated loss"):
        make(**federated)
    make(DCLoss(strength=0.0), **federated)
    with pytest.raises(TypeError, match="smooth_l1_betta"):
        make(smooth_l1_betta=0.5)
