"""Runs a study: all tuning runs, then all runs with fresh seeds."""

from collections.abc import Iterator, Mapping
from typing import Any

from tf_largebatch.study import protocol
from tf_largebatch.study.ledger import Ledger
from tf_largebatch.study.protocol import Run
from tf_largebatch.study.training import Trainer

Study = Mapping[str, Any]
Row = Mapping[str, Any]


def count(study: Study) -> int:
    """Returns how many runs a study has in all."""
    rows = study["table"]["rows"]
    tuned = sum(not row["tuned_as"] for row in rows)
    return tuned * study["trials"] + len(rows) * study["seeds"]


def execute(study: Study, ledger: Ledger) -> Iterator[Run | None]:
    """Does all runs that the ledger lacks and writes each into it.

    Args:
        study: its protocol.
        ledger: its folder, open.

    Yields:
        Every run when it begins, and None when it is in the ledger.

    Raises:
        UserError: the ledger cannot be written.
    """
    trainer = Trainer(study)
    for row, run in runs(study, ledger):
        if not ledger.has(run.key):
            yield run
            ledger.add(trainer.run(row, run))
            yield None


def runs(study: Study, ledger: Ledger) -> Iterator[tuple[Row, Run]]:
    """Yields the runs in order, with their rows, finished ones as well.

    The seeds' runs depend on the tuning runs, which must be in the ledger
    when the first of them is asked for.
    """
    rows = study["table"]["rows"]
    for row in rows:
        for run in protocol.tuning_runs(study, row):
            yield row, run
    for row in rows:
        for run in protocol.seed_runs(study, row, best_of(study, row, ledger)):
            yield row, run


def best_of(study: Study, row: Row, ledger: Ledger) -> dict[str, float]:
    """Returns the tuned values of a row, or of the row it takes them from."""
    base = protocol.tuned_row(study, row)
    return protocol.best_point(study, base, ledger.of(base["name"], "tune"))
