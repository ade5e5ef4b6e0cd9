"""One page of an evaluation: what a detector reaches, and how it fails; or two detectors compared.

Numbers are in percent.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..evaluation.analysis import Analysis
from ..evaluation.bootstrap import Comparison
from ..evaluation.columns import Detections, GroundTruth
from ..evaluation.result import Evaluation
from .html_page import Page

__all__ = ["Run", "write_page"]


@dataclass(frozen=True)
class Run:
    """One detector's results, measured.

    Attributes:
        name: for people; the runs of a page have different ones.
        found: the detections.
        evaluation: of `found`.
        analysis: of `found`.
    """

    name: str
    found: Detections
    evaluation: Evaluation
    analysis: Analysis


def write_page(
    target: Path,
    runs: Sequence[Run],
    truth: GroundTruth,
    *,
    images: Path | None = None,
    comparison: Comparison | None = None,
) -> None:
    """Write one page of one run, or of two side by side.

    Args:
        target: HTML file; missing folders are made.
        runs: one or two, of the same protocol.
        truth: what they were compared with.
        images: folder of the images; without it the worst images are drawn on grey.
        comparison: of the two runs.

    Raises:
        OSError: the page cannot be written.
    """
    protocol = runs[0].evaluation.protocol
    page = Page(f"{protocol.title}: {' and '.join(run.name for run in runs)}")
    page.write(target)
