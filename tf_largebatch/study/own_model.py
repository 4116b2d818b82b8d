"""A fair comparison of optimizers on a user's own Keras 3 model."""

import contextlib
import math
import numbers
import os
import pathlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import optuna

import tf_largebatch.keras
from tf_largebatch import configs
from tf_largebatch.errors import UserError
from tf_largebatch.study import (
    checking,
    console,
    ledger,
    optimizer_classes,
    protocol,
    table_rows,
    tables,
)
from tf_largebatch.study import folder as folders
from tf_largebatch.study.spaces import is_integer
from tf_largebatch.study.training import Trainer
from tf_largebatch.workloads import arrays, keras_model

TABLE = {
    "name": "compare",
    "title": "Which optimizer for this model?",
    "question": [
        "Which of these optimizers learns this model best, when all of them "
        "are tuned alike?"
    ],
    "paper": None,
    "paper_task": None,
}


def compare(
    build_model: Callable[[], keras.Model],
    train_data: tuple[Any, Any],
    test_data: tuple[Any, Any],
    rows: Sequence[str | Mapping[str, Any]],
    *,
    loss: Any,
    target: float,
    batch_size: int,
    steps: int,
    out: str | os.PathLike[str],
    metric: Any = "accuracy",
    direction: str | None = None,
    validation_data: tuple[Any, Any] | None = None,
    validation_fraction: float = 0.2,
    trials: int = 8,
    tuning_seeds: int = 1,
    seeds: int = 5,
    seed: int = 0,
    settings: Mapping[str, Any] | None = None,
    space: Mapping[str, Any] | None = None,
    evaluations: int = 12,
    workload_name: str = "my model",
) -> dict[str, Any]:
    """Tunes every optimizer alike, compares over seeds, writes a report.

    Each row gets ``trials`` runs at quasi-random points of its search space,
    all of ``steps`` steps. The point with the best validation metric is run
    again with ``seeds`` fresh seeds, and these runs are compared by their
    medians on the test data. How far it is stands on standard error.

    It is all in the folder ``out``: ``report.html`` to look at,
    ``summary.json``, every run in ``trials.jsonl``, the protocol in
    ``study.yaml``, the ledger in ``study.db``. What is interrupted, by Ctrl-C
    say, goes on where it was when the same call is made again.

    One compiled program does all runs of an optimizer, and all of a run's
    randomness follows from its seed: initial weights, order of the examples,
    dropout. Python's, NumPy's and TensorFlow's own seeds are set on the way.

    Args:
        build_model: a function without arguments that returns a new model for
            Keras 3's TensorFlow backend. It need not be compiled, and what it
            is compiled with has no effect. Its ``compute_loss`` and
            ``add_loss`` are used, and a ``train_step`` of its own is refused.
            So is a layer that computes in float16, as the loss is not scaled
            like in ``fit``; ``mixed_bfloat16`` needs no scale.
        train_data: inputs and targets, each an array, a list of numbers, or
            lists, tuples and dicts of arrays, as the model takes them. All is
            held in memory. There are no weights of examples.
        test_data: the same, for the figures that are reported.
        rows: names of optimizers of :mod:`tf_largebatch.keras`, such as
            ``"Nesterov"`` and ``"LARS"``, or mappings like the rows in
            ``official_configs/tables``: ``{"name": "slow Adam", "optimizer":
            {"class": "Adam", "beta_2": 0.9999}, "space": {...}}``.
        loss: as ``keras.Model.compile`` takes it: a name, a function or an
            object of ``keras.losses``. The model's own losses, such as
            regularisers', are added.
        target: the value of the metric from which on a run is a hit. Decide
            on it before, not after.
        batch_size: examples of a step.
        steps: of every run.
        out: the study's folder, a new one or this study's.
        metric: a name of ``keras.metrics``, a function of targets and outputs
            that returns a value an example, or a metric object. The function
            gets both as Keras's losses do: targets of shape (N,) as (N, 1)
            where the outputs are that.
        direction: ``"max"`` or ``"min"``. May be left out for accuracies.
        validation_data: what the point is chosen by. Without it, a part of
            ``train_data`` is held out, the same one every time.
        validation_fraction: how large that part is.
        trials: tuning runs of every row.
        tuning_seeds: runs of each of them, of which the median counts.
        seeds: runs of every row at its best point.
        seed: of the whole study.
        settings: the learning rate's schedule, of all rows: ``schedule`` and
            what it reads, see :mod:`tf_largebatch.study.settings`. Without
            it, a cosine without warmup.
        space: search spaces, like a file of ``official_configs/spaces``;
            without it ``own_model.yaml`` there, whose spaces are wide.
        evaluations: how often a run is measured.
        workload_name: what the report calls the model and its data.

    Returns:
        What ``summary.json`` holds.

    Raises:
        UserError: an argument that makes no study, or does not fit the
            others; ``out`` holds another study. It is a ``ValueError``.

    Example:

    >>> import keras, numpy, tempfile
    >>> from tf_largebatch import study
    >>> x = numpy.random.default_rng(0).normal(size=(120, 4))
    >>> y = (x.sum(1) > 0).astype("int32")
    >>> summary = study.compare(
    ...     lambda: keras.Sequential([
    ...         keras.Input((4,)), keras.layers.Dense(1, "sigmoid")]),
    ...     train_data=(x[:80], y[:80]), test_data=(x[80:], y[80:]),
    ...     rows=["Nesterov", "Adam"], loss="binary_crossentropy", target=0.9,
    ...     batch_size=32, steps=12, trials=2, seeds=2,
    ...     out=tempfile.mkdtemp())
    >>> [(row["name"], row["seeds"]) for row in summary["rows"]]
    [('Nesterov', 2), ('Adam', 2)]
    """
    sizes = {"steps": steps, "trials": trials, "seeds": seeds}
    more = {"tuning_seeds": tuning_seeds, "evaluations": evaluations}
    check_backend()
    check_counts({**sizes, **more, "batch_size": batch_size}, seed)
    splits, split_text = split(
        train_data, test_data, validation_data, validation_fraction, batch_size
    )
    config = {
        **workload_of(workload_name, metric, direction, target),
        "batch": batch_size,
        "split_text": split_text,
        "evaluations": evaluations,
    }
    table = table_of(rows, settings or {})
    if tuning_seeds > 1:
        sizes["tuning_seeds"] = tuning_seeds
    with in_python():
        # Refuses what makes no study before a model is built.
        plan(config, table, space, sizes, seed)
        task = keras_model.Task(config, build_model, splits, loss, metric)
        return work(plan(task.config, table, space, sizes, seed), task, out)


def plan(
    workload: Mapping[str, Any],
    table: Mapping[str, Any],
    space: Mapping[str, Any] | None,
    sizes: Mapping[str, int],
    seed: int,
) -> dict[str, Any]:
    """Returns the study's protocol.

    Args:
        workload: what is learnt.
        table: the rows and what they share.
        space: the search spaces, beside those that rows bring.
        sizes: ``steps``, ``trials``, ``seeds`` and perhaps ``tuning_seeds``.
        seed: of the study.

    Raises:
        UserError: a row, a space or a number makes no study.
    """
    spaces = with_own_spaces(space, table["rows"])
    study = protocol.assemble(workload, table, spaces, sizes, seed)
    check_rows(study)
    try:
        plain = ledger.as_json_has_it(study)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"`rows` and `settings` must be what a file can hold: {error}"
        ) from error
    checking.check(plain, "the arguments")
    return study


def work(
    study: Mapping[str, Any],
    task: keras_model.Task,
    out: str | os.PathLike[str],
) -> dict[str, Any]:
    """Does the runs of a study that are not done; returns its summary."""
    folder = pathlib.Path(out)
    with quiet_optuna():
        ledger = folders.create(folder, study, None)
        with contextlib.closing(ledger):
            with console.saved(ledger, folder, "the same call"):
                console.train(
                    ledger,
                    folder,
                    prepare=lambda study: Trainer(study, task).run,
                )
            return console.write(ledger, folder)


@contextlib.contextmanager
def quiet_optuna() -> Iterator[None]:
    """Has Optuna say what matters alone."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)


@contextlib.contextmanager
def in_python() -> Iterator[None]:
    """Has messages speak of arguments where they speak of flags."""
    try:
        yield
    except UserError as error:
        text = re.sub(r"(?<!\w)--(\w+)", r"`\1`", str(error))
        raise UserError(text) from error


def check_backend() -> None:
    """Raises UserError where Keras does not run on TensorFlow."""
    found = keras.config.backend()
    if found != "tensorflow":
        raise UserError(
            "`compare` needs Keras's TensorFlow backend; set KERAS_BACKEND="
            f"tensorflow before Keras is imported. Received: {found}"
        )


def check_counts(counts: Mapping[str, Any], seed: Any) -> None:
    """Raises UserError for a number that is no such count, or no seed."""
    for name, count in counts.items():
        if not is_integer(count) or count < 1:
            raise UserError(
                f"`{name}` must be an integer, at least 1. Received: {count!r}"
            )
    most = protocol.MOST["seed"]
    if not is_integer(seed) or not 0 <= seed <= most:
        raise UserError(
            f"`seed` must be an integer from 0 to {most}. Received: {seed!r}"
        )


def checked_name(name: Any) -> str:
    """Returns a workload's name.

    Raises:
        UserError: the ledger cannot have it.
    """
    if not protocol.is_name(name):
        raise UserError(
            "`workload_name` must be a name without a slash. "
            f"Received: {name!r}"
        )
    return name


def split(
    train: Any, test: Any, validation: Any, fraction: float, batch: int
) -> tuple[dict[str, arrays.Data], str]:
    """Returns the splits as arrays, and the words before their sizes.

    Raises:
        UserError: data are not alike, or too few for a batch.
    """
    data = arrays.checked(train, "train_data")
    splits = {"train": data}
    if validation is None:
        splits["train"], splits["validation"] = arrays.hold_out(data, fraction)
        text = (
            f"A random {100 * fraction:g} % of the training data is held out "
            "to choose by:"
        )
    else:
        splits["validation"] = arrays.checked(validation, "validation_data")
        text = "The examples were split by the user:"
    splits["test"] = arrays.checked(test, "test_data")
    for name in ("validation", "test"):
        arrays.check_alike(data, splits[name], f"{name}_data")
    check_batch(batch, splits["train"])
    return splits, text


def check_batch(size: int, train: arrays.Data) -> None:
    """Raises UserError for a batch that is larger than the training data."""
    examples = arrays.length(train)
    if size > examples:
        raise UserError(
            f"`batch_size` must be at most the {examples} examples that are "
            f"trained on. Received: {size}"
        )


def workload_of(
    name: str, metric: Any, direction: str | None, target: Any
) -> dict[str, Any]:
    """Returns what is learnt and how it is judged.

    Raises:
        UserError: the name cannot be had, it is not known which values of the
            metric are better, or no run can have the target.
    """
    judged = metric_name(metric)
    if direction is None and is_share(judged):
        direction = "max"
    if direction not in ("max", "min"):
        raise UserError(
            f"`direction` must be 'max' or 'min' for the metric {judged}. "
            f"Received: {direction!r}"
        )
    return {
        "name": checked_name(name),
        "python": True,
        "metric": {"name": judged, "direction": direction},
        "target": checked_target(judged, target),
        "settings": {},
    }


def metric_name(metric: Any) -> str:
    """Returns what a metric is called; lambdas have no name to show.

    Raises:
        UserError: it is none.
    """
    name = getattr(metric, "name", None) or getattr(metric, "__name__", metric)
    if not isinstance(name, str):
        raise UserError(
            "`metric` must be a name, a function or an object of "
            f"keras.metrics. Received: {type(metric).__name__}"
        )
    if name == "<lambda>":
        return "metric"
    return unnumbered(name, type(metric).__name__)


def unnumbered(name: str, kind: str) -> str:
    """Returns an object's name without a number that Keras has put there.

    It numbers names that it makes of the class's, so that the same call made
    again has another one.

    >>> unnumbered("mean_io_u_1", "MeanIoU"), unnumbered("at_5", "Precision")
    ('mean_io_u', 'at_5')
    """
    stem = re.sub(r"_\d+$", "", name)
    made = stem.replace("_", "") == kind.replace("_", "").lower()
    return stem if made else name


def is_share(name: str) -> bool:
    """Whether a metric of this name is from 0 to 1, and 1 the best."""
    return name.endswith("accuracy")


def checked_target(metric: str, target: Any) -> float:
    """Returns the target, of the metric of this name.

    Raises:
        UserError: no run can have that value.
    """
    share = is_share(metric)
    number = isinstance(target, numbers.Real) and not isinstance(target, bool)
    valid = number and math.isfinite(target)
    if not valid or (share and not 0 <= target <= 1):
        wanted = "a number from 0 to 1" if share else "a finite number"
        raise UserError(f"`target` must be {wanted}. Received: {target!r}")
    return float(target)


def table_of(
    rows: Sequence[str | Mapping[str, Any]], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Returns the rows as a table, with what all of them share."""
    if not isinstance(rows, (list, tuple)) or not rows:
        raise UserError(
            "`rows` must be a list of at least one optimizer or row. "
            f"Received: {rows!r}"
        )
    if not isinstance(settings, Mapping):
        raise UserError(f"`settings` must be a mapping. Received: {settings!r}")
    return TABLE | {"settings": dict(settings), "rows": [*map(row_of, rows)]}


def row_of(row: str | Mapping[str, Any]) -> dict[str, Any]:
    """Returns a row as a table's YAML file has it.

    >>> row_of("LARS")["bias_bn_optimizer"]
    'Momentum'
    """
    given = {"optimizer": {"class": row}} if isinstance(row, str) else row
    found = tables.complete(given, "`rows`")
    if not table_rows.is_path(found["name"]):
        raise UserError(f"a row must have a name. Received: {row!r}")
    return found


def with_own_spaces(
    space: Mapping[str, Any] | None, rows: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    """Returns the search spaces, those that rows bring among them."""
    shared = configs.load("spaces", "own_model") if space is None else space
    of_rows = shared.get("rows", {}) if isinstance(shared, Mapping) else None
    if not isinstance(of_rows, Mapping):
        raise UserError(
            "`space` must be a mapping, like a file of official_configs/"
            f"spaces. Received: {space!r}"
        )
    own = {row["name"]: row["space"] for row in rows if "space" in row}
    return {**shared, "rows": {**of_rows, **own}}


def check_rows(study: Mapping[str, Any]) -> None:
    """Raises UserError for rows of one name, or with impossible values."""
    rows = study["table"]["rows"]
    names = [row["name"] for row in rows]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"`rows` must have different names. Received: {name!r} twice"
            )
    for row in rows:
        protocol.tuned_row(study, row)
        arguments = dict(row["optimizer"])
        name = arguments.pop("class")
        optimizer = optimizer_classes.class_in(tf_largebatch.keras, name)
        try:
            optimizer(**{"learning_rate": 1.0, **arguments})
        except (TypeError, ValueError) as error:
            raise UserError(f"row {row['name']!r}: {error}") from error
