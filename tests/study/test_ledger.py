"""The ledger: nothing finished is lost, nothing of others is touched."""

import contextlib
import json
import os
import resource
import subprocess
import sys

import pytest
import yaml

from tf_largebatch.errors import UserError
from tf_largebatch.study import ledger as ledgers
from tf_largebatch.study.ledger import Ledger

PROTOCOL = {"workload": {"name": "digits"}, "steps": 24, "seed": 0}


def line(index, row="lars", kind="tune"):
    return {"row": row, "kind": kind, "index": index, "test": 0.9}


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "runs" / "study"


@contextlib.contextmanager
def opened(folder, protocol=PROTOCOL):
    """Opens a ledger and gives its folder free at the end."""
    ledger = Ledger(folder, protocol)
    try:
        yield ledger
    finally:
        ledger.close()


@pytest.fixture
def begun(folder):
    """The folder of a study with three finished runs."""
    with opened(folder) as ledger:
        for index in (2, 0, 1):
            ledger.add(line(index))
    return folder


def content(folder):
    """Returns all files below a folder with their bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refused(folder, protocol=PROTOCOL):
    """Returns the one line with which a folder is refused, untouched."""
    before = content(folder.parent)
    with pytest.raises(UserError) as caught:
        Ledger(folder, protocol)
    assert content(folder.parent) == before
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def test_a_new_study_has_its_protocol_and_no_run(folder):
    with opened(folder) as ledger:
        assert ledger.lines == []
    assert yaml.safe_load((folder / "study.yaml").read_text()) == PROTOCOL
    assert (folder / "trials.jsonl").read_bytes() == b""


def test_every_run_is_on_the_disk_when_it_is_added(folder):
    with opened(folder) as ledger:
        for index in range(3):
            ledger.add(line(index))
            text = (folder / "trials.jsonl").read_text()
            found = [json.loads(each) for each in text.splitlines()]
            assert found == [line(n) for n in range(index + 1)]


def test_a_study_goes_on_where_it_was(begun):
    with opened(begun) as ledger:
        assert [x["index"] for x in ledger.lines] == [2, 0, 1]
        assert ledger.has(("lars", "tune", 1))
        assert not ledger.has(("lars", "tune", 3))
        assert not ledger.has(("lars", "seed", 1))
        assert not ledger.has(("lamb", "tune", 1))
        ledger.add(line(3))
    with opened(begun) as ledger:
        assert ledger.has(("lars", "tune", 3))
        assert len(ledger.lines) == 4


def test_runs_come_by_row_kind_and_index(begun):
    with opened(begun) as ledger:
        ledger.add(line(0, kind="seed"))
        ledger.add(line(0, row="lamb"))
        assert ledger.of("lars", "tune") == [line(0), line(1), line(2)]
        assert ledger.of("lars", "seed") == [line(0, kind="seed")]
        assert ledger.of("adam", "tune") == []


@pytest.mark.parametrize("half", [b'{"row": "la', b'{"row": 1}', b"\xff\x00"])
def test_a_line_half_written_is_cut_off(begun, half):
    """Also one that lacks nothing but its end of line."""
    whole = (begun / "trials.jsonl").read_bytes()
    (begun / "trials.jsonl").write_bytes(whole + half)
    with opened(begun) as ledger:
        assert len(ledger.lines) == 3
        ledger.add(line(3))
    text = json.dumps(line(3)).encode() + b"\n"
    assert (begun / "trials.jsonl").read_bytes() == whole + text


@pytest.mark.parametrize(
    "damage",
    [b"{]\n", b"\n", b"\xff\xfe\n", b"3\n", b"{}\n", b'{"row": "lars"}\n'],
)
def test_a_damaged_line_is_named(begun, damage):
    lines = (begun / "trials.jsonl").read_bytes().splitlines(keepends=True)
    lines[1] = damage
    (begun / "trials.jsonl").write_bytes(b"".join(lines))
    assert "trials.jsonl is damaged in line 2" in refused(begun)


def test_a_refused_ledger_gives_the_folder_free(begun):
    good = (begun / "trials.jsonl").read_bytes()
    (begun / "trials.jsonl").write_bytes(b"damage\n")
    with pytest.raises(UserError) as refusal:
        Ledger(begun, PROTOCOL)
    assert refusal.tb  # Which holds all that the constructor had.
    (begun / "trials.jsonl").write_bytes(good)
    with opened(begun) as ledger:
        assert len(ledger.lines) == 3


@pytest.mark.parametrize(
    "protocol, words",
    [
        ({**PROTOCOL, "steps": 48}, "steps 24, not 48"),
        ({**PROTOCOL, "seed": 1}, "seed 0, not 1"),
        ({**PROTOCOL, "rows": 2}, "rows None, not 2"),
        ({"workload": PROTOCOL["workload"], "steps": 24}, "seed 0, not None"),
        ({**PROTOCOL, "workload": {"name": "mnist"}}, "(workload)"),
    ],
)
def test_another_study_is_refused(begun, protocol, words):
    message = refused(begun, protocol)
    assert "holds another study" in message
    assert words in message
    assert "--out" in message


def test_a_protocol_that_yaml_writes_otherwise_is_the_same_study(folder):
    """Tuples, numbers like 1e-05 and text with line breaks."""
    protocol = {"rows": ("a", "b"), "low": 1e-05, "text": "a:\n- 'b'", "n": 1}
    for _ in range(2):
        with opened(folder, protocol) as ledger:
            assert ledger.lines == []


def test_files_that_are_no_study_are_left_alone(folder):
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("years of work")
    assert "no study" in refused(folder)


def test_a_file_is_no_folder(folder):
    folder.parent.mkdir()
    folder.write_text("years of work")
    assert "is a file, not a folder" in refused(folder)


def test_a_folder_below_a_file(folder):
    folder.parent.write_text("years of work")
    before = content(folder.parent.parent)
    with pytest.raises(UserError, match="cannot write"):
        Ledger(folder, PROTOCOL)
    assert content(folder.parent.parent) == before


def test_a_protocol_that_is_no_yaml(begun):
    (begun / "study.yaml").write_text("steps: [")
    assert "study.yaml, line 1" in refused(begun)


def test_an_empty_folder_is_taken(folder):
    folder.mkdir(parents=True)
    with opened(folder):
        assert (folder / "study.yaml").exists()


def test_two_ledgers_of_one_study(begun):
    with opened(begun) as ledger:
        assert "another process" in refused(begun)
        ledger.add(line(3))
    with opened(begun) as ledger:
        assert len(ledger.lines) == 4


def test_another_process_has_the_study(begun):
    code = (
        "import fcntl, sys\n"
        "file = open(sys.argv[1], 'ab')\n"
        "fcntl.flock(file, fcntl.LOCK_EX)\n"
        "print('locked', flush=True)\n"
        "sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, begun / "trials.jsonl"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout.readline() == b"locked\n"
        assert "another process" in refused(begun)
        other.stdin.close()
        other.wait()
    with opened(begun) as ledger:
        assert len(ledger.lines) == 3


@contextlib.contextmanager
def full_disk(size):
    """Lets no file grow beyond ``size`` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_costs_the_run_but_not_the_study(begun):
    """Also closing the ledger says nothing more of it."""
    before = content(begun)
    with full_disk(len(before["trials.jsonl"]) + 10):
        with opened(begun) as ledger:
            with pytest.raises(UserError, match="File too large") as caught:
                ledger.add(line(3))
            assert "\n" not in str(caught.value)
            assert not ledger.has(("lars", "tune", 3))
    assert content(begun) == before
    with opened(begun) as ledger:
        ledger.add(line(3))
    assert content(begun)["trials.jsonl"].count(b"\n") == 4


def test_a_write_in_parts_is_whole():
    class Reluctant:
        def write(self, content):
            taken.append(content[:7])
            return len(taken[-1])

    taken = []
    ledgers.write_all(Reluctant(), b"a line of the ledger\n")
    assert b"".join(taken) == b"a line of the ledger\n"


def test_a_full_disk_at_the_start(folder):
    with full_disk(3):
        with pytest.raises(UserError, match="cannot write to"):
            Ledger(folder, PROTOCOL)
    with opened(folder) as ledger:
        assert ledger.lines == []


def test_a_folder_that_is_read_only(begun, monkeypatch):
    """By a stand-in for `open`, as tests may run as root."""

    def read_only(path, mode="r", *arguments, **more):
        if "a" in mode or "w" in mode:
            raise PermissionError(13, "Permission denied", str(path))
        return open(path, mode, *arguments, **more)

    monkeypatch.setattr(ledgers, "open", read_only, raising=False)
    message = refused(begun)
    assert "Permission denied" in message
    assert "--out" in message


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    path.write_text("old")

    def fail(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError):
        ledgers.replace(path, "new")
    assert path.read_text() == "old"
    monkeypatch.undo()
    ledgers.replace(path, "new")
    assert content(tmp_path) == {"summary.json": b"new"}


def test_a_figure_that_json_does_not_have_is_refused(folder):
    with opened(folder) as ledger:
        with pytest.raises(ValueError):
            ledger.add({**line(0), "test": float("nan")})
        assert ledger.lines == []
    assert content(folder)["trials.jsonl"] == b""
