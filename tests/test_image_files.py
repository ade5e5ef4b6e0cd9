"""Image sizes from headers agree with what Detectron2 decodes."""

import pytest
from detectron2.data.detection_utils import read_image
from PIL import Image

from efpnbs_d2.image_files import image_size, locate_images


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "tif", "webp"])
@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8])
def test_size_is_that_of_the_decoded_image(tmp_path, suffix, orientation):
    """EXIF orientations 5 to 8 turn a photo by 90 degrees when it is read."""
    path = str(tmp_path / f"a.{suffix}")
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    options = {} if suffix == "bmp" else {"exif": exif}
    Image.new("RGB", (30, 20)).save(path, **options)
    assert image_size(path) == read_image(path).shape[:2]


def test_no_image_is_named(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(b"GIF89a")
    with pytest.raises(ValueError, match="a.jpg: found no readable image"):
        image_size(str(path))


def test_folders_are_not_images(tmp_path):
    (tmp_path / "a.jpg").mkdir()
    assert locate_images(["a.jpg", "b.jpg", "c/d.jpg"], [str(tmp_path)]) == {}
