"""A cache of parsed annotation folders that no change of a file survives.

The cache only ever saves time: an unwritable folder, a damaged file or an older version of the
format means reading the originals again, never an error.
"""

import hashlib
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..atomic import write_atomically

__all__ = ["FolderListing", "list_folder", "load_arrays", "store_arrays"]

# A file may change twice within one tick of the file system's clock and look the same after;
# files this young are read again next time. Common ticks are 10 ms and shorter.
_SETTLE_SECONDS = 0.1

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class FolderListing:
    """The files of one folder at one moment.

    Attributes:
        names: sorted file names.
        fingerprint: differs as soon as a file was added, removed, renamed or written.
        settled: no file was written just now, so that the fingerprint can be trusted.
    """

    names: tuple[str, ...]
    fingerprint: str
    settled: bool


def list_folder(folder: str, suffixes: Sequence[str]) -> FolderListing:
    """List the files with one of the (lower-case) suffixes, without opening any.

    Raises:
        OSError: the folder cannot be listed.
    """
    now = time.time()
    rows, newest = [], 0.0
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.lower().endswith(tuple(suffixes)) and entry.is_file():
                stat = entry.stat()
                # st_ctime also moves when a copy keeps the old modification time.
                stamp = (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino)
                rows.append((entry.name, *stamp))
                newest = max(newest, stat.st_ctime)
    rows.sort()
    fingerprint = hashlib.sha256(ascii(rows).encode()).hexdigest()
    names = tuple(name for name, *_ in rows)
    return FolderListing(names, fingerprint, settled=newest < now - _SETTLE_SECONDS)


def load_arrays(
    key: Sequence[str], fingerprint: str, names: Sequence[str]
) -> dict[str, np.ndarray] | None:
    """The arrays of these names stored under the key with the same fingerprint, or None."""
    path = _cache_path(key)
    if path is None:
        return None
    try:
        with np.load(path, allow_pickle=False) as stored:
            if stored["fingerprint"].item() != fingerprint:
                return None
            return {name: stored[name] for name in names}
    except FileNotFoundError:
        return None
    # A damaged archive can raise nearly anything from the zip and array readers.
    except Exception as error:
        _logger.info("Ignoring the damaged cache file %s (%s).", path, error)
        return None


def store_arrays(key: Sequence[str], fingerprint: str, arrays: dict[str, np.ndarray]) -> None:
    """Store arrays (no object arrays) under the key, replacing older ones in one step."""
    path = _cache_path(key)
    if path is None:
        return
    write = partial(np.savez, allow_pickle=False, fingerprint=np.array(fingerprint), **arrays)
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        write_atomically(Path(path), write)
    except OSError as error:
        _logger.info("Cannot write the cache file %s (%s); going on without.", path, error)


def _cache_path(key: Sequence[str]) -> str | None:
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a relative path there is invalid and to be ignored.
    if not os.path.isabs(base):
        base = os.path.join(os.path.expanduser("~"), ".cache")
    if not os.path.isabs(base):
        return None
    digest = hashlib.sha256(ascii(list(key)).encode()).hexdigest()[:24]
    return os.path.join(base, "efpnbs_d2", f"{digest}.npz")
