"""Choose each class's score threshold: `python -m efpnbs_d2.tools.thresholds --help`.

On a data set with annotations; the thresholds go into the checkpoint, where `tools.predict` finds
them. The rule is the best F1, at IoU 0.5 or the benchmark's threshold nearest to it.
"""

import argparse
import sys
from collections.abc import Sequence

from detectron2.data import DatasetCatalog, MetadataCatalog
from omegaconf import DictConfig
from tabulate import tabulate
from tqdm import tqdm

from ..checkpoint import update_card
from ..engine.classes import check_same_classes
from ..engine.cli import load_config
from ..engine.recipe import LazyRecipe, Recipe, YacsRecipe
from ..evaluation.analysis.analyse import analyse
from ..evaluation.analysis.score_curves import BestF1
from ..evaluation.columns import Detections, GroundTruth
from ..evaluation.evaluator import ProtocolEvaluator
from ..inference.scene import open_scene
from .detector_options import Detector, add_detector_options, load_detector
from .html_page import printable

__all__ = ["choose_thresholds", "main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    args = _parser().parse_args(argv)
    try:
        _run(args)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(printable(str(error)).split())}", file=sys.stderr)
        return 1
    return 0


def _run(args: argparse.Namespace) -> None:
    dataset = args.dataset or _test_set(args.config_file)
    if dataset not in DatasetCatalog:
        raise ValueError(f"no data set is named {dataset}; --dataset takes a registered one")
    # Results on tiles are judged on the images that they are of.
    dataset = MetadataCatalog.get(dataset).get("tiles_of") or dataset
    detector = load_detector(args, min_score=0.0)
    names, classes = MetadataCatalog.get(dataset).thing_classes, list(detector.class_names)
    check_same_classes({"the weights": classes, dataset: names})
    best, values = choose_thresholds(detector, dataset)
    update_card(
        args.weights,
        score_thresholds={
            "rule": "best F1",
            "iou": best.iou,
            "dataset": dataset,
            "values": [values.get(name) for name in classes],
        },
    )
    print(f"written into {args.weights}")


def choose_thresholds(detector: Detector, dataset: str) -> tuple[BestF1, dict[str, float]]:
    """Detect in all images of a data set, find the best thresholds, and print them.

    Args:
        detector: of all scores.
        dataset: a registered one, of whole images.

    Returns:
        What was found, and by class name the threshold; without classes that no detection is right
        of.

    Raises:
        ValueError, OSError: annotations or images cannot be used.
    """
    evaluator = _Collector(dataset, distributed=False)
    evaluator.reset()
    for record in tqdm(DatasetCatalog.get(dataset), unit="image", dynamic_ncols=True):
        with open_scene(record["file_name"]) as scene:
            (found,) = detector.find([scene])
        evaluator.process([record], [{"instances": found}])
    truth, detections = evaluator.compared()
    if not len(detections.image):
        raise ValueError("found no detection at all, so that there are no scores to choose from")
    analysis = analyse(evaluator.protocol, truth, detections, progress=True)
    best, names = analysis.best_f1, list(analysis.classes.values())
    columns = (best.threshold, best.f1, best.precision, best.recall)
    rows = [
        [name, *("-" if value != value else f"{value:.3f}" for value in values)]
        for name, *values in zip(names, *(column.tolist() for column in columns))
    ]
    header = ["class", "score from", "F1", "precision", "recall"]
    print(f"best F1 at IoU {best.iou:g} on {dataset}")
    align = ("left", *["right"] * 4)
    print(printable(tabulate(rows, header, "simple", disable_numparse=True, colalign=align)))
    chosen = zip(names, best.threshold.tolist())
    return best, {name: value for name, value in chosen if value == value}


class _Collector(ProtocolEvaluator):
    """Takes detections as the evaluator does, and hands them out."""

    def compared(self) -> tuple[GroundTruth, Detections]:
        truth = self._truth
        return truth, self._detections(self._predictions, truth.image_ids, truth.image_names)


def _test_set(config_file: str) -> str:
    cfg = load_config(config_file, [])
    recipe: Recipe = LazyRecipe(cfg) if isinstance(cfg, DictConfig) else YacsRecipe(cfg)
    if not recipe.test_names:
        raise ValueError(f"{config_file} names no test set; name one with --dataset")
    return recipe.test_names[0]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m efpnbs_d2.tools.thresholds",
        description="Choose each class's score threshold by the best F1 on a data set, and store "
        "them in the checkpoint. Choose them with the --tile and --tta that you predict with.",
    )
    add_detector_options(parser)
    parser.add_argument("--dataset", help="name of a data set [the config's first test set]")
    return parser


if __name__ == "__main__":
    sys.exit(main())
