"""From which score on a detection of each class counts.

Shapes: K classes, R detections.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from detectron2.structures import Instances

__all__ = ["DEFAULT_SCORE", "keep_confident", "score_thresholds"]

# Where nothing was chosen.
DEFAULT_SCORE = 0.5


def score_thresholds(
    card: Mapping[str, Any], num_classes: int, min_score: float | None = None
) -> list[float]:
    """The thresholds that a checkpoint carries, or one number for all classes.

    Args:
        card: of the checkpoint, as `read_card` returns it.
        num_classes: K.
        min_score: takes the place of the card's; None: the card's, else `DEFAULT_SCORE`.

    Returns:
        K scores; `DEFAULT_SCORE` for a class that has no threshold in the card.

    Raises:
        ValueError: `min_score` is not in [0, 1].
    """
    if min_score is not None:
        if not 0 <= min_score <= 1:
            raise ValueError(f"found a minimum score of {min_score}, expected 0 to 1")
        return [min_score] * num_classes
    stored = card.get("score_thresholds", {}).get("values", [None] * num_classes)
    return [DEFAULT_SCORE if value is None else value for value in stored]


def keep_confident(found: Instances, thresholds: Sequence[float]) -> Instances:
    """The detections with at least the score of their class.

    Args:
        found: R detections.
        thresholds: K scores.
    """
    # In the scores' own precision: a threshold of 0.9 keeps a score of 0.9 in float32.
    needed = torch.tensor(thresholds, dtype=found.scores.dtype, device=found.scores.device)
    return found[found.scores >= needed[found.pred_classes]]
