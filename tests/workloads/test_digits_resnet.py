"""The digits workload: its data, its model, its loss and its order."""

import weakref

import numpy as np
import pytest
from sklearn import datasets

from tf_largebatch import configs, workloads
from tf_largebatch.workloads import digits_resnet

CONFIG = configs.load("workloads", "digits_resnet")
SPLITS = CONFIG["splits"]


@pytest.fixture(scope="module")
def workload():
    return workloads.load(CONFIG | {"name": CONFIG["workload"]})


@pytest.fixture(scope="module")
def model():
    return digits_resnet.build_model(64, gamma_0=0.25, seed=3)


def test_every_digit_is_in_exactly_one_split():
    splits = digits_resnet.data(SPLITS)
    assert [len(y) for _, y in splits.values()] == list(SPLITS.values())
    images = np.concatenate([x for x, _ in splits.values()])
    scanned = datasets.load_digits().images
    sums = images.sum((1, 2, 3), dtype="float64")
    assert len(images) == len(scanned)
    # Scaling is linear, so the order of sums is that of the pixels' sums.
    expected = np.sort(scanned.sum((1, 2)))
    correlation = np.corrcoef(np.sort(sums), expected)[0, 1]
    assert correlation > 1 - 1e-9


def test_splits_are_stratified_and_always_the_same():
    one, two = digits_resnet.data(SPLITS), digits_resnet.data(SPLITS)
    for name, (images, labels) in one.items():
        np.testing.assert_array_equal(images, two[name][0])
        counts = np.bincount(labels, minlength=10)
        assert np.ptp(counts / len(labels)) < 0.02


def test_images_are_scaled_by_the_training_split():
    splits = digits_resnet.data(SPLITS)
    train = splits["train"][0].astype("float64")
    assert abs(train.mean()) < 1e-5
    assert abs(train.std() - 1) < 1e-5
    assert abs(splits["test"][0].astype("float64").mean()) > 1e-4


def test_the_model_is_a_resnet_v1_5(model):
    strides = {
        layer.name: layer.strides
        for layer in model.layers
        if layer.name.endswith("_conv")
    }
    assert strides["block2_1_conv"] == (1, 1)
    assert strides["block2_2_conv"] == (2, 2)
    assert strides["block2_shortcut_conv"] == (2, 2)
    assert not any(
        layer.use_bias for layer in model.layers if layer.name in strides
    )
    assert model.count_params() == 13_914


def test_gamma_0_is_of_the_last_norm_of_each_block_only(model):
    gammas = {
        layer.name: np.unique(layer.gamma.numpy()).tolist()
        for layer in model.layers
        if layer.name.endswith("_norm")
    }
    last = {f"block{block}_3_norm" for block in (1, 2, 3)}
    assert last < set(gammas)
    for name, values in gammas.items():
        assert values == ([0.25] if name in last else [1.0])


def test_kernels_start_as_the_published_pipelines(model):
    kernel = model.get_layer("block2_2_conv").kernel.numpy()
    fan_in = np.prod(kernel.shape[:3])
    assert kernel.std() == pytest.approx(fan_in**-0.5, rel=0.05)
    assert abs(kernel).max() < 2.3 * fan_in**-0.5  # Truncated.
    head = model.get_layer("head")
    assert head.kernel.numpy().std() == pytest.approx(0.01, rel=0.1)
    assert not head.bias.numpy().any()


def test_the_seed_decides_the_initial_weights(workload):
    settings = {"gamma_0": 0.5}
    one = workload.initial_weights(5, settings)
    same = workload.build_model(5, settings)
    other = workload.initial_weights(6, settings)
    for a, b in zip(one, same.get_weights()):
        np.testing.assert_array_equal(a, b)
    assert any((a != b).any() for a, b in zip(one, other))


def test_few_initial_weights_are_kept(workload):
    made = [
        weakref.ref(workload.initial_weights(seed, {"gamma_0": 0.5})[0])
        for seed in range(workloads.KEPT + 3)
    ]
    kept = [weights() is not None for weights in made]
    assert kept == [False] * 3 + [True] * workloads.KEPT


def test_every_epoch_sees_every_example_once(workload):
    order = workload.order(seed=1, steps=5)
    assert order.shape == (5, 512)
    epochs = order[:4].reshape(2, 1024)
    for epoch in epochs:
        np.testing.assert_array_equal(np.sort(epoch), np.arange(1024))
    assert (epochs[0] != epochs[1]).any()
    assert (order != workload.order(seed=2, steps=5)).any()
    np.testing.assert_array_equal(order, workload.order(seed=1, steps=5))


@pytest.mark.parametrize("smoothing", [0.0, 0.15])
def test_the_loss_is_cross_entropy_with_uniform_smoothing(smoothing):
    logits = np.random.default_rng(0).normal(size=(6, 10))
    labels = np.arange(6, dtype="int32")
    target = (1 - smoothing) * np.eye(10)[labels] + smoothing / 10
    log_p = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    loss = digits_resnet.cross_entropy(
        labels, logits.astype("float32"), smoothing
    )
    np.testing.assert_allclose(loss, -(target * log_p).sum(1).mean(), rtol=1e-6)


def test_the_metric_is_the_share_of_right_answers():
    logits = np.eye(10, dtype="float32")[[0, 1, 2, 3, 4]]
    labels = np.array([0, 1, 2, 9, 9], "int32")
    assert float(digits_resnet.accuracy(labels, logits)) == 3 / 5
