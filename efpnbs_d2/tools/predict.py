"""Detect objects in images and videos: `python -m efpnbs_d2.tools.predict --help`.

Writes pictures, annotated videos and files for other programs; docs/predict.md describes them. The
same command continues a run that was stopped. Several processes share the files: start it by
torchrun.
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..checkpoint import read_card
from .detector_options import Detector, add_detector_options, detector_settings, load_detector
from .html_page import printable
from .prediction_files import write_files
from .prediction_inputs import Source, list_sources
from .prediction_processes import Processes, join_processes
from .prediction_records import Records, RecordsOf
from .prediction_run import PredictionRun

_INTERRUPTED = 130  # as a shell counts it: 128 + SIGINT


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        0 when everything was read; 1 after a mistake, or if a file could not be read; 130 after
        Ctrl-C. Of several processes it is the main one's status that says so.
    """
    args = _parser().parse_args(argv)
    try:
        with join_processes() as processes:
            return _run(args, processes)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return _INTERRUPTED
    except (ValueError, OSError) as error:
        _complain(error)
        return 1


@dataclass(frozen=True)
class _Report:
    """What one process has done of its share.

    Attributes:
        written: names of the files that it wrote a record of.
        failed: sentences, as `PredictionRun.failed`.
        is_interrupted: whether Ctrl-C kept it from the rest.
    """

    written: list[str]
    failed: list[str]
    is_interrupted: bool


def _run(args: argparse.Namespace, processes: Processes) -> int:
    sources = processes.from_main(partial(list_sources, args.inputs, args.output))
    # One file: a scene, perhaps, of which windows are all the progress there is to see.
    show_windows = len(sources) == 1 and processes.is_main
    detector = processes.together(partial(_load, args, processes.size, show_windows=show_windows))
    settings = {**detector_settings(args), "score thresholds": list(detector.thresholds)}
    processes.together(partial(_check_same, processes.gathered(settings)))
    records = processes.from_main(partial(Records, args.output, settings, anew=args.overwrite))
    processes.together(records.check_seen)
    run = PredictionRun(detector, records, args.output, pictures=not args.no_pictures)
    processes.say(_thresholds_line(args, detector.thresholds))
    todo = processes.from_main(lambda: [source for source in sources if not run.is_done(source)])
    if len(todo) < len(sources):
        processes.say(f"{len(sources) - len(todo)} of {len(sources)} files were done before")
    if 0 < len(todo) < processes.size:
        processes.say(
            f"{len(todo)} of {processes.size} processes have something to do: each file, be it a "
            "video or a large scene, is one process's work"
        )
    report = processes.together(partial(_predict, run, todo, processes))
    reports = processes.gathered(report)
    return _conclude(run, sources, reports) if processes.is_main else 0


def _load(args: argparse.Namespace, processes: int, *, show_windows: bool) -> Detector:
    if processes > 1 and ":" in (args.device or ""):
        raise ValueError(
            f"found --device {args.device} for {processes} processes, expected cpu or cuda: each "
            "takes the GPU of its own number then"
        )
    return load_detector(args, args.min_score, show_windows=show_windows)


def _check_same(settings: Sequence[Mapping[str, Any]]) -> None:
    """Refuse processes, on other machines perhaps, whose files are not those of the main one."""
    first = settings[0]
    for rank, other in enumerate(settings):
        if changed := [key for key in first if other[key] != first[key]]:
            raise ValueError(
                f"process {rank} has another {', '.join(changed)} than process 0: give all the same"
            )


def _predict(run: PredictionRun, todo: Sequence[Source], processes: Processes) -> _Report:
    is_interrupted = False
    # Images take about the same time each, as videos do: neither kind falls to a few processes.
    share = processes.share(sorted(todo, key=lambda source: source.is_video))
    title = f"process 1 of {processes.size}" if processes.size > 1 else None
    try:
        run.predict(share, title=title, silent=not processes.is_main)
    except KeyboardInterrupt:
        is_interrupted = True
    except torch.cuda.OutOfMemoryError:
        run.failed.append("the GPU's memory is full: use --tile, or a smaller --batch-size")
    return _Report(run.written, run.failed, is_interrupted)


def _conclude(run: PredictionRun, sources: Sequence[Source], reports: Sequence[_Report]) -> int:
    """Write what all processes have found, and say what came of it; returns the exit status."""
    run.records.wait_for(name for report in reports for name in report.written)
    records = RecordsOf(run.records, sources)
    classes = run.detector.class_names, run.detector.category_ids
    written = write_files(run.output, records, *classes)
    done = [len(record.scores) for record in records]
    print(f"{sum(done):,} detections in {len(done)} of {len(sources)} files: {run.output}")
    if done and not any(done):
        print(
            "no score was high enough: choose thresholds with python -m "
            "efpnbs_d2.tools.thresholds, or see what there is with --min-score 0.05 --overwrite"
        )
    kinds = [
        folder for name in ("pictures", "videos") if any((folder := run.output / name).glob("*"))
    ]
    print("written:", *(path.name for path in [*written, *kinds]))
    # Several GPUs may be full.
    failed = dict.fromkeys(message for report in reports for message in report.failed)
    for message in failed:
        _complain(message)
    if any(report.is_interrupted for report in reports):
        print("interrupted: the same command continues", file=sys.stderr)
        return _INTERRUPTED
    return 1 if failed else 0


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
