"""Which variables a selector selects, and what it refuses."""

import pytest

from tf_largebatch import variables
from tf_largebatch.variables import BIAS_AND_NORM, Treatment

# Paths and shapes as a ResNet, a BERT and odd models have them, and whether
# they are biases or norms.
VARIABLES = {
    "conv1/kernel": ((3, 3, 3, 64), False),
    "bn1/gamma": ((64,), True),
    "bn1/beta": ((64,), True),
    "bias_layer/kernel": ((4, 2), False),
    "gamma/weight": ((4, 2), False),
    "embeddings/embeddings": ((100, 8), False),
    "encoder/attention/query/kernel": ((8, 2, 4), False),
    "encoder/attention/query/bias": ((2, 4), True),
    "encoder/norm/scale": ((1, 1, 8), True),
    "encoder/norm/offset": ((1, 1, 8), True),
    "encoder/position": ((8,), True),
    "temperature": ((), True),
    "scaled": ((2, 2), False),
    "head/bias_1": ((2, 2), False),
    "bias": ((2, 2), True),
}
PATHS = list(VARIABLES)
SHAPES = [shape for shape, _ in VARIABLES.values()]


def selected(selector):
    """Returns the paths that a selector selects."""
    chosen = variables.select(selector, PATHS, SHAPES)
    return {path for path, yes in zip(PATHS, chosen, strict=True) if yes}


def is_attention(path, shape):
    return "attention" in path and len(shape) == 3


def test_bias_and_norm_goes_by_rank_and_by_the_last_component():
    expected = {path for path, (_, yes) in VARIABLES.items() if yes}
    assert selected(BIAS_AND_NORM) == expected


@pytest.mark.parametrize(
    "patterns, expected",
    [
        (["/query/"], {p for p in PATHS if "query" in p}),
        (["^bias"], {"bias_layer/kernel", "bias"}),
        (["encoder/.*/bias$"], {"encoder/attention/query/bias"}),
        (("^bias$", "temp"), {"bias", "temperature"}),
        (["kernel", "conv1/kernel"], {p for p in PATHS if "kernel" in p}),
        (["."], set(PATHS)),
        ([], set()),
        ((), set()),
    ],
)
def test_patterns_are_searched_for_in_the_full_path(patterns, expected):
    assert selected(patterns) == expected


def test_a_function_gets_path_and_shape():
    assert selected(is_attention) == {"encoder/attention/query/kernel"}


@pytest.mark.parametrize(
    "function",
    [lambda *both: True, lambda path, shape=(), more=1: True, max],
)
def test_whatever_takes_both_may_select(function):
    variables.check_selector(function, "argument")


def test_a_functions_answer_counts_by_its_truth():
    chosen = variables.select(lambda path, shape: shape, ["a", "b"], [(), (2,)])
    assert chosen == (False, True)


@pytest.mark.parametrize("selector", [["nothing"], ["kernel", "nothing"]])
def test_a_pattern_that_matches_nothing_is_named(selector):
    with pytest.raises(ValueError) as caught:
        variables.select(selector, PATHS, SHAPES, "exclude_from_weight_decay")
    message = str(caught.value)
    assert message.startswith("`exclude_from_weight_decay`")
    assert message.endswith("Received: 'nothing'")
    assert ", ".join(PATHS) in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "selector",
    [
        *("bias", "", None, True, 3, ["a", 1], [None], b"bias", {"bias"}),
        *(lambda path: True, lambda: True, len, object),
    ],
)
def test_what_is_no_selector_is_refused(selector):
    with pytest.raises(ValueError) as caught:
        variables.check_selector(selector, "argument")
    message = str(caught.value)
    assert message.startswith("`argument`")
    assert message.endswith(f"Received: argument={selector!r}")
    assert "\n" not in message


def test_a_pattern_that_is_no_regular_expression_is_named():
    with pytest.raises(ValueError, match="unterminated") as caught:
        variables.check_selector(["fine", "("], "argument")
    assert str(caught.value).endswith("Received: '('")


@pytest.mark.parametrize(
    "name, path",
    [
        ("conv1/kernel:0", "conv1/kernel"),
        ("conv1/kernel/replica_1:0", "conv1/kernel"),
        ("conv1/kernel/replica_12", "conv1/kernel"),
        ("conv1/kernel:11", "conv1/kernel"),
        ("conv1/kernel", "conv1/kernel"),
        ("replica_1/kernel:0", "replica_1/kernel"),
        ("replica_1:0", "replica_1"),
    ],
)
def test_the_path_is_the_same_on_every_replica(name, path):
    assert variables.path_of(name) == path


@pytest.mark.parametrize(
    "adaptation, decay, expected",
    [
        ((), (), [(True, True), (True, True)]),
        (BIAS_AND_NORM, (), [(True, True), (False, True)]),
        ((), BIAS_AND_NORM, [(True, True), (True, False)]),
        (["kernel"], ["bias"], [(False, True), (True, False)]),
    ],
)
def test_treatments_keep_the_two_selectors_apart(adaptation, decay, expected):
    found = variables.treatments(
        ["head/kernel", "head/bias"], [(2, 2), (2,)], adaptation, decay
    )
    assert found == tuple(Treatment(*each) for each in expected)


@pytest.mark.parametrize(
    "argument", ["exclude_from_layer_adaptation", "exclude_from_weight_decay"]
)
def test_the_message_says_which_selector_matches_nothing(argument):
    selectors = {
        "exclude_from_layer_adaptation": (),
        "exclude_from_weight_decay": (),
        argument: ["nothing"],
    }
    with pytest.raises(ValueError, match=f"`{argument}`"):
        variables.treatments(["kernel"], [(2, 2)], **selectors)


@pytest.mark.parametrize(
    "selector, config",
    [
        (BIAS_AND_NORM, "bias_and_norm"),
        ((), []),
        (["a", "b"], ["a", "b"]),
        (("a",), ["a"]),
        (is_attention, "serialized"),
    ],
)
def test_a_config_is_what_json_has(selector, config):
    found = variables.to_config(selector, lambda function: "serialized")
    assert found == config
    assert type(found) is type(config)


def test_no_variables_is_no_error():
    """Keras 3 builds an optimizer so when it loads an .h5 file."""
    assert variables.select((), [], []) == ()
    assert variables.select(["a"], [], []) == ()
