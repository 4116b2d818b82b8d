"""The protocol of a comparison: fixed before anything runs, then written.

A protocol is a plain mapping, the content of ``study.yaml``: the workload,
the table with its rows and their search spaces, and how many steps, trials
and seeds every row gets. All that is run follows from it.
"""

import dataclasses
import inspect
import math
import statistics
from collections.abc import Mapping, Sequence
from types import ModuleType
from typing import Any

from tf_largebatch import plugins
from tf_largebatch.errors import UserError, hint
from tf_largebatch.optimizers import OPTIMIZERS
from tf_largebatch.optimizers.base import LargeBatchOptimizer, family_of
from tf_largebatch.study import settings, spaces, tables

# Of study.yaml; another number means that other versions cannot go on.
FORMAT = 1
# Part of a metric's value: metrics are float32, and one over 400 examples
# has no exact binary form, so equal results differ in their last digits.
ROUNDING = 1e-6
# Of every optimizer; they cannot be variables, so no run varies them.
KERAS_ARGUMENTS = ("clipnorm", "clipvalue", "global_clipnorm")
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
# Of a study's numbers. The seed of a run, which the study's is a part of, is
# one of NumPy's, which end at 2**32.
MOST = {
    "steps": 10_000_000,
    "trials": 100_000,
    "seeds": 49_999,
    "tuning_seeds": 1_000,
    "seed": 2**32 // 100_000 - 1,
}
# Runs of tuning with further seeds have theirs from here on; the runs that
# are compared have those from 1 on.
TUNING_SEEDS = 50_000


@dataclasses.dataclass(frozen=True)
class Run:
    """One training run of one row.

    Attributes:
        row: name of the row.
        kind: ``tune`` or ``seed``.
        index: which of the row's runs of this kind.
        seed: of the initial weights and of the order of the data.
        hyperparameters: the numbers that vary between runs, by name.
    """

    row: str
    kind: str
    index: int
    seed: int
    hyperparameters: Mapping[str, float]

    @property
    def key(self) -> tuple[str, str, int]:
        """What tells this run from the others of its study."""
        return self.row, self.kind, self.index


def create(
    table: str,
    workload: str | None = None,
    *,
    trials: int | None = None,
    seeds: int | None = None,
    seed: int = 0,
    steps: int | None = None,
    rows: Sequence[str] = (),
    space: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Returns the protocol of a table on a workload.

    Args:
        table: a name in ``official_configs/tables`` or another package's, or
            the path of a file that ends in .yaml.
        workload: a name in ``official_configs/workloads`` or another
            package's; None means the table's, also below.
        trials: tuning runs of every row that is tuned.
        seeds: runs of every row at its best point, each with a fresh seed.
        seed: of the whole study.
        steps: of a run.
        rows: names of the rows to have, of the table's own and its further
            ones; none means its own.
        space: the search spaces, as a file of ``official_configs/spaces`` has
            them; None means the table's own, or the workload's for it.

    Raises:
        UserError: an unknown name or a number that makes no study.
    """
    table_config = tables.table(table)
    workload = workload or str(table_config["workload"])
    workload_config = tables.workload(workload)
    if space is None:
        space = tables.search_spaces(table_config, workload)
    given = {"steps": steps, "trials": trials, "seeds": seeds}
    sizes = {
        name: table_config[name] if size is None else size
        for name, size in given.items()
    }
    return assemble(
        {"name": workload_config.pop("workload")} | workload_config,
        {
            **table_config,
            "name": table_config["table"],
            "rows": choose_rows(table_config, rows),
        },
        space,
        sizes,
        seed,
    )


def assemble(
    workload: Mapping[str, Any],
    table: Mapping[str, Any],
    space: Mapping[str, Any],
    sizes: Mapping[str, int],
    seed: int,
) -> dict[str, Any]:
    """Returns a protocol, with every row's settings and space filled in.

    Args:
        workload: what is learnt.
        table: the rows, what they share and what is asked.
        space: the search spaces.
        sizes: ``steps``, ``trials`` and ``seeds``.
        seed: of the whole study.

    Raises:
        UserError: a row or a number that makes no study.
    """
    shared = table["settings"]
    rows = [
        resolve_row(row, shared, space, workload["settings"])
        for row in table["rows"]
    ]
    check_given_once(table["rows"], rows)
    check_numbers(sizes, seed, rows, workload["evaluations"])
    return written(workload, {**table, "rows": rows}, sizes, seed)


def written(
    workload: Mapping[str, Any],
    table: Mapping[str, Any],
    sizes: Mapping[str, int],
    seed: int,
) -> dict[str, Any]:
    """Returns a protocol as ``study.yaml`` has it; see :func:`assemble`.

    Args:
        workload: what is learnt.
        table: with its rows as the protocol has them.
        sizes: ``steps``, ``trials`` and ``seeds``.
        seed: of the whole study.
    """
    words = ("name", "title", "question", "paper", "paper_task", "settings")
    return {
        "format": FORMAT,
        "name": f"{table['name']}_{workload['name']}",
        "workload": dict(workload),
        "table": {name: table[name] for name in (*words, "rows")},
        **sizes,
        "seed": seed,
    }


def check_numbers(
    sizes: Mapping[str, int],
    seed: int,
    rows: Sequence[Mapping[str, Any]],
    evaluations: int,
) -> None:
    """Raises UserError where numbers make no study.

    Args:
        sizes: ``steps``, ``trials`` and ``seeds``.
        seed: of the study.
        rows: of the protocol; where none is tuned there are no trials.
        evaluations: how often a run is measured.
    """
    if seed < 0:
        raise UserError(f"--seed is {seed}; give 0 or more")
    for name, number in {**sizes, "seed": seed}.items():
        if number > MOST[name]:
            raise UserError(f"--{name} is {number}; give at most {MOST[name]}")
    tuned = any(row["space"] for row in rows)
    for name in ("trials", "seeds") if tuned else ("seeds",):
        if sizes[name] < 1:
            raise UserError(f"--{name} is {sizes[name]}; give at least 1")
    if sizes["steps"] < evaluations:
        raise UserError(
            f"--steps is {sizes['steps']}; give at least {evaluations}, as a "
            "run has so many evaluations"
        )


def choose_rows(
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


def resolve_row(
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
    check_optimizer(optimizer, where)
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


def check_apart(names: Mapping[str, Any], name: str, where: str) -> None:
    """Raises UserError where a setting has the name of an argument.

    A run has both in one list.

    Args:
        names: the settings.
        name: of the optimizer.
        where: what messages call the row.
    """
    for setting in sorted({*names}.intersection(optimizer_arguments(name))):
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
    known = {*resolved, *optimizer_arguments(name)}
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
                check_optimizer(given, f"the space of {where}")
    if "learning_rate" not in {*space, *optimizer}:
        raise UserError(f"the space of {where} lacks learning_rate; add it")


def optimizer_arguments(name: str) -> dict[str, Any]:
    """Returns the arguments of an optimizer and their defaults.

    >>> optimizer_arguments("HeavyBall")["momentum"]
    0.9
    """
    signature = inspect.signature(optimizer_class(name))
    return {
        name: parameter.default
        for name, parameter in signature.parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD
    }


def optimizer_class(name: str) -> type:
    """Returns the class of an optimizer, of neither Keras family.

    Another package's may be of one.

    Raises:
        UserError: another package has it, and it cannot be used.
    """
    if name in OPTIMIZERS:
        return OPTIMIZERS[name]
    return plugins.load(
        "optimizer", name, OPTIMIZERS, LargeBatchOptimizer, family_of
    )


def class_in(family: ModuleType, name: str) -> type:
    """Returns the class of an optimizer for one of the Keras families.

    Args:
        family: ``tf_largebatch.keras`` or ``tf_largebatch.tf_keras``.
        name: of the class.

    Raises:
        UserError: it is of the other one.
    """
    if name in OPTIMIZERS:
        return getattr(family, name)
    found = optimizer_class(name)
    its, wanted = family_of(found), family.__name__.rpartition(".")[2]
    if its not in (None, wanted):
        raise UserError(
            f"the optimizer {name} is for models of {its}, and this one is of "
            f"{wanted}; choose another optimizer"
        )
    return found if its else family.adapt(found)


def takes_variables(name: str) -> bool:
    """Whether an optimizer's numbers can be variables.

    Those of a class that is Keras's alone cannot.
    """
    return issubclass(optimizer_class(name), LargeBatchOptimizer)


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


class Arguments:
    """Stands for a Keras family's optimizer where arguments are checked."""

    def __init__(self, learning_rate: Any, **more: Any):
        for name, value in more.items():
            if name not in KERAS_ARGUMENTS:
                raise ValueError(f"there is no argument {name!r}")
            if value is not None and not (
                spaces.is_finite_number(value) and value > 0
            ):
                raise ValueError(f"{name} is {value!r}; give a number above 0")


def check_optimizer(optimizer: Mapping[str, Any], where: str) -> None:
    """Raises UserError for a class or arguments that make no optimizer.

    Args:
        optimizer: the arguments, and the ``class``.
        where: what messages call the row.
    """
    arguments = dict(optimizer)
    name = arguments.pop("class", None)
    known = plugins.names("optimizer", OPTIMIZERS)
    if not isinstance(name, str) or name not in known:
        raise UserError(
            f"{where} has the optimizer {name!r}; "
            f"choose one of {', '.join(known)}"
        )
    kind, arguments = optimizer_class(name), {"learning_rate": 1.0, **arguments}
    try:
        if family_of(kind):
            check_names(kind, arguments)
        else:
            type(name, (kind, Arguments), {})(**arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: {error}") from error


def packages(protocol: Mapping[str, Any]) -> list[str]:
    """Returns the names of the packages that a study's figures depend on."""
    rows = protocol["table"]["rows"]
    used = {
        ("workload", protocol["workload"]["name"]),
        *(("optimizer", row["optimizer"]["class"]) for row in rows),
        *(("schedule", row["settings"].get("schedule")) for row in rows),
    }
    others = {
        plugins.package(plugins.offered(kind)[name])
        for kind, name in used
        if name in plugins.offered(kind)
    }
    return [*protocol["workload"]["packages"], *sorted(others)]


def check_names(kind: type, arguments: Mapping[str, Any]) -> None:
    """Raises TypeError for arguments that a Keras optimizer does not have.

    It is not made, as that would start TensorFlow with all threads.
    """
    inspect.signature(kind).bind(**arguments)
    # What one constructor has for the next is among **kwargs.
    known = {
        name
        for base in kind.__mro__
        if "__init__" in vars(base)
        for name in inspect.signature(vars(base)["__init__"]).parameters
    }
    for name in arguments:
        if name not in known:
            raise TypeError(f"there is no argument {name!r}")


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


def is_name(name: Any) -> bool:
    """Whether a study's name is one, of a folder and in a storage."""
    return is_path(name) and "/" not in name


def is_number(value: Any) -> bool:
    """Whether a configured value is a number, which booleans are not."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def tuning_runs(protocol: Mapping[str, Any], row: Mapping) -> list[Run]:
    """Returns a row's tuning runs; none for a row that has no space.

    Each point of the space has its runs, one a seed, one after the other.
    """
    if not row["space"]:
        return []
    points = spaces.points(
        spaces.parse(row["space"]),
        protocol["trials"],
        protocol["seed"],
        {spaces.STEPS: protocol["steps"]},
    )
    fixed = fixed_hyperparameters(row)
    runs = [
        (seed, {**fixed, **point})
        for point in points
        for seed in tuning_seeds(protocol)
    ]
    return [
        Run(row["name"], "tune", index, seed, hyperparameters)
        for index, (seed, hyperparameters) in enumerate(runs)
    ]


def tuning_seeds(protocol: Mapping[str, Any]) -> list[int]:
    """Returns the seeds that every point of a search is tried with."""
    count = protocol.get("tuning_seeds", 1)
    numbers = [0, *(TUNING_SEEDS + further for further in range(1, count))]
    return [run_seed(protocol, number) for number in numbers]


def tuned_row(
    protocol: Mapping[str, Any], row: Mapping[str, Any]
) -> Mapping[str, Any]:
    """Returns the row whose tuned values a row has: itself unless it inherits.

    Raises:
        UserError: it inherits from a row that the table does not have, or
            that is not tuned.
    """
    if not row["tuned_as"]:
        return row
    for other in protocol["table"]["rows"]:
        if other["name"] == row["tuned_as"]:
            if other["tuned_as"] or not other["space"]:
                raise UserError(
                    f"row {row['name']!r} is tuned as {other['name']!r}, which "
                    "is not tuned itself; name a row that is"
                )
            return other
    raise UserError(
        f"row {row['name']!r} is tuned as {row['tuned_as']!r}, "
        "which the table does not have"
    )


def seed_runs(
    protocol: Mapping[str, Any], row: Mapping, best: Mapping[str, float]
) -> list[Run]:
    """Returns a row's runs at the tuned values ``best``, with fresh seeds."""
    hyperparameters = {**fixed_hyperparameters(row), **best}
    return [
        Run(
            row["name"],
            "seed",
            index,
            run_seed(protocol, 1 + index),
            hyperparameters,
        )
        for index in range(protocol["seeds"])
    ]


def run_seed(protocol: Mapping[str, Any], number: int) -> int:
    """Returns the seed of the study's run ``number``; 0 is tuning's."""
    return 100_000 * protocol["seed"] + number


def hits(workload: Mapping[str, Any], value: float) -> bool:
    """Whether a value of the workload's metric is at the target or beyond."""
    target = workload["target"]
    # Many metrics are float32, in which 9 of 10 is a little less than 0.9.
    if math.isclose(value, target, rel_tol=ROUNDING):
        return True
    at_most = workload["metric"]["direction"] == "min"
    return value <= target if at_most else value >= target


def best_point(
    protocol: Mapping[str, Any],
    row: Mapping[str, Any],
    lines: Sequence[Mapping[str, Any]],
) -> dict[str, float]:
    """Returns the tuned values with the best validation metric.

    Of a point that was tried with several seeds the median counts. A tie goes
    to the lower validation loss, then to the earlier point. A point with a
    run that was stopped early is not chosen. None is worse than any value.

    Args:
        protocol: of the study.
        row: of the protocol, one that is tuned.
        lines: the ledger's lines of the row's tuning runs.
    """
    direction = protocol["workload"]["metric"]["direction"]
    sign = 1 if direction == "max" else -1
    tried = points_tried(protocol, lines)

    def merit(number: int) -> tuple[float, float, int]:
        point = tried[number]
        losses = [
            math.inf
            if line["validation_loss"] is None
            else line["validation_loss"]
            for line in point
        ]
        values = [
            -math.inf
            if line["validation"] is None
            else sign * line["validation"]
            for line in point
        ]
        return (statistics.median(values), -statistics.median(losses), -number)

    whole = [
        number
        for number, point in tried.items()
        if not any(line.get("pruned") for line in point)
    ]
    best = tried[max(whole or tried, key=merit)][0]["hyperparameters"]
    return {name: best[name] for name in row["space"]}


def points_tried(
    protocol: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]
) -> dict[int, list[Mapping[str, Any]]]:
    """Returns a row's tuning runs by the number of their point."""
    count = protocol.get("tuning_seeds", 1)
    tried: dict[int, list[Mapping[str, Any]]] = {}
    for line in lines:
        tried.setdefault(line["index"] // count, []).append(line)
    return tried
