"""Write tinyscenes to disk as COCO JSON and PNG, whole or not at all."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any
from zlib import crc32

import cv2
import numpy as np
from tqdm import tqdm

from .options import CLASSES, GENERATOR_VERSION, difficulty_options, scene_size
from .scene import generate_scene

FOLDER = "tinyscenes"
DEFAULT_SPLITS = {"train": 200, "val": 40}


def write_dataset(
    root: str | os.PathLike[str],
    *,
    splits: Mapping[str, int] = DEFAULT_SPLITS,
    size: tuple[int, int] | int = 256,
    difficulty: str = "easy",
    seed: int = 0,
    workers: int = 1,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Write `<root>/tinyscenes/{annotations/<split>.json, images/<split>/*.png}`.

    The folder appears whole or not at all; an equal one that is already there is kept as it is.

    Args:
        root: folder that holds data sets; made when missing.
        splits: images of each split; scenes of different splits never share a seed.
        size: side of a square, or (height, width), 128..4096 px.
        difficulty: "easy" or "hard".
        seed: a whole number >= 0, for the whole data set.
        workers: processes that draw scenes.
        overwrite: replace another tinyscenes data set that stands there.
        progress: show a progress bar.

    Returns:
        The data set's folder.

    Raises:
        ValueError: a bad argument, or a folder in the way that holds something else.
        OSError: the disk is full or not writable; nothing is left behind.

    Source: our own; the JSON follows COCO and AI-TOD.
    """
    info = _info(splits, size, difficulty, seed)
    if workers < 1:
        raise ValueError(f"workers is {workers}, expected at least 1")
    target = Path(root) / FOLDER
    if target.exists() and _already_there(target, info, overwrite):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{FOLDER}-part-", dir=target.parent))
    try:
        _write_splits(part, info, workers, progress)
        part.chmod(0o755)
        old = part.with_name(part.name + "-old")
        if target.exists():
            target.rename(old)
        part.rename(target)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return target


def scene_seed(seed: int, split: str, index: int) -> int:
    """The seed, below 2**48, of image `index` of a split of the data set `seed`."""
    entropy = [seed, crc32(split.encode()), index]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(16))


def _info(
    splits: Mapping[str, int], size: tuple[int, int] | int, difficulty: str, seed: int
) -> dict[str, Any]:
    """The `info` block that all splits share; two data sets are the same if it is."""
    if not splits:
        raise ValueError("splits is empty, expected for example {'train': 200, 'val': 40}")
    for name, number in splits.items():
        if not name.replace("-", "").replace("_", "").isalnum():
            raise ValueError(f"split {name!r}: expected letters, digits, '-' and '_'")
        if not isinstance(number, (int, np.integer)) or number < 1:
            raise ValueError(f"split {name!r} has {number!r} images, expected at least 1")
    if not isinstance(seed, (int, np.integer)) or seed < 0:
        raise ValueError(f"seed is {seed!r}, expected a whole number >= 0")
    difficulty_options(difficulty)
    return {
        "description": "tinyscenes: synthetic aerial-looking scenes of tiny objects",
        "version": str(GENERATOR_VERSION),
        "contributor": "efpnbs_d2",
        "url": "",
        "year": 2026,
        "date_created": "",
        "splits": {name: int(number) for name, number in splits.items()},
        "size": list(scene_size(size)),
        "difficulty": difficulty,
        "seed": int(seed),
    }


def _already_there(target: Path, info: dict[str, Any], overwrite: bool) -> bool:
    """True when `target` is the data set of `info`, whole; False when it may be replaced."""
    found = _read_infos(target)
    if not found:
        raise ValueError(
            f"{target} is in the way and holds no tinyscenes data set; move it or give another root"
        )
    same = found == dict.fromkeys(info["splits"], info)
    whole = same and all(
        len(list((target / "images" / name).glob("*.png"))) == number
        for name, number in info["splits"].items()
    )
    if whole:
        return True
    if overwrite:
        return False
    state = "is not whole" if same else "has other parameters"
    raise ValueError(f"the data set in {target} {state}; overwrite it or give another root")


def _read_infos(target: Path) -> dict[str, Any]:
    """The `info` of each split that this module wrote under `target`."""
    infos = {}
    for path in sorted(target.glob("annotations/*.json")):
        try:
            info = json.loads(path.read_text())["info"]
        except (ValueError, KeyError, TypeError):
            return {}
        if not str(info.get("description", "")).startswith("tinyscenes:"):
            return {}
        infos[path.stem] = info
    return infos


def _write_splits(part: Path, info: dict[str, Any], workers: int, progress: bool) -> None:
    splits: dict[str, int] = info["splits"]
    seeds = {
        name: [scene_seed(info["seed"], name, i) for i in range(n)] for name, n in splits.items()
    }
    everything = [s for part_seeds in seeds.values() for s in part_seeds]
    assert len(set(everything)) == len(everything), "two scenes share a seed"
    (part / "annotations").mkdir()
    with (
        _mapper(workers) as run,
        tqdm(total=len(everything), unit="scene", desc=FOLDER, disable=not progress) as bar,
    ):
        for name, scene_seeds in seeds.items():
            folder = part / "images" / name
            folder.mkdir(parents=True)
            names = [f"{name}_{i:06d}.png" for i in range(len(scene_seeds))]
            write = partial(_write_image, size=tuple(info["size"]), difficulty=info["difficulty"])
            drawn = []
            for annotations in run(write, [folder / n for n in names], scene_seeds):
                drawn.append(annotations)
                bar.update()
            coco = _coco(info, names, scene_seeds, drawn)
            (part / "annotations" / f"{name}.json").write_text(json.dumps(coco))


@contextmanager
def _mapper(workers: int) -> Iterator[Callable[..., Iterable[Any]]]:
    """`map`, here or over `workers` fresh processes: a forked one may hang in OpenCV."""
    if workers == 1:
        yield map
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield partial(pool.map, chunksize=4)


def _write_image(
    path: Path, seed: int, *, size: tuple[int, int], difficulty: str
) -> list[dict[str, Any]]:
    image, annotations = generate_scene(seed, size=size, difficulty=difficulty)
    encoded, data = cv2.imencode(".png", image)
    assert encoded, "a uint8 BGR image has a PNG form"
    # Written by Python: cv2.imwrite reports a full disk by its return value only.
    path.write_bytes(data.tobytes())
    return annotations


def _coco(
    info: dict[str, Any], names: list[str], seeds: list[int], drawn: list[list[dict[str, Any]]]
) -> dict[str, Any]:
    """The COCO dictionary of one split; image and annotation ids start at 1."""
    height, width = info["size"]
    images = [
        {"id": i, "file_name": name, "height": height, "width": width, "license": 1, "seed": seed}
        for i, (name, seed) in enumerate(zip(names, seeds), 1)
    ]
    flat = [(i, a) for i, annotations in enumerate(drawn, 1) for a in annotations]
    return {
        "info": info,
        "licenses": [{"id": 1, "name": "as the package that wrote it", "url": ""}],
        "categories": [
            {"id": i, "name": name, "supercategory": name} for i, name in enumerate(CLASSES, 1)
        ],
        "images": images,
        "annotations": [{"id": k, "image_id": i, **a} for k, (i, a) in enumerate(flat, 1)],
    }
