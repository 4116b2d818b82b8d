"""Optimizers, schedules and experiments of other packages in the Garden."""

import pathlib

import pytest
import tensorflow as tf
import tf_keras

from tf_largebatch import plugins
from tf_largebatch.errors import UserError
from tf_largebatch.garden import recipes, run_folder, settings, train
from tf_largebatch.garden.overrides import override
from tf_largebatch.tf_keras import model_garden

EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "own_optimizer"
KINDS = {
    "optimizer": {"Lion": "own_optimizer.lion:Lion"},
    "schedule": {"trapezoid": "own_optimizer.trapezoid:Trapezoid"},
    "experiment": {
        "own/plain_imagenet": "own_optimizer.experiment",
        "own/none": "own_optimizer.lion",
    },
}
LION = {
    "optimizer": {"type": "Lion", "Lion": {"beta_2": 0.98}},
    "learning_rate": {
        "type": "trapezoid",
        "trapezoid": {"peak": 0.01, "total_steps": 4, "warmup_steps": 1},
    },
}


@pytest.fixture(autouse=True)
def installed(monkeypatch):
    """The example package, as if it were installed."""
    from importlib.metadata import EntryPoint

    monkeypatch.syspath_prepend(EXAMPLE)
    monkeypatch.setattr(
        plugins,
        "entry_points",
        lambda kind: tuple(
            EntryPoint(name, value, plugins.GROUPS[kind])
            for name, value in KINDS.get(kind, {}).items()
        ),
    )


def config(values=LION):
    found = recipes.experiment("largebatch/resnet50_imagenet")
    override(found, {"trainer": {"optimizer_config": values}}, "the test")
    return found


def message_of(function, *arguments):
    with pytest.raises(UserError) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_config_makes_the_optimizer_and_its_schedule():
    made = model_garden.build_optimizer(config().trainer.optimizer_config)
    assert (made.name, made.beta_1, made.beta_2) == ("Lion", 0.9, 0.98)
    variable = tf.Variable([1.0, -1.0])
    rates = []
    for _ in range(4):
        made.apply_gradients([(tf.constant([2.0, -0.5]), variable)])
        rates.append(float(made.learning_rate))
    assert rates == pytest.approx([0.0, 0.01, 0.01, 0.01])
    # A step is as long as the rate, whatever the gradient.
    assert variable.numpy() == pytest.approx([0.97, -0.97])


def test_what_a_run_writes_makes_the_same_config():
    first = config()
    written = run_folder.as_yaml(first)
    chosen = written["trainer"]["optimizer_config"]["optimizer"]
    assert chosen["Lion"]["exclude_from_weight_decay"] == "bias_and_norm"
    again = recipes.experiment("largebatch/resnet50_imagenet")
    override(again, written, "params.yaml")
    assert run_folder.as_yaml(again) == written


def test_a_flag_sets_one_value():
    found = settings.collect(
        experiment="largebatch/resnet50_imagenet",
        params_override="trainer.optimizer_config.optimizer.type=Lion,"
        "trainer.optimizer_config.optimizer.Lion.weight_decay=0.5",
    )
    chosen = found.trainer.optimizer_config.optimizer.get()
    assert (chosen.weight_decay, chosen.beta_2) == (0.5, 0.99)


def test_configs_that_name_no_other_package_import_none(monkeypatch):
    monkeypatch.setitem(KINDS, "optimizer", {"Far": "no_such_module:Far"})
    config({"optimizer": {"type": "largebatch_lars"}})
    reason = message_of(config, {"optimizer": {"type": "Far"}})
    assert "no_such_module:Far, cannot be imported" in reason


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"type": "Loin"}, "did you mean Lion?"),
        ({"Lion": {"beta_3": 0.9}}, "did you mean beta_2?"),
        ({"Lion": {"beta_2": "high"}}, "not of the type float"),
    ],
)
def test_wrong_values(values, reason):
    assert reason in message_of(config, {"optimizer": values})


def test_a_value_that_the_optimizer_cannot_have():
    wrong = {"optimizer": {"type": "Lion", "Lion": {"beta_2": 1.0}}}
    found = config({**LION, **wrong}).trainer.optimizer_config
    assert "`beta_2`" in message_of(model_garden.build_optimizer, found)


def test_a_class_of_kerass_own(monkeypatch):
    """Of tf_keras it is taken as it is; of Keras 3 it does not fit."""
    theirs = {
        "Theirs": "tf_keras.optimizers:Lion",
        "Other": "keras.optimizers:Lion",
    }
    monkeypatch.setitem(KINDS, "optimizer", theirs)
    chosen = {"type": "Theirs", "Theirs": {"beta_2": 0.9, "weight_decay": 0.1}}
    found = config({**LION, "optimizer": chosen})
    made = model_garden.build_optimizer(found.trainer.optimizer_config)
    assert isinstance(made, tf_keras.optimizers.Lion)
    assert (made.beta_2, made.weight_decay, made.name) == (0.9, 0.1, "Theirs")
    reason = message_of(config, {"optimizer": {"type": "Other"}})
    assert "Other is for models of Keras 3" in reason


def test_a_schedule_that_is_of_a_keras_already(monkeypatch):
    """Of tf_keras it is taken as it is; of Keras 3 it does not fit."""
    theirs = {
        "trapezoid": "own_optimizer.tf_keras:Trapezoid",
        "other": "own_optimizer.keras:Trapezoid",
    }
    monkeypatch.setitem(KINDS, "schedule", theirs)
    made = model_garden.build_optimizer(config().trainer.optimizer_config)
    from own_optimizer.tf_keras import Trapezoid

    assert type(made._learning_rate) is Trapezoid
    reason = message_of(config, {"learning_rate": {"type": "other"}})
    assert "other is for models of Keras 3" in reason


def test_a_name_of_the_gardens_cannot_be_taken(monkeypatch):
    monkeypatch.setitem(
        KINDS, "optimizer", {"adamw": "own_optimizer.lion:Lion"}
    )
    assert "'adamw', which tf-largebatch has" in message_of(config)


def test_experiments():
    found = recipes.experiment("own/plain_imagenet")
    assert list(found.task.model.filters) == [32, 64, 128, 256]
    assert "did you mean own/plain_imagenet?" in message_of(
        recipes.experiment, "own/plain_imagnet"
    )
    assert "registers no experiment 'own/none'" in message_of(
        recipes.experiment, "own/none"
    )


def test_own_network_optimizer_and_schedule_train(small, tmp_path):
    """And go on, from what the folder says alone."""
    values = run_folder.as_yaml(small())
    task = values["task"]
    found = recipes.experiment("own/plain_imagenet")
    wanted = {
        "task": {
            "model": {
                "filters": [8, 8],
                "num_classes": task["model"]["num_classes"],
                "input_size": task["model"]["input_size"],
            },
            "train_data": task["train_data"],
            "validation_data": task["validation_data"],
        },
        "trainer": {**values["trainer"], "optimizer_config": LION},
        "runtime": values["runtime"],
    }
    override(found, wanted, "the test")
    figures = train.run(found, "train_and_eval", str(tmp_path))
    assert figures["step"] == 4
    again = settings.of_folder(str(tmp_path), "")
    assert train.run(again, "eval", str(tmp_path)) == figures
