"""The list of an ablation: a YAML file of runs, read and checked.

docs/ablation.md shows one.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .ablation_base import read_over_base

__all__ = ["Ablation", "Comparison", "Run", "find_list", "read_list"]

LISTS = Path(__file__).resolve().parents[2] / "configs/ablations"


@dataclass(frozen=True)
class Run:
    """One training of a list, to be repeated with every seed.

    Attributes:
        name: also of its folder.
        config: LazyConfig.
        overrides: "key=value", those of the whole list first.
        start: name of the start whose final weights it begins with; "" for what its config says.
        untrained: not trained at all (a start): the weights that a seed gives.
    """

    name: str
    config: Path
    overrides: tuple[str, ...]
    start: str = ""
    untrained: bool = False


@dataclass(frozen=True)
class Comparison:
    """Runs that are compared with one baseline, seed by seed.

    Attributes:
        may_differ: beginnings of config keys that are compared here, so that a difference in them
            is no mistake.
        control: runs that are the baseline but for chance; its mean takes them in where all runs
            are seen together.
    """

    baseline: str
    runs: tuple[str, ...]
    may_differ: tuple[str, ...] = ()
    control: tuple[str, ...] = ()


@dataclass(frozen=True)
class Ablation:
    """A checked list; all names in it exist."""

    name: str
    title: str
    seeds: tuple[int, ...]
    starts: Mapping[str, Run]
    runs: Mapping[str, Run]
    comparisons: tuple[Comparison, ...]


def find_list(name: str) -> Path:
    """The file of a list, given its path or the name of one in configs/ablations.

    Raises:
        FileNotFoundError: there is none; with the known names.
    """
    for path in (Path(name), LISTS / f"{name}.yaml"):
        if path.is_file():
            return path
    known = ", ".join(sorted(path.stem for path in LISTS.glob("*.yaml"))) or "none here"
    raise FileNotFoundError(f"list {name!r} not found; expected a YAML file, or one of {known}")


def read_list(path: Path) -> Ablation:
    """Read and check a list; see `ablation_base.read_over_base` for the file that it builds on.

    Raises:
        ValueError: a key is unknown, missing or of the wrong kind, or names nothing.
        OSError: a file cannot be read.
    """
    data, source = read_over_base(path)
    known = "configs overrides start starts comparisons"
    top = _section(data, source, needed="title seeds runs", known=known)
    configs = _configs(top.get("configs", {}), f"{source}: configs")
    shared = _texts(top.get("overrides", []), f"{source}: overrides")
    starts = _runs(top.get("starts", {}), f"{source}: starts", configs, shared)
    start = _start(top.get("start"), f"{source}: start", starts)
    runs = _runs(top["runs"], f"{source}: runs", configs, shared, starts, start)
    if not runs:
        _refuse(f"{source}: runs", top["runs"], "at least one run")
    entries = top.get("comparisons", [])
    if not isinstance(entries, list):
        _refuse(f"{source}: comparisons", entries, "a list")
    comparisons = [
        _comparison(entry, f"{source}: comparisons[{n}]", runs) for n, entry in enumerate(entries)
    ]
    seeds = _seeds(top["seeds"], f"{source}: seeds")
    return Ablation(path.stem, str(top["title"]), seeds, starts, runs, tuple(comparisons))


def _configs(node: Any, place: str) -> dict[str, Path]:
    if not isinstance(node, dict):
        _refuse(place, node, "names with the path of a config each")
    return {str(name): _config(value, f"{place}.{name}", {}) for name, value in node.items()}


def _config(value: Any, place: str, named: Mapping[str, Path]) -> Path:
    path = named.get(str(value), Path(str(value)))
    if path.suffix != ".py" or not path.is_file():
        names = f", or {_one_of(named)}" if named else ""
        _refuse(place, value, f"an existing LazyConfig (.py){names}")
    return path


def _start(value: Any, place: str, starts: Mapping[str, Run]) -> str:
    name = "" if value is None else str(value)
    if name and name not in starts:
        _refuse(place, value, _one_of(starts))
    return name


def _runs(
    node: Any,
    section: str,
    configs: Mapping[str, Path],
    shared: tuple[str, ...],
    starts: Mapping[str, Run] | None = None,
    start: str = "",
) -> dict[str, Run]:
    """Those of a section.

    Args:
        shared: overrides of each.
        starts: what runs may begin with; None: these are starts themselves.
        start: of the runs that name none.
    """
    if not isinstance(node, dict):
        _refuse(section, node, "names with a config each")
    found = {}
    for name, entry in node.items():
        place = f"{section}.{name}"
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", str(name)):
            _refuse(place, name, "a name of letters, digits, '_', '-' and '.'")
        own = "untrained" if starts is None else "start"
        values = _section(entry, place, needed="config", known=f"overrides {own}")
        config = _config(values["config"], f"{place}.config", configs)
        untrained = values.get("untrained", False)
        if not isinstance(untrained, bool):
            _refuse(f"{place}.untrained", untrained, "true or false")
        overrides = shared + _texts(values.get("overrides", []), f"{place}.overrides")
        begins = _start(values.get("start", start), f"{place}.start", starts or {})
        found[str(name)] = Run(str(name), config, overrides, begins, untrained)
    return found


def _comparison(entry: Any, place: str, runs: Mapping[str, Run]) -> Comparison:
    values = _section(entry, place, needed="baseline runs", known="may_differ control")
    compared = _texts(values["runs"], f"{place}.runs")
    control = _texts(values.get("control", []), f"{place}.control")
    for name in (str(values["baseline"]), *compared, *control):
        if name not in runs:
            _refuse(place, name, _one_of(runs))
    may_differ = _texts(values.get("may_differ", []), f"{place}.may_differ")
    return Comparison(str(values["baseline"]), compared, may_differ, control)


def _seeds(node: Any, place: str) -> tuple[int, ...]:
    seeds = node if isinstance(node, list) else [node]
    whole = all(isinstance(seed, int) and not isinstance(seed, bool) for seed in seeds)
    # Detectron2 draws a random seed for a negative one.
    if not seeds or not whole or min(seeds) < 0 or len(set(seeds)) < len(seeds):
        _refuse(place, node, "different whole numbers from 0 on")
    return tuple(seeds)


def _section(node: Any, place: str, *, needed: str, known: str) -> dict[str, Any]:
    if not isinstance(node, dict):
        _refuse(place, node, f"a mapping with {needed}")
    for key in needed.split():
        if key not in node:
            _refuse(place, ", ".join(map(str, node)) or "nothing", f"also {key!r}")
    for key in node:
        if key not in f"{needed} {known}".split():
            _refuse(place, key, _one_of(f"{needed} {known}".split()))
    return node


def _texts(node: Any, place: str) -> tuple[str, ...]:
    if not isinstance(node, list) or not all(isinstance(text, str) for text in node):
        _refuse(place, node, "a list of texts")
    return tuple(node)


def _one_of(names: Sequence[str] | Mapping[str, Any]) -> str:
    return f"one of {', '.join(names)}" if names else "none, as no such name is defined"


def _refuse(place: str, found: object, expected: str) -> None:
    raise ValueError(f"{place}: found {found!r}, expected {expected}")
