"""The file of an ablation's list, and the one that it builds on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]
from omegaconf import OmegaConf

__all__ = ["read_over_base"]

_BASE = "_BASE_"  # as in Detectron2's YAML files
_ADDED = ("overrides", "comparisons")  # lists that follow those of the base


def read_over_base(path: Path, above: tuple[Path, ...] = ()) -> tuple[Any, str]:
    """What a YAML file says, merged over its `_BASE_` if it names one.

    Mappings are merged, overrides and comparisons follow those of the base, all else takes its
    place. Paths of configs are made absolute: they are relative to the file they stand in.

    Args:
        above: the files that it is the base of.

    Returns:
        The data, unchecked, and the names of all files read.

    Raises:
        ValueError: a file is no YAML; a base is missing, builds on itself or does not fit.
        OSError: a file cannot be read.
    """
    try:
        # OmegaConf's reader refuses a key that stands twice; the plain one takes the last.
        data = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except yaml.YAMLError as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    data = _with_absolute_paths(data, path.parent)
    if not isinstance(data, dict) or _BASE not in data:
        return data, str(path)
    name = data.pop(_BASE)
    base, found = path.parent / str(name), f"{path}: {_BASE}: found {name!r}, expected"
    if not base.is_file():
        raise ValueError(f"{found} a YAML file, its path relative to {path.parent}")
    if any(base.samefile(file) for file in above):
        raise ValueError(f"{found} a file that does not build on this one")
    below, files = read_over_base(base, (*above, path))
    if not isinstance(below, dict):
        raise ValueError(f"{found} a file with a mapping")
    files = f"{path} on {files}"
    return _merged(below, data, f"{files}: "), files


def _merged(base: Mapping[Any, Any], own: Mapping[Any, Any], place: str) -> dict[Any, Any]:
    merged = dict(base)
    for key, value in own.items():
        below = base.get(key)
        if isinstance(below, dict) and isinstance(value, dict):
            merged[key] = _merged(below, value, f"{place}{key}.")
        elif key in _ADDED and isinstance(below, list) and isinstance(value, list):
            merged[key] = below + value
        elif key in base and (key in _ADDED or isinstance(below, dict) or isinstance(value, dict)):
            kinds = "two lists" if key in _ADDED else "two mappings"
            raise ValueError(f"{place}{key}: found {value!r} over {below!r}, expected {kinds}")
        else:
            merged[key] = value
    return merged


def _with_absolute_paths(node: Any, folder: Path, key: str = "") -> Any:
    """A config that is no path (.py) is a name from `configs`."""
    if isinstance(node, dict):
        return {
            name: _with_absolute_paths(value, folder, "config" if key == "configs" else name)
            for name, value in node.items()
        }
    is_path = key == "config" and str(node).endswith(".py")
    return str((folder / node).resolve()) if is_path else node
