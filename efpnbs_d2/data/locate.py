"""Finding the files of a published split under the folder of all data sets."""

import os
from collections.abc import Callable, Iterable, Sequence

from .splits import Split

__all__ = ["ROOT_VARIABLE", "dataset_root", "locate_split"]

ROOT_VARIABLE = "DETECTRON2_DATASETS"


def dataset_root() -> str:
    """The folder of all data sets: ``DETECTRON2_DATASETS``, or ``datasets``. Read at each call."""
    return os.path.expanduser(os.environ.get(ROOT_VARIABLE) or "datasets")


def locate_split(split: Split, root: str) -> tuple[str | None, list[str]]:
    """Find a split's annotations and images.

    Args:
        split: what to look for.
        root: folder of all data sets.

    Returns:
        annotations: the JSON file, or the folder of text files; None for an unlabelled split;
        images: every folder that may hold the images, the likeliest first.

    Raises:
        ValueError: nothing fits. The text lists what was looked for and where.
    """
    homes, annotations = split.homes, None
    if split.annotations:
        exists = os.path.isfile if split.format == "coco" else os.path.isdir
        found = _existing(root, homes, split.annotations, exists)
        if not found:
            raise _not_found(split, root, "annotations", split.homes, split.annotations)
        home, annotations = found[0]
        others = [other for other in homes if other != home] if split.shared_images else []
        homes = (home, *others)
    images = [path for _, path in _existing(root, homes, split.images, os.path.isdir)]
    if not images:
        raise _not_found(split, root, "images", homes, split.images)
    return annotations, images


def _existing(
    root: str, homes: Sequence[str], names: Sequence[str], exists: Callable[[str], bool]
) -> list[tuple[str, str]]:
    candidates = [
        (home, os.path.normpath(os.path.join(root, home, n))) for home in homes for n in names
    ]
    return [(home, path) for home, path in candidates if exists(path)]


def _not_found(
    split: Split, root: str, kind: str, homes: Sequence[str], names: Sequence[str]
) -> ValueError:
    setting = os.environ.get(ROOT_VARIABLE)
    state = "" if os.path.isdir(root) else " (which does not exist)"
    folders = [os.path.abspath(root) + state, *(home for home in homes if home)]
    return ValueError(
        f"Found no {kind} of '{split.name}'. Looked for {_listing(map(os.path.normpath, names))} "
        f"in {_listing(folders)}. Put the files there as datasets/README.md describes, or set "
        f"{ROOT_VARIABLE} (now {setting or 'not set, so ./datasets'}) to the folder that holds "
        "them."
    )


def _listing(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))
