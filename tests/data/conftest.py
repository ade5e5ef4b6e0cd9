"""Small data sets written by hand, and the way to the real ones."""

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

REAL_DATA = "EFPNBS_REAL_DATA"


@pytest.fixture(autouse=True)
def own_folders(tmp_path, monkeypatch):
    """Neither the user's cache nor his data sets are touched."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    monkeypatch.delenv("EFPNBS_STRICT_DATA", raising=False)


@pytest.fixture
def real_data() -> Path:
    """The folder of small real data sets, for tests that need real files."""
    folder = os.environ.get(REAL_DATA)
    if not folder:
        pytest.skip(f"{REAL_DATA} is not set: no real images at hand")
    return Path(folder)


@pytest.fixture
def write_image():
    """write_image(path, height, width): a grey image of that size."""

    def write(path: Path, height: int = 100, width: int = 200) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.full((height, width, 3), 128, np.uint8))

    return write


@pytest.fixture
def write_visdrone(tmp_path, write_image):
    """write_visdrone({name: bytes}): a split in VisDrone's layout, with 100x200 images."""

    def write(files: dict[str, bytes], split: str = "train") -> Path:
        folder = tmp_path / f"VisDrone2019-DET-{split}"
        (folder / "annotations").mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / "annotations" / f"{name}.txt").write_bytes(text)
            write_image(folder / "images" / f"{name}.jpg")
        return folder

    return write


@pytest.fixture
def write_coco(tmp_path, write_image):
    """write_coco(data): a COCO JSON and its images; returns (file, folder of images)."""

    def write(data: dict, file: str = "boxes.json", folder: str = "images") -> tuple[Path, Path]:
        path, images = tmp_path / file, tmp_path / folder
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(data))
        for entry in data["images"]:
            write_image(images / entry["file_name"], entry["height"], entry["width"])
        return path, images

    return write
