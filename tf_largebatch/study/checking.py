"""What a protocol must be, wherever it is from.

``study.yaml`` may have been written by hand, and a database that several use
may hold anything. What stands there decides about paths, memory and time, so
it is looked at before anything is done.
"""

from collections.abc import Callable, Mapping
from typing import Any

from tf_largebatch import configs
from tf_largebatch.errors import UserError, hint
from tf_largebatch.garden.recipes import EXPERIMENTS
from tf_largebatch.study import (
    optimizer_classes,
    protocol,
    spaces,
    table_rows,
    tables,
)
from tf_largebatch.study.tables import is_mapping, is_text

# What a value must be: a test, and the same in words.
Rule = tuple[Callable[[Any], bool], str]
Rules = Mapping[str, Rule]
# Seconds between two signs of life.
LONGEST_HEARTBEAT = 86_400


def is_list_of_texts(value: Any) -> bool:
    """Whether a value is a list of texts."""
    return isinstance(value, list) and all(map(is_text, value))


def integer(low: int, high: int) -> Rule:
    """Returns the rule of an integer between two others, both included."""
    return (
        lambda value: spaces.is_integer(value) and low <= value <= high,
        f"an integer from {low} to {high}",
    )


def optional(rule: Rule) -> Rule:
    """Returns the rule of what may also be none."""
    valid, wanted = rule
    return lambda value: value is None or valid(value), f"{wanted}, or null"


TEXT: Rule = (is_text, "text")
MAPPING: Rule = (is_mapping, "names and values")
TEXTS: Rule = (is_list_of_texts, "a list of texts")
NUMBER: Rule = (spaces.is_finite_number, "a finite number")
FLAG: Rule = (lambda value: isinstance(value, bool), "true or false")
STUDY: Rules = {
    "name": (protocol.is_name, "a name without a slash"),
    "workload": MAPPING,
    "table": MAPPING,
    "steps": integer(1, protocol.MOST["steps"]),
    "trials": integer(0, protocol.MOST["trials"]),
    "seeds": integer(1, protocol.MOST["seeds"]),
    "seed": integer(0, protocol.MOST["seed"]),
}
OF_STUDY: Rules = {
    "tuning_seeds": integer(1, protocol.MOST["tuning_seeds"]),
    "heartbeat": integer(1, LONGEST_HEARTBEAT),
    "pruner": (lambda value: value in ("none", "median"), "none or median"),
    "keep_checkpoints": FLAG,
}
WORKLOAD: Rules = {
    "name": TEXT,
    "metric": MAPPING,
    "target": NUMBER,
    "settings": MAPPING,
    "batch": integer(1, protocol.MOST["steps"]),
}
OF_WORKLOAD: Rules = {
    "evaluations": integer(1, protocol.MOST["steps"]),
    "packages": TEXTS,
    "experiment": (lambda value: value in EXPERIMENTS, "an experiment"),
    "python": FLAG,
    "description": TEXT,
    "split_text": (lambda value: isinstance(value, str), "text"),
}
METRIC: Rules = {
    "name": TEXT,
    "direction": (lambda value: value in ("max", "min"), "max or min"),
}
TABLE: Rules = {
    "name": TEXT,
    "title": TEXT,
    "question": TEXTS,
    "paper": optional(TEXT),
    "paper_task": optional(TEXT),
    "settings": MAPPING,
    "rows": (lambda value: isinstance(value, list) and bool(value), "rows"),
}
ROW: Rules = {
    "name": (table_rows.is_path, "a name that is no path out of the folder"),
    "weights_optimizer": TEXT,
    "bias_bn_optimizer": TEXT,
    "optimizer": MAPPING,
    "settings": MAPPING,
    "space": MAPPING,
    "tuned_as": optional(TEXT),
}
OF_ROW: Rules = {
    "paper_value": optional(NUMBER),
    "changes": (
        lambda value: is_mapping(value) and all(map(is_text, value.values())),
        "names and texts",
    ),
    "recipe": TEXT,
    "overrides": MAPPING,
}
# Of a row of recipes, what must be there as well.
OF_RECIPES = ("recipe", "overrides")


def check(study: Mapping[str, Any], where: object) -> None:
    """Looks through a protocol.

    Args:
        study: what ``study.yaml`` or a storage has.
        where: what messages call the place that it is from.

    Raises:
        UserError: something is missing or is not as it must be.
    """
    follow(study, STUDY, OF_STUDY, where)
    workload, table = study["workload"], study["table"]
    follow(workload, WORKLOAD, OF_WORKLOAD, where, "workload.")
    follow(workload["metric"], METRIC, {}, where, "workload.metric.")
    follow(table, TABLE, {}, where, "table.")
    for number, row in enumerate(table["rows"]):
        follow(row, ROW, OF_ROW, where, f"table.rows[{number}].")
        check_row(row, workload, f"row {row['name']!r}, in {where}")
    table_rows.check_apart_by_name(
        [row["name"] for row in table["rows"]], where
    )
    for row in table["rows"]:
        check_base(row, protocol.tuned_row(study, row), where)
    if "experiment" not in workload and not workload.get("python"):
        check_workload(workload, where)


def follow(
    values: Any, rules: Rules, more: Rules, where: object, above: str = ""
) -> None:
    """Raises UserError where values do not follow rules.

    Args:
        values: by name.
        rules: of what must be there.
        more: of what may be.
        where: what messages call the place.
        above: the path so far.
    """
    if not is_mapping(values):
        raise UserError(
            f"{above.rstrip('.') or 'the study'} is {values!r}, in {where}; "
            "give names and values"
        )
    for name, (valid, wanted) in {**rules, **more}.items():
        if name not in values and name in rules:
            raise UserError(
                f"{above}{name} is missing, in {where}; give {wanted}"
            )
        if name in values and not fits(values[name], valid):
            raise UserError(
                f"{above}{name} is {values[name]!r}, in {where}; give {wanted}"
            )


def fits(value: Any, valid: Callable[[Any], bool]) -> bool:
    """Whether a value passes a test, which may stumble over its type."""
    try:
        return valid(value)
    except TypeError:
        return False


def check_row(
    row: Mapping[str, Any], workload: Mapping[str, Any], where: str
) -> None:
    """Raises UserError for a row whose values make no run.

    Args:
        row: of the protocol.
        workload: of the protocol.
        where: what messages call the row.
    """
    if "experiment" in workload:
        # The values are looked at when its settings are put together.
        follow(row, {name: OF_ROW[name] for name in OF_RECIPES}, {}, where)
        if row["space"]:
            spaces.parse(row["space"], f"the space of {where}")
        return
    optimizer_classes.check(row["optimizer"], where)
    table_rows.check_settings(row["settings"], where)
    if row["space"]:
        table_rows.check_space(
            row["space"], row["optimizer"], row["settings"], where
        )


def check_base(
    row: Mapping[str, Any], base: Mapping[str, Any], where: object
) -> None:
    """Raises UserError for a row that cannot have what was tuned for another.

    Or that is said to be compared with itself.

    Args:
        row: of the protocol.
        base: the row whose tuned values it has, or itself.
        where: what messages call the protocol.
    """
    if row["name"] in row.get("changes", {}).values():
        raise UserError(
            f"row {row['name']!r}, in {where}, has changes from itself; name "
            "the row that it differs from"
        )
    if base is not row:
        table_rows.check_space(
            base["space"],
            row["optimizer"],
            row["settings"],
            f"row {base['name']!r}, as which {row['name']!r} is tuned",
        )


def check_workload(workload: Mapping[str, Any], where: object) -> None:
    """Raises UserError where a workload is not like the one that ships."""
    known = configs.names("workloads")
    if workload["name"] not in known:
        raise UserError(
            f"there is no workload {workload['name']!r}, in {where}; "
            f"{hint(workload['name'], known)}"
        )
    shipped = tables.workload(workload["name"])
    shipped.pop("workload")
    check_like(workload, shipped, where, "workload.")


def check_like(
    found: Any, shipped: Mapping[str, Any], where: object, above: str
) -> None:
    """Raises UserError where a value has another type than one that ships."""
    rules = {name: like(value) for name, value in shipped.items()}
    follow(found, rules, {}, where, above)
    for name, value in shipped.items():
        if isinstance(value, Mapping):
            check_like(found[name], value, where, f"{above}{name}.")


def like(value: Any) -> Rule:
    """Returns the rule of values of the type of one."""
    if isinstance(value, Mapping):
        return MAPPING
    if isinstance(value, list):
        return TEXTS
    if spaces.is_integer(value):
        return integer(1, protocol.MOST["steps"])
    if isinstance(value, float):
        return lambda x: spaces.is_finite_number(x) and x >= 0, (
            "a number, 0 or larger"
        )
    return TEXT
