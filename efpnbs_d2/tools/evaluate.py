"""Measure anybody's results as a benchmark does: `python -m efpnbs_d2.tools.evaluate --help`.

Prints the official numbers; writes them as JSON, a page that shows how a detector fails, and the
files that the benchmark's server takes. Two result files are compared.
"""

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from ..atomic import write_atomically
from ..evaluation.analysis.analyse import analyse
from ..evaluation.analysis.bootstrap import Comparison, compare
from ..evaluation.columns import Detections, GroundTruth
from ..evaluation.evaluate import evaluate
from ..evaluation.files.ground_truth import read_ground_truth
from ..evaluation.files.image_sizes import images_beside
from ..evaluation.files.results import read_results
from ..evaluation.files.server_files import write_server_files
from ..evaluation.result import Evaluation
from ..evaluation.tile_merge import merge_tiles, read_tiles
from ..protocol_file import load_protocol
from ..protocols import PROTOCOLS, Protocol
from .evaluate_paths import check_paths
from .evaluation_page import Run, write_page
from .html_page import printable


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    args = _parser().parse_args(argv)
    try:
        _run(args)
    except (ValueError, OSError) as error:
        print(f"evaluate: {' '.join(printable(str(error)).split())}", file=sys.stderr)
        return 1
    return 0


def _run(args: argparse.Namespace) -> None:
    names = _run_names(args.results)
    if args.server_files and len(names) > 1:
        raise ValueError("found two --results, expected one with --server-files")
    protocol = load_protocol(args.protocol)
    classes = None if args.classes is None else [n.strip() for n in args.classes.split(",")]
    check_paths(args.gt, args.results, args.images, args.merge_tiles)
    truth = read_ground_truth(args.gt, protocol, images=args.images, classes=classes)
    found = [_read_results(args, path, truth, protocol) for path in args.results]
    # Before the long part, so that a folder that cannot be made is known early.
    for folder in (args.output, args.server_files, args.report and args.report.parent):
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
    if args.report and args.report.is_dir():
        raise ValueError(f"found the folder {args.report}, expected a file for --report")
    if args.server_files:
        written = write_server_files(args.server_files, truth, found[0], protocol)
    evaluations = []
    for name, one in zip(names, found):
        evaluations.append(evaluate(protocol, truth, one, progress=not args.quiet))
        table = printable(evaluations[-1].table())
        print(_heading(name, truth, one), table, "", sep="\n")
    comparison = None
    if len(found) == 2:
        comparison = compare(
            protocol, truth, *found, resamples=args.resamples, progress=not args.quiet
        )
        print(_comparison_table(comparison, evaluations[0]), "", sep="\n")
    if args.output:
        runs = [_as_json(args, *run, truth) for run in zip(args.results, found, evaluations)]
        content = runs[0] if comparison is None else _pair_as_json(runs, comparison)
        target = args.output / "metrics.json"
        text = json.dumps(content, indent=1, allow_nan=False).encode()
        write_atomically(target, lambda file: file.write(text))
        print(f"numbers: {target}")
    if args.server_files:
        print("for the server:", *written)
    if args.report:
        _write_report(args, names, truth, found, evaluations, comparison)
        print(f"page: {args.report}")


def _run_names(paths: Sequence[str]) -> list[str]:
    """What the runs are called: file names where those differ."""
    if len(paths) > 2:
        raise ValueError(f"found {len(paths)} --results, expected one, or two to compare")
    for names in ([Path(path).name for path in paths], list(paths)):
        if len(set(names)) == len(names):
            return names
    raise ValueError(f"found {paths[0]} twice, expected two different --results")


def _read_results(
    args: argparse.Namespace, path: str, truth: GroundTruth, protocol: Protocol
) -> Detections:
    options = {
        "ignore_unknown_classes": args.ignore_unknown_classes,
        "progress": not args.quiet,
    }
    if args.merge_tiles is None:
        return read_results(path, truth, protocol, **options)
    tiles = read_tiles(args.merge_tiles, truth)
    on_tiles = replace(
        truth.select(np.zeros(len(truth.image), dtype=bool)),
        source=args.merge_tiles,
        image_ids=tuple(tiles.ids.tolist()),
        image_names=tiles.names,
        image_sizes=np.zeros((len(tiles.ids), 2), dtype=np.int64),
    )
    found = read_results(path, on_tiles, protocol, **options)
    return merge_tiles(protocol, tiles, truth, found)


def _heading(name: str, truth: GroundTruth, found: Detections) -> str:
    return printable(
        f"== {name} ==\n{len(truth.image_ids):,} images, {len(truth.image):,} annotations, "
        f"{len(found.image):,} detections"
    )


def _comparison_table(comparison: Comparison, evaluation: Evaluation) -> str:
    """The difference of two runs, in percent; `evaluation` knows the units."""
    scale = 1 if evaluation.protocol.percent else 100
    rows = [
        [
            d.name,
            *(_shown(scale * value, "+.2f") for value in (d.difference, d.low, d.high)),
            _shown(d.p_value, ".3f"),
        ]
        for d in comparison.differences
    ]
    header = ["second - first, in %", "difference", "95% from", "to", "p"]
    align = ["left", *["right"] * 4]
    return tabulate(rows, header, "simple", disable_numparse=True, colalign=align)


def _shown(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def _as_json(
    args: argparse.Namespace,
    path: str,
    found: Detections,
    evaluation: Evaluation,
    truth: GroundTruth,
) -> dict[str, Any]:
    return evaluation.as_json() | {
        "files": {"ground_truth": args.gt, "results": path, "tiles": args.merge_tiles},
        "counts": {
            "images": len(truth.image_ids),
            "images_without_results": len(found.missing),
            "annotations": len(truth.image),
            "detections": len(found.image),
        },
    }


def _pair_as_json(runs: list[dict[str, Any]], comparison: Comparison) -> dict[str, Any]:
    # NaN, which JSON does not know, is the only value that differs from itself.
    differences = [
        {
            key: None if value != value else value
            for key, value in (asdict(d) | {"difference": d.difference}).items()
        }
        for d in comparison.differences
    ]
    settings = {"resamples": comparison.resamples, "seed": comparison.seed}
    return {"runs": runs, "comparison": settings | {"differences": differences}}


def _write_report(
    args: argparse.Namespace,
    names: Sequence[str],
    truth: GroundTruth,
    found: Sequence[Detections],
    evaluations: Sequence[Evaluation],
    comparison: Comparison | None,
) -> None:
    protocol = evaluations[0].protocol
    runs = [
        Run(name, one, evaluation, analyse(protocol, truth, one, progress=not args.quiet))
        for name, one, evaluation in zip(names, found, evaluations)
    ]
    images = args.images or (images_beside(args.gt) if Path(args.gt).is_dir() else None)
    folder = Path(images) if images is not None and Path(images).is_dir() else None
    write_page(args.report, runs, truth, images=folder, comparison=comparison)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number, 1 or more")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m efpnbs_d2.tools.evaluate",
        description="Measure results, of any detector, as a benchmark does.",
        epilog="example: --protocol visdrone --gt VisDrone2019-DET-val/annotations "
        "--results my_results --report my_results.html",
    )
    parser.add_argument(
        "--protocol",
        required=True,
        help=f"{', '.join(PROTOCOLS)}, or a YAML file of one's own (docs/evaluation.md)",
    )
    parser.add_argument(
        "--gt",
        required=True,
        metavar="FILE|FOLDER",
        help="annotations: a COCO JSON, or a folder of VisDrone text files",
    )
    parser.add_argument(
        "--results",
        required=True,
        action="append",
        metavar="FILE|FOLDER",
        help="COCO results (.json, .json.gz), or a folder of VisDrone text files; twice to compare",
    )
    parser.add_argument(
        "--images",
        metavar="FOLDER|FILE",
        help="folder of the images, for the page and for the sizes that VisDrone's ignored regions "
        "need; or a JSON of those sizes, {name: [height, width]} (default: the folder 'images' "
        "beside a --gt folder)",
    )
    parser.add_argument(
        "--classes",
        metavar="NAMES",
        help="text files: names of categories 1, 2, ... like car,van; JSON: names of the "
        "categories to evaluate (default: all)",
    )
    parser.add_argument(
        "--merge-tiles",
        metavar="FILE",
        help="the results are on the tiles of this JSON: merge them first, as TinyPerson does",
    )
    parser.add_argument(
        "--ignore-unknown-classes",
        action="store_true",
        help="take results with categories that the annotations do not have; they are not measured",
    )
    parser.add_argument("--output", type=Path, metavar="FOLDER", help="for metrics.json")
    parser.add_argument(
        "--server-files", type=Path, metavar="FOLDER", help="for what the benchmark's server takes"
    )
    parser.add_argument(
        "--report", type=Path, metavar="FILE.html", help="page with curves, errors and pictures"
    )
    parser.add_argument(
        "--resamples",
        type=_count,
        default=1000,
        help="draws of the images that tell whether a difference is real (default: 1000)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    return parser


if __name__ == "__main__":
    sys.exit(main())
