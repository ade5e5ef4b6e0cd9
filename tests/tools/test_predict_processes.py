"""Several processes share the files of a folder: the same results, no work done twice."""

import json
import multiprocessing
import os
import signal
import socket
import sys
import time

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import Metadata
from detectron2.structures import Boxes, Instances
from PIL import Image

from efpnbs_d2.checkpoint import CARD_KEY
from efpnbs_d2.tools import predict
from efpnbs_d2.tools.detector_options import Detector

NAMES = ["buoy", "raft"]


class Oracle:
    """Stands for a model: what it finds depends on the image; notes which process saw which."""

    def __init__(self, log, before=None, thresholds=lambda rank: [0.5, 0.5]):
        """`before` is called with the process's rank and the width of an image."""
        self.log, self.before, self.thresholds = log, before, thresholds

    def __call__(self, images):
        return [self.look(image) for image in images]

    def look(self, image):
        rank, width = int(os.environ["RANK"]), image.shape[1]
        with self.log.open("a") as log:  # short lines are appended whole
            log.write(f"{rank} {width}\n")
        if self.before is not None:
            self.before(rank, width)
        found = Instances(image.shape[:2])
        found.pred_boxes = Boxes(torch.tensor([[1.0, 2, width / 3, 8], [5, 5, 9, 9]]))
        found.pred_classes = torch.tensor([1, 0])
        found.scores = torch.tensor([0.9, 0.6])
        return found


@pytest.fixture
def folder(tmp_path):
    """Seven images, of widths 50 to 56: the widths tell them apart."""
    (tmp_path / "in").mkdir()
    for number in range(7):
        image = Image.fromarray(np.zeros((40, 50 + number, 3), np.uint8))
        image.save(tmp_path / f"in/{'gfedcba'[number]}.png")
    (tmp_path / "model.yaml").write_text("a config")
    torch.save({CARD_KEY: {"class_names": NAMES}}, tmp_path / "model.pth")
    return tmp_path


def command(folder, *arguments, out="out"):
    options = ["--config-file", f"{folder}/model.yaml", "--weights", f"{folder}/model.pth"]
    inputs = [] if any(str(folder) in a for a in arguments) else [f"{folder}/in"]
    return [*options, "--output", f"{folder}/{out}", *arguments, *inputs]


def be_process(rank, size, port, folder, arguments, oracle):
    """What torchrun starts, without the seconds that imports take."""
    sys.stdout, sys.stderr = ((folder / f"{name}.{rank}").open("w", 1) for name in ("out", "err"))
    # A shell starts what it runs in the background with Ctrl-C ignored, the tests too.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # The parent's threads are not here: nothing may wait for them.
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    started = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size}
    there = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "CUDA_VISIBLE_DEVICES": ""}
    os.environ.update({key: str(value) for key, value in (started | there).items()})

    def load(args, min_score, *, show_windows):
        return Detector(oracle, None, oracle.thresholds(rank), NAMES, [1, 2], Metadata(), 1)

    predict.load_detector = load
    status = predict.main(arguments)
    sys.stdout.close()
    sys.stderr.close()
    os._exit(status)


class Run:
    """Processes at work on one command."""

    def __init__(self, size, folder, *arguments, out="out", **oracle):
        self.folder, self.size = folder, size
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        fork = multiprocessing.get_context("fork")
        self.log = folder / "seen.txt"
        self.log.write_text("")
        oracle = Oracle(self.log, **oracle)
        arguments = command(folder, *arguments, out=out)
        self.processes = [
            fork.Process(target=be_process, args=(rank, size, port, folder, arguments, oracle))
            for rank in range(size)
        ]
        for process in self.processes:
            process.start()

    def statuses(self):
        for process in self.processes:
            process.join(30)
            if process.is_alive():
                process.kill()
        return [process.exitcode for process in self.processes]

    def said(self, stream):
        return [(self.folder / f"{stream}.{rank}").read_text() for rank in range(self.size)]

    def errors(self):
        """Of each process, the lines that are no progress bar."""
        return [
            [line for line in text.splitlines() if line.startswith(("error", "interrupt", "Trace"))]
            for text in self.said("err")
        ]

    def seen(self):
        """Of each process, the widths of the images that it saw."""
        lines = [line.split() for line in self.log.read_text().splitlines()]
        return [[int(w) for r, w in lines if int(r) == rank] for rank in range(self.size)]


def contents(folder, out="out"):
    """Everything that was written, by path."""
    root = folder / out
    return {p.relative_to(root): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def detections(folder, out="out"):
    return json.loads((folder / out / "detections.json").read_text())


def test_what_they_write_is_what_one_process_writes(folder):
    """Shares of 4 and 3, or of 2, 2, 2 and 1; a.png, the first, is 56 px wide, g.png is 50."""
    assert Run(1, folder, out="alone").statuses() == [0]
    expected = contents(folder, "alone")
    assert len(expected) == 1 + 7 + 3 + 7 + 7  # settings, records, lists, text files, pictures
    for size in (2, 4):
        run = Run(size, folder, out=f"out{size}")
        assert run.statuses() == [0] * size
        assert contents(folder, f"out{size}") == expected
        assert run.seen() == [list(range(56 - rank, 49, -size)) for rank in range(size)]
        out, err = run.said("out"), run.said("err")
        assert "14 detections in 7 of 7 files" in out[0] and not any(out[1:])
        own = -(-7 // size)
        assert f"process 1 of {size}: 100%" in err[0] and f"{own}/{own}" in err[0]
        assert not any(err[1:])


def test_broken_images_are_reported_once_whoever_had_them(folder):
    for name in "bc":  # of process 1 and process 0
        (folder / f"in/{name}.png").write_bytes(b"broken")
    alone, run = Run(1, folder, "--no-pictures", out="alone"), None
    assert alone.statuses() == [1]
    said = alone.errors()[0]
    run = Run(2, folder, "--no-pictures")
    assert run.statuses() == [1, 0]
    assert contents(folder) == contents(folder, "alone")
    errors = run.errors()
    assert sorted(errors[0]) == sorted(said) and len(said) == 2 and errors[1] == []
    assert "10 detections in 5 of 7 files" in run.said("out")[0]


def test_any_number_of_processes_continues_what_others_began(folder):
    assert Run(2, folder).statuses() == [0] * 2
    expected = contents(folder)
    # Without c, d and e: of these two belonged to process 0, and one to process 1.
    for name in "cde":
        (folder / f"out/records/{name}.json").unlink()
    (folder / "out/detections.csv").unlink()
    run = Run(3, folder)
    assert run.statuses() == [0] * 3
    assert sorted(run.seen()) == [[52], [53], [54]]
    assert "4 of 7 files were done before" in run.said("out")[0]
    assert contents(folder) == expected
    again = Run(2, folder)
    assert again.statuses() == [0, 0] and again.seen() == [[], []]
    assert contents(folder) == expected


def test_a_process_that_is_killed_ends_the_others_in_a_sentence(folder):
    def dies(rank, width):
        if width == 53:
            os.kill(os.getpid(), signal.SIGKILL)

    run = Run(3, folder, "--no-pictures", before=dies)  # 53 is the first of process 0, the 4th
    assert run.statuses() == [-signal.SIGKILL, 1, 1]
    for rank in (1, 2):
        (line,) = run.said("err")[rank].splitlines()
        assert line.startswith(f"error: process {rank} of this run lost another one")
        assert line.endswith("the same command continues")
    assert not (folder / "out/detections.json").exists()
    left = Run(2, folder, "--no-pictures")
    assert left.statuses() == [0, 0]
    # Process 0 was killed at its second image; it had done one, the others two each.
    assert sorted(sum(left.seen(), [])) == [50, 53]
    assert len(detections(folder)) == 14


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_leaves_whole_files_and_the_rest_to_the_next(folder, sent):
    """Process 0 has finished and waits; process 1 is at its second image."""

    def stalls(rank, width):
        if width == 53:
            time.sleep(60)

    run = Run(2, folder, "--no-pictures", before=stalls)
    deadline = time.monotonic() + 25
    while len(list((folder / "out/records").glob("*.json"))) < 5 and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.2)  # until process 0 is at its wait
    # Slurm and torchrun both send SIGTERM; a second Ctrl-C would end the wait.
    for process in [run.processes[0]] * (2 if sent == signal.SIGTERM else 1) + run.processes[1:]:
        os.kill(process.pid, sent)
        time.sleep(0.2)
    assert run.statuses() == [130, 0]
    assert run.errors() == [["interrupted: the same command continues"], []]
    assert len(detections(folder)) == 2 * 5
    images = json.loads((folder / "out/images.json").read_text())["images"]
    assert [image["width"] for image in images] == [56, 55, 54, 52, 50]
    left = Run(2, folder, "--no-pictures")
    assert left.statuses() == [0, 0] and left.seen() == [[53], [51]]
    assert len(detections(folder)) == 14


def test_videos_are_one_processs_work_each(folder):
    """2 videos and an image for 4 processes: images are dealt first."""
    for name, number in (("v", 3), ("w", 2)):
        code = cv2.VideoWriter_fourcc(*"mp4v")
        file = cv2.VideoWriter(f"{folder}/in/{name}.mp4", code, 10.0, (64, 48))
        for _ in range(number):
            file.write(np.zeros((48, 64, 3), np.uint8))
        file.release()
    inputs = [f"{folder}/in/{name}" for name in ("v.mp4", "w.mp4", "a.png")]
    run = Run(4, folder, *inputs)
    assert run.statuses() == [0] * 4
    assert run.seen() == [[56], [64] * 3, [64] * 2, []]
    assert "3 of 4 processes have something to do" in run.said("out")[0]
    # In the order of the command: frames 1 to 3, 1 and 2, and the image.
    found = [entry["image_id"] for entry in detections(folder)]
    assert found == [n for n in (1, 2, 3, 4, 5, 6) for _ in range(2)]


@pytest.mark.parametrize(
    ("arguments", "rank_of_mistake", "message"),
    [
        (["{}/none.png"], None, "error: {}/none.png not found"),
        (["--device", "cuda:1"], None, "error: found --device cuda:1 for 2 processes"),
        ([], 1, "error: process 1 has another score thresholds than process 0"),
    ],
)
def test_a_mistake_is_said_once(folder, arguments, rank_of_mistake, message):
    arguments = [argument.format(folder) for argument in arguments]
    run = Run(
        2, folder, *arguments, thresholds=lambda rank: [0.6 if rank == rank_of_mistake else 0.5] * 2
    )
    assert run.statuses() == [1, 0]
    assert run.errors()[0][0].startswith(message.format(folder))
    assert len(run.errors()[0]) == 1 and run.errors()[1] == []
    assert not (folder / "out").exists()


def test_results_are_made_anew_once(folder):
    """What one process has written already is not deleted by another."""
    assert Run(1, folder, "--no-pictures").statuses() == [0]
    run = Run(2, folder, "--no-pictures", "--overwrite", thresholds=lambda rank: [0.8, 0.8])
    assert run.statuses() == [0, 0]
    assert sorted(sum(run.seen(), [])) == list(range(50, 57))
    assert len(detections(folder)) == 7 and len(list((folder / "out/records").iterdir())) == 7
