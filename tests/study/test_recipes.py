"""Studies of recipes: what they are, and what a run of one measures."""

import json
import math
import runpy
import sys
from pathlib import Path

import pytest
import tensorflow as tf
import yaml

from tf_largebatch.errors import DivergenceError, RunError, UserError
from tf_largebatch.garden import recipes as garden
from tf_largebatch.garden import run_folder, trainer
from tf_largebatch.study import (
    folder,
    protocol,
    recipe_training,
    recipes,
    runner,
)
from tf_largebatch.study import ledger as ledgers

EXAMPLES = runpy.run_path(
    str(Path(__file__).parents[1] / "bert" / "random_examples.py")
)
NAMES = ["bert_tiny/adam_32k/phase1", "bert_tiny/lamb_32k/phase1"]
RATE = {"learning_rate": {"scale": "log", "low": 1e-4, "high": 1e-1}}
SPACE = {"optimizers": {"Adam": RATE, "LAMB": RATE}}
STEPS = 4
SIZES = {"trials": 2, "seeds": 2, "target": 4.05}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A YAML file that makes a recipe of pretraining small."""
    data = EXAMPLES["write"](tmp_path_factory.mktemp("examples"))
    settings = EXAMPLES["small"](data)
    settings["trainer"] |= {"validation_interval": 2}
    settings["trainer"]["optimizer_config"] = {
        "learning_rate": {
            "largebatch_bert_polynomial": {
                "total_steps": 2 * STEPS,
                "warmup_steps": 2,
            }
        }
    }
    path = data / "small.yaml"
    path.write_text(yaml.safe_dump(settings))
    return str(path)


@pytest.fixture(scope="module")
def study(small):
    return recipes.create(NAMES, SPACE, **SIZES, config_files=[small])


@pytest.fixture(scope="module")
def row(study):
    return study["table"]["rows"][1]


@pytest.fixture(scope="module")
def run(study, row):
    return protocol.tuning_runs(study, row)[0]


def without_time(line):
    return {**line, "seconds": None}


def test_a_protocol_is_plain_and_has_a_row_a_recipe(study):
    assert ledgers.as_json_has_it(study) == study
    assert yaml.safe_load(yaml.safe_dump(study)) == study
    assert study["name"] == "recipes_bert_pretraining"
    assert (study["steps"], study["workload"]["batch"]) == (STEPS, 16)
    assert study["workload"]["metric"]["direction"] == "min"
    adam, lamb = study["table"]["rows"]
    assert [adam["name"], lamb["name"]] == NAMES
    assert adam["space"] == lamb["space"] == RATE
    assert lamb["optimizer"]["class"] == "LAMB"
    assert lamb["bias_bn_optimizer"] == "Adam"
    assert lamb["optimizer"]["learning_rate"] == 1e-2


@pytest.mark.parametrize("number", [0, 1])
def test_a_row_has_all_that_its_runs_need(study, small, number):
    """No file but study.yaml is looked at."""
    row = study["table"]["rows"][number]
    wanted = recipes.resolve(NAMES[number], [small])
    found = recipes.setup_of(study, row | {"name": "of no file"}, {})
    assert found.settings == wanted.settings


def test_a_run_has_its_point_and_its_seed(study, row, run):
    own = protocol.Run(row["name"], "seed", 0, 7, run.hyperparameters)
    config = recipe_training.Trainer(study).config(row, own)
    rate = config.trainer.optimizer_config.learning_rate
    peak = rate.largebatch_bert_polynomial.peak
    assert peak == run.hyperparameters["learning_rate"] != 1e-2
    assert (config.task.seed, config.task.train_data.seed) == (7, 7)


def test_a_run_takes_all_its_steps(run):
    """Though the recipe would end at its target accuracy."""
    name = "resnet50/mlperf/nesterov_65k"
    assert recipes.resolve(name).config.trainer.target_accuracy == 0.759
    study = recipes.create([name], trials=1, seeds=1)
    (row,) = study["table"]["rows"]
    (own,) = protocol.tuning_runs(study, row)
    config = recipe_training.Trainer(study).config(row, own)
    assert config.trainer.target_accuracy == 0
    assert study["workload"]["target"] == 0.759
    numbers = own.hyperparameters
    assert config.task.model.backbone.gamma_0 == numbers["gamma_0"]
    assert config.task.losses.label_smoothing == numbers["label_smoothing"]


@pytest.mark.parametrize(
    "name, hyperparameter, low",
    [
        ("resnet50/table4/adam_1e-8", "learning_rate", 3e-4),
        ("resnet50/nesterov_a_32k", "norm_epsilon", 1e-6),
        ("resnet50/mlperf/nesterov_65k", "warmup_steps", 200),
        ("bert_large/lamb_32k/phase2", "learning_rate", 5e-4),
    ],
)
def test_the_space_that_ships_for_a_recipe(name, hyperparameter, low):
    override = "task.init_checkpoint=somewhere"
    if not garden.part_of(name):
        override = ""
    setup = recipes.resolve(name, (), override)
    space = recipes.space_of(setup, recipes.shipped_space(name))
    assert space[hyperparameter]["low"] == low


def values(path, value):
    """Returns the flag's text that overrides a value."""
    return {"params_override": f"{path}={value}"}


SQUAD = "bert_tiny/lamb_32k/squad"
LARS = "resnet50/lars_32k"
MISTAKES = [
    ([NAMES[0], NAMES[0]], {}, "names 'bert_tiny/adam_32k/phase1' twice"),
    (["bert_tiny/adam_32k"], {}, "such as bert_tiny/adam_32k/phase1"),
    (
        [NAMES[0], LARS],
        {},
        "the experiment is largebatch/bert_pretraining in bert_tiny/adam_32k",
    ),
    (
        [LARS, "resnet50/table4/lars"],
        {},
        "trainer.train_steps is 2512 in resnet50/lars_32k and 6000 in",
    ),
    (
        [LARS, "resnet50/mlperf/lars_65k"],
        values("trainer.train_steps", 9),
        "task.train_data.global_batch_size is 32768 in resnet50/lars_32k and",
    ),
    ([SQUAD], {}, "begins from a checkpoint of phase2; give its folder"),
    ([NAMES[0]], values("task.sed", 1), "unknown key 'task.sed', in --params"),
    ([NAMES[0]], {"space": None}, "--space=FILE, a file such as official_con"),
    ([NAMES[0]], {"space": {}}, "has no free hyperparameter; add one"),
    (
        [NAMES[0]],
        {"space": {"optimizers": {"Adam": ["beta_1"]}}},
        "has no free hyperparameter; add one",
    ),
    (
        [NAMES[0]],
        {"space": {"optimizers": {"Adam": {"momentun": None}}}},
        "momentun in the space of bert_tiny/adam_32k/phase1 must have the keys",
    ),
    (
        [NAMES[0]],
        {
            "space": {
                "rows": {NAMES[0]: {"weight_decai": RATE["learning_rate"]}}
            }
        },
        "has no hyperparameter 'weight_decai'; did you mean weight_decay?",
    ),
    (
        ["resnet50/table4/adam_1e-8"],
        {
            "space": {
                "optimizers": {"Adam": {"momentum": RATE["learning_rate"]}}
            }
        },
        "unknown key 'trainer.optimizer_config.optimizer.largebatch_adam.mom",
    ),
    ([NAMES[0]], {"target": None}, "no target is public for largebatch/bert_p"),
    ([LARS], {"target": 1.5}, "is 1.5; top-1 accuracy lies between 0 and 1"),
    ([NAMES[0]], {"trials": 0}, "--trials is 0; give at least 1"),
    ([NAMES[0]], {"seeds": 0}, "--seeds is 0; give at least 1"),
    ([NAMES[0]], {"seed": -1}, "--seed is -1; give 0 or more"),
    ([NAMES[0]], values("trainer.train_steps", 0), "trainer.train_steps is 0"),
    (
        [LARS],
        values(
            "trainer.optimizer_config.optimizer.largebatch_lars.variant", "x"
        ),
        "in trainer.optimizer_config; correct it",
    ),
]


@pytest.mark.parametrize("names, changes, words", MISTAKES)
def test_a_study_that_cannot_be(names, changes, words):
    settings = {"space": {"optimizers": {"Adam": RATE, "LARS": RATE}}}
    with pytest.raises(UserError) as caught:
        recipes.create(names, **{**settings, **SIZES, **changes})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def line(study, row, run):
    """What a run measures that leaves nothing behind."""
    return recipe_training.Trainer(study).run(row, run)


def test_a_line_is_json_and_says_what_was_run(line, run, study):
    assert json.loads(json.dumps(line, allow_nan=False)) == line
    assert line["hyperparameters"] == run.hyperparameters
    assert (line["steps"], line["diverged"]) == (STEPS, False)
    assert [point["step"] for point in line["curve"]] == [2, STEPS]
    last = line["curve"][-1]
    for name in ("validation", "validation_loss", "test"):
        assert line[name] == last[name]
    # Of masked words and of the next sentence, which is near log 2.
    assert last["loss"] - line["train"] == pytest.approx(math.log(2), abs=0.1)
    assert 3.5 < line["validation"] < math.log(EXAMPLES["VOCABULARY"])


def test_a_run_that_was_stopped_goes_on_to_the_same_line(
    study, row, run, line, tmp_path, monkeypatch
):
    one = recipe_training.Trainer(study, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(trainer.Trainer, "eval_end", stop)
        with pytest.raises(KeyboardInterrupt):
            one.run(row, run)
    left = {path.name for path in folder.place(tmp_path, run).iterdir()}
    assert "ckpt-2.index" in left and "log.txt" in left
    assert without_time(one.run(row, run)) == without_time(line)
    log = (folder.place(tmp_path, run) / "log.txt").read_text()
    assert "restored model from" in log


def stop(*arguments):
    raise KeyboardInterrupt


@pytest.mark.slow
def test_another_seed_begins_elsewhere(study, row, run, line):
    other = protocol.Run(row["name"], "seed", 0, 1, run.hyperparameters)
    found = recipe_training.Trainer(study).run(row, other)
    assert found["curve"][0]["loss"] != line["curve"][0]["loss"]
    assert found["test"] != line["test"]


@pytest.mark.slow
def test_a_run_that_diverges_counts_as_guessing(study, row, run):
    numbers = {**run.hyperparameters, "learning_rate": 1e30}
    own = protocol.Run(row["name"], "tune", 9, 0, numbers)
    found = recipe_training.Trainer(study).run(row, own)
    assert found["diverged"] and found["steps"] <= STEPS
    assert found["test"] == math.log(EXAMPLES["VOCABULARY"])


def fails(error):
    """Returns a training that ends in an error."""

    def run(config, mode, model_dir):
        print("a line of Orbit's")
        raise error

    return run


def test_what_diverges_is_the_worst_and_is_recorded(
    study, row, run, monkeypatch, capsys
):
    monkeypatch.setattr(
        recipe_training.train, "run", fails(DivergenceError("NaN"))
    )
    found = recipe_training.Trainer(study).run(row, run)
    worst = math.log(EXAMPLES["VOCABULARY"])
    assert found["diverged"]
    assert found["validation"] == found["test"] == found["train"] == worst
    assert found["validation_loss"] is found["steps_to_target"] is None
    assert (found["steps"], len(found["curve"])) == (1, 1)
    json.dumps(found, allow_nan=False)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("error", [UserError("x"), RunError("out of memory")])
def test_what_fails_otherwise_stops_the_worker(
    error, study, row, run, monkeypatch
):
    monkeypatch.setattr(recipe_training.train, "run", fails(error))
    with pytest.raises(type(error)):
        recipe_training.Trainer(study).run(row, run)


@pytest.mark.parametrize(
    "experiment, value, counts",
    [
        ("largebatch/resnet50_imagenet", 0.5, 0.5),
        ("largebatch/resnet50_imagenet", math.nan, 0.0),
        ("largebatch/bert_squad", 0.25, 0.25),
        ("largebatch/bert_pretraining", 3.0, 3.0),
        ("largebatch/bert_pretraining", 5.0, 4.0),
        ("largebatch/bert_pretraining", math.nan, 4.0),
        ("largebatch/bert_pretraining", math.inf, 4.0),
    ],
)
def test_no_run_counts_less_than_the_worst(experiment, value, counts):
    judge = recipes.JUDGES[experiment]
    worst = 0.0 if judge.metric["direction"] == "max" else 4.0
    assert judge.value({judge.figure: value}, worst) == counts


def test_an_evaluation_has_the_figures_that_judge_it(line):
    """Of pretraining by the runs above; of the others by their metrics."""
    from tf_largebatch.resnet import task

    judge = recipes.JUDGES["largebatch/resnet50_imagenet"]
    names = {metric.name for metric in task.make_metrics(training=False)}
    assert {judge.figure, judge.loss} <= names
    assert judge.train in {x.name for x in task.make_metrics(training=True)}


def test_every_experiment_is_judged():
    assert recipes.JUDGES.keys() == garden.EXPERIMENTS.keys()


def test_summaries_are_as_they_were_written_last(tmp_path):
    for second, values in enumerate(({1: 4.0, 2: 3.0}, {2: 2.0, 3: 1.0})):
        new = tmp_path / "new"
        with tf.summary.create_file_writer(str(new)).as_default():
            for step, value in values.items():
                tf.summary.scalar("loss", value, step)
        # Named by the second, and in the same one by how many there were.
        (written,) = new.iterdir()
        newest = written.rename(tmp_path / f"events.out.tfevents.{second}")
    found = recipe_training.summaries(tmp_path)
    assert found == {1: {"loss": 4.0}, 2: {"loss": 2.0}, 3: {"loss": 1.0}}
    assert recipe_training.latest(found, "loss", 2) == 2.0
    assert recipe_training.latest(found, "accuracy", 2) is None
    newest.write_bytes(newest.read_bytes()[:-5])  # Killed while it wrote.
    found = recipe_training.summaries(tmp_path)
    assert found == {1: {"loss": 4.0}, 2: {"loss": 2.0}}


def leaves_a_checkpoint(place, error=None):
    """Returns what stands in for a study's training."""

    def train(row, run, is_hopeless):
        own = folder.place(place, run)
        own.mkdir(parents=True)
        (own / "ckpt-4.index").touch()
        if error:
            raise error
        numbers = dict.fromkeys(("validation", "test", "train"), 4.0)
        numbers |= {"index": run.index, "validation_loss": 4.0}
        return {**numbers, "hyperparameters": dict(run.hyperparameters)}

    return lambda study: train


@pytest.mark.parametrize(
    "more, error, left",
    [
        ({}, None, 0),
        ({"keep_checkpoints": True}, None, 8),
        ({}, KeyboardInterrupt(), 1),
    ],
)
def test_checkpoints_stay_until_the_line_is_written(
    study, more, error, left, tmp_path
):
    ledger = folder.create(tmp_path, {**study, **more}, None)
    ledger.folder = tmp_path
    events = runner.execute(ledger, leaves_a_checkpoint(tmp_path, error))
    if error:
        with pytest.raises(KeyboardInterrupt):
            list(events)
    else:
        list(events)
    assert ledger.done == (0 if error else 8)
    assert len([*tmp_path.rglob("ckpt-4.index")]) == left
    assert (tmp_path / "runs").exists() == bool(left)
    ledger.close()


def test_a_study_of_recipes_is_trained_as_such(study, tmp_path, monkeypatch):
    monkeypatch.setattr(recipe_training.Trainer, "run", "its run")
    assert runner.training(study, tmp_path) == "its run"


def test_a_study_of_recipes_needs_the_garden(study, monkeypatch):
    monkeypatch.setitem(
        sys.modules, "tf_largebatch.study.recipe_training", None
    )
    words = r"pip install 'tf-largebatch\[garden,study\]'"
    with pytest.raises(UserError, match=words):
        runner.training(study)


def test_a_folder_that_cannot_be_written_to(study, row, run, tmp_path):
    (tmp_path / "runs").write_text("all my work")
    with pytest.raises(UserError, match="cannot write to"):
        recipe_training.Trainer(study, tmp_path).run(row, run)


def test_the_settings_that_differ_make_the_others():
    name = "resnet50/lars_32k"
    config = garden.experiment_config(name)
    setup = recipes.Setup(name, garden.load(name).experiment, config)
    again = recipes.configured(setup.experiment, setup.overrides, "x")
    assert run_folder.as_yaml(again) == run_folder.as_yaml(config)
    assert "runtime" not in setup.overrides
