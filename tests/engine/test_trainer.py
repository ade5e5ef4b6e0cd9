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
    trainer = _trainer([2.0])
    root = trainer.model.w
    root.register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(FloatingPointError, match="gradient is not finite; losses: loss_line = 2"):
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
