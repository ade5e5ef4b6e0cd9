"""Seconds to read annotations of the size of the published data sets, from made-up files.

    python -m efpnbs_d2.tools.bench_data

VisDrone's train split (6,471 images, 353,550 boxes) parsed and from the cache, and an AI-TOD JSON
of 14,018 images and 400,000 boxes. The files lie in a temporary folder, in the system's page cache.
"""

import argparse
import itertools
import json
import os
import random
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

from detectron2.data import DatasetCatalog
from PIL import Image

from efpnbs_d2.data.splits import AITOD_CLASSES

# Width and height of most official images, in original pixels.
_VISDRONE_SIZES = ((1360, 765), (1920, 1080), (1400, 1050), (2000, 1500))
_REPEATS = 3


def write_visdrone(root: Path, images: int, boxes: int) -> None:
    """Write a train split in VisDrone's layout with `boxes` boxes spread unevenly over it."""
    folder = root / "VisDrone2019-DET-train"
    (folder / "images").mkdir(parents=True)
    (folder / "annotations").mkdir()
    rng = random.Random(0)
    for size in _VISDRONE_SIZES:
        Image.new("RGB", size, "gray").save(root / f"{size[0]}.jpg")
    encoded = [(root / f"{width}.jpg").read_bytes() for width, _ in _VISDRONE_SIZES]
    for index, count in enumerate(_spread(images, boxes, rng)):
        name = f"{index:07d}_{index:05d}_d_{index:07d}"
        (folder / "images" / f"{name}.jpg").write_bytes(encoded[index % len(encoded)])
        lines = (
            f"{rng.randrange(1300)},{rng.randrange(700)},{rng.randrange(3, 60)},"
            f"{rng.randrange(3, 60)},1,{rng.randrange(1, 11)},0,{rng.randrange(3)}\n"
            for _ in range(count)
        )
        (folder / "annotations" / f"{name}.txt").write_text("".join(lines))


def write_aitod(root: Path, images: int, boxes: int) -> None:
    """Write a trainval split in AI-TOD's layout; its images are empty files."""
    folder = root / "aitod" / "images" / "trainval"
    folder.mkdir(parents=True)
    rng = random.Random(0)
    annotations: list[dict[str, Any]] = []
    for index, count in enumerate(_spread(images, boxes, rng)):
        (folder / f"{index}.png").touch()
        for _ in range(count):
            x, y, w, h = rng.uniform(0, 780), rng.uniform(0, 780), *rng.choices(range(4, 30), k=2)
            corners = [x, y, x + w, y, x + w, y + h, x, y + h]
            annotations.append(
                {"id": len(annotations) + 1, "image_id": index, "category_id": rng.randint(1, 8)}
                | {"bbox": [x, y, w, h], "segmentation": [corners], "area": w * h, "iscrowd": 0}
            )
    entries = [
        {"id": index, "file_name": f"{index}.png", "height": 800, "width": 800}
        for index in range(images)
    ]
    categories = [{"id": i, "name": name} for i, name in enumerate(AITOD_CLASSES, start=1)]
    path = root / "aitod" / "annotations" / "aitod_trainval_v1.json"
    path.parent.mkdir()
    data = {"images": entries, "annotations": annotations, "categories": categories}
    path.write_text(json.dumps(data))


def measure(name: str, *, clear: Path | None = None) -> tuple[float, float]:
    """Load a registered data set a few times.

    Args:
        name: of the data set.
        clear: folder whose files are removed before each run.

    Returns:
        Wall-clock and processor seconds of the fastest run.
    """
    runs = []
    for _ in range(_REPEATS):
        for path in list(clear.iterdir()) if clear is not None and clear.is_dir() else []:
            path.unlink()
        wall, processor = time.perf_counter(), time.process_time()
        DatasetCatalog.get(name)
        runs.append((time.perf_counter() - wall, time.process_time() - processor))
    return min(runs)


def benchmark(scale: float) -> list[tuple[str, float, float, float]]:
    """Write made-up data sets and read them.

    Args:
        scale: size of the data sets, 1 for that of the published ones.

    Returns:
        For each case its name, wall-clock seconds, processor seconds, and the aim in seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        root, cache = Path(folder), Path(folder) / "cache"
        write_visdrone(root, round(6471 * scale), round(353_550 * scale))
        write_aitod(root, round(14_018 * scale), round(400_000 * scale))
        settings = {"DETECTRON2_DATASETS": folder, "XDG_CACHE_HOME": str(cache)}
        with patch.dict(os.environ, settings):
            # A cache is kept of files that were not written just now.
            time.sleep(0.2)
            parsed = measure("visdrone_train", clear=cache / "efpnbs_d2")
            cached = measure("visdrone_train")
            return [
                ("VisDrone train, text files and image headers", *parsed, 4.0),
                ("VisDrone train, from the cache", *cached, 0.5),
                ("AI-TOD trainval, JSON", *measure("aitod_v1_trainval"), 8.0),
            ]


def _spread(images: int, boxes: int, rng: random.Random) -> list[int]:
    """Boxes per image that add up to `boxes`; few images hold many, as in the real sets."""
    weights = [rng.expovariate(1) for _ in range(images)]
    total = sum(weights)
    ends = [round(boxes * part / total) for part in itertools.accumulate(weights)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Command line: measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", type=float, default=1.0, help="of the data sets; 1 is full size")
    options = parser.parse_args(arguments)
    if options.scale <= 0:
        parser.error(f"--scale must be positive, got {options.scale}")
    print(f"{'':48}{'wall [s]':>10}{'CPU [s]':>10}{'aim [s]':>10}")
    for name, wall, processor, aim in benchmark(options.scale):
        print(f"{name:48}{wall:10.2f}{processor:10.2f}{aim:10.1f}")


if __name__ == "__main__":
    main()
