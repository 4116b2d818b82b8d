"""`summary.json` follows from the ledger's lines alone."""

import json

import numpy as np
import pytest

from tf_largebatch.study import protocol, summary


def line(row, kind, index, test, **more):
    return {
        "row": row,
        "kind": kind,
        "index": index,
        "hyperparameters": {"learning_rate": 0.1 + index, "weight_decay": 0.0},
        "validation": test,
        "validation_loss": 1.0,
        "test": test,
        "train": test,
        "seconds": 2.0,
        "diverged": False,
        "steps_to_target": None,
        **more,
    }


@pytest.fixture(scope="module")
def study():
    return protocol.create("table4", "digits_resnet", trials=2, seeds=3)


def of_row(study, lines, name):
    made = summary.summarize(study, lines, {"python": "3"}, "a machine")
    json.dumps(made, allow_nan=False)
    (row,) = (row for row in made["rows"] if row["name"] == name)
    return row


def test_an_empty_ledger_has_rows_without_figures(study):
    row = of_row(study, [], "nesterov")
    assert (row["tuning_trials"], row["seeds"], row["best"]) == (0, 0, {})
    assert set(row["test"].values()) == {None}


def test_medians_and_quartiles_are_of_the_seeds_alone(study):
    tests = [0.5, 0.9, 0.7]
    lines = [line("nesterov", "tune", 0, 1.0)]
    lines += [line("nesterov", "seed", i, x) for i, x in enumerate(tests)]
    row = of_row(study, lines, "nesterov")
    assert row["test"]["median"] == 0.7
    assert row["test"]["q1"] == np.quantile(tests, 0.25)
    assert (row["test"]["min"], row["test"]["max"]) == (0.5, 0.9)
    assert (row["tuning_trials"], row["seeds"]) == (1, 3)


def test_a_diverged_run_stays_in_the_median(study):
    lines = [
        line("nesterov", "seed", 0, 0.1, diverged=True),
        line("nesterov", "seed", 1, 0.9),
        line("nesterov", "seed", 2, 0.95),
    ]
    row = of_row(study, lines, "nesterov")
    assert (row["diverged"], row["test"]["median"]) == (1, 0.9)
    assert row["test"]["min"] == 0.1


def test_hits_end_at_the_target_or_beyond_it(study):
    target = study["workload"]["target"]
    lines = [
        line("lars", "seed", i, target + gap)
        for i, gap in enumerate((0, 0.01, -1e-9))
    ]
    assert of_row(study, lines, "lars")["hits"] == 2
    down = {"direction": "min", "name": "loss"}
    other = {**study, "workload": {**study["workload"], "metric": down}}
    assert of_row(other, lines, "lars")["hits"] == 2
    assert of_row(other, lines[1:2], "lars")["hits"] == 0


def test_the_best_point_is_the_validations(study):
    lines = [
        line("lamb", "tune", 0, 0.8, validation=0.9),
        line("lamb", "tune", 1, 0.9, validation=0.8),
    ]
    assert of_row(study, lines, "lamb")["best"]["learning_rate"] == 0.1


def test_a_tie_goes_to_the_lower_loss_then_to_the_earlier(study):
    row = study["table"]["rows"][0]
    lines = [
        line("nesterov", "tune", 0, 0.9, validation_loss=0.5),
        line("nesterov", "tune", 1, 0.9, validation_loss=None),
        line("nesterov", "tune", 2, 0.9, validation_loss=0.4),
        line("nesterov", "tune", 3, 0.9, validation_loss=0.4),
    ]
    assert protocol.best_point(study, row, lines)["learning_rate"] == 2.1


def test_steps_to_target_are_of_the_runs_that_got_there(study):
    lines = [
        line("lars", "seed", 0, 1.0, steps_to_target=30),
        line("lars", "seed", 1, 0.0),
        line("lars", "seed", 2, 1.0, steps_to_target=40),
    ]
    found = of_row(study, lines, "lars")["steps_to_target"]
    assert (found["reached"], found["median"], found["max"]) == (2, 35, 40)


def test_wall_seconds_versions_and_device(study):
    lines = [line("lars", "seed", i, 0.5) for i in range(3)]
    versions = summary.versions(["keras"])
    made = summary.summarize(study, lines, versions, summary.device())
    assert made["wall_seconds"] == 6.0
    assert set(made["versions"]) == {"python", "keras", *summary.PACKAGES}
    assert "CPU" in made["device"]
