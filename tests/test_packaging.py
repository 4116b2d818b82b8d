"""What is declared, pinned, found, installed and shipped."""

import ast
import importlib.metadata
import os
import pathlib
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import zipfile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS = PROJECT["optional-dependencies"]
CONSTRAINTS = (ROOT / "constraints.txt").read_text().splitlines()
PINS = [Requirement(line) for line in CONSTRAINTS if not line.startswith("#")]
PYTHONS = ["3.11.0", "3.11.7", "3.12.1", "3.13.0"]


def holds(requirement, python, system="linux"):
    """Whether a requirement's marker is true on a Python and a system."""
    environment = {
        "extra": "",
        "implementation_name": "cpython",
        "platform_machine": "x86_64" if system == "linux" else "arm64",
        "platform_python_implementation": "CPython",
        "platform_system": {"linux": "Linux", "darwin": "Darwin"}[system],
        "python_full_version": python,
        "python_version": python.rpartition(".")[0],
        "sys_platform": system,
    }
    marker = requirement.marker
    return marker is None or marker.evaluate(environment)


def declared():
    """Returns all requirements of the package and its extras."""
    lines = [*PROJECT["dependencies"], *sum(EXTRAS.values(), [])]
    return [
        requirement
        for requirement in map(Requirement, lines)
        if requirement.name != PROJECT["name"]
    ]


def test_the_version_is_a_literal_that_needs_no_import():
    source = (ROOT / "tf_largebatch" / "__init__.py").read_text()
    (version,) = (
        node.value.value
        for node in ast.parse(source).body
        if isinstance(node, ast.Assign)
        and node.targets[0].id == "__version__"
        and isinstance(node.value, ast.Constant)
    )
    assert str(Version(version)) == version
    assert PROJECT["dynamic"] == ["version"]
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {version}\n" in citation
    assert version in (ROOT / "CHANGELOG.md").read_text()


def test_importing_the_package_imports_nothing_large():
    large = "{'tensorflow', 'keras', 'tf_keras', 'numpy', 'yaml'}"
    code = f"import sys, tf_largebatch; print({large} & set(sys.modules))"
    command = [sys.executable, "-c", code]
    assert subprocess.check_output(command, cwd=ROOT, text=True) == "set()\n"


def test_extras():
    assert set(EXTRAS) == {
        *("study", "garden", "jax", "postgresql", "preflight", "wandb"),
        *("torch", "dev", "docs"),
    }
    bare = {Requirement(line).name for line in PROJECT["dependencies"]}
    assert bare == {"absl-py", "keras", "numpy", "tensorflow", "tf_keras"}
    (itself,) = (
        requirement
        for requirement in map(Requirement, EXTRAS["dev"])
        if requirement.name == PROJECT["name"]
    )
    assert itself.extras == set(EXTRAS) - {"torch", "dev", "docs"}


@pytest.mark.parametrize("system", ["linux", "darwin"])
@pytest.mark.parametrize("python", PYTHONS)
def test_one_pin_fits_each_requirement(python, system):
    for requirement in declared():
        if not holds(requirement, python, system):
            continue
        pins = [
            pin
            for pin in PINS
            if canonicalize_name(pin.name)
            == canonicalize_name(requirement.name)
            and holds(pin, python, system)
        ]
        assert len(pins) == 1, requirement
        (specifier,) = pins[0].specifier
        assert specifier.operator == "=="
        assert requirement.specifier.contains(specifier.version), requirement


@pytest.mark.parametrize("python", PYTHONS)
def test_no_package_is_pinned_twice(python):
    names = [pin.name for pin in PINS if holds(pin, python)]
    assert len(names) == len(set(names))


def test_what_the_requirements_require_is_pinned_too():
    pinned = {canonicalize_name(pin.name) for pin in PINS}
    python = ".".join(map(str, sys.version_info[:3]))
    to_do = [r for r in declared() if holds(r, python, sys.platform)]
    seen = set()
    while to_do:
        requirement = to_do.pop()
        name = canonicalize_name(requirement.name)
        if name in seen:
            continue
        seen.add(name)
        try:
            lines = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue  # Of an extra that is not installed here.
        assert name in pinned
        to_do += [r for r in map(Requirement, lines) if not r.marker]


def test_constraints_hold_nothing_but_pins():
    for line in CONSTRAINTS:
        name_and_version = r"[a-z0-9-]+==[0-9a-z.]+"
        marker = r"( ; [a-zA-Z0-9_<>=!.*' ()]+)?"
        assert re.fullmatch(f"#.*|{name_and_version}{marker}", line), line
        assert "://" not in line


def test_what_builds_and_what_installs_are_pinned():
    builds = (ROOT / "build-constraints.txt").read_text()
    assert "://" not in builds
    names = re.findall(r"^([a-z-]+)==[0-9.]+ \\\n", builds, re.MULTILINE)
    # Each with hashes, without which uv refuses to use it.
    assert len(names) == len(re.findall("^[a-z]", builds, re.MULTILINE))
    group = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = map(Requirement, group["dependency-groups"]["build"])
    assert {each.name for each in wanted} <= set(names)
    uv = (ROOT / "tools" / "uv.txt").read_text()
    assert re.fullmatch(r"# Made by: make lock\nuv==[0-9.]+\n", uv)


@pytest.mark.skipif(
    pathlib.Path(sys.prefix) != ROOT / ".venv", reason="not in .venv"
)
def test_nothing_is_installed_that_is_not_pinned():
    python = ".".join(map(str, sys.version_info[:3]))
    pinned = {
        (canonicalize_name(pin.name), str(pin.specifier).removeprefix("=="))
        for pin in PINS
        if holds(pin, python, sys.platform)
    }
    installed = {
        # Without what says which build it is, such as +cpu.
        (canonicalize_name(found.name), Version(found.version).public)
        for found in importlib.metadata.distributions(
            path=[sysconfig.get_path("purelib")]
        )
    }
    own = {"tf-largebatch", "timm"}
    assert {each for each in installed - pinned if each[0] not in own} == set()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory, uv):
    """The wheel, built from a copy so that no old build takes part."""
    source = tmp_path_factory.mktemp("source")
    for name in "pyproject.toml setup.py MANIFEST.in README.md LICENSE".split():
        shutil.copy(ROOT / name, source)
    for name in "tf_largebatch", "official_configs":
        shutil.copytree(ROOT / name, source / name)
    built = tmp_path_factory.mktemp("wheel")
    pins = ROOT / "build-constraints.txt"
    command = [uv, "build", "--quiet", "--wheel", "--out-dir", built, source]
    subprocess.run([*command, "--build-constraints", pins], check=True)
    (path,) = built.glob("*.whl")
    return path


def pip(python, *arguments):
    subprocess.run([python, "-m", "pip", "-q", *arguments], check=True)


@pytest.mark.slow
def test_what_the_wheel_carries(wheel):
    with zipfile.ZipFile(wheel) as archive:
        files = set(archive.namelist())
        (entry_points,) = (n for n in files if n.endswith("entry_points.txt"))
        assert "tf-largebatch = tf_largebatch.cli.main:main" in (
            archive.read(entry_points).decode()
        )
    wanted = {
        *(ROOT / "official_configs").rglob("*.yaml"),
        *(ROOT / "tf_largebatch").rglob("*.py"),
        *(ROOT / "tf_largebatch").rglob("*.html.j2"),
        *(ROOT / "tf_largebatch" / "bert").glob("*.json"),
        ROOT / "tf_largebatch" / "py.typed",
    }
    names = {path.relative_to(ROOT).as_posix() for path in wanted}
    names = {
        f"tf_largebatch/{name}" if name.startswith("official") else name
        for name in names
    }
    assert names == {name for name in files if ".dist-info/" not in name}
    assert any(name.endswith("/licenses/LICENSE") for name in files)


def environment(folder, *arguments):
    """Makes an environment with what pip is told; returns its Python."""
    python = folder / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    pip(python, "install", *arguments)
    return python


def run_in(folder, python, code):
    """Runs code where nothing of this repository is found by chance."""
    empty = folder / "empty"
    empty.mkdir()
    variables = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    variables.pop("PYTHONPATH", None)
    subprocess.run([python, "-c", code], cwd=empty, env=variables, check=True)


@pytest.mark.slow
def test_the_bare_package_serves_a_keras_user(wheel, tmp_path):
    constraints = ROOT / "constraints.txt"
    python = environment(tmp_path, "-c", constraints, wheel)
    code = """
import importlib.util, pathlib
import numpy as np
import tf_largebatch
package = pathlib.Path(tf_largebatch.__file__).parent
assert list(package.glob("official_configs/tables/*.yaml"))
for family in "keras", "tf_keras":
    keras = importlib.import_module(family)
    largebatch = getattr(tf_largebatch, family)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    model.compile(optimizer=largebatch.LARS(0.1), loss="mse")
    before = model.get_weights()[0]
    model.fit(np.ones((4, 3)), np.ones((4, 2)), verbose=0)
    assert np.abs(model.get_weights()[0] - before).max() > 0
for name in "official", "scipy", "jax":
    assert importlib.util.find_spec(name) is None, name
"""
    run_in(tmp_path, python, code)


def oldest():
    """Returns the oldest release of each dependency that is declared."""
    found = {}
    for requirement in map(Requirement, PROJECT["dependencies"]):
        (specifier,) = requirement.specifier
        assert specifier.operator == ">="
        found[requirement.name] = specifier.version
    return found


@pytest.mark.slow
@pytest.mark.skipif(
    sys.version_info >= (3, 13), reason="TensorFlow 2.18 is not for Python 3.13"
)
def test_the_bare_package_works_with_the_oldest_it_allows(wheel, tmp_path):
    versions = oldest()
    exactly = [f"{name}=={version}" for name, version in versions.items()]
    python = environment(tmp_path, wheel, *exactly)
    code = f"""
import importlib, importlib.metadata
import numpy as np
import tf_largebatch
for name, version in {versions}.items():
    assert f"{{importlib.metadata.version(name)}}.".startswith(f"{{version}}.")
x, y = np.eye(4, 3), np.ones((4, 2))
for family in "keras", "tf_keras":
    keras = importlib.import_module(family)
    own = getattr(tf_largebatch, family)
    for name in "HeavyBall", "Nesterov", "LARS", "Adam", "LAMB":
        rate = own.PiecewisePolynomial(0.1, 10, warmup_steps=2)
        model = keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(4), keras.layers.Dense(2)]
        )
        model.compile(optimizer=getattr(own, name)(rate), loss="mse")
        first = model.evaluate(x, y, verbose=0)
        model.fit(x, y, epochs=3, verbose=0)
        assert model.evaluate(x, y, verbose=0) < first, name
        model.save("model.keras")
        loaded = keras.models.load_model("model.keras")
        assert type(loaded.optimizer) is getattr(own, name)
        for each in model, loaded:
            each.fit(x, y, epochs=2, verbose=0)
        for one, other in zip(model.get_weights(), loaded.get_weights()):
            np.testing.assert_allclose(one, other, rtol=1e-6)
"""
    run_in(tmp_path, python, code)
