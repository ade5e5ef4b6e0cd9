"""docs/literature.md prints the published numbers, each beside the config of its recipe."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "configs/literature"
DOCS = (ROOT / "docs/literature.md").read_text()

# Section of the docs, then: source mark, config or -, method, numbers in the columns' order.
PUBLISHED = {
    "AI-TOD v1": """
    [P] aitod_faster_rcnn | Faster R-CNN | 11.1 26.3 7.6 0.0 7.2 23.3 33.6
    [P] aitod_faster_rcnn_24e | Faster R-CNN, 24 epochs | 12.6 28.4 9.4 0.0 8.4 26.6 36.6
    [P] aitod_faster_rcnn_nwd | Faster R-CNN + NWD assigner | 16.1 43.3 8.7 7.2 17.4 21.4 24.2
    [P] aitod_faster_rcnn_nwd_rpn | Faster R-CNN + NWD in RPN | 17.8 43.8 11.0 2.5 17.0 26.1 34.4
    [S] aitod_cascade_rcnn | Cascade R-CNN | 13.8 30.8 10.5 0.0 10.5 25.5 36.6
    [P] aitod_cascade_rcnn_nwd | Cascade R-CNN + NWD assigner | 19.1 46.6 12.6 9.0 21.3 24.0 24.7
    [P] aitod_rfla | Faster R-CNN + RFLA | 21.1 51.6 13.1 9.5 21.2 26.1 31.5
    [P] - | DetectoRS | 14.8 32.8 11.4 0.0 10.8 28.3 38.0
    [P] - | DetectoRS + NWD assigner | 21.2 50.5 14.4 10.2 23.5 27.5 28.6
    [P] - | DetectoRS + RFLA | 24.8 55.2 18.5 9.3 24.8 30.3 38.2
    [S] - | CFINet | 24.7 53.9 18.6 11.7 26.4 28.1 32.2
    [S] - | HS-FPN on DetectoRS | 25.1 55.7 19.1 12.1 25.3 29.9 36.9
    [S] - | SimD | 26.6 55.9 21.2 13.4 27.5 30.9 37.8
    [S] - | SFDNet | 29.0 57.9 23.5 14.4 29.0 33.4 40.8
    """,
    "AI-TOD v2": """
    [P] aitodv2_faster_rcnn | Faster R-CNN | 12.8 29.9 0.0 9.2 24.6 37.0
    [P] aitodv2_faster_rcnn_nwd_rka | Faster R-CNN + NWD-RKA | 21.4 53.2 7.7 20.7 26.8 35.2
    [P] aitodv2_rfla | Faster R-CNN + RFLA | 22.6 54.8 8.6 21.7 28.8 35.5
    [P] - | DetectoRS + RFLA | 25.7 58.9 9.2 25.5 30.2 40.2
    [P] - | DQ-DETR, 36 epochs | 30.5 69.2 15.2 30.9 36.8 45.5
    [P]/[N] - | Dome-DETR-L | 34.7 - 19.0 - - -
    """,
    "VisDrone2019-DET val": """
    [N] visdrone_faster_rcnn | Faster R-CNN | 18.1 30.7 18.2
    [N] visdrone_cascade_rcnn | Cascade R-CNN | 25.2 42.6 25.9
    [N] visdrone_rfla | RFLA | 27.2 48.0 26.6
    [N] - | ClusDet R50 | 26.7 50.6 24.7
    [S] - | QueryDet R50 | 28.3 48.1 28.8
    [P] - | UAV-DETR-R50 | 31.5 51.1 -
    [P] - | DNTR R50, 12 epochs | 34.4 57.9 35.3
    [S] - | UFPMP-Det R50 | 36.6 62.4 36.7
    [P] - | Dome-DETR-L | 39.0 - -
    """,
    "TinyPerson test": """
    [P] tinyperson_faster_rcnn | Faster R-CNN | 47.35 30.25 51.58 58.95 63.18 68.43 5.83 87.57
    - - | Faster R-CNN + Scale Match COCO | 51.33 33.91 55.16 62.58 66.96 71.55 6.46 86.22
    - - | SSPNet R50 | 60.87 - - - - - - -
    """,
}
ROWS = [
    (section, mark_and_config.split(), method, numbers.split())
    for section, text in PUBLISHED.items()
    for mark_and_config, method, numbers in (
        [cell.strip() for cell in line.split("|")] for line in text.strip().splitlines()
    )
]


@pytest.mark.parametrize(("section", "source", "method", "numbers"), ROWS)
def test_the_docs_print_the_published_numbers(section, source, method, numbers):
    mark, config = source
    rows = _table(section)
    assert method in rows, f"{section} has no row {method!r}"
    cells = rows[method]
    assert cells["published"] == numbers
    assert cells["mark"] == mark
    assert cells["config"] == ("" if config == "-" else f"`{config}.py`")
    assert cells["ours"] == ("" if config == "-" else "not run: data not available here")
    if config != "-":
        docstring = ast.get_docstring(ast.parse((FOLDER / f"{config}.py").read_text()))
        assert f"{numbers[0]} AP" in docstring


def test_the_docs_have_no_other_numbers():
    for section, _, _, _ in ROWS:
        methods = {method for where, _, method, _ in ROWS if where == section}
        assert set(_table(section)) == methods
    numbered = {config for _, (_, config), _, _ in ROWS}
    for name in {path.stem for path in FOLDER.glob("*.py")} - numbered:
        assert name.endswith("efpn_bs") and f"`{name}.py`" in DOCS


def _table(section):
    """Rows of a section's table by method: method | config | numbers ... | source | ours."""
    text = DOCS.split(f"\n## {section}")[1].split("\n## ")[0]
    rows = {}
    for line in text.splitlines():
        if line.startswith("|") and not line.startswith(("| method", "|---")):
            method, config, *published, mark, ours = [c.strip() for c in line[1:-1].split("|")]
            rows[method] = {"config": config, "published": published, "mark": mark, "ours": ours}
    return rows
