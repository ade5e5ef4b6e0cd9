"""Which part of the package may import which: read from the source, nothing is imported."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "efpnbs_d2"
FILES = sorted(PACKAGE.rglob("*.py"))

# What each part of the package may import of the package's other parts; "" is the package itself,
# whose import brings data and modeling with it. config (names and defaults), atomic (how a file is
# written), anchors and checkpoint (what weights must fit), protocols (how benchmarks count),
# tile_corners and the readers of single files (file_format, coco_file, visdrone_txt, image_files,
# protocol_file) on nothing else. modeling, data and evaluation never meet; inference stands on
# Detectron2 alone.
LEAVES = {
    "anchors",
    "atomic",
    "checkpoint",
    "coco_file",
    "config",
    "file_format",
    "image_files",
    "mixed_precision",
    "protocol_file",
    "protocols",
    "tile_corners",
    "visdrone_txt",
}
PARTS = {
    "": LEAVES | {"data", "modeling"},
    "anchors": set(),
    "atomic": set(),
    "checkpoint": {"anchors", "atomic"},
    "coco_file": {"file_format"},
    "config": set(),
    "file_format": set(),
    "image_files": set(),
    "mixed_precision": set(),
    "protocol_file": {"file_format", "protocols"},
    "protocols": set(),
    "tile_corners": set(),
    "visdrone_txt": {"file_format"},
    "modeling": LEAVES,
    "data": LEAVES,
    "evaluation": LEAVES,
    "inference": LEAVES,
    "engine": LEAVES | {"", "data", "evaluation", "inference", "modeling"},
    "tools": LEAVES | {"", "data", "engine", "evaluation", "inference", "modeling"},
}
# The method's parts, lowest first: what each may import of its siblings, and from outside. The
# paper's three parts know torch and Detectron2's layers; DCLoss has its yacs keys, its sums over
# processes and its curves besides.
LAYERS = {"torch", "detectron2.layers"}
METHOD = {
    "padding": (set(), LAYERS),
    "cem": ({"padding"}, LAYERS),
    "fbsm": ({"padding"}, LAYERS),
    "dc_loss": (
        set(),
        LAYERS | {"detectron2.config", "detectron2.utils.comm", "detectron2.utils.events"},
    ),
    "efpn_bs": ({"cem", "fbsm", "padding"}, None),
    "nwd": ({"assigners"}, {"torch"}),
    "box_predictor": ({"assigners", "dc_loss", "nwd"}, None),
    "roi_heads": ({"assigners", "box_predictor", "ignore"}, None),
}


def imported(source: str, module: str, is_package: bool = False) -> Iterator[str]:
    """Full dotted names of what `source` imports anywhere, functions included.

    `from a import b` gives ``a.b``, whether b is a module or a name in one.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = node.module or ""
            if node.level:
                up = node.level - is_package
                parents = module.split(".")
                parents = parents[: len(parents) - up]
                origin = ".".join([*parents, origin] if origin else parents)
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def part_of(name: str) -> str:
    """The part of the package that a name belongs to; "" where the package's own file has it."""
    first = (name.split(".") + [""])[1]
    return first if first in PARTS else ""


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def violations(source: str, module: str, is_package: bool = False) -> list[str]:
    """What `source`, the text of `module`, imports against the table of parts."""
    part = part_of(module)
    wrong = []
    for name in imported(source, module, is_package):
        top = name.split(".")[0]
        if top in ("configs", "datasets", "tests", "train_net"):
            wrong.append(f"{module} imports {name}, which is not in the package")
        elif top == "efpnbs_d2" and part_of(name) not in PARTS[part] | {part}:
            wrong.append(f"{module} imports {name}")
    return wrong


def siblings_and_others(source: str, module: str) -> tuple[set[str], set[str]]:
    """The modules beside `module` that it imports, and what it imports from elsewhere."""
    names = set(imported(source, module))
    beside = f"{module.rpartition('.')[0]}."
    inside = {name for name in names if name.startswith("efpnbs_d2.")}
    outside = {name for name in names - inside if name.split(".")[0] not in sys.stdlib_module_names}
    return {name.removeprefix(beside).split(".")[0] for name in inside}, outside


def test_every_part_has_its_place_in_the_table():
    found = {module_name(file).split(".")[1] for file in FILES if file.parent != PACKAGE}
    found |= {file.stem for file in PACKAGE.glob("*.py")} - {"__init__"}
    assert found <= PARTS.keys(), "say in PARTS what the new part may import"


@pytest.mark.parametrize("file", FILES, ids=module_name)
def test_parts_import_only_what_they_stand_on(file):
    assert not violations(file.read_text(), module_name(file), file.name == "__init__.py")


@pytest.mark.parametrize("name", METHOD)
def test_method_parts_know_little(name):
    siblings, outside = METHOD[name]
    source = (PACKAGE / "modeling" / f"{name}.py").read_text()
    found_siblings, found_outside = siblings_and_others(source, f"efpnbs_d2.modeling.{name}")
    assert found_siblings <= siblings
    if outside is not None:
        unknown = {
            name
            for name in found_outside
            if not any(f"{name}.".startswith(f"{allowed}.") for allowed in outside)
        }
        assert not unknown


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("efpnbs_d2.modeling.cem", "from ..data.catalog import class_names"),
        ("efpnbs_d2.modeling.assigners.nwd", "from ... import data"),
        ("efpnbs_d2.data.mapper", "def f():\n    import efpnbs_d2.modeling.fbsm"),
        ("efpnbs_d2.evaluation.protocol", "from efpnbs_d2 import add_efpnbs_config"),
        ("efpnbs_d2.inference.tiles", "from efpnbs_d2.data import class_names"),
        ("efpnbs_d2.engine.run", "from ..tools import demo"),
        ("efpnbs_d2.tools.demo", "import train_net"),
    ],
)
def test_a_wrong_import_is_seen(module, source):
    assert violations(source, module)


def test_names_are_resolved_as_python_does():
    source = "from . import a\nfrom .b import c\nfrom .. import d\nimport torch.nn as nn"
    expected = ["efpnbs_d2.data.a", "efpnbs_d2.data.b.c", "efpnbs_d2.d", "torch.nn"]
    assert list(imported(source, "efpnbs_d2.data.mapper")) == expected
    assert next(imported(source, "efpnbs_d2.data", is_package=True)) == "efpnbs_d2.data.a"
