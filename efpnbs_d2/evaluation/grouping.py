"""Rows of a column by their value."""

import numpy as np

__all__ = ["rows_of"]


def rows_of(values: np.ndarray, column: np.ndarray) -> list[np.ndarray]:
    """Where each of the ascending `values` occurs in `column`, as ascending indices."""
    order = np.argsort(column, kind="stable")
    ordered = column[order]
    starts = np.searchsorted(ordered, values, side="left")
    ends = np.searchsorted(ordered, values, side="right")
    return [order[start:end] for start, end in zip(starts.tolist(), ends.tolist())]
