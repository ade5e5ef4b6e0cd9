"""Is training blind to some objects or levels? `python -m efpnbs_d2.tools.diagnose`.

    python -m efpnbs_d2.tools.diagnose --config-file configs/visdrone/efpn_bs_r50.py

Positive anchors by pyramid level and object size, the gradient that reaches each level with the
stock FPN and with E-FPN-BS, and how the box head's gradient is shared between object scales, with
and without DCLoss. Tables in the terminal; a page, a picture and all numbers as JSON in a folder.
"""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from detectron2.data import MetadataCatalog
from omegaconf import DictConfig
from tabulate import tabulate

from ..atomic import write_atomically
from ..data import read_dataset
from ..engine.classes import check_class_count
from ..engine.cli import USER_ERRORS, load_config
from ..engine.recipe import LazyRecipe, Recipe, YacsRecipe
from ..modeling import DCLoss
from .anchor_statistics import anchor_statistics
from .detector_pair import build_pair, training_samples
from .diagnose_page import write_page, write_picture
from .diagnose_tables import Diagnosis, numbers, readings, tables
from .gradient_statistics import gradient_statistics
from .html_page import printable

__all__ = ["diagnose", "main"]


def diagnose(
    recipe: Recipe, config: str, dataset: str, images: int, samples: int, *, progress: bool = True
) -> Diagnosis:
    """Measure a recipe on a data set.

    Args:
        recipe: of the detector; its initial weights are used for gradients only.
        config: its name, for people.
        dataset: name of a registered data set.
        images: how many of its images are looked at for anchors, evenly spread.
        samples: how many for gradients, of those with objects; 0 for none.

    Raises:
        ValueError, OSError: the data or weights are missing or do not fit the config.
    """
    records, _ = read_dataset(dataset)
    if not any("annotations" in record for record in records):
        raise ValueError(f"{dataset} has no annotations, so nothing can be assigned to anchors")
    gradients, dc_loss = None, DCLoss()
    if samples > 0:
        pair = build_pair(recipe)
        model, dc_loss = pair.stock, pair.dc_loss
        check_class_count(model, (dataset,))
        chosen = _evenly([r for r in records if _has_object(r)], samples)
        if not chosen:
            raise ValueError(f"{dataset} has no objects: there is no gradient to measure")
        gradients = gradient_statistics(
            pair, training_samples(recipe, chosen), len(chosen), progress=progress
        )
    else:
        model = recipe.build_model()
    return Diagnosis(
        config=config,
        dataset=dataset,
        protocol=MetadataCatalog.get(dataset).protocol,
        rule=_rule(model.proposal_generator.anchor_matcher),
        weights=recipe.options.init_checkpoint,
        anchors=anchor_statistics(
            model, _evenly(records, images), recipe.input_scale, progress=progress
        ),
        gradients=gradients,
        dc_loss=dc_loss,
    )


def _rule(assigner: object) -> str:
    similarity = getattr(assigner, "similarity", None)
    if similarity is None:
        return type(assigner).__name__
    function = getattr(similarity, "func", similarity)  # a constant may be bound to it
    return f"{type(assigner).__name__} by {function.__name__}"


def _has_object(record: dict[str, Any]) -> bool:
    return any(not annotation.get("iscrowd", 0) for annotation in record.get("annotations", ()))


def _evenly(records: Sequence[dict[str, Any]], number: int) -> list[dict[str, Any]]:
    places = np.linspace(0, len(records) - 1, min(number, len(records)))
    return [records[place] for place in places.round().astype(int)]


def main(argv: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    args = _parser().parse_args(argv)
    try:
        cfg = load_config(args.config_file, args.overrides)
        recipe = LazyRecipe(cfg) if isinstance(cfg, DictConfig) else YacsRecipe(cfg)
        dataset = args.dataset or _first(recipe.train_names)
        found = diagnose(recipe, args.config_file, dataset, args.images, args.samples)
        result = numbers(found)
        folder = args.output or _default_output(args.config_file, dataset)
        data = json.dumps(result, indent=2).encode()
        write_page(result, folder / "diagnosis.html")
        write_picture(result, folder / "diagnosis.png")
        write_atomically(folder / "diagnosis.json", lambda file: file.write(data))
    except USER_ERRORS as error:
        message = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
        print(f"diagnose: {' '.join(printable(message).split())}", file=sys.stderr)
        return 1
    for caption, header, rows in tables(result):
        print(f"\n== {caption} ==")
        align = ["left", *["right"] * (len(header) - 1)]
        print(tabulate(rows, header, "simple", disable_numparse=True, colalign=align))
    print()
    for severity, sentence in readings(result):
        print(f"{severity:<8} {sentence}")
    print(f"page: {folder / 'diagnosis.html'}")
    return 0


def _first(names: tuple[str, ...]) -> str:
    if not names:
        raise ValueError("the config names no training data set, so name one with --dataset")
    return names[0]


def _default_output(config: str, dataset: str) -> Path:
    stem = "-".join(Path(config).with_suffix("").parts[-2:])
    return Path("output/diagnose") / re.sub(r"[^\w.-]", "_", f"{stem}-{dataset}")


def _count(least: int) -> Any:
    def parse(text: str) -> int:
        if not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r}: expected a number, {least} or more")
        return int(text)

    return parse


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m efpnbs_d2.tools.diagnose",
        description="Positive anchors, gradients by pyramid level, and the box head's balance.",
    )
    parser.add_argument("--config-file", required=True, metavar="FILE", help=".py or .yaml")
    parser.add_argument(
        "--dataset", metavar="NAME", help="of a registered data set (default: the training set)"
    )
    parser.add_argument(
        "--images",
        type=_count(1),
        default=200,
        metavar="N",
        help="whole images looked at for anchors, evenly spread (default: 200)",
    )
    parser.add_argument(
        "--samples",
        type=_count(0),
        default=16,
        metavar="N",
        help="training samples that gradients are measured on; 0 for none (default: 16)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        help="for diagnosis.html, .png and .json (default: output/diagnose/FOLDER-CONFIG-DATASET)",
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="changes to the config, as in train_net.py",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
