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
        cause = os_error_behind(error)
        if cause is None:
            raise
        raise OSError(
            f"could not write {target}: {cause.strerror or cause}; free disk space or choose "
            "another output folder"
        ) from error


def os_error_behind(error: BaseException | None) -> OSError | None:
    """The `OSError` that led to `error`: torch.save hides it behind one of its zip writer."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files in `folder` of writers that were killed.

    Call it before this process writes: a container that starts again has the process id it had.
    """
    for temporary in folder.glob(".*.tmp"):
        process = temporary.name.split(".")[-2]
        if not process.isdecimal():
            continue
        if int(process) == os.getpid() or not _is_running(int(process)):
            temporary.unlink(missing_ok=True)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)  # signal 0 only asks
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
