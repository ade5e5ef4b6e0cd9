"""Bookkeeping of what a reader kept and what it dropped, so that nothing disappears unseen.

Every entry (box) of an annotation file ends in exactly one of two counts: ``kept`` or one reason
of ``dropped``. Readers call :class:`ReadReport` and never decide for themselves between dropping
and raising.
"""

import logging
import os
from collections import Counter
from dataclasses import dataclass, field

from ..file_format import DataFormatError, shorten

__all__ = ["ReadReport", "STRICT_VARIABLE"]

STRICT_VARIABLE = "EFPNBS_STRICT_DATA"
_PROBLEMS_KEPT_PER_REASON = 100

_logger = logging.getLogger(__name__)


def _strict_from_environment() -> bool:
    value = os.environ.get(STRICT_VARIABLE, "").strip().lower()
    if value in ("", "0", "false", "no"):
        return False
    if value in ("1", "true", "yes"):
        return True
    raise ValueError(f"{STRICT_VARIABLE}={shorten(value)}: expected 1 (strict), 0 or nothing.")


@dataclass
class ReadReport:
    """What became of the entries of one data set.

    Attributes:
        name: the data set's name, for messages.
        strict: raise at the first broken entry instead of dropping it. ``None`` (default) takes
            the environment variable ``EFPNBS_STRICT_DATA``. Well-formed boxes that are empty
            after clipping (official files hold some) are dropped and counted in both modes.
        kept: boxes handed on, ignored ones included.
        ignored: the part of ``kept`` that is marked as an ignore region (``iscrowd`` 1).
        clipped: the part of ``kept`` that reached outside its image and was cut at the border.
        dropped: boxes not handed on, by reason.
        images: images handed on.
        images_dropped: images not handed on, by reason.
        problems: the first 100 messages of each reason, ``place: found ..., expected ...``.
    """

    name: str
    strict: bool | None = None
    kept: int = 0
    ignored: int = 0
    clipped: int = 0
    images: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    images_dropped: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.strict is None:
            self.strict = _strict_from_environment()
        self._problem_counts: Counter[str] = Counter()

    @property
    def boxes(self) -> int:
        """Boxes found in the files: kept and dropped together."""
        return self.kept + self.dropped.total()

    def keep(self, *, images: int, boxes: int, ignored: int, clipped: int) -> None:
        """Count images that are handed on, and their boxes."""
        self.images += images
        self.kept += boxes
        self.ignored += ignored
        self.clipped += clipped

    def drop_box(self, reason: str, place: str, found: str, expected: str) -> None:
        """Drop one broken box.

        Raises:
            DataFormatError: in strict mode.
        """
        self._problem(reason, f"{place}: found {found}, expected {expected}")
        self.dropped[reason] += 1

    def drop_empty_box(self, reason: str, place: str, found: str) -> None:
        """Drop one well-formed box of which nothing lies inside the image. Never raises."""
        self._note(reason, f"{place}: found {found}, expected a box that covers part of the image")
        self.dropped[reason] += 1

    def drop_image(self, reason: str, place: str, found: str, expected: str, boxes: int) -> None:
        """Drop one image and the ``boxes`` that belong to it.

        Raises:
            DataFormatError: in strict mode.
        """
        self._problem(reason, f"{place}: found {found}, expected {expected}")
        self.images_dropped[reason] += 1
        if boxes:
            self.dropped[f"image dropped: {reason}"] += boxes

    def summary(self) -> str:
        """One line: images and boxes read, and the dropped ones by reason."""
        line = (
            f"{self.name}: read {self.images} of {self.images + self.images_dropped.total()} "
            f"images and {self.kept} of {self.boxes} boxes ({self.ignored} of them ignore regions)"
        )
        parts = [
            f"{kind} dropped: " + ", ".join(f"{n} {reason}" for reason, n in sorted(c.items()))
            for kind, c in (("images", self.images_dropped), ("boxes", self.dropped))
            if c
        ]
        if self.problems:
            parts.append(f"first: {self.problems[0]}")
        return "; ".join([line, *parts])

    def log(self) -> None:
        """Log the summary: a warning when anything was dropped, else information."""
        lost = self.dropped or self.images_dropped
        _logger.log(logging.WARNING if lost else logging.INFO, "%s", self.summary())

    def _problem(self, reason: str, message: str) -> None:
        if self.strict:
            raise DataFormatError(message)
        self._note(reason, message)

    def _note(self, reason: str, message: str) -> None:
        self._problem_counts[reason] += 1
        if self._problem_counts[reason] <= _PROBLEMS_KEPT_PER_REASON:
            self.problems.append(message)
