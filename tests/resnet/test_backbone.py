"""The network: its size, its start, and its output against NumPy's."""

import dataclasses
import functools

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from official.vision.configs import common
from official.vision.modeling import classification_model
from official.vision.modeling.backbones import factory

from tf_largebatch.errors import UserError
from tf_largebatch.resnet import backbone, ghost_batch_norm
from tf_largebatch.resnet.backbone import ResNetConfig

# Parameters at 1,000 classes, as torchvision has them (18 to 152 layers; that
# of 10 layers is counted by hand), and how many variables they are: a kernel,
# gamma and beta for each convolution, and the classifier's two.
PARAMETERS = {
    10: (5_418_792, 3 * 12 + 2),
    18: (11_689_512, 3 * 20 + 2),
    34: (21_797_672, 3 * 36 + 2),
    50: (25_557_032, 161),
    101: (44_549_160, 3 * 104 + 2),
    152: (60_192_808, 3 * 155 + 2),
}
# Blocks of each stage, and of each block the convolutions.
BLOCKS = {18: ((2, 2, 2, 2), (3, 3)), 50: ((3, 4, 6, 3), (1, 3, 1))}

EPSILON = 0.1  # Not the default, and large enough to matter.


def build(seed=0, classes=5, size=32, **config):
    """Returns a model that is narrow unless its width is given."""
    tf_keras.utils.set_random_seed(seed)
    config = ResNetConfig(**{"width_multiplier": 1 / 16, **config})
    return backbone.build_model(config, classes, [size, size, 3])


def sizes(variables):
    return sum(int(np.prod(variable.shape)) for variable in variables)


def by_path(model):
    return {weight.name.split(":")[0]: weight for weight in model.weights}


@pytest.mark.parametrize(
    "depth",
    [
        pytest.param(each, marks=[pytest.mark.slow] * (each > 50))
        for each in PARAMETERS
    ],
)
def test_the_known_numbers_of_parameters(depth, wide):
    model = wide
    if depth != 50:
        model = build(model_id=depth, width_multiplier=1.0, classes=1000)
    trainable = model.trainable_variables
    assert (sizes(trainable), len(trainable)) == PARAMETERS[depth]
    # Moving statistics are as many as gammas and betas.
    norms = [v for v in trainable if v.name.endswith(("gamma:0", "beta:0"))]
    assert sizes(model.non_trainable_variables) == sizes(norms)
    assert model.name == f"resnet{depth}"
    if depth == 50:
        assert sizes(norms) == 53_120


@pytest.fixture(scope="module")
def wide():
    """ResNet-50 at full width, with a gamma_0 like no other gamma."""
    return build(width_multiplier=1.0, classes=1000, gamma_0=0.25)


def test_kernels_start_as_truncated_normals_of_variance_1_over_fan_in(wide):
    kernels = {
        path: weight.numpy()
        for path, weight in by_path(wide).items()
        if path.endswith("_conv/kernel")
    }
    assert len(kernels) == 53
    for path, kernel in kernels.items():
        scaled = kernel * np.sqrt(np.prod(kernel.shape[:3]))
        error = 1 / np.sqrt(kernel.size)
        assert abs(scaled.mean()) < 5 * error, path
        # The fourth moment of the truncated normal is 2.37.
        assert abs(scaled.var() - 1) < 5 * np.sqrt(1.37) * error, path
        # Cut at two deviations of the normal, which are 2.27 of its own.
        assert 2.2 < abs(scaled).max() < 2.2737, path


def test_the_classifier_starts_at_n_0_001_and_the_bias_at_0(wide):
    weights = by_path(wide)
    scaled = weights["head/kernel"].numpy() / 0.01
    error = 1 / np.sqrt(scaled.size)
    assert abs(scaled.mean()) < 5 * error
    assert abs(scaled.var() - 1) < 5 * np.sqrt(2) * error
    assert abs(scaled).max() > 4  # Not truncated.
    np.testing.assert_array_equal(weights["head/bias"], np.zeros(1000))


@pytest.mark.parametrize("depth, last", [(18, "2"), (50, "3")])
def test_gamma_0_is_in_the_last_norm_of_each_block_alone(depth, last):
    model = build(model_id=depth, gamma_0=0.25)
    blocks = {
        f"stage{stage}_block{number}_{last}_norm/gamma"
        for stage, repeats in enumerate(BLOCKS[depth][0], 2)
        for number in range(1, repeats + 1)
    }
    starts = {"beta": 0.0, "moving_mean": 0.0, "moving_variance": 1.0}
    for path, weight in by_path(model).items():
        if "_norm/" in path:
            expected = starts.get(path.split("/")[1], 1.0)
            if path in blocks:
                blocks.remove(path)
                expected = 0.25
            np.testing.assert_array_equal(weight, expected, err_msg=path)
    assert not blocks


def test_no_two_kernels_start_alike_and_the_seed_decides_all():
    first, again, other = (
        build(seed, model_id=18).get_weights() for seed in (0, 0, 1)
    )
    for one, two in zip(first, again):
        np.testing.assert_array_equal(one, two)
    kernels = [weight for weight in first + other if weight.ndim > 1]
    assert len({kernel.ravel()[0] for kernel in kernels}) == len(kernels)


@pytest.fixture(scope="module")
def narrow():
    """A function that returns a narrow model, the same one for a depth."""
    return functools.cache(
        lambda depth: build(
            model_id=depth, size=64, virtual_batch_size=2, epsilon=EPSILON
        )
    )


@pytest.mark.parametrize("depth", [18, 50])
def test_names_are_unique_and_the_same_in_every_model(depth, narrow, wide):
    first = narrow(depth)
    second = wide if depth == 50 else build(model_id=depth)
    names = [
        [weight.name for weight in each.weights] for each in (first, second)
    ]
    assert names[0] == names[1]
    assert len(set(names[0])) == len(names[0])
    for layers in zip(first.layers, second.layers):
        assert layers[0].name == layers[1].name


class Oracle:
    """ResNet v1.5 in float64 NumPy, written out from its description."""

    def __init__(self, model, depth, group):
        self.weights = {
            path: weight.numpy().astype("float64")
            for path, weight in by_path(model).items()
        }
        self.repeats, self.kernels = BLOCKS[depth]
        self.group = group  # None: by the moving statistics.

    def stages(self, x):
        x = np.maximum(self.convolution(x, "stem", 7, 2), 0)
        x = windows(pad(x, 0, 1, -np.inf), 3, 2).max((3, 4))
        for stage, repeats in enumerate(self.repeats, 2):
            for number in range(1, repeats + 1):
                stride = 2 if stage > 2 and number == 1 else 1
                x = self.block(x, f"stage{stage}_block{number}", stride)
            yield str(stage), x

    def block(self, x, name, stride):
        shortcut = x
        if f"{name}_shortcut_conv/kernel" in self.weights:
            shortcut = self.convolution(x, f"{name}_shortcut", 1, stride)
        # The first 3x3 convolution has the stride.
        strided = self.kernels.index(3)
        for number, size in enumerate(self.kernels):
            step = stride if number == strided else 1
            x = np.maximum(x, 0) if number else x
            x = self.convolution(x, f"{name}_{number + 1}", size, step)
        return np.maximum(x + shortcut, 0)

    def convolution(self, x, name, size, stride):
        kernel = self.weights[f"{name}_conv/kernel"]
        assert kernel.shape[:2] == (size, size)
        x = windows(pad(x, size // 2, size // 2, 0), size, stride)
        return self.norm(np.einsum("bhwijc,ijcd->bhwd", x, kernel), name)

    def norm(self, x, name):
        names = ("gamma", "beta", "moving_mean", "moving_variance")
        gamma, beta, mean, variance = (
            self.weights[f"{name}_norm/{each}"] for each in names
        )
        if self.group:
            parts = x.reshape(-1, self.group, *x.shape[1:])
            mean = parts.mean((1, 2, 3)).repeat(self.group, 0)[:, None, None]
            variance = parts.var((1, 2, 3)).repeat(self.group, 0)
            variance = variance[:, None, None]
        return gamma * (x - mean) / np.sqrt(variance + EPSILON) + beta

    def head(self, x):
        kernel, bias = (self.weights[f"head/{e}"] for e in ("kernel", "bias"))
        return x.mean((1, 2)) @ kernel + bias


def pad(x, before, after, value):
    sides = [(0, 0), (before, after), (before, after), (0, 0)]
    return np.pad(x, sides, constant_values=value)


def windows(x, size, stride):
    """Returns (batch, height, width, size, size, channels)."""
    view = np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))
    return np.moveaxis(view[:, ::stride, ::stride], 3, 5)


def randomized(model):
    """Gives every variable a value that no initializer gives.

    The gammas are small, or rounding would grow from block to block.
    """
    rng = np.random.default_rng(0)
    for weight in model.weights:
        value = rng.normal(size=weight.shape)
        if weight.name.endswith("kernel:0"):
            value /= np.sqrt(np.prod(weight.shape[:-1]))
        elif weight.name.endswith("gamma:0"):
            value = 0.3 * np.exp(value / 4)
        elif weight.name.endswith("moving_variance:0"):
            value = np.exp(value / 4)
        else:
            value /= 4
        weight.assign(value)
    return model


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("training", [True, False])
def test_outputs_are_those_of_numpy(depth, training, narrow):
    model = randomized(narrow(depth))
    images = np.random.default_rng(1).normal(size=(4, 64, 64, 3))
    oracle = Oracle(model, depth, group=2 if training else None)
    expected = dict(oracle.stages(images))
    relu = {
        stage: f"stage{stage}_block{n}_relu"
        for stage, n in zip("2345", BLOCKS[depth][0])
    }
    outputs = [model.get_layer(name).output for name in relu.values()]
    run = tf_keras.Model(model.input, [*outputs, model.output])
    *found, logits = run(images.astype("float32"), training=training)
    for value, (stage, target) in zip(found, expected.items()):
        tolerance = 5e-6 * abs(target).max()
        np.testing.assert_allclose(
            value, target, rtol=0, atol=tolerance, err_msg=stage
        )
    target = oracle.head(expected["5"])
    np.testing.assert_allclose(logits, target, rtol=0, atol=5e-6)


@pytest.mark.parametrize(
    "depth, width, channels",
    [(50, 1.0, (256, 512, 1024, 2048)), (34, 0.5, (32, 64, 128, 256))],
)
def test_endpoints_have_their_resolutions_and_channels(depth, width, channels):
    config = ResNetConfig(model_id=depth, width_multiplier=width)
    specs = tf_keras.layers.InputSpec(shape=[None, 224, 224, 3])
    network = backbone.ResNet(config, specs)
    assert network.output_specs == {
        stage: [None, size, size, filters]
        for stage, size, filters in zip("2345", (56, 28, 14, 7), channels)
    }


def test_bfloat16_computes_in_it_and_keeps_the_rest_in_float32():
    tf_keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        model = build(model_id=18)
    finally:
        tf_keras.mixed_precision.set_global_policy("float32")
    assert model.get_layer("stage5_block2_relu").output.dtype == tf.bfloat16
    assert model.get_layer("pool").output.dtype == tf.float32
    assert model.output.dtype == tf.float32
    assert {weight.dtype for weight in model.weights} == {tf.float32}


def test_settings_of_the_norms_are_the_configs():
    model = build(model_id=18, epsilon=0.01, momentum=0.8, virtual_batch_size=3)
    norms = ghost_batch_norm.ghost_batch_norms(model)
    assert len(norms) == 20
    for norm in norms:
        found = (norm.epsilon, norm.momentum, norm.virtual_batch_size)
        assert found == (0.01, 0.8, 3)


def test_the_model_garden_finds_the_backbone():
    config = backbone.Backbone()
    config.override({"largebatch_resnet": {"model_id": 18, "gamma_0": 0.5}})
    network = factory.build_backbone(
        tf_keras.layers.InputSpec(shape=[None, 32, 32, 3]),
        config,
        common.NormActivation(),
    )
    assert network.config == ResNetConfig(model_id=18, gamma_0=0.5)
    # The Garden's own classifier, which holds the backbone within.
    model = classification_model.ClassificationModel(
        network, 5, tf_keras.layers.InputSpec(shape=[None, 32, 32, 3])
    )
    assert model(np.zeros((2, 32, 32, 3), "float32")).shape == (2, 5)
    assert len(ghost_batch_norm.ghost_batch_norms(model)) == 20


def test_a_second_registration_does_nothing():
    backbone.register()
    backbone.register()


def test_l2_in_the_loss_is_refused():
    with pytest.raises(UserError, match="weight_decay"):
        factory.build_backbone(
            tf_keras.layers.InputSpec(shape=[None, 32, 32, 3]),
            backbone.Backbone(),
            common.NormActivation(),
            tf_keras.regularizers.L2(1e-4),
        )


def test_the_backbone_is_made_again_from_its_config():
    config = ResNetConfig(model_id=18, width_multiplier=1 / 16, gamma_0=0.5)
    specs = tf_keras.layers.InputSpec(shape=[None, 32, 64, 3])
    network = backbone.ResNet(config, specs, name="small")
    again = tf_keras.saving.deserialize_keras_object(
        tf_keras.saving.serialize_keras_object(network)
    )
    assert isinstance(again, backbone.ResNet)
    assert (again.config, again.name) == (config, "small")
    assert again.output_specs == network.output_specs


def test_a_saved_model_comes_back(tmp_path):
    model = randomized(build(model_id=18))
    images = np.random.default_rng(1).normal(size=(2, 32, 32, 3))
    model.save(tmp_path / "model.keras")
    loaded = tf_keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(images), model(images))


@pytest.mark.parametrize(
    "wrong, wanted",
    [
        ({"model_id": 20}, "model_id is 20.*18, 34, 50, 101, 152"),
        ({"width_multiplier": 0.01}, "width_multiplier is 0.01.*1/64"),
        ({"width_multiplier": float("nan")}, "width_multiplier is nan"),
        ({"epsilon": 0.0}, "epsilon is 0.0"),
        ({"momentum": 1.0}, "momentum is 1.0"),
        ({"momentum": -0.1}, "momentum is -0.1"),
        ({"virtual_batch_size": 0}, "virtual_batch_size is 0"),
    ],
)
def test_values_that_the_network_cannot_have_are_refused(wrong, wanted):
    with pytest.raises(UserError, match=wanted):
        backbone.ResNet(dataclasses.replace(ResNetConfig(), **wrong))
