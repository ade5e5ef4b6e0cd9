"""third_party/detectron2: the wheel built from the one that carries Detectron2 under another name.

The carrier here is a small invented one with the real one's layout.
"""

import base64
import csv
import hashlib
import importlib.util
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

BACKEND = Path(__file__).resolve().parents[1] / "third_party/detectron2/detectron2_wheel.py"
CARRIER_FILES = {
    "EZannot/__init__.py": "code under another licence",
    "EZannot/detectron2/__init__.py": '__version__ = "0.6"\n',
    "EZannot/detectron2/data/build.py": (
        "from EZannot.detectron2 import model_zoo\n"
        "from EZannot.detectron2.config import configurable\n"
        "import EZannot.detectron2.utils.comm as comm\n"
        'logger = getLogger("EZannot.detectron2.data")\n'
    ),
    "EZannot/detectron2/model_zoo/configs/base.yaml": "MODEL: {}\n",
}


@pytest.fixture
def backend():
    spec = importlib.util.spec_from_file_location("detectron2_wheel", BACKEND)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def carrier(tmp_path):
    return write_wheel(tmp_path / "ezannot-1.1.0-py3-none-any.whl", CARRIER_FILES)


def write_wheel(path, files):
    """A wheel with the least that pip asks for."""
    name, version = path.name.split("-")[:2]
    info = f"{name}-{version}.dist-info"
    described = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for entry, text in {**files, **described}.items():
            archive.writestr(entry, text)
    return path


def test_takes_the_detectron2_tree_only_and_renames_its_imports_back(backend, carrier):
    assert backend.upstream_files(carrier) == {
        "detectron2/__init__.py": b'__version__ = "0.6"\n',
        "detectron2/data/build.py": (
            b"from detectron2 import model_zoo\n"
            b"from detectron2.config import configurable\n"
            b"import detectron2.utils.comm as comm\n"
            b'logger = getLogger("detectron2.data")\n'
        ),
        "detectron2/model_zoo/configs/base.yaml": b"MODEL: {}\n",
    }


@pytest.mark.parametrize(
    "files",
    [
        {"EZannot/detectron2/__init__.py": "import EZannot.tools"},  # not one of ours to rename
        {"EZannot/detectron2/config.py": ""},  # no package
    ],
)
def test_refuses_a_tree_that_is_not_whole(backend, tmp_path, files):
    carrier = write_wheel(tmp_path / "ezannot-1.1.0-py3-none-any.whl", files)
    with pytest.raises(ValueError, match="does not hold a whole detectron2 tree"):
        backend.upstream_files(carrier)


def test_wheel_is_one_that_installers_accept(backend, carrier, tmp_path):
    name = backend.write_wheel(backend.upstream_files(carrier), tmp_path)
    assert name == "detectron2-0.6+28fd05ee-py3-none-any.whl"
    info = "detectron2-0.6+28fd05ee.dist-info"
    with zipfile.ZipFile(tmp_path / name) as wheel:
        content = {entry: wheel.read(entry) for entry in wheel.namelist()}
        modes = {entry.external_attr >> 16 for entry in wheel.infolist()}
    # RECORD lists every file with its digest and size, and itself without.
    rows = {row[0]: row[1:] for row in csv.reader(content[f"{info}/RECORD"].decode().splitlines())}
    assert rows.keys() == content.keys()
    assert rows.pop(f"{info}/RECORD") == ["", ""]
    for entry, (digest, size) in rows.items():
        sha = base64.urlsafe_b64encode(hashlib.sha256(content[entry]).digest()).rstrip(b"=")
        assert (digest, int(size)) == (f"sha256={sha.decode()}", len(content[entry]))
    assert modes == {0o644}


def test_wheel_records_requirements_licence_and_origin(backend, carrier, tmp_path):
    name = backend.write_wheel(backend.upstream_files(carrier), tmp_path)
    info = "detectron2-0.6+28fd05ee.dist-info"
    with zipfile.ZipFile(tmp_path / name) as wheel:
        metadata = Parser().parsestr(wheel.read(f"{info}/METADATA").decode())
        licence = wheel.read(f"{info}/licenses/LICENSE").decode()
        origin = wheel.read(f"{info}/licenses/ORIGIN").decode()
    assert (metadata["Name"], metadata["Version"]) == ("detectron2", "0.6+28fd05ee")
    assert metadata["License-Expression"] == "Apache-2.0"
    assert metadata.get_all("License-File") == ["LICENSE", "ORIGIN"]
    required = metadata.get_all("Requires-Dist")
    assert {"omegaconf>=2.1,<2.4", "setuptools<81", "fvcore>=0.1.5,<0.1.6"} <= set(required)
    # The user chooses these; a requirement would exchange the ones that are there.
    assert not any(name.startswith(("torch", "opencv")) for name in required)
    assert "Apache License" in licence
    for fact in ("Facebook, Inc.", "28fd05ee", "EZannot==1.1.0", backend.CARRIER_SHA256):
        assert fact in origin


def test_same_files_give_the_same_bytes(backend, carrier, tmp_path):
    files = backend.upstream_files(carrier)
    wheels = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        wheels.append((folder / backend.write_wheel(files, folder)).read_bytes())
    assert wheels[0] == wheels[1]


def test_another_file_under_the_same_name_is_refused(backend, carrier, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_SOURCE", str(carrier))
    out = tmp_path / "out"
    out.mkdir()
    found = hashlib.sha256(carrier.read_bytes()).hexdigest()
    with pytest.raises(SystemExit) as stop:
        backend.build_wheel(str(out))
    assert f"sha256 {found}, expected {backend.CARRIER_SHA256}" in str(stop.value)
    assert not list(out.iterdir())


def test_carrier_with_the_expected_digest_is_built(backend, carrier, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_SOURCE", str(carrier))
    digest = hashlib.sha256(carrier.read_bytes()).hexdigest()
    monkeypatch.setattr(backend, "CARRIER_SHA256", digest)
    name = backend.build_wheel(str(tmp_path))
    with zipfile.ZipFile(tmp_path / name) as wheel:
        assert "detectron2/data/build.py" in wheel.namelist()


def test_named_source_is_taken_as_it_is(backend, tmp_path, monkeypatch):
    """A user's own build of Detectron2 passes through unchanged."""
    own = write_wheel(
        tmp_path / "detectron2-0.6-py3-none-any.whl", {"detectron2/_C.so": "compiled"}
    )
    monkeypatch.setenv("DETECTRON2_SOURCE", str(own))
    out = tmp_path / "out"
    out.mkdir()
    assert backend.build_wheel(str(out)) == own.name
    assert (out / own.name).read_bytes() == own.read_bytes()


def test_named_source_of_something_else_is_refused(backend, tmp_path, monkeypatch):
    other = write_wheel(tmp_path / "other-1.0-py3-none-any.whl", {"other.py": ""})
    monkeypatch.setenv("DETECTRON2_SOURCE", str(other))
    with pytest.raises(SystemExit, match="DETECTRON2_SOURCE gave other-1.0"):
        backend.build_wheel(str(tmp_path))


def test_source_that_pip_cannot_get_is_named(backend, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_SOURCE", str(tmp_path / "missing.whl"))
    with pytest.raises(SystemExit, match=r"pip could not get .*missing\.whl.*DETECTRON2_SOURCE"):
        backend.build_wheel(str(tmp_path))
