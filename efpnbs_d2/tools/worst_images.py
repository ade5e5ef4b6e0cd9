"""The images that detectors err most on, drawn for a page."""

from collections.abc import Sequence
from pathlib import Path

from ..evaluation.analysis.error_types import ERROR_TYPES
from ..evaluation.analysis.image_errors import ImageBoxes
from .error_pictures import LEGEND, densest_errors, enlarged, grey_image, open_image, whole_image
from .evaluation_tables import Run, letters
from .html_page import Page

__all__ = ["add_worst_images"]

_PICTURES = 6  # images drawn, of both runs together


def add_worst_images(page: Page, runs: Sequence[Run], images: Path | None) -> None:
    """Append the images with most errors of all runs together, each as every run sees it.

    Args:
        page: to append to.
        runs: one or two.
        images: their folder; what is not found is drawn on grey, with the reason.
    """
    chosen = _worst(runs)
    if not chosen:
        page.paragraph("No image has an error.")
        return
    page.legend(LEGEND)
    for index in chosen:
        _add_image(page, runs, index, images)


def _worst(runs: Sequence[Run]) -> list[int]:
    """Indices of the images with most errors of all runs together, among those with boxes."""
    counts = sum(
        run.analysis.image_errors.missed + run.analysis.image_errors.false_positives for run in runs
    )
    known = {boxes.image for run in runs for boxes in run.analysis.image_errors.worst}
    return sorted(known, key=lambda index: (-counts[index], index))[: _PICTURES // len(runs)]


def _add_image(page: Page, runs: Sequence[Run], index: int, folder: Path | None) -> None:
    """One image with its enlarged part, for each run that has its boxes."""
    of_image = {
        letter: boxes
        for letter, run in zip(letters(runs), runs, strict=True)
        for boxes in run.analysis.image_errors.worst
        if boxes.image == index
    }
    first = next(iter(of_image.values()))
    reason = ""
    try:
        if folder is None:
            raise ValueError("no folder of images was given")
        image = open_image(folder, first.name, first.size)
    except ValueError as error:
        image, reason = grey_image(list(of_image.values())), f" Drawn on grey: {error}."
    window = densest_errors(image.shape, list(of_image.values()))
    page.heading(first.name, 3)
    prefixes = {letter: f"{letter.strip()}: " if letter else "" for letter in of_image}
    with page.columns():
        for letter, boxes in of_image.items():
            caption = f"{prefixes[letter]}{_counts(boxes)}.{reason}"
            page.picture(whole_image(image, boxes, window), caption)
        for letter, boxes in of_image.items():
            caption = f"{prefixes[letter]}part with the densest errors."
            page.picture(enlarged(image, boxes, window), caption)
    for letter in letters(runs):
        if letter not in of_image:
            page.paragraph(f"{letter.strip()} has few errors here: it is not drawn.")


def _counts(boxes: ImageBoxes) -> str:
    missed, found = (int((boxes.true_state == state).sum()) for state in (0, 1))
    errors = boxes.found_error[boxes.found_state == 0]
    kinds = [
        f"{int((errors == e).sum()):,} {kind}"
        for e, kind in enumerate(ERROR_TYPES)
        if (errors == e).any()
    ]
    text = f"{missed + found:,} objects, {missed:,} missed; {len(errors):,} false positives"
    return f"{text} ({', '.join(kinds)})" if kinds else text
