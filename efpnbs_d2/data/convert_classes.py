"""Class names from where label formats keep them: a list of lines, or ``names`` of a YAML file."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

__all__ = ["CLASS_FILES", "find_class_file", "parse_classes", "read_class_file", "write_class_file"]

# As Ultralytics, LabelImg and darknet name them, in the order of preference.
CLASS_FILES = ("data.yaml", "data.yml", "dataset.yaml", "classes.txt", "obj.names")

_SUFFIXES = (".yaml", ".yml", ".txt", ".names")


def parse_classes(text: str) -> list[str]:
    """Class names from a command line: a file that holds them, or the names with commas between.

    Raises:
        ValueError: the file does not exist or holds no class names, or a name is empty or twice.
    """
    if os.path.isfile(text):
        return read_class_file(text)
    if text.lower().endswith(_SUFFIXES):
        raise ValueError(f"class file {text} not found; expected a file or names like car,van")
    return _checked([name.strip() for name in text.split(",")], "--classes")


def find_class_file(folders: Sequence[str], names: Sequence[str] = CLASS_FILES) -> str | None:
    """The first file of class names, by the order of `names`, in the first folder that has one."""
    for folder in folders:
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                return path
    return None


def read_class_file(path: str) -> list[str]:
    """Read ``names`` of a YAML file (a list, or index: name), or one name per line.

    Raises:
        ValueError: no class names, an index left out, or a name that is empty or there twice.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        if not path.lower().endswith((".yaml", ".yml")):
            return _checked([line.strip() for line in text.splitlines() if line.strip()], path)
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: found no readable class names ({reason})") from error
    return _checked(_yaml_names(content, path), path)


def write_class_file(path: Path, classes: Sequence[str]) -> None:
    """Write one name per line.

    Raises:
        ValueError: a name that does not fit on one line.
    """
    for name in classes:
        if name.splitlines() != [name] or name != name.strip():
            raise ValueError(
                f"class name {name!r}: expected text on one line; give it with --classes"
            )
    path.write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")


def _yaml_names(content: Any, path: str) -> list[str]:
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise ValueError(
                f"{path}: found 'names' for {', '.join(map(str, names))}, expected 0, 1, 2, ..."
            )
        names = [names[index] for index in range(len(names))]
    if not isinstance(names, list):
        raise ValueError(f"{path}: found no 'names', expected the class names under that key")
    return [str(name) for name in names]


def _checked(names: list[str], place: str) -> list[str]:
    if not names or not all(names) or len(set(names)) < len(names):
        raise ValueError(
            f"{place}: found the class names {names}, expected different, non-empty names"
        )
    return names
