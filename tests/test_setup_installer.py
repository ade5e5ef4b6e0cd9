"""third_party/set_up/installer.py: uv first, pip where uv cannot. No command is run, but pip's own
listing of its settings.
"""

import importlib
import os
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SET_UP = ROOT / "third_party" / "set_up"
# Its modules are no package: Python finds them because it runs the folder.
sys.path.insert(0, str(SET_UP))
installer = importlib.import_module("installer")
sys.path.remove(str(SET_UP))

FINE = (0, "")
BROKEN = (1, "error: unknown trouble")
FULL = (1, "error: failed to extract: No space left on device")


@pytest.fixture
def commands(monkeypatch):
    """The commands that are run, and their results: set `commands.results` by tool."""

    class Commands(list):
        results = {"uv": FINE, "pip": FINE, "pip install uv": FINE}

    ran = Commands()

    def run(command, title, folder, environment=None):
        words = [str(word) for word in command]
        name = "pip install uv" if title == "uv" else words[2]  # python -m NAME ...
        ran.append((name, words, environment))
        return ran.results[name]

    monkeypatch.setattr(installer, "run", run)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    for name in ("PIP_INDEX_URL", "PIP_NO_INDEX", "PIP_CERT", "UV_DEFAULT_INDEX", "SSL_CERT_FILE"):
        monkeypatch.delenv(name, raising=False)
    return ran


def install():
    made = installer.Installer(Path(sys.executable), ROOT)
    made.install("torch", "torch==2.11.0")
    made.install("numpy", "numpy")


def used(commands):
    return [name for name, _, _ in commands[1:]]


def test_uv_installs(commands):
    install()
    assert used(commands) == ["uv", "uv"]
    assert "torch==2.11.0" in commands[1][1]


def test_pip_installs_where_uv_is_not_to_be_had(commands):
    commands.results["pip install uv"] = (1, "ERROR: No matching distribution found for uv")
    install()
    assert used(commands) == ["pip", "pip"]


def test_pip_takes_over_when_uv_fails(commands):
    commands.results["uv"] = BROKEN
    install()
    assert used(commands) == ["uv", "pip", "pip"]


@pytest.mark.parametrize("result", [FULL, (1, "Prepared 3 packages in 2s\nerror: trouble")])
def test_pip_does_not_take_over_a_half_made_environment_or_a_full_disk(commands, result):
    commands.results["uv"] = result
    with pytest.raises(installer.SetupError):
        install()
    assert used(commands) == ["uv"]


@pytest.mark.parametrize("output", [FULL[1], "Temporary failure in name resolution"])
def test_nothing_goes_on_without_disk_or_index(commands, output):
    commands.results["pip install uv"] = (1, output)
    with pytest.raises(installer.SetupError):
        install()
    assert used(commands) == []


def test_pips_index_and_certificates_are_handed_to_uv(commands, monkeypatch, tmp_path):
    settings = tmp_path / "pip.conf"
    settings.write_text("[install]\nindex_url = https://file.example/simple\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(settings))
    install()
    assert commands[1][2]["UV_DEFAULT_INDEX"] == "https://file.example/simple"
    # A variable wins over pip's file, and what uv is told over both.
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    monkeypatch.setenv("PIP_CERT", "/etc/own.pem")
    install()
    _, _, environment = commands[-1]
    assert environment["UV_DEFAULT_INDEX"] == "https://mirror.example/simple"
    assert environment["SSL_CERT_FILE"] == "/etc/own.pem"
    monkeypatch.setenv("UV_DEFAULT_INDEX", "https://chosen.example/simple")
    install()
    assert commands[-1][2]["UV_DEFAULT_INDEX"] == "https://chosen.example/simple"


def test_uv_is_not_used_where_pip_may_use_no_index(commands, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    install()
    assert used(commands) == ["pip", "pip"]
