"""Runs that are hit by what long runs meet: each resumes to the uninterrupted run's last bit.

One run of six steps is never interrupted. In each test a fault strikes another one in its third
step, when the checkpoint of the second is on the disk, for real: processes are killed, files do not
fit. `train_process.py` has the faults.
"""

import json
import re
import shutil
import signal
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

CHECKPOINT = "model_0000001.pth"
YACS = Path(__file__).resolve().parents[2] / "configs/yacs/tinyscenes-EFPNBS-R18.yaml"


@pytest.fixture(scope="module")
def uninterrupted(run_training, tmp_path_factory):
    run = run_training(tmp_path_factory.mktemp("uninterrupted"))
    assert run.exit_code == 0, run.output[-2000:]
    assert sorted(run.steps()) == [0, 1, 2, 3, 4, 5]
    return run


@pytest.fixture
def resumes_exactly(run_training, uninterrupted, differences, tmp_path):
    """Resume the run of this test, and compare it with the uninterrupted one."""

    def check(*overrides):
        run = run_training(tmp_path, *overrides, options=["--resume"])
        assert run.exit_code == 0, run.output[-2000:]
        # A data-loading process is some batches ahead, and meets a broken image later.
        assert re.search("Starting training from iteration [24]\n", run.output)
        assert run.steps() == uninterrupted.steps()
        assert differences(run.final, uninterrupted.final) == []
        assert [e["iteration"] for e in run.metrics] == [0, 1, 2, 3, 4, 5]
        assert not [name for name in run.files if name.endswith(".tmp")]
        return run

    return check


def test_the_states_that_are_compared_hold_everything(uninterrupted):
    state = uninterrupted.final
    trainer = state["trainer"]
    assert {"iteration", "hooks", "optimizer", "seed", "grad_scaler"} == trainer.keys()
    assert {"WeightAverage", "LRScheduler"} <= trainer["hooks"].keys()
    assert len(trainer["optimizer"]["state"]) > 50
    assert {"averages", "steps"} <= {key.rpartition(".")[2] for key in state["model"]}


@pytest.mark.parametrize(
    ("fault", "checkpoints"),
    [("kill_between_steps", {CHECKPOINT}), ("kill_in_checkpoint", {CHECKPOINT})],
)
def test_a_killed_run(run_training, resumes_exactly, tmp_path, fault, checkpoints):
    run = run_training(tmp_path, FAULT=fault)
    assert run.exit_code == -signal.SIGKILL
    assert {name for name in run.files if name.endswith(".pth")} == checkpoints
    torn = [name for name in run.files if name.endswith(".tmp")]
    assert len(torn) == (fault == "kill_in_checkpoint")
    resumes_exactly()


def test_a_full_disk_while_a_checkpoint_is_written(run_training, resumes_exactly, tmp_path):
    run = run_training(tmp_path, FAULT="no_room_for_checkpoints")
    assert run.exit_code == 1
    assert run.sentence == (
        f"error: could not write {tmp_path}/run/model_0000003.pth: File too large; free disk space "
        "or choose another output folder"
    )
    assert {name for name in run.files if ".pth" in name} == {CHECKPOINT}
    resumes_exactly()


def test_a_full_disk_while_metrics_are_written(run_training, resumes_exactly, tmp_path):
    run = run_training(tmp_path, FAULT="no_room_for_metrics")
    assert run.exit_code == 1
    assert run.sentence.startswith(
        f"error: could not write the metrics to {tmp_path}/run: No space"
    )
    resumes_exactly()


def test_a_killed_data_loading_process(run_training, resumes_exactly, tmp_path):
    workers = "dataloader.train.num_workers=2"
    run = run_training(tmp_path, workers, FAULT="kill_worker")
    assert run.exit_code == 1
    assert run.sentence.startswith("error: a data-loading process was killed")
    resumes_exactly(workers)


def test_an_image_that_becomes_unreadable(run_training, resumes_exactly, scenes_root, tmp_path):
    broken = tmp_path / "datasets"
    shutil.copytree(scenes_root, broken)
    workers = "dataloader.train.num_workers=1"
    run = run_training(tmp_path, workers, FAULT="truncate_images", DETECTRON2_DATASETS=str(broken))
    assert run.exit_code == 1
    assert "cannot read image" in run.sentence and f"{broken}/tinyscenes/images" in run.sentence
    resumes_exactly(workers)  # from the images before they broke


def test_a_loss_that_is_nan(run_training, resumes_exactly, tmp_path):
    run = run_training(tmp_path, FAULT="loss_is_nan")
    assert run.exit_code == 1
    assert run.sentence.startswith("error: training stopped at iteration 2: a loss is not finite")
    resumes_exactly()


def test_sigterm_to_all_processes_of_a_job(run_training, uninterrupted, differences, tmp_path):
    # Iteration 2 is finished and saved, though no checkpoint is due after it; data-loading
    # processes, which get the signal too, live that long.
    run = run_training(tmp_path, "dataloader.train.num_workers=1", FAULT="terminate_group")
    assert run.exit_code == 143
    assert "Stopped by SIGTERM; a checkpoint holds all of it" in run.output
    assert "Traceback" not in run.output
    assert {"model_0000001.pth", "model_0000002.pth"} <= run.files
    resumed = run_training(tmp_path, options=["--resume"])
    assert "Starting training from iteration 3" in resumed.output
    assert resumed.steps() == uninterrupted.steps()
    assert differences(resumed.final, uninterrupted.final) == []
    # Two are kept, those of the interrupted run included; and the last.
    kept = {name for name in resumed.files if name.endswith(".pth")}
    assert kept == {"model_0000003.pth", "model_0000005.pth", "model_final.pth"}


EVALUATED = ["dataloader.test.dataset.names=tinyscenes_val", "train.eval_period=4"]
EVALUATED += ["train.checkpointer.period=100", "model.roi_heads.box_predictor.test_score_thresh=0"]


@pytest.fixture(scope="module")
def evaluated(run_training, tmp_path_factory):
    run = run_training(tmp_path_factory.mktemp("evaluated"), *EVALUATED)
    assert run.exit_code == 0, run.output[-2000:]
    return run


@pytest.fixture
def finishes_as_evaluated(run_training, evaluated, differences, tmp_path):
    """Resume the run of this test, which has evaluated all that the uninterrupted one has."""

    def check():
        run = run_training(tmp_path, *EVALUATED, options=["--resume"])
        assert run.exit_code == 0, run.output[-2000:]
        assert differences(run.final, evaluated.final) == []
        assert differences(run.best, evaluated.best) == []
        assert _record(evaluated)["evaluated"] == 6
        assert _record(run) == _record(evaluated)
        assert len(_scores(run)) == 2 and _scores(run) == _scores(evaluated)

    return check


def _record(run):
    return json.loads((run.folder / "model_best.json").read_text())


def _scores(run, metric="bbox/AP50"):
    return [entry[metric] for entry in run.metrics if metric in entry]


@pytest.mark.parametrize(
    ("fault", "exit_code"),
    [
        ("kill_in_evaluation", -signal.SIGKILL),
        ("terminate_in_evaluation", 143),
        ("terminate_before_evaluation", 143),
    ],
)
def test_an_interrupted_evaluation_is_made_up_for(
    run_training, finishes_as_evaluated, tmp_path, fault, exit_code
):
    run = run_training(tmp_path, *EVALUATED, FAULT=fault, FAULT_ITERATION="3")
    assert run.exit_code == exit_code
    assert sorted(run.steps()) == [0, 1, 2, 3]  # in the evaluation after the fourth
    finishes_as_evaluated()


@pytest.mark.parametrize("fault", ["terminate", "terminate_before_evaluation"])
def test_sigterm_in_the_last_step_leaves_the_best_of_what_was_evaluated(
    run_training, finishes_as_evaluated, differences, tmp_path, fault
):
    """Before the processes agree whether to go on past that step, and after they have."""
    run = run_training(tmp_path, *EVALUATED, FAULT=fault, FAULT_ITERATION="5")
    assert run.exit_code == 143
    assert sorted(run.steps()) == [0, 1, 2, 3, 4, 5]
    # Nothing was evaluated but the average after the fourth step.
    record = _record(run)
    assert (record["evaluated"], record["iteration"]) == (4, 3)
    assert _scores(run, record["metric"]) == [record["value"]]
    fourth = torch.load(run.folder / "model_0000003.pth")["trainer"]["hooks"]["WeightAverage"]
    best = {f"module.{name}": value for name, value in run.best["model"].items()}
    assert differences(best, {name: fourth[name] for name in best}) == []
    # Those of the last steps would be lost: the resumed run repeats none.
    events = EventAccumulator(str(run.folder)).Reload()
    assert [event.step for event in events.Scalars("total_loss")] == [0, 1, 2, 3, 4, 5]
    finishes_as_evaluated()


def test_a_finished_run_is_evaluated_once_more(run_training, evaluated, tmp_path):
    shutil.copytree(evaluated.folder, tmp_path / "run")
    resumed = run_training(tmp_path, *EVALUATED, options=["--resume"])
    assert resumed.exit_code == 0, resumed.output[-2000:]
    assert not (tmp_path / "steps.0").exists()
    assert resumed.metrics[-1]["bbox/AP50"] == evaluated.metrics[-1]["bbox/AP50"]


def test_a_killed_yacs_run(run_training, differences, tmp_path):
    few = ["SEED=1", "SOLVER.MAX_ITER=3", "SOLVER.CHECKPOINT_PERIOD=2", "SOLVER.IMS_PER_BATCH=4"]
    few += ["SOLVER.EMA.ENABLED=True", "TEST.EVAL_PERIOD=0", "DATALOADER.NUM_WORKERS=0"]
    few += ["MODEL.FPN.OUT_CHANNELS=16", "MODEL.ROI_BOX_HEAD.FC_DIM=32", "SOLVER.STEPS=(2,)"]
    few += ["MODEL.DEVICE=cpu", "DATASETS.TEST=()"]

    def run(folder, **options):
        return run_training(folder, *few, config=YACS, **options)

    whole = run(tmp_path / "whole")
    assert whole.exit_code == 0, whole.output[-2000:]
    killed = run(tmp_path / "killed", FAULT="kill_between_steps")
    assert killed.exit_code == -signal.SIGKILL
    resumed = run(tmp_path / "killed", options=["--resume"])
    assert "Starting training from iteration 2" in resumed.output
    assert resumed.steps() == whole.steps()
    assert differences(resumed.final, whole.final) == []
