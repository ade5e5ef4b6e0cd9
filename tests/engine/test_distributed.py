"""Several gloo processes train one model, as several GPUs do, and lose one another."""

import re

import pytest

EVALUATE = ["dataloader.test.dataset.names=tinyscenes_val", "train.max_iter=4"]
EVALUATE += ["model.roi_heads.box_predictor.test_score_thresh=0.0"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
DETECTIONS = "inference/tinyscenes_val/*_results.json"


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
    weights = f"train.init_checkpoint={two.folder}/model_best.pth"
    alone = run_training(tmp_path, *EVALUATE, weights, options=["--eval-only"])
    assert alone.exit_code == 0, alone.output[-2000:]
    found = next(alone.folder.glob(DETECTIONS)).read_text()
    assert len(found) > 1000
    assert found == next(two.folder.glob(DETECTIONS)).read_text()


@pytest.mark.parametrize("how", ["torchrun", "launcher"])
def test_a_killed_process_takes_the_others_with_it(how, two, run_training, differences, tmp_path):
    launcher, options = {
        "torchrun": (TORCHRUN, []),
        "launcher": (["-u"], ["--num-gpus", "2", "--dist-url", "auto"]),
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
    resumed = run_training(tmp_path, *EVALUATE, processes=2, options=["--resume"])
    assert resumed.exit_codes == [0, 0], resumed.output[-2000:]
    assert differences(resumed.final, two.final) == []
    assert resumed.steps(1) == two.steps(1)


def test_sigterm_to_one_process_stops_all_after_the_same_step(
    two, run_training, differences, tmp_path
):
    run = run_training(tmp_path, *EVALUATE, processes=2, FAULT="terminate", FAULT_RANK="1")
    assert run.exit_codes == [143, 143], run.output[-2000:]
    assert "Stopped by SIGTERM" in run.output
    assert "model_0000002.pth" in run.files
    resumed = run_training(tmp_path, *EVALUATE, processes=2, options=["--resume"])
    assert "Starting training from iteration 3" in resumed.output
    assert differences(resumed.final, two.final) == []


def test_four_processes_draw_one_seed_and_keep_it(run_training, tmp_path):
    short = ["train.seed=-1", "dataloader.train.total_batch_size=4", "train.reference_batch_size=8"]
    run = run_training(tmp_path, *short, "train.max_iter=1", processes=4)
    assert run.exit_codes == [0] * 4, run.output[-2000:]
    assert run.output.count("Learning rate x 0.5: 4 images a step instead of 8") == 1
    seed = run.final["trainer"]["seed"]
    assert len({step[0]["grad_norm"] for step in map(run.steps, range(4))}) == 1
    resumed = run_training(tmp_path, *short, "train.max_iter=2", options=["--resume"])
    assert resumed.final["trainer"]["seed"] == seed


def test_images_that_cannot_be_shared_evenly_are_refused(run_training, tmp_path):
    run = run_training(tmp_path, "train.accumulation=3", processes=2)
    assert run.exit_codes == [1, 1]
    assert run.sentence.startswith(
        "error: 4 images a step cannot be shared evenly by 2 processes x 3 parts"
    )
