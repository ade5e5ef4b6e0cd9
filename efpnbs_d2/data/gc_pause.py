"""Building hundreds of thousands of small dicts without the cyclic garbage collector."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["gc_paused"]


@contextmanager
def gc_paused() -> Iterator[None]:
    """Switch the collector off inside, and back on after if it was on.

    Records hold no cycles, yet every collection walks all of them: with it on, the 350,000 boxes
    of VisDrone train take seven times as long to build.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            if gc.get_freeze_count() == 0:
                # Moves the new objects to the oldest generation at once; enabling alone would
                # walk every one of them now.
                gc.freeze()
                gc.unfreeze()
            gc.enable()
