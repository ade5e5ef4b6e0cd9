"""Detect objects in images and videos: `python -m efpnbs_d2.tools.predict --help`.

Writes pictures, annotated videos and files for other programs; docs/predict.md describes them. The
same command continues a run that was stopped.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from ..checkpoint import read_card
from .detector_options import add_detector_options, detector_settings, load_detector
from .html_page import printable
from .prediction_files import write_files
from .prediction_inputs import Source, list_sources
from .prediction_records import Records, RecordsOf
from .prediction_run import PredictionRun

_INTERRUPTED = 130  # as a shell counts it: 128 + SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        0 when everything was read; 1 after a mistake, or if a file could not be read; 130 after
        Ctrl-C.
    """
    args = _parser().parse_args(argv)
    try:
        return _run(args)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED
    except (ValueError, OSError) as error:
        _complain(error)
        return 1


def _run(args: argparse.Namespace) -> int:
    sources = list_sources(args.inputs, args.output)
    # One file: a scene, perhaps, of which windows are all the progress there is to see.
    detector = load_detector(args, args.min_score, show_windows=len(sources) == 1)
    settings = {**detector_settings(args), "score thresholds": list(detector.thresholds)}
    records = Records(args.output, settings, anew=args.overwrite)
    run = PredictionRun(detector, records, args.output, pictures=not args.no_pictures)
    print(_thresholds_line(args, detector.thresholds))
    todo = [source for source in sources if not run.is_done(source)]
    if len(todo) < len(sources):
        print(f"{len(sources) - len(todo)} of {len(sources)} files were done before")
    status = 0
    try:
        run.predict(todo)
    except KeyboardInterrupt:
        status = _INTERRUPTED
    except torch.cuda.OutOfMemoryError:
        run.failed.append("the GPU's memory is full: use --tile, or a smaller --batch-size")
    _summarize(run, sources, detector.class_names)
    if status == _INTERRUPTED:
        print("interrupted: the same command continues", file=sys.stderr)
    return status or (1 if run.failed else 0)


def _summarize(run: PredictionRun, sources: Sequence[Source], class_names: Sequence[str]) -> None:
    records = RecordsOf(run.records, sources)
    written = write_files(run.output, records, class_names)
    done = [len(record.scores) for record in records]
    print(f"{sum(done):,} detections in {len(done)} of {len(sources)} files: {run.output}")
    kinds = [
        folder for name in ("pictures", "videos") if any((folder := run.output / name).glob("*"))
    ]
    print("written:", *(path.name for path in [*written, *kinds]))
    for message in run.failed:
        _complain(message)


def _thresholds_line(args: argparse.Namespace, thresholds: Sequence[float]) -> str:
    chosen: dict[str, Any] = read_card(args.weights).get("score_thresholds", {})
    if args.min_score is None and chosen:
        return (
            f"scores from {min(thresholds):.2f} to {max(thresholds):.2f} on, by class: "
            f"{chosen['rule']} on {chosen['dataset']}"
        )
    return f"scores from {max(thresholds):g} on"


def _complain(message: object) -> None:
    print(f"error: {' '.join(printable(str(message)).split())}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m efpnbs_d2.tools.predict",
        description="Detect objects in images and videos. The same command continues a run.",
        epilog="example: --config-file configs/yacs/tinyscenes-EFPNBS-R18.yaml "
        "--weights model_best.pth --output found images/ 'more/**/*.jpg' flight.mp4",
    )
    parser.add_argument(
        "inputs", nargs="+", help="image or video files, folders of images, or quoted globs"
    )
    add_detector_options(parser)
    parser.add_argument(
        "--min-score",
        type=float,
        help="least score of what is drawn and written [chosen for the weights, else 0.5]",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("output/predict"), help="folder [output/predict]"
    )
    parser.add_argument("--no-pictures", action="store_true", help="write detections alone")
    parser.add_argument(
        "--overwrite", action="store_true", help="start anew where --output has other results"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
