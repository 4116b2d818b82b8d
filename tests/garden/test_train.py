"""Runs through the Model Garden: trained, stopped, resumed, misused."""

import contextlib
import functools
import json
import re
import shutil
import types

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.core import task_factory

from tf_largebatch import experiments
from tf_largebatch.errors import (
    DivergenceError,
    DoesNotFitError,
    RunError,
    UserError,
)
from tf_largebatch.garden import checking, recipes, run_folder, train
from tf_largebatch.garden.trainer import Trainer

NESTEROV, LARS = "resnet50/nesterov_b_32k", "resnet50/lars_32k"
ADAM, LAMB = "resnet50/table4/adam_1e-8", "resnet50/table4/lamb"
OTHERS = [
    name
    for name in recipes.names()
    if name.startswith("resnet50/") and name not in (NESTEROV, LARS, ADAM, LAMB)
]
LONG = [pytest.mark.slow, pytest.mark.long]


def state(folder, step):
    """Returns all that a checkpoint holds, by name."""
    reader = tf.train.load_checkpoint(str(folder / f"ckpt-{step}"))
    names = reader.get_variable_to_shape_map()
    return {
        name: reader.get_tensor(name)
        for name in names
        if not name.startswith(("_CHECKPOINTABLE", "save_counter"))
    }


def assert_same_but_for_rounding(found, expected):
    """To 1e-5 of every variable's norm.

    Mostly it is to the last bit. But TensorFlow does not promise the order in
    which it adds up, and on a busy machine it now and then is another one.
    Data of another step, or a slot that begins anew, moves all by far more.
    """
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        off = np.linalg.norm(np.float64(found[name]) - value)
        assert off <= 1e-5 * np.linalg.norm(value), name


def stopped_at(step, folder, copy):
    """Makes a folder as it was when that step was saved."""
    copy.mkdir()
    for path in [*folder.glob(f"ckpt-{step}.*"), folder / "params.yaml"]:
        shutil.copy(path, copy)
    tf.compat.v1.train.update_checkpoint_state(
        str(copy), str(copy / f"ckpt-{step}")
    )
    return copy


@pytest.mark.parametrize(
    "name, mode",
    [
        (NESTEROV, "train"),
        (LARS, "train_and_post_eval"),
        (ADAM, "train_and_eval"),
        pytest.param(LAMB, "train", marks=pytest.mark.slow),
        *(pytest.param(name, "train", marks=LONG) for name in OTHERS),
    ],
)
def test_a_run_that_goes_on_ends_where_it_would_have_ended(
    name, mode, trained, small, tmp_path
):
    folder = trained(name)
    first, last = state(folder, 1), state(folder, 4)
    moved = [np.any(first[key] != last[key]) for key in last]
    assert np.mean(moved) > 0.5

    copy = stopped_at(2, folder, tmp_path / "copy")
    figures = train.run(small(name), mode, str(copy))
    assert_same_but_for_rounding(state(copy, 4), last)
    if mode == "train":
        assert figures == {"step": 4}
    else:
        expected = json.loads((folder / "figures.json").read_text())
        assert figures == pytest.approx(expected, rel=1e-4)


def test_loops_that_are_one_program_change_nothing(trained, small, tmp_path):
    config = small(
        LARS,
        trainer={
            "train_tf_while_loop": True,
            "steps_per_loop": 4,
            "summary_interval": 4,
            "checkpoint_interval": 4,
        },
    )
    train.run(config, "train", str(tmp_path))
    assert_same_but_for_rounding(state(tmp_path, 4), state(trained(LARS), 4))


@pytest.mark.slow
def test_xla_computes_the_same(trained, small, tmp_path):
    config = small(LARS, runtime={"enable_xla": True})
    train.run(config, "train", str(tmp_path))
    found, expected = (
        summaries(folder / "train") for folder in (tmp_path, trained(LARS))
    )
    for name in ("training_loss", "gradient_norm"):
        for step in (1, 2):
            assert found[name][step] == pytest.approx(
                expected[name][step], rel=1e-5
            )


def summaries(folder):
    """Returns the figures that TensorBoard shows: by name, then by step."""
    found = {}
    for path in sorted(folder.glob("events*")):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                number = float(tf.make_ndarray(value.tensor))
                found.setdefault(value.tag, {})[event.step] = number
    return found


def test_summaries_have_what_the_optimizer_did(trained):
    found = summaries(trained(LARS) / "train")
    ratios = [f"trust_ratio_{name}" for name in ("min", "median", "max")]
    assert set(found) == {
        *("training_loss", "accuracy", "learning_rate", "gradient_norm"),
        *("l2_penalty", "examples_per_second", "steps_per_second", *ratios),
    }
    for step, rate in enumerate(recipes.load(LARS).rates()[:4], 1):
        assert found["learning_rate"][step] == pytest.approx(rate, rel=3e-7)
        low, middle, high = (found[name][step] for name in ratios)
        assert 0 < low <= middle <= high and low < high
        assert found["gradient_norm"][step] > 0
        # Orbit's clock also runs while it saves.
        per_step = found["examples_per_second"][step] / 16
        assert per_step > 0.99 * found["steps_per_second"][step] > 0
    assert set(summaries(trained(NESTEROV) / "train")).isdisjoint(ratios)


def test_the_penalty_is_of_the_weights_at_the_end(trained):
    found = summaries(trained(NESTEROV) / "train")["l2_penalty"][4]
    kernels = [
        np.sum(value.astype("float64") ** 2)
        for name, value in state(trained(NESTEROV), 4).items()
        if name.startswith("model/") and value.ndim > 1
    ]
    assert len(kernels) == 13
    assert found == pytest.approx(5.8e-5 / 2 * sum(kernels), rel=1e-5)


@pytest.mark.parametrize("mode", ["eval", "continuous_eval"])
def test_evaluation_alone_gives_the_figures_of_training(mode, trained, small):
    folder = trained(NESTEROV)
    before = sorted(folder.iterdir())
    config = small(trainer={"continuous_eval_timeout": 1})
    config.task.train_data.input_path = ""  # Not needed.
    figures = train.run(config, mode, str(folder))
    assert figures == json.loads((folder / "figures.json").read_text())
    assert figures["step"] == 4 and figures["examples"] == 50
    assert sorted(folder.iterdir()) == before


def test_bfloat16_is_of_the_activations_alone(trained):
    dtypes = {value.dtype.name for value in state(trained(ADAM), 4).values()}
    assert dtypes == {"float32", "int64"}
    assert tf_keras.mixed_precision.global_policy().name == "float32"


def test_layers_compute_in_bfloat16(small):
    with train.precision(small().runtime):
        assert tf_keras.layers.Dense(1).compute_dtype == "float32"
    runtime = small(runtime={"mixed_precision_dtype": "bfloat16"}).runtime
    with train.precision(runtime):
        layer = tf_keras.layers.Dense(1)
    assert layer.compute_dtype == "bfloat16"
    assert layer.variable_dtype == "float32"


def test_a_run_that_diverges_says_so_and_saves_no_ruin(small, tmp_path):
    rate = {"constant": {"learning_rate": 1e38}, "type": "constant"}
    config = small(trainer={"optimizer_config": {"learning_rate": rate}})
    words = r"diverged: in step \d+ the gradient of .*kernel:0 .*not finite"
    with pytest.raises(DivergenceError, match=words) as error:
        train.run(config, "train", str(tmp_path))
    assert "\n" not in str(error.value)
    assert not list(tmp_path.glob("ckpt-4.*"))


@pytest.mark.parametrize(
    "name, value",
    [
        ("checkpoint_interval", 0),
        ("evaluation_epochs", -1.0),
        ("evaluation_epochs", float("nan")),
        ("evaluation_epochs", float("inf")),
        ("max_to_keep", 0),
        ("summary_interval", 0),
        ("train_steps", 0),
        ("validation_interval", -5),
        ("validation_steps", 0),
        ("validation_steps", -2),
    ],
)
def test_numbers_that_a_trainer_cannot_have(name, value, small, tmp_path):
    config = small(trainer={name: value})
    words = re.escape(f"{name} is {value}, in trainer; give ")
    with pytest.raises(UserError, match=words):
        train.run(config, "train_and_eval", str(tmp_path / "run"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "settings, words",
    [
        (
            {"optimizer_config": {"ema": {"average_decay": 0.9}}},
            "ema is set, in trainer.optimizer_config; leave it out",
        ),
        (
            {"best_checkpoint_export_subdir": "best"},
            "best_checkpoint_eval_metric '', in trainer; give both or none",
        ),
        (
            {"best_checkpoint_eval_metric": "accuracy"},
            "best_checkpoint_export_subdir is '' and ",
        ),
        (
            {
                "best_checkpoint_export_subdir": "best",
                "best_checkpoint_eval_metric": "accuracy",
                "best_checkpoint_metric_comp": "highest",
            },
            "comp is 'highest', in trainer; give one of higher, lower",
        ),
    ],
)
def test_what_a_trainer_would_end_by_later(settings, words, small, tmp_path):
    config = small(trainer=settings)
    with pytest.raises(UserError, match=re.escape(words)):
        train.run(config, "train_and_eval", str(tmp_path / "run"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", recipes.names())
def test_every_recipe_ends_with_its_schedule(name):
    config = recipes.experiment_config(name)
    assert not [*checking.notes(config, "train")]
    steps = config.trainer.train_steps
    short = config.replace(trainer={"train_steps": 4})
    (note,) = checking.notes(short, "train")
    assert note.startswith(
        "train_steps is 4, and the learning rate's schedule is for "
        f"{steps}; to change that as well give trainer.optimizer_config."
    )
    assert not [*checking.notes(short, "eval")]


def test_settings_that_nothing_reads_are_named(small):
    config = small(runtime={"run_eagerly": True, "loss_scale": "dynamic"})
    assert [*checking.notes(config, "eval")] == [
        "loss_scale is dynamic, in runtime, where it has no effect",
        "run_eagerly is True, in runtime, where it has no effect",
    ]


@pytest.mark.parametrize("there", [False, True])
def test_a_run_begins_from_a_checkpoint_that_is_there(there, small, tmp_path):
    """A folder without one would be no error of the Model Garden's."""
    start = tmp_path / "start"
    if there:
        start.mkdir()
    config = small(task={"init_checkpoint": str(start)})
    with pytest.raises(UserError, match=f"there is no checkpoint {start}"):
        train.run(config, "train", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_steps_to_train_are_for_training():
    config = recipes.experiment("largebatch/bert_squad")
    assert config.trainer.train_steps == 0
    checking.resolve(config, "eval")


@pytest.mark.parametrize("name", ["num_examples", "global_batch_size"])
def test_an_epoch_must_have_a_length(name, small):
    data = {"train_data": {name: 0}}
    config = small(trainer={"evaluation_epochs": 4}, task=data)
    with pytest.raises(UserError, match=f"evaluation_epochs .* {name} is 0"):
        checking.resolve(config, "eval")


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "name", [NESTEROV, "bert_tiny/adam_32k/phase1", "bert_tiny/adam_32k/squad"]
)
def test_data_is_used_for_what_it_is_for(name, training):
    config = recipes.experiment_config(name)
    data = "train_data" if training else "validation_data"
    getattr(config.task, data).is_training = not training
    task = task_factory.get_task(config.task)
    words = f"is_training is {not training}, in task.{data}; leave it at"
    with pytest.raises(UserError, match=words):
        train.find_data(task, "train" if training else "eval")


@pytest.mark.parametrize(
    "name, mode", [("train_data", "train"), ("validation_data", "eval")]
)
def test_batches_hold_something(name, mode, small):
    config = small(task={name: {"global_batch_size": 0}})
    words = f"global_batch_size is 0, in task.{name}; give 1 or more"
    with pytest.raises(UserError, match=words):
        train.find_data(task_factory.get_task(config.task), mode)


@pytest.mark.parametrize("strategy", ["mirrored", "one_device", "Mirrored"])
@pytest.mark.parametrize("there, asked", [(0, 1), (1, 2), (2, 8)])
def test_no_more_gpus_are_used_than_there_are(
    strategy, there, asked, small, monkeypatch
):
    monkeypatch.setattr(
        tf.config, "list_physical_devices", lambda kind: [None] * there
    )
    runtime = {"distribution_strategy": strategy, "num_gpus": asked}
    words = f"num_gpus is {asked}, in runtime, but TensorFlow finds {there} "
    with pytest.raises(UserError, match=words):
        train.make_strategy(small(runtime=runtime).runtime)


def test_a_run_that_is_too_large_does_not_fit():
    full = tf.errors.ResourceExhaustedError(None, None, "OOM when allocating")
    with pytest.raises(DoesNotFitError, match="give a smaller trainer.micro_"):
        with train.explained(contextlib.nullcontext(), one_of_several=False):
            raise full


def test_no_more_updates_are_skipped_than_may_be(small, tmp_path):
    """From the second step on no gradient is finite."""
    rate = {"constant": {"learning_rate": 1e38}, "type": "constant"}
    optimizer = {"optimizer_config": {"learning_rate": rate}}
    config = small(trainer={**optimizer, "max_skipped_updates": 2})
    with pytest.raises(DivergenceError, match="in step 4 the gradient of"):
        train.run(config, "train", str(tmp_path))
    newest = tf.train.load_checkpoint(str(tmp_path / "ckpt-3"))
    (name,) = [
        name
        for name in newest.get_variable_to_shape_map()
        if name.startswith("skipped_updates")
    ]
    assert newest.get_tensor(name) == 2


def test_a_broken_picture_is_named(pictures, trained, small, tmp_path):
    path = tmp_path / "validation-0"
    records = [
        record.numpy()
        for record in tf.data.TFRecordDataset(str(pictures / path.name))
    ]
    records[7] = records[7].replace(b"JFIF", b"....").replace(b"\xff", b"\0")
    with tf.io.TFRecordWriter(str(path)) as file:
        for record in records:
            file.write(record)
    data = {"input_path": str(path), "num_examples": len(records)}
    config = small(task={"validation_data": data})
    with pytest.raises(UserError, match=f"{path}, record 7 ") as error:
        train.run(config, "eval", str(trained(NESTEROV)))
    assert "\n" not in str(error.value)


def test_an_evaluation_that_loses_an_example_fails():
    examples = tf_keras.metrics.Sum("examples")
    examples.update_state(9.0)
    data = types.SimpleNamespace(num_examples=10)
    trainer = types.SimpleNamespace(
        validation_metrics=[examples],
        config=types.SimpleNamespace(
            trainer=types.SimpleNamespace(validation_steps=-1)
        ),
        task=types.SimpleNamespace(
            task_config=types.SimpleNamespace(validation_data=data)
        ),
    )
    trainer.task.check_evaluation = functools.partial(
        experiments.Task.check_evaluation, trainer.task
    )
    with pytest.raises(RunError, match="counted 9 examples of 10"):
        Trainer.eval_end(trainer)


@pytest.mark.parametrize(
    "epochs, batch, expected", [(4, 32768, 157), (4, 65536, 79), (0.5, 96, 1)]
)
def test_evaluations_can_be_so_many_epochs_apart(
    epochs, batch, expected, small
):
    config = small(
        trainer={"evaluation_epochs": epochs},
        task={
            "train_data": {
                "global_batch_size": batch,
                "num_examples": 1_281_167 if batch > 96 else 96,
            }
        },
    )
    resolved = checking.resolve(config, "train_and_eval")
    assert resolved.trainer.validation_interval == expected
    assert checking.resolve(small(), "eval").trainer.validation_interval == 4


def test_another_recipes_folder_is_left_alone(trained, small):
    folder = trained(LARS)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    with pytest.raises(UserError, match=f"{folder} holds a run of another"):
        train.run(small(NESTEROV), "train", str(folder))
    config = small(LARS)
    config.task.model.backbone.gamma_0 = 0.5
    for mode in ("eval", "train"):
        with pytest.raises(UserError, match="gamma_0 is 0.0 there, not 0.5"):
            train.run(config, mode, str(folder))
    assert before == {p: p.stat().st_mtime_ns for p in folder.rglob("*")}


@pytest.mark.parametrize(
    "change",
    [
        {"trainer": {"micro_batch_size": 16, "max_to_keep": 2}},
        {"task": {"validation_data": {"global_batch_size": 3}}},
    ],
)
def test_what_does_not_make_a_recipe_may_change(change, trained, small):
    run_folder.check(
        str(trained(LARS)), small(LARS, **change), run_folder.OF_THE_RUN
    )


def test_what_may_change_is_said_where_it_counts(
    trained, small, tmp_path, capsys
):
    folder = str(stopped_at(2, trained(LARS), tmp_path / "copy"))
    run_folder.claim(folder, small(LARS, trainer={"max_to_keep": 2}))
    assert not capsys.readouterr().err
    data = {"train_data": {"seed": 7, "input_path": "elsewhere"}}
    run_folder.claim(folder, small(LARS, task=data))
    said = capsys.readouterr().err
    assert said.startswith(
        "goes on with other settings than before: task.train_data.seed is "
    )
    assert said.endswith(" there, not 7\n")


def test_a_folder_without_its_settings_is_no_run(trained, small, tmp_path):
    copy = stopped_at(2, trained(LARS), tmp_path / "copy")
    for content in (None, "task: [", "7"):
        (copy / "params.yaml").unlink()
        if content:
            (copy / "params.yaml").write_text(content)
        with pytest.raises(UserError, match="cannot read .*params.yaml") as e:
            run_folder.claim(str(copy), small(LARS))
        assert "\n" not in str(e.value)
        (copy / "params.yaml").write_text(content or "")


@pytest.mark.parametrize(
    "values",
    [
        {"seed": -1},
        {"model": {"encoder": {"bert": {"hidden_size": -8}}}},
        {"model": {"encoder": {"bert": {"num_layers": 0}}}},
        {"model": {"encoder": {"bert": {"hidden_activation": "none such"}}}},
    ],
)
def test_what_no_network_can_have_is_one_line(values):
    recipe = "bert_tiny/adam_32k/phase1"
    config = recipes.experiment_config(recipe, {"task": values})
    task = task_factory.get_task(config.task)
    with pytest.raises(UserError, match="no network can be built") as caught:
        train.build_model(task)
    assert "\n" not in str(caught.value)
