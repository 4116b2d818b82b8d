"""The protocol of a comparison: fixed before anything runs, then written.

A protocol is a plain mapping, the content of ``study.yaml``: the workload,
the table with its rows and their search spaces, and how many steps, trials
and seeds every row gets. All that is run follows from it.
"""

import dataclasses
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from tf_largebatch import plugins
from tf_largebatch.errors import UserError
from tf_largebatch.study import spaces, table_rows, tables

# Of study.yaml; another number means that other versions cannot go on.
FORMAT = 1
# Part of a metric's value: metrics are float32, and one over 400 examples
# has no exact binary form, so equal results differ in their last digits.
ROUNDING = 1e-6
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
            "rows": table_rows.choose(table_config, rows),
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
        table_rows.resolve(row, shared, space, workload["settings"])
        for row in table["rows"]
    ]
    table_rows.check_given_once(table["rows"], rows)
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


def is_name(name: Any) -> bool:
    """Whether a study's name is one, of a folder and in a storage."""
    return table_rows.is_path(name) and "/" not in name


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
    fixed = table_rows.fixed_hyperparameters(row)
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
    hyperparameters = {**table_rows.fixed_hyperparameters(row), **best}
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
