"""What users are told when set-up cannot go on.

Nothing is downloaded: the one index that is asked is a closed port of this machine.
"""

import importlib
import os
import shutil
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SET_UP = ROOT / "third_party" / "set_up"
# Its modules are no package: Python finds them because it runs the folder.
sys.path.insert(0, str(SET_UP))
environment, installer = map(importlib.import_module, ("environment", "installer"))
sys.path.remove(str(SET_UP))


def test_full_disk_is_found_before_anything_is_written(tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage(2.1e9))
    with pytest.raises(installer.SetupError) as stop:
        environment.create(tmp_path / "new" / "env")
    assert "has 2.1 GB of free disk space, and set-up takes 6 GB: free some" in str(stop.value)
    assert not (tmp_path / "new").exists()


UNREACHABLE = "the package index cannot be reached (needed for torch): check the network"


@pytest.mark.parametrize(
    ("output", "told", "intact"),
    [
        # pip, disk full while it unpacks; uv, while it downloads and while it installs
        (
            "Installing collected packages: torch\nERROR: Could not install packages due to an "
            "OSError: [Errno 28] No space left on device\n",
            "the disk is full while installing torch: free some",
            False,
        ),
        ("error: failed to extract\n  Caused by: (os error 28)", "the disk is full", True),
        ("error: Failed to install: a.whl\n  Caused by: (os error 28)", "the disk is full", False),
        # pip: it ends with a misleading line
        (
            "WARNING: Retrying after connection broken by 'NewConnectionError: Failed to establish "
            "a new connection: [Errno 111] Connection refused'\n"
            "ERROR: No matching distribution found for torch==2.11.0",
            UNREACHABLE,
            True,
        ),
        ("error: Failed to fetch\n  Caused by: dns error: failed to lookup", UNREACHABLE, True),
        ("Temporary failure in name resolution", UNREACHABLE, True),
        (
            "ERROR: No matching distribution found for torch==2.11.0",
            "the package index has no torch==2.11.0 for this Python and machine: name another",
            True,
        ),
        ("error: invalid setup.cfg", "torch could not be installed: mend what is said above", True),
    ],
)
def test_failures_are_told_in_one_line(output, told, intact):
    error = installer.explained(output, "torch")
    assert str(error).startswith(told)
    assert "then run the same command again" in str(error)
    assert "\n" not in str(error)
    assert error.intact is intact


def make(*arguments, **variables):
    own = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")}
    command = ["make", "--no-print-directory", *arguments]
    return subprocess.run(command, cwd=ROOT, env=own | variables, capture_output=True, text=True)


def test_old_python_is_named_with_the_remedy(tmp_path):
    old = tmp_path / "python3"
    old.write_text('#!/bin/sh\nif [ "$1" = --version ]; then echo Python 3.9.18; else exit 1; fi\n')
    old.chmod(0o755)
    result = make("demo", PYTHON=str(old))
    assert result.returncode != 0
    assert result.stdout == ""
    assert result.stderr.splitlines()[0] == (
        f"Set-up stopped: efpnbs_d2 needs Python 3.10 or newer, and {old} is 'Python 3.9.18'. "
        "Name a newer one: make PYTHON=python3.12 demo"
    )


def test_unreachable_index_is_named_with_the_remedy(tmp_path):
    """For real: an environment is made, and pip asks a port that nothing listens on."""
    closed = {"PIP_INDEX_URL": "http://127.0.0.1:9/simple", "PIP_CONFIG_FILE": os.devnull}
    result = make("setup", f"VENV={tmp_path}/env", PYTHON=sys.executable, **closed)
    assert result.returncode != 0
    assert "Set-up stopped: the package index cannot be reached (needed for uv)" in result.stderr
    notes = environment.Environment.read(tmp_path / "env")
    assert notes.done == {}
    assert notes.running == ""
