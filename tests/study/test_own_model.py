"""A study of a user's own model, called from Python and run for real."""

import json
import math
import re
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import yaml

from tf_largebatch import configs, study
from tf_largebatch.cli.main import main
from tf_largebatch.errors import UserError
from tf_largebatch.optimizers import OPTIMIZERS
from tf_largebatch.study import own_model, protocol
from tf_largebatch.study.training import Trainer

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(90, 4)).astype("float32")
Y = (X.sum(1) > 0).astype("int32")
TRAIN, TEST = (X[:60], Y[:60]), (X[60:], Y[60:])
SLOW = {
    "name": "slow",
    "optimizer": {"class": "Adam", "beta_2": 0.9999},
    "settings": {"warmup_fraction": 0.25},
    "space": {"learning_rate": {"scale": "log", "low": 0.001, "high": 0.1}},
}
ADAM = {"class": "Adam"}
BETA = {"scale": "one_minus_log", "low": 0.5, "high": 0.99}
ADAPTED = {**SLOW, "space": {**SLOW["space"], "beta_1": BETA}}


def like(base, name="b", **more):
    """Returns a row that has the values tuned for another."""
    return {"name": name, "optimizer": {**ADAM, **more}, "tuned_as": base}


SMALL = {
    "rows": ["Nesterov", "LARS", SLOW],
    "loss": "binary_crossentropy",
    "target": 0.8,
    "batch_size": 16,
    "steps": 12,
    "trials": 2,
    "seeds": 2,
    "seed": 3,
}
built: list[int] = []
without_drawing = pytest.mark.usefixtures("undrawn")


def build():
    built.append(1)
    return keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(1, "sigmoid")]
    )


def compare(out, **more):
    arguments = {"train_data": TRAIN, "test_data": TEST, **SMALL, **more}
    return study.compare(arguments.pop("build", build), out=out, **arguments)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The small study's folder and what the call returned."""
    folder = tmp_path_factory.mktemp("own") / "study"
    return folder, compare(folder)


def lines_of(folder):
    text = (folder / "trials.jsonl").read_text()
    return [{**json.loads(line), "seconds": 0} for line in text.splitlines()]


def read(folder):
    return yaml.safe_load((folder / "study.yaml").read_text())


def test_it_returns_and_writes_what_a_study_does(finished):
    folder, summary = finished
    assert summary == json.loads((folder / "summary.json").read_text())
    assert {path.name for path in folder.iterdir()} == {
        *("study.yaml", "study.db", "trials.jsonl", "summary.json"),
        *("report.html", "plots"),
    }
    assert summary["workload"] == "my model"
    assert (summary["steps"], summary["batch"]) == (12, 16)
    assert summary["metric"] == {"name": "accuracy", "direction": "max"}
    assert "keras" in summary["versions"]


def test_every_row_has_the_same_budget_and_the_same_fresh_seeds(finished):
    folder, summary = finished
    lines = lines_of(folder)
    for row in ("Nesterov", "LARS", "slow"):
        runs = [line for line in lines if line["row"] == row]
        assert [line["seed"] for line in runs] == [300000] * 2 + [
            300001,
            300002,
        ]
    assert [row["tuning_trials"] for row in summary["rows"]] == [2, 2, 2]


def test_rows_are_names_or_as_tables_have_them(finished):
    nesterov, lars, slow = read(finished[0])["table"]["rows"]
    ours = configs.load("spaces", "own_model")["optimizers"]
    assert nesterov["optimizer"] == {"class": "Nesterov"}
    assert nesterov["space"] == ours["Nesterov"]
    assert (lars["weights_optimizer"], lars["bias_bn_optimizer"]) == (
        "LARS",
        "Momentum",
    )
    assert slow["space"] == SLOW["space"]
    assert slow["optimizer"] == SLOW["optimizer"]
    assert slow["settings"]["warmup_fraction"] == 0.25
    assert nesterov["settings"]["schedule"] == "cosine"


def test_the_protocol_says_what_was_learnt(finished):
    workload = read(finished[0])["workload"]
    assert workload["python"] is True
    assert workload["splits"] == {"train": 48, "validation": 12, "test": 30}
    assert workload["split_text"].startswith("A random 20 % of the training")
    assert workload["description"] == "a Sequential model of 5 parameters"


def test_the_report_is_about_this_model(finished):
    page = (finished[0] / "report.html").read_text()
    page = re.sub('base64,[^"]*', "", page)
    assert "a Sequential model of 5 parameters" in page
    assert "my model" in page and "None" not in page
    assert "study.compare" in page


@without_drawing
def test_the_same_call_again_does_nothing_twice(finished, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "copy")
    built.clear()
    assert compare(folder) == finished[1]
    assert built == [1]  # To see that it is the same model.
    assert lines_of(folder) == lines_of(finished[0])


@without_drawing
def test_stopped_and_called_again_it_ends_the_same(
    finished, tmp_path, monkeypatch, capsys
):
    done = []

    def stop(self, *arguments):
        if len(done) == 3:
            raise KeyboardInterrupt
        done.append(1)
        return run(self, *arguments)

    run = Trainer.run
    folder = tmp_path / "study"
    with monkeypatch.context() as context:
        context.setattr(Trainer, "run", stop)
        with pytest.raises(KeyboardInterrupt):
            compare(folder)
    assert (
        "3 runs are saved, and the same call goes on" in capsys.readouterr().err
    )
    assert lines_of(folder) == lines_of(finished[0])[:3]

    compare(folder)
    assert lines_of(folder) == lines_of(finished[0])


def other_model():
    return keras.Sequential(
        [keras.Input((4,)), keras.layers.Dense(1, "sigmoid", use_bias=False)]
    )


@pytest.mark.parametrize(
    "more, words",
    [
        ({"trials": 3}, r"\(trials 2, not 3\); choose another folder with"),
        ({"target": 0.9}, r"\(workload.target 0.\d+, not 0.9\)"),
        ({"train_data": (X[:60] + 1, Y[:60])}, r"\(workload.data \w{16}, not "),
        ({"build": other_model}, r"\(workload.description a .*, not a "),
        ({"rows": ["Nesterov", "LARS"]}, r"\(table.rows\)"),
    ],
)
def test_another_study_in_the_folder_is_left_alone(more, words, finished):
    folder = finished[0]
    before = {path: path.read_bytes() for path in folder.glob("*.*")}
    with pytest.raises(UserError, match=words) as error:
        compare(folder, **more)
    assert "--" not in str(error.value)
    assert before == {path: path.read_bytes() for path in before}


def test_the_command_line_cannot_make_it_again(finished, tmp_path, capsys):
    protocol, out = finished[0] / "study.yaml", tmp_path / "again"
    assert (
        main(["study", "create", f"--protocol={protocol}", f"--out={out}"]) == 2
    )
    assert "is of a model of your own" in capsys.readouterr().err
    assert not out.exists()


def test_the_command_line_reports_it_but_cannot_run_it(
    finished, tmp_path, capsys
):
    folder = shutil.copytree(finished[0], tmp_path / "copy")
    (folder / "summary.json").unlink()
    assert main(["study", "report", f"--out={folder}"]) == 0
    assert json.loads((folder / "summary.json").read_text()) == finished[1]
    capsys.readouterr()
    with pytest.raises(UserError, match="tf_largebatch.study.compare"):
        Trainer(read(folder))


@without_drawing
def test_points_are_chosen_by_the_validation_data_that_are_given(tmp_path):
    """Where they say the opposite, the worst rate is the best."""
    space = {
        "learning_rate": {"scale": "choice", "values": [1e-9, 3.0]},
    }
    rows = [{"name": "a", "optimizer": {"class": "Nesterov"}, "space": space}]
    summary = compare(
        tmp_path / "study",
        rows=rows,
        validation_data=(X[60:], 1 - Y[60:]),
        build=lambda: keras.Sequential(
            [keras.Input((4,)), keras.layers.Dense(1, "sigmoid", False, "ones")]
        ),
        trials=2,
        seeds=1,
        tuning_seeds=2,
    )
    found = read(tmp_path / "study")
    assert found["workload"]["splits"]["train"] == 60
    assert found["tuning_seeds"] == 2
    lines = lines_of(tmp_path / "study")
    tuning = [line for line in lines if line["kind"] == "tune"]
    assert len(tuning) == 4
    best = max(tuning, key=lambda line: line["validation"])
    rate = best["hyperparameters"]["learning_rate"]
    assert summary["rows"][0]["best"] == {"learning_rate": rate}
    for line in tuning:
        assert line["validation"] == pytest.approx(1 - line["test"])


@without_drawing
def test_a_loss_may_be_the_metric(tmp_path):
    summary = compare(
        tmp_path / "study",
        rows=["Adam"],
        loss="mse",
        metric="mse",
        direction="min",
        target=0.1,
        trials=1,
        seeds=1,
    )
    assert summary["metric"] == {"name": "mse", "direction": "min"}
    (line,) = (x for x in lines_of(tmp_path / "study") if x["kind"] == "tune")
    assert line["validation"] == pytest.approx(
        line["validation_loss"], rel=1e-5
    )


@without_drawing
def test_the_same_call_goes_on_where_keras_numbers_the_metric(tmp_path):
    more = {"direction": "max", "rows": ["Adam"], "trials": 1, "seeds": 1}
    calls = [
        compare(tmp_path / "study", metric=keras.metrics.AUC(), **more)
        for _ in range(2)
    ]
    assert calls[0] == calls[1]
    assert calls[0]["metric"]["name"] == "auc"


@pytest.mark.parametrize(
    "metric, name",
    [
        (keras.metrics.Recall, "recall"),
        (lambda: keras.metrics.MeanIoU(2), "mean_io_u"),
        (lambda: keras.metrics.Recall(name="at_5"), "at_5"),
        (lambda: keras.metrics.binary_accuracy, "binary_accuracy"),
        (lambda: "top_5", "top_5"),
        (lambda: lambda targets, outputs: targets, "metric"),
    ],
)
def test_a_metric_has_one_name_however_often_it_is_made(metric, name):
    names = [own_model.metric_name(metric()) for _ in range(3)]
    assert names == [name] * 3


MISTAKES = [
    ({"trials": 0}, "`trials` must be an integer, at least 1. Received: 0"),
    ({"seeds": True}, "`seeds` must be .* Received: True"),
    (
        {"steps": 3},
        "`steps` is 3; give at least 12, as a run has so many evaluations",
    ),
    ({"batch_size": 49}, "at most the 48 examples .* Received: 49"),
    ({"batch_size": 1.5}, "Received: 1.5"),
    ({"seed": -1}, "from 0 to 42948. Received: -1"),
    ({"seed": 42949}, "Received: 42949"),
    ({"target": 95}, "`target` must be a number from 0 to 1. Received: 95"),
    ({"target": math.nan}, "Received: nan"),
    ({"target": None}, "Received: None"),
    ({"rows": []}, r"at least one optimizer or row. Received: \[\]"),
    ({"rows": "LARS"}, "Received: 'LARS'"),
    ({"rows": ["LARS", "LARS"]}, "different names. Received: 'LARS' twice"),
    ({"rows": ["Adma"]}, "the optimizer 'Adma'; choose one of Adam"),
    ({"rows": [None]}, "a row of `rows` is None; give it a name, and an opt"),
    ({"rows": [{"optimizer": {"class": ["LARS"]}}]}, "optimizer with a class"),
    ({"rows": [{**SLOW, "name": {}}]}, "a row must have a name. Received"),
    ({"rows": [{**SLOW, "name": "../x"}]}, "a row must have a name. Received"),
    ({"rows": [{**SLOW, "settings": 3}]}, "has the settings 3"),
    ({"rows": [{**SLOW, "weights_optimizer": 3}]}, "weights_optimizer is 3"),
    ({"rows": [{**SLOW, "paper_value": object()}]}, "what a file can hold"),
    ({"rows": [{"name": "x"}]}, "{'name': 'x'}; give it a name, and an opt"),
    (
        {"rows": [{"optimizer": {"class": "Adam", "momentum": 0.9}}]},
        "row 'Adam': .*momentum",
    ),
    (
        {"rows": [{"optimizer": {"class": "Nesterov", "momentum": 1.5}}]},
        "row 'Nesterov': .* Received: momentum=1.5",
    ),
    ({"rows": [{**SLOW, "space": {}}]}, "no free hyperparameter"),
    ({"rows": [{**SLOW, "tuned_as": "fast"}]}, "both tuned_as and space"),
    ({"rows": [{**SLOW, "fixed": True}]}, "has both fixed and space; keep"),
    ({"rows": [SLOW, like("fast")]}, "tuned as 'fast', which the table does"),
    ({"rows": [SLOW, like("b")]}, "is tuned as 'b', which is not tuned itself"),
    (
        {"rows": [SLOW, like("slow"), like("b", name="c")]},
        "row 'c' is tuned as 'b', which is not tuned itself",
    ),
    (
        {"rows": [SLOW, like("slow", learning_rate=0.1)]},
        "'b' has a value of learning_rate, which the space of 'slow' has as",
    ),
    (
        {"rows": [{**SLOW, "optimizer": {**ADAM, "learning_rate": 0.1}}]},
        "'slow' has a value of learning_rate, which the space of 'slow' has",
    ),
    (
        {"rows": [ADAPTED, {**like("slow"), "optimizer": {"class": "LARS"}}]},
        "the space of row 'slow', as which 'b' is tuned has 'beta_1', which",
    ),
    ({"rows": [{**SLOW, "changes": {"x": "slow"}}]}, "changes from itself"),
    ({"settings": {"shedule": "cosine"}}, "the unknown setting 'shedule'"),
    ({"settings": {"schedule": "step"}}, "choose one of cosine"),
    ({"settings": {"schedule": ["cosine"]}}, "choose one of cosine"),
    ({"settings": {"warmup_fraction": 1.5}}, "warmup_fraction 1.5; give 1 at"),
    ({"settings": {"decay_power": math.nan}}, "decay_power nan; give a finite"),
    ({"settings": {"discontinuous": 1}}, "discontinuous 1; give true or"),
    ({"settings": "cosine"}, "`settings` must be a mapping"),
    ({"space": {"rows": 3}}, "`space` must be a mapping"),
    ({"steps": 10**9}, "`steps` is 1000000000; give at most 10000000"),
    ({"seeds": 50_000}, "`seeds` is 50000; give at most 49999"),
    ({"metric": "mse"}, "`direction` must be .* mse. Received: None"),
    ({"metric": 3}, "Received: int"),
    ({"direction": "up"}, "Received: 'up'"),
    ({"validation_fraction": 0.0}, "Received: 0.0"),
    ({"workload_name": "a/b"}, "without a slash. Received: 'a/b'"),
    ({"test_data": (X[60:, :3], Y[60:])}, "`test_data` must have examples"),
    ({"train_data": (X, Y[:9])}, "Received: 90, 9 examples"),
    ({"build": lambda: 7}, "must return a keras.Model. Received: int"),
]


@pytest.mark.parametrize("more, words", MISTAKES)
def test_a_mistake_is_one_line_and_nothing_is_written(more, words, tmp_path):
    with pytest.raises(UserError, match=words) as error:
        compare(tmp_path / "study", **more)
    assert "\n" not in str(error.value)
    assert "--" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_another_backend_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(UserError, match="TensorFlow backend.*Received: jax"):
        compare(tmp_path / "study")


def test_the_default_spaces_are_equally_large():
    spaces = configs.load("spaces", "own_model")["optimizers"]
    assert set(spaces) == set(OPTIMIZERS)
    for space in spaces.values():
        assert set(space) == {"learning_rate", "weight_decay"}
        for axis in space.values():
            assert axis["scale"] == "log"
            assert axis["high"] / axis["low"] == pytest.approx(1000)


def test_the_largest_seed_is_one_that_numpy_has():
    largest = {"seed": protocol.MOST["seed"]}
    np.random.seed(protocol.run_seed(largest, protocol.TUNING_SEEDS))
    with pytest.raises(ValueError):
        np.random.seed(protocol.run_seed({"seed": largest["seed"] + 2}, 0))


def test_importing_the_package_waits_for_no_large_one():
    code = """
import sys
import tf_largebatch.study
assert "compare" in dir(tf_largebatch.study)
assert not {"tensorflow", "keras", "numpy", "optuna"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'no_such'"):
        study.no_such  # noqa: B018
