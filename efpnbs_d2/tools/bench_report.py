"""What a benchmark found, on which machine: as JSON, as tables, and against an earlier one."""

import json
import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from ..atomic import write_atomically
from .bench_turns import RATIO, Measurement

_CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass
class Report:
    """Measurements, and where they come from.

    Attributes:
        hardware: processor, cores, threads, load average at the start, and the GPU in use.
        torch: its version.
        commit: of the checkout, with "-dirty" behind it if files were changed; or "unknown".
        date: of the start, ISO 8601 in UTC.
        setting: how large the inputs were, in words.
        measurements: by name.
        skipped: why something was not measured, by name.
        finished: suites that were measured.
        failed: why a suite was not, by suite.
    """

    hardware: dict[str, Any]
    torch: str
    commit: str
    date: str
    setting: str
    measurements: dict[str, Measurement] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    finished: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of_this_machine(cls, device: str, setting: str) -> "Report":
        """An empty one."""
        date = datetime.now(timezone.utc).isoformat(timespec="seconds")
        return cls(_hardware(device), torch.__version__, _commit(), date, setting)

    def write(self, path: Path) -> None:
        """Write JSON; folders are made.

        Raises:
            OSError: it cannot be written.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self), indent=2) + "\n"
        write_atomically(path, lambda file: file.write(text.encode()))

    @classmethod
    def read(cls, path: Path) -> "Report":
        """What `write` wrote.

        Raises:
            OSError: the file cannot be read.
            ValueError: it is another kind of file.
        """
        try:
            fields = json.loads(path.read_bytes())
            found = {name: Measurement(**own) for name, own in fields["measurements"].items()}
            return cls(**{**fields, "measurements": found})
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{path} is no result of efpnbs_d2.tools.bench --output ({error!r})"
            ) from error

    def check_continues(self, earlier: "Report") -> None:
        """Whether more measurements may join an earlier report's.

        Raises:
            ValueError: they come from another machine, commit or setting.
        """
        for name in ("setting", "torch", "commit"):
            before, now = getattr(earlier, name), getattr(self, name)
            if before != now:
                raise ValueError(
                    f"cannot resume: {name} was {before!r} and is {now!r} now; start anew without "
                    "--resume"
                )
        if machine(earlier) != machine(self):
            raise ValueError("cannot resume: this is another machine; start anew without --resume")

    def heading(self) -> str:
        """Machine, versions and setting in one line."""
        hardware = ", ".join(f"{name} {value}" for name, value in self.hardware.items())
        return f"{self.setting}; {hardware}; torch {self.torch}, commit {self.commit}, {self.date}"


def table(measurements: Mapping[str, Measurement]) -> str:
    """One line a measurement: median, unit, quartiles if they have a spread, number of runs."""
    width = max(map(len, measurements), default=0) + 2
    return "\n".join(
        f"{name:{width}}{number(found.median):>9} {found.unit:4}{spread(found):20}{found.n:3}"
        for name, found in measurements.items()
    )


def markdown(report: Report) -> str:
    """The ratios as a table for a document, what was skipped, and the machine below it."""
    lines = ["| | ratio | quartiles | runs |", "|---|---|---|---|"]
    for name, found in report.measurements.items():
        if found.unit == RATIO:
            lines.append(f"| {name} | {number(found.median)} | {spread(found)} | {found.n} |")
    missing = report.skipped | report.failed
    lines += [f"| {name} | not measured: {reason} | | |" for name, reason in missing.items()]
    return "\n".join([*lines, "", report.heading() + "."])


def comparison(old: Report, new: Report) -> str:
    """Both medians of every measurement, their ratio, and what moved beyond the noise.

    A measurement moved if the quartiles of the two runs do not overlap.
    """
    lines = [f"old: {old.heading()}", f"new: {new.heading()}"]
    if machine(old) != machine(new) or old.setting != new.setting:
        lines.append("These are two machines or settings: only ratios (x) say something, if any.")
    both = [name for name in old.measurements if name in new.measurements]
    width = max(map(len, both), default=0) + 2
    lines.append(f"\n{'':{width}}{'old':>10}{'new':>10}{'new / old':>12}")
    for name in both:
        before, after = old.measurements[name], new.measurements[name]
        ratio = after.median / before.median if before.median else float("nan")
        lines.append(
            f"{name:{width}}{number(before.median):>10}{number(after.median):>10}{ratio:12.3f}"
            f"  {verdict(before, after)}".rstrip()
        )
    for title, one, other in (("old", old, new), ("new", new, old)):
        lines += [f"only in {title}: {n}" for n in one.measurements if n not in other.measurements]
    return "\n".join(lines)


def verdict(old: Measurement, new: Measurement) -> str:
    """ "higher" or "lower" where the quartiles do not overlap, else nothing."""
    if new.quartile_1 > old.quartile_3:
        return "higher"
    return "lower" if new.quartile_3 < old.quartile_1 else ""


def machine(report: Report) -> tuple[object, ...]:
    """What has to be the same for seconds to be compared."""
    hardware = {name: own for name, own in report.hardware.items() if name != "load average"}
    return (*hardware.items(), report.torch)


def number(value: float) -> str:
    """Four digits, the unit's last ones whole: 1.004, 12.35, 2010."""
    return f"{value:.0f}" if abs(value) >= 1000 else f"{value:#.4g}".rstrip(".")


def spread(found: Measurement) -> str:
    if found.n == 1:
        return ""
    return f"{number(found.quartile_1)} to {number(found.quartile_3)}"


def _hardware(device: str) -> dict[str, Any]:
    found: dict[str, Any] = {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "load average": round(os.getloadavg()[0], 1),
    }
    if torch.device(device).type == "cuda":
        found["GPU"] = torch.cuda.get_device_name(device)
    return found


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str:
    command = "git describe --always --dirty --abbrev=40 --exclude=*".split()
    try:
        found = subprocess.run(command, cwd=_CHECKOUT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()
