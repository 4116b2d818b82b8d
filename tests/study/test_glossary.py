"""The words of a report are explained, and only those that it uses."""

import pytest

from tf_largebatch.optimizers import OPTIMIZERS
from tf_largebatch.study import glossary

COLUMNS = ["Median, quartiles", "Hits", "Diverged", "Steps to target"]


def explained(study):
    """Returns the words that are explained, with their explanations."""
    return dict(glossary.terms(study.rows, study.metric))


def general(study):
    """Returns the words that are explained and are of no optimizer."""
    found = list(explained(study))
    return found[found.index(COLUMNS[0]) :]


@pytest.mark.parametrize(
    "names, words",
    [
        (["nesterov"], ["Nesterov"]),
        (["adam_1e-8", "adam_1e-6"], ["Adam"]),
        (["lars"], ["LARS", "Trust ratio"]),
        (["lars_momentum"], ["LARS", "Momentum", "Trust ratio"]),
        (["lamb"], ["LAMB", "Trust ratio", "Pure LAMB"]),
        (["lamb_adam_1e-6"], ["LAMB", "Trust ratio"]),
    ],
)
def test_what_the_rows_need_is_explained(table4, names, words):
    found = list(explained(table4.only(*names)))
    assert found[: found.index(COLUMNS[0])] == words


def test_every_optimizer_of_the_package_is_explained(fake_study):
    assert set(glossary.OPTIMIZERS) == set(OPTIMIZERS)
    study = fake_study.finished(rows=["heavy_ball"]).only("heavy_ball")
    assert list(explained(study))[:2] == ["Heavy ball", COLUMNS[0]]


def test_what_the_tables_have_is_explained(table4):
    compared = ["95 % interval", "Told apart", "Turned round", "Gap"]
    assert general(table4) == [*COLUMNS, "MLPerf's steps", *compared]
    one = table4.only("lars")
    assert general(one) == [*COLUMNS, "MLPerf's steps", "95 % interval", "Gap"]
    lost = table4.only("lamb")
    assert general(lost) == [*COLUMNS, "95 % interval", "Gap"]
    unmeasured = lost.with_runs("lamb", range(5), train=None)
    assert general(unmeasured) == [*COLUMNS, "95 % interval"]
    assert general(table4.without(kind="seed")) == [*COLUMNS, "Told apart"]
    once = table4.with_plan(seeds=1).only("nesterov", "lamb")
    once = once.with_tests({"nesterov": [0.9], "lamb": [0.8]})
    assert general(once) == [*COLUMNS, "Told apart", "Gap"]


def test_the_figures_of_the_statistics_are_those_that_are_used(table4):
    text = explained(table4)
    assert "9,999 times" in text["95 % interval"]
    assert "first 5 runs" in text["MLPerf's steps"]


def test_what_counts_where_there_is_no_number(table4):
    assert "with 0.00" in explained(table4)["Diverged"]
    lost = explained(table4.with_lost("lars", [0]))
    assert "with ∞ where that is no number" in lost["Diverged"]


def test_an_optimizer_of_another_package_is_not_explained(table4):
    study = table4.only("lars").fixed(optimizer={"class": "adamw"})
    assert general(study) == list(explained(study))


def test_lamb_with_ratio_1_freezes_nothing(fake_study):
    study = fake_study.finished(rows=["lamb_ratio_1"])
    assert "Pure LAMB" not in explained(study.only("lamb_ratio_1"))


def test_warmup_is_explained_where_there_is_one(table2, table4):
    assert "Warmup power" in explained(table2)
    assert "Warmup power" not in explained(table4)


def test_hits_are_on_the_metrics_better_side(table4):
    assert "97.00\N{NO-BREAK SPACE}% or above it" in explained(table4)["Hits"]
    lower = table4.with_workload(
        metric={"name": "loss", "direction": "min"}, target=0.5
    )
    assert "target of 0.5 or below it" in explained(lower)["Hits"]
    assert "the loss as measured" in explained(lower)["Diverged"]


def test_what_berts_table_needs_is_explained(fake_study):
    study = fake_study.finished("bert")
    words = ["Adam", "LAMB", "Trust ratio", "Bias correction", "Jump"]
    more = ["Warmup power", "Masked-LM loss"]
    assert list(explained(study)) == [*words, *more, *general(study)]
    for names in (["adam"], ["lamb"]):
        assert not {"Bias correction", "Jump"} & set(
            explained(study.only(*names))
        )
    assert "Bias correction" in explained(study.only("lamb_uncorrected"))
    assert "Bias correction" in explained(study.only("adam_uncorrected"))
    assert "Jump" in explained(study.only("adam_jump"))
