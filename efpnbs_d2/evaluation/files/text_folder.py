"""Folders in VisDrone's layout: one text file per image, named like it."""

import os
from pathlib import Path

from ..columns import GroundTruth

__all__ = ["list_text_files", "text_stems"]


def list_text_files(folder: str) -> dict[str, str]:
    """Stem -> path of each ``.txt`` file, in the order of their names.

    Source: the order of MATLAB's ``dir``, which sees the names with their suffix.

    Raises:
        ValueError: there is none.
        OSError: the folder cannot be read.
    """
    names = sorted(
        entry.name
        for entry in os.scandir(folder)
        if entry.name.lower().endswith(".txt") and not entry.name.startswith(".")
    )
    if not names:
        raise ValueError(f"{folder}: found no .txt file, expected one per image")
    return {name[:-4]: os.path.join(folder, name) for name in names}


def text_stems(truth: GroundTruth) -> dict[str, int]:
    """Stem of the text file of each image -> index of the image, in the images' order.

    Raises:
        ValueError: two images have one stem.
    """
    stems: dict[str, int] = {}
    for index, (number, name) in enumerate(zip(truth.image_ids, truth.image_names)):
        stem = number if isinstance(number, str) else Path(name).stem
        if stem in stems:
            raise ValueError(
                f"{truth.source}: found two images named {stem!r}, so that a text file could be "
                "of either, expected a COCO JSON of results"
            )
        stems[stem] = index
    return stems
