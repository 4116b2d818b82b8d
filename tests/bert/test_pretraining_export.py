"""What is exported of a pretraining says what the trainer says."""

import pathlib
import runpy

import pytest
import tensorflow as tf

from tf_largebatch.garden import evaluate, export, train

RANDOM = runpy.run_path(
    str(pathlib.Path(__file__).with_name("random_examples.py"))
)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The SavedModel of a small run, and the figures of training."""
    folder = RANDOM["write"](tmp_path_factory.mktemp("examples"))
    run, saved = folder / "run", folder / "saved"
    config = RANDOM["settings"](folder)
    figures = train.run(config, "train_and_eval", str(run))
    export.export(config, str(run), str(saved))
    return saved, figures


def test_evaluating_it_gives_the_figures_of_training(exported):
    saved, figures = exported
    others = {"step": RANDOM["STEPS"]}
    for path in (None, f"{saved.parent}/validation-*"):
        found = evaluate.evaluate(str(saved), path)
        assert found["examples"] == RANDOM["COUNTS"]["validation"]
        assert {**found, **others} == pytest.approx(figures, rel=1e-5)


def test_other_examples_are_counted_as_they_are(exported):
    saved, figures = exported
    found = evaluate.evaluate(str(saved), f"{saved.parent}/train-*")
    assert found["examples"] == RANDOM["COUNTS"]["train"]
    assert found["masked_lm_loss"] != figures["masked_lm_loss"]


def test_nothing_for_training_is_exported(exported):
    path = exported[0] / "variables" / "variables"
    names = {name for name, _ in tf.train.list_variables(str(path))}
    assert {name.split("/")[0] for name in names} == {
        "weights",
        "_CHECKPOINTABLE_OBJECT_GRAPH",
    }
