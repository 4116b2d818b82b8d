"""The optimizers that a row can name: found, and their arguments checked."""

import inspect
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from tf_largebatch import plugins
from tf_largebatch.errors import UserError
from tf_largebatch.optimizers import OPTIMIZERS
from tf_largebatch.optimizers.base import LargeBatchOptimizer, family_of
from tf_largebatch.study import spaces

# Of every optimizer; they cannot be variables, so no run varies them.
KERAS_ARGUMENTS = ("clipnorm", "clipvalue", "global_clipnorm")


def arguments_of(name: str) -> dict[str, Any]:
    """Returns the arguments of an optimizer and their defaults.

    >>> arguments_of("HeavyBall")["momentum"]
    0.9
    """
    signature = inspect.signature(find(name))
    return {
        name: parameter.default
        for name, parameter in signature.parameters.items()
        if parameter.kind is not parameter.VAR_KEYWORD
    }


def find(name: str) -> type:
    """Returns the class of an optimizer, of neither Keras family.

    Another package's may be of one.

    Raises:
        UserError: another package has it, and it cannot be used.
    """
    if name in OPTIMIZERS:
        return OPTIMIZERS[name]
    return plugins.load(
        "optimizer", name, OPTIMIZERS, LargeBatchOptimizer, family_of
    )


def class_in(family: ModuleType, name: str) -> type:
    """Returns the class of an optimizer for one of the Keras families.

    Args:
        family: ``tf_largebatch.keras`` or ``tf_largebatch.tf_keras``.
        name: of the class.

    Raises:
        UserError: it is of the other one.
    """
    if name in OPTIMIZERS:
        return getattr(family, name)
    found = find(name)
    its, wanted = family_of(found), family.__name__.rpartition(".")[2]
    if its not in (None, wanted):
        raise UserError(
            f"the optimizer {name} is for models of {its}, and this one is of "
            f"{wanted}; choose another optimizer"
        )
    return found if its else family.adapt(found)


def takes_variables(name: str) -> bool:
    """Whether an optimizer's numbers can be variables.

    Those of a class that is Keras's alone cannot.
    """
    return issubclass(find(name), LargeBatchOptimizer)


class Arguments:
    """Stands for a Keras family's optimizer where arguments are checked."""

    def __init__(self, learning_rate: Any, **more: Any):
        for name, value in more.items():
            if name not in KERAS_ARGUMENTS:
                raise ValueError(f"there is no argument {name!r}")
            if value is not None and not (
                spaces.is_finite_number(value) and value > 0
            ):
                raise ValueError(f"{name} is {value!r}; give a number above 0")


def check(optimizer: Mapping[str, Any], where: str) -> None:
    """Raises UserError for a class or arguments that make no optimizer.

    Args:
        optimizer: the arguments, and the ``class``.
        where: what messages call the row.
    """
    arguments = dict(optimizer)
    name = arguments.pop("class", None)
    known = plugins.names("optimizer", OPTIMIZERS)
    if not isinstance(name, str) or name not in known:
        raise UserError(
            f"{where} has the optimizer {name!r}; "
            f"choose one of {', '.join(known)}"
        )
    kind, arguments = find(name), {"learning_rate": 1.0, **arguments}
    try:
        if family_of(kind):
            check_names(kind, arguments)
        else:
            type(name, (kind, Arguments), {})(**arguments)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: {error}") from error


def check_names(kind: type, arguments: Mapping[str, Any]) -> None:
    """Raises TypeError for arguments that a Keras optimizer does not have.

    It is not made, as that would start TensorFlow with all threads.
    """
    inspect.signature(kind).bind(**arguments)
    # What one constructor has for the next is among **kwargs.
    known = {
        name
        for base in kind.__mro__
        if "__init__" in vars(base)
        for name in inspect.signature(vars(base)["__init__"]).parameters
    }
    for name in arguments:
        if name not in known:
            raise TypeError(f"there is no argument {name!r}")
