"""How fast the package is, against what it replaces: ratios from one run on one machine.

    python -m efpnbs_d2.tools.bench --quick --output output/bench.json
    python -m efpnbs_d2.tools.bench --compare output/old.json output/bench.json
    python -m efpnbs_d2.tools.bench --profile configs/visdrone/mini_efpn_bs_rfla_r18.py

Contestants take turns, so that a slower spell of the machine meets all of them. docs/speed.md says
what is measured. A ratio below 1 means that the first needs less than the second.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from ..engine.cli import USER_ERRORS
from .bench_profile import profile
from .bench_report import Report, comparison, markdown, table
from .bench_suites import FULL, QUICK, SUITES, Effort

_PROFILED_STEPS = 20


def run(effort: Effort, device: str, names: Sequence[str]) -> Report:
    """Measure the suites `names`, and print each one's table when it is done."""
    report = Report.of_this_machine(device, setting=f"{effort}, {device}")
    print(report.heading())
    for name in names:
        found = SUITES[name](effort, device)
        report.measurements |= found.measurements
        report.skipped |= found.skipped
        print(f"\n{name}: {(SUITES[name].__doc__ or '').strip()}")
        print(table(found.measurements))
        for what, reason in found.skipped.items():
            print(f"{what} skipped: {reason}")
    return report


def run_profile(config_file: str, overrides: Sequence[str]) -> Report:
    """Measure the stages of a recipe's training step, and print their table.

    Raises:
        ValueError, OSError: the config or its data cannot be used.
    """
    measurements, device = profile(config_file, overrides, _PROFILED_STEPS)
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
    if options.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit("error: --device cuda: no GPU was found")
    try:
        if options.compare:
            print(comparison(*map(Report.read, options.compare)))
            return
        if options.markdown:
            print(markdown(Report.read(options.markdown)))
            return
        if options.profile:
            report = run_profile(options.profile, options.overrides)
        else:
            report = run(QUICK if options.quick else FULL, options.device, options.only)
        if options.output:
            report.write(options.output)
    except USER_ERRORS as error:
        sys.exit(f"error: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="small inputs: minutes on two cores")
    parser.add_argument("--device", default="cpu", help="cpu [default] or cuda")
    parser.add_argument(
        "--only", nargs="+", choices=SUITES, default=list(SUITES), help="what to measure [all]"
    )
    parser.add_argument("--output", type=Path, help="write the numbers here, as JSON")
    parser.add_argument(
        "--compare", nargs=2, type=Path, metavar=("OLD", "NEW"), help="two results: what moved"
    )
    parser.add_argument("--markdown", type=Path, metavar="RESULT", help="its ratios as a table")
    parser.add_argument(
        "--profile", metavar="CONFIG", help="where the time of this recipe's training step goes"
    )
    parser.add_argument("overrides", nargs="*", help="key=value of that recipe")
    return parser


if __name__ == "__main__":
    main()
