"""Files and folders that `efpnbs_d2.tools.evaluate` is given: what is wrong is said at once."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from ..evaluation.files.text_folder import list_text_files

__all__ = ["check_paths"]


def check_paths(
    gt: str, results: Sequence[str], images: str | None = None, tiles: str | None = None
) -> None:
    """Refuse a path that does not exist, and a folder that is not of text files.

    Args:
        gt: annotations.
        results: of each run.
        images: folder of images, or JSON of their sizes.
        tiles: JSON of tiles.

    Raises:
        ValueError: with the option's name, and with what may have been meant.
        OSError: a folder cannot be read.
    """
    named = [("--gt", gt), *(("--results", path) for path in results)]
    for option, path in [*named, ("--images", images), ("--merge-tiles", tiles)]:
        if path is not None and not Path(path).exists():
            raise ValueError(f"{option}: found no file or folder {path}")
    folder = Path(gt)
    _require_text_files("--gt", folder, [folder / "annotations", folder.parent / "annotations"])
    for path in results:
        # What an evaluation in training leaves in RUN/inference/SET.
        _require_text_files("--results", Path(path), sorted(Path(path).glob("*_results*")))


def _require_text_files(option: str, path: Path, guesses: Iterable[Path]) -> None:
    if not path.is_dir():
        return
    try:
        list_text_files(str(path))
    except ValueError as error:
        meant = next((guess for guess in guesses if _can_be_read(guess)), None)
        hint = f"; did you mean {meant}?" if meant else ""
        raise ValueError(f"{option}: {error}{hint}") from error


def _can_be_read(path: Path) -> bool:
    return path.suffix == ".json" if path.is_file() else any(path.glob("*.txt"))
