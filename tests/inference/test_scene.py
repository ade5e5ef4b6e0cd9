"""Scenes give the pixels of their files, by windows, and say where these lie on the earth."""

import os
import subprocess
import sys
import warnings

import cv2
import numpy as np
import pytest
from PIL import Image

from efpnbs_d2.inference import scene as scenes
from efpnbs_d2.inference.georeference import GeoReference
from efpnbs_d2.inference.scene import ArrayScene, RasterScene, open_scene, read_whole

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (150, 200, 3), dtype=np.uint8)  # BGR

# Of rasterio, on writing these files, and on making their transforms.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Dataset has no geotransform"),
    pytest.mark.filterwarnings("ignore:Use `@` matmul"),
]


@pytest.fixture
def rasterio():
    return pytest.importorskip("rasterio")


@pytest.fixture
def write_tiff(rasterio, tmp_path):
    """Write bands (C x H x W) as a TIFF; returns its path."""

    def write(bands, **options):
        path = tmp_path / "scene.tif"
        count, height, width = bands.shape
        shape = {"count": count, "height": height, "width": width, "dtype": bands.dtype}
        with rasterio.open(path, "w", driver="GTiff", **shape, **options) as file:
            file.write(bands)
        return path

    return write


def rgb_bands(image=IMAGE):
    return image[:, :, ::-1].transpose(2, 0, 1)


def test_windows_of_a_tiff_are_windows_of_the_image(write_tiff):
    for options in (
        {"tiled": True, "blockxsize": 64, "blockysize": 32, "compress": "deflate"},
        {"photometric": "rgb", "interleave": "pixel"},
    ):
        path = write_tiff(rgb_bands(), **options)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            opened = open_scene(path)
        with opened as scene:
            assert isinstance(scene, RasterScene)
            assert (scene.height, scene.width, scene.georeference) == (150, 200, None)
            for x1, y1, x2, y2 in [(0, 0, 200, 150), (37, 20, 131, 150), (199, 149, 200, 150)]:
                window = scene.read((x1, y1, x2, y2))
                np.testing.assert_array_equal(window, IMAGE[y1:y2, x1:x2])


def test_bands_are_taken_by_their_colors(rasterio, write_tiff):
    """Blue, green, red and near infrared, as satellites order them; unnamed, the first three."""
    bands = np.concatenate([rgb_bands()[::-1], np.full((1, 150, 200), 7, np.uint8)])
    path = write_tiff(bands)
    with rasterio.open(path, "r+") as file:
        names = rasterio.enums.ColorInterp
        file.colorinterp = [names.blue, names.green, names.red, names.undefined]
    with open_scene(path) as scene:
        np.testing.assert_array_equal(scene.read((0, 0, 200, 150)), IMAGE)
    with open_scene(write_tiff(bands, photometric="minisblack")) as scene:
        np.testing.assert_array_equal(scene.read((0, 0, 200, 150)), IMAGE[:, :, ::-1])


def test_one_band_is_grey(write_tiff):
    with open_scene(write_tiff(rgb_bands()[:1])) as scene:
        window = scene.read((10, 10, 60, 60))
    np.testing.assert_array_equal(window, np.repeat(IMAGE[10:60, 10:60, 2:], 3, axis=2))


def test_a_reduced_scene_is_averaged(write_tiff):
    """Cells of 4 x 4 px of one colour: reduced to a quarter, each is a pixel."""
    small = RNG.integers(0, 256, (25, 40, 3), dtype=np.uint8)
    large = small.repeat(4, axis=0).repeat(4, axis=1)
    with open_scene(write_tiff(rgb_bands(large), tiled=True)) as raster:
        for scene in (raster, ArrayScene(large)):
            np.testing.assert_array_equal(scene.read_reduced(40), small)
            np.testing.assert_array_equal(scene.read_reduced(160), large)
            np.testing.assert_array_equal(scene.read_reduced(5000), large)


def test_unusable_tiffs_say_what_to_do(write_tiff, monkeypatch):
    with pytest.raises(ValueError, match="samples of type uint16, expected uint8.*-ot Byte"):
        open_scene(write_tiff(rgb_bands().astype(np.uint16)))
    with pytest.raises(ValueError, match="bands gray, .*expected grey, or red, green and blue"):
        open_scene(write_tiff(rgb_bands()[:2]))
    monkeypatch.setattr(scenes, "MAX_BLOCK", 80_000)
    with pytest.raises(ValueError, match="blocks of 0 MB.*TILED=YES"):
        open_scene(write_tiff(rgb_bands(), compress="deflate", blockysize=150))


def test_a_damaged_tiff_is_an_os_error(write_tiff):
    path = write_tiff(rgb_bands(), tiled=True, blockxsize=64, blockysize=64, compress="deflate")
    size = path.stat().st_size
    os.truncate(path, size * 2 // 3)
    with pytest.raises(OSError, match="cannot read image .*scene.tif"):
        with open_scene(path) as scene:
            scene.read((0, 0, 200, 150))
    path.write_bytes(b"II*")
    with pytest.raises(OSError, match="cannot read image .*scene.tif"):
        open_scene(path)


def test_boxes_lie_where_the_file_says(rasterio, write_tiff):
    """Half-metre pixels from 500 km east (15 degrees, the zone's middle), 5,600 km north: there a
    second pixel lies half a metre further east, and rows go south.
    """
    transform = rasterio.transform.from_origin(500_000, 5_600_000, 0.5, 0.5)
    with open_scene(write_tiff(rgb_bands(), crs="EPSG:32633", transform=transform)) as scene:
        place = scene.georeference
    assert place == GeoReference((0.5, 0, 500_000, 0, -0.5, 5_600_000), "EPSG:32633")
    rings = place.map_rings(np.array([[2, 4, 10, 8], [0, 0, 200, 150]]))
    assert rings.shape == (2, 5, 2)
    assert rings[0].tolist() == [
        [500_001, 5_599_998],
        [500_001, 5_599_996],
        [500_005, 5_599_996],
        [500_005, 5_599_998],
        [500_001, 5_599_998],
    ]
    lon, lat = place.geographic_rings(np.array([[0, 0, 200, 150]]))[0].T
    # 100 m are 100 / (111,320 cos 50.55) degrees of longitude, 75 m are 75 / 111,250 of latitude.
    assert lon[0] == pytest.approx(15, abs=1e-9) and lat[0] == pytest.approx(50.5519, abs=1e-3)
    assert lon[2] - lon[0] == pytest.approx(0.001414, rel=0.01)
    assert lat[0] - lat[2] == pytest.approx(0.000674, rel=0.01)


def test_other_files_are_decoded_whole(tmp_path):
    path = tmp_path / "image.png"
    cv2.imwrite(str(path), IMAGE)
    with open_scene(path) as scene:
        np.testing.assert_array_equal(scene.read((30, 20, 90, 70)), IMAGE[20:70, 30:90])
        assert scene.georeference is None


def test_photos_are_turned_as_their_tag_says(tmp_path):
    path = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(IMAGE).save(path, exif=exif)
    assert (open_scene(path).height, open_scene(path).width) == (200, 150)


def test_large_files_are_refused_before_they_are_decoded(tmp_path):
    """By their header: 400 million white pixels are 50 kB in this file."""
    path = tmp_path / "large.png"
    Image.new("1", (20_000, 20_000)).save(path)
    limit = Image.MAX_IMAGE_PIXELS
    with pytest.raises(ValueError, match="20000 x 20000 px.*expected 89 million.*convert it"):
        open_scene(path)
    assert Image.MAX_IMAGE_PIXELS == limit


def test_without_rasterio_tiffs_are_decoded_whole(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rasterio", None)
    path = tmp_path / "scene.tif"
    Image.fromarray(IMAGE[:, :, ::-1]).save(path)
    np.testing.assert_array_equal(open_scene(path).read((0, 0, 200, 150)), IMAGE)
    monkeypatch.setattr(scenes, "MAX_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"install rasterio.*pip install '\.\[geo\]'"):
        open_scene(path)


def test_more_than_8_bits_are_refused(tmp_path):
    """Pillow would make nearly all of it white."""
    Image.fromarray(np.full((8, 8), 3000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(ValueError, match=r"deep\.png: found pixels of more than 8 bits.*scale"):
        open_scene(tmp_path / "deep.png")


def test_missing_and_broken_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.tif not found"):
        open_scene(tmp_path / "none.tif")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    with pytest.raises(OSError, match="cannot read image .*broken.png"):
        open_scene(broken)


# Prints how many marked pixels were found, and by how many MB the process grew.
_MEASURED_RUN = """
import sys
from pathlib import Path
import numpy as np, torch
from detectron2.structures import Boxes, Instances
from efpnbs_d2.inference.scene import open_scene
from efpnbs_d2.inference.tiled import TiledPredictor

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM"))

def marked_pixels(image):
    y, x = np.nonzero(image[:, :, 1])
    boxes = torch.tensor(np.stack([x, y, x + 1, y + 1], axis=1), dtype=torch.float32)
    ones = torch.ones(len(boxes))
    return Instances(image.shape[:2], pred_boxes=Boxes(boxes), scores=ones, pred_classes=ones)

before = peak()
with open_scene(sys.argv[1]) as scene:
    predict = TiledPredictor(lambda images: [*map(marked_pixels, images)], window=(1024, 1024))
    found = predict(scene)
print(len(found), peak() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="tells the peak of memory")
def test_a_scene_takes_less_memory_than_its_pixels(rasterio, tmp_path):
    """12,000 x 12,000 px are 432 MB; a batch of windows and GDAL's cache are 270 MB."""
    path = tmp_path / "large.tif"
    shape = {"count": 3, "height": 12_000, "width": 12_000, "dtype": "uint8", "tiled": True}
    marks = RNG.integers(0, 12_000, (50, 2))
    with rasterio.open(path, "w", driver="GTiff", compress="lzw", sparse_ok=True, **shape) as file:
        for x, y in marks:
            file.write(np.full((3, 1, 1), 255, np.uint8), window=((y, y + 1), (x, x + 1)))
    run = [sys.executable, "-c", _MEASURED_RUN, str(path)]
    output = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    found, grown = map(int, output.split())
    assert found == len(np.unique(marks, axis=0))
    assert grown < 380


def test_a_scene_too_large_to_be_whole_is_refused_with_the_remedy(monkeypatch):
    whole = ArrayScene(np.arange(18, dtype=np.uint8).reshape(2, 3, 3))
    assert read_whole(whole, "cut it").tolist() == whole.read((0, 0, 3, 2)).tolist()
    monkeypatch.setattr(scenes, "MAX_PIXELS", 5)
    with pytest.raises(ValueError, match="image of 3 x 2 px, too large to be read whole: cut it"):
        read_whole(whole, "cut it")
