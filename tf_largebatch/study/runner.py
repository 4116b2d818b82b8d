"""What one worker does: claims runs, trains, and writes what it measured."""

import contextlib
import importlib
import os
import pathlib
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from types import ModuleType
from typing import Any

from tf_largebatch import stopping
from tf_largebatch.errors import UserError
from tf_largebatch.study import folder as folders
from tf_largebatch.study.ledger import Claim, Ledger, Line
from tf_largebatch.study.protocol import Run

# Seconds until a worker that can do nothing looks again.
WAIT = 1.0
# What a process that trains workloads has in its environment, if nothing else
# is there: a thread, as the workloads are small, and sums have one order on
# machines of any size; and a share of a GPU.
ENVIRONMENT = {
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
}
# Of a protocol: whether checkpoints of finished runs stay.
KEEP = "keep_checkpoints"


# What a run is asked with every step that is measured on the way and the
# validation metric there: whether to stop.
IsHopeless = Callable[[int, float], bool]
# Does a run of a row of the protocol; returns its line for the ledger.
Train = Callable[[Mapping[str, Any], Run, IsHopeless], Line]


def training(
    study: Mapping[str, Any], folder: pathlib.Path | None = None
) -> Train:
    """Returns what trains a study's workload, on TensorFlow.

    Args:
        study: its protocol.
        folder: of the study, for checkpoints; None means that there is none.

    Raises:
        UserError: a package that it needs is not installed.
    """
    if "experiment" in study["workload"]:
        return of_recipes("recipe_training").Trainer(study, folder).run
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    from tf_largebatch.study.training import Trainer

    return Trainer(study).run


def of_recipes(module: str = "recipes") -> ModuleType:
    """Returns a module for studies of recipes, which needs an extra.

    Raises:
        UserError: a package is not installed.
    """
    try:
        return importlib.import_module(f"tf_largebatch.study.{module}")
    except ModuleNotFoundError as error:
        raise UserError(
            "recipes need a package that is not installed "
            f"({error.name}); pip install 'tf-largebatch[garden,study]'"
        ) from error


def execute(
    ledger: Ledger,
    prepare: Callable[[Mapping[str, Any]], Train] | None = None,
    wait: float = WAIT,
) -> Generator[Run | Line | None, None, None]:
    """Does runs until all of the study's are finished, here or elsewhere.

    Args:
        ledger: of the study.
        prepare: returns what trains, given the protocol; None means
            :func:`training`.
        wait: seconds until it looks again where it can do nothing.

    Yields:
        Every run when it begins, its line when it is in the ledger, and None
        where others were faster or each time that it has waited for them.

    Raises:
        UserError: the storage cannot be used any more.
    """
    if ledger.is_finished():
        return
    train = (
        prepare(ledger.study)
        if prepare
        else training(ledger.study, ledger.folder)
    )
    while not ledger.is_finished():
        with stopping.deferred():
            claim = ledger.claim()
            if claim is not None:
                with held(ledger, claim):
                    yield claim.run
                    line = measure(ledger, claim, train)
                    written = ledger.finish(claim, line)
                if written and ledger.folder and not ledger.study.get(KEEP):
                    folders.clear(ledger.folder, claim.run)
                yield line if written else None
            elif not ledger.rescue():
                time.sleep(wait)
                yield None
        stopping.check()


@contextlib.contextmanager
def held(ledger: Ledger, claim: Claim) -> Iterator[None]:
    """Keeps a claimed run alive, and gives it back if it is not finished."""
    stop = threading.Event()
    beats = threading.Thread(
        target=beat, args=(ledger, claim, stop), daemon=True
    )
    beats.start()
    try:
        yield
    except BaseException:
        # If this fails too, the run is taken over in time.
        with contextlib.suppress(UserError):
            ledger.release(claim)
        raise
    finally:
        stop.set()
        beats.join()


def beat(ledger: Ledger, claim: Claim, stop: threading.Event) -> None:
    """Says every now and then that a run is under way, until it is not."""
    while not stop.wait(ledger.heartbeat):
        # Whoever finishes the run learns of it if the storage is gone.
        with contextlib.suppress(UserError):
            ledger.beat(claim)
    ledger.leave()


def measure(ledger: Ledger, claim: Claim, train: Train) -> Line:
    """Does a claimed run; returns what it measured."""
    if claim.run.kind != "tune" or not ledger.study.get("pruner"):
        return train(claim.row, claim.run, lambda step, value: False)
    stopped = False

    def is_hopeless(step: int, value: float) -> bool:
        nonlocal stopped
        stopped = ledger.is_hopeless(claim, step, value)
        return stopped

    line = train(claim.row, claim.run, is_hopeless)
    return {**line, "pruned": stopped}
