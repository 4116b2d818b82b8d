"""A workload that is a user's own Keras 3 model and arrays."""

import contextlib
import functools
import inspect
import math
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tf_largebatch import workloads
from tf_largebatch.errors import UserError
from tf_largebatch.workloads import arrays, metrics

# Inputs and targets that are looked at before anything is trained.
FEW = 3
# A model is measured on so many examples at a time, or on a batch if larger.
MEASURED = 256


class Task(workloads.Workload):
    """Learns what a user's model, loss and arrays say.

    The training loss is that of ``keras.Model.fit``: the given one and the
    model's own, such as regularisers'. A run begins with all that a model
    built after ``keras.utils.set_random_seed`` has: its weights, moving
    statistics and the states of its layers' random numbers.

    Args:
        config: ``name``, ``batch``, ``evaluations``, ``metric`` with ``name``
            and ``direction``, and ``target``. What can be said of model and
            data is added to the workload's ``config``.
        build: returns a new model.
        splits: inputs and targets of ``train``, ``validation`` and ``test``.
        loss: as ``keras.Model.compile`` takes it.
        metric: see :func:`tf_largebatch.workloads.metrics.metric_of`.

    Raises:
        UserError: model, loss, metric and data do not go together.
    """

    family = "keras"

    def __init__(
        self,
        config: Mapping[str, Any],
        build: Callable[[], keras.Model],
        splits: Mapping[str, arrays.Data],
        loss: Any,
        metric: Any,
    ):
        check_builder(build)
        self._splits, self._build, self._loss = splits, build, loss
        self.form: list[tuple] | None = None
        # Of this object alone: a process may have many, with their data.
        self.state = functools.lru_cache(workloads.KEPT)(self.new_state)
        super().__init__(config)
        model = self.build_model(0, {})
        self.metric = self.try_out(model, metric)
        self.try_in_graph(model)
        self.config = {**config, **self.facts(model)}
        self._splits = {}  # TensorFlow has them now.

    def data(self) -> dict[str, arrays.Data]:
        """Returns the splits that were given."""
        return dict(self._splits)

    def build_model(
        self, seed: int, settings: workloads.Settings
    ) -> keras.Model:
        """Returns a new model, built and compiled with the loss.

        Raises:
            UserError: it is no Keras model, not like the first one, has a
                training step of its own or nothing to train, computes in
                float16, or does not take the inputs.
        """
        del settings
        keras.utils.set_random_seed(seed)
        model = self._build()
        check_kind(model)
        inputs, _ = arrays.first(self.splits["train"], FEW)
        with complaints("the model does not take the inputs"):
            model(inputs, training=False)
        check_trained(model)
        form = [(tuple(x.shape), x.dtype) for x in model.variables]
        if self.form not in (None, form):
            raise UserError(
                "`build_model` must always return the same model. Received: "
                "models whose variables differ in number, shape or type"
            )
        self.form = form
        with complaints("Keras does not take the loss"):
            model.compile(loss=self._loss)
        return model

    def start(
        self, model: keras.Model, seed: int, settings: workloads.Settings
    ) -> None:
        """Gives a model all that a new one has, random numbers included."""
        del settings
        for variable, value in zip(model.variables, self.state(seed)):
            variable.assign(value)

    def new_state(self, seed: int) -> list[np.ndarray]:
        """Returns the values of a new model's variables."""
        return [x.numpy() for x in self.build_model(seed, {}).variables]

    def loss(
        self,
        model: keras.Model,
        examples: Any,
        settings: workloads.Settings,
    ) -> tf.Tensor:
        """Returns the loss of a batch as ``keras.Model.fit`` has it."""
        del settings
        return batch_loss(model, examples, training=True)[0]

    def measure(
        self, model: keras.Model, examples: Any
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the metric and the mean loss, part by part."""
        count = arrays.length(examples)
        size = max(MEASURED, self.batch)
        self.metric.reset_state()

        def measure(start: tf.Tensor, total: tf.Tensor) -> tuple:
            part = tf.nest.map_structure(
                lambda x: x[start : start + size], examples
            )
            loss, outputs = batch_loss(model, part, training=False)
            self.metric.update_state(part[1], outputs)
            here = tf.minimum(size, count - start)
            return start + size, total + loss * tf.cast(here, loss.dtype)

        _, total = tf.while_loop(
            lambda start, _: start < count,
            measure,
            (tf.constant(0), tf.constant(0.0)),
        )
        return tf.cast(self.metric.result(), tf.float64), total / count

    def try_out(self, model: keras.Model, metric: Any) -> keras.metrics.Metric:
        """Returns the metric, tried on a few examples like the loss.

        Raises:
            UserError: loss or metric does not fit the model's outputs.
        """
        examples = arrays.first(self.splits["train"], FEW)
        inputs, targets = examples
        with complaints("the loss does not fit model and targets"):
            loss, outputs = batch_loss(model, examples, training=False)
        if loss.shape != ():
            raise UserError(
                "`loss` must have a mean over the batch. Received: a loss of "
                f"shape {tuple(loss.shape)}"
            )
        if metric == "accuracy" and tf.nest.is_nested(outputs):
            raise UserError(
                "`metric` must be given for a model of several outputs, such "
                "as a function of targets and outputs. Received: 'accuracy'"
            )
        with complaints("the metric does not fit model and targets"):
            found = metrics.metric_of(metric, targets, outputs)
            found.update_state(targets, outputs)
            shape = tf.convert_to_tensor(found.result()).shape
        if shape != ():
            raise UserError(
                "`metric` must have one number as its result; give it another "
                "average, or a mean. Received: a result of shape "
                f"{tuple(shape)}"
            )
        if metric == "accuracy":
            self.check_classes(outputs)
        return found

    def check_classes(self, outputs: Any) -> None:
        """Raises UserError where there is no accuracy of such targets.

        Keras has one all the same, of zeros.
        """
        for name, (_, targets) in self._splits.items():
            if not metrics.are_classes(targets, outputs):
                raise UserError(
                    "`metric` must not be 'accuracy' for targets that are no "
                    "classes; give `metric`, such as 'mse', and `direction`. "
                    f"Received: {name} targets such as {metrics.odd(targets)}"
                )

    def try_in_graph(self, model: keras.Model) -> None:
        """Traces what a study compiles, without running it.

        Raises:
            UserError: model, loss or metric works on values alone.
        """

        def train(batch: Any) -> tf.Tensor:
            return batch_loss(model, batch, training=True)[0]

        def measure(examples: Any) -> tuple:
            return self.measure(model, examples)

        for what, function in (
            ("model and loss", train),
            ("the metric", measure),
        ):
            batch = arrays.first(self.splits["train"], self.batch)
            with complaints(
                f"{what} cannot be compiled; write with TensorFlow's or "
                "keras.ops' functions, not with NumPy's"
            ):
                tf.function(function, autograph=False).get_concrete_function(
                    batch
                )

    def facts(self, model: keras.Model) -> dict[str, Any]:
        """Returns what a study's protocol says of model and data.

        A study that goes on checks it. The loss of a new model in training
        differs for almost any other model or loss, as its metric does for
        another one.
        """
        batch = arrays.first(self.splits["train"], self.batch)
        metric, _ = self.measure(model, batch)
        loss, _ = batch_loss(model, batch, training=True)
        return {
            "packages": ["keras"],
            # Not its name, which Keras may have numbered.
            "description": (
                f"a {type(model).__name__} model of {model.count_params():,} "
                "parameters"
            ),
            "splits": {
                name: arrays.length(x) for name, x in self.splits.items()
            },
            "data": arrays.digest(self._splits),
            "untrained_loss": rounded(loss),
            "untrained_metric": rounded(metric),
        }


def rounded(value: Any) -> float | None:
    """Returns a number to four digits, which processors agree on.

    >>> rounded(0.123456), rounded(float("nan"))
    (0.1235, None)
    """
    number = float(value)
    return float(f"{number:.4g}") if math.isfinite(number) else None


def check_builder(build: Any) -> None:
    """Raises UserError for what cannot be called to get a new model."""
    wanted = "`build_model` must be a function without arguments that returns"
    if isinstance(build, keras.Layer) or not callable(build):
        raise UserError(
            f"{wanted} a new model, not the model, as every run begins with "
            f"one. Received: {kind_of(build)}"
        )
    try:
        inspect.signature(build).bind()
    except TypeError as error:
        raise UserError(f"{wanted} a new model. Received: {error}") from error
    except ValueError:  # Of some functions in C it is not known.
        return


def kind_of(value: Any) -> str:
    """Returns what a value is, and whose, for a message.

    >>> kind_of(3), kind_of(np.zeros(3))
    ('int', 'ndarray of numpy')
    """
    kind = type(value)
    package = kind.__module__.partition(".")[0]
    return kind.__name__ + ("" if package == "builtins" else f" of {package}")


def check_kind(model: Any) -> None:
    """Raises UserError for what is no model that a study can train."""
    if not isinstance(model, keras.Model):
        raise UserError(
            "`build_model` must return a keras.Model. "
            f"Received: {kind_of(model)}"
        )
    check_step(type(model))


def check_trained(model: keras.Model) -> None:
    """Raises UserError for a model whose training would learn nothing.

    ``fit`` scales the loss of a model in mixed_float16, without which small
    gradients are zeros there; a study does not.
    """
    if not model.trainable_variables:
        raise UserError(
            "`build_model` must return a model with trainable variables. "
            f"Received: {type(model).__name__} with none of "
            f"{len(model.variables)} trainable"
        )
    for layer in model._flatten_layers():
        if layer.compute_dtype == "float16":
            raise UserError(
                "`build_model` must not return a model that computes in "
                "float16, whose small gradients are lost as a study does not "
                "scale the loss; take mixed_bfloat16 or float32. Received: "
                f"the layer {layer.name} in {layer.dtype_policy.name}"
            )


def check_step(kind: type[keras.Model]) -> None:
    """Raises UserError for models that ``fit`` trains by steps of their own."""
    if kind.train_step is not keras.Model.train_step:
        raise UserError(
            "`build_model` must return a model without a `train_step` of its "
            "own, which a study would not call; put what it does into `loss`, "
            f"`compute_loss` or `add_loss`. Received: {kind.__name__}"
        )


def batch_loss(
    model: keras.Model, examples: Any, training: bool
) -> tuple[tf.Tensor, Any]:
    """Returns the mean loss of a batch, and the model's outputs."""
    inputs, targets = examples
    outputs = model(inputs, training=training)
    loss = model.compute_loss(inputs, targets, outputs, training=training)
    return tf.cast(loss, tf.float32), outputs


@contextlib.contextmanager
def complaints(what: str) -> Iterator[None]:
    """Has what Keras or the user's code raises end in one line."""
    try:
        yield
    except Exception as error:
        reason = textwrap.shorten(str(error), 300) or type(error).__name__
        raise UserError(f"{what}. Received: {reason}") from error
