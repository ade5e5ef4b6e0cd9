"""The training step stops at a non-finite loss before any weight has changed."""

import pytest
import torch
from detectron2.utils.events import EventStorage
from torch import nn

from efpnbs_d2.engine.recipe import LazyRecipe
from efpnbs_d2.engine.trainer import TinyTrainer


class Line(nn.Module):
    """loss = w * x, so that its gradient is x."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.tensor(1.0))

    def forward(self, batch):
        x = torch.tensor([sample["x"] for sample in batch])
        return {"loss_line": (self.w * x).sum(), "loss_other": self.w * 0}


def _trainer(values, **options):
    model = Line()
    loader = [[{"x": float(v), "file_name": f"image_{v}.png"}] for v in values]
    return TinyTrainer(model, loader, torch.optim.SGD(model.parameters(), lr=0.1), **options)


def _run(trainer, steps):
    with EventStorage(0) as trainer.storage:
        for trainer.iter in range(steps):
            trainer.run_step()


def test_a_step_follows_the_gradient():
    trainer = _trainer([2.0])
    _run(trainer, 1)
    assert trainer.model.w.item() == pytest.approx(1.0 - 0.1 * 2.0)


def test_the_gradient_is_clipped_to_its_norm():
    trainer = _trainer([30.0], clip_grad_norm=3.0)
    _run(trainer, 1)
    assert trainer.model.w.item() == pytest.approx(1.0 - 0.1 * 3.0)


@pytest.mark.parametrize("bad", ["nan", "inf"])
def test_a_non_finite_loss_stops_with_iteration_loss_and_files(bad):
    trainer = _trainer([2.0, bad])
    message = f"iteration 1: .*loss_line = {bad}, loss_other = .*; images: image_{bad}.png"
    with pytest.raises(FloatingPointError, match=message):
        _run(trainer, 2)
    assert trainer.model.w.item() == pytest.approx(0.8)  # the first step only


def test_a_non_finite_gradient_does_not_reach_the_weights():
    trainer = _trainer([2.0, 3.0], accumulation=2)
    root = trainer.model.w
    root.register_hook(lambda gradient: gradient * float("nan"))
    what = "gradient is not finite; losses: loss_line = 2.5, .*: image_2.0.png, image_3.0.png"
    with pytest.raises(FloatingPointError, match=what):
        _run(trainer, 1)
    assert root.item() == 1.0


def test_a_detector_whose_predictions_diverge_names_its_images(scenes, small_lazy):
    recipe = LazyRecipe(small_lazy())
    model = recipe.build_model()
    with torch.no_grad():
        model.proposal_generator.rpn_head.objectness_logits.bias.fill_(float("nan"))
    trainer = TinyTrainer(model, recipe.build_train_loader(), recipe.build_optimizer(model))
    with pytest.raises(FloatingPointError, match=r"iteration 0: predictions are .*\.png"):
        _run(trainer, 1)


@pytest.mark.parametrize("precision", [None, "bfloat16"])
def test_mixed_precision_pools_float32_features(scenes, small_lazy, precision):
    recipe = LazyRecipe(small_lazy())
    model = recipe.build_model()
    seen = []
    model.roi_heads.box_pooler.register_forward_hook(
        lambda pooler, inputs, output: seen.append(inputs[0][0].dtype)
    )
    model.roi_heads.box_head.register_forward_hook(
        lambda head, inputs, output: seen.append(output.dtype)
    )
    loader, optimizer = recipe.build_train_loader(), recipe.build_optimizer(model)
    _run(TinyTrainer(model, loader, optimizer, amp_dtype=precision), 1)
    assert seen == [torch.float32, torch.bfloat16 if precision else torch.float32]


def test_a_run_goes_on_with_another_precision():
    plain, scaled = _trainer([1.0]), _trainer([1.0], amp_dtype="float16")
    for trainer in (plain, scaled):
        trainer.iter = 0
    scaled.load_state_dict(plain.state_dict())
    plain.load_state_dict(scaled.state_dict())


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="'float16' or 'bfloat16', got 'half'"):
        _trainer([1.0], amp_dtype="half")


def test_bfloat16_trains():
    trainer = _trainer([2.0], amp_dtype="bfloat16")
    _run(trainer, 1)
    assert trainer.model.w.item() == pytest.approx(0.8, abs=1e-2)


def test_accumulation_follows_the_mean_gradient_of_its_parts():
    trainer = _trainer([2.0, 4.0, 1.0, 1.0], accumulation=2)
    _run(trainer, 1)
    assert trainer.model.w.item() == pytest.approx(1.0 - 0.1 * 3.0)
    assert trainer.storage.latest()["total_loss"][0] == pytest.approx(3.0)
    _run(trainer, 1)
    assert trainer.model.w.item() == pytest.approx(0.7 - 0.1 * 1.0)


def test_a_bad_part_stops_the_step_before_any_weight_has_changed():
    trainer = _trainer([2.0, "nan"], accumulation=2)
    with pytest.raises(FloatingPointError, match="images: image_nan.png"):
        _run(trainer, 1)
    assert trainer.model.w.item() == 1.0


def test_a_step_without_batches_is_refused():
    with pytest.raises(ValueError, match="at least one batch, got accumulation 0"):
        _trainer([1.0], accumulation=0)


class Dice(Line):
    """A model that rolls dice: its loss is the random number times w."""

    def forward(self, batch):
        return {"loss_dice": self.w * torch.rand(())}


def test_the_random_numbers_of_a_step_depend_on_seed_and_iteration_alone():
    def losses(first, *, seed=0):
        trainer = _trainer([1.0] * 4, seed=seed)
        trainer.model = Dice()
        found = []
        with EventStorage(0) as trainer.storage:
            for trainer.iter in range(first, 4):
                torch.rand(trainer.iter)  # what came before must not matter
                trainer.run_step()
                found.append(trainer.storage.latest()["total_loss"][0])
        return found

    assert losses(2) == losses(0)[2:]
    assert len(set(losses(0))) == 4
    assert losses(0) != losses(0, seed=1)


def test_processes_and_parts_draw_different_numbers(monkeypatch):
    def losses(rank):
        monkeypatch.setattr("detectron2.utils.comm.get_rank", lambda: rank)
        trainer = _trainer([1.0] * 2, accumulation=2)
        trainer.model = Dice()
        rolled = []
        trainer.model.register_forward_hook(
            lambda *call: rolled.append(call[2]["loss_dice"].item())
        )
        _run(trainer, 1)
        return rolled

    assert len({*losses(0), *losses(1)}) == 4


def test_clipping_sees_the_gradient_without_its_loss_scale():
    trainer = _trainer([30.0], amp_dtype="float16", clip_grad_norm=3.0)
    _run(trainer, 1)
    assert trainer.storage.latest()["grad_norm"][0] == pytest.approx(30.0)
    assert trainer.model.w.item() == pytest.approx(1.0 - 0.1 * 3.0)


def test_float16_skips_overflows_but_not_for_ever():
    trainer = _trainer([1.0] * 100, amp_dtype="float16")
    trainer.model.w.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(FloatingPointError, match="iteration 26: the gradient is not finite"):
        _run(trainer, 100)  # 2^16 is halved 26 times
    assert trainer.model.w.item() == 1.0


def test_the_loss_scale_survives_a_checkpoint():
    first, second = (_trainer([1.0], amp_dtype="float16") for _ in range(2))
    _run(first, 1)
    first.grad_scaler.update(128.0)
    second.load_state_dict(first.state_dict())
    assert second.grad_scaler.get_scale() == 128.0


def test_a_stock_loader_is_said_to_start_anew(caplog):
    trainer = _trainer([1.0])
    trainer.start_iter = 3
    trainer.before_train()
    assert "list starts anew" in caplog.text
