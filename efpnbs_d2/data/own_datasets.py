"""Data sets of one's own from a YAML file, so that using them takes no code."""

import inspect
import os
import sys
from pathlib import Path

import yaml  # type: ignore[import-untyped]

from .catalog import register_tiny_dataset

__all__ = ["OWN_DATASETS_VARIABLE", "register_datasets_of_environment", "register_own_datasets"]

OWN_DATASETS_VARIABLE = "EFPNBS_DATASETS"


def register_datasets_of_environment() -> list[str]:
    """Register the files that ``EFPNBS_DATASETS`` names, if it is set: one, or some with ":"
    (``os.pathsep``) between, such as one's own and that of its tiles.

    Called when the package is imported, so that every command and worker process knows the names.
    A command (``python -m ...``, ``train_net.py``) ends there with the mistake in one line and
    exit code 1, unless it was asked for its ``--help``, which needs no data set.

    Raises:
        ValueError: as :func:`register_own_datasets`, where a program of one's own runs.
    """
    paths = os.environ.get(OWN_DATASETS_VARIABLE, "").split(os.pathsep)
    names: list[str] = []
    try:
        for path in dict.fromkeys(filter(None, paths)):
            names += register_own_datasets(path)
    except ValueError as error:
        message = f"{OWN_DATASETS_VARIABLE}: {error}"
        if not _is_command():
            raise ValueError(message) from error
        if not {"-h", "--help"} & {*sys.argv}:
            sys.exit(f"error: {' '.join(message.split())}")
    return names


def _is_command() -> bool:
    # "-m" is the program's name while Python looks for the module, packages above it included.
    return sys.argv[0] == "-m" or Path(sys.argv[0]).name == "train_net.py"


def register_own_datasets(path: str) -> list[str]:
    """Register every data set that a YAML file describes.

    The file maps each name to arguments of :func:`register_tiny_dataset`; relative paths start at
    the file's folder::

        harbour_train:
          annotations: harbour/train.json
          images: harbour/images

    Returns:
        The registered names.

    Raises:
        ValueError: no readable YAML, an unknown or missing option, or one of a wrong value.
    """
    path = os.path.abspath(os.path.expanduser(path))
    try:
        with open(path, "rb") as file:
            entries = yaml.safe_load(file)
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read the data sets of {path}: {error}") from error
    if not isinstance(entries, dict):
        raise ValueError(f"{path}: found a {type(entries).__name__}, expected names of data sets.")
    for name, options in entries.items():
        _register(path, str(name), options)
    return [str(name) for name in entries]


def _register(path: str, name: str, options: object) -> None:
    known = inspect.signature(register_tiny_dataset).parameters.keys() - {"name"}
    if not isinstance(options, dict) or not options.keys() <= known:
        raise ValueError(
            f"{path}: found {options!r} for {name}, expected some of {', '.join(sorted(known))}."
        )
    options = {"annotations": None, **options}
    if not isinstance(options.get("images"), str):
        raise ValueError(f"{path}: found no images for {name}, expected the folder of its images.")
    for key in ("annotations", "images"):
        if options[key] is not None:
            options[key] = os.path.join(
                os.path.dirname(path), os.path.expanduser(str(options[key]))
            )
    try:
        register_tiny_dataset(name, **options)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
