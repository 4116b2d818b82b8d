"""What sets up .venv: the Python, uv, the pins, and what is said of errors."""

import contextlib
import http.server
import importlib.util
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import threading

import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
# Not as a part of the make that may be running the tests.
OWN = {k: v for k, v in os.environ.items() if not k.startswith(("M", "UV_"))}


@pytest.fixture(scope="module")
def install():
    """The module tools/install.py."""
    path = ROOT / "tools" / "install.py"
    spec = importlib.util.spec_from_file_location("install", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def script(path, text):
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def find_python(tmp_path, **environment):
    """Runs the search where only what lies in ``tmp_path`` is found."""
    return subprocess.run(
        ["/bin/sh", ROOT / "tools" / "find_python"],
        cwd=tmp_path,
        env={"PATH": str(tmp_path), "HOME": str(tmp_path), **environment},
        capture_output=True,
        text=True,
    )


def test_a_python_is_found_by_running_it(tmp_path):
    script(tmp_path / "python3", "echo 'no such command' >&2; exit 127")
    script(tmp_path / "python3.13", "exit 1")
    script(tmp_path / "python3.12", f'exec "{sys.executable}" "$@"')
    found = find_python(tmp_path)
    assert (found.returncode, found.stdout) == (0, "python3.12\n")
    assert find_python(tmp_path, PYTHON=sys.executable).stdout == (
        f"{sys.executable}\n"
    )


@pytest.mark.parametrize("given", [{}, {"PYTHON": "python3"}])
@pytest.mark.parametrize("version", ["3.10.13", "3.14.0"])
def test_no_suitable_python_is_one_line(tmp_path, given, version):
    # Refuses as that Python does, then says its version.
    other = f'case "$2" in *platform*) echo {version};; *) exit 1;; esac'
    script(tmp_path / "python3", other)
    found = find_python(tmp_path, GOAL="test", **given)
    assert (found.returncode, found.stdout) == (2, "")
    assert found.stderr.count("\n") == 1
    assert f"python3 is {version}" in found.stderr
    assert "make PYTHON=/path/to/python3.12 test" in found.stderr


@pytest.mark.parametrize("given", [[], [f"PYTHON={sys.executable}"]])
def test_make_can_be_given_a_python(given):
    command = ["make", "--dry-run", "--always-make", "setup", *given]
    run = subprocess.run(
        command, cwd=ROOT, env=OWN, capture_output=True, text=True
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert "tools/install.py dev" in run.stdout


def test_progress_of_an_installation(install):
    progress = install.Progress()
    progress.read("Using Python 3.11.7 environment at: .venv\n")
    assert progress.doing == "asking the package index"
    progress.read("Resolved 62 packages in 1.41s\n")
    progress.read("   Building seqeval==1.2.2\n")
    progress.read("Downloading tensorflow (591.8MiB)\n")
    progress.read("Downloading keras (2.3MiB)\n")
    progress.read(" Downloaded keras\n")
    progress.read("      Built seqeval==1.2.2\n")
    assert progress.doing == "62 packages, fetching tensorflow (591.8MiB)"
    progress.read("Prepared 62 packages in 9.32s\n")
    assert progress.doing == "installing"


@pytest.fixture
def clone(tmp_path, uv):
    """A folder with a small project and the files that set up."""
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "uv").symlink_to(uv.parent.parent)
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    shutil.copy(ROOT / "build-constraints.txt", tmp_path)
    project(tmp_path)
    return tmp_path


def project(folder, dev='["pinned"]', requires="[]"):
    """Writes a project whose dependencies are pinned."""
    (folder / "constraints.txt").write_text("pinned==1.0\n")
    (folder / "pyproject.toml").write_text(
        f"[build-system]\nrequires = {requires}\n"
        '[project]\nname = "own"\nversion = "1"\n'
        f"[project.optional-dependencies]\ndev = {dev}\n"
    )


def set_up(clone, index, **environment):
    """Runs the installation with an index of the test's own."""
    settings = {"UV_DEFAULT_INDEX": index, "UV_HTTP_RETRIES": "0"}
    settings |= {"UV_CACHE_DIR": str(clone / "cache"), "NO_PROXY": "*"}
    return subprocess.run(
        [sys.executable, clone / "tools" / "install.py", "dev"],
        env={**OWN, **settings, **environment},
        capture_output=True,
        text=True,
    )


@contextlib.contextmanager
def index(pages):
    """A package index on loopback; what it lacks is not found."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            page = pages.get(self.path.strip("/").rpartition("/")[2])
            if isinstance(page, int) or page is None:
                self.send_error(page or 404)
                return
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, *arguments):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/simple"
        server.shutdown()


def fails(run, clone, *said):
    """Checks that an installation failed in one line and left no stamp."""
    assert run.returncode == 1
    assert run.stderr.count("\n") == 1, run.stderr
    for each in ("make: error: ", *said, ".venv/install.log"):
        assert each in run.stderr
    assert "run make again" in run.stderr
    assert (clone / ".venv" / "install.log").exists()
    assert not (clone / ".venv" / ".dev").exists()
    assert not (clone / ".venv" / ".study").exists()


def test_an_index_out_of_reach(clone):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        # Bound, but nothing listens: the connection is refused.
        url = f"http://127.0.0.1:{unused.getsockname()[1]}/simple"
        run = set_up(clone, url)
    fails(run, clone, f"{url}/", "refused", "check the network")


@pytest.mark.parametrize(
    "pages, said",
    [
        # A package that is gone, and a version of it.
        ({}, ["pinned was not found"]),
        (
            {"pinned": '<a href="pinned-2.0-py3-none-any.whl">x</a>'},
            ["no version of pinned==1.0"],
        ),
        ({"pinned": 500}, ["simple/pinned/", "500", "check the network"]),
    ],
)
def test_an_index_that_lacks_something(clone, pages, said):
    with index(pages) as url:
        fails(set_up(clone, url), clone, *said)


def test_a_build_without_an_index(clone):
    project(clone, dev="[]", requires='["some-backend"]')
    run = set_up(clone, "http://127.0.0.1:9/simple")
    fails(run, clone, "simple/some-backend/", "refused", "check the network")


def test_a_build_may_use_only_what_is_pinned(clone):
    project(clone, dev="[]", requires='["some-backend"]')
    wheel = "some_backend-1.0-py3-none-any.whl"
    with index({"some-backend": f'<a href="{wheel}">{wheel}</a>'}) as url:
        run = set_up(clone, url)
    fails(run, clone, "`some-backend`", "build-constraints.txt does not pin")


def test_an_error_of_the_disk(install):
    said = """Downloading tensorflow (591.8MiB)
error: Failed to download `tensorboard-data-server==0.7.2`
  cause: Failed to extract archive: tensorboard_data_server-0.7.2.whl
  cause: I/O operation failed during extraction
  cause: failed to write to file `server`: No space left on device (os error 28)

hint: `tensorboard-data-server` (v0.7.2) was included
"""
    assert install.with_remedy(install.reason(said)) == (
        "Failed to download `tensorboard-data-server==0.7.2`: Failed to "
        "extract archive: tensorboard_data_server-0.7.2.whl: I/O operation "
        "failed during extraction: failed to write to file `server`: No space "
        "left on device (os error 28); make room on the disk, then run make "
        "again"
    )


def test_a_broken_environment_is_replaced(clone, install, monkeypatch):
    monkeypatch.setattr(install, "VENV", clone / ".venv")
    python = clone / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    for broken in "exit 1", "echo '(3, 10)'":
        script(python, broken)
        install.make_venv()
        version = install.output_of(python, "-c", "import sys; print(1)")
        assert version == "1"
        (clone / ".venv" / "kept").touch()
        install.make_venv()
        assert (clone / ".venv" / "kept").exists()


def test_uv_uses_the_sources_that_pip_is_told_of(install, monkeypatch):
    for name in "UV_DEFAULT_INDEX", "UV_FIND_LINKS":
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UV_INDEX", "https://chosen/simple")
    monkeypatch.setattr(
        install,
        "output_of",
        lambda *command: (
            "global.index-url='https://mirror/simple'\n"
            "global.extra-index-url='https://more/simple'\n"
            ":env:.find-links='file:///gone /some/wheels'"
        ),
    )
    settings = install.environment()
    assert settings["UV_DEFAULT_INDEX"] == "https://mirror/simple"
    assert settings["UV_INDEX"] == "https://chosen/simple"
    assert settings["UV_FIND_LINKS"] == "/some/wheels"


COMPARE = ["compare", "ARGS=--trials=1 --seeds=1 --steps=12"]
TEST = ["test", "ARGS=tests/rules"]
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
# As a user calls them one after the other; every order must work.
ORDERS = {
    "compare_first": [COMPARE, TEST, ["docs"], ["lint"]],
    "test_first": [TEST, ["docs"], COMPARE],
}


def python_of(version):
    """Returns a Python of that version that can make environments."""
    folder = os.environ.get("PYENV_ROOT", os.path.expanduser("~/.pyenv"))
    there = pathlib.Path(folder).glob(f"versions/{version}.*/bin/python")
    for each in f"python{version}", *map(str, there):
        command = ["sh", ROOT / "tools" / "find_python"]
        found = subprocess.run(
            command, env={**OWN, "PYTHON": each}, capture_output=True, text=True
        )
        if found.returncode == 0:
            return each
    pytest.skip(f"Python {version} is not installed here")


@pytest.mark.slow
@pytest.mark.parametrize(
    "version, order",
    [
        # .ci/run begins with lint and docs; the other ones are for whoever
        # runs all of `make test-slow`.
        pytest.param(
            version,
            order,
            marks=[pytest.mark.long]
            * ((version, order) != (HERE, "compare_first")),
        )
        for version in ("3.11", "3.12", "3.13")
        for order in ORDERS
    ],
)
def test_a_fresh_clone_sets_up_with_empty_caches(version, order):
    if not (ROOT / ".git").exists():
        pytest.skip("not a clone")
    python = python_of(version)
    listed = ["git", "ls-files", "-z", "--cached", "--others"]
    files = subprocess.run(
        [*listed, "--exclude-standard"], cwd=ROOT, capture_output=True
    ).stdout
    # Not in tmp_path, several of which pytest keeps: this is 5 GB.
    with tempfile.TemporaryDirectory() as folder:
        clone = pathlib.Path(folder, "clone")
        for name in map(os.fsdecode, filter(None, files.split(b"\0"))):
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
        home = pathlib.Path(folder, "home")
        home.mkdir()
        environment = {**OWN, "HOME": str(home)}
        for name in "XDG_CACHE_HOME", "PIP_CACHE_DIR", "PYTHONPATH":
            environment.pop(name, None)
        for target in ORDERS[order]:
            run = subprocess.run(
                ["make", f"PYTHON={python}", *target],
                cwd=clone,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            assert run.returncode == 0, run.stdout[-3000:]
