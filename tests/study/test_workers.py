"""Workers in processes of their own share a study, and any may die."""

import contextlib
import json
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tf_largebatch import parallel
from tf_largebatch.study import protocol, runner, storage, summary, workers
from tf_largebatch.study.ledger import Ledger

SCRIPT = Path(__file__).with_name("fake_worker.py")
fake = runpy.run_path(str(SCRIPT))["fake"]
DEADLINE = 120


def plan(name, **more):
    sizes = {"trials": 4, "seeds": 3, "steps": 12}
    study = protocol.create("table2", "digits_resnet", **sizes)
    return {**study, "name": name, **more}


@pytest.fixture
def start(tmp_path):
    """A function that starts a worker; those that are left are killed."""
    begun = []

    def start(url, name, log, *more):
        command = [sys.executable, SCRIPT, address(url), name, log, *more]
        begun.append(subprocess.Popen(command, cwd=tmp_path))
        return begun[-1]

    yield start
    for process in begun:
        process.kill()
        process.wait()


def address(url):
    return url.render_as_string(hide_password=False)


def wait_for(condition):
    """Returns when something holds; fails if it never does."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def figures(ledger):
    """Returns trials.jsonl and summary.json, as text."""
    made = summary.summarize(ledger.study, ledger.lines, {}, "a machine")
    return [*map(json.dumps, ledger.lines)], json.dumps(made)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one worker finds, on SQLite."""
    url = storage.file(tmp_path_factory.mktemp("alone") / "study.db")
    with contextlib.closing(Ledger(url, plan("study"))) as ledger:
        for _ in runner.execute(ledger, fake):
            pass
        return figures(ledger)


def begun(*logs):
    """Returns the runs that were begun, by all workers that wrote a log."""
    texts = [Path(log).read_text() for log in logs if Path(log).exists()]
    return sorted("".join(texts).splitlines())


def test_two_workers_find_what_one_finds(tmp_path, start, alone):
    url = storage.file(tmp_path / "study.db")
    with contextlib.closing(Ledger(url, plan("study"))) as ledger:
        logs = [tmp_path / "one", tmp_path / "other"]
        for process in [start(url, "study", log) for log in logs]:
            assert process.wait(DEADLINE) == 0
        assert figures(ledger) == alone
    assert len(begun(*logs)) == len(set(begun(*logs))) == 20


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_one_of_three_is_killed_and_one_comes_late(
    database, tmp_path, start, alone, request
):
    url = (
        storage.parse(request.getfixturevalue("postgresql"))
        if database == "postgresql"
        else storage.file(tmp_path / "study.db")
    )
    study = plan("three", heartbeat=2)
    with contextlib.closing(Ledger(url, study)) as ledger:
        logs = [tmp_path / name for name in ("killed", "second", "late")]
        victim = start(url, "three", logs[0], "hang")
        wait_for(lambda: begun(logs[0]))
        second = start(url, "three", logs[1])
        wait_for(lambda: begun(logs[1]))
        victim.kill()
        late = start(url, "three", logs[2])
        assert second.wait(DEADLINE) == late.wait(DEADLINE) == 0
        assert figures(ledger) == alone
        states = [(str(key), state.name) for key, state in ledger.states()]
    # The one that was killed had begun one; all others were begun once.
    (twice,) = begun(logs[0])
    # Both that are left may have added it anew: the later one is failed, too.
    failed = [key for key, name in states if name == "FAIL"]
    assert failed in ([twice], [twice, twice])
    assert [name for _, name in states].count("COMPLETE") == 20
    assert len(states) == 20 + len(failed)
    runs = begun(*logs)
    assert len(runs) == 21 and runs.count(twice) == 2
    assert len(set(runs)) == 20


@pytest.mark.slow
def test_four_at_once_share_many_short_runs(postgresql, tmp_path, start):
    """Which claims again and again what others claim as well."""
    url = storage.parse(postgresql)
    study = plan("four") | {"trials": 12, "seeds": 12}
    with contextlib.closing(Ledger(url, study)) as ledger:
        logs = [tmp_path / f"{number}" for number in range(4)]
        for process in [start(url, "four", log) for log in logs]:
            assert process.wait(DEADLINE) == 0
        assert ledger.is_finished()
    assert len(begun(*logs)) == len(set(begun(*logs))) == 72


def test_workers_are_stopped_with_the_one_who_started_them(tmp_path):
    """They give back what they have, and the password is in no command."""
    url = storage.file(tmp_path / "study.db")
    Ledger(url, plan("study")).close()
    with workers.started(url, "study", 2) as processes:
        for process in processes:
            command = Path(f"/proc/{process.pid}/cmdline")
            if command.exists():
                assert b"study.db" not in command.read_bytes()
    assert all(process.exitcode for process in processes)


def test_a_worker_that_fails_is_noticed(tmp_path, capfd):
    url = storage.file(tmp_path / "study.db")
    Ledger(url, plan("study")).close()
    with workers.started(url, "another", 1) as processes:
        for _ in workers.watch(processes, 0.05):
            pass
        assert processes[0].exitcode == 2
    said = capfd.readouterr().err
    assert "a worker stops: " in said and "has no study 'another'" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    "cores, runs, more, expected",
    [
        (2, 104, {}, 2),
        (1, 104, {}, 1),
        (64, 104, {}, 8),
        (4, 11, {}, 2),
        (4, 0, {}, 1),
        (4, 104, {"pruner": "median"}, 1),
        (4, 104, {"pruner": None}, 4),
        (4, 104, {"workload": {"experiment": "largebatch/x"}}, 1),
    ],
)
def test_there_is_a_worker_a_core(cores, runs, more, expected, monkeypatch):
    monkeypatch.setattr(parallel, "cores", lambda: cores)
    assert workers.usual(plan("x", **more), runs) == expected
