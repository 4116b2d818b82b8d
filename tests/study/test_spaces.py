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
    assert {scale for scale, *_ in SCALES} == set(spaces.SCALES)


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


def test_another_seed_gives_other_points():
    drawn = [spaces.points(space_of(2), 4, seed)[0] for seed in range(4)]
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
        ({"scale": "logit"}, "'logit'; use one of linear, log, one_minus_log"),
        ({"scale": None}, "the scale None"),
        ({"scale": ["log"]}, "the scale ['log']"),
        ({"low": "0"}, "the end '0'"),
        ({"low": True}, "the end True"),
        ({"high": None}, "the end None"),
        ({"low": math.nan}, "the end nan"),
        ({"high": math.nan}, "the end nan"),
        ({"high": math.inf}, "the end inf"),
        ({"low": -math.inf}, "the end -inf"),
        ({"step": 1}, "keys scale, low and high"),
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
