"""Signals: deferred, raised, and found again where they got lost."""

import os
import signal
import subprocess
import sys
import weakref

import pytest

from tf_largebatch import stopping

RAISED = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: SystemExit}


@pytest.fixture(params=RAISED, ids=["SIGINT", "SIGTERM"])
def number(request):
    with stopping.heard():
        yield request.param


def send(number):
    os.kill(os.getpid(), number)


def test_it_is_raised_at_once(number):
    with pytest.raises(RAISED[number]) as error:
        send(number)
    if number == signal.SIGTERM:
        assert error.value.code == 143


def test_it_is_raised_at_the_next_check(number, capfd):
    done = []
    with pytest.raises(RAISED[number]), stopping.deferred():
        send(number)
        done.append("the step")
        stopping.check()
        done.append("another step")
    assert done == ["the step"]
    assert "once more stops at once" in capfd.readouterr().err


def test_it_is_raised_at_the_end(number):
    done = []
    with pytest.raises(RAISED[number]):
        with stopping.deferred():
            send(number)
            done.append("all of it")
        done.append("more")
    assert done == ["all of it"]


def test_an_inner_end_raises_it_too(number):
    with pytest.raises(RAISED[number]), stopping.deferred():
        with stopping.deferred():
            send(number)
        pytest.fail("went on")


def test_a_second_one_is_raised_at_once(number):
    with pytest.raises(RAISED[number]), stopping.deferred():
        send(number)
        send(number)
        pytest.fail("went on")


def test_what_is_deferred_after_a_stop_is_done(number):
    """So that a run can be saved where it was stopped."""
    with pytest.raises(RAISED[number]):
        send(number)
    with stopping.deferred():
        pass


def test_an_error_is_not_hidden_by_a_signal(number):
    with pytest.raises(OSError, match="full"), stopping.deferred():
        send(number)
        raise OSError("full")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_one_that_a_destructor_swallowed_is_found_again(number):
    class Thing:
        pass

    thing = Thing()
    weakref.finalize(thing, send, number).atexit = False
    hook, sys.excepthook = sys.excepthook, lambda *args: None
    try:
        del thing
    finally:
        sys.excepthook = hook
    with pytest.raises(RAISED[number]):
        stopping.check()


def test_nothing_is_raised_where_nothing_came():
    with stopping.heard(), stopping.deferred():
        stopping.check()


def test_the_handlers_before_are_there_again():
    before = [signal.getsignal(number) for number in RAISED]
    with stopping.heard():
        assert signal.getsignal(signal.SIGINT) is stopping.note
    assert [signal.getsignal(number) for number in RAISED] == before


def test_an_earlier_signal_is_forgotten():
    with pytest.raises(KeyboardInterrupt), stopping.heard():
        send(signal.SIGINT)
    with stopping.heard():
        stopping.check()
    stopping.check()


def test_a_signal_that_is_ignored_stays_so():
    script = """
import os, signal
from tf_largebatch import stopping
signal.signal(signal.SIGINT, signal.SIG_IGN)
with stopping.heard():
    os.kill(os.getpid(), signal.SIGINT)
    stopping.check()
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "done\n")
