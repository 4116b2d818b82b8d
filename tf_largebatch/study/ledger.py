"""The ledger: ``trials.jsonl``, a line for every finished run."""

import contextlib
import fcntl
import io
import json
import os
import pathlib
from collections.abc import Mapping
from typing import IO, Any

import yaml

from tf_largebatch import configs
from tf_largebatch.errors import UserError

KEY = {"row", "kind", "index"}
RUN_AGAIN = "choose another folder with --out"


class Ledger:
    """The folder of one study: its protocol and its finished runs.

    Opening it creates the folder or takes up the study that it holds, and
    locks it, so that two processes cannot write the same study.

    Args:
        folder: where the study is or will be.
        protocol: what is to be run.

    Raises:
        UserError: the folder holds something else, another process has it,
            or it cannot be written.
    """

    def __init__(self, folder: pathlib.Path, protocol: Mapping[str, Any]):
        self.folder = folder
        self.lines: list[dict[str, Any]] = []
        try:
            check_folder(folder, protocol)
            folder.mkdir(parents=True, exist_ok=True)
            with contextlib.ExitStack() as stack:
                # Unbuffered: a buffer would keep what a full disk refuses,
                # and try again when it is closed.
                self._file: IO[bytes] = stack.enter_context(
                    open(folder / "trials.jsonl", "ab+", buffering=0)
                )
                lock(self._file, folder)
                write_protocol(folder, protocol)
                self._read()
                stack.pop_all()  # Open from here on, as nothing failed.
        except OSError as error:
            raise cannot_write(folder, error) from error

    def _read(self) -> None:
        """Reads the finished runs and cuts off a line half written."""
        self._file.seek(0)
        end = 0
        content = io.BytesIO(self._file.read())
        for number, text in enumerate(content, start=1):
            if not text.endswith(b"\n"):
                break
            end += len(text)
            self.lines.append(parse_line(text, number, self.folder))
        self._file.truncate(end)

    def has(self, key: tuple[str, str, int]) -> bool:
        """Whether the run of this key is finished."""
        return any(
            (line["row"], line["kind"], line["index"]) == key
            for line in self.lines
        )

    def add(self, line: Mapping[str, Any]) -> None:
        """Writes a finished run; it is on the disk when this returns.

        Raises:
            UserError: the disk is full or the folder is gone.
        """
        text = json.dumps(line, allow_nan=False) + "\n"
        start = self._file.seek(0, os.SEEK_END)
        try:
            write_all(self._file, text.encode())
            os.fsync(self._file.fileno())
        except OSError as error:
            discard_from(self._file, start)
            raise cannot_write(self.folder, error) from error
        self.lines.append(dict(line))

    def of(self, row: str, kind: str) -> list[dict[str, Any]]:
        """Returns a row's finished runs of a kind, by index."""
        chosen = [
            line
            for line in self.lines
            if line["row"] == row and line["kind"] == kind
        ]
        return sorted(chosen, key=lambda line: line["index"])

    def close(self) -> None:
        """Gives the folder free."""
        self._file.close()


def check_folder(folder: pathlib.Path, protocol: Mapping[str, Any]) -> None:
    """Raises UserError where ``folder`` holds anything but this study."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is a file, not a folder; {RUN_AGAIN}")
    if not folder.exists() or is_unused(folder):
        return
    path = folder / "study.yaml"
    if not path.exists():
        raise UserError(f"{folder} holds files but no study; {RUN_AGAIN}")
    found, wanted = configs.read(path), as_yaml_has_it(protocol)
    for key in {**found, **wanted}:
        if found.get(key) != wanted.get(key):
            difference = key
            if not isinstance(wanted.get(key), dict):
                difference += f" {found.get(key)}, not {wanted.get(key)}"
            raise UserError(
                f"{folder} holds another study ({difference}); {RUN_AGAIN}"
            )


def is_unused(folder: pathlib.Path) -> bool:
    """Whether a folder holds at most what a start that failed left there."""
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    sizes.pop("study.yaml.new", None)
    return sizes in ({}, {"trials.jsonl": 0})


def write_protocol(folder: pathlib.Path, protocol: Mapping[str, Any]) -> None:
    """Writes ``study.yaml``, all that is needed to run the study again."""
    path = folder / "study.yaml"
    if not path.exists():
        replace(path, yaml.safe_dump(as_yaml_has_it(protocol), sort_keys=False))


def as_yaml_has_it(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the protocol with plain lists, dicts and numbers only."""
    return json.loads(json.dumps(protocol))


def replace(path: pathlib.Path, text: str) -> None:
    """Writes a file whole or not at all."""
    aside = path.with_name(path.name + ".new")
    aside.write_text(text, encoding="utf-8")
    os.replace(aside, path)


def write_all(file: IO[bytes], content: bytes) -> None:
    """Writes to an unbuffered file, which may take a part at a time."""
    while content:
        content = content[file.write(content) :]


def lock(file: IO[bytes], folder: pathlib.Path) -> None:
    """Raises UserError where another process has the study."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise UserError(
            f"another process is running the study in {folder}; "
            "wait for it, or choose another folder with --out"
        ) from error


def parse_line(text: bytes, number: int, folder: pathlib.Path) -> dict:
    """Returns what one line of the ledger holds."""
    try:
        line = json.loads(text)
        if not isinstance(line, dict) or not KEY <= set(line):
            raise ValueError("no run")
        return line
    except ValueError as error:
        raise UserError(
            f"{folder / 'trials.jsonl'} is damaged in line {number}; "
            "delete that line to have its run done again"
        ) from error


def discard_from(file: IO[bytes], start: int) -> None:
    """Takes back what a failed write left behind, as far as possible."""
    try:
        file.truncate(start)
    except OSError:
        # The next start cuts the half-written line off.
        return


def cannot_write(folder: pathlib.Path, error: OSError) -> UserError:
    """Returns the error for a folder that cannot be written."""
    return UserError(
        f"cannot write to {folder}: {configs.reason(error)}; "
        "make room or choose another folder with --out"
    )
