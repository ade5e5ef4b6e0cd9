"""What of a recipe follows the machine and the images a step."""

import logging

import torch

logger = logging.getLogger(__name__)


def available_device(name: str) -> str:
    """`name`, or "cpu" (said in one line) when it is a GPU and there is none."""
    if name.startswith("cuda") and not torch.cuda.is_available():
        logger.warning(f"No GPU for device {name!r}: running on the CPU, in float32")
        return "cpu"
    return name


def available_precision(dtype: str, device: str) -> str | None:
    """`dtype`, or None (float32; said in one line) when the device has no arithmetic for it."""
    if dtype == "float16" and device == "cpu":
        logger.warning("No mixed precision in float16 on a CPU: running in float32")
        return None
    return dtype


def learning_rate_scale(batch_size: int, reference: int) -> float:
    """What a learning rate is multiplied by, in proportion to the images a step.

    Args:
        batch_size: images a step, of all processes.
        reference: images a step that the rate was chosen for; 0 leaves it alone.

    Source: the linear scaling rule (Goyal et al., 2017).
    """
    if reference in (0, batch_size):
        return 1.0
    scale = batch_size / reference
    logger.info(
        f"Learning rate x {scale:g}: {batch_size} images a step instead of {reference}; the number "
        f"of iterations stays, so the run sees {scale:g} times as many images"
    )
    return scale
