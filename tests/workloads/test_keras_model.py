"""A user's model: trained, measured and put back as Keras does each."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tf_largebatch import keras as largebatch
from tf_largebatch import workloads
from tf_largebatch.errors import UserError
from tf_largebatch.study import protocol, table_rows
from tf_largebatch.study.training import Trainer
from tf_largebatch.workloads import keras_model

STEPS, BATCH = 12, 16
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 6)).astype("float32")
Y = (X @ RANDOM.normal(size=(6, 3))).argmax(1)
SPLITS = {
    "train": (X[:40], Y[:40]),
    "validation": (X[40:50], Y[40:50]),
    "test": (X[50:], Y[50:]),
}
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
UNREDUCED = keras.losses.SparseCategoricalCrossentropy(reduction=None)


def build(dropout=0.3, classes=3, strength=0.05):
    """All that a run must put back: moving statistics, random numbers."""
    return keras.Sequential(
        [
            keras.Input((6,)),
            keras.layers.Dense(
                8, kernel_regularizer=keras.regularizers.L2(strength)
            ),
            keras.layers.BatchNormalization(momentum=0.5),
            keras.layers.ReLU(),
            keras.layers.Dropout(dropout),
            keras.layers.Dense(classes),
        ]
    )


def task(
    build=build,
    splits=SPLITS,
    loss=LOSS,
    metric="accuracy",
    name="accuracy",
    direction="max",
):
    config = {
        "name": "mine",
        "python": True,
        "batch": BATCH,
        "evaluations": STEPS,
        "metric": {"name": name, "direction": direction},
        "target": 0.5,
        "settings": {},
    }
    return keras_model.Task(config, build, splits, loss, metric)


def row(name="nesterov", rate=0.1, **optimizer):
    """A row as a study has it, with nothing to tune."""
    wanted = {"class": "Nesterov", "learning_rate": rate, **optimizer}
    words = {"weights_optimizer": "", "bias_bn_optimizer": "", "fixed": True}
    return table_rows.resolve(
        {"name": name, "optimizer": wanted, **words}, {}, {}, {}
    )


def run_of(row, seed=7):
    numbers = table_rows.fixed_hyperparameters(row)
    return protocol.Run(row["name"], "seed", 0, seed, numbers)


def train(trainer, row, seed=7):
    """Does a run; returns its line without what the clock says."""
    return {**trainer.run(row, run_of(row, seed)), "seconds": 0}


@pytest.fixture(scope="module")
def trainer():
    workload = task()
    return Trainer({"steps": STEPS, "workload": workload.config}, workload)


@pytest.fixture(scope="module")
def line(trainer):
    return train(trainer, row(weight_decay=0.01))


def values(model):
    return [variable.numpy() for variable in model.variables]


def test_a_run_does_what_keras_does_batch_by_batch(trainer):
    """With dropout, moving statistics and the L2 of the model's own."""
    found = train(trainer, row(momentum=0.8, weight_decay=0.01))
    keras.utils.set_random_seed(7)
    model = build()
    optimizer = largebatch.Nesterov(
        largebatch.Cosine(0.1, STEPS), momentum=0.8, weight_decay=0.01
    )
    model.compile(optimizer, loss=LOSS)
    x, y = SPLITS["train"]
    losses = [
        model.train_on_batch(x[batch], y[batch])
        for batch in trainer.workload.order(7, STEPS)
    ]
    curve = [point["loss"] for point in found["curve"]]
    np.testing.assert_allclose(curve, losses, rtol=1e-5)
    assert len(model.variables) == 9  # Moving statistics and random numbers.
    for one, other in zip(values(trainer.model), values(model)):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
    predicted = model.predict(SPLITS["test"][0], verbose=0).argmax(1)
    assert found["test"] == np.mean(predicted == SPLITS["test"][1])


def test_a_run_is_the_same_whatever_was_run_before(trainer, line):
    ours = row(weight_decay=0.01)
    states = []
    for other in (row(rate=3.0), row("adam", 0.1, **{"class": "Adam"})):
        train(trainer, other, seed=8)
        assert train(trainer, ours) == line
        states.append(values(trainer.model))
    for one, other in zip(*states):
        np.testing.assert_array_equal(one, other)
    assert train(trainer, ours, seed=8) != {**line, "seed": 8}


def test_few_initial_states_are_kept():
    """Of tuning's seeds, which come again and again, all are."""

    def counted():
        counts.append(1)
        return build()

    counts = []
    workload = task(counted)
    model = workload.build_model(0, {})
    for seeds, built in ([1, 2, 1, 2], 2), (range(3, 23), 20), ([22, 21], 0):
        counts.clear()
        for seed in seeds:
            workload.start(model, seed, {})
        assert len(counts) == built
    assert workload.state.cache_info().currsize == workloads.KEPT


def test_a_kind_of_optimizer_is_traced_once(trainer, line):
    rows = [
        row("one", momentum=0.5, weight_decay=0.0),
        row("two", momentum=0.7, weight_decay=0.1),
    ]
    for number, each in enumerate(rows):
        train(trainer, each, seed=number)
    programs = [trainer.program(each, run_of(each)) for each in rows]
    assert programs[0] is programs[1]
    assert programs[0].train.experimental_get_tracing_count() == 1
    assert programs[0].step.experimental_get_tracing_count() == 1
    assert trainer.measure.experimental_get_tracing_count() <= 3  # A split.


@pytest.mark.parametrize("part", [1, 7, 1000])
def test_a_split_is_measured_part_by_part(part, trainer, line, monkeypatch):
    monkeypatch.setattr(keras_model, "MEASURED", part)
    monkeypatch.setattr(trainer.workload, "batch", part)
    x, y = SPLITS["train"]
    examples = tf.constant(x), tf.constant(y)
    accuracy, loss = tf.function(trainer.workload.measure)(
        trainer.model, examples
    )
    model = build()
    model.set_weights(trainer.model.get_weights())
    model.compile(loss=LOSS, metrics=["accuracy"])
    expected = model.evaluate(x, y, verbose=0)
    np.testing.assert_allclose([loss, accuracy], expected, rtol=1e-5)


def no_number(targets, outputs):
    return tf.cast(targets, tf.float32) * np.nan


def test_a_run_that_diverges_has_no_number_where_there_is_none():
    """Like the loss's, a metric's NaN is null: JSON has no other word."""
    splits = {key: (x, y.astype("float32")) for key, (x, y) in SPLITS.items()}
    model = {"build": lambda: build(classes=1), "splits": splits, "loss": "mse"}
    for metric, rate, diverged in ("mse", 1e30, True), (no_number, 0.1, False):
        workload = task(**model, metric=metric, name="mse", direction="min")
        study = {"steps": STEPS, "workload": workload.config}
        found = train(Trainer(study, workload), row(rate=rate))
        json.dumps(found, allow_nan=False)
        assert found["diverged"] == diverged
        for key in ("validation", "test", "train", "steps_to_target"):
            assert found[key] is None


class OwnLoss(keras.Model):
    """Has more to its loss than what it is compiled with."""

    def __init__(self):
        super().__init__()
        self.dense = keras.layers.Dense(3)

    def call(self, inputs):
        outputs = self.dense(inputs)
        self.add_loss(tf.reduce_mean(outputs**2))
        return outputs

    def compute_loss(self, *arguments, **named):
        return 2 * super().compute_loss(*arguments, **named)


def test_a_models_own_loss_is_that_of_keras():
    workload = task(OwnLoss)
    trainer = Trainer({"steps": STEPS, "workload": workload.config}, workload)
    found = train(trainer, row())["curve"]
    keras.utils.set_random_seed(7)
    model = OwnLoss()
    x, y = SPLITS["train"]
    model(x[:1])
    rates = largebatch.Cosine(0.1, STEPS)
    model.compile(largebatch.Nesterov(rates), loss=LOSS)
    losses = [
        model.train_on_batch(x[batch], y[batch])
        for batch in trainer.workload.order(7, STEPS)
    ]
    np.testing.assert_allclose([p["loss"] for p in found], losses, rtol=1e-5)
    expected = model.evaluate(*SPLITS["validation"], verbose=0)
    assert found[-1]["validation_loss"] == pytest.approx(expected, rel=1e-4)


class OwnStep(keras.Sequential):
    def train_step(self, data):
        return super().train_step(data)


class Heir(OwnStep):
    """Has no step of its own, but its parent has."""


def plain():
    return keras.Sequential([keras.Input((6,)), keras.layers.Dense(3)])


def two_outputs():
    inputs = keras.Input((6,))
    heads = [keras.layers.Dense(3, name=name)(inputs) for name in ("a", "b")]
    return keras.Model(inputs, {"a": heads[0], "b": heads[1]})


def two_inputs():
    one, other = keras.Input((6,), name="one"), keras.Input((2,), name="other")
    hidden = keras.layers.Concatenate()([one, other])
    return keras.Model(
        {"one": one, "other": other}, keras.layers.Dense(3)(hidden)
    )


def test_inputs_may_have_any_structure():
    splits = {
        name: ({"one": x, "other": x[:, :2]}, y)
        for name, (x, y) in SPLITS.items()
    }
    workload = task(two_inputs, splits)
    trainer = Trainer({"steps": STEPS, "workload": workload.config}, workload)
    curve = train(trainer, row())["curve"]
    assert curve[-1]["loss"] < 0.8 * curve[0]["loss"]


def test_what_is_said_of_model_and_data_tells_them_from_others():
    config = task().config
    assert config["splits"] == {"train": 40, "validation": 10, "test": 10}
    assert config["description"].endswith("of 115 parameters")
    assert config == task().config

    swapped = {**SPLITS, "test": (X[50:][::-1], Y[50:])}
    assert task(splits=swapped).config["data"] != config["data"]
    for other in (
        {"build": lambda: build(dropout=0.2)},
        {"build": lambda: build(strength=0.1)},
        {"loss": "mse"},
    ):
        if other.get("loss"):
            other["build"] = lambda: build(classes=1)
            other["metric"] = "mse"
        found = task(**other).config["untrained_loss"]
        assert found != config["untrained_loss"]


def test_another_metric_of_the_same_name_is_told_from_the_first():
    def far(targets, outputs):
        return keras.losses.mean_absolute_error(targets, outputs)

    def found(metric):
        config = task(lambda: build(classes=1), loss="mse", metric=metric)
        return {**config.config}

    one, other = found(far), found("mse")
    assert one.pop("untrained_metric") != other.pop("untrained_metric")
    assert one == other


def test_a_loss_that_is_no_number_is_no_obstacle_to_going_on():
    def no_number(targets, outputs):
        return keras.ops.log(-1.0 - keras.ops.square(outputs[..., 0]))

    config = task(loss=no_number).config
    assert config["untrained_loss"] is None
    assert config == task(loss=no_number).config


def changing():
    counts.append(1)
    return build(classes=3 + len(counts) // 2)


counts: list[int] = []


def test_a_model_that_changes_is_refused():
    workload = task(changing)
    with pytest.raises(UserError, match="always return the same model"):
        workload.start(workload.build_model(0, {}), 1, {})


def in_numpy(targets, outputs):
    return np.square(np.asarray(outputs)).mean(-1)


HALVES = {name: (x, y.astype("float32") / 2) for name, (x, y) in SPLITS.items()}
ONE_HOT = {
    name: (x, np.eye(3, dtype="float32")[y]) for name, (x, y) in SPLITS.items()
}


@pytest.mark.parametrize("smoothing", [0, 0.1])
def test_accuracy_takes_classes_as_shares(smoothing):
    splits = {
        name: (x, (1 - smoothing) * y + np.float32(smoothing / 3))
        for name, (x, y) in ONE_HOT.items()
    }
    assert task(splits=splits, loss="mse").metric.dtype == "float64"


def in_policy(policy):
    """A layer of this policy, deep in a model of another."""
    inner = keras.Sequential([keras.layers.Dense(3, dtype=policy)])
    return keras.Sequential([keras.Input((6,)), inner])


def frozen():
    model = build()
    model.trainable = False
    return model


def of_tf_keras():
    return tf_keras.Sequential([tf_keras.layers.Dense(3)])


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "bfloat16"])
def test_a_model_that_needs_no_loss_scale_may_be_of_low_precision(policy):
    assert task(lambda: in_policy(policy)).config["untrained_loss"] > 0


@pytest.mark.parametrize(
    "more, words",
    [
        (
            {"build": lambda: in_policy("mixed_float16")},
            "take mixed_bfloat16 or float32. .* layer dense.* in mixed_float16",
        ),
        ({"build": lambda: in_policy("float16")}, "dense.* in float16"),
        ({"build": frozen}, "Received: Sequential with none of 9 trainable"),
        ({"build": build()}, "not the model, .* Received: Sequential of keras"),
        ({"build": 3}, "a function without arguments .* Received: int"),
        (
            {"build": lambda width: build()},
            "Received: missing a required argument: 'width'",
        ),
        ({"build": of_tf_keras}, "a keras.Model. Received: .* of tf_keras"),
        ({"build": lambda: None}, "a keras.Model. Received: NoneType"),
        ({"build": OwnStep}, "`compute_loss` or `add_loss`. Received: OwnStep"),
        ({"build": Heir}, "without a `train_step` of its own"),
        ({"build": two_inputs}, "the model does not take the inputs. Received"),
        ({"loss": "mean_sqared"}, "mean_sqared"),
        ({"loss": UNREDUCED}, "the loss does not fit"),
        (
            {"loss": UNREDUCED, "build": plain},
            "Received: a loss of shape",
        ),
        ({"loss": 3}, "loss"),
        (
            {"metric": "acuracy"},
            "the metric does not fit.* Received: .*acuracy",
        ),
        ({"metric": lambda y, z: 0.5}, "not a value an example"),
        (
            {
                "metric": keras.metrics.F1Score(threshold=0.5),
                "splits": ONE_HOT,
                "loss": "mse",
            },
            r"one number as its result; .* Received: a result of shape \(3,\)",
        ),
        (
            {
                "build": two_outputs,
                "splits": {
                    name: (x, {"a": y, "b": y})
                    for name, (x, y) in SPLITS.items()
                },
                "loss": dict.fromkeys(
                    ("a", "b"), "sparse_categorical_crossentropy"
                ),
            },
            "`metric` must be given for a model of several outputs",
        ),
        ({"loss": in_numpy}, "model and loss cannot be compiled; write with"),
        ({"metric": in_numpy}, "the metric cannot be compiled; .* keras.ops'"),
        (
            {
                "splits": HALVES,
                "build": lambda: build(classes=1),
                "loss": "mse",
            },
            "give `metric`, .* `direction`. Received: .* such as 0.5",
        ),
        (
            {"build": lambda: build(classes=1), "loss": "mse"},
            "targets such as 2$",
        ),
        ({"splits": HALVES}, "targets such as 0.5"),
    ],
)
def test_what_does_not_go_together_is_one_line(more, words):
    with pytest.raises(UserError, match=words) as error:
        task(**more)
    assert "\n" not in str(error.value)
