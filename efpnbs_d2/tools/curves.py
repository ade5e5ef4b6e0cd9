"""Loss and AP curves of a run: `python -m efpnbs_d2.tools.curves output/.../metrics.json`."""

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

matplotlib.use("Agg")


def read_metrics(path: str | Path) -> list[dict[str, Any]]:
    """The entries of a `metrics.json` in the order written; a line half written yet is left out."""
    if not Path(path).is_file():
        return []
    lines = Path(path).read_text().splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n") and line.strip()]


def draw_curves(metrics: list[dict[str, Any]], target: str | Path) -> Path:
    """Draw losses, AP and DCLoss weights against the iteration.

    Args:
        metrics: entries of `metrics.json`.
        target: picture to write (.png).

    Raises:
        ValueError: there is nothing to draw.
    """
    if not metrics:
        raise ValueError("the run has written no metrics yet")
    panels = {
        "loss": [k for k in _names(metrics) if "loss" in k and "/" not in k],
        "AP (%)": [k for k in _names(metrics) if k in ("bbox/AP", "bbox/AP50", "bbox/AP75")],
        "DCLoss weight": [k for k in _names(metrics) if "dc_loss/" in k and "_weight/" in k],
    }
    panels = {title: names for title, names in panels.items() if names}
    figure = Figure(figsize=(5.5 * len(panels), 4), layout="constrained")
    for axes, (title, names) in zip(
        figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True
    ):
        for name in names:
            points = [(m["iteration"], m[name]) for m in metrics if name in m]
            label = name.split("dc_loss/")[-1].removeprefix("bbox/")
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
    parser.add_argument("metrics", type=Path, help="metrics.json of a run")
    parser.add_argument(
        "--output", type=Path, help="picture to write; beside metrics.json if absent"
    )
    args = parser.parse_args()
    if not args.metrics.is_file():
        parser.error(f"{args.metrics} not found; a run writes it into its output folder")
    print(
        draw_curves(read_metrics(args.metrics), args.output or args.metrics.with_name("curves.png"))
    )


if __name__ == "__main__":
    main()
