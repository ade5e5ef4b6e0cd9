"""How fast the package is, against what it replaces: ratios from one run on one machine.

    python -m efpnbs_d2.tools.bench --quick --output output/bench.json
    python -m efpnbs_d2.tools.bench --compare output/old.json output/bench.json
    python -m efpnbs_d2.tools.bench --profile configs/visdrone/mini_efpn_bs_rfla_r18.py

Contestants take turns, so that a slower spell of the machine meets all of them. docs/speed.md says
what is measured. A ratio below 1 means that the first needs less than the second. Each suite has a
process of its own: where one fails, or is killed, the others go on. `--output` is written after
each, and `--resume` goes on with what it holds.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from ..engine.cli import USER_ERRORS
from . import bench_profile
from .bench_report import Report, comparison, markdown, table
from .bench_suites import FULL, QUICK, SUITES, Effort
from .memory import in_fresh_process

_PROFILED_STEPS = 20


def run(
    effort: Effort,
    device: str,
    names: Sequence[str],
    output: Path | None = None,
    resume: bool = False,
) -> Report:
    """Measure the suites `names`; print each one's table, and write all so far, when it is done.

    Args:
        effort: how much.
        device: e.g. "cpu".
        names: of `SUITES`.
        output: the report goes there.
        resume: measure only what is missing there, if there is anything.

    Raises:
        ValueError: what is to be resumed is no report, or of another machine, commit or setting.
        OSError: `output` cannot be read or written.
    """
    report = Report.of_this_machine(device, setting=f"{effort}, {device}")
    if resume and output and output.exists():
        earlier = Report.read(output)
        report.check_continues(earlier)
        report = earlier
    _say(report.heading())
    for name in names:
        if name in report.finished:
            _say(f"\n{name}: measured before")
            continue
        _say(f"\n{name}: {(SUITES[name].__doc__ or '').strip()}")
        try:
            found = in_fresh_process(SUITES[name], effort, device)
        except Exception as error:  # of any kind: the other suites are worth having
            reason = (str(error).strip().splitlines() or [""])[0]
            report.failed[name] = f"{type(error).__name__}: {reason}"
            _say(f"{name} failed: {report.failed[name]}")
        else:
            report.failed.pop(name, None)
            report.finished.append(name)
            report.measurements |= found.measurements
            report.skipped |= found.skipped
            _say(table(found.measurements))
            for what, reason in found.skipped.items():
                _say(f"{what} skipped: {reason}")
        if output:
            report.write(output)
    return report


def _say(text: str) -> None:
    # Into a file too, at once: what is known must not die with a process that is killed.
    print(text, flush=True)


def run_profile(config_file: str, overrides: Sequence[str]) -> Report:
    """Measure the stages of a recipe's training step, and print their table.

    Raises:
        ValueError, OSError: the config or its data cannot be used.
    """
    measurements, device = bench_profile.profile(config_file, overrides, _PROFILED_STEPS)
    setting = " ".join(["training step of", config_file, *overrides])
    report = Report.of_this_machine(device, setting)
    report.measurements |= measurements
    print(f"{report.heading()}\n{table(measurements)}")
    return report


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: measure, profile, or show what was measured before."""
    options = _parser().parse_args(arguments)
    if options.overrides and not options.profile:
        sys.exit(f"error: {options.overrides} are for --profile CONFIG")
    if options.resume and not options.output:
        sys.exit("error: --resume needs the --output to go on with")
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("error: --device cuda: no GPU was found")
    try:
        if options.compare:
            print(comparison(*map(Report.read, options.compare)))
            return
        if options.markdown:
            report = Report.read(options.markdown)
            profiled = bench_profile.STEP in report.measurements
            print(bench_profile.markdown(report) if profiled else markdown(report))
            return
        if options.profile:
            report = run_profile(options.profile, options.overrides)
            if options.output:
                report.write(options.output)
            return
        effort = QUICK if options.quick else FULL
        report = run(effort, options.device, options.only, options.output, options.resume)
    except USER_ERRORS as error:
        sys.exit(f"error: {error}")
    if report.failed:
        sys.exit(f"error: failed: {', '.join(report.failed)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small inputs: minutes on two cores")
    parser.add_argument("--device", default="cpu", help="cpu [default] or cuda")
    parser.add_argument(
        "--only", nargs="+", choices=SUITES, default=list(SUITES), help="what to measure [all]"
    )
    parser.add_argument(
        "--output", type=Path, help="write the numbers here, as JSON, after every suite"
    )
    parser.add_argument(
        "--resume", action="store_true", help="measure only what is not yet in --output"
    )
    parser.add_argument(
        "--compare", nargs=2, type=Path, metavar=("OLD", "NEW"), help="two results: what moved"
    )
    parser.add_argument(
        "--markdown", type=Path, metavar="RESULT", help="its ratios, or stages, as a table"
    )
    parser.add_argument(
        "--profile", metavar="CONFIG", help="where the time of this recipe's training step goes"
    )
    parser.add_argument("overrides", nargs="*", help="key=value of that recipe")
    return parser


if __name__ == "__main__":
    main()
