"""Whether a model and its data mean the same classes."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any

from ..data import class_names


def check_class_count(model: Any, data_names: Sequence[str]) -> None:
    """Refuse a model whose class count is not the data's.

    Raises:
        ValueError: with both counts and the key to set.
    """
    found = model.roi_heads.num_classes
    for name in data_names:
        expected = len(class_names(name))
        if expected != found:
            raise ValueError(
                f"the model has {found} classes and {name} has {expected}: set "
                f"model.roi_heads.num_classes={expected} "
                f"(yacs: MODEL.ROI_HEADS.NUM_CLASSES {expected})"
            )


def check_same_classes(classes: Mapping[str, Sequence[str]]) -> None:
    """Refuse class lists that differ: a class is its place in the list, whatever its name.

    Args:
        classes: for each place that names classes, their names in order; all have to equal the
            first's.

    Raises:
        ValueError: with both lists and the first place where they differ.
    """
    lists = list(classes.items())
    for name, found in lists[1:]:
        first, expected = lists[0]
        for index, (ours, theirs) in enumerate(zip_longest(expected, found)):
            if ours != theirs:
                raise ValueError(
                    f"found classes {', '.join(expected)} in {first} and {', '.join(found)} in "
                    f"{name}, expected the same ones in the same order (class {index} is "
                    f"{ours or 'missing'} and {theirs or 'missing'}): one would be counted as the "
                    "other; give each class the same category id and name in both"
                )
