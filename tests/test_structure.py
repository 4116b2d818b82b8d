"""What holds for every file of the package: its imports and its manners."""

import ast
import functools
import graphlib
import importlib
import inspect
import pathlib
import pkgutil
import sys

import pytest

import tf_largebatch

ROOT = pathlib.Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "tf_largebatch"
MODULES = sorted(PACKAGE.rglob("*.py"))
OWN_FILES = [
    path
    for folder in ("examples", "tf_largebatch", "tests", "tools")
    for path in sorted((ROOT / folder).rglob("*.py"))
] + [ROOT / "setup.py"]

# A part of the package imports from its own line or from lines below it; two
# parts of one line do not import each other.
LAYERS = (
    {"cli"},
    {"bench"},
    {"study", "garden", "tpu"},
    {"workloads"},
    {"resnet", "bert"},
    {"skipping"},
    {"records", "experiments", "checkpoints"},
    {"keras", "tf_keras"},
    {"optimizers", "fused"},
    {"rules", "schedules", "variables"},
    {"configs", "folders", "frames", "parallel", "shards"},
    {"plugins"},
    {"errors", "sharing", "stopping"},
)
WITHIN_A_LAYER = {
    ("schedules", "rules"),
    ("tpu", "garden"),
    ("study", "garden"),
}

# What a user of Keras alone has installed, by the part that may import it.
KERAS_3 = {"keras"}
TF_KERAS = {"tensorflow", "tf_keras"}
ALLOWED = {
    "__init__": set(),
    "errors": set(),
    "rules": set(),
    "sharing": set(),
    "schedules": set(),
    "variables": set(),
    "fused": {"tensorflow"},
    "optimizers": {"absl"},
    "keras": KERAS_3,
    "tf_keras": TF_KERAS,
}

# The one file of tf_keras that nothing in it imports: it needs an extra.
PLUG_IN = PACKAGE / "tf_keras" / "model_garden.py"


def in_package(path):
    """Returns a module's path below the package, as a parameter's name."""
    return path.relative_to(ROOT).as_posix()


each_module = pytest.mark.parametrize("path", MODULES, ids=in_package)


@functools.cache
def tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def part_of(path):
    """Returns the part of the package that a module belongs to."""
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imported(node):
    """Returns the dotted names of the modules that a node imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        # `from tf_largebatch import rules` imports tf_largebatch.rules.
        return [f"{node.module}.{alias.name}" for alias in node.names]
    return []


def imports(nodes):
    """Returns all dotted names that nodes import, as lists of their parts."""
    return [name.split(".") for node in nodes for name in imported(node)]


def level(part):
    """Returns the layer of a part, 0 on top."""
    (number,) = (n for n, layer in enumerate(LAYERS) if part in layer)
    return number


def may_import(part, other):
    """Whether the layers let a part import another one."""
    if part == other or (part, other) in WITHIN_A_LAYER:
        return True
    return level(part) < level(other)


@each_module
def test_imports_point_one_way(path):
    part = part_of(path)
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide the direction"
    for name in imports(ast.walk(tree(path))):
        if name[0] == "tf_largebatch" and name[1:2] not in (
            [],
            ["__version__"],
        ):
            assert may_import(part, name[1]), name


def names_in(path):
    """Returns the package's modules that one names, late imports included."""
    known = {module_name(each): each for each in MODULES}
    found = set()
    for node in ast.walk(tree(path)):
        for name in imported(node):
            # Of `from tf_largebatch.errors import hint`, the part before hint.
            inner = name if name in known else name.rpartition(".")[0]
            found |= {known[inner]} if inner in known else set()
    return found


def module_name(path):
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_no_module_is_imported_by_what_it_imports():
    """Not by way of others either, and not inside a function."""
    sorter = graphlib.TopologicalSorter()
    for path in MODULES:
        sorter.add(path, *names_in(path) - {path})
    sorter.prepare()  # Raises CycleError, which names the circle.


def test_every_part_has_its_place():
    parts = {part_of(path) for path in MODULES} - {"__init__"}
    assert parts <= set().union(*LAYERS)


@pytest.mark.parametrize("part", ALLOWED)
def test_the_ground_floor_imports_little(part):
    """At import time: TensorFlow waits in tf_largebatch.keras until used."""
    for path in MODULES:
        if part_of(path) != part or path == PLUG_IN:
            continue
        for name in imports(tree(path).body):
            assert name[-1] != PLUG_IN.stem, path
            if name[0] not in sys.stdlib_module_names:
                assert name[0] in ALLOWED[part] | {"tf_largebatch"}, path


@pytest.mark.parametrize("part", ["rules", "schedules"])
def test_rules_and_schedules_know_no_library(part):
    """Not even inside a function."""
    paths = [path for path in MODULES if part_of(path) == part]
    assert paths
    for path in paths:
        for name in imports(ast.walk(tree(path))):
            is_own = name[:2] in (
                ["tf_largebatch", "rules"],
                ["tf_largebatch", "schedules"],
            )
            assert is_own or name[0] in sys.stdlib_module_names, name


@pytest.mark.parametrize("family, other", [("keras", "tf_keras")])
def test_the_families_do_not_know_each_other(family, other):
    for one, another in ((family, other), (other, family)):
        for path in MODULES:
            if part_of(path) == one:
                names = imports(ast.walk(tree(path)))
                assert [another] not in [name[:1] for name in names]


@each_module
def test_only_the_model_gardens_parts_import_it(path):
    parts = ("resnet", "bert", "records", "experiments", "garden", "tpu")
    parts += ("bench",)
    if part_of(path) not in parts and path != PLUG_IN:
        names = imports(ast.walk(tree(path)))
        assert "official" not in {name[0] for name in names}


@each_module
def test_no_bare_tf_keras(path):
    """Which Keras `tf.keras` is depends on the environment."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Attribute) and node.attr == "keras":
            assert getattr(node.value, "id", "") not in ("tf", "tensorflow")
        for name in imported(node):
            assert not name.startswith("tensorflow.keras")


@each_module
def test_no_assert_and_no_bare_except(path):
    """Python drops the one with -O; the other catches Ctrl-C."""
    for node in ast.walk(tree(path)):
        assert not isinstance(node, ast.Assert), f"line {node.lineno}"
        if isinstance(node, ast.ExceptHandler):
            assert node.type is not None, f"line {node.lineno}"


@each_module
def test_every_module_has_a_docstring(path):
    assert ast.get_docstring(tree(path))


def test_lines_have_at_most_80_columns():
    long = [
        f"{path.name}:{number}"
        for path in OWN_FILES
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if len(line) > 80
    ]
    assert not long


def test_importing_the_package_imports_no_other_module_of_it():
    """`import tf_largebatch` stays cheap, whatever grows below it."""
    nodes = tree(PACKAGE / "__init__.py").body
    assert {name[0] for name in imports(nodes)} == {"importlib", "typing"}
    assert set(tf_largebatch._LAZY) <= set(dir(tf_largebatch))
    for name in tf_largebatch._LAZY:
        assert importlib.util.find_spec(f"tf_largebatch.{name}")
    with pytest.raises(AttributeError, match="no_such"):
        tf_largebatch.no_such  # noqa: B018


def loaded_modules():
    """Returns the package's modules; those that need an extra are left out."""
    found = pkgutil.walk_packages(tf_largebatch.__path__, "tf_largebatch.")
    modules = []
    for name in [found_module.name for found_module in found]:
        try:
            modules.append(importlib.import_module(name))
        except ModuleNotFoundError as error:
            if str(error.name).startswith("tf_largebatch"):
                raise
    return modules


def public_functions(module):
    """Yields the public functions and methods that a module defines."""
    for name, value in vars(module).items():
        if name.startswith("_") or value_module(value) != module.__name__:
            continue
        if inspect.isfunction(value):
            yield name, value
        elif inspect.isclass(value):
            yield from public_methods(value)


def value_module(value):
    return getattr(value, "__module__", None)


def public_methods(cls):
    """Yields a class's own methods, but not those that override its kin's."""
    inherited = {
        name
        for base in cls.__mro__[1:]
        if value_module(base).startswith("tf_largebatch")
        for name in vars(base)
    }
    for name, value in vars(cls).items():
        if name.startswith("_") and name != "__init__" or name in inherited:
            continue
        function = getattr(value, "fget", None) or inspect.unwrap(
            getattr(value, "__func__", value)
        )
        if inspect.isfunction(function):
            yield f"{cls.__name__}.{name}", function


def test_everything_public_is_annotated():
    bare = []
    for module in loaded_modules():
        for name, function in public_functions(module):
            signature = inspect.signature(function)
            wanted = [
                parameter
                for parameter in signature.parameters.values()
                if parameter.name not in ("self", "cls")
            ]
            missing = [p.name for p in wanted if p.annotation is p.empty]
            if signature.return_annotation is signature.empty:
                missing += [] if name.endswith("__init__") else ["return"]
            bare += [f"{module.__name__}.{name}: {x}" for x in missing]
    assert not bare
