"""Every example in the package runs, and every public class is explained."""

import doctest
import importlib
import inspect
import pathlib
import pkgutil
import re

import pytest

import tf_largebatch
import tf_largebatch.keras
import tf_largebatch.tf_keras
from tf_largebatch import optimizers

MODULES = ["tf_largebatch"] + [
    module.name
    for module in pkgutil.walk_packages(
        tf_largebatch.__path__, "tf_largebatch."
    )
]
NO_CLASSES = {"BIAS_AND_NORM", "adapt"}
SOURCES = sorted(pathlib.Path(tf_largebatch.__file__).parent.rglob("*.py"))
CLASSES = sorted(set(tf_largebatch.keras.__all__) - NO_CLASSES)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name):
    module = importlib.import_module(name)
    assert doctest.testmod(module).failed == 0


def test_what_is_referred_to_is_there():
    found = {
        name
        for path in SOURCES
        for name in re.findall(
            r":[a-z]+:`~?(tf_largebatch[\w.]+)`", path.read_text()
        )
    }
    assert len(found) > 10
    missing = [name for name in sorted(found) if not is_there(name)]
    assert not missing


def is_there(name):
    """Whether a dotted name is that of a module or of what one has."""
    module, _, rest = name.rpartition(".")
    if name in MODULES:
        return True
    return module in MODULES and hasattr(importlib.import_module(module), rest)


@pytest.mark.parametrize("family", ["keras", "tf_keras"])
@pytest.mark.parametrize("name", CLASSES)
def test_a_public_class_is_explained(name, family):
    constructor = getattr(getattr(tf_largebatch, family), name)
    doc = inspect.cleandoc(constructor.__doc__)

    examples = doctest.DocTestParser().get_examples(doc)
    imported = [
        example.source.split()[1]
        for example in examples
        if example.source.startswith(("from ", "import "))
    ]
    assert imported == [f"tf_largebatch.{family}"]
    assert explained(doc) == list(inspect.signature(constructor).parameters)
    assert re.search(r"^Raises:\n    ValueError: ", doc, re.MULTILINE)
    assert re.search(r"^Source: ", doc, re.MULTILINE)


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_an_optimizer_says_what_a_selector_is(name):
    doc = inspect.cleandoc(getattr(tf_largebatch.keras, name).__doc__)
    text = " ".join(doc.split())
    assert "A selector is `BIAS_AND_NORM`, regular expressions" in text
    assert "a pattern matches no variable" in text


def explained(doc):
    """Returns the names that the section of arguments explains, in order."""
    (section,) = re.findall(r"^Args:\n((?:    .+\n)+)", doc, re.MULTILINE)
    return re.findall(r"^    \**(\w+): ", section, re.MULTILINE)
