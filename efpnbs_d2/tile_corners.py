"""Where tiles of an image lie, in training and in inference.

Source: the tiles of TinyPerson's authors: 640x512 px, 50 px of overlap, the last tile of a row or
column shifted back to end with the image.
"""

__all__ = ["OVERLAP", "TILE", "Corner", "tile_corners"]

# x1, y1, x2, y2 in pixels of the original image; x2 and y2 are outside the tile.
Corner = tuple[int, int, int, int]

# Height and width in pixels.
TILE = (512, 640)
OVERLAP = (50, 50)


def tile_corners(
    height: int,
    width: int,
    tile: tuple[int, int] = TILE,
    overlap: tuple[int, int] = OVERLAP,
) -> list[Corner]:
    """Cover an image with tiles of one size.

    Along a side that is longer than the tile, all tiles have the tile's length and neighbours
    share `overlap` pixels, the last two at least that many; a shorter side is one tile's whole
    length. No tile comes twice.

    Args:
        height: of the image in pixels, like `width`.
        width: of the image.
        tile: (height, width) in pixels.
        overlap: of neighbours in y and in x, pixels; less than the tile.

    Returns:
        (x1, y1, x2, y2) of each tile in pixels of the image, row after row.

    Raises:
        ValueError: a size below 1 px, or an overlap that is negative or not less than the tile.
    """
    rows = _starts("height", height, tile[0], overlap[0])
    columns = _starts("width", width, tile[1], overlap[1])
    return [
        (x, y, min(x + tile[1], width), min(y + tile[0], height)) for y in rows for x in columns
    ]


def _starts(side: str, length: int, tile: int, overlap: int) -> range | list[int]:
    if length < 1 or tile < 1:
        raise ValueError(
            f"Found an image {side} of {length} and a tile {side} of {tile} px, expected 1 or more."
        )
    if not 0 <= overlap < tile:
        raise ValueError(
            f"Found an overlap of {overlap} px for a tile {side} of {tile} px, expected 0 to "
            f"{tile - 1}: take a larger tile or less overlap."
        )
    if length <= tile:
        return [0]
    step = tile - overlap
    # The last tile but one ends before the image does: shifting the last one makes no duplicate.
    return [*range(0, length - tile, step), length - tile]
