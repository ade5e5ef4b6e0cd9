"""Several gloo processes train one model, as several GPUs do, and lose one another."""

import re
import time
from pathlib import Path

import pytest
import torch

EVALUATE = ["dataloader.test.dataset.names=tinyscenes_val", "train.max_iter=4"]
EVALUATE += ["model.roi_heads.box_predictor.test_score_thresh=0.0"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
LAUNCHER = ["--num-gpus", "2", "--dist-url", "auto"]


@pytest.fixture(scope="module")
def two(run_training, tmp_path_factory):
    """The run of two processes that all others are compared with."""
    run = run_training(tmp_path_factory.mktemp("two"), *EVALUATE, processes=2)
    assert run.exit_codes == [0, 0], run.output[-2000:]
    return run


def test_processes_agree_and_speak_once(two):
    assert two.steps(0).keys() == two.steps(1).keys() == {0, 1, 2, 3}
    for iteration, second in two.steps(1).items():
        # One gradient and one state of DCLoss for all, though each sees other images.
        assert {"grad_norm", "roi_heads.box_predictor.dc_loss.steps"} <= {
            key.removeprefix("module.") for key in second
        }
        assert {key: two.steps(0)[iteration][key] for key in second} == second
    assert sum("bbox/AP50" in entry for entry in two.metrics) == 1
    assert two.output.count("Starting training from iteration") == 1


def test_a_shared_evaluation_is_that_of_one_process(two, run_training, tmp_path):
    def evaluate(name, processes):
        overrides = [*EVALUATE, f"train.init_checkpoint={two.folder}/model_best.pth"]
        overrides.append("dataloader.test.dataset.names=[tinyscenes_val,tinyscenes_train]")
        options = ["--eval-only"]
        run = run_training(tmp_path / name, *overrides, options=options, processes=processes)
        assert run.exit_codes == [0] * processes, run.output[-2000:]
        return _evaluations(run)

    alone = evaluate("alone", 1)
    assert alone.keys() == {"tinyscenes_val", "tinyscenes_train"}
    assert all(len(found) > 1000 for found, _ in alone.values())
    # Four processes share two images, so that two have none, and six, two of them taking two.
    assert evaluate("four", 4) == alone
    assert _evaluations(two) == {"tinyscenes_val": alone["tinyscenes_val"]}


def _evaluations(run):
    """Data set -> detections and metrics, as they stand in the run's files."""
    return {
        folder.name: (
            next(folder.glob("*_results.json")).read_text(),
            (folder / "metrics.json").read_text(),
        )
        for folder in (run.folder / "inference").iterdir()
    }


@pytest.mark.parametrize("how", ["torchrun", "launcher"])
def test_a_killed_process_takes_the_others_with_it(how, two, run_training, differences, tmp_path):
    launcher, options = {
        "torchrun": (TORCHRUN, []),
        "launcher": (["-u"], LAUNCHER),
    }[how]
    run = run_training(
        tmp_path,
        *EVALUATE,
        launcher=launcher,
        options=options,
        FAULT="kill_between_steps",
        FAULT_RANK="1",
    )
    assert run.exit_code == 1
    assert re.search(
        "^error: .*lost another process of this run|^error: process 1 terminated with "
        "signal SIGKILL; its training stops",
        run.output,
        re.MULTILINE,
    )
    # Until then, the same steps whoever started the processes.
    after_two_steps = [torch.load(r.folder / "model_0000001.pth") for r in (run, two)]
    assert differences(*after_two_steps) == []
    resumed = run_training(tmp_path, *EVALUATE, processes=2, options=["--resume"])
    assert resumed.exit_codes == [0, 0], resumed.output[-2000:]
    assert differences(resumed.final, two.final) == []
    assert resumed.steps(1) == two.steps(1)


@pytest.mark.parametrize(
    ("fault", "iteration", "saved"),
    [("terminate", 2, "model_0000002"), ("terminate_before_evaluation", 3, "model_final")],
)
def test_sigterm_to_one_process_stops_all_after_the_same_step(
    two, run_training, differences, tmp_path, fault, iteration, saved
):
    struck = {"FAULT": fault, "FAULT_RANK": "1", "FAULT_ITERATION": str(iteration)}
    run = run_training(tmp_path, *EVALUATE, processes=2, **struck)
    assert run.exit_codes == [143, 143], run.output[-2000:]
    assert "Stopped by SIGTERM" in run.output
    assert f"{saved}.pth" in run.files
    resumed = run_training(tmp_path, *EVALUATE, processes=2, options=["--resume"])
    assert f"Starting training from iteration {iteration + 1}" in resumed.output
    assert differences(resumed.final, two.final) == []
    assert differences(resumed.best, two.best) == []


def test_sigterm_to_the_launcher_stops_its_processes(two, run_training, differences, tmp_path):
    worker = "dataloader.train.num_workers=1"
    run = run_training(
        tmp_path, *EVALUATE, worker, launcher=["-u"], options=LAUNCHER, FAULT="terminate_launcher"
    )
    assert run.exit_code == 143, run.output[-2000:]
    assert "Traceback" not in run.output
    deadline = time.monotonic() + 10  # a data-loading process may take some seconds to notice
    while (running := _running(run.folder)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert running == []
    # Nothing is due after the third step: it is saved because the run was stopped.
    assert "model_0000002.pth" in run.files
    resumed = run_training(tmp_path, *EVALUATE, processes=2, options=["--resume"])
    assert "Starting training from iteration 3" in resumed.output
    assert differences(resumed.final, two.final) == []


def _running(folder):
    """Process ids of what has the run's folder in its environment, as its processes inherit it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            environment = (process / "environ").read_bytes()
        except OSError:  # ended meanwhile, or another user's
            continue
        if f"FOLDER={folder}".encode() in environment.split(b"\0"):
            found.append(process.name)
    return found


def test_four_processes_draw_one_seed_and_keep_it(run_training, tmp_path):
    short = ["train.seed=-1", "dataloader.train.total_batch_size=4", "train.reference_batch_size=8"]
    run = run_training(tmp_path, *short, "train.max_iter=1", processes=4)
    assert run.exit_codes == [0] * 4, run.output[-2000:]
    assert run.output.count("Learning rate x 0.5: 4 images a step instead of 8") == 1
    seed = run.final["trainer"]["seed"]
    assert len({step[0]["grad_norm"] for step in map(run.steps, range(4))}) == 1
    resumed = run_training(tmp_path, *short, "train.max_iter=2", options=["--resume"])
    assert resumed.final["trainer"]["seed"] == seed


def test_four_processes_keep_one_state_of_dcloss_when_one_has_no_foreground(run_training, tmp_path):
    overrides = ["train.max_iter=4", "dataloader.train.total_batch_size=4"]
    run = run_training(tmp_path, *overrides, processes=4, FAULT="no_objects", FAULT_RANK="2")
    assert run.exit_codes == [0] * 4, run.output[-2000:]
    states = [
        {i: {k: v for k, v in step.items() if ".dc_loss." in k} for i, step in run.steps(r).items()}
        for r in range(4)
    ]
    assert states[0].keys() == {0, 1, 2, 3}  # the last two are those without foreground
    assert all(state == states[0] for state in states)
    names = {name.rpartition(".")[2] for name in states[0][3]}
    assert names == {"averages", "steps", "edges"}
    for before, after in ((1, 2), (2, 3)):
        moved = [k for k in states[0][after] if states[0][before][k] != states[0][after][k]]
        assert {name.rpartition(".")[2] for name in moved} == {"averages", "steps"}


def test_images_that_cannot_be_shared_evenly_are_refused(run_training, tmp_path):
    run = run_training(tmp_path, "train.accumulation=3", processes=2)
    assert run.exit_codes == [1, 1]
    assert run.sentence.startswith(
        "error: 4 images a step cannot be shared evenly by 2 processes x 3 parts"
    )
