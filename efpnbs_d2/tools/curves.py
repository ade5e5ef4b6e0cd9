"""Loss and AP curves of a run: `python -m efpnbs_d2.tools.curves output/...`."""

import argparse
import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

matplotlib.use("Agg")


# Of any data set and protocol, without those of one class (AP-car).
_OVERALL_AP = re.compile(r"(.*/)?bbox/AP(|50|75|25_tiny|50_tiny|75_tiny)")


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The entries of a `metrics.json` in the order written; a line half written yet is left out.

    Raises:
        ValueError: the file is not what a run writes.
    """
    if not Path(path).is_file():
        return []
    try:
        lines = Path(path).read_text().splitlines(keepends=True)
        entries = [json.loads(line) for line in lines if line.endswith("\n") and line.strip()]
    except (ValueError, RecursionError):  # no JSON, or no text at all
        entries = [None]
    if not all(isinstance(entry, dict) and "iteration" in entry for entry in entries):
        raise ValueError(
            f"{path}: found another file, expected a run's metrics.json, a line of JSON for each "
            "iteration: the one beside model_final.pth"
        )
    return entries


def draw_curves(metrics: list[dict[str, Any]], target: str | Path) -> Path:
    """Draw losses, AP and DCLoss weights against the iteration.

    Args:
        metrics: entries of `metrics.json`. Of several runs in one file the last one is drawn.
        target: picture to write (.png).

    Raises:
        ValueError: there is nothing to draw.
    """
    began = [n for n, (a, b) in enumerate(pairwise(metrics), 1) if b["iteration"] < a["iteration"]]
    metrics = metrics[began[-1] if began else 0 :]
    panels = {
        "loss": [k for k in _names(metrics) if "loss" in k and "/" not in k],
        "AP (%)": [k for k in _names(metrics) if _OVERALL_AP.fullmatch(k)],
        "DCLoss weight": [k for k in _names(metrics) if "dc_loss/" in k and "_weight/" in k],
    }
    panels = {title: names for title, names in panels.items() if names}
    if not panels:
        raise ValueError("the run has written no metrics yet")
    figure = Figure(figsize=(5.5 * len(panels), 4), layout="constrained")
    for axes, (title, names) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for name in names:
            points = [(m["iteration"], m[name]) for m in metrics if name in m]
            label = name.split("dc_loss/")[-1].replace("bbox/", "")
            axes.plot(
                *zip(*points, strict=True), label=label, marker="o" if len(points) < 12 else ""
            )
        axes.set(title=title, xlabel="iteration", ylim=(0, None))
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.savefig(target, dpi=110)
    return Path(target)


def _names(metrics: list[dict[str, Any]]) -> list[str]:
    return sorted({name for entry in metrics for name in entry})


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m efpnbs_d2.tools.curves", description=__doc__)
    parser.add_argument("metrics", type=Path, help="a run's folder, or its metrics.json")
    parser.add_argument(
        "--output", type=Path, help="picture to write; beside metrics.json if absent"
    )
    args = parser.parse_args()
    file = args.metrics / "metrics.json" if args.metrics.is_dir() else args.metrics
    if not file.is_file():
        parser.error(f"{file} not found; a run writes it into its output folder")
    try:
        metrics = read_metrics(file)
        if not metrics:
            raise ValueError(f"{file}: the run has written no metrics yet")
        print(draw_curves(metrics, args.output or file.with_name("curves.png")))
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
