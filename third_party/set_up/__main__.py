"""Make the virtual environment that the Makefile's targets run in.

    python3 third_party/set_up .venv

It goes through the stages of stages.py and notes each finished one in the environment, with a
digest of the files that the stage depends on: a second run finds nothing to do, a changed file
repeats its stage and those after it. Needs nothing but Python's own library.
"""

import fcntl
import os
import sys
from pathlib import Path

from environment import open_environment
from installer import Installer, SetupError
from stages import ROOT, SOURCE_VARIABLE, stale_stages


def main() -> None:
    source = os.environ.get(SOURCE_VARIABLE, "")
    if source and Path(source).exists():  # pip will look at it from another folder
        os.environ[SOURCE_VARIABLE] = str(Path(source).absolute())
    with open(__file__) as lock:
        os.set_inheritable(lock.fileno(), True)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another set-up of this checkout to end", flush=True)
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            set_up(Path(sys.argv[1]).absolute(), python_named="PYTHON" in os.environ)
        except (SetupError, OSError) as error:
            sys.exit(f"Set-up stopped: {error}")
        except KeyboardInterrupt:
            sys.exit("\nSet-up interrupted: run the same command again to go on.")


def set_up(folder: Path, python_named: bool) -> None:
    """Bring the environment in `folder` up to date.

    Args:
        folder: where it is, or is to be.
        python_named: the user asked for the Python that runs this; otherwise an environment that
            is there may be of another version.

    Raises:
        SetupError: with what to do.
    """
    environment = open_environment(folder, python_named)
    todo = stale_stages(environment)
    if not todo:
        return
    print(f"Setting up {folder} (Python {environment.version})", flush=True)
    with environment.during("uv"):
        installer = Installer(environment.interpreter, ROOT)
    for stage, digest in todo:
        with environment.during(stage.name):
            stage.install(environment, installer)
        environment.done[stage.name] = digest
        environment.write()


if __name__ == "__main__":
    main()
