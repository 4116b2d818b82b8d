"""A study's folder: what it holds beside the report.

``study.yaml`` is the protocol, ``study.db`` the ledger unless that is
elsewhere, ``trials.jsonl`` and ``summary.json`` are written from the ledger.
``runs`` has the checkpoints of recipes until their runs are finished.
"""

import contextlib
import json
import pathlib
import shutil
from collections.abc import Mapping
from typing import Any

import yaml

from tf_largebatch import configs, folders
from tf_largebatch.errors import UserError
from tf_largebatch.study import ledger as ledgers
from tf_largebatch.study import protocol, storage, summary, table_rows
from tf_largebatch.study.ledger import Ledger
from tf_largebatch.study.protocol import Run

RUN_AGAIN = "choose another folder with --out"
PROTOCOL, DATABASE, LINES = "study.yaml", "study.db", "trials.jsonl"


def create(
    folder: pathlib.Path, study: Mapping[str, Any], url: storage.URL | None
) -> Ledger:
    """Returns a study's ledger; makes folder and ledger if there are none.

    Args:
        folder: where the study is or will be.
        study: the protocol.
        url: of the ledger's storage; None means a SQLite file in the folder.

    Raises:
        UserError: the protocol makes no study, the folder holds something
            else, the storage has another study of this name, or one of them
            cannot be used.
    """
    plain = ledgers.as_json_has_it(study)
    ledgers.check_format(plain, f"table {plain['table'].get('name')}")
    summary.versions(protocol.packages(study))
    check(folder, study, url)
    if url is None:
        make(folder)
    ledger = Ledger(url or storage.file(folder / DATABASE), study)
    write_protocol(folder, ledger)
    return ledger


def make(folder: pathlib.Path) -> None:
    """Makes the folder, if there is none."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise cannot_write(folder, error) from error


def write_protocol(folder: pathlib.Path, ledger: Ledger) -> None:
    """Writes ``study.yaml``, all that is needed to run the study again.

    Unless it is there: it is written anew where the study got more seeds.

    Raises:
        UserError: the folder cannot be written.
    """
    make(folder)
    path = folder / PROTOCOL
    try:
        if not path.exists() or configs.read(path) != ledger.study:
            folders.replace(path, yaml.safe_dump(ledger.study, sort_keys=False))
    except OSError as error:
        raise cannot_write(folder, error) from error


def take_up(
    folder: pathlib.Path, name: str | None, url: storage.URL | None
) -> Ledger:
    """Returns the ledger of the study that a folder holds.

    Args:
        folder: of the study.
        name: of the study; None means that of ``study.yaml``.
        url: as for :func:`create`.

    Raises:
        UserError: there is none, or its storage cannot be used.
    """
    if not (folder / PROTOCOL).exists():
        if (folder / DATABASE).exists():
            raise UserError(
                f"{folder} has {DATABASE} but no {PROTOCOL}; tf-largebatch "
                "study run --name=NAME --out=ANOTHER --storage=sqlite:///"
                f"{(folder / DATABASE).resolve()} goes on with it"
            )
        raise UserError(
            f"{folder} holds no study; make one with tf-largebatch study create"
        )
    study = configs.read(folder / PROTOCOL)
    ledgers.check_format(study, folder)
    check_database(folder, url)
    ledger = Ledger.open(
        url or storage.file(folder / DATABASE), name or study["name"]
    )
    if ledgers.conflict(study, ledger.study) is None:
        # Which may have got more seeds from elsewhere.
        write_protocol(folder, ledger)
    return ledger


def check(
    folder: pathlib.Path, study: Mapping[str, Any], url: storage.URL | None
) -> None:
    """Raises UserError where ``folder`` holds anything but this study."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, not a folder; {RUN_AGAIN}")
    if not folder.exists() or is_unused(folder):
        return
    path = folder / PROTOCOL
    if not path.exists():
        raise UserError(f"{folder} holds files but no study; {RUN_AGAIN}")
    found = configs.read(path)
    ledgers.check_format(found, folder)
    different = ledgers.conflict(found, ledgers.as_json_has_it(study))
    if different:
        raise UserError(
            f"{folder} holds another study ({different}); {RUN_AGAIN}"
        )
    check_database(folder, url)


def check_database(folder: pathlib.Path, url: storage.URL | None) -> None:
    """Raises UserError where a study's ledger is elsewhere, or is lost."""
    if url is None and not (folder / DATABASE).exists():
        raise UserError(
            f"{folder} has no {DATABASE}; give the --storage that its study "
            f"was created with, or {RUN_AGAIN}"
        )


def is_unused(folder: pathlib.Path) -> bool:
    """Whether a folder holds at most what a start that failed left there."""
    left = {DATABASE, f"{DATABASE}-journal"}
    return all(
        path.name in left or path.suffix == folders.NEW
        for path in folder.iterdir()
    )


def write_lines(folder: pathlib.Path, ledger: Ledger) -> None:
    """Writes ``trials.jsonl``, a line for every finished run.

    Raises:
        UserError: the folder cannot be written.
    """
    lines = [json.dumps(line, allow_nan=False) for line in ledger.lines]
    try:
        folders.replace(folder / LINES, "".join(f"{line}\n" for line in lines))
    except OSError as error:
        raise cannot_write(folder, error) from error


def place(folder: pathlib.Path, run: Run) -> pathlib.Path:
    """Returns where a run of a study may keep its checkpoints.

    Args:
        folder: of the study.
        run: of the study.

    Raises:
        UserError: the row's name leads out of the folder.
    """
    if not table_rows.is_path(run.row):
        raise UserError(f"a row is called {run.row!r}; give it another name")
    return folder / "runs" / run.row / f"{run.kind}-{run.index}"


def clear(folder: pathlib.Path, run: Run) -> None:
    """Removes a run's checkpoints, and the folders that then are empty."""
    found = place(folder, run)
    shutil.rmtree(found, ignore_errors=True)
    for parent in found.relative_to(folder).parents[:-1]:
        # Other runs of the row may have theirs there.
        with contextlib.suppress(OSError):
            (folder / parent).rmdir()


def cannot_write(folder: pathlib.Path, error: OSError) -> UserError:
    """Returns the error for a folder that cannot be written."""
    return UserError(
        f"cannot write to {folder}: {configs.reason(error)}; "
        "make room or choose another folder with --out"
    )
