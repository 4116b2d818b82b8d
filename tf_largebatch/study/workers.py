"""Workers of one study on this machine, each in a process of its own."""

import contextlib
import multiprocessing
import pathlib
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import connection
from multiprocessing.process import BaseProcess
from typing import Any

import optuna

from tf_largebatch import parallel, stopping
from tf_largebatch.errors import RunError, UserError, one_line
from tf_largebatch.study import runner, storage
from tf_largebatch.study.ledger import Ledger

# More would mostly wait for one another at an SQLite ledger.
MOST = 8
# To start a worker takes as long as a few runs.
RUNS_EACH = 4


def usual(study: Mapping[str, Any], runs: int) -> int:
    """Returns how many workers do the runs of a study, unless told.

    One a core, as a run of a workload keeps one busy. A recipe keeps all
    busy; and which runs a pruner stops depends on how many there are at once.

    Args:
        study: its protocol.
        runs: how many are to be done.
    """
    if "experiment" in study["workload"] or study.get("pruner"):
        return 1
    return max(1, min(parallel.cores(), MOST, runs // RUNS_EACH))


@contextlib.contextmanager
def started(
    url: storage.URL,
    name: str,
    count: int,
    folder: pathlib.Path | None = None,
) -> Iterator[Sequence[BaseProcess]]:
    """Runs workers, and stops those that are left at the end.

    Args:
        url: of the study's storage. It goes to the processes unseen by other
            users of the machine, as it may have a password.
        name: of the study.
        count: how many workers.
        folder: of the study, for checkpoints; None means that there is none.
    """
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=work, args=(url, name, folder))
        for _ in range(count)
    ]
    # Ctrl-C in a terminal is for this process, which then stops the others.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for process in processes:
            process.start()
        signal.signal(signal.SIGINT, before)
        yield processes
    finally:
        begun = [process for process in processes if process.pid is not None]
        for process in begun:
            process.terminate()
        for process in begun:
            process.join()


def watch(processes: Sequence[BaseProcess], seconds: float) -> Iterator[None]:
    """Yields every so many seconds, and whenever a worker ends, until all do.

    Args:
        processes: the workers.
        seconds: between two looks.
    """
    while alive := [each.sentinel for each in processes if each.is_alive()]:
        connection.wait(alive, seconds)
        yield


def work(
    url: storage.URL, name: str, folder: pathlib.Path | None = None
) -> None:
    """Is one worker, in a process of its own; see :func:`started`."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with stopping.heard():
            ledger = Ledger.open(url, name)
            ledger.folder = folder
            with contextlib.closing(runner.execute(ledger)) as events:
                for _ in events:
                    pass
            ledger.close()
    except (UserError, RunError) as error:
        print(f"a worker stops: {one_line(str(error))}", file=sys.stderr)
        raise SystemExit(2 if isinstance(error, UserError) else 1) from None
