"""Recipes: every row of the paper as a YAML file.

A recipe lies in ``official_configs``; its name is its path there, such as
``resnet50/lars_32k``. Its values override those of a registered experiment,
as a ``--config_file`` of the Model Garden does. The comment that it begins
with is YAML of its own: which row it is, what to expect, and where its values
are from. A recipe with a ``base`` takes what it does not say from that other
recipe.

A folder of recipes that are trained one after the other, such as
``bert_large/adam_32k``, is a chain; the recipes are its parts.

>>> recipe = load("resnet50/nesterov_b_32k")
>>> recipe.row, recipe.batch, recipe.steps
('table 1, Nesterov, Configuration B', 32768, 2512)
>>> recipe.expected
'75.92 % top-1, median of 50 runs'
>>> print(f"{recipe.rates()[353]:.4f}")
1.7625
>>> [load(part).steps for part in parts("bert_large/adam_65k_32k")]
[7037, 1562, 7299]
"""

import dataclasses
import importlib
import itertools
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tf_largebatch import configs, plugins, schedules
from tf_largebatch.errors import UserError, hint

if TYPE_CHECKING:
    from official.core.config_definitions import ExperimentConfig

# The folders of official_configs that hold recipes.
FOLDERS = ("resnet50", "bert_large", "bert_base", "bert_tiny")
# What a chain consists of, each begun from the one before.
PARTS = ("phase1", "phase2", "squad")
# Where an experiment is registered with the Model Garden.
EXPERIMENTS = {
    "largebatch/resnet50_imagenet": "tf_largebatch.resnet.experiment",
    "largebatch/bert_pretraining": "tf_largebatch.bert.experiment",
    "largebatch/bert_squad": "tf_largebatch.bert.experiment",
}
# Every file says the first three itself, and those of the other two that it
# does not take from its base.
OF_EACH_FILE = {"row", "expected", "command"}
FIELDS = OF_EACH_FILE | {"status", "experiment"}
# A recipe has those of them that it needs.
NOTES = ("detail", "paper", "published", "inferred", "own")

OPTIMIZATION = "trainer.optimizer_config"
# Of a batch and of steps.
MOST = 10_000_000

# Where a recipe has what search spaces name, by the kind of the model.
OF_ALL = {
    "learning_rate": "{schedule}.peak",
    "warmup_steps": "{schedule}.warmup_steps",
    "warmup_power": "{schedule}.warmup_power",
    "weight_decay": "{optimizer}.weight_decay",
}
OF_BERT = {
    **OF_ALL,
    "decay_power": "{schedule}.power",
    "beta_1": "{optimizer}.beta_1",
    "beta_2": "{optimizer}.beta_2",
    "epsilon": "{optimizer}.epsilon",
}
HYPERPARAMETERS = {
    "largebatch/resnet50_imagenet": {
        **OF_ALL,
        "initial": "{schedule}.initial",
        "final": "{schedule}.final",
        "decay_power": "{schedule}.decay_power",
        "momentum": "{optimizer}.momentum",
        "label_smoothing": "task.losses.label_smoothing",
        "gamma_0": "task.model.backbone.gamma_0",
        "norm_epsilon": "task.model.backbone.epsilon",
        "norm_momentum": "task.model.backbone.momentum",
    },
    "largebatch/bert_pretraining": OF_BERT,
    "largebatch/bert_squad": OF_BERT,
}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a recipe's file says.

    Attributes:
        name: path of the file in ``official_configs``, without ``.yaml``.
        row: which row of the paper.
        expected: the published result.
        status: whether this project has reached it.
        experiment: the registered experiment whose values it overrides.
        command: how to train it.
        base: name of the recipe that it takes from what it does not say.
        notes: where its own values are from, by keys of :data:`NOTES`.
        values: nested as in the experiment, those of the base included.
    """

    name: str
    row: str
    expected: str
    status: str
    experiment: str
    command: str
    base: str | None
    notes: Mapping[str, str]
    values: Mapping[str, Any]

    @property
    def batch(self) -> int:
        """The global batch."""
        return self.count("task.train_data.global_batch_size")

    @property
    def steps(self) -> int:
        """The length of the run."""
        return self.count("trainer.train_steps")

    @property
    def optimizer(self) -> str:
        """Which optimizer, as the config names it."""
        return self.value(f"{OPTIMIZATION}.optimizer.type")

    @property
    def schedule(self) -> str:
        """Which schedule, as the config names it."""
        return self.value(f"{OPTIMIZATION}.learning_rate.type")

    def value(self, path: str) -> Any:
        """Returns what stands at a dotted path.

        Raises:
            UserError: nothing does.
        """
        found: Any = self.values
        for key in path.split("."):
            if not isinstance(found, Mapping) or key not in found:
                raise UserError(f"{path} is missing, in {self.name}; add it")
            found = found[key]
        return found

    def count(self, path: str) -> int:
        """Returns the number at a path; UserError if it is no such number."""
        found = self.value(path)
        whole = isinstance(found, int) and not isinstance(found, bool)
        if not whole or not 1 <= found <= MOST:
            raise UserError(
                f"{path} is {found!r}, in {self.name}; give an integer from 1 "
                f"to {MOST}"
            )
        return found

    def rates(self) -> np.ndarray:
        """Returns the learning rate of every step, float32 of (steps,).

        Raises:
            UserError: there is no such schedule, or it cannot have a value.
        """
        name = self.schedule
        if not isinstance(name, str) or name not in schedules.BY_NAME:
            raise UserError(
                f"{self.name} has the schedule {name!r}; "
                f"{hint(name, schedules.BY_NAME)}"
            )
        arguments = self.value(f"{OPTIMIZATION}.learning_rate.{name}")
        try:
            schedule = schedules.BY_NAME[name](**arguments)
        except (TypeError, ValueError) as error:
            raise UserError(f"{error}, in {self.name}; correct it") from error
        return schedule.rate(np, np.arange(self.steps))

    def at(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the overrides that put this recipe at a point of a space.

        Args:
            point: values by the names that :data:`HYPERPARAMETERS` has for
                the recipe's experiment.

        Returns:
            Overrides for :func:`experiment_config`.

        Raises:
            UserError: a name that stands for nothing.
        """
        values: dict[str, Any] = {}
        for name, value in point.items():
            *sections, field = self.path_of(name).split(".")
            inner = values
            for section in sections:
                inner = inner.setdefault(section, {})
            inner[field] = value
        return values

    def path_of(self, name: str) -> str:
        """Returns where the recipe has a hyperparameter; see :meth:`at`."""
        known = HYPERPARAMETERS[self.experiment]
        if name not in known:
            raise UserError(
                f"{self.name} has no hyperparameter {name!r}; "
                f"{hint(name, known)}"
            )
        return known[name].format(
            optimizer=f"{OPTIMIZATION}.optimizer.{self.optimizer}",
            schedule=f"{OPTIMIZATION}.learning_rate.{self.schedule}",
        )


def names() -> list[str]:
    """Returns the names of all recipes, those of outer folders first."""
    root = configs.root()
    found = []
    for folder in FOLDERS:
        paths = [
            path.relative_to(root).with_suffix("").as_posix()
            for path in (root / folder).rglob("*.yaml")
        ]
        found += sorted(paths, key=lambda name: (name.count("/"), name))
    return found


def exists(name: str) -> bool:
    """Whether there is a recipe of that name."""
    folders = name.split("/")
    plain = folders[0] in FOLDERS and not {"", ".", ".."}.intersection(folders)
    return plain and (configs.root() / f"{name}.yaml").is_file()


def chain_of(name: str) -> str | None:
    """Returns the chain that a recipe is a part of, if it is.

    >>> chain_of("bert_large/adam_32k/squad"), chain_of("resnet50/lars_32k")
    ('bert_large/adam_32k', None)
    """
    return name.rpartition("/")[0] if part_of(name) else None


def part_of(name: str | None) -> str | None:
    """Returns which part of a chain a recipe is, if it is one.

    >>> part_of("bert_large/adam_32k/squad"), part_of("resnet50/lars_32k")
    ('squad', None)
    """
    part = (name or "").rpartition("/")[2]
    return part if part in PARTS else None


def parts(chain: str) -> list[str]:
    """Returns the names of a chain's recipes in order; none if it is none."""
    found = [f"{chain}/{part}" for part in PARTS]
    return [name for name in found if exists(name)]


def load(name: str) -> Recipe:
    """Returns the recipe of that name.

    Raises:
        UserError: there is none, or its file is not as it must be.
    """
    return read(name, "", ())


def read(name: str, where: str, derived: tuple[str, ...]) -> Recipe:
    """Returns a recipe; see :func:`load`.

    Args:
        name: of the recipe.
        where: what messages add to say where the name stands.
        derived: the recipes that it is the base of.
    """
    if not exists(str(name)):
        raise UserError(f"there is no recipe {name!r}{where}; {advice(name)}")
    if name in derived:
        raise UserError(
            f"{name} is its own base by way of {' and '.join(derived)}{where}; "
            "give one of them another base, or none"
        )
    path = configs.root() / f"{name}.yaml"
    header, values = read_header(path), configs.read(path)
    notes = {note: header.pop(note) for note in NOTES if note in header}
    base = header.pop("base", None)
    if base is not None:
        here = f", the base in the header of {path}"
        below = read(base, here, (*derived, name))
        inherited = {"status": below.status, "experiment": below.experiment}
        header, values = inherited | header, merge(below.values, values)
    return Recipe(name, **header, base=base, notes=notes, values=values)


def advice(name: str) -> str:
    """Returns what to do about a name that no recipe has."""
    known = names()
    within = [each for each in known if each.startswith(f"{name}/")]
    if name and within:
        return f"name a recipe in that folder, such as {within[0]}"
    return hint(name, known, "`tf-largebatch recipes` lists them")


def merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Returns nested values, some of them overridden.

    With another ``type``, the values of the one before go as well.

    >>> merge({"type": "a", "a": {"x": 1}, "y": {"z": 2, "u": 3}},
    ...       {"type": "b", "b": {"x": 4}, "y": {"z": 5}})
    {'type': 'b', 'y': {'z': 5, 'u': 3}, 'b': {'x': 4}}
    """
    merged = dict(below)
    if "type" in below and above.get("type", below["type"]) != below["type"]:
        merged.pop(below["type"], None)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(
            merged.get(key), Mapping
        )
        merged[key] = merge(merged[key], value) if both else value
    return merged


def read_header(path: pathlib.Path) -> dict[str, str]:
    """Returns the fields of the comment that a recipe begins with.

    Raises:
        UserError: the comment is no YAML, or a field is missing or unknown.
    """
    lines = configs.read_text(path).splitlines()
    comment = itertools.takewhile(lambda line: line.startswith("#"), lines)
    where = f"the header of {path}"
    header = configs.parse("\n".join(line[2:] for line in comment), where)
    fields = set(header) if isinstance(header, dict) else set()
    wanted = OF_EACH_FILE if "base" in fields else FIELDS
    known = FIELDS.union(NOTES, ["base"])
    for field in sorted((wanted - fields) | (fields - known), key=str):
        problem = "unknown" if field in fields else "missing"
        raise UserError(f"{field!r} is {problem}, in {where}")
    for field in fields:
        if not isinstance(header[field], str):
            raise UserError(
                f"{field!r} is {header[field]!r}, in {where}; give text"
            )
    return header


def experiment(name: str) -> "ExperimentConfig":
    """Returns what a registered experiment has by itself.

    Args:
        name: of this package's, or of another package's.

    Raises:
        UserError: there is no such experiment, or it cannot be used.
    """
    other = plugins.offered("experiment", EXPERIMENTS)
    if name not in EXPERIMENTS and name not in other:
        raise UserError(
            f"there is no experiment {name!r}; "
            f"{hint(name, [*EXPERIMENTS, *other])}"
        )
    from official.core import exp_factory

    if name in EXPERIMENTS:
        importlib.import_module(EXPERIMENTS[name])
        return exp_factory.get_exp_config(name)
    plugins.imported("experiment", other[name])
    try:
        config = exp_factory.get_exp_config(name)
    except LookupError as error:
        raise UserError(
            f"the package {plugins.package(other[name])} registers no "
            f"experiment {name!r} with the Model Garden; correct the package"
        ) from error
    # By which a run's folder says whose settings it has.
    config.task.name = name
    return config


def experiment_config(
    name: str,
    overrides: Mapping[str, Any] | None = None,
    where: str = "--params_override",
) -> "ExperimentConfig":
    """Returns all settings of a recipe's experiment.

    Args:
        name: of the recipe.
        overrides: further values, which win, nested as in the experiment.
        where: what messages call the place that ``overrides`` are from.

    Raises:
        UserError: no such recipe or key, or a value of the wrong type.
    """
    from tf_largebatch.garden.overrides import override

    recipe = load(name)
    config = experiment(recipe.experiment)
    override(config, recipe.values, f"official_configs/{name}.yaml")
    override(config, overrides or {}, where)
    return config
