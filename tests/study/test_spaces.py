"""Search spaces: what they hold, what they refuse, how evenly they fill."""

import math

import numpy as np
import pytest
from scipy.stats import qmc

from tf_largebatch import configs
from tf_largebatch.errors import UserError
from tf_largebatch.study import spaces

SCALES = [
    ("linear", -1.0, 3.0, 1.0),
    ("log", 0.001, 10.0, 0.1),
    ("one_minus_log", 0.9, 0.999, 0.99),
]
SEQUENCES = pytest.mark.parametrize("sequence", ["halton", "sobol"])
UNIT = {"scale": "linear", "low": 0, "high": 1}


def space_of(dimensions, **entry):
    """Returns a space of so many equal dimensions."""
    entry = {**UNIT, **entry}
    return spaces.parse({f"x{n}": entry for n in range(dimensions)})


def as_array(points):
    return np.array([list(point.values()) for point in points])


@pytest.mark.parametrize("scale, low, high, middle", SCALES)
def test_a_scale_has_its_ends_and_its_middle(scale, low, high, middle):
    (axis,) = space_of(1, scale=scale, low=low, high=high)
    found = [axis.value(fraction) for fraction in (0, 0.5, 1)]
    assert found == pytest.approx([low, middle, high], rel=1e-12)


@pytest.mark.parametrize("scale, low, high, middle", SCALES)
def test_a_scales_inverse_inverts_it(scale, low, high, middle):
    to_scale, from_scale = spaces.SCALES[scale]
    values = np.linspace(low, high, 11)
    assert [from_scale(to_scale(x)) for x in values] == pytest.approx(
        values, rel=1e-12
    )
    assert np.all(np.diff([to_scale(x) for x in values]) > 0)


def test_every_scale_is_tested():
    continuous = {scale for scale, *_ in SCALES}
    assert continuous | {"integer"} == set(spaces.SCALES)


def test_an_integer_scale_has_all_its_integers_equally_often():
    (axis,) = space_of(1, scale="integer", low=-1, high=2)
    found = [axis.value((n + 0.5) / 12) for n in range(12)]
    assert found == [-1] * 3 + [0] * 3 + [1] * 3 + [2] * 3
    assert all(type(value) is int for value in found)


def test_a_choice_has_all_its_values_equally_often():
    (axis,) = spaces.parse({"power": {"scale": "choice", "values": [1, "x"]}})
    assert axis.name == "power"
    assert [axis.value(n / 4) for n in range(4)] == [1, 1, "x", "x"]


@pytest.mark.parametrize(
    "value, expected", [(3, True), (True, False), (3.0, False), ("3", False)]
)
def test_an_integer_is_no_boolean_and_no_float(value, expected):
    assert spaces.is_integer(value) is expected


def tied(**entry):
    entry = {"scale": "integer", "low": 0, "high": 900, **entry}
    return spaces.parse({"rate": UNIT, "warmup": {"below": "steps", **entry}})


def test_a_tied_integer_stays_below_the_steps_and_fills_what_is_left():
    points = spaces.points(tied(), 400, 0, {"steps": 100})
    values = np.array([point["warmup"] for point in points])
    assert set(values) == set(range(100))
    free = spaces.points(tied(), 400, 0, {"steps": 5000})
    assert max(point["warmup"] for point in free) == 900


def test_a_dimension_can_stay_below_one_before_it():
    space = spaces.parse({"peak": UNIT, "final": {**UNIT, "below": "peak"}})
    points = spaces.points(space, 200, 0)
    shares = np.array([point["final"] / point["peak"] for point in points])
    assert shares.max() <= 1
    assert np.mean(shares) == pytest.approx(0.5, abs=0.01)


def test_nothing_left_below_the_steps_is_one_line():
    with pytest.raises(UserError, match="starts at 50 .* which is 50; start"):
        spaces.points(tied(low=50), 1, 0, {"steps": 50})
    assert spaces.points(tied(low=50), 1, 0, {"steps": 51})


@SEQUENCES
@pytest.mark.parametrize("seed", range(5))
def test_no_dimension_has_a_hole(sequence, seed):
    """Of 100 independent points the widest gap is about 0.06."""
    points = spaces.points(space_of(4), 100, seed, sequence=sequence)
    ends = np.zeros((1, 4)), as_array(points), np.ones((1, 4))
    assert np.diff(np.sort(np.vstack(ends), 0), axis=0).max() < 0.035


@SEQUENCES
def test_either_sequence_continues(sequence):
    few, many = (
        spaces.points(space_of(3), count, 7, sequence=sequence)
        for count in (5, 21)
    )
    assert many[:5] == few


@SEQUENCES
def test_a_centred_discrepancy_is_far_below_that_of_random_points(sequence):
    points = spaces.points(space_of(4), 100, 0, sequence=sequence)
    found = qmc.discrepancy(as_array(points))
    random = qmc.discrepancy(np.random.default_rng(0).random((100, 4)))
    assert found < 0.0015 and random > 5 * found


@pytest.mark.parametrize("seed", range(5))
def test_points_fill_the_space_more_evenly_than_random_ones(seed):
    """The centred discrepancy of 100 points in 4 dimensions."""
    found = qmc.discrepancy(as_array(spaces.points(space_of(4), 100, seed)))
    random = qmc.discrepancy(np.random.default_rng(seed).random((100, 4)))
    assert found < 0.0015
    assert random > 5 * found


def test_every_point_lies_in_the_space():
    space = spaces.parse(
        {
            scale: {"scale": scale, "low": low, "high": high}
            for scale, low, high, _ in SCALES
        }
    )
    points = spaces.points(space, 500, seed=1)
    for scale, low, high, middle in SCALES:
        values = np.array([point[scale] for point in points])
        assert low <= values.min() and values.max() <= high
        assert np.mean(values < middle) == pytest.approx(0.5, abs=0.01)


def test_more_points_continue_the_sequence():
    space = space_of(3)
    assert spaces.points(space, 20, 7)[:8] == spaces.points(space, 8, 7)


@SEQUENCES
def test_another_seed_gives_other_points(sequence):
    drawn = [
        spaces.points(space_of(2), 4, seed, sequence=sequence)[0]
        for seed in range(4)
    ]
    assert len({tuple(point.values()) for point in drawn}) == 4


def test_equal_seeds_give_equal_points():
    assert spaces.points(space_of(2), 4, 3) == spaces.points(space_of(2), 4, 3)


def test_spaces_of_equal_dimension_share_the_luck_of_the_draw():
    unit = as_array(spaces.points(space_of(2), 8, 5))
    other = space_of(2, scale="log", low=1e-4, high=1.0)
    exponents = np.log10(as_array(spaces.points(other, 8, 5)))
    np.testing.assert_allclose(exponents / 4 + 1, unit, rtol=1e-12)


@pytest.mark.parametrize(
    "entry, words",
    [
        ({"low": 2, "high": 1}, "low 2 not below high 1"),
        ({"low": 1, "high": 1}, "low 1 not below high 1"),
        ({"scale": "log", "low": 0}, "log scale that reaches 0"),
        ({"scale": "log", "low": -1}, "log scale that reaches -1"),
        ({"scale": "one_minus_log"}, "one_minus_log scale that reaches 1"),
        ({"scale": "one_minus_log", "high": 2}, "scale that reaches 2"),
        (
            {"scale": "logit"},
            "'logit'; use one of linear, log, one_minus_log, integer",
        ),
        ({"scale": None}, "the scale None"),
        ({"scale": ["log"]}, "the scale ['log']"),
        ({"low": "0"}, "the end '0'"),
        ({"low": True}, "the end True"),
        ({"high": None}, "the end None"),
        ({"low": math.nan}, "the end nan"),
        ({"high": math.nan}, "the end nan"),
        ({"high": math.inf}, "the end inf"),
        ({"low": -math.inf}, "the end -inf"),
        ({"high": 10**400}, "give a finite number"),
        ({"step": 1}, "keys scale, low and high"),
        ({"scale": "integer", "high": 1.5}, "end 1.5; give an integer"),
        ({"below": "decay"}, "below 'decay'; name one of steps, good"),
        ({"scale": "choice"}, "keys scale and values"),
    ],
)
def test_a_bad_dimension_is_one_line(entry, words):
    config = {"good": UNIT, "rate": {**UNIT, **entry}}
    with pytest.raises(UserError) as caught:
        spaces.parse(config, "space.yaml")
    message = str(caught.value)
    assert message.startswith("rate in space.yaml")
    assert words in message
    assert "\n" not in message


@pytest.mark.parametrize("entry", [None, 0.1, [0, 1], {"scale": "log"}, {}])
def test_a_dimension_must_have_its_three_keys(entry):
    with pytest.raises(UserError, match="scale, low and high"):
        spaces.parse({"rate": entry})


@pytest.mark.parametrize("values", [[], [1], [1, 2, 1], "ab", None])
def test_a_choice_must_have_values_that_differ(values):
    with pytest.raises(UserError, match="power in the space"):
        spaces.parse({"power": {"scale": "choice", "values": values}})


@pytest.mark.parametrize("config", [{}, None, [], "log"])
def test_a_space_must_have_a_dimension(config):
    with pytest.raises(UserError, match="no free hyperparameter"):
        spaces.parse(config)


@pytest.mark.parametrize(
    "path",
    sorted(configs.root().glob("spaces/*/*.yaml")),
    ids=lambda path: f"{path.parent.name}-{path.stem}",
)
def test_the_projects_spaces_are_valid_and_equally_large(path):
    config = configs.read(path)
    entries = [*config["optimizers"].values(), *config.get("rows", {}).values()]
    sizes = set()
    for entry in entries:
        space = spaces.parse(entry)
        sizes.add(tuple(axis.name for axis in space))
    assert len(sizes) == 1
