"""The rows of a table: chosen, filled in, and checked."""

from collections.abc import Mapping, Sequence
from typing import Any

from tf_largebatch import plugins
from tf_largebatch.errors import UserError, hint
from tf_largebatch.study import optimizer_classes, settings, spaces
from tf_largebatch.study.optimizer_classes import KERAS_ARGUMENTS

ROW_KEYS = {
    "name",
    "weights_optimizer",
    "bias_bn_optimizer",
    "optimizer",
    "settings",
    "space",
    "tuned_as",
    "fixed",
    "paper_value",
    "changes",
}


def choose(
    table: Mapping[str, Any], names: Sequence[str]
) -> list[dict[str, Any]]:
    """Returns the rows that are named, in this order; the table's own if none.

    Raises:
        UserError: no such row, one named twice, or one without the row that
            it is tuned as.
    """
    known = [*table["rows"], *table.get("further_rows", ())]
    check_apart_by_name([row["name"] for row in known], table["table"])
    by_name = {row["name"]: row for row in known}
    for number, name in enumerate(names):
        if name not in by_name:
            raise UserError(
                f"--rows names {name!r}, which {table['table']} does not "
                f"have; choose from {', '.join(by_name)}"
            )
        if name in names[:number]:
            raise UserError(f"--rows names {name!r} twice; name it once")
        base = by_name[name].get("tuned_as")
        if base not in (None, *names):
            raise UserError(
                f"--rows names {name!r} without {base!r}, which it is tuned "
                "as; name both"
            )
    return [by_name[name] for name in names] or [*table["rows"]]


def check_apart_by_name(names: Sequence[str], where: object) -> None:
    """Raises UserError where two rows have one name."""
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"two rows are called {name!r}, in {where}; rename one"
            )


def check_given_once(
    rows: Sequence[Mapping[str, Any]], resolved: Sequence[Mapping[str, Any]]
) -> None:
    """Raises UserError for a value of a row's own that a search varies.

    The tuned one would be used instead.

    Args:
        rows: as the table has them.
        resolved: as the protocol has them.
    """
    spaces = {row["name"]: row["space"] for row in resolved}
    for row in rows:
        own = {**row["optimizer"], **row.get("settings", {})}
        base = row.get("tuned_as") or row["name"]
        for name in own:
            if name in spaces.get(base, ()):
                raise UserError(
                    f"row {row['name']!r} has a value of {name}, which the "
                    f"space of {base!r} has as well; keep one of them"
                )


def resolve(
    row: Mapping[str, Any],
    shared: Mapping[str, Any],
    space_config: Mapping[str, Any],
    workload_settings: Mapping[str, Any],
) -> dict[str, Any]:
    """Returns a row with its settings and its search space filled in.

    Args:
        row: of the table's YAML file.
        shared: the settings of all its rows.
        space_config: the search spaces of the table's rows.
        workload_settings: the workload's own settings and their defaults.

    Raises:
        UserError: an unknown key, optimizer or setting, or no valid space.
    """
    where = f"row {row.get('name')!r}"
    unknown = set(row) - ROW_KEYS
    if unknown:
        raise UserError(f"{where} has the unknown key {min(unknown)!r}")
    if not is_path(row["name"]):
        raise UserError(f"{where} has a name that is no name; give another")
    optimizer = row["optimizer"]
    optimizer_classes.check(optimizer, where)
    own = row.get("settings", {})
    if not isinstance(own, Mapping):
        raise UserError(f"{where} has the settings {own!r}; give a mapping")
    given = {**shared, **own}
    defaults = {**settings.defaults(given), **workload_settings}
    resolved = resolve_settings(defaults, given, where)
    check_apart(resolved, optimizer["class"], where)
    settings.check_rates(resolved, where)
    space: Mapping[str, Any] = {}
    if row.get("space") and (row.get("fixed") or row.get("tuned_as")):
        other = "fixed" if row.get("fixed") else "tuned_as"
        raise UserError(f"{where} has both {other} and space; keep one")
    if row.get("fixed"):
        check_fixed(row, where)
    elif not row.get("tuned_as"):
        space = space_of(row, space_config)
        check_space(space, optimizer, resolved, where)
    return {
        "name": row["name"],
        "weights_optimizer": row["weights_optimizer"],
        "bias_bn_optimizer": row["bias_bn_optimizer"],
        "optimizer": dict(optimizer),
        "settings": resolved,
        "space": dict(space),
        "tuned_as": row.get("tuned_as"),
        "paper_value": row.get("paper_value"),
        "changes": row.get("changes", {}),
    }


def check_fixed(row: Mapping[str, Any], where: str) -> None:
    """Raises UserError for a row without tuning that lacks its values."""
    if row.get("tuned_as"):
        raise UserError(f"{where} has both fixed and tuned_as; keep one")
    if "learning_rate" not in row["optimizer"]:
        raise UserError(f"{where} is fixed and lacks learning_rate; add it")


def resolve_settings(
    defaults: Mapping[str, Any], given: Mapping[str, Any], where: str
) -> dict[str, Any]:
    """Returns all settings of a row.

    Raises:
        UserError: an unknown setting or schedule.
    """
    unknown = set(given) - set(defaults)
    if unknown:
        name = min(map(str, unknown))
        raise UserError(
            f"{where} has the unknown setting {name!r}; choose from "
            f"{', '.join(defaults)}"
        )
    resolved = {**defaults, **given}
    check_settings(resolved, where)
    return resolved


def check_settings(given: Mapping[str, Any], where: str) -> None:
    """Raises UserError for a setting that has a value it cannot have."""
    for name, value in given.items():
        check_setting(name, value, where)


def check_setting(name: str, value: Any, where: str) -> None:
    """Raises UserError for a value that a setting cannot have."""
    if name == "schedule":
        known = plugins.names("schedule", settings.SCHEDULES)
        if not isinstance(value, str) or value not in known:
            raise UserError(
                f"{where} has the schedule {value!r}; "
                f"choose one of {', '.join(known)}"
            )
    elif name == "discontinuous":
        if not isinstance(value, bool):
            raise UserError(
                f"{where} has discontinuous {value!r}; give true or false"
            )
    elif not spaces.is_finite_number(value) or value < 0:
        raise UserError(
            f"{where} has {name} {value!r}; give a finite number, 0 or larger"
        )
    elif name == "warmup_fraction" and value > 1:
        raise UserError(f"{where} has {name} {value!r}; give 1 at most")


def check_apart(names: Mapping[str, Any], name: str, where: str) -> None:
    """Raises UserError where a setting has the name of an argument.

    A run has both in one list.

    Args:
        names: the settings.
        name: of the optimizer.
        where: what messages call the row.
    """
    arguments = optimizer_classes.arguments_of(name)
    for setting in sorted({*names}.intersection(arguments)):
        raise UserError(
            f"{where} has {setting!r} as a setting and as an argument of "
            f"{name}; rename one of them"
        )


def space_of(
    row: Mapping[str, Any], config: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Returns a row's search space: its own, or that of its optimizer."""
    if not isinstance(config, Mapping):
        raise UserError(f"the search spaces are {config!r}; give a mapping")
    if row.get("space"):
        return row["space"]
    for key in ("rows", "optimizers"):
        section = config.get(key, {})
        if not isinstance(section, Mapping):
            raise UserError(f"the search spaces' {key} is {section!r}")
        name = row["name"] if key == "rows" else row["optimizer"]["class"]
        if name in section:
            return section[name]
    return {}


def check_space(
    space: Mapping[str, Any],
    optimizer: Mapping[str, Any],
    resolved: Mapping[str, Any],
    where: str,
) -> None:
    """Raises UserError for a space that is none, or not of this optimizer."""
    axes = spaces.parse(space, f"the space of {where}")
    name = optimizer["class"]
    known = {*resolved, *optimizer_classes.arguments_of(name)}
    for axis in axes:
        if axis.name not in known:
            raise UserError(
                f"the space of {where} has {axis.name!r}, which {name} has "
                f"not; {hint(axis.name, known)}"
            )
        for value in axis.ends:
            if axis.name in resolved:
                check_setting(axis.name, value, f"the space of {where}")
            else:
                given = {"class": name, axis.name: value}
                optimizer_classes.check(given, f"the space of {where}")
    if "learning_rate" not in {*space, *optimizer}:
        raise UserError(f"the space of {where} lacks learning_rate; add it")


def fixed_hyperparameters(row: Mapping[str, Any]) -> dict[str, float]:
    """Returns the row's numbers that are not tuned, by name."""
    numbers = {**row["settings"], **row["optimizer"]}
    return {
        name: float(value)
        for name, value in numbers.items()
        if is_number(value) and name not in KERAS_ARGUMENTS
    }


def optimizer_options(row: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of the row's optimizer that no run varies."""
    return {
        name: value
        for name, value in row["optimizer"].items()
        if name in KERAS_ARGUMENTS or (name != "class" and not is_number(value))
    }


def is_path(name: Any) -> bool:
    """Whether a row's name is one: a path that leads out of no folder.

    >>> is_path("resnet50/lars_32k"), is_path("../x"), is_path("/x")
    (True, False, False)
    """
    if not isinstance(name, str) or "\0" in name:
        return False
    return not {"", ".", ".."}.intersection(name.split("/"))


def is_number(value: Any) -> bool:
    """Whether a configured value is a number, which booleans are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)
