"""Reader of VisDrone-DET annotations: one text file per image, one box per line.

A line is ``left,top,width,height,score,category,truncation,occlusion``; category 0 is an ignored
region, 1..K are the classes, K + 1 is "others"; score 0 says that the box is not evaluated.
Boxes are xywh in pixels of the original image.
Source: the format description of the VisDrone2019-DET development kit; quirks counted on the
official files (trailing commas, CRLF line ends, boxes without height).
"""

from .file_format import LARGEST_COORDINATE, BrokenEntry, shorten

__all__ = ["VISDRONE_COLUMNS", "parse_visdrone_file", "parse_visdrone_line"]

VISDRONE_COLUMNS = (
    "left",
    "top",
    "width",
    "height",
    "score",
    "category",
    "truncation",
    "occlusion",
)


def parse_visdrone_line(line: bytes, num_classes: int) -> tuple[float, ...]:
    """Read the 8 columns of one line; one trailing comma is allowed, as official files have it.

    Args:
        line: without its line end.
        num_classes: K; categories 0..K + 1 are valid.

    Returns:
        The columns in the order of ``VISDRONE_COLUMNS``; xywh in original pixels, neither
        clipped nor checked against the image.

    Raises:
        BrokenEntry: another number of columns, something that is no finite number, a negative
            width or height, or a category out of range.
    """
    fields = line.strip().removesuffix(b",").split(b",")
    if len(fields) != len(VISDRONE_COLUMNS):
        raise BrokenEntry(
            "wrong number of columns",
            f"{len(fields)} columns in {shorten(line)}",
            f"{len(VISDRONE_COLUMNS)} ({','.join(VISDRONE_COLUMNS)})",
        )
    try:
        # Python also reads 1_000 as a number; in a text file of boxes it is damage.
        if b"_" in line:
            raise ValueError
        columns = tuple(map(float, fields))
    except ValueError:
        raise BrokenEntry("not a number", shorten(line), "8 comma-separated numbers") from None
    total = sum(columns)
    # total != total: one of them is NaN, which min and max may overlook.
    if total != total or min(columns) < -LARGEST_COORDINATE or max(columns) > LARGEST_COORDINATE:
        raise BrokenEntry(
            "number out of range",
            shorten(line),
            f"numbers between {-LARGEST_COORDINATE:.0f} and {LARGEST_COORDINATE:.0f}",
        )
    if columns[2] < 0 or columns[3] < 0:
        raise BrokenEntry(
            "negative size", f"width {columns[2]:g}, height {columns[3]:g}", "no negative size"
        )
    if columns[5] not in range(num_classes + 2):
        raise BrokenEntry(
            "unknown category",
            f"category {fields[5].decode(errors='replace')!a}",
            f"0 (ignored region), 1..{num_classes} or {num_classes + 1} (others)",
        )
    return columns


def parse_visdrone_file(
    data: bytes, num_classes: int
) -> tuple[list[tuple[float, ...]], list[tuple[int, BrokenEntry]]]:
    """Read all lines of one annotation file. Empty lines are passed over; a BOM is allowed.

    Args:
        data: the file's bytes, with LF, CRLF or CR line ends.
        num_classes: K; categories 0..K + 1 are valid.

    Returns:
        rows: the 1-based line number followed by the 8 columns, for each good line;
        broken: the line number and what is wrong, for each other line.
    """
    rows, broken = [], []
    for number, line in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), start=1):
        if not line.strip():
            continue
        try:
            rows.append((float(number), *parse_visdrone_line(line, num_classes)))
        except BrokenEntry as error:
            broken.append((number, error))
    return rows, broken
