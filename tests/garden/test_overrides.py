"""Overriding a config: strict, and with words for what is wrong."""

import pytest

from tf_largebatch.errors import UserError
from tf_largebatch.garden import recipes
from tf_largebatch.garden.overrides import override

RECIPE = "resnet50/lars_32k"


def nested(path, value):
    """Returns a mapping with a value at a dotted path."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return value


LARS = "trainer.optimizer_config.optimizer.largebatch_lars"


@pytest.mark.parametrize(
    "path, value",
    [
        ("trainer.train_steps", 7),
        ("trainer.optimizer_config.optimizer.type", "sgd"),
        (f"{LARS}.momentum", 0),
        (f"{LARS}.epsilon", None),
        (f"{LARS}.exclude_from_weight_decay", []),
        (f"{LARS}.exclude_from_weight_decay", ["bias", "kernel"]),
        (f"{LARS}.exclude_from_weight_decay", "bias_and_norm"),
        ("trainer.optimizer_config.ema", {"average_decay": 0.5}),
        ("task.train_data.area_range", [0.2, 1]),
        ("task.train_data.input_path", "gs://DATA/train-*"),
        ("task.train_data.input_path", ["a", "b"]),
        ("runtime.tpu", "local"),
        ("runtime.loss_scale", 2.0),
    ],
)
def test_a_value_of_the_right_type_is_set(path, value):
    config = recipes.experiment_config(RECIPE)
    override(config, nested(path, value), "test")
    for key in path.split("."):
        config = getattr(config, key)
    if isinstance(value, dict):
        config = {key: getattr(config, key) for key in value}
    found = list(config) if isinstance(value, list) else config
    assert found == value and type(found) is type(value)


def test_what_is_not_overridden_stays():
    config = recipes.experiment_config(RECIPE)
    other = recipes.experiment_config(RECIPE, nested(f"{LARS}.momentum", 0.5))
    assert other != config
    override(other, nested(f"{LARS}.momentum", 0.929), "test")
    assert other == config


@pytest.mark.parametrize(
    "path, value, words",
    [
        (
            "trainer.train_step",
            7,
            "unknown key 'trainer.train_step', in FILE; "
            "did you mean train_steps?",
        ),
        ("trainor", {}, "unknown key 'trainor', in FILE; did you mean trainer"),
        (
            "trainer.optimizer_config.optimizer.largebatch_lars.momentun",
            0.9,
            "did you mean momentum?",
        ),
        (f"{LARS}.nesterov", True, "choose one of clipnorm, "),
        (
            "trainer.optimizer_config.optimizer.type",
            "largebatch_laars",
            "'largebatch_laars'; did you mean largebatch_lars?",
        ),
        (
            "trainer.optimizer_config.learning_rate.type",
            "warm",
            "choose one of constant, ",
        ),
        ("trainer.optimizer_config.ema", {"decay": 0.5}, "ema.decay"),
        ("trainer.train_steps", "many", "not of the type int"),
        ("trainer.train_steps", 7.5, "not of the type int"),
        ("trainer.train_steps", True, "not of the type int"),
        ("trainer.train_steps", None, "not of the type int"),
        ("trainer.train_steps", {"a": 1}, "not of the type int"),
        (f"{LARS}.momentum", "0,9", "not of the type float"),
        (f"{LARS}.epsilon", "tiny", "not of the type float | None"),
        (f"{LARS}.variant", 7, "not of the type str"),
        (f"{LARS}.exclude_from_weight_decay", [1], "str | list[str]"),
        ("task.losses", 0.1, "must hold keys, such as label_smoothing"),
        ("task.losses", None, "must hold keys, such as label_smoothing"),
        ("task.train_data.area_range", ["a"], "area_range in FILE is ['a']"),
        ("task.train_data.area_range", 0.2, "area_range in FILE is 0.2"),
        ("task.train_data.is_training", "yes", "bool"),
    ],
)
def test_a_mistake_is_one_line_and_changes_nothing(path, value, words):
    config = recipes.experiment_config(RECIPE)
    values = {"runtime": {"num_gpus": 3}, **nested(path, value)}
    with pytest.raises(UserError) as caught:
        override(config, values, "FILE")
    assert words in str(caught.value) and "FILE" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert config == recipes.experiment_config(RECIPE)


def test_a_key_that_is_no_name_is_unknown():
    config = recipes.experiment_config(RECIPE)
    with pytest.raises(UserError, match="unknown key 'trainer.1'"):
        override(config, {"trainer": {1: 2}}, "FILE")
    with pytest.raises(UserError, match="unknown key '_locked'"):
        override(config, {"_locked": True}, "FILE")


def test_messages_name_the_recipes_file(monkeypatch):
    recipe = recipes.load(RECIPE)
    recipe.values["trainer"]["train_step"] = 1
    monkeypatch.setattr(recipes, "load", lambda _: recipe)
    with pytest.raises(UserError, match=f"in official_configs/{RECIPE}.yaml"):
        recipes.experiment_config(RECIPE)


def test_messages_name_the_flag():
    with pytest.raises(UserError, match="in --params_override"):
        recipes.experiment_config(RECIPE, {"trainor": 1})
