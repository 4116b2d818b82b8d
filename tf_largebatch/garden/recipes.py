"""Recipes: every row of the paper as a YAML file.

A recipe lies in ``official_configs``; its name is its path there, such as
``resnet50/lars_32k``. Its values override those of a registered experiment,
as a ``--config_file`` of the Model Garden does. The comment that it begins
with is YAML of its own: which row it is, what to expect, and where its values
are from.

>>> recipe = load("resnet50/nesterov_b_32k")
>>> recipe.row, recipe.batch, recipe.steps
('table 1, Nesterov, Configuration B', 32768, 2512)
>>> recipe.expected
'75.92 % top-1, median of 50 runs'
>>> print(f"{recipe.rates()[353]:.4f}")
1.7625
"""

import dataclasses
import importlib
import itertools
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from tf_largebatch import configs, schedules
from tf_largebatch.errors import UserError, hint

if TYPE_CHECKING:
    from official.core.config_definitions import ExperimentConfig

# The folders of official_configs that hold recipes.
FOLDERS = ("resnet50",)
# Where an experiment is registered with the Model Garden.
EXPERIMENTS = {
    "largebatch/resnet50_imagenet": "tf_largebatch.resnet.experiment",
}
SCHEDULES = {
    "largebatch_piecewise_polynomial": schedules.PiecewisePolynomial,
    "largebatch_cosine": schedules.Cosine,
    "largebatch_bert_polynomial": schedules.BertPolynomial,
}
FIELDS = {"row", "expected", "status", "experiment", "command"}
# A recipe has those of them that it needs.
NOTES = ("detail", "paper", "published", "inferred", "own")

# Where a recipe has what search spaces name.
HYPERPARAMETERS = {
    "learning_rate": "{schedule}.peak",
    "initial": "{schedule}.initial",
    "final": "{schedule}.final",
    "warmup_steps": "{schedule}.warmup_steps",
    "warmup_power": "{schedule}.warmup_power",
    "decay_power": "{schedule}.decay_power",
    "momentum": "{optimizer}.momentum",
    "weight_decay": "{optimizer}.weight_decay",
    "label_smoothing": "task.losses.label_smoothing",
    "gamma_0": "task.model.backbone.gamma_0",
    "norm_epsilon": "task.model.backbone.epsilon",
    "norm_momentum": "task.model.backbone.momentum",
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
        notes: where its values are from, by keys of :data:`NOTES`.
        values: nested as in the experiment.
    """

    name: str
    row: str
    expected: str
    status: str
    experiment: str
    command: str
    notes: Mapping[str, str]
    values: Mapping[str, Any]

    @property
    def batch(self) -> int:
        """The global batch."""
        return self.values["task"]["train_data"]["global_batch_size"]

    @property
    def steps(self) -> int:
        """The length of the run."""
        return self.values["trainer"]["train_steps"]

    @property
    def optimizer(self) -> str:
        """Which optimizer, as the config names it."""
        return self.values["trainer"]["optimizer_config"]["optimizer"]["type"]

    @property
    def schedule(self) -> str:
        """Which schedule, as the config names it."""
        config = self.values["trainer"]["optimizer_config"]
        return config["learning_rate"]["type"]

    def rates(self) -> np.ndarray:
        """Returns the learning rate of every step, float32 of (steps,)."""
        config = self.values["trainer"]["optimizer_config"]["learning_rate"]
        schedule = SCHEDULES[self.schedule](**config[self.schedule])
        return schedule.rate(np, np.arange(self.steps))

    def at(self, point: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the overrides that put this recipe at a point of a space.

        Args:
            point: values by keys of :data:`HYPERPARAMETERS`.

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
        if name not in HYPERPARAMETERS:
            raise UserError(
                f"there is no hyperparameter {name!r}; "
                f"{hint(name, HYPERPARAMETERS)}"
            )
        above = "trainer.optimizer_config"
        return HYPERPARAMETERS[name].format(
            optimizer=f"{above}.optimizer.{self.optimizer}",
            schedule=f"{above}.learning_rate.{self.schedule}",
        )


def names() -> list[str]:
    """Returns the names of all recipes, those of outer folders first."""
    root = configs.root()
    found = [
        path.relative_to(root).with_suffix("").as_posix()
        for folder in FOLDERS
        for path in (root / folder).rglob("*.yaml")
    ]
    return sorted(found, key=lambda name: (name.count("/"), name))


def load(name: str) -> Recipe:
    """Returns the recipe of that name.

    Raises:
        UserError: there is none, or its file is not as it must be.
    """
    if name not in names():
        where = "`tf-largebatch recipes` lists them"
        raise UserError(
            f"there is no recipe {name!r}; {hint(name, names(), where)}"
        )
    path = configs.root() / f"{name}.yaml"
    header = read_header(path)
    notes = {note: header.pop(note) for note in NOTES if note in header}
    return Recipe(name, **header, notes=notes, values=configs.read(path))


def read_header(path: pathlib.Path) -> dict[str, str]:
    """Returns the fields of the comment that a recipe begins with.

    Raises:
        UserError: the comment is no YAML, or a field is missing or unknown.
    """
    lines = path.read_text(encoding="utf-8").splitlines()
    comment = itertools.takewhile(lambda line: line.startswith("#"), lines)
    try:
        header = yaml.load(
            "\n".join(line[2:] for line in comment), configs.Loader
        )
    except yaml.YAMLError as error:
        problem = " ".join(str(error).split())
        raise UserError(f"{problem}, in the header of {path}") from error
    fields = set(header) if isinstance(header, dict) else set()
    for field in sorted(fields.symmetric_difference(FIELDS) - set(NOTES)):
        problem = "unknown" if field in fields else "missing"
        raise UserError(f"{field!r} is {problem}, in the header of {path}")
    return header


def experiment(name: str) -> "ExperimentConfig":
    """Returns what a registered experiment of this package has by itself.

    Raises:
        UserError: there is no such experiment.
    """
    if name not in EXPERIMENTS:
        raise UserError(
            f"there is no experiment {name!r}; {hint(name, EXPERIMENTS)}"
        )
    from official.core import exp_factory

    importlib.import_module(EXPERIMENTS[name])
    return exp_factory.get_exp_config(name)


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
