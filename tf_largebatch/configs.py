"""Finds and reads the YAML files of ``official_configs``."""

import pathlib
import re
from typing import Any

import yaml

from tf_largebatch.errors import UserError

PACKAGE = pathlib.Path(__file__).resolve().parent


def root() -> pathlib.Path:
    """Returns the folder: inside an installed package, beside it in a clone."""
    inside = PACKAGE / "official_configs"
    return inside if inside.is_dir() else PACKAGE.parent / "official_configs"


def names(kind: str) -> list[str]:
    """Returns what there is of a kind, such as ``tables``, by name."""
    return sorted(path.stem for path in (root() / kind).glob("*.yaml"))


def load(kind: str, name: str) -> dict[str, Any]:
    """Returns the content of ``official_configs/KIND/NAME.yaml``.

    Raises:
        UserError: there is no such file, or it is no YAML mapping.
    """
    if name not in names(kind):
        raise UserError(
            f"{name!r} is not in official_configs/{kind}; "
            f"choose one of {', '.join(names(kind))}"
        )
    return read(root() / kind / f"{name}.yaml")


def read(path: pathlib.Path) -> dict[str, Any]:
    """Returns the mapping that a YAML file holds.

    Raises:
        UserError: the file cannot be read or is no YAML mapping; the message
            names the file and, for YAML, the line.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), Loader)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read {path}: {reason(error)}") from error
    except (yaml.YAMLError, ValueError) as error:
        # ValueError: a date or number that YAML knows and Python does not.
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise UserError(
            f"{problem}, in {path}{line}; correct the file"
        ) from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds no mapping of names to values")
    return content


def reason(error: Exception) -> str:
    """Returns the operating system's words for what went wrong."""
    return getattr(error, "strerror", None) or str(error)


class Loader(yaml.SafeLoader):
    """Reads ``1e-4`` as a number and refuses a key given twice."""

    def compose_mapping_node(self, anchor: Any) -> Any:
        # Composed, not constructed: here no mapping is merged in yet.
        node = super().compose_mapping_node(anchor)
        keys = [(key.tag, key.value) for key, _ in node.value]
        for number, key in enumerate(keys):
            if key in keys[:number]:
                raise yaml.composer.ComposerError(
                    problem=f"the key {key[1]!r} is given twice",
                    problem_mark=node.value[number][0].start_mark,
                )
        return node


# YAML 1.1 takes 1e-4 for a string, for want of a point.
Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?([0-9]+(\.[0-9]*)?|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)
