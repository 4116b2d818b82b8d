"""From one setting to another, one hyperparameter at a time.

For every hyperparameter in which A and B differ there is a row that is A but
for that one, ``with NAME``, and a row that is A with it and all before it,
``up to NAME``, in the order of B's file; the last of these is B. All run over
seeds, none is tuned.

A setting is nested as its YAML is, here by paths. Of a choice, such as the
optimizer's ``type``, the class is one hyperparameter, with all that the other
class has not; what both have, such as momentum, are hyperparameters of their
own. The place of the chosen one's name is ``*`` in a path.

>>> a = flat({"x": {"type": "sgd", "sgd": {"rate": 1.0, "nesterov": True}}})
>>> b = flat({"x": {"type": "lars", "lars": {"rate": 9.0, "trust": 0.1}}})
>>> [change.path for change in changes(a, b)]
[('x', 'type'), ('x', '*', 'rate')]
>>> nested(changes(a, b)[0].made(a))
{'x': {'type': 'lars', 'lars': {'rate': 1.0, 'trust': 0.1}}}
"""

import abc
import dataclasses
import json
import pathlib
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tf_largebatch import configs
from tf_largebatch.errors import UserError, hint
from tf_largebatch.study import folder as folders
from tf_largebatch.study import (
    ledger,
    optimizer_classes,
    protocol,
    runner,
    table_rows,
    tables,
)

if TYPE_CHECKING:
    from tf_largebatch.study.recipes import Setup

Path = tuple[str, ...]
Flat = Mapping[Path, Any]
Values = Mapping[str, Any]
Study = dict[str, Any]

# Stands in a path for the name that the ``type`` beside it has.
CHOSEN = "*"
# What no two classes share, though both have it: a display name, and the name
# of one of the class's published variants.
PRIVATE = ("name", "variant")
SUMMARY = "summary.json"
# Of a recipe's task, what is no hyperparameter; and what of that may differ,
# as it changes no result.
OTHERS = ("name", "seed", "init_checkpoint", "train_data", "validation_data")
FREE = (("task", "seed"), ("task", "validation_data", "global_batch_size"))
# These go together: a group is a micro-batch, and is clipped.
GROUPS: tuple[Path, ...] = (
    ("task", "group_size"),
    ("task", "group_clip_norm"),
    ("trainer", "micro_batch_size"),
)
TYPES = {
    ("trainer", "optimizer_config", "optimizer", "type"): "optimizer",
    ("trainer", "optimizer_config", "learning_rate", "type"): "schedule",
    ("optimizer", "type"): "optimizer",
}


@dataclasses.dataclass(frozen=True)
class Change:
    """A hyperparameter in which two settings differ.

    Attributes:
        path: of the hyperparameter.
        before: its value in A.
        after: its value in B.
        put: what it sets, by path.
        drop: the paths that go with A's class.
    """

    path: Path
    before: Any
    after: Any
    put: Flat
    drop: Sequence[Path] = ()

    def made(self, setting: Flat) -> dict[Path, Any]:
        """Returns a setting with this change."""
        kept = {
            path: value
            for path, value in setting.items()
            if path not in self.drop
        }
        return {**kept, **self.put}


def flat(values: Values, above: Path = ()) -> dict[Path, Any]:
    """Returns nested values by their paths."""
    found: dict[Path, Any] = {}
    chosen = values.get("type")
    for name, value in values.items():
        path = (*above, CHOSEN if name == chosen else name)
        if isinstance(value, Mapping) and value:
            found |= flat(value, path)
        else:
            found[path] = value
    return found


def nested(setting: Flat) -> dict[str, Any]:
    """Returns values by their paths as nested ones."""
    found: dict[str, Any] = {}
    for path, value in setting.items():
        inner = found
        for number, name in enumerate(path[:-1]):
            if name == CHOSEN:
                name = setting[(*path[:number], "type")]
            inner = inner.setdefault(name, {})
        inner[path[-1]] = value
    return found


def changes(a: Flat, b: Flat) -> list[Change]:
    """Returns all hyperparameters in which two settings differ, in B's order.

    Where the class differs and a value is None in A or in B, which is the
    class's own, it goes with the class.
    """
    choices = [
        choice(path, a, b)
        for path in b
        if path[-1] == "type" and a.get(path) != b[path]
    ]
    choices += [
        section(path, a, b)
        for path in {**a, **b}
        if (path in a) != (path in b) and below(path, {**a, **b})
    ]
    carried = {path for each in choices for path in (*each.put, *each.drop)}
    found = {change.path: change for change in choices}
    for path in {**b, **a}:
        if path not in carried and a.get(path) != b.get(path):
            put, drop = ({path: b[path]}, ()) if path in b else ({}, (path,))
            found[path] = Change(path, a.get(path), b.get(path), put, drop)
    return [found[path] for path in {**b, **a} if path in found]


def choice(path: Path, a: Flat, b: Flat) -> Change:
    """Returns the change of a class, with all that the two do not share."""
    above = (*path[:-1], CHOSEN)
    own, other = (
        {key: value for key, value in each.items() if key[: len(path)] == above}
        for each in (a, b)
    )
    shared = {
        key
        for key in own.keys() & other.keys()
        if key[-1] not in PRIVATE and None not in (own[key], other[key])
    }
    put = {key: value for key, value in other.items() if key not in shared}
    drop = [key for key in own if key not in shared]
    return Change(path, a.get(path), b[path], {path: b[path], **put}, drop)


def section(path: Path, a: Flat, b: Flat) -> Change:
    """Returns the change of a whole section that is None in A or in B."""
    paths = [path, *below(path, {**a, **b})]
    put = {each: b[each] for each in paths if each in b}
    drop = [each for each in paths if each in a and each not in b]
    return Change(path, a.get(path), b.get(path), put, drop)


def below(path: Path, setting: Flat) -> list[Path]:
    """Returns the paths of what a section holds."""
    return [
        each
        for each in setting
        if len(each) > len(path) and each[: len(path)] == path
    ]


@dataclasses.dataclass(frozen=True)
class Ablation(abc.ABC):
    """What is between two settings.

    Attributes:
        first: name of A.
        last: name of B.
        setting: A.
        changes: in order.
        names: what each change is called, by its path.
    """

    first: str
    last: str
    setting: Flat
    changes: Sequence[Change]
    names: Mapping[Path, str]

    @abc.abstractmethod
    def study(self, seeds: int, seed: int, target: float | None) -> Study:
        """Returns the protocol.

        Args:
            seeds: runs of every row.
            seed: of the whole study.
            target: the value of the metric that is a hit; None means the one
                that is known.

        Raises:
            UserError: a number that makes no study, or a row that cannot be.
        """

    def settings(self) -> Iterator[tuple[str, Flat, dict[str, str]]]:
        """Yields every row: its name, its setting, what each change makes.

        The latter is, by the change in words, the row to compare it with.
        """
        yield self.first, self.setting, {}
        count = len(self.changes)
        for change in self.changes if count > 1 else ():
            made = change.made(self.setting)
            yield self.alone(change), made, {self.label(change): self.first}
        setting, before = self.setting, self.first
        for number, change in enumerate(self.changes, 1):
            setting = change.made(setting)
            if number == 1 < count:
                # There already, as the row with it alone.
                before = self.alone(change)
                continue
            name = self.new(f"up to {self.names[change.path]}")
            name = self.last if number == count else name
            yield name, setting, {self.label(change): before}
            before = name

    def alone(self, change: Change) -> str:
        """Returns the name of the row with one change."""
        return self.new(f"with {self.names[change.path]}")

    def new(self, name: str) -> str:
        """Returns the name of a row between the ends, which neither has."""
        return f"{name} (new)" if name in (self.first, self.last) else name

    def label(self, change: Change) -> str:
        """Returns a change in words."""
        before, after = shown(change.before), shown(change.after)
        return f"{self.names[change.path]} from {before} to {after}"

    def table(self, rows: Sequence[Values]) -> dict[str, Any]:
        """Returns the table that the protocol has of these rows."""
        count = len(self.changes)
        many = (
            "one hyperparameter" if count == 1 else f"{count} hyperparameters"
        )
        question = (
            f"{self.first} and {self.last} differ in {many}. What does each "
            "make, by itself and on top of those before it? All values are "
            f"those of {self.first} or of {self.last}."
        )
        return {
            "name": "ablation",
            "title": f"From {self.first} to {self.last}",
            "question": [question],
            "paper": None,
            "paper_task": None,
            "settings": {},
            "rows": list(rows),
        }

    def listed(self) -> str:
        """Returns the changes as text, a line each."""
        lines = [("hyperparameter", self.first, self.last)]
        lines += [
            (self.names[change.path], shown(change.before), after(change))
            for change in self.changes
        ]
        widths = [max(len(line[column]) for line in lines) for column in (0, 1)]
        return "\n".join(
            f"{name:{widths[0]}}  {before:{widths[1]}}  {value}"
            for name, before, value in lines
        )


@dataclasses.dataclass(frozen=True)
class OfRecipes(Ablation):
    """What is between two recipes.

    Attributes:
        setup: A.
    """

    setup: "Setup"

    def study(self, seeds: int, seed: int, target: float | None) -> Study:
        """Returns the protocol."""
        recipes = runner.of_recipes()
        rows = []
        for name, setting, made in self.settings():
            setup = self.setup.replaced(name, nested(setting))
            rows.append({**recipes.row(setup), "changes": made})
        table, sizes = self.table(rows), {"trials": 0, "seeds": seeds}
        return recipes.assemble(self.setup, table, sizes, seed, target)


@dataclasses.dataclass(frozen=True)
class OfRows(Ablation):
    """What is between two rows of a finished study.

    Attributes:
        tuned: the study's protocol.
        ends: the two rows at their tuned values.
    """

    tuned: Values
    ends: Sequence[Values]

    def study(self, seeds: int, seed: int, target: float | None) -> Study:
        """Returns the protocol."""
        workload = dict(self.tuned["workload"])
        if target is not None:
            workload["target"] = target
        rows = [
            {**self.row(name, nested(setting)), "changes": made}
            for name, setting, made in self.settings()
        ]
        sizes = {"steps": self.tuned["steps"], "trials": 0, "seeds": seeds}
        return protocol.assemble(workload, self.table(rows), {}, sizes, seed)

    def row(self, called: str, setting: Values) -> dict[str, Any]:
        """Returns a row as a table's YAML has it."""
        kind = setting["optimizer"]["type"]
        written = [
            pair
            for end in self.ends
            if end["optimizer"]["class"] == kind
            for pair in end["optimizer"].items()
        ]
        # What no end says stays the class's own.
        options = {
            name: value
            for name, value in setting["optimizer"][kind].items()
            if (name, value) in written or value != default(kind, name)
        }
        end = {end["name"]: end for end in self.ends}.get(called, {})
        biases = tables.bias_bn_optimizer(kind, options)
        return {
            "name": called,
            "weights_optimizer": end.get("weights_optimizer", kind),
            "bias_bn_optimizer": end.get("bias_bn_optimizer", biases),
            "optimizer": {"class": kind, **options},
            "settings": setting["settings"],
            "fixed": True,
        }


def shown(value: Any) -> str:
    """Returns a value as text.

    >>> shown(0.020000000000000004), shown("lars"), shown(None)
    ('0.02', 'lars', 'none')
    """
    if value is None:
        return "none"
    return f"{value:.6g}" if table_rows.is_number(value) else str(value)


def after(change: Change) -> str:
    """Returns B's value as text, with what comes with its class."""
    own = [
        f"{path[-1]} {shown(value)}"
        for path, value in change.put.items()
        if path != change.path and path[-1] != "name" and value is not None
    ]
    return shown(change.after) + (f" ({', '.join(own)})" if own else "")


def between_recipes(
    first: str,
    last: str,
    config_files: Sequence[str] = (),
    params_override: str = "",
) -> Ablation:
    """Returns what is between two recipes.

    Args:
        first: name of the one.
        last: name of the other.
        config_files: YAML files of settings for both.
        params_override: settings for both, which win.

    Raises:
        UserError: a wrong name or setting, no difference, or one that is of
            no hyperparameter.
    """
    check_names(first, last)
    resolve = runner.of_recipes().resolve
    one, other = (
        resolve(name, config_files, params_override) for name in (first, last)
    )
    return between_setups(one, other)


def between_setups(one: "Setup", other: "Setup") -> Ablation:
    """Returns what is between two recipes with all their settings."""
    runner.of_recipes().check_alike([one, other])
    a, b = flat(one.settings), flat(other.settings)
    check_others(one.name, other.name, a, b)
    order = [*flat(other.written)]
    found = sorted(
        grouped([each for each in changes(a, b) if varies(each.path)]),
        key=lambda x: order.index(x.path) if x.path in order else len(order),
    )
    first, last = apart(one.name, other.name)
    names = {tuple(path.split(".")): name for name, path in one.places.items()}
    return OfRecipes(first, last, a, checked(found), named(found, names), one)


def varies(path: Path) -> bool:
    """Whether what a recipe has at a path is a hyperparameter."""
    if path[0] == "task":
        return path[1] not in OTHERS
    return path[:2] == ("trainer", "optimizer_config") or path in GROUPS


def check_others(first: str, last: str, a: Flat, b: Flat) -> None:
    """Raises UserError where two recipes differ in more.

    How often they evaluate and what they run on may differ.
    """
    for path in {**a, **b}:
        fixed = path[0] == "task" and not varies(path) and path not in FREE
        if fixed and a.get(path) != b.get(path):
            raise UserError(
                f"{'.'.join(path)} is {a.get(path)} in {first} and "
                f"{b.get(path)} in {last}, and no hyperparameter; give both "
                "the same with --params_override"
            )


def grouped(found: Sequence[Change]) -> list[Change]:
    """Returns changes with those made one that go together."""
    by_path = {each.path: each for each in found}
    together = {path: by_path[path] for path in GROUPS if path in by_path}
    rest = [each for each in found if each.path not in GROUPS]
    if not together.keys() - GROUPS[2:]:
        # The size of a micro-batch alone changes no result.
        return rest
    put = {path: each.after for path, each in together.items()}
    (path, first), *_ = together.items()
    return [*rest, Change(path, first.before, first.after, put)]


def apart(first: str, last: str) -> tuple[str, str]:
    """Returns two recipes' names without the folders that both are in.

    >>> apart("bert_tiny/adam_32k/phase1", "bert_tiny/lamb_32k/phase1")
    ('adam_32k', 'lamb_32k')
    """
    one, other = first.split("/"), last.split("/")
    while len(one) > 1 and len(other) > 1 and one[0] == other[0]:
        one, other = one[1:], other[1:]
    while len(one) > 1 and len(other) > 1 and one[-1] == other[-1]:
        one, other = one[:-1], other[:-1]
    return "/".join(one), "/".join(other)


def named(
    found: Sequence[Change], names: Mapping[Path, str]
) -> dict[Path, str]:
    """Returns what changes are called, by their paths.

    Args:
        found: the changes.
        names: of the paths that have one.
    """
    known = {**TYPES, **names}
    short = [known.get(each.path, each.path[-1]) for each in found]
    return {
        each.path: name if short.count(name) == 1 else "_".join(each.path[-2:])
        for each, name in zip(found, short)
    }


def checked(found: Sequence[Change]) -> Sequence[Change]:
    """Returns changes; UserError where there are none."""
    if not found:
        raise UserError(
            "--from and --to differ in no hyperparameter; name two that do"
        )
    return found


def check_names(first: str, last: str) -> None:
    """Raises UserError where both ends are one."""
    if first == last:
        raise UserError(
            f"--from and --to are both {first!r}; name two that differ"
        )


def between_rows(folder: pathlib.Path, first: str, last: str) -> Ablation:
    """Returns what is between two rows of a finished study.

    Args:
        folder: of the study.
        first: name of the one row.
        last: name of the other.

    Raises:
        UserError: no finished study, no such row, or no difference.
    """
    check_names(first, last)
    study, best = tuned(folder)
    rows = {row["name"]: row for row in study["table"]["rows"]}
    for name in (first, last):
        if name not in rows:
            raise UserError(f"{folder} has no row {name!r}; {hint(name, rows)}")
    if "experiment" in study["workload"]:
        setup_of = runner.of_recipes().setup_of
        one, other = (
            setup_of(study, rows[name], best[name]) for name in (first, last)
        )
        return between_setups(one, other)
    ends = [at(rows[name], best[name]) for name in (first, last)]
    a, b = (flat(setting_of(end, ends)) for end in ends)
    found = checked(with_schedule(changes(a, b), a, b))
    return OfRows(first, last, a, found, named(found, {}), study, ends)


def with_schedule(found: Sequence[Change], a: Flat, b: Flat) -> list[Change]:
    """Returns changes, with the numbers that only a schedule has in its own."""
    of_schedule = [
        each
        for each in found
        if each.path[0] == "settings" and (each.path in a) != (each.path in b)
    ]
    schedule = ("settings", "schedule")
    return [
        dataclasses.replace(
            each,
            put={
                **each.put,
                **{k: v for x in of_schedule for k, v in x.put.items()},
            },
            drop=[*each.drop, *(path for x in of_schedule for path in x.drop)],
        )
        if each.path == schedule
        else each
        for each in found
        if each not in of_schedule
    ]


def tuned(folder: pathlib.Path) -> tuple[Study, dict[str, Values]]:
    """Returns a finished study's protocol and every row's tuned values.

    Raises:
        UserError: it is none, is not finished, or cannot be run from here.
    """
    if not (folder / folders.PROTOCOL).exists():
        raise UserError(f"{folder} holds no study; check --tuned")
    study = configs.read(folder / folders.PROTOCOL)
    ledger.check_format(study, folder)
    if study["workload"].get("python"):
        raise UserError(
            f"the study in {folder} is of a model of your own, which only "
            "your program has; name another with --tuned"
        )
    try:
        text = (folder / SUMMARY).read_text(encoding="utf-8")
        rows = {row["name"]: row for row in json.loads(text)["rows"]}
    except (OSError, ValueError, KeyError):
        rows = {}
    for row in study["table"]["rows"]:
        done = rows.get(row["name"], {}).get("seeds", 0)
        if done < study["seeds"]:
            raise UserError(
                f"the study in {folder} is not finished: {row['name']} has "
                f"{done} of {study['seeds']} runs; tf-largebatch study run "
                f"--out={folder} goes on"
            )
    return study, {name: row["best"] for name, row in rows.items()}


def at(row: Values, best: Values) -> dict[str, Any]:
    """Returns a row with its tuned values where it has the others."""
    own = {key: best[key] for key in best if key in row["settings"]}
    rest = {key: best[key] for key in best if key not in own}
    return {
        **row,
        "optimizer": {**row["optimizer"], **rest},
        "settings": {**row["settings"], **own},
    }


def setting_of(row: Values, ends: Sequence[Values]) -> dict[str, Any]:
    """Returns a row's setting, with all that any of the ends says.

    Args:
        row: one of the ends.
        ends: both.
    """
    kind = row["optimizer"]["class"]
    known = {
        *optimizer_classes.arguments_of(kind),
        *optimizer_classes.KERAS_ARGUMENTS,
    }
    said = {**row["optimizer"], **ends[0]["optimizer"], **ends[1]["optimizer"]}
    options = {
        key: row["optimizer"].get(key, default(kind, key))
        for key in said
        if key in known
    }
    return {
        "optimizer": {"type": kind, kind: options},
        "settings": dict(row["settings"]),
    }


def default(kind: str, name: str) -> Any:
    """Returns what an optimizer takes for an argument that is not given."""
    return optimizer_classes.arguments_of(kind).get(name)
