"""Images a second that one worker loads, against Detectron2's stock mapper, from made-up files.

    python -m efpnbs_d2.tools.bench_mapper

JPEG files of 2,000 x 1,500 px with 100 boxes each, all mappers in turn in one process, the fastest
round of each. Every mapper puts out images of one size.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.structures import BoxMode

from efpnbs_d2.data.augmentation import ObjectCrop, RandomScale
from efpnbs_d2.data.copy_paste import TinyObjectCopyPaste
from efpnbs_d2.data.mapper import TinyObjectMapper
from efpnbs_d2.tools.bench_turns import take_turns, timed

_WIDTH, _HEIGHT, _BOXES = 2000, 1500, 100


def write_images(folder: Path, count: int) -> list[dict[str, Any]]:
    """Write JPEG files of a photograph's size in bytes; returns their records."""
    rng = np.random.default_rng(0)
    records = []
    for index in range(count):
        # Detail at several scales, as in a photograph; plain noise would take longer to decode.
        image = sum(
            cv2.resize(rng.normal(0, 18, (_HEIGHT // step, _WIDTH // step, 3)), (_WIDTH, _HEIGHT))
            for step in (2, 8, 32, 128)
        )
        path = folder / f"{index}.jpg"
        cv2.imwrite(
            str(path), np.clip(image + 128, 0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 90]
        )
        boxes = rng.uniform((0, 0, 5, 5), (_WIDTH - 60, _HEIGHT - 60, 60, 60), (_BOXES, 4))
        annotations = [
            {"bbox": box, "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, "iscrowd": int(i < 3)}
            for i, box in enumerate(boxes.tolist())
        ]
        records.append(
            {"file_name": str(path), "height": _HEIGHT, "width": _WIDTH}
            | {"image_id": index, "annotations": annotations}
        )
    return records


def mappers(size: int) -> dict[str, DatasetMapper]:
    """What is compared, by name; each puts out `size` x `size` px."""
    square, larger, flip = (size, size), (size * 5 // 4,) * 2, T.RandomFlip()
    crop = [ObjectCrop(square), flip]
    full = [ObjectCrop(larger), TinyObjectCopyPaste(), RandomScale(0.8, 1.25), *crop]
    photometric = [T.RandomBrightness(0.8, 1.2), T.RandomContrast(0.8, 1.2)]
    return {
        "stock, resized": DatasetMapper(
            True, augmentations=[T.Resize(square), flip], image_format="BGR"
        ),
        "stock, cropped": DatasetMapper(
            True, augmentations=[T.RandomCrop("absolute", square), flip], image_format="BGR"
        ),
        "ours, cropped": TinyObjectMapper(True, augmentations=crop, image_format="BGR"),
        "ours, cropped, erasing": TinyObjectMapper(
            True, augmentations=crop, image_format="BGR", ignore="erase"
        ),
        "ours, every augmentation": TinyObjectMapper(
            True,
            augmentations=[*full, *photometric, T.RandomSaturation(0.8, 1.2)],
            image_format="BGR",
        ),
    }


def measure(images: int, rounds: int, size: int) -> dict[str, list[float]]:
    """Processor seconds an image, by mapper, in each round."""

    def over(records: list[dict[str, Any]], mapper: DatasetMapper) -> Callable[[], float]:
        return timed(lambda: [mapper(record) for record in records], clock=time.process_time)

    # One worker of a loader computes on one core.
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        with tempfile.TemporaryDirectory() as folder:
            records = write_images(Path(folder), images)
            contestants = {name: over(records, mapper) for name, mapper in mappers(size).items()}
            seconds = take_turns(contestants, rounds, label="mapper")
    finally:
        cv2.setNumThreads(threads)
    return {name: [total / images for total in totals] for name, totals in seconds.items()}


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=16, help="files written")
    parser.add_argument("--rounds", type=int, default=5, help="times that each is read by each")
    parser.add_argument("--size", type=int, default=800, help="px, height and width of the output")
    options = parser.parse_args(arguments)
    if min(options.images, options.rounds) < 1 or not 1 <= options.size <= _HEIGHT:
        parser.error(f"expected at least 1 image and round, and a --size of 1 to {_HEIGHT}")
    seconds = measure(options.images, options.rounds, options.size)
    rates = {name: 1 / min(rounds) for name, rounds in seconds.items()}
    resized, cropped = rates["stock, resized"], rates["stock, cropped"]
    print(f"{'':28}{'images/s':>10}{'/ resized':>12}{'/ cropped':>12}")
    for name, rate in rates.items():
        print(f"{name:28}{rate:10.1f}{rate / resized:12.2f}{rate / cropped:12.2f}")


if __name__ == "__main__":
    main()
