"""The main job on the embedded data set: write, train, evaluate, predict, show.

`python -m efpnbs_d2.tools.demo [--output DIR]` takes some five minutes on two CPU cores.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
from detectron2.engine import DefaultPredictor
from tabulate import tabulate
from tqdm import tqdm

from ..data.tinyscenes import generate_scene, write_dataset
from ..engine.cli import load_config
from ..inference.drawing import draw_boxes, draw_detections, heat_map
from ..inference.masks import foreground_masks
from ..inference.predictors import predictor_config
from .curves import draw_curves, read_metrics

CHECKOUT = Path(__file__).resolve().parents[2]
CONFIG = CHECKOUT / "configs/tinyscenes/efpn_bs_r18.py"
PREDICTOR_CONFIG = CHECKOUT / "configs/yacs/tinyscenes-EFPNBS-R18.yaml"

TRAIN_SCENES, VAL_SCENES = 400, 40
# Scenes of this seed are in neither split.
UNSEEN_SEED, UNSEEN_SCENES = 1_000_003, 4


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m efpnbs_d2.tools.demo", description=__doc__)
    parser.add_argument("--output", type=Path, default=Path("output/demo"), help="where to write")
    parser.add_argument("--figure", type=Path, help="also write the README's figure to this file")
    args = parser.parse_args()
    output = args.output.resolve()
    start = time.monotonic()

    print("1/4  Writing the tinyscenes data set")
    splits = {"train": TRAIN_SCENES, "val": VAL_SCENES}
    # What an earlier version of the generator wrote here is replaced.
    write_dataset(output / "datasets", splits=splits, overwrite=True)
    print("2/4  Training E-FPN-BS with DCLoss, evaluating as it goes")
    _train(output)
    print("3/4  Predicting unseen scenes")
    pictures = _predict(output, args.figure)
    print("4/4  Drawing the curves")
    metrics = read_metrics(output / "run/metrics.json")
    pictures.append(draw_curves(metrics, output / "curves.png"))

    print(f"\nPictures:\n  {chr(10).join(f'  {p}' for p in pictures).strip()}\n")
    print(_ap_table(metrics))
    print(f"Done in {(time.monotonic() - start) / 60:.1f} minutes.")


def _train(output: Path) -> None:
    """Run train_net.py, its output in a log, its progress in a bar."""
    run, log = output / "run", output / "train.log"
    for stale in run.glob("metrics.json"):
        stale.unlink()
    command = [sys.executable, str(CHECKOUT / "train_net.py"), "--config-file", str(CONFIG)]
    command += [f"train.output_dir={run}"]
    environment = {**os.environ, "DETECTRON2_DATASETS": str(output / "datasets")}
    print(f"     {' '.join(command)}\n     log: {log}")
    with open(log, "w") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env=environment, cwd=CHECKOUT
        )
        try:
            _show_progress(process, run / "metrics.json")
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        last = log.read_text().strip().splitlines()[-1:]
        sys.exit(f"error: training stopped: {''.join(last)}; the whole log is {log}")


def _show_progress(process: subprocess.Popen, metrics_file: Path) -> None:
    total = load_config(str(CONFIG), []).train.max_iter
    with tqdm(total=total, unit="it", desc="     training", dynamic_ncols=True) as bar:
        while process.poll() is None:
            time.sleep(0.5)
            entries = [entry for entry in read_metrics(metrics_file) if "total_loss" in entry]
            if entries:
                bar.set_postfix(loss=f"{entries[-1]['total_loss']:.2f}", refresh=False)
                bar.update(entries[-1]["iteration"] + 1 - bar.n)


def _predict(output: Path, figure: Path | None) -> list[Path]:
    """Detections beside ground truth, and FBSM's masks, for scenes that no split holds.

    `figure` gets detections, ground truth and P2's mask of the first two scenes.
    """
    cfg = predictor_config(PREDICTOR_CONFIG, output / "run/model_best.pth")
    predictor = DefaultPredictor(cfg)
    names = predictor.metadata.thing_classes
    written, overviews = [], []
    for index in range(UNSEEN_SCENES):
        image, annotations = generate_scene(UNSEEN_SEED + index)
        boxes = np.array([a["bbox"] for a in annotations])
        boxes[:, 2:] += boxes[:, :2]
        classes = [a["category_id"] - 1 for a in annotations]
        found = predictor(image)["instances"].to("cpu")
        compared = [
            draw_detections(image, found, names, title="detections"),
            draw_boxes(image, boxes, classes, names, "ground truth"),
        ]
        masks = foreground_masks(predictor.model, image)
        shown = [heat_map(image, mask, f"FBSM mask {level}") for level, mask in masks.items()]
        for kind, panels in {"detections": compared, "masks": shown}.items():
            path = output / f"{kind}_{index}.png"
            cv2.imwrite(str(path), _side_by_side(panels))
            written.append(path)
        overviews.append(_side_by_side([*compared, shown[0]]))
    if figure:
        rows = np.vstack(overviews[:2])
        cv2.imwrite(
            str(figure), cv2.resize(rows, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        )
        written.append(figure)
    return written


def _side_by_side(panels: list[np.ndarray]) -> np.ndarray:
    height = max(p.shape[0] for p in panels)
    padded = [
        cv2.copyMakeBorder(p, 0, height - p.shape[0], 0, 8, cv2.BORDER_CONSTANT, value=(255,) * 3)
        for p in panels
    ]
    return np.hstack(padded)


def _ap_table(metrics: list[dict]) -> str:
    last = [m for m in metrics if "bbox/AP50" in m][-1]
    values = {k.removeprefix("bbox/"): v for k, v in last.items() if k.startswith("bbox/")}
    # First the averages, then the classes; a size without objects has no AP (NaN).
    names = sorted(values, key=lambda name: ("-" in name, name))
    rows = [(name, values[name]) for name in names if values[name] == values[name]]
    return tabulate(rows, headers=("held-out scenes", "AP (%)"), floatfmt=".1f", tablefmt="github")


if __name__ == "__main__":
    main()
