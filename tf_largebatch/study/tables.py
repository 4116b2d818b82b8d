"""Tables and workloads as their YAML files have them, made complete.

Those that ship say everything; of a user's own, what a study cannot do
without must be there, and the rest has a default.
"""

import pathlib
from collections.abc import Callable, Mapping
from typing import Any

from tf_largebatch import configs
from tf_largebatch.errors import UserError
from tf_largebatch.study import spaces

Tests = Mapping[str, tuple[Callable[[Any], bool], str]]


def is_text(value: Any) -> bool:
    """Whether a value is a text, and not an empty one."""
    return isinstance(value, str) and bool(value)


def is_mapping(value: Any) -> bool:
    """Whether a value is a mapping whose names are texts."""
    return isinstance(value, Mapping) and all(map(is_text, value))


COUNT = (spaces.is_integer, "an integer")
OF_TABLE: Tests = {
    "table": (is_text, "the table's name"),
    "workload": (is_text, "a workload's name"),
    "steps": COUNT,
    "trials": COUNT,
    "seeds": COUNT,
    "settings": (is_mapping, "names and values"),
    "rows": (lambda value: isinstance(value, list) and bool(value), "rows"),
    "further_rows": (lambda value: isinstance(value, list), "rows"),
}
OF_WORKLOAD: Tests = {
    "workload": (is_text, "the workload's name"),
    "description": (is_text, "what is learnt from what, in words"),
    "metric": (is_mapping, "name and direction"),
    "target": (spaces.is_finite_number, "a number"),
    "batch": COUNT,
    "evaluations": COUNT,
    "settings": (is_mapping, "names and values"),
}
QUESTION = "Which of these rows is the best when all of them are tuned alike?"


def table(name: str) -> dict[str, Any]:
    """Returns a table.

    Args:
        name: in ``official_configs/tables`` or another package's, or the path
            of a file that ends in .yaml.

    Raises:
        UserError: there is none, or something is missing.
    """
    if pathlib.PurePath(name).suffix == ".yaml":
        found = configs.read(pathlib.Path(name))
    else:
        found = configs.load("tables", name)
    unsaid: dict[str, Any] = {"settings": {}, "further_rows": []}
    found = {**unsaid, "paper": None, "paper_task": None, **found}
    check(found, OF_TABLE, f"the table {name}")
    found = {"title": found["table"], "question": [QUESTION], **found}
    for key in ("rows", "further_rows"):
        found[key] = [complete(row, f"the table {name}") for row in found[key]]
    return found


def complete(row: Any, where: str) -> dict[str, Any]:
    """Returns a row with what its name and its optimizer say anyway.

    Args:
        row: as it was written.
        where: what messages call the place.

    Raises:
        UserError: it has no name or no optimizer.
    """
    is_row = is_mapping(row) and is_mapping(row.get("optimizer"))
    kind: Any = row["optimizer"].get("class") if is_row else None
    if not is_text(kind):
        raise UserError(
            f"a row of {where} is {row!r}; give it a name, and an optimizer "
            "with a class"
        )
    return {
        "name": kind,
        "weights_optimizer": kind,
        "bias_bn_optimizer": bias_bn_optimizer(kind, row["optimizer"]),
        **row,
    }


def bias_bn_optimizer(name: str, options: Mapping[str, Any]) -> str:
    """Returns what updates the biases and norms, in words.

    Args:
        name: of the optimizer's class.
        options: its arguments.

    >>> bias_bn_optimizer("LARS", {})
    'Momentum'
    >>> bias_bn_optimizer("LARS", {"exclude_from_layer_adaptation": []})
    'LARS'
    """
    if not options.get("exclude_from_layer_adaptation", True):
        return name
    return {"LARS": "Momentum", "LAMB": "Adam"}.get(name, name)


def search_spaces(found: Mapping[str, Any], workload: str) -> Any:
    """Returns a table's search spaces: its own, or a workload's for it.

    Args:
        found: the table.
        workload: the workload's name.

    Raises:
        UserError: there are none, and a row that is tuned brings none.
    """
    tuned = [
        row
        for row in found["rows"]
        if not row.get("fixed") and not row.get("tuned_as")
    ]
    lacking = [row["name"] for row in tuned if "space" not in row]
    if "spaces" in found or not lacking:
        return found.get("spaces", {})
    if found["table"] not in configs.names(f"spaces/{workload}"):
        raise UserError(
            f"there are no search spaces of table {found['table']!r} for "
            f"{workload}, and row {lacking[0]!r} has none; give `spaces` in "
            "the table, or a `space` in each row"
        )
    return configs.load(f"spaces/{workload}", found["table"])


def workload(name: str) -> dict[str, Any]:
    """Returns a workload of ``official_configs`` or of another package.

    Raises:
        UserError: there is none, or something is missing.
    """
    found = configs.load("workloads", name)
    found = {"extra": "study", "packages": [], "settings": {}, **found}
    check(found, OF_WORKLOAD, f"the workload {name}")
    return found


def check(found: Mapping[str, Any], tests: Tests, where: str) -> None:
    """Raises UserError where something is missing or is not as it must be."""
    for key, (valid, wanted) in tests.items():
        if key not in found:
            raise UserError(f"{key} is missing in {where}; give {wanted}")
        if not valid(found[key]):
            raise UserError(
                f"{key} is {found[key]!r} in {where}; give {wanted}"
            )
