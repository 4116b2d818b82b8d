"""What all tests share.

At the end it is said how many tests were left out, and what runs them.
"""

import contextlib
import gc
import os
import pathlib
import pwd
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tempfile

import numpy as np
import pytest

# A shell that starts the tests in the background lets them ignore Ctrl-C, and
# with them the processes that they start and send it to.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
# Imports leave little garbage, and looking for it takes seconds.
gc.disable()
# Tests run as many at once as there are cores; and so that numbers are those
# of the processes that they start, which train with a thread each.
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
# What tests count by `record_property`, numbers that are summed up at the end.
COUNTED = {
    "fuzzed": "configurations fuzzed: {}, refused in one line: {}",
    "kills": "kills survived: {}, while a checkpoint was written: {}",
    "corruptions": "corruptions tried: {}, all of them named or counted",
}
LEFT_OUT = pytest.StashKey[dict[bool, int]]()


def pytest_collection_modifyitems(items):
    """Starts with the longest files, so that both workers end together."""
    items.sort(key=lambda item: not item.nodeid.startswith("tests/tpu"))


def pytest_collection_finish():
    """Saves time, once everything is imported.

    What was imported stays, so garbage collection does not look through it.
    """
    gc.collect()
    gc.freeze()
    gc.enable()
    if "tensorflow" in sys.modules:
        path = pathlib.Path(__file__).with_name("strategies.py")
        runpy.run_path(str(path))["leave_out_autotuning"]()


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
    for name, text in COUNTED.items():
        counts = [
            count
            for report in terminalreporter.getreports("")
            if report.when == "teardown"
            for key, count in report.user_properties
            if key == name
        ]
        if counts:
            terminalreporter.write_line(text.format(*map(sum, zip(*counts))))
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
    folder = pathlib.Path(__file__).parent
    before = filter(None, [os.environ.get("PYTHONPATH")])
    # For what the scripts share.
    path = os.pathsep.join([str(folder), *before])

    def run(script, **environment):
        output = tmp_path_factory.mktemp("script") / "arrays.npz"
        finished = subprocess.run(
            [sys.executable, folder / script, output],
            env={**os.environ, "PYTHONPATH": path, **environment},
            capture_output=True,
            text=True,
        )
        assert finished.returncode == 0, finished.stderr
        with np.load(output) as arrays:
            return dict(arrays)

    return run


@pytest.fixture(scope="session")
def uv():
    """The uv that `make` installs with."""
    path = pathlib.Path(__file__).parent.parent / "build" / "uv" / "bin" / "uv"
    if not path.exists():
        pytest.skip("build/uv is missing (`make setup` makes it)")
    return path


def postgresql_program(name):
    """Returns where one of PostgreSQL's programs is, or None."""
    debian = sorted(pathlib.Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(debian[-1]) if debian else None)


@pytest.fixture(scope="session")
def postgresql():
    """The URL of a PostgreSQL server of the tests' own, on loopback.

    Its password has all that makes passwords in a URL difficult.
    """
    initdb, pg_ctl = map(postgresql_program, ("initdb", "pg_ctl"))
    if not initdb or not pg_ctl:
        pytest.skip("PostgreSQL's programs are not installed (postgresql)")
    # It refuses to run as root, and must be able to reach its folder.
    user = {"user": "postgres", "group": "postgres"} if not os.getuid() else {}
    if user and "postgres" not in [entry.pw_name for entry in pwd.getpwall()]:
        pytest.skip("PostgreSQL does not run as root, nor is there a postgres")
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        password = pathlib.Path(folder, "password")
        password.write_text("p@ss/w:rd %")
        if user:
            for path in (folder, password):
                shutil.chown(path, "postgres", "postgres")

        def call(*command):
            subprocess.run(
                command,
                check=True,
                cwd=folder,
                stdout=subprocess.DEVNULL,
                **user,
            )

        data = f"{folder}/data"
        call(
            *(initdb, "--pgdata", data, "--username=me", "--no-sync"),
            *("--auth=scram-sha-256", f"--pwfile={password}"),
        )
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
        options = f"-c fsync=off -h 127.0.0.1 -p {port} -k {folder}"
        call(
            *(pg_ctl, "start", "--wait", "--pgdata", data),
            *("--log", f"{folder}/log", "--options", options),
        )
        stack.callback(
            call, pg_ctl, "stop", "--mode=immediate", "--pgdata", data
        )
        yield f"postgresql://me:p%40ss%2Fw%3Ard%20%25@127.0.0.1:{port}/postgres"
