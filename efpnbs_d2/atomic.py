"""Files that are whole or absent."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO


def write_atomically(target: Path, write: Callable[[BinaryIO], object]) -> None:
    """Call `write(file)` on a temporary file beside `target` and rename it when it is whole.

    Raises:
        OSError: with the path and the likely remedy; the temporary file is gone, `target` intact.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        # torch.save turns a failed write into a RuntimeError of its zip writer.
        if not isinstance(error, (OSError, RuntimeError)):
            raise
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise OSError(
            f"could not write {target}: {reason}; free disk space or choose another output folder"
        ) from error


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files in `folder` of writers that were killed."""
    for temporary in folder.glob(".*.tmp"):
        process = temporary.name.split(".")[-2]
        if process.isdecimal() and not _is_running(int(process)):
            temporary.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)  # signal 0 only asks
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
