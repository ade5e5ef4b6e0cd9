"""One line of YOLO's text files: ``class cx cy w h``, fractions of the image's width and height.

Boxes are xywh in pixels of the original image.
"""

from ..file_format import BrokenEntry, shorten
from .convert_form import LabelledBox, tidy

__all__ = ["format_yolo_line", "parse_yolo_line", "yolo_fractions"]

# Written digits after the point: at most 14, so that an 8,000 px image keeps 1e-10 px; at least
# 6, which is how most tools write them.
_MOST_DIGITS, _LEAST_DIGITS = 14, 6
# What 14 digits can be off in px, per px of the image's side.
_DIGITS_PX = 2e-14
# Ultralytics takes fractions up to 1 % outside for rounding, and more for an error.
_SLACK = 0.01


def parse_yolo_line(line: bytes, num_classes: int, height: int, width: int) -> LabelledBox:
    """Read one line; a sixth column is a score.

    Args:
        line: without its line end.
        num_classes: K; classes 0..K - 1 are valid.
        height: of the image, pixels.
        width: likewise.

    Returns:
        The box in pixels, not clipped.

    Raises:
        BrokenEntry: another number of columns (polygons and key points are not read), something
            that is no finite number, a fraction outside 0..1 or a class out of range.
    """
    fields = line.split()
    if len(fields) not in (5, 6):
        raise BrokenEntry(
            "wrong number of columns",
            f"{len(fields)} columns in {shorten(line)}",
            "class cx cy w h",
        )
    try:
        # Python also reads 1_000 as a number; in a text file of boxes it is damage.
        if b"_" in line:
            raise ValueError
        index, cx, cy, w, h, *score = map(float, fields)
    except ValueError:
        raise BrokenEntry("not a number", shorten(line), "class cx cy w h") from None
    if index not in range(num_classes):
        raise BrokenEntry(
            "unknown class",
            f"class {fields[0].decode(errors='replace')!a}",
            f"0..{num_classes - 1}",
        )
    fractions = (cx, cy, w, h)
    # Written so that NaN fails, too.
    if not all(-_SLACK <= number <= 1 + _SLACK for number in fractions) or not all(
        abs(number) < float("inf") for number in score
    ):
        raise BrokenEntry("not normalised", shorten(line), "fractions of the image, 0 to 1")
    if w < 0 or h < 0:
        raise BrokenEntry("negative size", shorten(line), "no negative size")
    xywh = (
        _pixels(cx * width - w * width / 2, width),
        _pixels(cy * height - h * height / 2, height),
        _pixels(w * width, width),
        _pixels(h * height, height),
    )
    return LabelledBox(xywh, int(index), "", {"score": tidy(score[0])} if score else {})


def yolo_fractions(xywh: tuple[float, float, float, float], height: int, width: int) -> list[float]:
    """cx, cy, w, h of a box in pixels as fractions of the image, rounded as they are written."""
    x, y, w, h = xywh
    numbers = ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height)
    # + 0.0 turns -0.0 into 0.0.
    return [round(number, _MOST_DIGITS) + 0.0 for number in numbers]


def format_yolo_line(class_index: int, fractions: list[float]) -> str:
    """One line with its end: the shortest text of 6 to 14 digits that gives these fractions."""
    return " ".join([str(class_index), *map(_decimal, fractions)]) + "\n"


def _decimal(number: float) -> str:
    whole, _, digits = f"{number:.{_MOST_DIGITS}f}".partition(".")
    return f"{whole}.{digits.rstrip('0').ljust(_LEAST_DIGITS, '0')}"


def _pixels(number: float, side: int) -> float:
    """A pixel coordinate without the noise of writing its fraction in 14 digits."""
    nearest = round(number, 6)
    return tidy(nearest if abs(number - nearest) <= _DIGITS_PX * side else number)
