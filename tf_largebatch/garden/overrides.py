"""Strict overrides of a Model Garden config, with errors that help."""

import collections.abc
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any

from official.modeling.hyperparams import base_config, oneof

from tf_largebatch.errors import UserError, hint
from tf_largebatch.tf_keras import model_garden

SEQUENCES = (list, tuple, collections.abc.Sequence)


def override(
    config: base_config.Config, values: Mapping[str, Any], where: str
) -> None:
    """Sets some values of a config, all or none.

    The Garden's own method does not say where an unknown key stands, takes
    values of any type, and new keys where a section is None.

    Args:
        config: to be changed.
        values: nested as the config is.
        where: what messages call the place that the values are from.

    Raises:
        UserError: an unknown key or choice, or a value of the wrong type.
    """
    check(config, values, where)
    config.override(dict(values), is_strict=True)


def check(
    config: base_config.Config,
    values: Mapping[str, Any],
    where: str,
    above: str = "",
) -> None:
    """Raises UserError as :func:`override`; ``above`` is the path so far."""
    chosen = isinstance(config, model_garden.Open)
    if chosen:
        config.admit([*values, values.get("type")])
    known = fields(config)
    annotations = typing.get_type_hints(type(config))
    for key, value in values.items():
        if key not in known:
            raise UserError(
                f"unknown key {f'{above}{key}'!r}, in {where}; "
                f"{hint(key, known)}"
            )
        annotation = annotations.get(key, Any)
        section = find_section(known[key], annotation)
        here = f"{above}{key} in {where}"
        if section is None:
            check_value(value, annotation, here)
        elif isinstance(value, Mapping):
            check(section, value, where, f"{above}{key}.")
        elif value != known[key]:
            raise UserError(
                f"{here} must hold keys, such as {next(iter(fields(section)))};"
                f" it is {value!r}"
            )
        if isinstance(config, oneof.OneOfConfig) and key == "type":
            more = config.further() if chosen else []
            check_choice(value, [*known, *more], here)


def fields(config: base_config.Config) -> dict[str, Any]:
    """Returns the fields of a config by name."""
    reserved = config.RESERVED_ATTR
    return {k: v for k, v in vars(config).items() if k not in reserved}


def find_section(value: Any, annotation: Any) -> base_config.Config | None:
    """Returns the config that a field holds, or None; a new one if unset."""
    if isinstance(value, base_config.Config):
        return value
    if value is None:
        for option in typing.get_args(annotation):
            if isinstance(option, type) and issubclass(
                option, base_config.Config
            ):
                return option()
    return None


def check_value(value: Any, annotation: Any, here: str) -> None:
    """Raises UserError where a value is not of the annotated type."""
    if not fits(value, annotation):
        wanted = getattr(annotation, "__name__", str(annotation))
        wanted = str(annotation) if typing.get_args(annotation) else wanted
        raise UserError(
            f"{here} is {value!r}, which is not of the type "
            f"{wanted.replace('typing.', '')}; correct it"
        )


def fits(value: Any, annotation: Any) -> bool:
    """Whether a value is of the annotated type, as YAML can say it.

    >>> fits(1, float), fits(True, float), fits([0.1, "b"], list[float])
    (True, False, False)
    """
    origin, options = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, option) for option in options)
    if (origin or annotation) in SEQUENCES:
        return isinstance(value, (list, tuple)) and all(
            any(fits(each, option) for option in options or [Any])
            for each in value
        )
    if annotation in (float, int):
        numbers = (int, float) if annotation is float else int
        return isinstance(value, numbers) and not isinstance(value, bool)
    if annotation in (bool, str, type(None)):
        return isinstance(value, annotation)
    return not isinstance(value, Mapping)


def check_choice(value: Any, known: Iterable[str], here: str) -> None:
    """Raises UserError where the ``type`` of a choice is none of its fields."""
    choices = [name for name in known if name != "type"]
    if value is not None and value not in choices:
        raise UserError(f"{here} is {value!r}; {hint(value, choices)}")
