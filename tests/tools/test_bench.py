"""The benchmarks run whole on a small detector; what they find is no test, what they compare is."""

import json

import pytest
import torch

from efpnbs_d2.tools import bench, bench_detectors, bench_suites
from efpnbs_d2.tools.bench_detectors import DETECTORS, EFPN_BS, EVERYTHING, FPN, Setting
from efpnbs_d2.tools.bench_suites import SUITES, Effort, Found
from efpnbs_d2.tools.bench_turns import Measurement
from efpnbs_d2.tools.sample_boxes import Sizes

SETTING = Setting(18, (64, 64), 1, "cpu", narrow=True)
TINY = Effort(
    *(18, 64, 1, 1, 1, 1, 0.05, Sizes(2, 20, 40, 2), 1, (512, 640)), compiles=False, narrow=True
)
STUB = Measurement(1.5, 1.4, 1.6, 5, "x")


@pytest.fixture
def no_processes(monkeypatch):
    """Processes of their own take long to start: 1 GB for detection and 2 GB for training."""
    peaks = {"inference": 1.0, "training": 2.0}
    monkeypatch.setattr(bench_suites, "in_fresh_process", lambda function, *args: peaks)


@pytest.fixture
def no_windows(monkeypatch):
    """Detection window by window has a test of its own."""
    runs = {"bare model": [(9, 2.0, 1.0)], "TiledPredictor": [(9, 3.0, 1.0)]}
    monkeypatch.setattr(bench_suites.bench_tiled, "detector", lambda *args: None)
    monkeypatch.setattr(bench_suites.bench_tiled, "measure", lambda task, rounds: runs)


@pytest.fixture
def without_sahi(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)


def test_detectors_differ_in_what_they_are_named_for_and_share_weights():
    detectors = SETTING.build(list(DETECTORS))
    stock = detectors[FPN].state_dict()
    for name, detector in detectors.items():
        own = detector.state_dict()
        assert all(torch.equal(value, own[key]) for key, value in stock.items())
        assert ("E-FPN-BS" in name) == (type(detector.backbone).__name__ == "EFPNBS")
        assert ("DCLoss" in name) == hasattr(detector.roi_heads.box_predictor, "dc_loss")
        assert ("supervised" in name) == (getattr(detector, "fbsm_loss_weight", 0) > 0)


def test_a_training_step_leaves_the_weights_and_computes_every_gradient():
    detector = SETTING.build([EVERYTHING])[EVERYTHING]
    before = {name: value.clone() for name, value in detector.named_parameters()}
    bench_detectors.training_step(detector, SETTING)()
    for name, value in detector.named_parameters():
        assert torch.equal(value, before[name]), name
        assert not value.requires_grad or value.grad is not None, name


def test_detection_is_in_evaluation_mode_and_in_the_precision_asked_for():
    detector = SETTING.build([EFPN_BS])[EFPN_BS].train()
    seen = []
    detector.roi_heads.box_head.register_forward_hook(
        lambda module, inputs, output: seen.append((module.training, output.dtype))
    )
    bench_detectors.detection(detector, SETTING)()
    bench_detectors.detection(detector, SETTING, precision=torch.bfloat16)()
    assert seen == [(False, torch.float32), (False, torch.bfloat16)]


def test_every_suite_compares_with_its_reference(no_processes, no_windows, without_sahi, capsys):
    report = bench.run(TINY, "cpu", list(SUITES))
    ratios = {name for name, found in report.measurements.items() if found.unit == "x"}
    for expected in (
        "detector FLOPs: E-FPN-BS / FPN",
        "backbone inference: E-FPN-BS / FPN",
        "training step: FPN, DCLoss / FPN",
        "training step: E-FPN-BS, masks supervised / FPN",
        "memory of training: E-FPN-BS / FPN",
        "training step of E-FPN-BS: channels last / float32",
        "inference of E-FPN-BS: bfloat16 / float32",
        "mapper, an image: ours, cropped / stock, cropped",
        "matching: RFLA (900 objects) / Detectron2, IoU (50 objects)",
        "evaluation: ours / pycocotools",
        "tiled inference: TiledPredictor / bare model",
    ):
        assert expected in ratios
    assert report.measurements["memory of training: E-FPN-BS"].median == 2
    assert report.measurements["tiled inference: TiledPredictor / bare model"].median == 1.5
    printed = capsys.readouterr().out
    assert all(name in printed for name in report.measurements)
    assert report.skipped["tiled inference: SAHI"] == "not installed: pip install sahi"
    assert "SAHI skipped: not installed" in printed


def test_what_the_machine_cannot_do_is_skipped_and_said():
    def fail():
        raise NotImplementedError("no kernel\nfor it")

    calls, skipped = {"float32": lambda: None, "odd": fail}, {}
    found = bench_suites._supported("step", calls, TINY, "cpu", skipped)
    assert list(found) == ["step: float32"]
    assert skipped == {"step: odd": "NotImplementedError: no kernel"}
    with pytest.raises(NotImplementedError):
        bench_suites._supported("step", {"float32": fail}, TINY, "cpu", {})


def test_a_quick_run_says_what_it_leaves_out(monkeypatch):
    assert "memory" in bench_suites.peak_memory(bench_suites.QUICK, "cpu").skipped
    assert not bench_suites.QUICK.compiles and bench_suites.FULL.compiles


@pytest.fixture
def stub_suite(monkeypatch):
    efforts = []

    def stub(effort, device):
        """A stub."""
        efforts.append((effort, device))
        return Found({"stub / stock": STUB}, {"other": "not here"})

    monkeypatch.setattr(bench, "SUITES", {"stub": stub})
    return efforts


def test_command_writes_compares_and_shows(tmp_path, capsys, stub_suite):
    output = tmp_path / "bench.json"
    bench.main(["--quick", "--output", str(output)])
    assert stub_suite == [(bench_suites.QUICK, "cpu")]
    assert json.loads(output.read_text())["measurements"]["stub / stock"]["median"] == 1.5
    printed = capsys.readouterr().out
    assert "narrow R18, 256x256 px" in printed and "other skipped: not here" in printed
    bench.main([])
    assert stub_suite[1][0] is bench_suites.FULL
    capsys.readouterr()
    bench.main(["--compare", str(output), str(output)])
    assert "1.500     1.500       1.000" in capsys.readouterr().out
    bench.main(["--markdown", str(output)])
    assert "| stub / stock | 1.500 | 1.400 to 1.600 | 5 |" in capsys.readouterr().out


def test_profile_is_written_in_the_same_form(tmp_path, capsys, monkeypatch):
    asked = []

    def stub(config, overrides, steps):
        asked.append((config, overrides))
        return {"step": STUB}, "cpu"

    monkeypatch.setattr(bench, "profile", stub)
    output = tmp_path / "profile.json"
    bench.main(["--output", str(output), "--profile", "a.py", "train.seed=1"])
    assert asked == [("a.py", ["train.seed=1"])]
    assert json.loads(output.read_text())["setting"] == "training step of a.py train.seed=1"
    assert "training step of a.py train.seed=1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--compare", "none.json", "none.json"], "none.json"),
        (["--markdown", "none.json"], "none.json"),
        (["--profile", "none.py"], "none.py"),
        (["train.seed=1"], "are for --profile"),
    ],
)
def test_mistakes_end_in_one_sentence(options, message):
    with pytest.raises(SystemExit) as stopped:
        bench.main(options)
    assert message in str(stopped.value) and str(stopped.value).startswith("error: ")


def test_a_missing_gpu_is_said(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="error: --device cuda: no GPU was found"):
        bench.main(["--device", "cuda"])
