"""The stages of a training step: their seconds on a clock of ours, and that none is missed."""

import pytest

from efpnbs_d2.tools import bench_profile
from efpnbs_d2.tools.bench_profile import REST, Stopwatch, profile, shares


def test_a_stage_within_another_counts_for_itself_alone():
    """Neck 1 s, in it the ResNet 2 s, again the neck 4 s, and 8 s beside them."""
    now = [0.0]
    watch = Stopwatch("cpu", clock=lambda: now[0])

    def after(seconds):
        now[0] += seconds

    resnet = watch.timed("ResNet", after)
    with watch.stage("step"):
        with watch.stage("neck"):
            after(1)
            resnet(2)
            after(4)
        after(8)
    assert watch.seconds == {"step": 8, "neck": 5, "ResNet": 2}


def test_a_stage_that_fails_ends():
    watch = Stopwatch("cpu", clock=iter(range(9)).__next__)
    with watch.stage("step"):
        with pytest.raises(KeyError), watch.stage("broken"):
            raise KeyError
    assert watch.seconds == {"step": 2, "broken": 1}


def test_shares_are_of_each_step():
    """A stage that a step did not come to took 0 s of it."""
    found = shares([{"a": 1.0, "b": 3.0}, {"b": 8.0}])
    assert list(found) == [
        "step",
        *("step, b", "step, a"),
        *("share of the step, b", "share of the step, a"),
    ]
    assert found["step"].median == 6
    assert found["step, a"].median == 0.5
    assert found["share of the step, b"].median == pytest.approx((75 + 100) / 2)
    assert found["share of the step, b"].unit == "%"


def test_every_stage_of_a_step_is_seen(scenes, small_lazy, monkeypatch):
    """With masks and DCLoss; what the clock finds is no test, but nothing stays patched."""
    monkeypatch.setattr(
        bench_profile, "load_config", lambda path, overrides: small_lazy(*overrides)
    )
    found, device = profile("the demo's", ["train.device=cpu"], steps=1)
    stages = {name.removeprefix("step, ") for name in found if name.startswith("step, ")}
    trainers = {"data", "backward", "clipping", "optimizer", REST}
    assert stages == {*bench_profile._DETECTOR_STAGES, *trainers}
    assert all(one.median > 0 for one in found.values()) and device == "cpu"
    percent = sum(one.median for name, one in found.items() if name.startswith("share of"))
    assert percent == pytest.approx(100)
    assert bench_profile.torch.Tensor.backward.__name__ == "backward"


def test_yacs_recipes_are_profiled_too(scenes, small_yacs, monkeypatch):
    monkeypatch.setattr(
        bench_profile, "load_config", lambda path, overrides: small_yacs(*overrides)
    )
    found, _ = profile("the demo's", ["MODEL.DEVICE=cpu"], steps=1)
    assert found["step, ResNet"].median > 0
