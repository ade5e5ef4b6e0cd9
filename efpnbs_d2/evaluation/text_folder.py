"""Which text files a folder in VisDrone's layout has."""

import os

__all__ = ["list_text_files"]


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
