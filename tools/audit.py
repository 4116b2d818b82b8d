"""Looks whether versions in constraints.txt are known to be vulnerable.

pip-audit asks PyPI, and where that has no data OSV. A vulnerability that
another release mends ends in status 1; one that none mends is shown. Where
the data cannot be reached, which is tried with one package first, that is
said in one line and is no failure: a network is not this project's to mend.

Usage: python tools/audit.py constraints.txt

Run by `make audit`. uv runs pip-audit in an environment of its own, pinned by
the same constraints.txt. Needs nothing but the standard library and that uv.
"""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from typing import Any

UV = pathlib.Path(__file__).resolve().parent.parent / "build/uv/bin/uv"
# Seconds for all.
LIMIT = 90
SERVICES = ("pypi", "osv")
# Vulnerabilities that do not fail the check, each with the reason, such as
# that TensorFlow does not go with the release that mends it.
ACCEPTED: Mapping[str, str] = {}

Found = list[dict[str, Any]]


def run(command: Sequence[str], seconds: float) -> int | None:
    """Runs a command, quietly; returns its status.

    None if it took longer, or if there is no such command.
    """
    try:
        return subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=max(seconds, 1),
        ).returncode
    except (subprocess.TimeoutExpired, FileNotFoundError):
        return None


def ask(
    path: str, service: str, pins: Sequence[str], seconds: float
) -> Found | None:
    """Returns what pip-audit found of some pins; None where it found no data.

    Args:
        path: the file that pins pip-audit itself.
        service: one of :data:`SERVICES`.
        pins: lines of constraints.txt.
        seconds: how long it may take.
    """
    with tempfile.TemporaryDirectory() as folder:
        pinned = pathlib.Path(folder, "pins.txt")
        pinned.write_text("\n".join(pins) + "\n", encoding="utf-8")
        report = pathlib.Path(folder, "report.json")
        command = [str(UV), "tool", "run", f"--python={sys.executable}"]
        command += [f"--constraints={path}", "pip-audit", "--no-deps"]
        command += ["--disable-pip", "--progress-spinner=off", "--timeout=10"]
        command += [f"--vulnerability-service={service}", "--format=json"]
        command += [f"--requirement={pinned}", f"--output={report}"]
        run(command, seconds)
        try:
            found = json.loads(report.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
    # It skips what the service does not know, which may be everything.
    checked = [each for each in found["dependencies"] if "vulns" in each]
    return checked or None


def audit(path: str, pins: Sequence[str]) -> Found | None:
    """Returns what is known of all pins; None where nothing can be."""
    end = time.monotonic() + LIMIT
    for service in SERVICES:
        if ask(path, service, pins[:1], (end - time.monotonic()) / 2):
            return ask(path, service, pins, end - time.monotonic())
    return None


def say(found: Found, count: int) -> bool:
    """Prints what was found; whether a release mends any of it.

    Args:
        found: what pip-audit says of the packages that it checked.
        count: how many pins there are.
    """
    mended = False
    for each in found:
        for vulnerability in each["vulns"]:
            number = vulnerability["id"]
            fixes = ", ".join(vulnerability["fix_versions"])
            accepted = ACCEPTED.get(number)
            mended |= bool(fixes) and accepted is None
            remedy = accepted or f"mended in {fixes or 'no release'}"
            name = f"{each['name']} {each['version']}"
            print(f"audit: {name} has {number}; {remedy}")
    bad = sum(bool(each["vulns"]) for each in found)
    print(
        f"audit: {len(found)} of {count} packages checked, {bad} known to be "
        "vulnerable"
    )
    return mended


def main(path: str) -> int:
    """Checks a file of pins; returns the exit status."""
    lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    # A package may be pinned to other versions for other systems or Pythons.
    pins = [line for line in lines if re.match(r"[A-Za-z0-9]", line)]
    found = audit(path, pins)
    if found is None:
        print(
            "audit: dependencies were not checked for known vulnerabilities: "
            "the data cannot be reached from here"
        )
        return 0
    return int(say(found, len(pins)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
