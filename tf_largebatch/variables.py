"""Which variables a setting applies to: selectors, decided once at build.

A selector says which variables an optimizer leaves out of weight decay or of
layer adaptation. It is one of

- :data:`BIAS_AND_NORM`: biases and the parameters of normalisation layers;
- a sequence of regular expressions, searched for in a variable's full path,
  which in Keras 3 begins with the model's name where it is no functional one,
  as in ``sequential/dense/kernel``;
- a function of a variable's path and shape that returns a bool;
- ``()``: no variable.

A model that is saved has its optimizer's selectors. A function loads again if
it is registered with Keras, and a ``lambda`` with ``safe_mode=False`` alone.

>>> select(BIAS_AND_NORM, ["dense/kernel", "dense/bias"], [(3, 4), (4,)])
(False, True)
>>> paths = ["sequential/dense/kernel", "sequential/head/kernel"]
>>> select(["/dense/"], paths, [(3, 4), (4, 2)])
(True, False)
"""

import dataclasses
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

BIAS_AND_NORM = "bias_and_norm"
"""Selects rank 0 and 1, and what is called a bias or a norm's parameter."""

BIAS_AND_NORM_NAMES = frozenset(
    {"alpha", "beta", "bias", "gamma", "offset", "scale"}
)

Shape = tuple[int, ...]
Selector = str | Sequence[str] | Callable[[str, Shape], bool]


@dataclasses.dataclass(frozen=True)
class Treatment:
    """What an optimizer does to one variable.

    Attributes:
        adapted: whether it gets a trust ratio of its own (LARS, LAMB).
        decayed: whether weight decay applies.
    """

    adapted: bool
    decayed: bool


@dataclasses.dataclass(frozen=True)
class Decisions:
    """What selectors decided when an optimizer was built, to be saved with it.

    Attributes:
        paths: of each variable, when it was built.
        shapes: of each variable.
        treatments: of each variable.
    """

    paths: tuple[str, ...]
    shapes: tuple[Shape, ...]
    treatments: tuple[Treatment, ...]

    def hold(self, paths: Sequence[str], shapes: Sequence[Shape]) -> bool:
        """Whether variables are those of before.

        Where a model is loaded or cloned their paths may be others, but not
        their order and shapes. A path that stood at another place is another
        variable's, unless layers are merely counted otherwise.
        """
        return self.shapes == tuple(shapes) and all(
            path not in self.paths or uncounted(path) == uncounted(before)
            for path, before in zip(paths, self.paths)
        )

    def to_config(self) -> list[list[Any]]:
        """Returns them as JSON has them, a row for each variable."""
        return [
            [path, list(shape), treatment.adapted, treatment.decayed]
            for path, shape, treatment in zip(
                self.paths, self.shapes, self.treatments
            )
        ]

    @classmethod
    def from_config(cls, rows: Sequence[Sequence[Any]]) -> "Decisions":
        """Returns those of which :meth:`to_config` gave the rows."""
        return cls(
            tuple(path for path, _, _, _ in rows),
            tuple(tuple(shape) for _, shape, _, _ in rows),
            tuple(Treatment(*treatment) for _, _, *treatment in rows),
        )


def uncounted(path: str) -> str:
    """Returns a path without the numbers that Keras gives to layers.

    >>> uncounted("net_1/dense_12/kernel")
    'net/dense/kernel'
    """
    return re.sub(r"_\d+(?=/|$)", "", path)


def path_of(name: str) -> str:
    """Returns the path in a tf_keras name, the same on every replica.

    >>> path_of("conv1/kernel/replica_1:0")
    'conv1/kernel'
    """
    return re.sub(r"(/replica_\d+)?(:\d+)?$", "", name)


def check_selector(selector: Selector, argument: str) -> None:
    """Raises ValueError if ``selector`` is none; ``argument`` is its name."""
    if isinstance(selector, str):
        valid = selector == BIAS_AND_NORM
    elif isinstance(selector, Sequence):
        valid = all(isinstance(pattern, str) for pattern in selector)
    else:
        valid = callable(selector) and takes_path_and_shape(selector)
    if not valid:
        raise ValueError(
            f"`{argument}` must be BIAS_AND_NORM ({BIAS_AND_NORM!r}), a "
            "sequence of regular expressions, a function of a path and a "
            f"shape, or () for none. Received: {argument}={selector!r}"
        )
    for pattern in patterns_of(selector):
        try:
            re.compile(pattern)
        except re.error as error:
            raise ValueError(
                f"`{argument}` has a pattern that is no regular expression "
                f"({error}). Received: {pattern!r}"
            ) from error


def takes_path_and_shape(function: Callable[..., Any]) -> bool:
    """Whether a function can be called with a path and a shape."""
    try:
        inspect.signature(function).bind("path", ())
    except TypeError:
        return False
    except ValueError:  # Of some functions in C it is not known.
        return True
    return True


def patterns_of(selector: Selector) -> tuple[str, ...]:
    """Returns the regular expressions of a selector that consists of some."""
    if isinstance(selector, str) or callable(selector):
        return ()
    return tuple(selector)


def select(
    selector: Selector,
    paths: Sequence[str],
    shapes: Sequence[Shape],
    argument: str = "selector",
) -> tuple[bool, ...]:
    """Returns for each variable whether ``selector`` selects it.

    Args:
        selector: see the module's docstring.
        paths: full path of each variable, such as ``"dense/kernel"``.
        shapes: shape of each variable.
        argument: the selector's name in messages.

    Raises:
        ValueError: a pattern matches no path, and there are some. The message
            names the pattern and lists the paths.
    """
    check_selector(selector, argument)
    if not paths:  # Keras 3 builds so when it loads an .h5 file.
        return ()
    if selector == BIAS_AND_NORM:
        return tuple(map(is_bias_or_norm, paths, shapes))
    if callable(selector):
        return tuple(bool(selector(*each)) for each in zip(paths, shapes))
    patterns = patterns_of(selector)
    for pattern in patterns:
        if not any(re.search(pattern, path) for path in paths):
            raise ValueError(
                f"`{argument}`: a pattern matches no variable. The paths "
                f"are {', '.join(paths)}. Received: {pattern!r}"
            )
    return tuple(
        any(re.search(pattern, path) for pattern in patterns) for path in paths
    )


def is_bias_or_norm(path: str, shape: Shape) -> bool:
    """Whether :data:`BIAS_AND_NORM` selects a variable.

    The name counts beside the rank because BERT's query, key and value
    biases have rank 2.
    """
    name = path.split("/")[-1]
    named = name in BIAS_AND_NORM_NAMES or name.endswith("_bias")
    return named or len(shape) <= 1


def treatments(
    paths: Sequence[str],
    shapes: Sequence[Shape],
    exclude_from_layer_adaptation: Selector,
    exclude_from_weight_decay: Selector,
) -> tuple[Treatment, ...]:
    """Returns the treatment of each variable, in the order of ``paths``."""
    unadapted = select(
        exclude_from_layer_adaptation,
        paths,
        shapes,
        "exclude_from_layer_adaptation",
    )
    undecayed = select(
        exclude_from_weight_decay, paths, shapes, "exclude_from_weight_decay"
    )
    return tuple(
        Treatment(adapted=not without_ratio, decayed=not without_decay)
        for without_ratio, without_decay in zip(unadapted, undecayed)
    )


def to_config(selector: Selector, serialize: Callable[[Any], Any]) -> Any:
    """Returns a selector as JSON has it; functions go through ``serialize``."""
    if isinstance(selector, str):
        return selector
    if callable(selector):
        return serialize(selector)
    return list(selector)


def name_of(function: Callable[..., Any]) -> str:
    """Returns what tells a function from others, in any process.

    >>> name_of(len), name_of(lambda: 1) == name_of(lambda: 2)
    ('len', False)
    """
    name = getattr(function, "__name__", type(function).__name__)
    if name != "<lambda>":
        return name
    code = function.__code__  # type: ignore[attr-defined]
    return f"{name} {code.co_code.hex()} {code.co_names} {code.co_consts}"
