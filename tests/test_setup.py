"""third_party/set_up: what is installed when, and what is kept. Installations are only recorded."""

import importlib
import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SET_UP = ROOT / "third_party" / "set_up"
# Its modules are no package: Python finds them because it runs the folder.
sys.path.insert(0, str(SET_UP))
environment, installer, stages = map(
    importlib.import_module, ("environment", "installer", "stages")
)
sys.path.remove(str(SET_UP))


@pytest.fixture
def main(monkeypatch, tmp_path):
    """The set-up program, reading its inputs from a copy, with an installer that only records."""
    spec = importlib.util.spec_from_file_location("set_up_main", SET_UP / "__main__.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    monkeypatch.setattr(stages, "ROOT", tmp_path)
    monkeypatch.setattr(stages, "IMPORTS", "")
    monkeypatch.setattr(environment, "create", fake_environment)
    monkeypatch.setattr(module, "Installer", Recorder)
    monkeypatch.delenv("DETECTRON2_SOURCE", raising=False)
    Recorder.calls = []
    Recorder.failure = {}
    return module


class Recorder:
    """Stands for `Installer`."""

    calls: list[tuple[str, ...]]
    failure: dict[str, BaseException]  # by a requirement of the installation to fail

    def __init__(self, python, root):
        Recorder.calls.append(("uv",))

    def install(self, title, *requirements):
        for requirement in requirements:
            if requirement in self.failure:
                raise self.failure.pop(requirement)
        Recorder.calls.append(requirements)

    def uninstall(self, package):
        Recorder.calls.append(("uninstall", package))


def fake_environment(folder):
    """A folder with this Python in it, as if it had just been made."""
    (folder / "bin").mkdir(parents=True)
    python = folder / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    made = environment.Environment(folder, list(sys.version_info[:2]), created=True)
    made.write()
    return made


def installed():
    """The installations so far, by what tells them apart."""
    known = {"--requirement": "torch", "--editable": "project", "uv": "uv"}
    found = [
        next((known[word] for word in call if word in known), "other") for call in Recorder.calls
    ]
    Recorder.calls = []
    return ["detectron2" if name == "other" else name for name in found]


def test_second_run_finds_nothing_to_do(main, tmp_path):
    main.set_up(tmp_path / "env", python_named=False)
    assert installed() == ["uv", "torch", "detectron2", "project"]
    main.set_up(tmp_path / "env", python_named=False)
    assert installed() == []


def test_changed_dependencies_repeat_their_stage_and_those_after(main, tmp_path, monkeypatch):
    main.set_up(tmp_path / "env", python_named=False)
    installed()
    (tmp_path / "setup.cfg").write_text("[options]\ninstall_requires = another\n")
    main.set_up(tmp_path / "env", python_named=False)
    assert installed() == ["uv", "project"]
    monkeypatch.setenv("DETECTRON2_SOURCE", "another")
    main.set_up(tmp_path / "env", python_named=False)
    assert installed() == ["uv", "detectron2", "project"]


def test_undone_change_repeats_what_had_been_built_on_it(main, tmp_path, monkeypatch):
    main.set_up(tmp_path / "env", python_named=False)
    monkeypatch.setenv("DETECTRON2_SOURCE", "another")
    Recorder.failure = {"--editable": installer.SetupError("no index", intact=True)}
    with pytest.raises(installer.SetupError, match="no index"):
        main.set_up(tmp_path / "env", python_named=False)
    monkeypatch.delenv("DETECTRON2_SOURCE")
    installed()
    main.set_up(tmp_path / "env", python_named=False)
    assert installed() == ["uv", "detectron2", "project"]


def test_failure_before_anything_was_installed_goes_on_where_it_stopped(main, tmp_path):
    Recorder.failure = {"--editable": installer.SetupError("no index", intact=True)}
    with pytest.raises(installer.SetupError, match="no index"):
        main.set_up(tmp_path / "env", python_named=False)
    assert installed() == ["uv", "torch", "detectron2"]
    (tmp_path / "env" / "kept").touch()
    main.set_up(tmp_path / "env", python_named=False)
    assert installed() == ["uv", "project"]
    assert (tmp_path / "env" / "kept").exists()


@pytest.mark.parametrize("half", ["interrupted", "disk full"])
def test_half_made_environment_is_never_trusted(main, tmp_path, half):
    failure = (
        KeyboardInterrupt() if half == "interrupted" else installer.SetupError(half, intact=False)
    )
    Recorder.failure = {"--editable": failure}
    with pytest.raises(type(failure)):
        main.set_up(tmp_path / "env", python_named=False)
    installed()
    (tmp_path / "env" / "half a package").touch()
    main.set_up(tmp_path / "env", python_named=False)
    assert installed() == ["uv", "torch", "detectron2", "project"]
    assert not (tmp_path / "env" / "half a package").exists()


def test_another_python_is_used_only_when_named(main, tmp_path):
    main.set_up(tmp_path / "env", python_named=False)
    other = environment.Environment.read(tmp_path / "env")
    other.python = [3, 99]
    other.write()
    again = environment.open_environment(tmp_path / "env", python_named=False)
    assert again.python == [3, 99]
    anew = environment.open_environment(tmp_path / "env", python_named=True)
    assert anew.python == list(sys.version_info[:2])


def test_users_environment_is_never_removed(main, tmp_path):
    fake_environment(tmp_path / "env")
    (tmp_path / "env" / "efpnbs_d2-setup.json").unlink()  # not ours
    Recorder.failure = {"--editable": KeyboardInterrupt()}
    with pytest.raises(KeyboardInterrupt):
        main.set_up(tmp_path / "env", python_named=False)
    (tmp_path / "env" / "theirs").touch()
    main.set_up(tmp_path / "env", python_named=True)
    assert (tmp_path / "env" / "theirs").exists()
    assert not environment.Environment.read(tmp_path / "env").created


def test_folder_of_something_else_is_left_alone(main, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "one.jpg").touch()
    with pytest.raises(installer.SetupError, match="VENV=") as stop:
        main.set_up(tmp_path / "photos", python_named=False)
    assert "photos is not a Python environment" in str(stop.value)
    assert (tmp_path / "photos" / "one.jpg").exists()


def environment_with(packages, created=False, built_here=False, cv2=True, broken=()):
    """An environment that answers as if it held `packages`."""

    class Known(environment.Environment):
        def look(self):
            return {"packages": packages, "detectron2_built_here": built_here, "cv2": cv2}

        def ask(self, program):
            if program in broken:
                raise installer.SetupError("libGL.so.1: cannot open")

    return Known(Path("env"), [3, 11], created=created)


@pytest.mark.parametrize(
    ("packages", "built_here", "kept"),
    [
        ({}, False, False),
        ({"detectron2": "0.5"}, False, False),
        ({"detectron2": "0.6"}, False, True),
        ({"detectron2": "0.6+cu118"}, False, True),
        ({"detectron2": "1.0"}, False, True),
        ({"detectron2": "0.6+28fd05ee"}, True, False),  # ours: built again when the backend changed
    ],
)
def test_users_detectron2_is_kept(main, packages, built_here, kept):
    known = environment_with(packages, built_here=built_here)
    stages.install_detectron2(known, Recorder(None, None))
    assert Recorder.calls[1:] == ([] if kept else [(str(stages.DETECTRON2),)])


def test_named_source_takes_the_place_of_users_detectron2(main, monkeypatch):
    monkeypatch.setenv("DETECTRON2_SOURCE", "/their/checkout")
    stages.install_detectron2(environment_with({"detectron2": "0.6"}), Recorder(None, None))
    assert Recorder.calls[1:] == [(str(stages.DETECTRON2),)]


def test_torch_pair_is_the_tried_one_except_where_the_user_has_torch(main):
    pair = ("--requirement", str(SET_UP / "torch.txt"))
    for known, expected in (
        (environment_with({}, created=True), pair),
        (environment_with({"torch": "2.9.0"}, created=True), pair),
        (environment_with({}), pair),
        (environment_with({"torch": "2.9.0+cu128"}), ("torch==2.9.0+cu128", "torchvision")),
    ):
        stages.install_torch(known, Recorder(None, None))
        assert Recorder.calls[-1] == (stages.BUILD_TOOL, *expected)
    pins = (SET_UP / "torch.txt").read_text()
    assert "torch==2.11.0\ntorchvision==0.26.0\n" in pins  # versions that match each other


def test_opencv_without_libgl_is_replaced_never_doubled(main, capsys):
    known = environment_with({}, cv2=False, broken=("import cv2",))
    stages.install_project(known, Recorder(None, None))
    assert Recorder.calls[1:] == [
        ("--editable", ".[dev,opencv]"),
        ("uninstall", "opencv-python"),
        ("opencv-python-headless",),
    ]
    told = capsys.readouterr().out
    assert "opencv-python is replaced by opencv-python-headless" in told
    assert "libGL" in told


def test_opencv_that_is_there_stays(main):
    stages.install_project(environment_with({}), Recorder(None, None))
    assert Recorder.calls[1:] == [("--editable", ".[dev]")]
