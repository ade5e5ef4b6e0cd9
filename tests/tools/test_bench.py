"""The benchmarks run whole on a small detector; what they find is no test, what they compare is."""

import json
from types import SimpleNamespace

import pytest
import torch

from efpnbs_d2.tools import bench, bench_detectors, bench_suites
from efpnbs_d2.tools.bench_detectors import DETECTORS, EFPN_BS, EVERYTHING, FPN, Setting
from efpnbs_d2.tools.bench_profile import shares
from efpnbs_d2.tools.bench_report import Report, markdown
from efpnbs_d2.tools.bench_suites import SUITES, Effort, Found
from efpnbs_d2.tools.bench_turns import Measurement
from efpnbs_d2.tools.sample_boxes import Sizes

SETTING = Setting(18, (64, 64), 1, "cpu", narrow=True)
TINY = Effort(
    *(18, 64, 1, 1, 1, 1, 0.05, Sizes(2, 20, 40, 2), 1, (512, 640)), compiles=False, narrow=True
)
STUB = Measurement(1.5, 1.4, 1.6, 5, "x")


@pytest.fixture
def in_this_process(monkeypatch):
    """Processes of their own take long to start; test_memory.py has some."""
    monkeypatch.setattr(bench, "in_fresh_process", lambda function, *args: function(*args))


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


def test_complexity_and_training_run_whole(in_this_process, capsys):
    report = bench.run(TINY, "cpu", ["complexity", "training"])
    ratios = {name for name, found in report.measurements.items() if found.unit == "x"}
    assert ratios == {
        *(f"{part} FLOPs: E-FPN-BS / FPN" for part in ("detector", "backbone")),
        *(f"{part} inference: E-FPN-BS / FPN" for part in ("detector", "backbone")),
        *(f"training step: {name} / FPN" for name in DETECTORS if name != FPN),
    }
    printed = capsys.readouterr().out
    assert all(name in printed for name in report.measurements)


def test_the_other_suites_compare_with_their_references(monkeypatch):
    """On stubs; the single benchmarks have tests of their own."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    peaks = {"inference": 1.0, "training": 2.0}
    monkeypatch.setattr(bench_suites, "in_fresh_process", lambda function, *args: peaks)
    stubs = {
        bench_suites.bench_mapper: {"stock, cropped": [2.0], "ours, cropped": [1.0]},
        bench_suites.bench_matching: {("Detectron2, IoU", 50): [1.0], ("RFLA", 900): [4.0]},
        bench_suites.bench_evaluation: {"ours": [1.0], "pycocotools": [10.0]},
        bench_suites.bench_tiled: {
            "bare model": [(9, 2.0, 1.0)],
            "TiledPredictor": [(9, 3.0, 1.0)],
        },
    }
    for module, found in stubs.items():
        monkeypatch.setattr(module, "measure", lambda *args, found=found: found)
    monkeypatch.setattr(bench_suites.bench_tiled, "detector", lambda *args: None)
    measured, skipped = {}, {}
    for name in ("memory", "mapper", "matching", "evaluation", "tiled"):
        suite = SUITES[name](TINY, "cpu")
        measured |= {what: found.median for what, found in suite.measurements.items()}
        skipped |= suite.skipped
    assert {what: ratio for what, ratio in measured.items() if " / " in what} == {
        "memory of inference: E-FPN-BS / FPN": 1,
        "memory of training: E-FPN-BS / FPN": 1,
        f"memory of training: {EVERYTHING} / FPN": 1,
        "mapper, an image: ours, cropped / stock, cropped": 0.5,
        "matching: RFLA (900 objects) / Detectron2, IoU (50 objects)": 4,
        "evaluation: ours / pycocotools": 0.1,
        "tiled inference: TiledPredictor / bare model": 1.5,
    }
    assert measured["memory of training: E-FPN-BS"] == 2
    assert skipped == {
        "evaluation: faster-coco-eval": "not installed: pip install '.[dev]'",
        "tiled inference: SAHI": "not installed: pip install sahi",
    }


def test_variants_are_measured_in_turn(monkeypatch):
    """Those of this machine's processor; nothing is computed."""
    monkeypatch.setattr(Setting, "build", lambda self, names: {EVERYTHING: torch.nn.Identity()})
    for task in ("detection", "training_step"):
        monkeypatch.setattr(bench_suites, task, lambda *args, **mode: lambda: None)
    found = bench_suites.variants(TINY, "cpu")
    variants = ("float32", "channels last", "bfloat16", "bfloat16, channels last")
    for task in ("inference", "training step"):
        for variant in variants:
            assert f"{task} of E-FPN-BS: {variant}" in found.measurements
        assert f"{task} of E-FPN-BS: bfloat16 / float32" in found.measurements
    assert set(found.skipped) == {"inference, compiled", "training step, compiled"}


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
def stub_suites(monkeypatch, in_this_process):
    """Suites "a", "b" and "c" that write down their runs; "b" fails as long as `broken` is set."""
    suites = SimpleNamespace(runs=[], broken=False)

    def suite(name):
        def run(effort, device):
            suites.runs.append((name, effort, device))
            if suites.broken and name == "b":
                raise MemoryError("12 GB are missing\nand more")
            return Found({f"{name} / stock": STUB}, {f"{name} on Mars": "not here"})

        return run

    monkeypatch.setattr(bench, "SUITES", {name: suite(name) for name in "abc"})
    return suites


def test_a_suite_that_fails_leaves_the_others_alone(tmp_path, capsys, stub_suites):
    stub_suites.broken = True
    output = tmp_path / "bench.json"
    with pytest.raises(SystemExit, match="error: failed: b$"):
        bench.main(["--only", "a", "b", "c", "--output", str(output)])
    reason = "MemoryError: 12 GB are missing"
    assert f"b failed: {reason}\n" in capsys.readouterr().out
    report = Report.read(output)
    assert report.finished == ["a", "c"] and report.failed == {"b": reason}
    assert list(report.measurements) == ["a / stock", "c / stock"]
    assert f"| b | not measured: {reason} | | |" in markdown(report)


def test_results_are_written_after_every_suite_and_resumed(tmp_path, stub_suites, monkeypatch):
    output = tmp_path / "bench.json"
    options = ["--only", "a", "b", "c", "--output", str(output)]

    def stop(effort, device):
        assert Report.read(output).finished == ["a"]
        raise KeyboardInterrupt

    with monkeypatch.context() as interrupted:
        interrupted.setitem(bench.SUITES, "b", stop)
        with pytest.raises(KeyboardInterrupt):
            bench.main(options)
    first = Report.read(output)
    bench.main([*options, "--resume"])
    assert [name for name, *_ in stub_suites.runs] == ["a", "b", "c"]
    resumed = Report.read(output)
    assert resumed.finished == ["a", "b", "c"] and resumed.date == first.date
    assert set(resumed.measurements) == {"a / stock", "b / stock", "c / stock"}
    bench.main(options)
    assert len(stub_suites.runs) == 6


def test_a_failed_suite_is_measured_when_resumed(tmp_path, stub_suites):
    options = ["--only", "a", "b", "--output", str(tmp_path / "bench.json"), "--resume"]
    stub_suites.broken = True
    with pytest.raises(SystemExit):
        bench.main(options)
    stub_suites.broken = False
    bench.main(options)
    assert [name for name, *_ in stub_suites.runs] == ["a", "b", "b"]
    report = Report.read(tmp_path / "bench.json")
    assert not report.failed and report.finished == ["a", "b"]


def test_another_setting_is_not_resumed(tmp_path, stub_suites):
    output = tmp_path / "bench.json"
    bench.main(["--only", "a", "--output", str(output)])
    written = output.read_text()
    with pytest.raises(SystemExit, match="error: cannot resume: setting was"):
        bench.main(["--quick", "--only", "b", "--output", str(output), "--resume"])
    assert output.read_text() == written


def test_command_writes_compares_and_shows(tmp_path, capsys, stub_suites):
    output = tmp_path / "bench.json"
    bench.main(["--quick", "--only", "a", "--output", str(output)])
    assert stub_suites.runs == [("a", bench_suites.QUICK, "cpu")]
    assert json.loads(output.read_text())["measurements"]["a / stock"]["median"] == 1.5
    printed = capsys.readouterr().out
    assert "narrow R18, 256x256 px" in printed and "a on Mars skipped: not here" in printed
    bench.main(["--only", "a"])
    assert stub_suites.runs[1][1] is bench_suites.FULL
    capsys.readouterr()
    bench.main(["--compare", str(output), str(output)])
    assert "1.500     1.500       1.000" in capsys.readouterr().out
    bench.main(["--markdown", str(output)])
    assert "| a / stock | 1.500 | 1.400 to 1.600 | 5 |" in capsys.readouterr().out


def test_profile_is_written_in_the_same_form(tmp_path, capsys, monkeypatch):
    asked = []

    def stub(config, overrides, steps):
        asked.append((config, overrides))
        return shares([{"FPN": 1.0, "backward": 3.0}]), "cpu"

    monkeypatch.setattr(bench.bench_profile, "profile", stub)
    output = tmp_path / "profile.json"
    bench.main(["--output", str(output), "--profile", "a.py", "train.seed=1"])
    assert asked == [("a.py", ["train.seed=1"])]
    assert json.loads(output.read_text())["setting"] == "training step of a.py train.seed=1"
    assert "training step of a.py train.seed=1" in capsys.readouterr().out
    bench.main(["--markdown", str(output)])
    assert capsys.readouterr().out.splitlines()[2:5] == [
        "| backward | 75.0 |  | 3.000 |",
        "| FPN | 25.0 |  | 1.000 |",
        "| whole | | | 4.000 |",
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--compare", "none.json", "none.json"], "none.json"),
        (["--markdown", "none.json"], "none.json"),
        (["--profile", "none.py"], "none.py"),
        (["train.seed=1"], "are for --profile"),
        (["--resume"], "needs the --output"),
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
