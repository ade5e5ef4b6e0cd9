"""The page about one image's way through a detector.

Shapes: images are H x W x 3, BGR uint8; boxes xyxy in pixels of the original image; R proposals.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from ..atomic import write_atomically
from ..inference.drawing import draw_boxes, heat_map, outline_boxes
from ..inference.explanation import Explanation, Proposals
from .html_page import Number, Page

__all__ = ["write_explanation"]

# Pictures are of this many pixels at most, on their longer side; smaller images are magnified.
_LONGEST, _LEAST = 1200, 900
# Of pictures beside each other.
_IN_A_ROW, _ROW_WIDTH, _GAP = 3, 1800, 8
# This part of a level's cells may be above what is drawn as the highest energy.
_OVER_SCALE = 0.005
_SCORE_EDGES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)


def write_explanation(
    output: Path,
    name: str,
    image: np.ndarray,
    explanation: Explanation,
    class_names: Sequence[str],
    *,
    min_score: float = 0.5,
    max_proposals: int = 200,
) -> Path:
    """Write `output`/NAME.html and its pictures as `output`/NAME/*.png.

    Args:
        output: made where needed.
        name: of the image, without suffix.
        image: that was explained.
        explanation: of it.
        class_names: one name a class.
        min_score: of the detections that are drawn.
        max_proposals: how many of the best are drawn.

    Returns:
        The page.

    Raises:
        OSError: it cannot be written.
    """
    writer = _Writer(Page(f"What the detector sees in {name}"), output / name, image)
    proposals = explanation.proposals
    found = explanation.instances[explanation.instances.scores >= min_score]
    height, width = image.shape[:2]
    read_height, read_width = explanation.network_size
    writer.page.facts(
        [
            ("pixels", f"{width} x {height}"),
            ("read by the network as", f"{read_width} x {read_height}"),
            ("proposals", len(proposals.scores)),
            (f"detections of score {min_score:g} and above", len(found)),
        ]
    )
    boxes = found.pred_boxes.tensor.numpy()
    picture = writer.boxes(boxes, found.pred_classes.tolist(), class_names)
    writer.add("detections", picture, f"Detections of score {min_score:g} and above.")
    _show_masks(writer, explanation)
    _show_energy(writer, explanation)
    _show_proposals(writer, proposals, max_proposals)
    page = output / f"{name}.html"
    writer.page.write(page)
    return page


class _Writer:
    """Adds pictures of one image to a page and to a folder."""

    def __init__(self, page: Page, folder: Path, image: np.ndarray):
        self.page, self.folder = page, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.scale = min(1.0, _LONGEST / max(image.shape[:2]))
        size = [max(1, round(side * self.scale)) for side in image.shape[1::-1]]
        self.image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)

    def boxes(
        self, boxes: np.ndarray, classes: Sequence[int], class_names: Sequence[str]
    ) -> np.ndarray:
        return draw_boxes(self.image, boxes * self.scale, classes, class_names)

    def add(self, stem: str, picture: np.ndarray, caption: str) -> None:
        self._write(stem, picture)
        self.page.picture(picture, caption)

    def add_heat_maps(self, maps: Mapping[str, np.ndarray], caption: str) -> None:
        """Maps of values in [0, 1] by title, beside each other on the page."""
        pictures = [heat_map(self.image, values, title) for title, values in maps.items()]
        for title, picture in zip(maps, pictures, strict=True):
            self._write(title.replace(" ", "_").lower(), picture)
        for first in range(0, len(pictures), _IN_A_ROW):
            row = _beside(pictures[first : first + _IN_A_ROW])
            self.page.picture(row, caption)

    def _write(self, stem: str, picture: np.ndarray) -> None:
        done, data = cv2.imencode(".png", picture)
        assert done
        write_atomically(self.folder / f"{stem}.png", lambda file: file.write(data.tobytes()))


def _beside(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of one size in a row that has room for `_IN_A_ROW` of them."""
    height, width = pictures[0].shape[:2]
    row = np.full((height, (width + _GAP) * _IN_A_ROW - _GAP, 3), 255, np.uint8)
    for number, picture in enumerate(pictures):
        left = number * (width + _GAP)
        row[:, left : left + width] = picture
    factor = min(1.0, _ROW_WIDTH / row.shape[1])
    size = max(1, round(row.shape[1] * factor)), max(1, round(height * factor))
    return cv2.resize(row, size, interpolation=cv2.INTER_AREA)


def _show_masks(writer: _Writer, explanation: Explanation) -> None:
    page = writer.page
    page.heading("Foreground masks (FBSM)")
    if not explanation.masks:
        (stage,) = explanation.energy.keys() - {"CEM"}
        page.paragraph(f"The backbone ({stage}) has no FBSM, so there is no mask to show.")
        return
    page.paragraph(
        "The probability of foreground that FBSM gives to each cell of a level. A cell's features "
        "are multiplied by a gain between those in the table."
    )
    page.table(
        ["level", "cells", "mean of the mask", "highest", "gain at mask 1", "gain at mask 0"],
        [
            [
                level,
                f"{mask.shape[1]} x {mask.shape[0]}",
                *_numbers(mask.mean(), mask.max(), 1 + alpha, 1 - beta),
            ]
            for level, mask in explanation.masks.items()
            for alpha, beta in [explanation.gates[level]]
        ],
    )
    page.legend(_colors([("0", 0.0), ("0.25", 0.25), ("0.5", 0.5), ("0.75", 0.75), ("1", 1.0)]))
    masks = {f"mask {level}": mask for level, mask in explanation.masks.items()}
    writer.add_heat_maps(masks, "The masks by level.")


def _show_energy(writer: _Writer, explanation: Explanation) -> None:
    page, stages = writer.page, explanation.energy
    page.heading("Feature energy")
    page.paragraph(
        "The root mean square over the channels of each cell, after the parts of the backbone that "
        "change the level. The pictures of one level have one scale; levels differ."
    )
    levels = list(next(iter(stages.values())))
    page.table(
        ["mean energy after", *stages],
        [[level, *(_mean(stages[stage].get(level)) for stage in stages)] for level in levels],
    )
    page.legend(_colors([("0", 0.0), ("half", 0.5), ("the level's scale and above", 1.0)]))
    unchanged = {}
    for level in levels:
        maps = {
            f"energy {level} {stage}": stages[stage][level]
            for stage in stages
            if level in stages[stage]
        }
        every = np.concatenate([energy.ravel() for energy in maps.values()])
        top = float(np.quantile(every, 1 - _OVER_SCALE)) or 1.0
        scaled = {title: energy / top for title, energy in maps.items()}
        if len(maps) == 1:
            unchanged.update(scaled)
        else:
            writer.add_heat_maps(scaled, f"{level} part by part: the scale ends at {top:.3g}.")
    if unchanged:
        writer.add_heat_maps(unchanged, "Levels that CEM and FBSM leave as they are.")


def _show_proposals(writer: _Writer, proposals: Proposals, most: int) -> None:
    page, names = writer.page, proposals.level_names
    page.heading("Proposals of the RPN")
    rows = []
    for number, level in enumerate(names):
        chosen = proposals.levels == number
        sides = np.sqrt((proposals.boxes[chosen, 2:] - proposals.boxes[chosen, :2]).prod(axis=1))
        drawn = int(chosen[:most].sum())
        numbers = _numbers(*map(np.median, (sides, proposals.scores[chosen]))) if len(sides) else ()
        rows.append([level, len(sides), drawn, *(numbers or (None, None))])
    page.table(["level", "proposals", "drawn", "median size in px", "median score"], rows)
    page.paragraph(f"Drawn: the {min(most, len(proposals.scores)):,} of the highest score.")
    # The best are drawn last, where none covers them.
    boxes = proposals.boxes[:most][::-1]
    levels, scores = proposals.levels[:most][::-1], proposals.scores[:most][::-1]
    with page.columns():
        picture = writer.boxes(boxes, levels.tolist(), names)
        writer.add("proposals_by_level", picture, "By the level that they come from.")
        picture = _boxes_by_score(writer, boxes, scores)
        writer.add("proposals_by_score", picture, "By score; the colours are those below.")
    page.legend(_colors([(f"from {edge:g}", edge) for edge in _SCORE_EDGES]))


def _boxes_by_score(writer: _Writer, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    zoom = max(1, _LEAST // max(writer.image.shape[:2]))
    canvas = cv2.resize(writer.image, None, fx=zoom, fy=zoom, interpolation=cv2.INTER_CUBIC)
    edges = np.array(_SCORE_EDGES)[np.digitize(scores, _SCORE_EDGES) - 1]
    colors = [color for _, color in _colors([("", float(edge)) for edge in edges])]
    outline_boxes(canvas, boxes * writer.scale * zoom, colors, 2 if zoom > 1 else 1)
    return canvas


def _colors(values: Sequence[tuple[str, float]]) -> list[tuple[str, tuple[int, int, int]]]:
    """Texts with the BGR colour that a heat map has for their value in [0, 1]."""
    cells = np.array([[round(value * 255) for _, value in values]], np.uint8)
    if not values:
        return []
    colors = cv2.applyColorMap(cells, cv2.COLORMAP_JET)[0].tolist()
    return [(text, (b, g, r)) for (text, _), (b, g, r) in zip(values, colors, strict=True)]


def _mean(energy: np.ndarray | None) -> Number | None:
    return None if energy is None else Number(f"{energy.mean():.3g}")


def _numbers(*values: float) -> list[Number]:
    return [Number(f"{value:.3g}") for value in values]
