"""Optimizers stay right wherever Keras carries them: files, copies, graphs."""

import copy
import pickle

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tf_largebatch import tf_keras as largebatch
from tf_largebatch.keras import Adam
from tf_largebatch.variables import Decisions

X = np.random.default_rng(0).normal(size=(16, 4)).astype("float32")
Y = np.random.default_rng(1).normal(size=(16, 2)).astype("float32")


def has_prefix(path, shape):
    return path.startswith("net/")


def in_body(path, shape):
    return "body" in path


for registers in keras, tf_keras:
    for function in has_prefix, in_body:
        registers.saving.register_keras_serializable("carried")(function)


def subclassed(family):
    """Returns a class of models whose variables begin with their names."""

    @family.saving.register_keras_serializable("carried")
    class Net(family.Model):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.body = family.layers.Dense(4)  # Named dense, dense_1, ...
            self.last = family.layers.Dense(2, name="head")

        def call(self, inputs):
            return self.last(self.body(inputs))

        def get_config(self):
            return {"name": self.name}

    return Net


NETS = {family.__name__: subclassed(family) for family in (keras, tf_keras)}


def sequential(layers):
    return layers.Dense(4, name="body"), layers.Dense(2, name="head")


def recurrent(layers):
    return (
        layers.Reshape((2, 2)),
        layers.Bidirectional(layers.LSTM(2), name="body"),
        layers.Dense(2, name="head"),
    )


@pytest.fixture
def model(family, kind):
    """An uncompiled model of four inputs and two outputs."""
    if kind == "subclassed":
        return NETS[family.keras.__name__](name="net")
    layers = family.keras.layers
    parts = recurrent(layers) if kind == "recurrent" else sequential(layers)
    inputs = [] if kind == "lazy" else [family.keras.Input((4,))]
    return family.keras.Sequential([*inputs, *parts], name="net")


SELECTORS = {
    "a layer": ["body|dense"],
    "with slashes": ["/?head/"],
    "the whole path": ["^(net/)?(body|dense).*kernel|bias$"],
    "a prefix": has_prefix,
    "a function": in_body,
}


def trained(family, model, selector):
    optimizer = family.largebatch.LAMB(
        0.01,
        exclude_from_layer_adaptation=selector,
        exclude_from_weight_decay="bias_and_norm",
    )
    loss = family.keras.losses.MeanSquaredError()
    model.compile(optimizer, loss, jit_compile=False)
    model.fit(X, Y, verbose=0)
    return model


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5")
@pytest.mark.parametrize(
    "kind, selector, ending",
    [
        *(("subclassed", selector, "keras") for selector in SELECTORS),
        *(("lazy", selector, "keras") for selector in SELECTORS),
        ("with input", "the whole path", "keras"),
        ("with input", "with slashes", "h5"),
        ("lazy", "a prefix", "h5"),
        ("recurrent", "a layer", "keras"),
    ],
)
def test_what_was_decided_holds_after_loading(
    family, model, selector, ending, tmp_path
):
    trained(family, model, SELECTORS[selector])
    decided = model.optimizer._treatments
    path = str(tmp_path / f"model.{ending}")
    for _ in range(2):  # What was loaded is saved and loaded again.
        model.save(path)
        model = family.keras.models.load_model(path)
    np.testing.assert_allclose(model.predict(X, verbose=0).shape, Y.shape)
    model.fit(X, Y, verbose=0)
    assert model.optimizer._treatments == decided


@pytest.mark.parametrize(
    "copied_by",
    [copy.deepcopy, lambda optimizer: pickle.loads(pickle.dumps(optimizer))],
)
def test_what_was_decided_holds_in_a_copy(copied_by):
    """Of Keras 3: tf_keras copies and pickles none that is built."""
    optimizer = Adam(0.1, exclude_from_weight_decay=["first"])
    optimizer.build([keras.Variable(np.ones(2), name="first")])
    other = copied_by(optimizer)
    other.build([keras.Variable(np.ones(2), name="second")])
    assert not other._treatments[0].decayed


def renamed(family, name):
    """Returns two variables of a model of that name."""
    with (
        family.keras.name_scope(name)
        if family.keras is keras
        else (tf.name_scope(name))
    ):
        return [
            family.variable(np.ones((2, 3)), "kernel"),
            family.variable(np.ones((3, 4)), "kernel"),
        ]


def copied(optimizer, **changes):
    return type(optimizer).from_config({**optimizer.get_config(), **changes})


def constructed(optimizer):
    return type(optimizer)(**optimizer.get_config())


def inside(optimizer):
    """Returns a copy of what is wrapped for mixed precision."""
    if isinstance(optimizer, keras.optimizers.Optimizer):
        kind = keras.optimizers.LossScaleOptimizer
    else:
        kind = tf_keras.mixed_precision.LossScaleOptimizer
    wrapped = kind(optimizer)
    return type(wrapped).from_config(wrapped.get_config()).inner_optimizer


@pytest.fixture
def built(family):
    optimizer = family.largebatch.Adam(
        0.1, weight_decay=0.1, exclude_from_weight_decay=lambda p, s: s[0] == 2
    )
    optimizer._selectors["exclude_from_weight_decay"] = ["first"]
    first, second = renamed(family, "first")
    other = renamed(family, "second")[1]
    optimizer.build([first, other])
    assert [each.decayed for each in optimizer._treatments] == [False, True]
    return optimizer


@pytest.mark.parametrize("copied", [copied, constructed, inside])
def test_a_copy_for_variables_of_other_names_keeps_what_was_decided(
    family, built, copied
):
    other = copied(built)
    other.build(renamed(family, "third"))
    assert other._treatments == built._treatments


def test_another_selector_decides_for_itself(family, built):
    other = copied(built, exclude_from_weight_decay=["third"])
    other.build(renamed(family, "third"))
    assert [each.decayed for each in other._treatments] == [False, False]


def test_other_variables_are_decided_about_and_it_is_said(
    family, built, caplog
):
    other = copied(built)
    with caplog.at_level("INFO", logger="absl"):
        other.build(list(reversed(renamed(family, "first"))))
    assert [each.decayed for each in other._treatments] == [False, False]
    assert "it was saved with other variables" in caplog.text
    others = renamed(family, "third")[:1]
    other = copied(built)
    other.build(others)  # As Keras does when it loads a model.
    with pytest.raises(ValueError, match="matches no variable"):
        other.apply_gradients([(tf.ones((2, 3)), others[0])])


def test_another_lambda_decides_for_itself(family):
    first, second = (
        family.variable(np.ones((2, 2)), name) for name in ("first", "second")
    )
    optimizer = family.largebatch.Adam(
        exclude_from_weight_decay=lambda path, shape: "first" in path
    )
    optimizer.build([first, second])
    other = copied(
        optimizer,
        exclude_from_weight_decay=lambda path, shape: "second" in path,
    )
    other.build([first, second])
    assert [each.decayed for each in other._treatments] == [True, False]


@pytest.mark.parametrize(
    "before, after, holds",
    [
        (["net/a/kernel", "net/b/kernel"], ["a/kernel", "b/kernel"], True),
        (["dense_1/kernel", "dense_2/bias"], ["dense/kernel", "x/bias"], True),
        (["dense_1/w", "dense_2/w"], ["dense/w", "dense_1/w"], True),
        (["b/kernel", "head/kernel"], ["a/kernel", "b/kernel"], False),
        (["a/kernel", "b/kernel"], ["b/kernel", "a/kernel"], False),
    ],
)
def test_variables_are_known_by_order_and_shape(before, after, holds):
    """Unless one of the same path stood elsewhere, as where others freeze."""
    shapes = ((2, 3), (2, 3))
    decisions = Decisions(tuple(before), shapes, ())
    assert decisions.hold(after, shapes) == holds
    assert not decisions.hold(after, ((2, 3), (3, 2)))


@pytest.mark.parametrize(
    "decided", ["x", [1], {"a": 1}, [[], [[4]]], [[], [["a", [4], True]]]]
)
def test_a_damaged_decision_is_named(family, decided):
    with pytest.raises(ValueError, match="`decided` must be what `get_config`"):
        family.largebatch.Adam(decided=decided)


@pytest.mark.parametrize("kind", ["lazy", "subclassed"])
def test_what_was_saved_untrained_is_loaded_to_predict(family, model, tmp_path):
    """The model's name may be gone, and with it what the pattern matches."""
    optimizer = family.largebatch.LAMB(exclude_from_weight_decay=["^net/body"])
    loss = family.keras.losses.MeanSquaredError()
    model.compile(optimizer, loss)
    expected = model.predict(X, verbose=0)
    loaded = model
    for number in range(2):
        loaded.save(tmp_path / f"{number}.keras")
        loaded = family.keras.models.load_model(tmp_path / f"{number}.keras")
    np.testing.assert_allclose(loaded.predict(X, verbose=0), expected)
    with pytest.raises(ValueError, match=r"matches no variable.*'\^net/body'"):
        loaded.fit(X, Y, verbose=0)


@pytest.mark.parametrize("dtype", ["complex64", "complex128", "int32"])
def test_variables_that_no_rule_computes_with_are_refused(family, name, dtype):
    kind = keras.Variable if family.keras is keras else tf.Variable
    z = kind(np.array([3, 4]).astype(dtype), dtype=dtype, name="z")
    with pytest.raises(ValueError, match=rf"variable z .* Received: {dtype}$"):
        family.optimizer(name).build([z])
    assert np.array(z).tolist() == [3, 4]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_small_gradients_count_in_short_variables(family, dtype):
    """Their squares, of 1e-8, are in no 16 bits."""
    kind = keras.Variable if family.keras is keras else tf.Variable
    w = kind(np.zeros(3, "float32"), dtype=dtype, name="w")
    optimizer = family.largebatch.Adam(1e-3)
    optimizer.build([w])
    gradient = tf.constant([1e-4] * 3, dtype)
    for _ in range(100):
        optimizer.apply_gradients([(gradient, w)])
    slots = [slot for slots in optimizer._slots for slot in slots]
    assert {np.array(slot).dtype.name for slot in slots} == {"float32"}
    end = np.array(tf.cast(tf.convert_to_tensor(w), "float32"))
    # By the rate in each step, rounded to the variable's dtype.
    np.testing.assert_allclose(end, -0.1, rtol=0.05)


@pytest.mark.parametrize("shape", [(), (3,), (1, 3), (2, 1), (1, 2, 3)])
def test_a_gradient_that_only_broadcasts_is_refused(family, name, shape):
    w = family.variable(np.ones((2, 3)), "the_kernel")
    optimizer = family.optimizer(name)
    with pytest.raises(ValueError, match=r"the_kernel.*\(2, 3\)\. Received"):
        optimizer.apply_gradients([(tf.ones(shape), w)])
    np.testing.assert_array_equal(np.array(w), np.ones((2, 3)))


def test_a_complex_gradient_is_refused(family, name):
    w = family.variable(np.ones((2, 3)), "the_kernel")
    optimizer = family.optimizer(name)
    with pytest.raises(ValueError, match="the_kernel must be real.*complex64$"):
        optimizer.apply_gradients([(tf.ones((2, 3), "complex64"), w)])
    np.testing.assert_array_equal(np.array(w), np.ones((2, 3)))


@pytest.mark.parametrize("callback", ["ReduceLROnPlateau", "Scheduler"])
def test_a_callback_changes_no_schedule(family, callback):
    """Keras 3 raises an error; tf_keras says nothing, as the pages say."""
    kinds = family.keras.callbacks
    plateau = {"monitor": "loss", "patience": 0, "min_delta": 1e9}
    change = (
        kinds.ReduceLROnPlateau(factor=0.01, **plateau)
        if callback == "ReduceLROnPlateau"
        else kinds.LearningRateScheduler(lambda epoch, rate: 0.001)
    )

    def end(callbacks):
        rate = family.largebatch.Cosine(0.01, total_steps=1000)
        optimizer = family.largebatch.Nesterov(rate)
        model = family.compiled(optimizer, run_eagerly=True)
        data = np.ones((8, 8)), np.ones((8, 4))
        model.fit(*data, epochs=3, callbacks=callbacks, verbose=0)
        return model.get_weights()

    if family.keras is keras:
        with pytest.raises(TypeError, match="not settable"):
            end([change])
        return
    for value, other in zip(end([change]), end([])):
        np.testing.assert_array_equal(value, other)


SCALAR = tf.TensorSpec((), tf.float32)


class Trained(tf.Module):
    """Two variables of one shape, others, and their training."""

    def __init__(self, family, optimizer, jit_compile=None):
        super().__init__()
        self.optimizer = optimizer
        self.parts = [
            family.variable(np.linspace(-1, 2, size).reshape(shape), name)
            for name, size, shape in (
                ("first_kernel", 6, (2, 3)),
                ("second_kernel", 6, (2, 3)),
                ("third_kernel", 12, (3, 4)),
                ("bias", 4, (4,)),
            )
        ]
        optimizer.build(self.parts)
        self.train = tf.function(
            self.step, jit_compile=jit_compile, input_signature=[SCALAR]
        )

    def step(self, factor):
        """Takes a step; returns where the variables are then."""
        gradients = [
            factor * tf.sin(3 * tf.convert_to_tensor(part) + number)
            for number, part in enumerate(self.parts)
        ]
        self.optimizer.apply_gradients(list(zip(gradients, self.parts)))
        return [tf.identity(tf.convert_to_tensor(x)) for x in self.parts]


def assert_near(found, expected):
    for value, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("jit_compile", [None, True])
def test_a_saved_model_trains_as_what_was_saved(
    family, name, jit_compile, tmp_path
):
    module = Trained(family, family.optimizer(name), jit_compile)
    tf.saved_model.save(module, str(tmp_path / "module"))
    loaded = tf.saved_model.load(str(tmp_path / "module"))
    for factor in (0.5, 1.5, -1.0, 2.0):
        expected = module.train(tf.constant(factor))
        assert_near(loaded.train(tf.constant(factor)), expected)


def test_steps_can_be_inlined_and_looped(family, name):
    one, two, three, four = (
        Trained(family, family.optimizer(name)) for _ in range(4)
    )
    for _ in range(4):
        expected = one.train(tf.constant(1.0))

    @tf.function
    def two_steps():
        two.train(tf.constant(1.0))
        return two.train(tf.constant(1.0))

    @tf.function
    def loop():
        for _ in tf.range(3):
            three.step(tf.constant(1.0))
        return three.step(tf.constant(1.0))

    @tf.function(jit_compile=True)
    def compiled():
        """Calls what was traced without XLA."""
        return four.train(tf.constant(1.0))

    four.train(tf.constant(1.0))
    compiled(), compiled()
    assert_near(compiled(), expected)
    two_steps()
    assert_near(two_steps(), expected)
    assert_near(loop(), expected)


def test_steps_can_be_a_cluster_of_xla(family, name):
    """As TPUs have it: nothing of a step may be left outside."""
    one, two = (Trained(family, family.optimizer(name)) for _ in range(2))

    @tf.function
    def cluster():
        return tf.xla.experimental.compile(lambda: two.step(tf.constant(1.0)))

    for _ in range(3):
        assert_near(cluster(), one.train(tf.constant(1.0)))


@pytest.mark.parametrize("name", ["Adam", "LAMB"], indirect=True)
def test_without_memory_a_small_gradient_counts_after_a_large_one(family, name):
    w = family.variable([[1.0, 2.0]], "kernel")
    optimizer = family.optimizer(
        name, learning_rate=0.1, beta_1=0.0, beta_2=0.0, weight_decay=0.0
    )
    for size in (300.0, 1e-3):
        before = np.array(w)
        optimizer.apply_gradients([(tf.fill((1, 2), size), w)])
        moved = np.linalg.norm(np.array(w) - before)
        norm = np.linalg.norm(before) if name == "LAMB" else np.sqrt(2)
        np.testing.assert_allclose(moved, 0.1 * norm, rtol=1e-3)


def test_a_variable_may_change_its_rank():
    """In tf_keras; Keras 3 has no such variable."""
    w = tf.Variable(np.ones((3, 2), "float32"), shape=tf.TensorShape(None))
    optimizer = largebatch.LARS(0.1)
    optimizer.apply_gradients([(tf.ones((3, 2)), w)])
    assert np.all(w.numpy() < 1)


def test_a_step_converts_to_tensorflow_lite(family, name, tmp_path):
    folder = str(tmp_path / "module")
    module = Trained(family, family.optimizer(name))
    tf.saved_model.save(module, folder, signatures={"train": module.train})
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    converter.target_spec.supported_ops = [
        tf.lite.OpsSet.TFLITE_BUILTINS,
        tf.lite.OpsSet.SELECT_TF_OPS,
    ]
    converter.experimental_enable_resource_variables = True
    runner = tf.lite.Interpreter(
        model_content=converter.convert()
    ).get_signature_runner("train")
    if family.keras is keras:
        return  # TensorFlow Lite finds none of its variables, SGD's neither.
    for factor in (0.5, 1.5):
        expected = module.train(tf.constant(factor))
        found = runner(factor=tf.constant(factor))
        for key, value in zip(sorted(found), expected, strict=True):
            np.testing.assert_allclose(found[key], value, atol=1e-6)
