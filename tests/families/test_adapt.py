"""Classes of neither Keras family become one of a family, once."""

import keras
import pytest
import tf_keras

import tf_largebatch.keras
import tf_largebatch.tf_keras
from tf_largebatch import optimizers, schedules

KINDS = {
    **optimizers.OPTIMIZERS,
    **{kind.__name__: kind for kind in schedules.BY_NAME.values()},
}


class Flat(schedules.Schedule):
    """The peak at every step."""

    function = staticmethod(lambda xp, step, peak, total_steps: peak)

    def __init__(self, peak, total_steps):
        super().__init__(peak=peak, total_steps=total_steps)


class LARS(optimizers.LARS):
    """Has the name of another one."""


@pytest.mark.parametrize("kind", [LARS, *optimizers.OPTIMIZERS.values()])
def test_one_of_neither_family_says_where_those_are(kind):
    with pytest.raises(ValueError, match=r"take that of `tf_largebatch.keras`"):
        kind(0.1)


@pytest.mark.parametrize("rate", [Flat(0.1, 5), "0.1", [0.1], None])
def test_a_rate_that_is_none_is_told_that_schedules_are(family, rate):
    with pytest.raises(ValueError, match="or a schedule of the optimizer's K"):
        family.optimizer("LARS", learning_rate=rate)


def test_it_is_shown_which_models_take_it(family):
    kind = family.largebatch.LARS
    other = {"keras": "tf_keras", "tf_keras": "keras"}[family.keras.__name__]
    assert repr(kind(0.1)).endswith(f"take tf_largebatch.{other}.LARS>")

    class Own(kind):
        """Of which there is no other."""

    assert repr(Own(0.1)).startswith("<Own optimizer for ")
    assert " take " not in repr(Own(0.1))


@pytest.mark.parametrize("kind", [Flat, LARS])
def test_a_class_of_ones_own_is_made_one_of_the_family(family, kind):
    made = family.largebatch.adapt(kind)
    assert made is family.largebatch.adapt(kind)
    assert issubclass(made, kind)
    name = f"{__name__.partition('.')[0]}>{kind.__name__}"
    assert family.keras.saving.get_registered_object(name) is made


@pytest.mark.parametrize("class_name", KINDS)
def test_a_class_of_this_package_is_the_one_that_is_there(family, class_name):
    own = getattr(family.largebatch, class_name)
    assert family.largebatch.adapt(KINDS[class_name]) is own


@pytest.mark.parametrize("class_name", KINDS)
@pytest.mark.parametrize("other", ["keras", "tf_keras"])
def test_what_is_of_a_family_is_refused_and_hides_nothing(
    family, class_name, other
):
    kind = getattr(getattr(tf_largebatch, other), class_name)
    with pytest.raises(ValueError, match="of neither Keras family"):
        family.largebatch.adapt(kind)
    registered = family.keras.saving.get_registered_object
    own = getattr(family.largebatch, class_name)
    assert registered(f"tf_largebatch>{class_name}") is own


@pytest.mark.parametrize(
    "kind",
    [int, 3, None, [1], Flat(0.1, 5), keras.optimizers.SGD, tf_keras.Model],
)
def test_what_is_no_such_class_is_named(family, kind):
    with pytest.raises(ValueError) as caught:
        family.largebatch.adapt(kind)
    message = str(caught.value)
    assert message.startswith("`kind` must be a class of neither Keras family")
    assert message.endswith(f"Received: {kind=}")
