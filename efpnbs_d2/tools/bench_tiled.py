"""Windows a second of tiled inference, against the bare model on the same windows, and SAHI.

    python -m efpnbs_d2.tools.bench_tiled --config-file configs/yacs/tinyscenes-EFPNBS-R18.yaml

The bare model gets its inputs ready-made and its detections are thrown away: no tiled inference can
be faster. All take turns in one process. SAHI takes part where it can be imported: its own
Detectron2 model, around the same weights, with the same windows and threshold.
"""

import argparse
import importlib.util
import sys
import time
from collections.abc import Callable, Sequence
from copy import copy, deepcopy
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.data.detection_utils import read_image
from detectron2.engine import DefaultPredictor

from ..config import add_efpnbs_config
from ..inference import tiled
from ..inference.batch import BatchPredictor
from ..inference.predictors import predictor_config
from ..inference.tiled import TiledPredictor
from ..tile_corners import OVERLAP, TILE, tile_corners
from .bench_turns import take_turns, wait_for

# How many boxes came out, and in how many seconds of the clock and of the processor.
Run = tuple[int, float, float]


@dataclass(frozen=True)
class Task:
    """What is measured: one detector on one image.

    Attributes:
        predictor: Detectron2's.
        image: H x W x 3, BGR, uint8.
        batch_size: windows that the model gets at once; SAHI gives it one.
    """

    predictor: DefaultPredictor
    image: np.ndarray
    batch_size: int

    def contestants(self) -> dict[str, Callable[[], int]]:
        """What takes turns, by name; each returns the number of boxes after merging."""
        predict = BatchPredictor.from_default(self.predictor)
        # A model of its own: mixed precision lays the weights out in another way.
        own = copy(self.predictor)
        own.model = deepcopy(own.model)
        mixed = BatchPredictor.from_default(own, precision="bfloat16")
        contestants = {
            "bare model": self._bare_model(predict),
            "TiledPredictor": self._tiled(predict),
            "TiledPredictor, bfloat16": self._tiled(mixed),
        }
        if importlib.util.find_spec("sahi") is not None:
            contestants["SAHI"] = self._sahi()
        return contestants

    def _bare_model(self, predict: BatchPredictor) -> Callable[[], int]:
        inputs = [predict.prepare(window) for window in self.windows()]
        batches = [
            inputs[start : start + self.batch_size]
            for start in range(0, len(inputs), self.batch_size)
        ]
        return lambda: sum(len(found) for batch in batches for found in predict.run(batch))

    def _tiled(self, predict: BatchPredictor) -> Callable[[], int]:
        tiled_predictor = TiledPredictor(predict, batch_size=self.batch_size)
        return lambda: len(tiled_predictor(self.image))

    def _sahi(self) -> Callable[[], int]:
        from sahi.models.detectron2 import Detectron2DetectionModel
        from sahi.predict import get_sliced_prediction
        from sahi.slicing import get_slice_bboxes

        classes = self.predictor.cfg.MODEL.ROI_HEADS.NUM_CLASSES
        model = Detectron2DetectionModel(
            load_at_init=False,
            confidence_threshold=0.0,
            category_mapping={str(number): str(number) for number in range(classes)},
            device=self.predictor.cfg.MODEL.DEVICE,
        )
        model.model = self.predictor
        # It takes the overlap as a share of the window, and rounds it down to pixels.
        windows: dict[str, Any] = {
            "slice_height": TILE[0],
            "slice_width": TILE[1],
            "overlap_height_ratio": (OVERLAP[0] + 0.5) / TILE[0],
            "overlap_width_ratio": (OVERLAP[1] + 0.5) / TILE[1],
        }
        height, width = self.image.shape[:2]
        corners = get_slice_bboxes(height, width, **windows)
        assert list(map(tuple, corners)) == tile_corners(height, width), "SAHI has other windows"
        image = np.ascontiguousarray(self.image[:, :, ::-1])
        merging = {"postprocess_type": "NMS", "postprocess_match_metric": "IOU"}

        def run() -> int:
            result = get_sliced_prediction(
                image, model, perform_standard_pred=False, verbose=0, **windows, **merging
            )
            return len(result.object_prediction_list)

        return run

    def windows(self) -> list[np.ndarray]:
        """Views of the image."""
        corners = tile_corners(*self.image.shape[:2])
        return [self.image[y1:y2, x1:x2] for x1, y1, x2, y2 in corners]

    def stages(self) -> dict[str, float]:
        """Seconds of the clock that one run of the tiled predictor spends on what."""
        seconds = {"model": 0.0, "crop and collate": 0.0, "merge": 0.0}

        def timed(stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
            def measured(*args: Any, **options: Any) -> Any:
                start = time.perf_counter()
                result = function(*args, **options)
                wait_for(self.predictor.cfg.MODEL.DEVICE)
                seconds[stage] += time.perf_counter() - start
                return result

            return measured

        predict = BatchPredictor.from_default(self.predictor)
        merge = timed("merge", tiled.merge_windows)
        with (
            patch.object(predict, "prepare", timed("crop and collate", predict.prepare)),
            patch.object(predict, "run", timed("model", predict.run)),
            patch.object(tiled, "merge_windows", merge),
        ):
            start = time.perf_counter()
            TiledPredictor(predict, batch_size=self.batch_size)(self.image)
            total = time.perf_counter() - start
        return {**seconds, "rest": total - sum(seconds.values())}


def measure(task: Task, rounds: int) -> dict[str, list[Run]]:
    """Let all contestants take turns; by name, one run a round."""
    device = task.predictor.cfg.MODEL.DEVICE

    def clocked(contestant: Callable[[], int]) -> Callable[[], Run]:
        def run() -> Run:
            wall, processor = time.perf_counter(), time.process_time()
            boxes = contestant()
            wait_for(device)
            return boxes, time.perf_counter() - wall, time.process_time() - processor

        return run

    contestants = {name: clocked(run) for name, run in task.contestants().items()}
    return take_turns(contestants, rounds, label="tiled inference")


def detector(config_file: str, weights: str | None, overrides: Sequence[str]) -> DefaultPredictor:
    """The detector of a YAML; without weights it is untrained, and finds much in anything."""
    if weights:
        cfg: CfgNode = predictor_config(config_file, weights)
        cfg.defrost()
    else:
        cfg = get_cfg()
        add_efpnbs_config(cfg)
        cfg.merge_from_file(config_file)
        cfg.MODEL.WEIGHTS = ""
        cfg.MODEL.DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
    # Windows go in as large as they are.
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = min(TILE), max(TILE)
    cfg.merge_from_list(list(overrides))
    torch.manual_seed(0)
    return DefaultPredictor(cfg)


def print_table(runs: dict[str, list[Run]], windows: int) -> None:
    """Throughput of each, as numbers and as shares of the first one's in the same round."""
    print(f"{'':26}{'boxes':>8}{'windows/s':>11}{'of the bare model (quartiles)':>32}{'CPU':>8}")
    base = next(iter(runs.values()))
    for name, measured in runs.items():
        rate = windows / np.median([wall for _, wall, _ in measured])
        shares = [own[1] / run[1] for own, run in zip(base, measured)]
        low, middle, high = np.percentile(shares, (25, 50, 75))
        processor = np.median([own[2] / run[2] for own, run in zip(base, measured)])
        share = f"{middle:.1%} ({low:.1%} to {high:.1%})"
        print(f"{name:26}{measured[0][0]:8}{rate:11.2f}{share:>32}{processor:8.1%}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config-file", required=True, help="one of configs/yacs/")
    parser.add_argument("--weights", help="a checkpoint of train_net.py [random weights]")
    parser.add_argument("--image", help="a file [1920 x 1080 px of noise]")
    parser.add_argument("--batch-size", type=int, default=4, help="windows at once [4]")
    parser.add_argument("--rounds", type=int, default=10, help="runs of each [10]")
    parser.add_argument("overrides", nargs="*", help="KEY VALUE of the config")
    options = parser.parse_args(arguments)
    if min(options.batch_size, options.rounds) < 1:
        parser.error("expected a --batch-size and --rounds of 1 or more")
    try:
        if options.image:
            image = read_image(options.image, format="BGR")
        else:
            image = np.random.default_rng(0).integers(0, 256, (1080, 1920, 3), dtype=np.uint8)
        predictor = detector(options.config_file, options.weights, options.overrides)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    task = Task(predictor, image, options.batch_size)
    windows = len(task.windows())
    print(
        f"{windows} windows of {TILE[1]} x {TILE[0]} px on {predictor.cfg.MODEL.DEVICE}, "
        f"{torch.get_num_threads()} threads, batches of {options.batch_size}"
    )
    print_table(measure(task, options.rounds), windows)
    for stage, seconds in task.stages().items():
        print(f"{stage:26}{seconds / windows * 1000:9.2f} ms a window")
    return 0


if __name__ == "__main__":
    sys.exit(main())
