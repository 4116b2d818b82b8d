"""A user's examples: which are taken, in which form, and which held out."""

import numpy as np
import pytest
import tensorflow as tf

from tf_largebatch.errors import UserError
from tf_largebatch.workloads import arrays

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 6)).astype("float32")
Y = RANDOM.integers(3, size=60)


@pytest.mark.parametrize(
    "data, words",
    [
        (X, "a pair of inputs and targets; .* Received: array"),
        ((X, Y, Y), "leave out weights of examples, which are not supp"),
        (
            tf.data.Dataset.from_tensor_slices((X, Y)),
            "give arrays, not a tf.data.Dataset.* Received: <_Tensor",
        ),
        ((X, Y[:-1]), "as many inputs as targets, and some. Received: 60, 59"),
        ((X[:0], Y[:0]), "Received: 0, 0 examples"),
        ((X, [0, 1, 1]), "Received: 60, 3 examples"),
        (
            (X, [[0], [1], [1]]),
            "arrays with numpy.asarray. Received: .* of 2, 0, 0, 0 dimensions",
        ),
        ((X, []), "Received: 60, 0 examples"),
        ((X, ["a", "b"]), "Received: float32, <U1, <U1 of"),
        ((X, None), "Received: float32, object"),
    ],
)
def test_data_of_another_form_is_refused(data, words):
    with pytest.raises(UserError, match=words):
        arrays.checked(data, "test_data")


def test_a_message_of_many_examples_is_short():
    labels = [[each] for each in range(10_000)]
    for data in ((X, labels), (X, Y, labels), (X, [X[:9]] * 10_000)):
        with pytest.raises(UserError) as error:
            arrays.checked(data, "test_data")
        assert len(str(error.value)) < 300


def test_a_list_of_numbers_is_an_array():
    for labels, dtype in (
        (Y.tolist(), "int64"),
        (tuple(Y / 2), "float32"),
        (list(Y > 0), "bool"),
    ):
        inputs, targets = arrays.checked((X, labels), "x")
        np.testing.assert_array_equal(inputs, X)
        assert (targets.dtype, targets.shape) == (dtype, (60,))
        np.testing.assert_array_equal(targets, labels)


def test_data_has_keras_precision_at_most():
    inputs, targets = arrays.checked((X.astype("float64"), Y), "x")
    assert (inputs.dtype, targets.dtype) == ("float32", "int64")


def test_splits_must_be_alike():
    arrays.check_alike((X, Y), (X[:3], Y[:3]), "test_data")
    for other in ((X[:, :5], Y), (X, Y.astype("float32"))):
        with pytest.raises(UserError, match="`test_data` must have examples"):
            arrays.check_alike((X, Y), other, "test_data")


def test_every_example_is_held_out_or_not_and_always_the_same():
    data = (X, np.arange(60))
    rest, part = arrays.hold_out(data, 0.25)
    again = arrays.hold_out(data, 0.25)[1]
    np.testing.assert_array_equal(part[1], again[1])
    assert len(part[1]) == 15 and len(part[0]) == 15
    assert sorted([*rest[1], *part[1]]) == list(range(60))
    assert (np.diff(part[1]) > 1).any()  # Not just the last ones.
    for x, indices in (rest, part):
        np.testing.assert_array_equal(x, X[indices])


@pytest.mark.parametrize("fraction", [0, 1, -0.2, 0.001, 0.999])
def test_a_part_that_leaves_nothing_is_refused(fraction):
    with pytest.raises(UserError, match=f"Received: {fraction}$"):
        arrays.hold_out((X, Y), fraction)
