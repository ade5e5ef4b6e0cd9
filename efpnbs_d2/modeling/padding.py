"""Which cells of a padded feature map belong to the image, and how to keep the others out.

Shape legend: N images of a batch padded to one size; a level of stride `s` has H x W cells. An
image of h x w network-input pixels owns the first ceil(h/s) x ceil(w/s) of them: the cells that
the level would have, were the image alone and unpadded.

Source: our own reading. Without these rules, what a batch is padded to changes the detections.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

# (height, width) of an image in network-input pixels; 0-d tensors (or one of two elements) while
# tracing.
ImageSize = tuple[int | Tensor, int | Tensor] | Tensor


def valid_cells(
    image_sizes: Sequence[ImageSize] | None,
    stride: int,
    grid: Sequence[int],
    device: torch.device,
) -> Tensor | None:
    """Number of valid rows and columns of each image on a level.

    Args:
        image_sizes: N times (height, width) in network-input pixels; None: no padding is known.
        stride: of the level, in network-input pixels.
        grid: (H, W), the cells of the level.
        device: of the result.

    Returns:
        (N, 2) int64, rows and columns; or None when every cell of every image is valid. Sizes that
        are tensors are not read to find that out: a trace must hold for other values too.
    """
    if image_sizes is None:
        return None
    if all(_is_known(size) for size in image_sizes):
        counts = [[-(-int(x) // stride) for x in size] for size in image_sizes]
        if all(rows >= grid[0] and cols >= grid[1] for rows, cols in counts):
            return None
        return torch.tensor(counts, device=device)
    sizes = torch.stack([_as_tensor(size) for size in image_sizes]).to(device)
    return (sizes + (stride - 1)).div(stride, rounding_mode="floor")


def valid_mask(cells: Tensor, grid: Sequence[int]) -> Tensor:
    """Mask of the valid cells.

    Args:
        cells: (N, 2) valid rows and columns of each image.
        grid: (H, W).

    Returns:
        (N, 1, H, W) bool, True inside the image.
    """
    rows = torch.arange(grid[0], device=cells.device) < cells[:, :1]
    columns = torch.arange(grid[1], device=cells.device) < cells[:, 1:]
    return (rows[:, :, None] & columns[:, None, :]).unsqueeze(1)


def replicate_border(features: Tensor, cells: Tensor) -> Tensor:
    """Overwrite the padding by the nearest valid row and column.

    What an interpolation does at the end of a map, it then does at the end of each image.

    Args:
        features: (N, C, H, W).
        cells: (N, 2) valid rows and columns of each image.

    Returns:
        (N, C, H, W), equal to `features` on the valid cells.
    """
    height, width = features.shape[-2:]
    rows = torch.arange(height, device=cells.device).minimum(cells[:, :1] - 1)
    columns = torch.arange(width, device=cells.device).minimum(cells[:, 1:] - 1)
    features = features.gather(2, rows[:, None, :, None].expand_as(features))
    return features.gather(3, columns[:, None, None, :].expand_as(features))


def _is_known(size: ImageSize) -> bool:
    return not isinstance(size, Tensor) and all(isinstance(x, int) for x in size)


def _as_tensor(size: ImageSize) -> Tensor:
    if isinstance(size, Tensor):
        return size
    # Not `as_tensor` on what is a tensor already: a trace would record its value as a constant.
    return torch.stack([x if isinstance(x, Tensor) else torch.tensor(x) for x in size])
