"""The virtual environment: what is known of it, and making it.

Of an environment whose making was interrupted nothing is trusted: it is made anew, from the
downloads that are cached. An environment that the user made is never removed.
"""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from installer import SetupError

OLDEST = [3, 10]
#: Free space that torch and what it needs take, and some to spare.
NEEDED_GB = 6
#: Run by the environment's interpreter: what is there that a user may have chosen.
LOOK = """
import importlib.metadata as m, importlib.util, json, sys
packages = {str(d.metadata["Name"]).lower(): d.version for d in m.distributions()}
origin = "detectron2" in packages and m.distribution("detectron2").read_text("licenses/ORIGIN")
print(json.dumps({
    "python": list(sys.version_info[:2]),
    "packages": packages,
    "detectron2_built_here": bool(origin),
    "cv2": importlib.util.find_spec("cv2") is not None,
}))
"""


@dataclass
class Environment:
    """What is known of an environment, kept in a file inside it."""

    folder: Path
    python: list[int]  # major and minor version
    created: bool  # by us, so that it may be removed
    running: str = ""  # the stage under way; where a later run finds one, it was interrupted
    done: dict[str, str] = field(default_factory=dict)  # digest by finished stage

    @staticmethod
    def notes(folder: Path) -> Path:
        return folder / "efpnbs_d2-setup.json"

    @classmethod
    def read(cls, folder: Path) -> "Environment | None":
        notes = cls.notes(folder)
        return cls(folder, **json.loads(notes.read_text())) if notes.exists() else None

    def write(self) -> None:
        values = asdict(self)
        del values["folder"]
        draft = self.notes(self.folder).with_suffix(".new")
        draft.write_text(json.dumps(values, indent=1))
        draft.replace(self.notes(self.folder))  # never half a file

    @contextlib.contextmanager
    def during(self, stage: str) -> Iterator[None]:
        """Note that `stage` is under way, until it has ended with the environment whole."""
        self.running = stage
        self.write()
        try:
            yield
        except SetupError as error:
            if error.intact:
                self.running = ""
                self.write()
            raise
        self.running = ""
        self.write()

    @property
    def version(self) -> str:
        return ".".join(str(number) for number in self.python)

    @property
    def interpreter(self) -> Path:
        return self.folder / "bin" / "python"

    def ask(self, program: str) -> str:
        """What `program` prints, run by the environment's interpreter.

        Raises:
            SetupError: the last line that it printed instead.
        """
        command = [str(self.interpreter), "-c", program]
        # Where Python may not keep compiled files, each process would compile all of torch again:
        # here they are kept, as pip does on installing.
        settings = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        answer = subprocess.run(command, capture_output=True, text=True, env=settings)
        if answer.returncode:
            reason = (answer.stderr.strip() or f"exit code {answer.returncode}").splitlines()[-1]
            raise SetupError(f"the environment in {self.folder} does not work: {reason}")
        return answer.stdout

    def look(self) -> dict:
        """What `LOOK` finds."""
        return json.loads(self.ask(LOOK))


def open_environment(folder: Path, python_named: bool) -> Environment:
    """The environment in `folder`, made when there is none to go on with.

    Raises:
        SetupError: there is something else in `folder`, or it cannot be made.
    """
    environment = Environment.read(folder)
    if environment is None and (folder / "bin" / "python").exists():
        environment = Environment(folder, OLDEST, created=False)
        environment.python = environment.look()["python"]
        if environment.python < OLDEST:
            raise SetupError(
                f"{folder} has Python {environment.version}, older than 3.10: name another "
                "environment, or a folder for a new one, with VENV=..."
            )
        print(f"Using {folder}, which you made: its torch, Detectron2 and OpenCV stay as they are")
        return environment
    if environment is not None:
        reason = why_unusable(environment, python_named)
        if not reason or not environment.created:
            return environment
        print(f"Making {folder} anew: {reason}", flush=True)
        shutil.rmtree(folder)
    elif folder.exists() and any(folder.iterdir()):
        raise SetupError(f"{folder} is not a Python environment: name another folder with VENV=...")
    return create(folder)


def why_unusable(environment: Environment, python_named: bool) -> str:
    """Why an environment that we made cannot be gone on with, or nothing."""
    if environment.running:
        return f"the last set-up was interrupted ({environment.running})"
    if not environment.interpreter.exists():  # a link to what was removed
        return "the Python it was made with is gone"
    if python_named and environment.python != list(sys.version_info[:2]):
        return f"it has Python {environment.version}, and PYTHON names another"
    return ""


def create(folder: Path) -> Environment:
    """Make an environment of the Python that runs this."""
    environment = Environment(folder, list(sys.version_info[:2]), created=True)
    check_space(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with environment.during("venv"):
        command = [sys.executable, "-m", "venv", str(folder)]
        made = subprocess.run(command, capture_output=True, text=True)
        if made.returncode:
            raise SetupError(
                f"{sys.executable} cannot make virtual environments: install what it lacks "
                f"(Debian and Ubuntu: `apt install python{environment.version}-venv`), then run "
                "the same command again."
            )
    return environment


def check_space(folder: Path) -> None:
    """Raises:
    SetupError: there is too little free space where the packages will go, or where uv unpacks them.
    """
    cache = Path(os.environ.get("UV_CACHE_DIR") or os.environ.get("XDG_CACHE_HOME") or Path.home())
    for place in (folder, cache):
        while not place.exists():
            place = place.parent
        free = shutil.disk_usage(place).free / 1e9
        if free < NEEDED_GB:
            raise SetupError(
                f"{place} has {free:.1f} GB of free disk space, and set-up takes {NEEDED_GB} GB: "
                "free some, then run the same command again."
            )
