"""What stands between OpenCV and the names of files."""

import os

import pytest

from efpnbs_d2.tools.video import VideoReader


def test_a_name_that_opencv_would_crash_on_is_refused(tmp_path):
    path = tmp_path / os.fsdecode(b"\xff.mp4")
    path.write_bytes(b"whatever")
    with pytest.raises(OSError, match="its name is no UTF-8"):
        VideoReader(path)
