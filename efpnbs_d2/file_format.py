"""What all readers of annotation and result files share: errors, and how a value is shown."""

__all__ = ["LARGEST_COORDINATE", "BrokenEntry", "DataFormatError", "shorten"]

# Pixels. Far beyond any image; readers report larger numbers as damage.
LARGEST_COORDINATE = 1e7


class DataFormatError(ValueError):
    """A file of a data set breaks its format. The text is ``place: found ..., expected ...``."""


class BrokenEntry(ValueError):
    """One box or image that cannot be used: a reason to count it under, and what is wrong."""

    def __init__(self, reason: str, found: str, expected: str) -> None:
        super().__init__(f"found {found}, expected {expected}")
        self.reason, self.found, self.expected = reason, found, expected


def shorten(value: object) -> str:
    """Show a found value on one line of at most 60 ASCII characters, whatever it holds."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
