"""Install packages into an environment with uv, else pip, and say in one line what went wrong."""

import contextlib
import os
import re
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path

# What pip and uv print for each of the troubles that a user can do something about.
NO_SPACE = re.compile(r"No space left on device|os error 28\b|Errno 28\b|Disk quota exceeded")
NO_INDEX = re.compile(
    r"Failed to establish a new connection|NewConnectionError|ConnectTimeout|Read ?timed? ?out"
    r"|Connection (?:refused|reset|aborted|broken)|Name or service not known"
    r"|Temporary failure in name resolution|Network is unreachable|ProxyError|SSLError"
    r"|CERTIFICATE_VERIFY_FAILED|Could not connect|error sending request|dns error"
    r"|tcp connect error|operation timed out",
    re.IGNORECASE,
)
NOT_ON_INDEX = re.compile(r"No matching distribution found for (\S+)")
#: Downloads come first: an output without one of these left the environment as it was.
INSTALLING = re.compile(r"^(?:Installing collected packages|Prepared \d+ )|Failed to install", re.M)


class SetupError(Exception):
    """Set-up cannot go on; the message says why and what to do, in one line.

    Args:
        message: that line.
        intact: nothing was installed or removed half.
    """

    def __init__(self, message: str, intact: bool = True):
        super().__init__(message)
        self.intact = intact


class Installer:
    """Installs into the environment of one interpreter.

    Args:
        python: the environment's interpreter.
        root: folder that relative paths among the requirements are relative to.

    Raises:
        SetupError: pip cannot reach the index.
    """

    def __init__(self, python: Path, root: Path):
        self.python = python
        self.root = root
        self.use_uv = self._get_uv()

    def install(self, title: str, *requirements: str) -> None:
        """Install `requirements` (pip's command-line forms), keeping what satisfies them already.

        Raises:
            SetupError: neither uv nor pip could.
        """
        # Not isolated: what the environment holds builds the rest, so nothing is fetched twice
        # and a new release of a build tool cannot break an old source package.
        arguments = ["install", "--no-build-isolation", *requirements]
        if self.use_uv:
            command = [self.python, "-m", "uv", "pip", *arguments, "--python", self.python]
            code, output = run(command, title, self.root, self._uv_environment())
            if code == 0:
                return
            if NO_SPACE.search(output) or INSTALLING.search(output):
                raise explained(output, title)
            print(f"  uv did not manage ({last_line(output)}): trying pip", flush=True)
            self.use_uv = False
        code, output = self._pip([*arguments, "--use-pep517"], title)
        if code:
            raise explained(output, title)

    def uninstall(self, package: str) -> None:
        """Remove an installed package.

        Raises:
            SetupError: pip could not.
        """
        title = f"removal of {package}"
        code, output = self._pip(["uninstall", "--yes", package], title)
        if code:
            raise explained(output, title)

    def _pip(self, arguments: list[str], title: str) -> tuple[int, str]:
        command = [self.python, "-m", "pip", "--disable-pip-version-check", *arguments]
        return run(command, title, self.root)

    def _get_uv(self) -> bool:
        """Get uv, several times faster than pip, and find out early whether the index answers."""
        quickly = ["--retries", "1", "--timeout", "20"]
        code, output = self._pip(["install", "--only-binary", "uv", "uv", *quickly], "uv")
        if code and (NO_SPACE.search(output) or NO_INDEX.search(output)):
            raise explained(output, "uv")
        # uv has no part in pip's folders of files, which stand in for an index then.
        usable = code == 0 and "no_index" not in self._pip_settings()
        if not usable:
            print("  going on without uv, with pip alone", flush=True)
        return usable

    def _uv_environment(self) -> dict[str, str]:
        """uv does not read pip's settings: hand it the user's index and certificates."""
        pip = self._pip_settings()
        told = {"UV_DEFAULT_INDEX": pip.get("index_url"), "SSL_CERT_FILE": pip.get("cert")}
        return {name: value for name, value in told.items() if value} | os.environ

    def _pip_settings(self) -> dict[str, str]:
        """pip's settings by name (``-`` as ``_``); its environment variables win over its files."""
        command = [self.python, "-m", "pip", "config", "list"]
        listing = subprocess.run(command, capture_output=True, text=True).stdout
        found = re.findall(r"^(\S+)\.([a-z-]+)='(.*)'$", listing, re.MULTILINE)
        in_order = sorted(found, key=lambda row: row[0] == ":env:")
        return {name.replace("-", "_"): value for _, name, value in in_order}


def explained(output: str, title: str) -> SetupError:
    """What stopped the installation of `title`, from pip's or uv's output."""
    again = "then run the same command again"
    intact = not INSTALLING.search(output)
    if NO_SPACE.search(output):
        return SetupError(f"the disk is full while installing {title}: free some, {again}.", intact)
    if NO_INDEX.search(output):
        return SetupError(
            f"the package index cannot be reached (needed for {title}): check the network, the "
            f"proxy and pip's settings (`python3 -m pip config list`), {again}.",
            intact,
        )
    missing = NOT_ON_INDEX.search(output)
    if missing:
        return SetupError(
            f"the package index has no {missing[1]} for this Python and machine: name another "
            f"Python (PYTHON=python3.12) or another index in pip's settings, {again}.",
            intact,
        )
    print(output, file=sys.stderr)
    return SetupError(f"{title} could not be installed: mend what is said above, {again}.", intact)


def run(
    command: list, title: str, folder: Path, environment: dict[str, str] | None = None
) -> tuple[int, str]:
    """Run `command` in `folder`, showing that it goes on; returns its exit code and its output."""
    start = time.monotonic()
    lines: deque[str] = deque(maxlen=2000)
    process = subprocess.Popen(
        [str(part) for part in command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        close_fds=False,  # it holds the lock of `__main__.py` as long as it works
    )
    reader = threading.Thread(target=lines.extend, args=(process.stdout,), daemon=True)
    reader.start()
    terminal = sys.stdout.isatty()
    try:
        while process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(1 if terminal else 30)
                break
            show(f"{title}: {time.monotonic() - start:.0f} s, {last_line(''.join(lines))}")
    except KeyboardInterrupt:
        process.kill()
        raise
    reader.join()
    verdict = "done" if process.returncode == 0 else "failed"
    show(f"{title}: {verdict} after {time.monotonic() - start:.0f} s")
    print(end="\n" if terminal else "", flush=True)
    return process.returncode, "".join(lines)


def show(line: str) -> None:
    """Print a line of progress; on a terminal, over the one before."""
    terminal = sys.stdout.isatty()
    line = f"\r\033[K  {line[:90]}" if terminal else f"  {line[:90]}\n"
    print(line, end="", flush=True)


def last_line(output: str) -> str:
    return next((line.strip() for line in reversed(output.splitlines()) if line.strip()), "")
