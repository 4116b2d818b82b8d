"""Installs the package with one of its extras into .venv, for the Makefile.

uv installs; pip brings uv, in the version that tools/uv.txt pins, into
build/uv. constraints.txt pins every package and build-constraints.txt, with
hashes, every package that a build needs, so that no new release upstream can
change or break an installation.

What uv says goes to .venv/install.log. Shown are one line of progress and, on
failure, one line with the package, the step and what to do. The stamp file
.venv/.EXTRA tells make that an extra is installed. It is written last, so an
installation that failed or was stopped is repeated.

Usage: python tools/install.py EXTRA
       python tools/install.py uv      installs uv alone

Needs nothing but the standard library.
"""

import os
import pathlib
import queue
import re
import shlex
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Iterator, Mapping, Sequence

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOG = VENV / "install.log"
UV = ROOT / "build" / "uv"
UV_PIN = ROOT / "tools" / "uv.txt"

# For each extra: what it is for, seconds and disk that it took on two cores
# with a fast network, and the extras that it contains.
EXTRAS: Mapping[str, tuple[str, str, str, Sequence[str]]] = {
    "study": ("what `make compare` needs", "20 seconds", "2.5 GB", []),
    "dev": ("what the tests need", "40 seconds", "4 GB", ["study"]),
    "docs": ("what `make docs` needs", "20 seconds", "2.5 GB", []),
    "torch": ("PyTorch", "1 to 10 minutes", "0.7 to 7 GB", []),
}

# pip's settings that name other sources of packages, and uv's for the same.
SETTINGS = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "cert": "SSL_CERT_FILE",
}

# What to do about an error, by the first pattern that occurs in uv's or pip's
# message.
REMEDIES = {
    r"No space left": "make room on the disk",
    r"Hash-checking is required": (
        "a build asks for a package that build-constraints.txt does not pin: "
        "run `make lock`"
    ),
    r"Request failed|Failed to fetch|No matching distribution|HTTP status": (
        "check the network and the package index; PIP_INDEX_URL and "
        "UV_DEFAULT_INDEX name another"
    ),
    r"no version of|not found in the package|no usable wheels|No solution": (
        "the index lacks what constraints.txt pins: name another index in "
        "UV_DEFAULT_INDEX, or pin another version with `make lock`"
    ),
    r"Permission denied": "make the folder writable",
}

# Seconds between two lines of progress: on a terminal, where the line is
# overwritten, and in a file.
REFRESH = 0.5 if sys.stdout.isatty() else 20.0


class InstallError(Exception):
    """An error with the one line that is shown for it."""


class Progress:
    """What uv is doing, read from its output, as one line."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.shown = self.start
        self.total = 0
        self.before = 0
        self.under_way: dict[str, str] = {}
        self.doing = "asking the package index"

    def read(self, line: str) -> None:
        """Takes in a line of uv's output."""
        if match := re.match(r"Resolved (\d+) packages", line):
            self.total = int(match[1])
        elif match := re.match(r"Downloading (\S+) \((.*)\)", line):
            self.under_way[match[1]] = f"{match[1]} ({match[2]})"
        elif match := re.match(r" +(Building|Downloaded|Built) (\S+)", line):
            if match[1] == "Building":
                self.under_way[match[2]] = match[2]
            else:
                self.under_way.pop(match[2], None)
        elif line.startswith("Prepared"):
            self.before = unpacked()
            self.doing = "installing"
            return
        if self.total:
            names = ", ".join(self.under_way.values())
            self.doing = f"{self.total} packages, fetching {names or 'them'}"

    def show(self) -> None:
        """Writes the line, if it is time to."""
        now = time.monotonic()
        if now - self.shown < REFRESH:
            return
        self.shown = now
        if self.doing == "installing":
            done = f"{unpacked() - self.before} of {self.total} packages"
            line = f"  {now - self.start:.0f} s: {done} installed"
        else:
            line = f"  {now - self.start:.0f} s: {self.doing}"
        if sys.stdout.isatty():
            print(f"\r\033[K{line[:78]}", end="", flush=True)
        else:
            print(line, flush=True)


def main() -> None:
    """Installs the extra that the command line names."""
    extra = sys.argv[1]
    if extra == "uv":
        make_uv()
        return
    purpose, duration, size, contained = EXTRAS[extra]
    version = ".".join(map(str, sys.version_info[:2]))
    print(
        f"Installing {purpose} into .venv (Python {version}): "
        f"about {duration} and {size} of disk, once.",
        flush=True,
    )
    start = time.monotonic()
    stamps = [VENV / f".{name}" for name in [extra, *contained]]
    for stamp in stamps:
        stamp.unlink(missing_ok=True)
    uv = make_uv()
    make_venv()
    install(uv, extra)
    for stamp in stamps:
        stamp.touch()
    print(f"Installed in {time.monotonic() - start:.0f} s.", flush=True)


def make_uv() -> pathlib.Path:
    """Returns uv in the version that is pinned, installed if need be."""
    uv = UV / "bin" / "uv"
    pin = UV_PIN.read_text().splitlines()[-1]
    if output_of(uv, "--version").startswith(pin.replace("==", " ")):
        return uv
    venv.create(UV, clear=True, with_pip=True)
    finished = subprocess.run(
        [
            *(UV / "bin" / "python", "-m", "pip", "install", "--quiet"),
            *("--disable-pip-version-check", "--no-input", "--retries=2"),
            *("--only-binary=:all:", "--requirement", UV_PIN),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if finished.returncode:
        lines = finished.stderr.strip().splitlines() or ["no reason given"]
        cause = lines[-1].removeprefix("ERROR: ")
        raise InstallError(f"installing {pin}: {cause}")
    return uv


def make_venv() -> None:
    """Makes .venv, or replaces that of another Python or a broken one."""
    if pathlib.Path(sys.prefix).resolve() == VENV.resolve():
        return
    code = "import sys; print(sys.version_info[:2])"
    found = output_of(VENV / "bin" / "python", "-c", code)
    if found != str(sys.version_info[:2]):
        venv.create(VENV, clear=True)


def install(uv: pathlib.Path, extra: str) -> None:
    """Installs the package, editable, and what the extra asks for."""
    process = subprocess.Popen(
        [
            *(uv, "pip", "install", "--python", VENV / "bin" / "python"),
            *("--constraints", "constraints.txt"),
            *("--build-constraints", "build-constraints.txt"),
            *("--preview-features", "build-dependency-hashes"),
            *("--require-build-hashes", "--editable", f".[{extra}]"),
            # Else each process compiles TensorFlow's modules again where
            # PYTHONDONTWRITEBYTECODE is set: 20 seconds instead of 4.
            "--compile-bytecode",
        ],
        cwd=ROOT,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    progress = Progress()
    said = []
    try:
        with LOG.open("w") as log:
            for line in output(process):
                log.write(line)
                said.append(line)
                progress.read(line)
                progress.show()
    finally:
        process.kill()
        status = process.wait()
        if sys.stdout.isatty():
            print("\r\033[K", end="", flush=True)
    if status:
        raise InstallError(
            f"installing .[{extra}]: {reason(''.join(said))} (all that uv "
            f"said is in {LOG.relative_to(ROOT)})"
        )


def environment() -> dict[str, str]:
    """Returns the environment for uv, with pip's other package indexes.

    uv does not read pip's settings, so a machine that reaches packages only
    through a mirror named there would not be able to install.
    """
    settings = {"UV_PYTHON_DOWNLOADS": "never", **os.environ}
    pip = UV / "bin" / "python", "-m", "pip", "config", "list"
    for line in output_of(*pip).splitlines():
        name, _, value = line.partition("=")
        theirs = SETTINGS.get(name.rpartition(".")[2])
        if theirs:
            values = " ".join(shlex.split(value)).split()
            # uv does not read an index that is a folder.
            values = [each for each in values if not each.startswith("file:")]
            if values:
                settings.setdefault(theirs, " ".join(values))
    return settings


def reason(said: str) -> str:
    """Puts uv's error into one line: the step, the package, the cause."""
    lines = [
        match[1].strip()
        for line in said.splitlines()
        if (match := re.match(r"\s*(?:error|cause): (.*)", line))
        and not re.match(r"error sending|client error|\w+ connect", match[1])
    ]
    return ": ".join(lines or said.strip().splitlines()[-1:] or ["no reason"])


def with_remedy(message: str) -> str:
    """Adds what to do about an error."""
    for pattern, remedy in REMEDIES.items():
        if re.search(pattern, message):
            return f"{message}; {remedy}, then run make again"
    return f"{message}; run make again"


def output_of(*command: object) -> str:
    """Returns what a command prints, or "" where it cannot be run."""
    try:
        return subprocess.run(
            list(map(str, command)), capture_output=True, text=True
        ).stdout.strip()
    except OSError:
        return ""


def unpacked() -> int:
    """Counts the packages in .venv."""
    return len(list(VENV.glob("lib/python*/site-packages/*.dist-info")))


def output(process: subprocess.Popen) -> Iterator[str]:
    """Yields a process's lines, and "" about twice a second."""
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        for line in process.stdout or ():
            lines.put(line)
        process.wait()
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    while True:
        try:
            line = lines.get(timeout=0.5)
        except queue.Empty:
            yield ""
            continue
        if line is None:
            return
        yield line


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit("make: stopped; `make` again starts the installation anew")
    except (InstallError, OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"make: error: {with_remedy(str(error))}")
