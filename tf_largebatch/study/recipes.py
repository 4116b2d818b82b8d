"""Studies whose rows are recipes: their protocol, and by what they are judged.

A row has all settings of its recipe that are not the experiment's own, so that
any machine can do its runs.

``validation`` and ``test`` are both what the recipe evaluates: its
``validation_data``. The paper, too, tuned and reported on one set.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from tf_largebatch import configs
from tf_largebatch.errors import UserError
from tf_largebatch.garden import chain, run_folder, settings
from tf_largebatch.garden import recipes as garden
from tf_largebatch.garden.overrides import override
from tf_largebatch.study import ledger, protocol, spaces, table_rows, tables
from tf_largebatch.tf_keras import model_garden

Values = Mapping[str, Any]
QUESTION = (
    "Which of these recipes is the best when all are tuned alike, each with "
    "the same number of runs?"
)


@dataclasses.dataclass(frozen=True)
class Judge:
    """By what the runs of an experiment are judged.

    Attributes:
        metric: its name and direction, as a workload has them.
        task: what is learnt, in words.
        figure: of an evaluation, the metric.
        loss: of an evaluation, the loss; None if it has none.
        train: of training, the same metric; None if it has none.
        target: the public one, if there is one.
    """

    metric: Mapping[str, str]
    task: str
    figure: str
    loss: str | None
    train: str | None
    target: float | None = None

    def worst(self, config: Any) -> float:
        """Returns what a run counts that diverged, or does no better.

        Of a masked-LM loss that is the one of guessing: all tokens alike.
        """
        if self.metric["direction"] == "max":
            return 0.0
        return math.log(config.task.model.encoder.bert.vocab_size)

    def value(self, figures: Mapping[str, float], worst: float) -> float:
        """Returns the metric of an evaluation; the worst one at most."""
        value = figures[self.figure]
        better = max if self.metric["direction"] == "max" else min
        return better(value, worst) if math.isfinite(value) else worst


JUDGES = {
    "largebatch/resnet50_imagenet": Judge(
        {"name": "top-1 accuracy", "direction": "max"},
        "the classes of pictures",
        figure="accuracy",
        loss="validation_loss",
        train="accuracy",
        target=0.759,  # MLPerf's, which the paper has too.
    ),
    "largebatch/bert_pretraining": Judge(
        {"name": "masked-LM loss", "direction": "min"},
        "masked words and whether sentences follow each other",
        figure="masked_lm_loss",
        loss="masked_lm_loss",
        train="masked_lm_loss",
    ),
    "largebatch/bert_squad": Judge(
        {"name": "F1", "direction": "max"},
        "where the answers to questions are in a text",
        figure="final_f1",
        loss=None,
        train=None,
    ),
}


@dataclasses.dataclass(frozen=True)
class Setup:
    """A recipe with all its settings.

    Attributes:
        name: of the recipe, or of what is like one.
        experiment: whose settings they are.
        config: the settings, all of them.
    """

    name: str
    experiment: str
    config: Any

    @property
    def judge(self) -> Judge:
        """By what its runs are judged."""
        return JUDGES[self.experiment]

    @property
    def traits(self) -> dict[str, Any]:
        """What all recipes of a study have alike."""
        config = self.config
        return {
            "the experiment": self.experiment,
            "trainer.train_steps": config.trainer.train_steps,
            "task.train_data.global_batch_size": (
                config.task.train_data.global_batch_size
            ),
        }

    @property
    def settings(self) -> dict[str, Any]:
        """All settings, as YAML has them."""
        return run_folder.as_yaml(self.config)

    @property
    def overrides(self) -> dict[str, Any]:
        """The settings that are not the experiment's own."""
        base = garden.experiment(self.experiment)
        return differing(self.settings, run_folder.as_yaml(base))

    @property
    def written(self) -> Values:
        """What the recipe's file says, in its order; empty if it has none."""
        found = garden.exists(self.name)
        return garden.load(self.name).values if found else {}

    @property
    def places(self) -> dict[str, str]:
        """Where its hyperparameters are, ``*`` for the chosen class."""
        above = "trainer.optimizer_config"
        return {
            name: path.format(
                optimizer=f"{above}.optimizer.*",
                schedule=f"{above}.learning_rate.*",
            )
            for name, path in garden.HYPERPARAMETERS[self.experiment].items()
        }

    def replaced(self, name: str, values: Values) -> "Setup":
        """Returns one of another name and with other settings."""
        config = configured(self.experiment, values, name)
        return Setup(name, self.experiment, config)

    def at(self, point: Values) -> "Setup":
        """Returns the recipe at a point of a search space.

        Args:
            point: values by the names that
                :data:`tf_largebatch.garden.recipes.HYPERPARAMETERS` has.

        Raises:
            UserError: a name that stands for nothing, or no valid value.
        """
        if not point:
            return self
        recipe = dataclasses.replace(
            garden.load(self.name), values=self.settings
        )
        found = self.replaced(self.name, self.settings)
        override(found.config, recipe.at(point), f"the space of {self.name}")
        return found


def resolve(
    name: str, config_files: Sequence[str] = (), params_override: str = ""
) -> Setup:
    """Returns a recipe that is trained by itself.

    Args:
        name: of the recipe.
        config_files: YAML files of settings that override its own.
        params_override: settings that override those.

    Raises:
        UserError: no such recipe, a wrong setting, or a part of a chain of
            which it is not said what it begins from.
    """
    config = settings.collect(name, None, config_files, None, params_override)
    before = chain.before(garden.part_of(name))
    if before and not config.task.init_checkpoint:
        raise UserError(
            f"{name} begins from a checkpoint of {before}; give its folder "
            "with --params_override=task.init_checkpoint=FOLDER"
        )
    return Setup(name, garden.load(name).experiment, config)


def configured(experiment: str, overrides: Values, where: str) -> Any:
    """Returns all settings of an experiment, some of them overridden."""
    config = garden.experiment(experiment)
    override(config, overrides, where)
    return config


def differing(values: Values, base: Values) -> dict[str, Any]:
    """Returns of nested values those that differ from others.

    >>> differing({"a": 1, "b": {"c": 2, "d": 3}}, {"a": 1, "b": {"c": 4}})
    {'b': {'c': 2, 'd': 3}}
    """
    found: dict[str, Any] = {}
    for key, value in values.items():
        other = base.get(key)
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            inner = differing(value, other)
            found |= {key: inner} if inner else {}
        elif key not in base or value != other:
            found[key] = value
    return found


def setup_of(study: Values, row: Values, point: Values) -> Setup:
    """Returns the recipe that a row is, at a point of its search space.

    Args:
        study: the protocol.
        row: of the protocol.
        point: the tuned values.
    """
    experiment = study["workload"]["experiment"]
    config = configured(experiment, row["overrides"], "study.yaml")
    # YAML, as which a run's folder has it, knows no NumPy.
    plain = ledger.as_json_has_it(point)
    return Setup(row["name"], experiment, config).at(plain)


def create(
    names: Sequence[str],
    space: Values | None = None,
    *,
    trials: int,
    seeds: int,
    seed: int = 0,
    target: float | None = None,
    config_files: Sequence[str] = (),
    params_override: str = "",
) -> dict[str, Any]:
    """Returns the protocol of a study that tunes and compares recipes.

    Args:
        names: of the recipes.
        space: the search spaces, as a file of ``official_configs/spaces`` has
            them; None means for each recipe the one that ships for it.
        trials: tuning runs of every recipe.
        seeds: runs of every recipe at its best point.
        seed: of the whole study.
        target: the value of the metric that is a hit; None means the public
            one.
        config_files: YAML files of settings for all recipes.
        params_override: settings for all recipes, which win.

    Raises:
        UserError: a name, a setting, a space or a number that makes no study,
            or recipes that cannot be compared.
    """
    for number, name in enumerate(names):
        if name in names[:number]:
            raise UserError(f"--recipe names {name!r} twice; name it once")
    found = [resolve(name, config_files, params_override) for name in names]
    check_alike(found)
    table = {
        "name": "recipes",
        "title": title(names),
        "question": [QUESTION],
        "rows": [tuned_row(setup, space) for setup in found],
    }
    sizes = {"trials": trials, "seeds": seeds}
    return assemble(found[0], table, sizes, seed, target)


def tuned_row(setup: Setup, space: Values | None) -> dict[str, Any]:
    """Returns the row of a recipe that is tuned; see :func:`create`."""
    chosen = shipped_space(setup.name) if space is None else space
    return {**row(setup), "space": space_of(setup, chosen)}


def title(names: Sequence[str]) -> str:
    """Returns what a study of recipes is called.

    >>> title(["a", "b"]), title(["a", "b", "c"])
    ('a against b', '3 recipes compared')
    """
    few = len(names) < 3
    return " against ".join(names) if few else f"{len(names)} recipes compared"


def check_alike(found: Sequence[Setup]) -> None:
    """Raises UserError unless all have one experiment, length and batch."""
    first, *others = found
    for other in others:
        for what, value in other.traits.items():
            if value != first.traits[what]:
                raise UserError(
                    f"{what} is {first.traits[what]} in {first.name} and "
                    f"{value} in {other.name}; compare recipes in which it is "
                    "the same"
                )


def row(setup: Setup) -> dict[str, Any]:
    """Returns the row of a recipe, without a space.

    Raises:
        UserError: a value that its optimizer or schedule cannot have.
    """
    chosen = setup.config.trainer.optimizer_config
    model_garden.build_optimizer(chosen)
    options = {
        key: value
        for key, value in run_folder.as_yaml(chosen.optimizer.get()).items()
        if value is not None
    }
    kind = options.pop("name")
    peak = getattr(chosen.learning_rate.get(), "peak", None)
    rate = {} if peak is None else {"learning_rate": peak}
    return {
        "name": setup.name,
        "weights_optimizer": kind,
        "bias_bn_optimizer": tables.bias_bn_optimizer(kind, options),
        "optimizer": {"class": kind, **rate, **options},
        "settings": {},
        "space": {},
        "tuned_as": None,
        "paper_value": None,
        "changes": {},
        "recipe": setup.name,
        "overrides": setup.overrides,
    }


def shipped_space(name: str) -> Values:
    """Returns the search spaces that are made for a recipe.

    Raises:
        UserError: there are none.
    """
    top, *_, last = name.split("/")
    root = configs.root() / "spaces"
    part = [f"{top}/{last}"] if garden.part_of(name) else []
    for place in (name, name.rpartition("/")[0], *part):
        if (root / f"{place}.yaml").is_file():
            return configs.read(root / f"{place}.yaml")
    like = "resnet50/table4" if top == "resnet50" else "bert_large/phase1"
    raise UserError(
        f"no search space ships for {name}; give --space=FILE, a file such as "
        f"official_configs/spaces/{like}.yaml"
    )


def space_of(setup: Setup, config: Values) -> dict[str, Any]:
    """Returns the search space of a recipe, checked.

    Args:
        setup: the recipe.
        config: the search spaces, by recipe or by optimizer.

    Raises:
        UserError: it has none, or one with what the recipe has not.
    """
    where = f"the space of {setup.name}"
    found = table_rows.space_of(row(setup), config)
    axes = spaces.parse(found, where)
    known = {spaces.STEPS: setup.config.trainer.train_steps}
    for point in spaces.points(axes, 1, 0, known):
        setup.at(point)
    return dict(found)


def assemble(
    setup: Setup,
    table: Values,
    sizes: Mapping[str, int],
    seed: int,
    target: float | None,
) -> dict[str, Any]:
    """Returns a protocol of rows that :func:`row` made.

    Args:
        setup: one of the recipes, which has what all have alike.
        table: name, title, question and rows.
        sizes: ``trials`` and ``seeds``.
        seed: of the whole study.
        target: as in :func:`create`.

    Raises:
        UserError: a number that makes no study, or a target that is missing.
    """
    steps = setup.config.trainer.train_steps
    if steps < 1:
        raise UserError(
            f"trainer.train_steps is {steps} in {setup.name}; give at least 1"
        )
    sizes = {"steps": steps, **sizes}
    protocol.check_numbers(sizes, seed, table["rows"], 1)
    task = workload(setup, checked(setup, target))
    table = {"paper": None, "paper_task": None, "settings": {}, **table}
    return protocol.written(task, table, sizes, seed)


def checked(setup: Setup, target: float | None) -> float:
    """Returns the target, the public one where none is given.

    Raises:
        UserError: there is none, or no run can have that value.
    """
    name = setup.judge.metric["name"]
    target = setup.judge.target if target is None else target
    if target is None:
        raise UserError(
            f"no target is public for {setup.experiment}; give "
            f"--target=VALUE, the {name} that is a hit"
        )
    if setup.judge.metric["direction"] == "max" and not 0 <= target <= 1:
        raise UserError(f"--target is {target:g}; {name} lies between 0 and 1")
    return target


def workload(setup: Setup, target: float) -> dict[str, Any]:
    """Returns what is learnt, as a protocol has it."""
    task = setup.config.task
    learnt, held_out = (
        path if isinstance(path, str) else ", ".join(path)
        for path in (
            described(task.train_data),
            described(task.validation_data),
        )
    )
    return {
        "name": setup.experiment.rpartition("/")[2],
        "extra": "garden,study",
        "packages": ["tf_keras", "tf-models-official"],
        "description": (
            f"{setup.judge.task}, learnt from {learnt} through the Model "
            f"Garden; validation and test are both {held_out}"
        ),
        "metric": dict(setup.judge.metric),
        "target": target,
        "batch": task.train_data.global_batch_size,
        "split_text": (
            "Validation and test are the same examples: the paper, too, tuned "
            "and reported on one set"
        ),
        "settings": {},
        "experiment": setup.experiment,
    }


def described(data: Any) -> Any:
    """Returns where data is, in words."""
    words = getattr(data, "described", None)
    return words() if words else data.input_path
