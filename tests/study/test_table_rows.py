"""The rows of a table: how they are filled in, and what is refused."""

import pytest

from tf_largebatch.errors import UserError
from tf_largebatch.study import protocol, table_rows


def row_of(table, name):
    (row,) = protocol.create(table, rows=[name])["table"]["rows"]
    return row


@pytest.mark.parametrize(
    "change, words",
    [
        ({"optimiser": {}}, "unknown key 'optimiser'"),
        ({"optimizer": {"class": "SGD"}}, "'SGD'; choose one of Adam"),
        ({"optimizer": {}}, "the optimizer None"),
        (
            {"settings": {"warmup": 1}},
            "'warmup'; choose from schedule, warmup_f",
        ),
        ({"settings": {"schedule": "step"}}, "'step'; choose one of cosine"),
        ({"optimizer": {"class": "HeavyBall"}}, "no free hyperparameter"),
    ],
)
def test_a_row_that_is_none_is_named(change, words):
    row = {
        "name": "odd",
        "weights_optimizer": "LARS",
        "bias_bn_optimizer": "LARS",
        "optimizer": {"class": "LARS"},
        **change,
    }
    rate = {"scale": "log", "low": 1, "high": 10}
    space = {"optimizers": {"LARS": {"learning_rate": rate}}}
    with pytest.raises(UserError, match="row 'odd'") as caught:
        table_rows.resolve(row, {}, space, {})
    assert words in str(caught.value)


def test_a_row_may_have_a_space_of_its_own():
    rate = {"scale": "log", "low": 1, "high": 10}
    own = {"learning_rate": {**rate, "high": 20}}
    space = {
        "optimizers": {"LARS": {"learning_rate": rate}},
        "rows": {"odd": own},
    }
    row = {
        "name": "odd",
        "weights_optimizer": "LARS",
        "bias_bn_optimizer": "LARS",
        "optimizer": {"class": "LARS"},
    }
    assert table_rows.resolve(row, {}, space, {})["space"] == own
    other = table_rows.resolve({**row, "name": "even"}, {}, space, {})
    assert other["space"] == {"learning_rate": rate}


FIXED = {
    "name": "given",
    "weights_optimizer": "LARS",
    "bias_bn_optimizer": "LARS",
    "optimizer": {"class": "LARS", "learning_rate": 3.0},
    "fixed": True,
}


def test_a_row_that_is_fixed_is_not_tuned():
    row = table_rows.resolve(FIXED, {}, {}, {})
    assert row["space"] == {} and row["tuned_as"] is None
    assert protocol.tuning_runs({"trials": 4, "seed": 0}, row) == []
    (run,) = protocol.seed_runs({"seeds": 1, "seed": 0}, row, {})
    assert run.hyperparameters["learning_rate"] == 3.0


@pytest.mark.parametrize(
    "change, words",
    [
        ({"optimizer": {"class": "LARS"}}, "lacks learning_rate"),
        ({"tuned_as": "other"}, "both fixed and tuned_as"),
    ],
)
def test_a_fixed_row_has_all_its_values_itself(change, words):
    with pytest.raises(UserError, match="row 'given'") as caught:
        table_rows.resolve({**FIXED, **change}, {}, {}, {})
    assert words in str(caught.value)


def test_clipping_is_no_hyperparameter_of_a_run():
    """Keras takes no variable for it."""
    row = row_of("bert", "adam_uncorrected")
    assert table_rows.optimizer_options(row) == {
        "global_clipnorm": 1.0,
        "bias_correction": False,
    }
    assert "global_clipnorm" not in table_rows.fixed_hyperparameters(row)


def test_what_is_no_number_goes_to_the_optimizer():
    row = row_of("table4", "nesterov_rate_inside")
    assert table_rows.optimizer_options(row) == {
        "learning_rate_in_momentum": True
    }
    assert table_rows.fixed_hyperparameters(row)["momentum"] == 0.98
    assert "learning_rate_in_momentum" not in (
        table_rows.fixed_hyperparameters(row)
    )
