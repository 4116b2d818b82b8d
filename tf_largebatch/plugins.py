"""What other installed packages add, found by their entry points.

A package that is installed beside this one joins by lines of its
pyproject.toml alone, so every process finds the same, the workers of a study
too; docs/add_your_own.md says what each kind must be. Its code is imported
when one of its names is asked for, not before.

>>> names("optimizer", ["Adam", "LAMB"])[:2]
['Adam', 'LAMB']
"""

import functools
import importlib.metadata
import importlib.util
import pathlib
from collections.abc import Callable, Collection, Iterator
from importlib.metadata import EntryPoint
from typing import Any

from tf_largebatch.errors import UserError, hint

GROUPS = {
    "optimizer": "tf_largebatch.optimizers",
    "schedule": "tf_largebatch.schedules",
    "workload": "tf_largebatch.workloads",
    "experiment": "tf_largebatch.experiments",
    "folder of configs": "tf_largebatch.configs",
}


@functools.cache
def entry_points(kind: str) -> tuple[EntryPoint, ...]:
    """Returns what the installed packages have of a kind, as it is written."""
    return tuple(importlib.metadata.entry_points(group=GROUPS[kind]))


def offered(kind: str, own: Collection[str] = ()) -> dict[str, EntryPoint]:
    """Returns what other packages add of a kind, by name.

    Args:
        kind: of :data:`GROUPS`.
        own: the names that this package has itself.

    Raises:
        UserError: a name is taken, by this package or by another one.
    """
    found: dict[str, EntryPoint] = {}
    for entry in sorted(entry_points(kind), key=lambda entry: entry.name):
        if entry.name in own:
            raise taken(kind, entry, "tf-largebatch")
        if entry.name in found:
            raise taken(kind, entry, package(found[entry.name]))
        found[entry.name] = entry
    return found


def taken(kind: str, entry: EntryPoint, by: str) -> UserError:
    """Returns the error of a name that is there already."""
    return UserError(
        f"the package {package(entry)} brings the {kind} {entry.name!r}, which "
        f"{by} has; rename it in the package's [{GROUPS[kind]}], or uninstall "
        "the package"
    )


def package(entry: EntryPoint) -> str:
    """Returns the name of the installed package that has an entry point."""
    return entry.dist.name if entry.dist else "(without a name)"


def names(kind: str, own: Collection[str] = ()) -> list[str]:
    """Returns all names of a kind, this package's own first."""
    return [*own, *offered(kind, own)]


def load(
    kind: str,
    name: str,
    own: Collection[str],
    wanted: type,
    also: Callable[[type], Any] = lambda found: False,
) -> Any:
    """Returns the class that another package adds.

    Args:
        kind: of :data:`GROUPS`.
        name: which; none of ``own``.
        own: the names that this package has itself.
        wanted: what the class must be a subclass of.
        also: whether another class will do.

    Raises:
        UserError: there is none, it cannot be imported, or it is no such
            class.
    """
    known = offered(kind, own)
    if name not in known:
        raise UserError(
            f"there is no {kind} {name!r}; {hint(name, [*own, *known])}"
        )
    entry = known[name]
    found = imported(kind, entry)
    is_class = isinstance(found, type)
    if not is_class or not (issubclass(found, wanted) or also(found)):
        raise UserError(
            f"the {kind} {name!r} of the package {package(entry)}, "
            f"{entry.value}, is no subclass of "
            f"{wanted.__module__}.{wanted.__qualname__}; correct the package"
        )
    return found


def imported(kind: str, entry: EntryPoint) -> Any:
    """Returns what an entry point names; UserError if it cannot be had."""
    try:
        return entry.load()
    except Exception as error:  # Whatever the other package's code raises.
        raise UserError(
            f"the {kind} {entry.name!r} of the package {package(entry)}, "
            f"{entry.value}, cannot be imported ({type(error).__name__}: "
            f"{error}); correct or uninstall the package"
        ) from error


def folders() -> Iterator[tuple[pathlib.Path, str]]:
    """Yields the folders of YAML files, and the package that has each.

    They are laid out like ``official_configs``.

    Raises:
        UserError: a package names a folder that it has not.
    """
    kind = "folder of configs"
    for name, entry in offered(kind).items():
        try:
            spec = importlib.util.find_spec(entry.value)
        except Exception:  # What the package above it raises.
            spec = None
        places = list(getattr(spec, "submodule_search_locations", None) or ())
        if not places:
            raise UserError(
                f"the {kind} {name!r} of the package {package(entry)}, "
                f"{entry.value}, is not there; correct or uninstall the package"
            )
        yield pathlib.Path(places[0]), package(entry)
