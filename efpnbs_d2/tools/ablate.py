"""Train and compare the runs of a list, each with several seeds: what does each part bring?

`python -m efpnbs_d2.tools.ablate LIST` takes a YAML file, or the name of one in configs/ablations.
It may be stopped at any moment; the same command goes on where it stopped.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ..protocols import find_protocol
from .ablation_job import FINISHED
from .ablation_list import Ablation, find_list, read_list
from .ablation_measures import measure
from .ablation_page import write_report
from .ablation_queue import run_all
from .ablation_runs import Job, check_records, missing_weights, plan
from .ablation_settings import unfair_keys
from .ablation_tables import Results

_SHOWN = 3  # changed runs that a message describes


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command; a user's mistake ends in one sentence, a failed run in exit code 1."""
    args = _parser().parse_args(argv)
    try:
        failed = _ablate(args)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    if failed:
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m efpnbs_d2.tools.ablate", description=__doc__)
    parser.add_argument("list", help="YAML file, or its name in configs/ablations")
    parser.add_argument(
        "--output", type=Path, help="folder of all runs and pages; output/ablation/NAME if absent"
    )
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="runs at once")
    parser.add_argument("--only", nargs="+", default=[], metavar="RUN", help="train these only")
    parser.add_argument(
        "--seeds", nargs="+", default=[], type=int, metavar="S", help="train with these only"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="list what is done and what would be run"
    )
    parser.add_argument(
        "--report-only", action="store_true", help="write the pages of what is there"
    )
    parser.add_argument(
        "--accept-changed",
        action="store_true",
        help="take runs as they are whose settings have changed since they were begun",
    )
    return parser


def _ablate(args: argparse.Namespace) -> bool:
    """Whether a run failed."""
    if args.jobs < 1:
        raise ValueError(f"--jobs: found {args.jobs}, expected 1 or more")
    path = find_list(args.list)
    ablation = read_list(path)
    output = (args.output or Path("output/ablation", ablation.name)).resolve()
    starts, runs = plan(ablation, output, only=args.only, seeds=args.seeds)
    every_start, every_run = plan(ablation, output)
    changed = check_records([*starts, *runs])
    if changed and not (args.accept_changed or args.report_only or args.dry_run):
        more = f"; and {len(changed) - _SHOWN} more" if len(changed) > _SHOWN else ""
        raise ValueError(
            f"{'; '.join(changed[:_SHOWN])}{more}. Remove their folders in {output}, choose "
            "another --output, or keep them as they are with --accept-changed"
        )
    notes = [*check_records([*every_start, *every_run]), *_unfair(ablation, every_run)]
    for note in notes:
        print(f"warning: {note}")
    if args.dry_run:
        _list_jobs([*starts, *runs])
        return False
    if args.report_only:
        _report(ablation, every_run, output, notes)
        return False
    if missing := missing_weights([*starts, *runs]):
        raise ValueError(
            f"{'; '.join(missing)}; nothing was started. Train them first: the comments of {path}, "
            "or of the list that it builds on, may say how"
        )
    failures = run_all(
        [*starts, *runs], args.jobs, lambda: _report(ablation, every_run, output, notes)
    )
    written = _report(ablation, every_run, output, notes)
    print("written:", *written, sep="\n  ")
    for job, reason in failures.items():
        print(f"failed: {job.name}: {reason} ({job.console})")
    return bool(failures)


def _unfair(ablation: Ablation, runs: Sequence[Job]) -> list[str]:
    """Differences within a comparison that are none of the method: a sentence each."""
    settings = {job.run.name: job.settings for job in runs}
    sentences = []
    for comparison in ablation.comparisons:
        for run in comparison.runs:
            keys = unfair_keys(comparison, settings[comparison.baseline], settings[run])
            if keys:
                sentences.append(
                    f"{run} differs from {comparison.baseline} also in {', '.join(keys)}: the "
                    "comparison is not of the method alone (or name them in its may_differ)"
                )
    return sentences


def _list_jobs(jobs: Sequence[Job]) -> None:
    for sentence in missing_weights(jobs):
        print(f"warning: {sentence}")
    for job in jobs:
        state = "finished" if job.is_finished else "begun" if job.is_begun else "to do"
        print(f"{state:9} {job.name}  {job.folder}")
    left = sum(not job.is_finished for job in jobs)
    print(f"{left} of {len(jobs)} runs to do, starts included")


def _report(
    ablation: Ablation, runs: Sequence[Job], output: Path, notes: Sequence[str]
) -> list[Path]:
    """Measure what is finished and not measured yet, and write the pages."""
    measures: dict[str, dict[int, dict[str, float]]] = {}
    hardware, problems = [], list(notes)
    headlines: dict[str, None] = {}
    for job in sorted(runs, key=lambda job: [*ablation.runs].index(job.run.name)):
        if not job.is_finished:
            continue
        try:
            measures.setdefault(job.run.name, {})[job.seed] = measure(job.folder)
        except (ValueError, OSError) as error:
            problems.append(f"{job.name} cannot be measured: {error}")
            continue
        hardware.append(json.loads((job.folder / FINISHED).read_text())["hardware"])
        for metrics in sorted(job.folder.glob("inference/*/metrics.json")):
            protocol = find_protocol(json.loads(metrics.read_text())["protocol"])
            headlines[f"{metrics.parent.name}/official/{protocol.headline}"] = None
    settings = {job.run.name: job.settings for job in runs}
    results = Results(ablation, settings, measures, hardware, [*headlines], problems)
    return write_report(output, results)


if __name__ == "__main__":
    main()
