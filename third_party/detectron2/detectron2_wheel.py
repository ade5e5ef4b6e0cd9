"""PEP 517 build backend that makes a ``detectron2`` wheel from one that the package index has.

Detectron2 is not on the index under its own name. `EZannot` carries upstream's Python files as
``EZannot/detectron2``, with the absolute imports renamed to match: taking only that folder and
renaming the imports back gives files equal to upstream's. README.md has the whole story.
"""

import base64
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

#: Names another source of Detectron2: anything that `pip wheel` understands.
SOURCE_VARIABLE = "DETECTRON2_SOURCE"
CARRIER = "EZannot==1.1.0"
CARRIER_SHA256 = "eb3db02d9a2fba6fa2934b25738a106087faccceb3629124d4d4b8e65759c0d7"
UPSTREAM = "https://github.com/facebookresearch/detectron2"
COMMIT = "28fd05ee"
VERSION = f"0.6+{COMMIT}"
DIST_INFO = f"detectron2-{VERSION}.dist-info"

METADATA = f"""\
Metadata-Version: 2.4
Name: detectron2
Version: {VERSION}
Summary: Object detection and segmentation platform (pure-Python build of commit {COMMIT})
Author: FAIR
License-Expression: Apache-2.0
License-File: LICENSE
License-File: ORIGIN
Project-URL: Source, {UPSTREAM}/tree/{COMMIT}
Requires-Python: >=3.10
"""
# Upstream's own list at this commit, which leaves torch, torchvision and OpenCV to the user. What
# differs: iopath 0.1.10 was tried and works; `detectron2.model_zoo` imports pkg_resources, which
# setuptools 81 dropped.
REQUIREMENTS = (
    "black",
    "cloudpickle",
    "fvcore>=0.1.5,<0.1.6",
    "hydra-core>=1.1",
    "iopath>=0.1.7,<0.1.11",
    "matplotlib",
    "omegaconf>=2.1,<2.4",
    "packaging",
    "Pillow>=7.1",
    "pycocotools>=2.0.2",
    "setuptools<81",
    "tabulate",
    "tensorboard",
    "termcolor>=1.1",
    "tqdm>4.29.0",
    "yacs>=0.1.8",
)
WHEEL = """\
Wheel-Version: 1.0
Generator: detectron2_wheel
Root-Is-Purelib: true
Tag: py3-none-any
"""
ORIGIN = f"""\
Detectron2, copyright Facebook, Inc. and its affiliates, licensed under the Apache License 2.0.

Upstream: {UPSTREAM}, commit {COMMIT} (2024-10-10), without the compiled operators.
Taken from: the folder EZannot/detectron2 of the wheel {CARRIER}, sha256
{CARRIER_SHA256}.
Changed: imports of `EZannot.detectron2` renamed back to `detectron2`. Nothing else of that wheel is
in this one.
"""


def build_wheel(
    wheel_directory: str,
    config_settings: dict | None = None,
    metadata_directory: str | None = None,
) -> str:
    """The PEP 517 hook: write the wheel into `wheel_directory` and return its file name."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = fetch(os.environ.get(SOURCE_VARIABLE) or CARRIER, Path(folder))
            if not found.name.lower().startswith("ezannot-"):
                # Detectron2 under its own name, from a source that the user named.
                (Path(wheel_directory) / found.name).write_bytes(found.read_bytes())
                return found.name
            check_sha256(found, CARRIER_SHA256)
            return write_wheel(upstream_files(found), Path(wheel_directory))
        except ValueError as error:
            raise SystemExit(f"detectron2: {error}") from error


def fetch(source: str, folder: Path) -> Path:
    """Download or build one wheel with pip, which knows the user's index, mirrors and caches.

    Raises:
        ValueError: pip cannot get it (its own messages are printed above), or it is neither
            Detectron2 nor the wheel that carries it.
    """
    # Not isolated: Detectron2's own build needs the torch that it is going to run with.
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel", "--no-deps"]
    options = ["--no-build-isolation", "--wheel-dir", str(folder)]
    if subprocess.run([*command, *options, source]).returncode:
        raise ValueError(
            f"pip could not get {source}. Check the connection and pip's settings "
            f"(`pip config list`), or name another source in {SOURCE_VARIABLE}."
        )
    (wheel,) = folder.glob("*.whl")
    if not wheel.name.lower().startswith(("ezannot-", "detectron2-")):
        raise ValueError(f"{SOURCE_VARIABLE} gave {wheel.name}, expected a wheel of detectron2.")
    return wheel


def check_sha256(wheel: Path, expected: str) -> None:
    """Raises:
    ValueError: the file is not the one that this project was tried with.
    """
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    if found != expected:
        raise ValueError(
            f"{wheel.name} has sha256 {found}, expected {expected}. The file was damaged or "
            "replaced: empty pip's cache (`pip cache purge`) and try again."
        )


def upstream_files(carrier: Path) -> dict[str, bytes]:
    """The ``detectron2`` tree of the carrier with its imports renamed back: content by path.

    Raises:
        ValueError: there is no such tree, or a mention of the carrier is left in it.
    """
    prefix = "EZannot/"
    with zipfile.ZipFile(carrier) as archive:
        files = {
            name.removeprefix(prefix): archive.read(name).replace(
                b"EZannot.detectron2", b"detectron2"
            )
            for name in archive.namelist()
            if name.startswith(f"{prefix}detectron2/") and not name.endswith("/")
        }
    left = sorted(name for name, content in files.items() if b"EZannot" in content)
    if "detectron2/__init__.py" not in files or left:
        raise ValueError(f"{carrier.name} does not hold a whole detectron2 tree; left over: {left}")
    return files


def write_wheel(files: dict[str, bytes], folder: Path) -> str:
    """Write the wheel of `files` (content by path) and return its name. Same files, same bytes."""
    requires = "".join(f"Requires-Dist: {requirement}\n" for requirement in REQUIREMENTS)
    licence = Path(__file__).resolve().parents[2] / "LICENSE"  # the same licence as this project's
    entries = files | {
        f"{DIST_INFO}/METADATA": (METADATA + requires).encode(),
        f"{DIST_INFO}/WHEEL": WHEEL.encode(),
        f"{DIST_INFO}/licenses/LICENSE": licence.read_bytes(),
        f"{DIST_INFO}/licenses/ORIGIN": ORIGIN.encode(),
    }
    record = [f"{name},sha256={_digest(data)},{len(data)}" for name, data in entries.items()]
    record.append(f"{DIST_INFO}/RECORD,,")
    entries[f"{DIST_INFO}/RECORD"] = ("\n".join(record) + "\n").encode()

    name = f"detectron2-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(folder / name, "w", zipfile.ZIP_DEFLATED) as archive:
        for path, data in entries.items():
            entry = zipfile.ZipInfo(path)
            entry.external_attr = 0o644 << 16  # readable by everyone
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED)
    return name


def _digest(data: bytes) -> str:
    """A file's hash in the form that a wheel's RECORD has."""
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
