"""Pretraining: its losses, its network, and runs of it."""

import functools
import pathlib
import re
import runpy

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.core import exp_factory, task_factory

from tf_largebatch.bert import experiment, pretraining
from tf_largebatch.errors import UserError
from tf_largebatch.garden import evaluate, export, train
from tf_largebatch.tf_keras import LAMB

RANDOM = runpy.run_path(
    str(pathlib.Path(__file__).with_name("random_examples.py"))
)
BATCH, STEPS = RANDOM["BATCH"], RANDOM["STEPS"]
NO_DROPOUT = {
    "encoder": {"bert": {"dropout_rate": 0.0, "attention_dropout_rate": 0.0}}
}
GROUP = 4
# A constant that is added to all inputs of a softmax has no effect. The
# gradient is what rounding leaves of 0.
WITHOUT_EFFECT = "key/bias"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of examples."""
    return RANDOM["write"](tmp_path_factory.mktemp("examples"))


@pytest.fixture(scope="module")
def small(folder):
    """A function that returns the settings of the small network."""
    return lambda **overrides: RANDOM["settings"](folder, **overrides)


@pytest.fixture(scope="module")
def replicas(folder, run_script):
    """A function that returns what `replicas.py` finds, of a part."""
    run = functools.cache(
        lambda parts: run_script(
            "bert/replicas.py", EXAMPLES=str(folder), PARTS=parts
        )
    )
    quick = "lamb groups evaluations"
    return lambda part: values(
        run(quick if part in quick else part), f"{part} "
    )


def values(arrays, prefix):
    return {
        key.removeprefix(prefix): value
        for key, value in arrays.items()
        if key.startswith(prefix)
    }


# ---------------------------------------------------------------------------
# Devices.


def assert_same_ends(arrays, way, reference):
    """Parameters are equal to 1e-5 of the distance moved."""
    norm = np.linalg.norm
    moved = values(arrays, f"{reference} moved ")
    found, expected = (
        values(arrays, f"{each} end ") for each in (way, reference)
    )
    assert found.keys() == expected.keys() == moved.keys()
    for name, value in expected.items():
        if WITHOUT_EFFECT not in name:
            allowed = 1e-5 * norm(moved[name])
            assert norm(found[name] - value) <= allowed, name
            assert allowed > 0 or "pooler_transform" in name
        else:
            effective = moved[name.replace("key", "query")]
            assert norm(moved[name]) < 1e-3 * norm(effective)


@pytest.mark.parametrize(
    "optimizer, way",
    [
        ("lamb", "2x4"),
        *(
            pytest.param("adam", way, marks=pytest.mark.slow)
            for way in ("2x4", "1x4", "2x2", "4x1")
        ),
    ],
)
def test_devices_and_micro_batches_make_no_difference(optimizer, way, replicas):
    """Though replicas have different numbers of tokens to predict."""
    assert_same_ends(replicas(optimizer), way, "1x1")


def test_devices_make_no_difference_to_groups_and_dropout(replicas):
    """Where they take the same micro-batches."""
    assert_same_ends(replicas("groups"), "2x2", "1x4")


@pytest.mark.parametrize(
    "part, way, reference",
    [("lamb", "2x4", "1x1"), ("groups", "2x2", "1x4")],
)
def test_figures_of_training_are_those_of_the_global_batch(
    part, way, reference, replicas
):
    arrays = replicas(part)
    found, expected = (values(arrays, f"{each} ") for each in (way, reference))
    for name in ("training_loss", "masked_lm_loss", "masked_lm_accuracy"):
        assert found[name] == pytest.approx(expected[name], rel=1e-5), name


@pytest.mark.parametrize("way", ["1", "4"])
def test_an_evaluation_counts_each_example_once(way, replicas, small):
    """10 at batch 7 on 4 replicas, among others; against NumPy."""
    found = values(replicas("evaluations"), f"{way} ")
    task = task_factory.get_task(small().task)
    data = task.task_config.validation_data.replace(global_batch_size=10)
    ((examples, weights),) = task.build_inputs(data)
    assert weights.numpy().tolist() == [1] * 10
    outputs = task.inference_step(examples, task.build_model())
    expected = figures(examples, outputs)
    assert found["examples"] == 10
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-5), name


def figures(examples, outputs):
    """Returns losses and accuracies in float64."""
    weights = examples["masked_lm_weights"].numpy()
    parts = {
        "masked_lm": ("masked_lm_ids", "mlm_logits", weights),
        "next_sentence": (
            *("next_sentence_labels", "next_sentence"),
            np.ones(len(weights)),
        ),
    }
    found = {}
    for part, (labels, logits, counts) in parts.items():
        labels = examples[labels].numpy()
        logits = outputs[logits].numpy().astype("f8")
        losses = cross_entropy(labels, logits)
        right = logits.argmax(-1) == labels
        for name, each in (("loss", losses), ("accuracy", right)):
            found[f"{part}_{name}"] = np.sum(each * counts) / np.sum(counts)
    return found


def cross_entropy(labels, logits):
    log = np.log(np.exp(logits).sum(-1))
    return log - np.take_along_axis(logits, labels[..., None], -1)[..., 0]


# ---------------------------------------------------------------------------
# A step.


@pytest.fixture(scope="module")
def step(small):
    """A task without dropout, its network, and the batch of a step."""

    def make(**changes):
        config = small(task={"model": NO_DROPOUT, **changes}).task
        task = task_factory.get_task(config)
        return task, task.build_model(), task.build_inputs(config.train_data)

    return make


def loss_of(examples, model, weights_sum, rows):
    """Returns what rows add to the losses, without the task's functions."""
    outputs = model(
        {name: examples[name] for name in pretraining.INPUTS}, training=True
    )
    masked_lm = next_sentence = 0.0
    for row in rows:
        log = tf.nn.log_softmax(outputs["mlm_logits"][row])
        for place, label in enumerate(examples["masked_lm_ids"][row]):
            weight = examples["masked_lm_weights"][row, place]
            masked_lm -= weight * log[place, label]
        log = tf.nn.log_softmax(outputs["next_sentence"][row])
        next_sentence -= log[examples["next_sentence_labels"][row]]
    return masked_lm / weights_sum + next_sentence / len(rows)


def assert_close(found, expected, variables):
    for one, other, variable in zip(found, expected, variables, strict=True):
        if WITHOUT_EFFECT not in variable.name:
            error = np.linalg.norm(np.array(one) - np.array(other))
            assert error <= 1e-5 * np.linalg.norm(other) + 1e-7, variable.name


def dense(tape, loss, variables):
    return [
        tf.convert_to_tensor(gradient).numpy()
        for gradient in tape.gradient(loss, variables)
    ]


def test_a_step_has_the_gradient_of_the_loss_over_the_global_batch(step):
    task, model, dataset = step()
    (batch,) = dataset.take(1)
    variables = task.trained_variables(model)
    with tf.GradientTape() as tape:
        total = np.sum(batch["masked_lm_weights"])
        loss = loss_of(batch, model, total, range(BATCH))
    expected = dense(tape, loss, variables)
    metrics = task.build_metrics()
    found, losses = task.gradients(task.synchronize(batch), model, metrics)
    assert_close(found, expected, variables)
    assert float(tf.reduce_mean(losses)) == pytest.approx(float(loss))
    logged = {each.name: float(each.result()) for each in metrics}
    assert logged == pytest.approx(
        figures(batch, task.inference_step(batch, model)), rel=1e-5
    )
    assert float(loss) == pytest.approx(
        logged["masked_lm_loss"] + logged["next_sentence_loss"]
    )


@pytest.mark.parametrize("norm", [0.3, 100.0])
def test_groups_are_clipped_one_by_one_and_summed(step, norm):
    """As google-research/bert does on each core, against NumPy."""
    task, model, dataset = step(group_size=GROUP, group_clip_norm=norm)
    (batch,) = dataset.take(1)
    variables = task.trained_variables(model)
    expected = [np.zeros(v.shape) for v in variables]
    found = [np.zeros(v.shape) for v in variables]
    norms = []
    for first in range(0, BATCH, GROUP):
        group = {
            name: each[first : first + GROUP] if each.shape.rank else each
            for name, each in batch.items()
        }
        with tf.GradientTape() as tape:
            total = np.sum(group["masked_lm_weights"]) + 1e-5
            loss = loss_of(group, model, total, range(GROUP))
        gradients = dense(tape, loss, variables)
        norms.append(np.sqrt(sum(np.sum(each**2.0) for each in gradients)))
        factor = min(1.0, norm / norms[-1])
        expected = [e + factor * g for e, g in zip(expected, gradients)]
        parts, losses = task.gradients(task.synchronize(group), model, [])
        found = [f + g.numpy() for f, g in zip(found, parts)]
        assert float(tf.reduce_mean(losses)) == pytest.approx(float(loss))
    assert (min(norms) > norm) == (norm < 1)
    assert_close(found, expected, variables)


def test_a_group_without_predictions_has_no_masked_lm_loss(step):
    task, model, dataset = step(group_size=GROUP, group_clip_norm=1.0)
    (batch,) = dataset.take(1)
    batch["masked_lm_weights"] *= 0.0
    gradients, losses = task.gradients(task.synchronize(batch), model, [])
    assert np.all(np.isfinite(losses))
    assert np.isfinite(tf.linalg.global_norm(gradients))


def test_a_small_loss_is_the_one_computed_by_hand():
    """Two examples, of one and of two predictions; logits 0 and log 3."""
    logits = np.zeros((2, 2, 4), "f4")
    logits[0, 0, 1] = logits[1, 0, 2] = np.log(3)
    examples = {
        "masked_lm_ids": tf.constant([[1, 0], [1, 3]]),
        "masked_lm_weights": tf.constant([[1.0, 0.0], [1.0, 1.0]]),
        "next_sentence_labels": tf.constant([0, 1]),
    }
    outputs = {
        "mlm_logits": logits,
        "next_sentence": np.log([[3, 1], [3, 1]]).astype("f4"),
    }
    losses = pretraining.masked_lm_losses(examples, outputs)
    expected = [[np.log(2), 0], [np.log(6), np.log(4)]]
    np.testing.assert_allclose(losses, expected, rtol=1e-6)
    losses = pretraining.next_sentence_losses(examples, outputs)
    np.testing.assert_allclose(losses, [np.log(4 / 3), np.log(4)], rtol=1e-6)


def test_only_the_poolers_variables_are_not_trained(step):
    task, model, _ = step()
    trained = {id(each) for each in task.trained_variables(model)}
    left = [x.name for x in model.trainable_variables if id(x) not in trained]
    assert left == ["pooler_transform/kernel:0", "pooler_transform/bias:0"]


# ---------------------------------------------------------------------------
# The network.

NOT_DECAYED = [
    *("embeddings/layer_norm/beta", "embeddings/layer_norm/gamma"),
    *(
        f"transformer/layer_0/{name}"
        for name in (
            "intermediate/bias",
            "output/bias",
            "output_layer_norm/beta",
            "output_layer_norm/gamma",
            "self_attention/attention_output/bias",
            "self_attention/key/bias",
            "self_attention/query/bias",
            "self_attention/value/bias",
            "self_attention_layer_norm/beta",
            "self_attention_layer_norm/gamma",
        )
    ),
    *(
        f"bert/{name}"
        for name in (
            "cls/predictions/output_bias/bias",
            "cls/predictions/transform/LayerNorm/beta",
            "cls/predictions/transform/LayerNorm/gamma",
            "cls/predictions/transform/dense/bias",
            "next_sentence/logits/bias",
            "next_sentence/pooler_dense/bias",
        )
    ),
]
DECAYED = [
    "bert/cls/predictions/transform/dense/kernel",
    "bert/next_sentence/logits/kernel",
    "bert/next_sentence/pooler_dense/kernel",
    "position_embedding/embeddings",
    "transformer/layer_0/intermediate/kernel",
    "transformer/layer_0/output/kernel",
    "transformer/layer_0/self_attention/attention_output/kernel",
    "transformer/layer_0/self_attention/key/kernel",
    "transformer/layer_0/self_attention/query/kernel",
    "transformer/layer_0/self_attention/value/kernel",
    "type_embeddings/embeddings",
    "word_embeddings/embeddings",
]


def test_weight_decay_leaves_out_these_variables(step):
    """Biases and norms; the query's, key's and value's biases have rank 2."""
    task, model, _ = step()
    variables = task.trained_variables(model)
    ranks = {v.name: v.shape.rank for v in variables}
    assert ranks["transformer/layer_0/self_attention/query/bias:0"] == 2
    before = {v.name.removesuffix(":0"): v.numpy() + 1.0 for v in variables}
    for variable in variables:
        variable.assign_add(tf.ones_like(variable))
    optimizer = LAMB(0.1, weight_decay=0.5)
    optimizer.build(variables)
    optimizer.apply_gradients([(tf.zeros_like(v), v) for v in variables])
    still = [
        name
        for name, variable in zip(before, variables)
        if np.array_equal(before[name], variable)
    ]
    assert sorted(still) == sorted(NOT_DECAYED)
    assert sorted(set(before) - set(still)) == sorted(DECAYED)


LARGE = {
    "hidden_size": 1024,
    "num_layers": 1,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
BASE = {
    "hidden_size": 768,
    "num_layers": 1,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}


@pytest.fixture(scope="module")
def large():
    """BERT-Large with one layer only."""
    return network_of(LARGE)


def network_of(size):
    config = exp_factory.get_exp_config(pretraining.NAME).task
    config.override({"model": {"encoder": {"bert": size}}})
    return task_factory.get_task(config).build_model()


def test_every_norm_has_epsilon_1e_12(large):
    norms = [
        each
        for each in large.submodules
        if isinstance(each, tf_keras.layers.LayerNormalization)
    ]
    assert [norm.epsilon for norm in norms] == [1e-12] * 4


def test_weights_are_drawn_from_a_truncated_normal_of_0_02(large):
    """Cut at two deviations, which leaves 0.8796 of the deviation."""
    drawn = set()
    for variable in large.trainable_variables:
        name = variable.name.split(":")[0]
        if name.endswith(("kernel", "embeddings")):
            array = variable.numpy()
            error = 4 / np.sqrt(2 * array.size)
            assert array.std() == pytest.approx(0.8796 * 0.02, rel=error), name
            assert np.abs(array).max() <= 0.04
            drawn.add(array.flat[0])
        else:
            expected = 1.0 if name.endswith("gamma") else 0.0
            assert np.all(variable.numpy() == expected), name
    assert len(drawn) == 13


def test_the_heads_have_the_encoders_width(large):
    (head,) = large.classification_heads
    assert head.dense.kernel.shape == (1024, 1024)
    assert head.out_proj.kernel.shape == (1024, 2)
    assert large.masked_lm.dense.kernel.shape == (1024, 1024)
    assert head.dropout.rate == 0


@pytest.mark.parametrize(
    "size, layers, published", [(BASE, 12, 110.1e6), (LARGE, 24, 336.2e6)]
)
def test_parameters_are_as_many_as_the_released_checkpoints_have(
    size, layers, published, large
):
    """google-research/bert: 110,106,428 and 336,226,108.

    The Model Garden's next-sentence head has a pooler of its own, so that the
    encoder's comes on top.
    """
    model = large if size is LARGE else network_of(size)
    width = size["hidden_size"]
    (block,) = model.encoder_network.transformer_layers
    pooler = width * width + width
    count = model.count_params() - pooler + (layers - 1) * block.count_params()
    exact = {12: 110_106_428, 24: 336_226_108}[layers]
    assert count == exact == pytest.approx(published, rel=1e-3)


def test_the_seed_decides_the_initial_weights(small):
    def weights(seed):
        task = task_factory.get_task(small(task={"seed": seed}).task)
        return task.build_model().get_weights()

    for one, same, other in zip(weights(1), weights(1), weights(2)):
        np.testing.assert_array_equal(one, same)
        assert (one != other).any() or not one.any() or (one == 1).all()


# ---------------------------------------------------------------------------
# Runs.


@pytest.fixture(scope="module")
def trained(small, tmp_path_factory):
    """The folder and the figures of a run, with dropout."""
    run = tmp_path_factory.mktemp("run")
    return run, train.run(small(), "train_and_eval", str(run))


def test_a_run_reports_losses_and_accuracies(trained):
    _, found = trained
    assert found["examples"] == 10
    assert found["masked_lm_loss"] == pytest.approx(np.log(60), rel=0.1)
    assert found["next_sentence_loss"] == pytest.approx(np.log(2), rel=0.1)
    assert 0 <= found["masked_lm_accuracy"] < 0.2


def state(path):
    """Returns all that a checkpoint holds, by name."""
    return {
        name: tf.train.load_variable(path, name)
        for name, _ in tf.train.list_variables(path)
        if name.endswith("VARIABLE_VALUE") and "save_counter" not in name
    }


def test_a_run_that_is_resumed_ends_at_the_same_bits(trained, small, tmp_path):
    """With dropout, within an epoch, from any step on."""
    whole, figures = trained
    part = small(trainer={"train_steps": 1})
    train.run(part, "train", str(tmp_path))
    assert train.run(small(), "train_and_eval", str(tmp_path)) == figures
    expected = state(f"{whole}/ckpt-{STEPS}")
    found = state(f"{tmp_path}/ckpt-{STEPS}")
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)


def test_dropout_is_another_one_for_other_examples_and_seeds(small):
    task = task_factory.get_task(small().task)
    model = task.build_model()
    (batch,) = task.build_inputs(task.task_config.train_data).take(1)
    batch = task.synchronize(batch)

    def losses(task, shift=0):
        moved = {**batch, "numbers": batch["numbers"] + shift}
        return task.gradients(moved, model, [])[1].numpy()

    first = losses(task)
    np.testing.assert_array_equal(first, losses(task))
    other = task_factory.get_task(small(task={"seed": 1}).task)
    assert (first != losses(task, shift=1)).all()
    assert (first != losses(other)).all()


def test_a_phase_begins_with_the_weights_of_another(trained, small, tmp_path):
    """And with nothing else: the step and the optimizer begin anew."""
    path = tmp_path / "longer"
    random = np.random.default_rng(1)
    RANDOM["write_file"](path, [RANDOM["draw"](random, 16)] * 16)
    config = small(
        task={
            "init_checkpoint": str(trained[0]),
            "train_data": {"seq_length": 16, "input_path": str(path)},
        },
        trainer={"train_steps": 1},
    )
    train.run(config, "train", str(tmp_path / "phase2"))
    before = state(f"{trained[0]}/ckpt-{STEPS}")
    after = state(f"{tmp_path}/phase2/ckpt-1")
    assert after["global_step/.ATTRIBUTES/VARIABLE_VALUE"] == 1
    # The first step's rate is 0.
    assert {k for k in after if "optimizer" not in k} <= set(before)
    for name, value in after.items():
        if "optimizer" not in name and "global_step" not in name:
            np.testing.assert_array_equal(value, before[name], err_msg=name)


# ---------------------------------------------------------------------------
# What is exported says what the trainer says.


@pytest.fixture(scope="module")
def exported(trained, small, tmp_path_factory):
    """The SavedModel of that run."""
    saved = tmp_path_factory.mktemp("export") / "saved"
    export.export(small(), str(trained[0]), str(saved))
    return saved


def test_evaluating_it_gives_the_figures_of_training(exported, trained, folder):
    _, figures = trained
    others = {"step": RANDOM["STEPS"]}
    for path in (None, f"{folder}/validation-*"):
        found = evaluate.evaluate(str(exported), path)
        assert found["examples"] == RANDOM["COUNTS"]["validation"]
        assert {**found, **others} == pytest.approx(figures, rel=1e-5)


def test_other_examples_are_counted_as_they_are(exported, trained, folder):
    _, figures = trained
    found = evaluate.evaluate(str(exported), f"{folder}/train-*")
    assert found["examples"] == RANDOM["COUNTS"]["train"]
    assert found["masked_lm_loss"] != figures["masked_lm_loss"]


def test_nothing_for_training_is_exported(exported):
    path = exported / "variables" / "variables"
    names = {name for name, _ in tf.train.list_variables(str(path))}
    assert {name.split("/")[0] for name in names} == {
        "weights",
        "_CHECKPOINTABLE_OBJECT_GRAPH",
    }


# ---------------------------------------------------------------------------
# Mistakes.

MISTAKES = [
    ({"init_checkpoint": "nowhere"}, "there is no checkpoint nowhere"),
    (
        {"model": {"encoder": {"bert": {"vocab_size": 61}}}},
        "vocab_size is 60 in the checkpoint .*, but 61 in",
    ),
    (
        {"model": {"encoder": {"bert": {"hidden_size": 32}}}},
        "is no checkpoint of this network",
    ),
    (
        {"model": {"encoder": {"bert": {"num_layers": 2}}}},
        "num_layers is 1 in the checkpoint .*, but 2 in",
    ),
]


@pytest.mark.parametrize("changes, words", MISTAKES)
def test_a_checkpoint_that_does_not_fit_is_one_line(
    changes, words, trained, small
):
    config = small(task={"init_checkpoint": str(trained[0]), **changes}).task
    task = task_factory.get_task(config)
    with pytest.raises(UserError, match=words) as error:
        task.initialize(task.build_model())
    assert "\n" not in str(error.value)


def test_a_checkpoint_with_more_layers_is_an_error(small, tmp_path):
    """TensorFlow would leave out those that are too many."""
    two = {"model": {"encoder": {"bert": {"num_layers": 2}}}}
    deep = task_factory.get_task(small(task=two).task).build_model()
    path = tf.train.Checkpoint(model=deep).save(f"{tmp_path}/ckpt")
    task = task_factory.get_task(small(task={"init_checkpoint": path}).task)
    with pytest.raises(UserError, match="num_layers is 2 in the checkpoint"):
        task.initialize(task.build_model())


WRONG_SETTINGS = [
    (
        {"train_data": {"seq_length": 17}},
        r"seq_length is 17, in task.train_data, but .* is 16",
    ),
    (
        {"validation_data": {"seq_length": 99}},
        "seq_length is 99, in task.validation_data",
    ),
    ({"group_size": 4}, "group_size is 4 and group_clip_norm 0.0"),
    ({"group_clip_norm": 1.0}, "group_size is 0 and group_clip_norm 1.0"),
    ({"model": {"encoder": {"type": "albert"}}}, "type is albert"),
    (
        {"model": {"encoder": {"bert": {"num_attention_heads": 3}}}},
        "hidden_size is 16 and num_attention_heads 3",
    ),
]


@pytest.mark.parametrize("changes, words", WRONG_SETTINGS)
def test_settings_that_do_not_fit_are_one_line(changes, words, small):
    with pytest.raises(UserError, match=words) as error:
        task_factory.get_task(small(task=changes).task)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("micro_batch, words", [(8, "is 8"), (0, "is 16")])
def test_a_micro_batch_that_is_no_group_is_an_error(
    micro_batch, words, small, tmp_path
):
    config = small(
        task={"group_size": 4, "group_clip_norm": 1.0},
        trainer={"micro_batch_size": micro_batch},
    )
    with pytest.raises(UserError, match=f"micro_batch_size {words}.* is 4, in"):
        train.run(config, "train", str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_the_experiments_know_their_names():
    for name in (pretraining.NAME, experiment.squad.NAME):
        assert exp_factory.get_exp_config(name).task.name == name
        assert re.fullmatch("largebatch/bert_[a-z]+", name)
