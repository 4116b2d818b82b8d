"""Processes that share out jobs."""

import math
import multiprocessing
import os
import signal

import pytest

from tf_largebatch import parallel
from tf_largebatch.errors import RunError


def test_results_come_in_the_order_of_jobs():
    with parallel.start(2) as pool:
        assert parallel.run(pool, "roots", math.isqrt, [9, 4, 1]) == [3, 2, 1]
        assert len(multiprocessing.active_children()) == 2
    assert not multiprocessing.active_children()


def test_a_mistake_in_a_job_is_raised_as_it_is():
    with pytest.raises(ValueError, match="nonnegative"):
        with parallel.start(1) as pool:
            parallel.run(pool, "roots", math.isqrt, [4, -1, 9])
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("stopped", [KeyboardInterrupt, SystemExit])
def test_who_stops_does_not_wait_for_what_goes_on(stopped):
    with pytest.raises(stopped):
        with parallel.start(2) as pool:
            parallel.run(pool, "roots", math.isqrt, [9])
            for _ in range(5):
                pool.submit(signal.pause)
            raise stopped
    assert not multiprocessing.active_children()


def test_a_process_that_dies_is_an_error():
    with pytest.raises(RunError, match="worked on exits, .* fewer --processes"):
        with parallel.start(1) as pool:
            parallel.run(pool, "exits", os._exit, [1])


def test_a_process_leaves_ctrl_c_to_its_parent():
    with parallel.start(1) as pool:
        (handler,) = parallel.run(
            pool, "handlers", signal.getsignal, [signal.SIGINT]
        )
        (device,) = parallel.run(
            pool, "devices", os.getenv, ["CUDA_VISIBLE_DEVICES"]
        )
    assert handler == signal.SIG_IGN
    assert device == "-1"
