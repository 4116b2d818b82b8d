"""Ctrl-C and SIGTERM: none is lost, and none comes at a bad moment.

What the handler of a signal raises, Python raises wherever it happens to be:
in the middle of a write to a database, or in a callback of the garbage
collector, where it is printed and forgotten. So a signal is noted first, and
what must not be torn apart asks for it where it can stop: see
:func:`deferred` and :func:`check`. Everywhere else it is raised at once.
"""

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

INTERRUPTED = 128 + signal.SIGINT
SAID = b"\nstopping as soon as it can; once more stops at once\n"


class _Noted:
    """The signals since :func:`heard` began.

    Attributes:
        count: how many came.
        last: the last one's number; 0 means that none came.
        deferring: how many :func:`deferred` contexts are open.
    """

    def __init__(self) -> None:
        self.count = self.last = self.deferring = 0


_noted = _Noted()


@contextlib.contextmanager
def heard() -> Iterator[None]:
    """Listens to Ctrl-C and SIGTERM while the context lasts.

    For the main thread. A signal that is ignored stays so, as a shell wants
    it for Ctrl-C and its background jobs.

    Raises:
        KeyboardInterrupt: Ctrl-C.
        SystemExit: SIGTERM, with status 143.
    """
    global _noted
    before = _noted
    _noted = _Noted()
    handlers = {
        number: signal.signal(number, note)
        for number in (signal.SIGINT, signal.SIGTERM)
        if signal.getsignal(number) is not signal.SIG_IGN
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        _noted = before


def note(number: int, frame: Any) -> None:
    """Handles a signal: notes it, and raises it unless that is deferred."""
    del frame
    _noted.count += 1
    _noted.last = number
    if _noted.deferring and _noted.count == 1:
        os.write(2, SAID)  # To print could disturb a print under way.
    else:
        check()


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Defers a first signal to the next :func:`check` or to the end.

    A second one is raised at once.

    >>> with deferred():
    ...     check()  # Here it may stop.
    """
    count = _noted.count
    _noted.deferring += 1
    try:
        yield
    finally:
        _noted.deferring -= 1
    if _noted.count > count:
        check()


def check() -> None:
    """Raises what was noted, also what was raised before and got lost.

    Raises:
        KeyboardInterrupt: Ctrl-C.
        SystemExit: SIGTERM, with status 143.
    """
    if _noted.last == signal.SIGINT:
        raise KeyboardInterrupt
    if _noted.last:
        raise SystemExit(128 + _noted.last)
