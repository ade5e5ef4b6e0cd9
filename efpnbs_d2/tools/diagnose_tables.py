"""What `diagnose` found, as plain data, sentences and tables.

A table is a caption, a header and rows, as `html_page.Page.table` takes them.
"""

from dataclasses import dataclass
from typing import Any

from ..data.statistics import bins_of_protocol
from ..modeling import DCLoss
from .anchor_statistics import AnchorStatistics
from .gradient_statistics import GradientStatistics
from .html_page import Number

__all__ = ["PYRAMIDS", "Diagnosis", "Table", "map_name", "numbers", "readings", "tables"]

Table = tuple[str, list[str], list[list[object]]]
# Which of the two detectors a key of the numbers is about.
PYRAMIDS = {"stock": "FPN", "enhanced": "E-FPN-BS"}


@dataclass(frozen=True)
class Diagnosis:
    """What was measured.

    Attributes:
        config: the config file.
        dataset: its name.
        protocol: name of the data set's evaluation protocol.
        rule: of label assignment, for people.
        weights: file of the weights that gradients were measured with; "" for random ones.
        anchors: of whole images.
        gradients: of training samples; None if there were to be none.
        dc_loss: whose options the box head's weights have.
    """

    config: str
    dataset: str
    protocol: str
    rule: str
    weights: str
    anchors: AnchorStatistics
    gradients: GradientStatistics | None
    dc_loss: DCLoss


def numbers(found: Diagnosis) -> dict[str, Any]:
    """Everything as plain data; shares are 0..1, areas and sizes in pixels."""
    result: dict[str, Any] = {
        "config": found.config,
        "dataset": found.dataset,
        "rule": found.rule,
        "positive_iou": found.anchors.threshold,
        "images": len(found.anchors.positives),
        "levels": found.anchors.level_numbers(),
        "sizes": {
            bins.owner: found.anchors.size_numbers(bins)
            for bins in bins_of_protocol(found.protocol)
        },
    }
    if found.gradients is not None:
        result["weights"] = found.weights
        result["samples"] = len(found.gradients.positives)
        result["gradients"] = found.gradients.map_numbers()
        result["gradients_by_loss"] = found.gradients.loss_numbers()
        result["box_head"] = found.gradients.box.numbers(found.dc_loss)
    return result


def readings(result: dict[str, Any]) -> list[tuple[str, str]]:
    """What the numbers say, as (severity, sentence)."""
    said = []
    for level in result["levels"]:
        if level["images_with_none"] > 0.5:
            share = _percent(level["images_with_none"])
            name = level["level"].upper()
            said.append(("warning", f"{name} has no positive anchor in {share} of the images."))
    if not said:
        said.append(("good", "Every level has a positive anchor in most images."))
    everything = next(iter(result["sizes"].values()))[-1]
    if everything["objects"]:
        share = _percent(everything["no_positive"])
        said.append(("note", f"{share} of the objects own no positive anchor."))
    maps = result.get("gradients", [])
    if maps and all(one["stock_mean"] == one["enhanced_mean"] for one in maps):
        said.append(
            (
                "note",
                "E-FPN-BS changes no gradient of the detection losses: with these weights CEM and "
                "FBSM are the identity. Name trained weights to see what they do.",
            )
        )
    else:
        said += [("note", sentence) for sentence in _ratio_sentences(maps)]
    return said


def _ratio_sentences(maps: list[dict[str, Any]]) -> list[str]:
    coarsest = [one for one in maps if one["map"].startswith("p") and "ratio" in one][-2:]
    return [
        f"With E-FPN-BS the gradient that reaches {map_name(one['map'])} is {one['ratio']:.2f} "
        f"times the FPN's (quartiles {one['ratio_quartile_1']:.2f}–{one['ratio_quartile_3']:.2f})."
        for one in coarsest
    ]


def tables(result: dict[str, Any]) -> list[Table]:
    """All tables for a terminal or a page."""
    found = [_level_table(result), *(_size_table(result, owner) for owner in result["sizes"])]
    if "gradients" in result:
        found += [_gradient_table(result), _loss_table(result), _box_table(result)]
    return found


def _level_table(result: dict[str, Any]) -> Table:
    header = ["level", "stride", "anchors, px", "positives an image", "of all positives"]
    rows: list[list[object]] = [
        [
            level["level"].upper(),
            level["stride"],
            ", ".join(f"{size:g}" for size in level["anchor_sizes"]),
            Number(f"{level['positives_per_image']:,.2f}"),
            _percent(level["share_of_positives"]),
            _percent(level["images_with_none"]),
        ]
        for level in result["levels"]
    ]
    return "Positive anchors by pyramid level", [*header, "images with none"], rows


def _size_table(result: dict[str, Any], owner: str) -> Table:
    levels = [level["level"] for level in result["levels"]]
    limit = result["positive_iou"]
    header = ["size, px", "objects", "positives an object", *(f"on {n.upper()}" for n in levels)]
    shares = ["no_iou_above_half", "no_iou_above_threshold", "no_positive"]
    heads = ["no anchor of IoU 0.5", f"of IoU {limit}", "own no positive"]
    if limit is None:
        shares.pop(1), heads.pop(1)
    rows: list[list[object]] = []
    for row in result["sizes"][owner]:
        cells: list[object] = [row["size"], row["objects"]]
        if row["objects"]:
            by_level = row["positives_per_object_by_level"]
            counts = [row["positives_per_object"], *(by_level[name] for name in levels)]
            cells += [Number(f"{count:,.2f}") for count in counts]
            cells += [_percent(row[key]) for key in shares]
        else:
            cells += [None] * (1 + len(levels) + len(shares))
        rows.append(cells)
    return f"Objects by the sizes of {owner}", [*header, *heads], rows


def _gradient_table(result: dict[str, Any]) -> Table:
    header = ["map", "FPN", "± samples", "E-FPN-BS", "± samples", "ratio", "quartiles"]
    rows: list[list[object]] = []
    for row in result["gradients"]:
        cells: list[object] = [map_name(row["map"])]
        for kind in PYRAMIDS:
            cells += [_norm(row[f"{kind}_mean"]), _norm(row[f"{kind}_std"])]
        if "ratio" in row:
            quartiles = f"{row['ratio_quartile_1']:.2f}–{row['ratio_quartile_3']:.2f}"
            cells += [Number(f"{row['ratio']:.3f}"), Number(quartiles)]
        else:
            cells += [None, None]
        none = row.get("samples_without_positive")
        rows.append([*cells, None if none is None else _percent(none)])
    caption = "Gradient norm of the detection losses that reaches each map in training"
    return caption, [*header, "samples without a positive"], rows


def _loss_table(result: dict[str, Any]) -> Table:
    rows: list[list[object]] = []
    losses = list(result["gradients_by_loss"][0]["enhanced"])
    for row in result["gradients_by_loss"]:
        for kind, label in PYRAMIDS.items():
            norms = (row[kind].get(loss) for loss in losses)
            cells = [None if norm is None else _norm(norm) for norm in norms]
            rows.append([row["level"].upper(), label, *cells])
    return "The same by loss, means of the samples", ["level", "pyramid", *losses], rows


def _box_table(result: dict[str, Any]) -> Table:
    header = ["scale", "objects", "proposals", "target"]
    for kind in ("classification", "box"):
        header += [kind, "weight", "with DCLoss"]
    rows: list[list[object]] = []
    for row in result["box_head"]:
        cells: list[object] = [row["scale"].replace("_", " ")]
        cells += [_percent(row[key]) for key in ("objects", "proposals", "target")]
        for kind in ("cls", "reg"):
            cells.append(_percent(row[f"{kind}_share"]))
            cells.append(Number(f"{row[f'{kind}_weight']:.2f}"))
            cells.append(_percent(row[f"{kind}_weighted_share"]))
        rows.append(cells)
    return "Share of each scale in the gradient of the box head, and DCLoss's weights", header, rows


def map_name(name: str) -> str:
    """For people: a level of the pyramid is P5, a stage below it res5."""
    return name.upper() if name.startswith("p") else name


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _norm(norm: float) -> Number:
    return Number(f"{norm:.3g}")
