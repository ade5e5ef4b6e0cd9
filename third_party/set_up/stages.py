"""The stages of set-up, in order: what each depends on and what it installs.

An environment that the user made keeps its torch, its Detectron2 (0.6 or newer) and its OpenCV.
"""

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from environment import Environment
from installer import Installer, SetupError

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
DETECTRON2 = ROOT / "third_party" / "detectron2"
#: Names another source of Detectron2, for its build backend.
SOURCE_VARIABLE = "DETECTRON2_SOURCE"
#: Builds this package and some of Detectron2's dependencies, which come as source.
BUILD_TOOL = "setuptools>=70.1,<81"
#: What must work in the end; `model_zoo` imports the most.
IMPORTS = "import torch, torchvision, cv2, detectron2.model_zoo"


@dataclass(frozen=True)
class Stage:
    """Args:
    name: shown, and noted in the environment.
    install: does it.
    inputs: files that it depends on.
    setting: text that it depends on.
    """

    name: str
    install: Callable[[Environment, Installer], None]
    inputs: list[Path]
    setting: str = ""


def stale_stages(environment: Environment) -> list[tuple[Stage, str]]:
    """The stages to run, with their digests: from the first whose inputs have changed."""
    source = os.environ.get(SOURCE_VARIABLE, "")
    backend = [DETECTRON2 / "detectron2_wheel.py", DETECTRON2 / "pyproject.toml"]
    project = [ROOT / "setup.cfg", ROOT / "pyproject.toml"]
    stages = [
        Stage("torch", install_torch, sorted(HERE.glob("*.*"))),
        Stage("detectron2", install_detectron2, backend, source),
        Stage("project", install_project, project, str(ROOT)),
    ]
    digest = hashlib.sha256(environment.version.encode())
    todo = []
    for stage in stages:
        digest.update(stage.setting.encode())
        for file in stage.inputs:
            digest.update(file.read_bytes())
        if todo or environment.done.get(stage.name) != digest.hexdigest():
            todo.append((stage, digest.hexdigest()))
    return todo


def install_torch(environment: Environment, installer: Installer) -> None:
    theirs = environment.look()["packages"].get("torch")
    if environment.created or theirs is None:
        torch = ["--requirement", str(HERE / "torch.txt")]
    else:
        torch = [f"torch=={theirs}", "torchvision"]
    installer.install("torch and torchvision (2.5 GB)", BUILD_TOOL, *torch)


def install_detectron2(environment: Environment, installer: Installer) -> None:
    found = environment.look()
    version = found["packages"].get("detectron2", "0")
    numbers = [int(number) for number in re.findall(r"\d+", version)[:2]]
    theirs = numbers >= [0, 6] and not found["detectron2_built_here"]
    if theirs and not os.environ.get(SOURCE_VARIABLE):
        print(f"  detectron2: {version} is there and stays", flush=True)
    else:
        installer.install("detectron2", str(DETECTRON2))


def install_project(environment: Environment, installer: Installer) -> None:
    extras = "dev" if environment.look()["cv2"] else "dev,opencv"
    installer.install("efpnbs_d2 and its tools", "--editable", f".[{extras}]")
    try:
        environment.ask("import cv2")
    except SetupError as error:
        print(f"  opencv-python is replaced by opencv-python-headless: {error}", flush=True)
        installer.uninstall("opencv-python")
        installer.install("opencv-python-headless", "opencv-python-headless")
    print("  importing everything once", flush=True)
    environment.ask(IMPORTS)
