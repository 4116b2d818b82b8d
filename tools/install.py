"""Installs the package and one of its extras into .venv, for the Makefile.

pip's own output would fill pages: it goes to a log, and what is shown is one
line of progress and, where something fails, the reason. The stamp file
.venv/.EXTRA, which tells make that there is nothing left to do, is written
last, so that an install that failed or was stopped is done again.

Usage: python tools/install.py EXTRA

Needs nothing but the standard library.
"""

import pathlib
import queue
import re
import subprocess
import sys
import threading
import time
import venv
from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
LOG = VENV / "install.log"

# Extras with what they are for and what they took on a machine with two
# cores and a fast network; also the extras that they contain.
EXTRAS = {
    "study": ("what `make compare` needs", "1 minute", "2.5 GB", []),
    "dev": ("what the tests need", "2 minutes", "4 GB", ["study"]),
    "docs": ("what `make docs` needs", "1 minute", "2.5 GB", []),
}

# Seconds between two lines of progress: on a terminal, where the line is
# written over, and in a file.
REFRESH = 0.5 if sys.stdout.isatty() else 20.0


class Progress:
    """What pip is doing, read from its output, as one line."""

    def __init__(self) -> None:
        self.start = time.monotonic()
        self.shown = self.start
        self.found: set[str] = set()
        self.to_unpack = 0
        self.before = 0
        self.doing = "starting"

    def read(self, line: str) -> None:
        """Takes in a line of pip's output."""
        if match := re.match(r"\s*(?:Collecting|Processing) (\S+)", line):
            self.found.add(match[1])
            self.doing = f"{len(self.found)} packages found"
        elif match := re.match(r"\s*Downloading (\S+) \((.*)\)", line):
            name = match[1].rsplit("/", 1)[-1].split("-")[0]
            self.doing = (
                f"{len(self.found)} packages found, "
                f"downloading {name} ({match[2]})"
            )
        elif line.startswith("Installing collected packages:"):
            self.to_unpack = line.count(",") + 1
            self.before = unpacked()

    def show(self) -> None:
        """Writes the line, if it is time to."""
        now = time.monotonic()
        if now - self.shown < REFRESH:
            return
        self.shown = now
        if self.to_unpack:
            done = unpacked() - self.before
            self.doing = f"{done} of {self.to_unpack} packages installed"
        line = f"  {now - self.start:.0f} s: {self.doing}"
        if sys.stdout.isatty():
            print(f"\r\033[K{line[:78]}", end="", flush=True)
        else:
            print(line, flush=True)


def main() -> int:
    """Installs the extra that the command line names."""
    extra = sys.argv[1]
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
    make_venv()
    status = install(extra)
    if status:
        return status
    for stamp in stamps:
        stamp.touch()
    print(f"Installed in {time.monotonic() - start:.0f} s.", flush=True)
    return 0


def make_venv() -> None:
    """Makes .venv, anew if it belongs to another Python or is broken."""
    if pathlib.Path(sys.prefix).resolve() == VENV.resolve():
        return
    command = [
        str(VENV / "bin" / "python"),
        "-c",
        "import pip, sys; print(sys.version_info[:2])",
    ]
    try:
        found = subprocess.run(command, capture_output=True, text=True).stdout
    except OSError:
        found = ""
    if found.strip() != str(sys.version_info[:2]):
        venv.create(VENV, clear=True, with_pip=True)


def install(extra: str) -> int:
    """Runs pip; returns its exit status, having said why it failed."""
    process = subprocess.Popen(
        [
            *(VENV / "bin" / "python", "-m", "pip", "install"),
            *("--disable-pip-version-check", "--no-input"),
            *("--progress-bar", "off"),
            *("--constraint", "constraints.txt"),
            *("--editable", f".[{extra}]"),
        ],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    progress = Progress()
    lines = []
    try:
        with LOG.open("w") as log:
            for line in output(process):
                if line:
                    log.write(line)
                    lines.append(line)
                    progress.read(line)
                progress.show()
    finally:
        process.kill()
        status = process.wait()
        if sys.stdout.isatty():
            print("\r\033[K", end="", flush=True)
    if status:
        errors = [line for line in lines if line.startswith("ERROR")]
        print("".join(errors or lines[-15:]), end="", file=sys.stderr)
        print(
            "make: error: the installation failed; the reason is above, "
            f"all that pip said is in {LOG.relative_to(ROOT)}",
            file=sys.stderr,
        )
    return status


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
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("make: stopped; `make` again starts the installation anew")
    except (OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"make: error: .venv cannot be made: {error}")
