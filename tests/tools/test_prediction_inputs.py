"""Which files are predicted, in which order, and under which names."""

import pytest

from efpnbs_d2.tools.prediction_inputs import list_sources


@pytest.fixture
def folder(tmp_path):
    for name in ("in/b.png", "in/a.jpg", "in/deep/A.JPG", "in/c.mp4", "in/notes.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def found(patterns, folder):
    sources = list_sources([str(folder / p) for p in patterns], folder / "out")
    return [str(source.path.relative_to(folder)) for source in sources]


def test_a_folder_is_all_images_below_it(folder):
    assert found(["in"], folder) == ["in/a.jpg", "in/b.png", "in/deep/A.JPG"]


def test_files_and_globs_keep_their_order_and_come_once(folder):
    assert found(["in/c.mp4", "in/b.png", "in"], folder) == [
        "in/c.mp4",
        "in/b.png",
        "in/a.jpg",
        "in/deep/A.JPG",
    ]
    # Of what a glob matches, the images and videos; folders and notes are none.
    assert found(["in/*"], folder) == ["in/a.jpg", "in/b.png", "in/c.mp4"]
    assert found(["in/**/*.[jJ]*"], folder) == ["in/a.jpg", "in/deep/A.JPG"]


def test_a_file_that_is_named_is_taken_whatever_it_is_called(folder):
    assert found(["in/notes.txt"], folder) == ["in/notes.txt"]


def test_a_name_with_brackets_is_a_name_first(folder):
    (folder / "in/x[1].png").touch()
    assert found(["in/x[1].png"], folder) == ["in/x[1].png"]


def test_files_of_one_stem_get_names_of_their_own(folder):
    (folder / "in/b.tif").touch()
    names = {str(s.path.name): s.name for s in list_sources([str(folder / "in")], folder / "out")}
    # a.jpg and A.JPG: not every file system tells them apart.
    assert len({name.lower() for name in names.values()}) == len(names) == 4
    for file, stem in [("a.jpg", "a-"), ("A.JPG", "A-"), ("b.png", "b-"), ("b.tif", "b-")]:
        assert names[file].startswith(stem) and len(names[file]) == 10
    (alone,) = list_sources([str(folder / "in/b.png")], folder / "out")
    assert alone.name == "b" and not alone.is_video
    (video,) = list_sources([str(folder / "in/c.mp4")], folder / "out")
    assert video.is_video


def test_a_frame_is_never_called_as_an_image_is(folder):
    """Frame 1 of c.mp4 is c_000001 elsewhere."""
    (folder / "in/C_000001.png").touch()
    sources = list_sources([f"{folder}/in/c.mp4", f"{folder}/in"], folder / "out")
    names = {source.path.name: source.name for source in sources}
    assert names["C_000001.png"] == "C_000001" and names["b.png"] == "b"
    assert names["c.mp4"].startswith("c-") and len(names["c.mp4"]) == 10


def test_a_link_keeps_its_own_name(folder):
    (folder / "link.png").symlink_to(folder / "in/b.png")
    (source,) = list_sources([f"{folder}/in/../link.png"], folder / "out")
    assert source.name == "link" and source.path == folder / "link.png"


def test_results_are_no_inputs(folder):
    (folder / "in/out/pictures").mkdir(parents=True)
    (folder / "in/out/pictures/b.jpg").touch()
    sources = list_sources([str(folder / "in")], folder / "in/out")
    assert len(sources) == 3
    with pytest.raises(ValueError, match="no image outside of the output folder"):
        list_sources([str(folder / "in/out")], folder / "in/out")


@pytest.mark.parametrize(
    ("pattern", "error", "message"),
    [
        ("none.jpg", FileNotFoundError, "none.jpg not found"),
        ("in/*.txt", FileNotFoundError, "matches no image and no video"),
        ("empty", ValueError, "holds no image"),
    ],
)
def test_what_names_nothing_is_said(folder, pattern, error, message):
    (folder / "empty").mkdir()
    with pytest.raises(error, match=message):
        list_sources([str(folder / pattern)], folder / "out")
