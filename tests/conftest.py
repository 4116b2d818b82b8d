"""What all tests share.

At the end it is said how many tests were left out, and what runs them.
"""

import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

LEFT_OUT = pytest.StashKey[dict[bool, int]]()


def pytest_deselected(items):
    if not items:
        return
    counts = items[0].config.stash.setdefault(LEFT_OUT, {})
    for item in items:
        slow = item.get_closest_marker("slow") is not None
        counts[slow] = counts.get(slow, 0) + 1


def pytest_terminal_summary(terminalreporter, config):
    counts = config.stash.get(LEFT_OUT, {})
    for slow, target in (True, "make test-slow"), (False, "make test"):
        if slow in counts:
            terminalreporter.write_line(
                f"left out: {counts[slow]} tests "
                f"{'marked slow' if slow else 'not marked slow'}; "
                f"`{target}` runs them"
            )
    skipped = len(terminalreporter.getreports("skipped"))
    if skipped:
        terminalreporter.write_line(
            f"left out: {skipped} tests skipped, for the reasons below"
        )


@pytest.fixture(scope="session")
def run_script(tmp_path_factory):
    """A function that runs a script of this folder in its own process.

    It returns the arrays that the script saves where it is told to.
    """

    def run(script, **environment):
        output = tmp_path_factory.mktemp("script") / "arrays.npz"
        finished = subprocess.run(
            [sys.executable, pathlib.Path(__file__).parent / script, output],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
        )
        assert finished.returncode == 0, finished.stderr
        with np.load(output) as arrays:
            return dict(arrays)

    return run
