"""Exported networks say what the trainer says."""

import itertools
import json
import shutil

import numpy as np
import pytest
import tensorflow as tf
import yaml
from official.core import task_factory

from tf_largebatch import records
from tf_largebatch.errors import UserError
from tf_largebatch.garden import evaluate, export, settings
from tf_largebatch.resnet import input as inputs
from tf_largebatch.resnet import sources

NESTEROV = "resnet50/nesterov_b_32k"


@pytest.fixture(scope="module")
def exported(trained, small, tmp_path_factory):
    """The SavedModel of a small run."""
    folder = tmp_path_factory.mktemp("export") / "saved"
    export.export(small(), str(trained(NESTEROV)), str(folder))
    return folder


@pytest.fixture(scope="module")
def signatures(exported):
    return tf.saved_model.load(str(exported)).signatures


@pytest.fixture(scope="module")
def jpegs(pictures):
    """Pictures of many sizes."""
    source = sources.open_files(f"{pictures}/validation-*")
    stored = records.read(source.pieces).map(source.parse)
    return [encoded for encoded, _ in stored.take(9).as_numpy_iterator()]


@pytest.fixture(scope="module")
def logits(trained, small):
    """A function that asks the network that was trained."""
    model = task_factory.get_task(small().task).build_model()
    checkpoint = tf.train.latest_checkpoint(str(trained(NESTEROV)))
    tf.train.Checkpoint(model=model).read(checkpoint).expect_partial()
    return lambda images: model(tf.stack(images), training=False).numpy()


def assert_close(found, expected):
    """To within 1e-5 of the largest."""
    atol = 1e-5 * np.max(np.abs(expected))
    np.testing.assert_allclose(found, expected, atol=atol, rtol=0)


def test_logits_of_jpegs_equal_the_trainers(signatures, jpegs, small, logits):
    data = small().task.validation_data
    expected = logits([inputs.evaluation_image(each, data) for each in jpegs])
    found = signatures["serving_default"](image_bytes=tf.constant(jpegs))
    assert_close(found["logits"], expected)
    probabilities = np.exp(expected.astype("float64"))
    probabilities /= probabilities.sum(1, keepdims=True)
    np.testing.assert_allclose(found["probabilities"], probabilities, 1e-5)
    np.testing.assert_array_equal(found["classes"], np.argmax(expected, 1))
    for one, other in itertools.combinations(expected, 2):
        with pytest.raises(AssertionError):
            assert_close(one, other)


def test_logits_of_pixels_equal_the_trainers(signatures, jpegs, small, logits):
    data = small().task.validation_data
    for jpeg in jpegs:
        pixels = tf.io.decode_jpeg(jpeg)
        expected = logits([inputs.evaluation_picture(pixels, data)])
        found = signatures["image_tensor"](image_tensor=pixels[None])
        assert_close(found["logits"], expected)


def test_nothing_for_training_is_exported(exported, signatures):
    assert set(signatures) == {"serving_default", "image_tensor"}
    stored = tf.train.list_variables(str(exported / "variables/variables"))
    names = {name.split("/")[0] for name, _ in stored}
    assert names == {"weights", "_CHECKPOINTABLE_OBJECT_GRAPH"}
    # 13 kernels, a bias, and 4 vectors of each of 12 norms.
    assert len(stored) - 1 == 13 + 1 + 4 * 12
    graph = exported / "saved_model.pb"
    assert b"FusedBatchNormGrad" not in graph.read_bytes()


def test_evaluating_it_gives_the_figures_of_training(
    exported, trained, pictures
):
    figures = json.loads((trained(NESTEROV) / "figures.json").read_text())
    for path in (None, f"{pictures}/validation-0,{pictures}/validation-1"):
        found = evaluate.evaluate(str(exported), path)
        for name in ("accuracy", "top_5_accuracy", "examples"):
            assert found[name] == figures[name]
        assert found["validation_loss"] == pytest.approx(
            figures["validation_loss"], rel=1e-5
        )


def test_other_pictures_are_counted_as_they_are(exported, pictures):
    found = evaluate.evaluate(str(exported), f"{pictures}/few-*")
    assert found["examples"] == 10


def test_missing_pictures_are_noticed(exported, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(exported, copy)
    settings = yaml.safe_load((copy / "params.yaml").read_text())
    settings["task"]["validation_data"]["num_examples"] = 51
    (copy / "params.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(UserError, match="50 examples, not num_examples = 51"):
        evaluate.evaluate(str(copy))


def test_the_run_knows_its_settings(trained, small):
    checkpoint = export.find(str(trained(NESTEROV)))
    assert checkpoint.endswith("ckpt-4")
    assert export.find(checkpoint) == checkpoint
    assert settings.of_run(checkpoint).as_dict() == small().as_dict()


def test_a_checkpoint_of_another_network_is_an_error(trained, small, tmp_path):
    folder = trained(NESTEROV)
    wider = small()
    wider.task.model.backbone.width_multiplier = 1 / 8
    with pytest.raises(UserError, match="width_multiplier is 0.0625 there"):
        export.export(wider, str(folder), str(tmp_path / "export"))

    # Without params.yaml beside it, by the shapes.
    for path in folder.glob("ckpt-4.*"):
        shutil.copy(path, tmp_path)
    checkpoint = str(tmp_path / "ckpt-4")
    deeper = small()
    deeper.task.model.backbone.model_id = 18
    for config in (wider, deeper):
        with pytest.raises(UserError, match="ckpt-4 is no checkpoint of") as e:
            export.export(config, checkpoint, str(tmp_path / "export"))
        assert "\n" not in str(e.value)
    assert not (tmp_path / "export").exists()


def test_nothing_is_written_over(exported, trained, small, tmp_path):
    before = (exported / "saved_model.pb").stat().st_mtime_ns
    with pytest.raises(UserError, match="is not empty; give a new"):
        export.export(small(), str(trained(NESTEROV)), str(exported))
    assert (exported / "saved_model.pb").stat().st_mtime_ns == before


def test_what_is_not_there_is_an_error_in_one_line(exported, small, tmp_path):
    for call, words in (
        (lambda: export.find(str(tmp_path)), "there is no checkpoint"),
        (lambda: evaluate.evaluate(str(tmp_path)), "there is no SavedModel"),
        (lambda: evaluate.evaluate(str(exported), "x-*"), "no file matches"),
    ):
        with pytest.raises(UserError, match=words) as error:
            call()
        assert "\n" not in str(error.value)
