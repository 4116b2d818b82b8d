"""The protocol of a comparison: what it holds, and what it refuses."""

import collections

import pytest

from tf_largebatch import configs
from tf_largebatch.errors import UserError
from tf_largebatch.study import protocol

SIZES = {"trials": 4, "seeds": 3}


def create(table="table4", workload="digits_resnet", **changes):
    return protocol.create(table, workload, **{**SIZES, **changes})


def refused(**changes):
    """Returns the one line with which a protocol is refused."""
    with pytest.raises(UserError) as caught:
        create(**changes)
    message = str(caught.value)
    assert "\n" not in message
    return message


def row_of(plan, name):
    (row,) = (row for row in plan["table"]["rows"] if row["name"] == name)
    return row


def test_table_4_has_the_papers_eight_rows():
    plan = create()
    rows = {
        row["name"]: (row["weights_optimizer"], row["bias_bn_optimizer"])
        for row in plan["table"]["rows"]
    }
    assert rows == {
        "nesterov": ("Nesterov", "Nesterov"),
        "lars_momentum": ("LARS", "Momentum"),
        "lars": ("LARS", "LARS"),
        "adam_1e-8": ("Adam, epsilon 1e-8", "Adam, epsilon 1e-8"),
        "adam_1e-6": ("Adam, epsilon 1e-6", "Adam, epsilon 1e-6"),
        "lamb": ("LAMB", "LAMB"),
        "lamb_adam_1e-8": ("LAMB", "Adam, epsilon 1e-8"),
        "lamb_adam_1e-6": ("LAMB", "Adam, epsilon 1e-6"),
    }
    assert row_of(plan, "lamb")["optimizer"] == {
        "class": "LAMB",
        "variant": "flax",
        "exclude_from_layer_adaptation": [],
        "exclude_from_weight_decay": [],
    }
    assert plan["steps"] == configs.load("tables", "table4")["steps"]


def test_table_2_swaps_the_warmup_without_tuning_anew():
    plan = create("table2")
    found = {
        row["name"]: (row["settings"]["warmup_power"], row["tuned_as"])
        for row in plan["table"]["rows"]
    }
    assert found == {
        "nesterov_power_2": (2.0, None),
        "nesterov_power_1": (1.0, "nesterov_power_2"),
        "lars_power_1": (1.0, None),
        "lars_power_2": (2.0, "lars_power_1"),
    }
    for one, other in (
        ("nesterov_power_1", "nesterov_power_2"),
        ("lars_power_1", "lars_power_2"),
    ):
        same, swapped = row_of(plan, one), row_of(plan, other)
        assert same["optimizer"] == swapped["optimizer"]
        powers = {"warmup_power": None}
        assert same["settings"] | powers == swapped["settings"] | powers


def test_the_table_of_bert_has_every_form_of_both_optimizers():
    plan = protocol.create("bert")
    assert plan["workload"]["name"] == "tiny_bert"
    forms = set()
    for row in plan["table"]["rows"]:
        optimizer = row["optimizer"]
        own = {"Adam": {"bias_correction": False}, "LAMB": {}}
        lamb = {"Adam": {}, "LAMB": {"variant": "bert_2019"}}
        plain = {
            "class": optimizer["class"],
            "epsilon": 1e-6,
            "weight_decay": 0.01,
            "global_clipnorm": 1.0,
        }
        uncorrected = own[plain["class"]] | lamb[plain["class"]]
        is_corrected = optimizer == plain
        assert is_corrected or optimizer == plain | uncorrected
        jump = row["settings"]["discontinuous"]
        forms.add((plain["class"], is_corrected, jump))
        assert row["settings"]["schedule"] == "bert_polynomial"
        assert row["settings"]["warmup_fraction"] == 0.2
        assert (row["paper_value"] == 1.277) == (row["name"] == "adam")
    assert len(forms) == 8


def test_what_changes_between_berts_rows_is_what_is_said():
    plan = protocol.create("bert")
    count = 0
    for row in plan["table"]["rows"]:
        for change, name in row["changes"].items():
            base, count = row_of(plan, name), count + 1
            found = set()
            if row["settings"] != base["settings"]:
                found.add("With the jump")
            if row["optimizer"]["class"] != base["optimizer"]["class"]:
                found.add("With LAMB")
            if len(row["optimizer"]) != len(base["optimizer"]):
                found.add("Without bias correction")
            assert found == {change}
    assert count == 12


@pytest.mark.parametrize("table", configs.names("tables"))
def test_a_table_has_a_workload_of_its_own(table):
    plan = protocol.create(table)
    own = configs.load("tables", table)["workload"]
    assert plan == protocol.create(table, own)


def test_a_workload_has_settings_of_its_own():
    digits = row_of(create(), "nesterov")["settings"]
    assert (digits["label_smoothing"], digits["gamma_0"]) == (0.1, 1.0)
    bert = row_of(protocol.create("bert"), "adam")["settings"]
    assert set(digits) - set(bert) == {"label_smoothing", "gamma_0"}


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"table": "table3"}, "'table3' is not in official_configs/tables"),
        ({"table": "table3"}, "table2, table4"),
        ({"workload": "mnist"}, "'mnist' is not in official_configs/workloads"),
        ({"workload": "mnist"}, "digits_resnet"),
        ({"trials": 0}, "--trials is 0; give at least 1"),
        ({"seeds": -1}, "--seeds is -1; give at least 1"),
        ({"seed": -1}, "--seed is -1; give 0 or more"),
        ({"steps": 11}, "--steps is 11; give at least 12"),
        ({"steps": 0}, "--steps is 0"),
        ({"rows": ["heavy"]}, "'heavy', which table4 does not have"),
        ({"rows": ["heavy"]}, "heavy_ball"),
        ({"rows": ["nesterov", "lasr"]}, "'lasr', which table4 does not"),
        ({"rows": ["heavy_ball", "heavy_ball"]}, "'heavy_ball' twice"),
        ({"table": "table2", "rows": ["heavy_ball"]}, "from nesterov_power_"),
    ],
)
def test_what_makes_no_study_is_one_line(changes, words):
    assert words in refused(**changes)


def test_the_smallest_study_is_one():
    plan = create(trials=1, seeds=1, steps=12)
    assert (plan["trials"], plan["seeds"], plan["steps"]) == (1, 1, 12)


@pytest.mark.parametrize("rows", [["heavy_ball", "lars"], ["lamb_ratio_1"]])
def test_rows_are_those_that_are_named(rows):
    plan = create(rows=rows)
    assert [row["name"] for row in plan["table"]["rows"]] == rows
    own = [row["name"] for row in create()["table"]["rows"]]
    assert len(own) == 8 and "heavy_ball" not in own


@pytest.mark.parametrize("table", ["table2", "table4"])
def test_every_tuned_row_gets_as_many_trials(table):
    plan = create(table)
    for row in plan["table"]["rows"]:
        runs = protocol.tuning_runs(plan, row)
        assert len(runs) == (0 if row["tuned_as"] else 4)
        assert bool(row["space"]) != bool(row["tuned_as"])


@pytest.mark.parametrize("table", ["table2", "table4"])
def test_all_rows_share_the_seeds(table):
    plan = create(table, seed=2)
    for row in plan["table"]["rows"]:
        tuning = protocol.tuning_runs(plan, row)
        repeats = protocol.seed_runs(plan, row, {"learning_rate": 1.0})
        assert {run.seed for run in tuning} <= {200_000}
        assert [run.seed for run in repeats] == [200_001, 200_002, 200_003]


def test_no_two_runs_have_one_key():
    plan = create(rows=["heavy_ball", "nesterov"])
    keys = collections.Counter(
        run.key
        for row in plan["table"]["rows"]
        for run in [
            *protocol.tuning_runs(plan, row),
            *protocol.seed_runs(plan, row, {}),
        ]
    )
    assert set(keys.values()) == {1}
    assert len(keys) == 2 * (4 + 3)


def test_a_run_has_the_rows_numbers_and_the_points():
    plan = create()
    row = row_of(plan, "lamb_adam_1e-8")
    for run in protocol.tuning_runs(plan, row):
        assert run.hyperparameters["epsilon"] == 1e-8
        assert run.hyperparameters["label_smoothing"] == 0.1
        rate = run.hyperparameters["learning_rate"]
        low, high = (row["space"]["learning_rate"][x] for x in ("low", "high"))
        assert low <= rate <= high
    best = {"learning_rate": 0.5, "weight_decay": 0.25}
    (run, *_) = protocol.seed_runs(plan, row, best)
    assert run.hyperparameters.items() >= best.items()


def trial(index, validation, loss):
    return {
        "index": index,
        "validation": validation,
        "validation_loss": loss,
        "hyperparameters": {"learning_rate": float(index), "momentum": 0.9},
    }


@pytest.mark.parametrize(
    "trials, best",
    [
        ([(0, 0.8, 0.1), (1, 0.9, 0.5), (2, 0.7, 0.1)], 1),
        ([(0, 0.9, 0.5), (1, 0.9, 0.4), (2, 0.9, 0.6)], 1),
        ([(0, 0.9, None), (1, 0.9, 0.4)], 1),
        ([(2, 0.9, 0.4), (0, 0.9, 0.4), (1, 0.9, 0.4)], 0),
        ([(0, 0.1, None), (1, 0.1, None)], 0),
    ],
)
def test_the_best_point(trials, best):
    """The validation metric, then its loss, then the earlier trial."""
    row = {"space": {"learning_rate": {}}}
    lines = [trial(*each) for each in trials]
    study = {"workload": {"metric": {"direction": "max"}}}
    found = protocol.best_point(study, row, lines)
    assert found == {"learning_rate": float(best)}


def test_where_lower_is_better_the_best_point_is_the_lowest():
    row = {"space": {"learning_rate": {}}}
    lines = [trial(0, 0.8, 0.1), trial(1, 0.7, 0.5)]
    study = {"workload": {"metric": {"direction": "min"}}}
    assert protocol.best_point(study, row, lines) == {"learning_rate": 1.0}


def test_a_trial_that_was_stopped_early_is_not_the_best():
    row = {"space": {"learning_rate": {}}}
    early = {**trial(1, 0.9, 0.1), "pruned": True}
    lines = [trial(0, 0.8, 0.1) | {"pruned": False}, early]
    study = {"workload": {"metric": {"direction": "max"}}}
    found = protocol.best_point(study, row, lines)
    assert found == {"learning_rate": 0.0}


def test_of_several_seeds_a_point_the_median_counts():
    """Point 0 has the best run, point 1 the best median."""
    row = {"space": {"learning_rate": {}}}
    values = [0.99, 0.1, 0.2, 0.7, 0.8, 0.6]
    study = {"workload": {"metric": {"direction": "max"}}, "tuning_seeds": 3}
    lines = [trial(index, value, 0.1) for index, value in enumerate(values)]
    found = protocol.best_point(study, row, lines[::-1])
    assert found["learning_rate"] in (3.0, 4.0, 5.0)
    stopped = [*lines[:5], lines[5] | {"pruned": True}]
    found = protocol.best_point(study, row, stopped)
    assert found["learning_rate"] in (0.0, 1.0, 2.0)


def test_every_point_has_a_run_of_each_tuning_seed():
    plan = create("table4", seed=2)
    row = row_of(plan, "nesterov")
    single = protocol.tuning_runs(plan, row)
    runs = protocol.tuning_runs({**plan, "tuning_seeds": 3}, row)
    assert [run.index for run in runs] == list(range(3 * len(single)))
    assert [run.hyperparameters for run in runs[::3]] == [
        run.hyperparameters for run in single
    ]
    for first, *others in zip(*(runs[start::3] for start in range(3))):
        assert {run.hyperparameters["learning_rate"] for run in others} == {
            first.hyperparameters["learning_rate"]
        }
    seeds = {run.seed for run in runs}
    assert seeds == {200_000, 250_001, 250_002}
    fresh = protocol.seed_runs({**plan, "seeds": 99}, row, {})
    assert not seeds & {run.seed for run in fresh}


def test_a_row_that_inherits_has_the_other_rows_tuned_values():
    plan = create("table2")
    row = row_of(plan, "lars_power_2")
    assert protocol.tuned_row(plan, row)["name"] == "lars_power_1"
    own = row_of(plan, "lars_power_1")
    assert protocol.tuned_row(plan, own) is own
    with pytest.raises(UserError, match="'lars_power_3', which the table"):
        protocol.tuned_row(plan, {**row, "tuned_as": "lars_power_3"})


def test_a_space_may_speak_of_the_length_of_a_run():
    plan = create(steps=30)
    row = row_of(plan, "nesterov")
    row["space"]["warmup_steps"] = {
        **{"scale": "integer", "low": 0, "high": 1000},
        "below": "steps",
    }
    found = [
        run.hyperparameters["warmup_steps"]
        for run in protocol.tuning_runs(plan, row)
    ]
    assert len(found) == SIZES["trials"] and max(found) < 30
