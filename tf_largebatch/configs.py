"""Finds and reads the YAML files of ``official_configs``.

Other packages may add files beside them: see :mod:`tf_largebatch.plugins`.
"""

import pathlib
import re
from typing import Any

import yaml

from tf_largebatch import plugins
from tf_largebatch.errors import UserError

# What PyYAML raises at a date, number or tag that Python has not.
STUMBLES = (AttributeError, LookupError, TypeError, ValueError)
# Values in a YAML file, with its aliases written out.
MOST = 100_000
PACKAGE = pathlib.Path(__file__).resolve().parent


def root() -> pathlib.Path:
    """Returns the folder: inside an installed package, beside it in a clone."""
    inside = PACKAGE / "official_configs"
    return inside if inside.is_dir() else PACKAGE.parent / "official_configs"


def names(kind: str) -> list[str]:
    """Returns what there is of a kind, such as ``tables``, by name."""
    return sorted(paths(kind))


def paths(kind: str) -> dict[str, pathlib.Path]:
    """Returns the files of a kind by name, other packages' among them.

    Raises:
        UserError: a name is there twice.
    """
    found: dict[str, pathlib.Path] = {}
    for folder, package in [(root(), ""), *plugins.folders()]:
        for path in (folder / kind).glob("*.yaml"):
            if path.stem in found:
                raise UserError(
                    f"{kind}/{path.name} of the package {package} is there "
                    "already; rename it in the package, or uninstall that"
                )
            found[path.stem] = path
    return found


def load(kind: str, name: str) -> dict[str, Any]:
    """Returns the content of ``official_configs/KIND/NAME.yaml``.

    Raises:
        UserError: there is no such file, or it is no YAML mapping.
    """
    known = paths(kind)
    if name not in known:
        raise UserError(
            f"{name!r} is not in official_configs/{kind}; "
            f"choose one of {', '.join(sorted(known)) or 'none'}"
        )
    return read(known[name])


def read(path: pathlib.Path) -> dict[str, Any]:
    """Returns the mapping that a YAML file holds.

    Raises:
        UserError: the file cannot be read or is no YAML mapping; the message
            names the file and, for YAML, the line.
    """
    return mapping(read_text(path), str(path))


def mapping(text: str, where: str) -> dict[str, Any]:
    """Returns the mapping that YAML says; see :func:`parse`.

    Raises:
        UserError: it is no YAML mapping.
    """
    content = parse(text, where)
    if not isinstance(content, dict):
        raise UserError(f"{where} holds no mapping of names to values")
    return content


def read_text(path: pathlib.Path) -> str:
    """Returns what a text file holds.

    Raises:
        UserError: it cannot be read, or is no UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        # ValueError: no UTF-8, or a name that no file can have.
        raise UserError(f"cannot read {path}: {reason(error)}") from error


def parse(text: str, where: str) -> Any:
    """Returns what YAML says, which makes nothing but plain values.

    Args:
        text: the YAML.
        where: what messages call the place that it is from.

    Raises:
        UserError: it is no YAML; the message names the line. Or its aliases
            stand for very much, or for themselves.
    """
    try:
        return yaml.load(text, Loader)
    except RecursionError as error:
        raise UserError(
            f"nested too deeply, in {where}; correct the file"
        ) from error
    except (yaml.YAMLError, *STUMBLES) as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise UserError(
            f"{problem}, in {where}{line}; correct the file"
        ) from error


def reason(error: Exception) -> str:
    """Returns the operating system's words for what went wrong."""
    return getattr(error, "strerror", None) or str(error)


class Loader(yaml.SafeLoader):
    """Reads ``1e-4`` as a number; refuses a key given twice, and bombs.

    A bomb is a short text whose aliases stand for gigabytes.
    """

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None:
            written_out(node, {})
        return node

    def compose_mapping_node(self, anchor: Any) -> Any:
        # Composed, not constructed: here no mapping is merged in yet.
        node = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # Which no mapping of Python's has for a key.
            if (key.tag, key.value) in seen:
                raise yaml.composer.ComposerError(
                    problem=f"the key {key.value!r} is given twice",
                    problem_mark=key.start_mark,
                )
            seen.add((key.tag, key.value))
        return node


def written_out(node: yaml.Node, sizes: dict[int, int]) -> int:
    """Returns how many nodes there are if every alias is written out.

    Args:
        node: the outermost one.
        sizes: of nodes that were counted, by identity; 0 while one is.

    Raises:
        ComposerError: there are too many, or a node is inside itself.
    """
    if id(node) in sizes:
        size = sizes[id(node)]
        problem = None if size else "an alias stands for what it is in"
    else:
        sizes[id(node)] = 0
        size = 1 + sum(written_out(part, sizes) for part in parts(node))
        sizes[id(node)] = size
        problem = f"aliases stand for {size} values" if size > MOST else None
    if problem:
        raise yaml.composer.ComposerError(
            problem=problem, problem_mark=node.start_mark
        )
    return size


def parts(node: yaml.Node) -> list[yaml.Node]:
    """Returns the nodes that one consists of."""
    if isinstance(node, yaml.ScalarNode):
        return []
    pairs = isinstance(node, yaml.MappingNode)
    return (
        [part for pair in node.value for part in pair] if pairs else node.value
    )


# YAML 1.1 takes 1e-4 for a string, for want of a point.
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)
