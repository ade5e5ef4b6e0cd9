"""Finding the files of a published split under the folder of all data sets."""

import os
from collections.abc import Callable, Sequence

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
            raise _not_found(split, root, "annotations", split.annotations)
        home, annotations = found[0]
        # Images beside the annotations come first, but v1 and v2 of AI-TOD share theirs.
        homes = (home, *(other for other in homes if other != home))
    images = [path for _, path in _existing(root, homes, split.images, os.path.isdir)]
    if not images:
        raise _not_found(split, root, "images", split.images)
    return annotations, images


def _existing(
    root: str, homes: Sequence[str], names: Sequence[str], exists: Callable[[str], bool]
) -> list[tuple[str, str]]:
    candidates = [
        (home, os.path.normpath(os.path.join(root, home, n))) for home in homes for n in names
    ]
    return [(home, path) for home, path in candidates if exists(path)]


def _not_found(split: Split, root: str, kind: str, names: Sequence[str]) -> ValueError:
    setting = os.environ.get(ROOT_VARIABLE)
    state = "" if os.path.isdir(root) else " (which does not exist)"
    return ValueError(
        f"Found no {kind} of '{split.name}'. Looked for: "
        f"{', '.join(os.path.normpath(name) for name in names)}; in {os.path.abspath(root)}{state}"
        f" and its folders {', '.join(home for home in split.homes if home)}. Put the files there "
        f"as datasets/README.md describes, or set {ROOT_VARIABLE} (now "
        f"{setting if setting else 'not set, so ./datasets'}) to the folder that holds them."
    )
