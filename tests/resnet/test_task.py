"""The task: its loss, its metrics, and what it refuses."""

import numpy as np
import pytest
import tensorflow as tf
from official.core import base_trainer, exp_factory, task_factory

from tf_largebatch.errors import UserError
from tf_largebatch.resnet import experiment, task
from tf_largebatch.tf_keras import LARS, Adam, Nesterov, model_garden

SIZE = 8
CLASSES = 6


def small_config(**losses):
    config = exp_factory.get_exp_config(experiment.NAME)
    data = {"image_size": SIZE, "num_classes": CLASSES, "dtype": "float32"}
    config.override(
        {
            "task": {
                "model": {
                    "backbone": {
                        "model_id": 10,
                        "width_multiplier": 1 / 32,
                        "virtual_batch_size": 4,
                        "gamma_0": 0.5,
                    },
                    "num_classes": CLASSES,
                    "input_size": [SIZE, SIZE, 3],
                },
                "losses": losses,
                "train_data": {"global_batch_size": 16, **data},
                "validation_data": {"global_batch_size": 4, **data},
            }
        }
    )
    return config


@pytest.fixture(scope="module")
def batch():
    random = np.random.default_rng(0)
    images = random.normal(size=(8, SIZE, SIZE, 3)).astype("float32")
    return tf.constant(images), tf.constant(random.integers(CLASSES, size=8))


@pytest.fixture(scope="module")
def small():
    """The task with label smoothing, and its network."""
    made = task_factory.get_task(small_config(label_smoothing=0.15).task)
    assert type(made) is task.ResNetTask
    return made, made.build_model()


def log_softmax(logits):
    return logits - np.log(np.sum(np.exp(logits), 1, keepdims=True))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.15])
def test_cross_entropy_spreads_the_smoothing_over_all_classes(smoothing):
    random = np.random.default_rng(1)
    logits = random.normal(size=(5, CLASSES)) * 3
    labels = random.integers(CLASSES, size=5)
    targets = np.eye(CLASSES)[labels] * (1 - smoothing) + smoothing / CLASSES
    expected = -np.sum(targets * log_softmax(logits), 1)
    found = task.cross_entropy(
        tf.constant(labels), tf.constant(logits, tf.float32), smoothing
    )
    np.testing.assert_allclose(found, expected, rtol=1e-6)


NAN = float("nan")


@pytest.mark.parametrize(
    "logits, label, first, fifth",
    [
        ([6, 5, 4, 3, 2, 1], 0, 1, 1),
        ([6, 5, 4, 3, 2, 1], 4, 0, 1),
        ([6, 5, 4, 3, 2, 1], 5, 0, 0),
        # Ties: the lower class comes first, so not all are right.
        ([1, 1, 1, 1, 1, 1], 0, 1, 1),
        ([1, 1, 1, 1, 1, 1], 4, 0, 1),
        ([1, 1, 1, 1, 1, 1], 5, 0, 0),
        # A network that diverged.
        ([NAN] * 6, 0, 0, 0),
        ([9, NAN, 1, 1, 1, 1], 0, 0, 0),
        # Fewer than five classes.
        ([2, 1], 1, 0, 1),
    ],
)
def test_what_counts_as_correct(logits, label, first, fifth):
    logits = tf.constant([logits], tf.float32)
    assert task.correct(tf.constant([label]), logits, 1) == first
    assert task.correct(tf.constant([label]), logits, 5) == fifth


def test_gradients_are_of_the_sum_over_the_global_batch(small, batch):
    made, model = small
    images, labels = batch
    metrics = made.build_metrics(training=True)
    gradients, losses = made.gradients(batch, model, metrics)

    with tf.GradientTape() as tape:
        logits = model(images, training=True)
        mean = tf.reduce_mean(task.cross_entropy(labels, logits, 0.15))
    expected = tape.gradient(mean, model.trainable_variables)
    assert len(gradients) == len(expected) == len(model.trainable_variables)
    for found, of_mean in zip(gradients, expected):
        # Half of the global batch is here.
        np.testing.assert_allclose(found, of_mean / 2, rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(np.mean(losses), mean, rtol=1e-6)
    (accuracy,) = metrics
    right = np.argmax(logits, 1) == labels.numpy()
    assert accuracy.name == "accuracy" and accuracy.result() == np.mean(right)


def test_the_losss_l2_is_on_all_but_the_norms_and_counts_once(small, batch):
    """Here is half of the global batch, so here is half of the L2."""
    made, model = small
    decaying = task_factory.get_task(
        small_config(label_smoothing=0.15, l2_weight_decay=0.25).task
    )
    plain, _ = made.gradients(batch, model, [])
    penalized, losses = decaying.gradients(batch, model, [])
    for variable, without, found in zip(
        model.trainable_variables, plain, penalized
    ):
        norms = variable.name.endswith(("gamma:0", "beta:0"))
        expected = 0.0 if norms else 0.125 * variable.numpy()
        np.testing.assert_allclose(found - without, expected, atol=2e-6)
    # What is reported is the data's loss.
    _, data_losses = made.gradients(batch, model, [])
    np.testing.assert_allclose(losses, data_losses, rtol=1e-5)


OLD_LARS = {"variant": "contrib_old"}


@pytest.mark.parametrize(
    "optimizer, refused",
    [
        (LARS(0.1, weight_decay=1e-4, **OLD_LARS), False),
        (LARS(0.1, weight_decay=1e-4), True),
        (LARS(0.1, weight_decay=0.0), False),
        (Nesterov(0.1, weight_decay=1e-4), True),
        (Nesterov(0.1), False),
        (Adam(weight_decay=1e-2), True),
    ],
)
def test_the_loss_and_the_optimizer_do_not_both_decay(optimizer, refused):
    decaying = task_factory.get_task(small_config(l2_weight_decay=1e-4).task)
    task_factory.get_task(small_config().task).check_optimizer(optimizer)
    if not refused:
        decaying.check_optimizer(optimizer)
        return
    with pytest.raises(UserError, match="the optimizer decays by itself"):
        decaying.check_optimizer(optimizer)


def test_moving_statistics_wait_for_the_end_of_the_step(small, batch):
    made, model = small
    moving = [each for each in model.weights if "moving" in each.name]
    before = [each.numpy() for each in moving]
    made.gradients(batch, model, [])
    for each, value in zip(moving, before):
        np.testing.assert_array_equal(each, value)
    made.end_step(model)
    for each, value in zip(moving, before):
        assert np.any(each.numpy() != value), each.name


def test_padding_does_not_count_and_the_loss_is_not_smoothed(small, batch):
    made, model = small
    images, labels = batch
    logits = model(images[:5], training=False).numpy().astype("float64")
    rows = range(5), labels[:5].numpy()
    weights = tf.constant([1.0] * 5 + [0.0] * 3)
    metrics = made.build_metrics(training=False)
    assert made.validation_step((images, labels, weights), model, metrics) == {}

    found = {metric.name: float(metric.result()) for metric in metrics}
    order = np.argsort(-logits, 1) == labels[:5].numpy()[:, None]
    assert found == {
        "accuracy": pytest.approx(np.mean(order[:, 0])),
        "top_5_accuracy": pytest.approx(np.mean(order[:, :5].any(1))),
        "validation_loss": pytest.approx(
            -np.mean(log_softmax(logits)[rows]), rel=1e-6
        ),
        "examples": 5,
    }


def test_the_seed_decides_the_initial_weights():
    def weights(seed):
        config = small_config().task.replace(seed=seed)
        return task_factory.get_task(config).build_model().get_weights()

    first, again, other = weights(1), weights(1), weights(2)
    assert all(map(np.array_equal, first, again))
    assert not np.array_equal(first[0], other[0])


def test_the_gardens_own_trainer_takes_the_same_step(small, batch):
    """Its `train_step` is all that a trainer without accumulation calls."""
    made, model = small
    starts = model.get_weights()
    config = small_config(label_smoothing=0.15)
    config.task.train_data.global_batch_size = 8
    made = task_factory.get_task(config.task)
    trainer = base_trainer.Trainer(
        config,
        made,
        model,
        Nesterov(0.1),
        evaluate=False,
        train_dataset=tf.data.Dataset.from_tensors(batch),
    )
    logs = trainer.train(tf.constant(1))
    ends = model.get_weights()

    model.set_weights(starts)
    gradients, losses = made.gradients(batch, model, [])
    variables = model.trainable_variables
    Nesterov(0.1).apply_gradients(zip(gradients, variables))
    made.end_step(model)
    np.testing.assert_allclose(logs["training_loss"], np.mean(losses), 1e-6)
    for found, expected, start in zip(ends, model.get_weights(), starts):
        assert np.any(found != start)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_the_experiment_is_imagenet_as_the_paper_has_it():
    config = exp_factory.get_exp_config(experiment.NAME)
    task.check(config.task)
    assert config.task.train_data.num_examples == 1_281_167
    assert config.task.validation_data.num_examples == 50_000
    assert config.task.model.num_classes == 1000
    assert config.task.model.backbone.virtual_batch_size == 64
    assert config.runtime.mixed_precision_dtype == "bfloat16"
    # 2,512 steps are 16 times 4 epochs of 32,768, rounded up.
    assert config.trainer.validation_interval * 16 == config.trainer.train_steps
    assert isinstance(
        config.trainer.optimizer_config,
        model_garden.LargeBatchOptimizationConfig,
    )


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"losses": {"l2_weight_decay": -1e-4}}, "l2_weight_decay is -0.0001"),
        ({"losses": {"label_smoothing": 1.0}}, "label_smoothing is 1.0"),
        ({"losses": {"label_smoothing": -0.1}}, "label_smoothing is -0.1"),
        ({"train_data": {"image_size": 9}}, "9, in task.train_data, but"),
        ({"validation_data": {"image_size": 9}}, "9, in task.validation_data"),
        ({"train_data": {"num_classes": 9}}, "9, in task.train_data, but 6"),
        ({"model": {"num_classes": 9}}, "but 9, in task.model"),
    ],
)
def test_a_value_that_cannot_be_is_an_error_in_one_line(changes, words):
    config = small_config().task
    config.override(changes)
    with pytest.raises(UserError, match=words) as error:
        task_factory.get_task(config)
    assert "\n" not in str(error.value)
