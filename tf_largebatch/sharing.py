"""What all variables of one update share, computed once.

Without it every variable has its own operations for the rate, the step and
what follows from these, which are most of a trace.

>>> with sharing():
...     [once("key", list) is once("key", list), once("another", list)]
[True, []]
"""

import contextlib
import contextvars
from collections.abc import Callable, Hashable, Iterator
from typing import Any

_shared: contextvars.ContextVar[dict[Hashable, Any] | None]
_shared = contextvars.ContextVar("_shared", default=None)


@contextlib.contextmanager
def sharing() -> Iterator[None]:
    """Has the variables of one update share what :func:`once` computes."""
    token = _shared.set({})
    try:
        yield
    finally:
        _shared.reset(token)


def once(key: Hashable, compute: Callable[[], Any]) -> Any:
    """Returns what ``compute`` does, which an update calls once a key."""
    found = _shared.get()
    if found is None:
        return compute()
    if key not in found:
        found[key] = compute()
    return found[key]
