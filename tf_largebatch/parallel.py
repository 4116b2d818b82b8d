"""Processes that share out jobs, and are gone when the work is."""

import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

from tqdm import tqdm

from tf_largebatch.errors import RunError

Job = TypeVar("Job")
Result = TypeVar("Result")


@contextlib.contextmanager
def start(
    processes: int | None = None, jobs_each: int | None = None
) -> Iterator[concurrent.futures.Executor]:
    """Starts processes, and ends them when the block ends, however it does.

    They begin with nothing imported, as TensorFlow does not survive a fork.

    Args:
        processes: how many; None means as many as there are cores.
        jobs_each: how many jobs a process does before another takes its place,
            and its memory is free; None means all.
    """
    processes = processes or cores()
    others = set(multiprocessing.active_children())
    pool = concurrent.futures.ProcessPoolExecutor(
        processes,
        multiprocessing.get_context("spawn"),
        prepare,
        max_tasks_per_child=jobs_each,
    )
    try:
        yield pool
    except BaseException:
        for process in {*multiprocessing.active_children()} - others:
            process.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def prepare() -> None:
    """Makes a new process leave Ctrl-C to the one that started it.

    The accelerator, too, which it has no use for.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # What fails is raised.


def run(
    pool: concurrent.futures.Executor,
    what: str,
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
) -> list[Result]:
    """Returns a function's results for all jobs, and shows the progress.

    Raises:
        RunError: a process ended before its job did.
    """
    with ignoring_interrupts():
        futures = [pool.submit(function, job) for job in jobs]
    try:
        with bar(what, len(jobs)) as shown:
            for future in concurrent.futures.as_completed(futures):
                future.result()
                shown.update()
    except BrokenProcessPool as error:
        raise RunError(
            f"a process ended while it worked on {what}, perhaps for want of "
            "memory; give fewer --processes"
        ) from error
    return [future.result() for future in futures]


@contextlib.contextmanager
def ignoring_interrupts() -> Iterator[None]:
    """Ignores Ctrl-C for a moment, as processes that start in it go on to do.

    They would each end in a traceback.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def bar(what: str, total: int, unit_scale: bool = False) -> tqdm:
    """Returns a bar that shows how much is done and the time left."""
    # In a file, a line now and then will do.
    pause = 0.1 if sys.stderr.isatty() else 15
    return tqdm(
        desc=what,
        total=total,
        unit="",
        unit_scale=unit_scale,
        mininterval=pause,
    )
