"""A study row by row: metrics, medians, order, places and ranges."""

import math

import numpy as np
import pytest

from tf_largebatch.study import results
from tf_largebatch.study.results import Metric

ACCURACY = Metric("accuracy", 1, 0.97)
LOSS = Metric("loss", -1, 0.5)


@pytest.mark.parametrize(
    "metric, value, text",
    [
        (ACCURACY, 0.9725, "97.25\N{NO-BREAK SPACE}%"),
        (ACCURACY, 1.0, "100.00\N{NO-BREAK SPACE}%"),
        (ACCURACY, None, "–"),
        (ACCURACY, math.nan, "–"),
        (LOSS, 0.123456, "0.1235"),
        (LOSS, math.inf, "∞"),
        (LOSS, -math.inf, "\N{MINUS SIGN}∞"),
    ],
)
def test_values_as_text(metric, value, text):
    assert metric.show(value) == text


@pytest.mark.parametrize(
    "metric, gap, text",
    [
        (ACCURACY, 0.0025, "0.25\N{NO-BREAK SPACE}percentage points"),
        (LOSS, 0.0123, "0.012"),
        (LOSS, math.inf, "no finite number"),
    ],
)
def test_differences_as_text(metric, gap, text):
    assert metric.show_gap(gap) == text


@pytest.mark.parametrize(
    "metric, difference, text",
    [
        (ACCURACY, 0.0025, "0.25"),
        (ACCURACY, -0.0025, "\N{MINUS SIGN}0.25"),
        (ACCURACY, -1e-9, "0.00"),
        (ACCURACY, None, "–"),
        (LOSS, -0.0123, "\N{MINUS SIGN}0.012"),
        (LOSS, 1.5e-5, "1.5e-05"),
    ],
)
def test_differences_with_their_sign(metric, difference, text):
    assert metric.show_difference(difference) == text
    assert metric.unit == ("percentage points" if metric is ACCURACY else "")


@pytest.mark.parametrize(
    "metric, worst",
    [(ACCURACY, 0), (LOSS, math.inf), (Metric("score", 1, 2), -math.inf)],
)
@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_is_no_number_counts_as_the_worst(metric, worst, value):
    assert metric.counted(value) == metric.worst == worst
    assert metric.counted(0.5) == 0.5


def test_merit_is_higher_for_the_better_value():
    assert ACCURACY.merit(0.9) > ACCURACY.merit(0.8) > ACCURACY.merit(None)
    assert LOSS.merit(0.8) > LOSS.merit(0.9) > LOSS.merit(math.nan)
    assert (ACCURACY.best_word, LOSS.best_word) == ("highest", "lowest")


def test_the_metric_of_a_study(table4):
    assert Metric.of(table4.plan) == ACCURACY
    lower = table4.with_workload(
        metric={"name": "masked_loss", "direction": "min"}, target=0.5
    )
    assert lower.metric == Metric("masked loss", -1, 0.5)


def test_a_direction_that_is_none(table4):
    bad = table4.with_workload(metric={"name": "loss", "direction": "down"})
    with pytest.raises(ValueError, match="'down'; use max or min"):
        Metric.of(bad.plan)


def test_rows_come_in_the_tables_order_with_their_runs(table4):
    shuffled = type(table4)(table4.plan, table4.lines[::-1])
    names = [row["name"] for row in table4.plan["table"]["rows"]]
    assert [row.name for row in shuffled.rows] == names
    assert [row.number for row in shuffled.rows] == list(range(8))
    for row in shuffled.rows:
        assert [line["index"] for line in row.tuning] == list(range(8))
        assert [line["index"] for line in row.repeats] == list(range(5))
        assert {line["row"] for line in [*row.tuning, *row.repeats]} == {
            row.name
        }


def test_a_rows_figures_are_those_of_its_fresh_seeds(table4):
    row = table4.with_tests({"lars": [0.96, 0.99, 0.9, 0.97, 0.98]}).row("lars")
    statistics = ("min", "q1", "median", "q3", "max")
    assert [row.test(name) for name in statistics] == pytest.approx(
        [0.9, 0.96, 0.97, 0.98, 0.99]
    )
    assert row.spread == pytest.approx(0.02)
    assert row.seeds == 5
    assert row.finished


def test_a_row_without_runs_has_no_figures(table4):
    row = table4.without(row="lars").row("lars")
    assert not row.finished
    assert (row.seeds, row.best, row.tuning) == (0, {}, [])
    assert row.test("median") is row.train("median") is None


def test_which_rows_adapt_their_layers(table4):
    plain = [row.name for row in table4.rows if not row.layer_wise]
    assert plain == ["nesterov", "adam_1e-8", "adam_1e-6"]


def test_which_rows_are_tuned(table2):
    assert [row.tuned for row in table2.rows] == [True, False, True, False]
    assert not any(row.fixed for row in table2.rows)
    rows = table2.only("nesterov_power_2").fixed().rows
    assert [(row.fixed, row.tuned) for row in rows] == [(True, False)]


def test_a_row_knows_how_far_it_is_from_the_best(table4):
    study = table4.with_tests({"lars": [1.0] * 5})
    assert study.row("lars").against == {}
    against = study.row("lamb").against
    assert (against["row"], against["best"]) == ("lamb", "lars")


def test_the_gap_is_how_much_worse_the_test_is(table4):
    study = table4.with_tests({"lars": [0.9, 0.91, 0.92]})
    study = study.with_runs("lars", range(3), train=0.95)
    assert study.row("lars").gap == pytest.approx(0.04)
    loss = {"name": "loss", "direction": "min"}
    lower = study.with_workload(metric=loss).row("lars")
    assert lower.gap == pytest.approx(-0.04)
    assert study.with_runs("lars", [1], train=None).row("lars").gap is None


def test_a_row_some_of_whose_runs_have_no_number(table4):
    row = table4.with_lost("lars", [0, 3]).row("lars")
    assert row.finished and not row.lost
    assert row.test("q3") == row.test("max") == row.spread == math.inf
    assert row.tests[0] == row.tests[3] == math.inf > max(row.tests[1:3])


def test_a_row_most_of_whose_runs_have_no_number(table4):
    study = table4.with_lost("lars", range(3))
    row = study.row("lars")
    assert row.lost and not row.finished
    assert row.test("median") == math.inf
    assert row not in results.by_merit(study.rows, study.metric)
    assert not any(row.lost for row in table4.without(kind="seed").rows)


def test_a_point_of_several_seeds_is_one_line(table4):
    study = table4.only("lars").with_plan(tuning_seeds=3)
    lines = [
        {**line, "validation": value, "diverged": value is None}
        for line, value in zip(
            table4.row("lars").tuning, [0.9, 0.7, 0.8, None, 0.2, 0.4]
        )
    ]
    lines = [{**line, "index": number} for number, line in enumerate(lines)]
    points = results.points(study.plan, lines[::-1])
    assert [point["index"] for point in points] == [0, 1]
    assert [point["validation"] for point in points] == [0.8, 0.2]
    assert [point["diverged"] for point in points] == [False, True]


def test_finished_rows_by_merit(table4):
    study = table4.with_tests(
        {"nesterov": [0.8], "lars": [0.9], "lamb": [0.7]}
    ).only("nesterov", "lars", "lamb", "adam_1e-8")
    study = study.without(row="adam_1e-8", kind="seed")
    ranked = results.by_merit(study.rows, study.metric)
    assert [row.name for row in ranked] == ["lars", "nesterov", "lamb"]
    ranked = results.by_merit(study.rows, LOSS)
    assert [row.name for row in ranked] == ["lamb", "nesterov", "lars"]


@pytest.mark.parametrize(
    "dimension, value, place",
    [
        ({"scale": "log", "low": 0.01, "high": 1.0}, 0.01, 0),
        ({"scale": "log", "low": 0.01, "high": 1.0}, 0.1, 0.5),
        ({"scale": "linear", "low": 1, "high": 5}, 4, 0.75),
        ({"scale": "one_minus_log", "low": 0.9, "high": 0.999}, 0.99, 0.5),
        ({"scale": "one_minus_log", "low": 0.9, "high": 0.999}, 0.999, 1),
    ],
)
def test_places_in_a_search_range(dimension, value, place):
    assert results.place(dimension, value) == pytest.approx(place, abs=1e-12)


def three_rows(table4, third):
    """Returns two good rows and a third one, and the test metric."""
    study = table4.only("nesterov", "lars", "lamb").with_tests(
        {
            "nesterov": [0.970, 0.975, 0.980],
            "lars": [0.960, 0.965, 0.975],
            "lamb": third,
        }
    )
    return study.rows, study.metric


def test_the_window_holds_all_runs_that_lie_near_each_other(table4):
    rows, metric = three_rows(table4, [0.955, 0.96, 0.97])
    low, high = results.window(rows, metric)
    assert 0.95 < low < 0.955
    assert high == 0.98


def test_the_window_leaves_out_a_row_far_off(table4):
    rows, metric = three_rows(table4, [0.1, 0.3, 0.4])
    low, high = results.window(rows, metric)
    assert 0.94 < low < 0.9625
    assert high == 0.98


def test_one_bad_run_does_not_put_its_row_outside(table4):
    study = table4.only("nesterov", "lars").with_tests(
        {"nesterov": [0.970, 0.975, 0.980], "lars": [0.8, 0.955, 0.965]}
    )
    low, high = results.window(study.rows, study.metric)
    assert 0.94 < low < 0.955
    assert high == 0.98


def test_the_window_holds_the_target(table4):
    rows, _ = three_rows(table4, [0.955, 0.96, 0.97])
    low, high = results.window(rows, Metric("accuracy", 1, 0.99))
    assert low < 0.955
    assert high == 0.99


def test_the_window_of_a_metric_to_be_lowered(table4):
    study = table4.only("nesterov", "lars").with_tests(
        {"nesterov": [0.4, 0.5, 0.6], "lars": [0.5, 0.6, 9.0]}
    )
    low, high = results.window(study.rows, LOSS)
    assert low == 0.4
    assert 0.6 < high < 1


def test_the_window_leaves_out_what_is_infinite(table4):
    study = table4.only("nesterov", "lars").with_lost("lars", [0])
    low, high = results.window(study.rows, study.metric)
    assert 0.9 < low < 0.98 <= high < 1


@pytest.mark.parametrize(
    "table, is_the_papers",
    [
        ({}, True),
        ({"paper": None}, False),
        ({"paper_task": None}, False),
    ],
)
def test_which_studies_are_the_papers(table4, table, is_the_papers):
    plan = table4.with_table(**table).plan
    assert results.is_the_papers(plan) == is_the_papers


@pytest.mark.parametrize("value", [0.0, 0.97, 1.0])
def test_the_window_of_equal_values_is_not_empty(table4, value):
    study = table4.only("nesterov").with_tests({"nesterov": [value] * 3})
    low, high = results.window(study.rows, Metric("accuracy", 1, value))
    assert low < value <= high


def test_a_figure_that_is_missing_is_nan():
    assert np.isnan(results.number(None))
    assert results.number(1) == 1.0
