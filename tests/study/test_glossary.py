"""The words of a report are explained, and only those that it uses."""

import pytest

from tf_largebatch.study import glossary, protocol

STATISTICS = ["Median, quartiles", "Hits", "Diverged", "Steps to target"]


def explained(study):
    """Returns the words that are explained, with their explanations."""
    return dict(glossary.terms(study.rows, study.metric))


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
    assert list(explained(table4.only(*names))) == [*words, *STATISTICS]


def test_every_optimizer_of_the_package_is_explained(fake_study):
    assert set(glossary.OPTIMIZERS) == set(protocol.OPTIMIZERS)
    study = fake_study.finished(rows=["heavy_ball"]).only("heavy_ball")
    assert list(explained(study)) == ["Heavy ball", *STATISTICS]


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
    assert list(explained(study)) == [*words, *more, *STATISTICS]
    for names in (["adam"], ["lamb"]):
        assert not {"Bias correction", "Jump"} & set(
            explained(study.only(*names))
        )
    assert "Bias correction" in explained(study.only("lamb_uncorrected"))
    assert "Bias correction" in explained(study.only("adam_uncorrected"))
    assert "Jump" in explained(study.only("adam_jump"))
