"""`tf-largebatch study`: create, run, status and report."""

import json
import os
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from optuna.trial import TrialState

from tf_largebatch.cli.main import main
from tf_largebatch.study import storage
from tf_largebatch.study.ledger import Ledger

SIZES = "--table=table2 --trials=2 --seeds=2 --steps=12 --seed=3".split()
NAME = "table2_digits_resnet"
FakeTrainer = runpy.run_path(
    str(Path(__file__).parent.parent / "study" / "fake_worker.py")
)["FakeTrainer"]


def study(action, *flags, status=0):
    """Runs the command; returns nothing, as what matters is captured."""
    assert main(["study", action, *map(str, flags)]) == status


@pytest.fixture
def trains_nothing(monkeypatch):
    """Makes up what runs measure."""
    monkeypatch.setattr(
        "tf_largebatch.study.training.Trainer", FakeTrainer, raising=True
    )


@pytest.fixture
def out(tmp_path):
    """The flag that names the study's folder."""
    return f"--out={tmp_path / 'study'}"


@pytest.fixture
def created(out, tmp_path):
    """The folder of a study that was created and not run."""
    study("create", *SIZES, out)
    return tmp_path / "study"


def content(folder):
    return {x: x.read_bytes() for x in folder.rglob("*") if x.is_file()}


def lines_of(folder):
    """Returns the lines of trials.jsonl, without their times."""
    text = (folder / "trials.jsonl").read_text()
    return [
        json.dumps({**json.loads(line), "seconds": None})
        for line in text.splitlines()
    ]


def summary_of(folder):
    """Returns summary.json, without its times."""
    found = json.loads((folder / "summary.json").read_text())
    return json.dumps({**found, "wall_seconds": None})


def test_a_study_from_creation_to_report(tmp_path, out, trains_nothing, capsys):
    study("create", *SIZES, out)
    assert "12 runs of 12 steps, 0 of them done" in capsys.readouterr().err
    study("status", out)
    before = capsys.readouterr().out
    assert before.startswith(f"{NAME}: 0 of 12 runs\n")
    assert "nesterov_power_2         tuning 0 of 2 done\n" in before
    assert "nesterov_power_1         tuning" not in before
    study("run", out)
    said = capsys.readouterr()
    assert "12/12 runs [" in said.err and " left] " in said.err
    assert "0 of 2\n" in said.out
    study("status", out)
    assert f"{NAME}: 12 of 12 runs\n" in capsys.readouterr().out
    created = tmp_path / "study"
    names = {path.name for path in created.iterdir()}
    assert names == {
        *("study.yaml", "study.db", "trials.jsonl", "summary.json"),
        *("report.html", "plots"),
    }
    written = content(created)
    for name in ("trials.jsonl", "summary.json", "report.html"):
        (created / name).unlink()
    study("report", out)
    assert content(created) == written


def test_a_report_of_what_is_there_so_far(created, out, capsys):
    study("report", out)
    assert (created / "report.html").exists()
    assert lines_of(created) == []
    assert "no run with a fresh seed yet" in capsys.readouterr().out


def test_to_create_it_again_changes_nothing(created, out, capsys):
    before = content(created)
    study("create", *SIZES, out)
    assert content(created) == before
    study("create", *SIZES, out, "--trials=3", status=2)
    error = capsys.readouterr().err.splitlines()[-1]
    assert "holds another study (trials 2, not 3)" in error
    assert content(created) == before


def test_what_may_be_chosen_is_in_the_protocol(tmp_path, out):
    rate = {"scale": "log", "low": 0.5, "high": 2.0}
    spaces = {"optimizers": {"Nesterov": {"learning_rate": rate}}}
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(spaces))
    study(
        "create",
        *(*SIZES, out, "--rows=nesterov_power_1,nesterov_power_2"),
        *("--target=0.5", "--pruner=median", "--heartbeat=7", "--name=mine"),
        f"--space={tmp_path / 'space.yaml'}",
    )
    found = yaml.safe_load((tmp_path / "study" / "study.yaml").read_text())
    rows = found["table"]["rows"]
    names = ["nesterov_power_1", "nesterov_power_2"]
    assert [row["name"] for row in rows] == names
    assert rows[1]["space"] == {"learning_rate": rate}
    assert found["workload"]["target"] == 0.5
    assert (found["pruner"], found["heartbeat"]) == ("median", 7)
    assert found["name"] == "mine"
    study("status", out)


def test_a_study_whose_ledger_is_elsewhere(
    tmp_path, out, trains_nothing, capsys
):
    """Also from a machine that has no folder of it, or another."""
    elsewhere = f"--storage=sqlite:///{tmp_path}/ledger.db"
    study("create", *SIZES, out, elsewhere)
    study("run", elsewhere, f"--name={NAME}")
    assert not (tmp_path / "study" / "trials.jsonl").exists()
    study("run", out, elsewhere)
    study("report", elsewhere, f"--name={NAME}", f"--out={tmp_path / 'second'}")
    assert lines_of(tmp_path / "second") == lines_of(tmp_path / "study")
    assert len(lines_of(tmp_path / "second")) == 12
    study("status", out, status=2)
    error = capsys.readouterr().err.splitlines()[-1]
    assert "has no study.db; give the --storage" in error


def test_a_row_that_was_taken_over_is_told(created, out, capsys):
    ledger = Ledger.open(storage.file(created / "study.db"), NAME)
    claim = ledger.claim()
    queue = ledger.tuning["nesterov_power_2"]
    queue.change(claim.trial, TrialState.FAIL)
    queue.fill()
    ledger.claim()
    ledger.close()
    study("status", out)
    told = "tuning 0 of 2 done, 1 under way, 1 taken over\n"
    assert told in capsys.readouterr().out


URL = "--storage=postgresql://me:hunter2@127.0.0.1:1/db"
MISTAKES = [
    ([], "study needs an action: create, run, status or report"),
    (["creat"], "should be one of <create|run|status|report>"),
    (["create", "--trials=0"], "--trials is 0; give at least 1"),
    (["create", "--seeds=0"], "--seeds is 0; give at least 1"),
    (["create", "--steps=3"], "--steps is 3; give at least 12"),
    (["create", "--rows=lars,lars"], "--rows names 'lars' twice"),
    (["create", "--rows=lasr"], "'lasr', which table4 does not have"),
    (
        ["create", "--table=table2", "--rows=lars_power_2"],
        "'lars_power_2' without 'lars_power_1', which it is tuned as",
    ),
    (["create", "--target=1.5"], "--target is 1.5; accuracy lies between 0"),
    (["create", "--target=-1"], "--target is -1; accuracy lies between 0"),
    (["create", "--target=nan"], "--target is nan"),
    (["create", "--pruner=mean"], "should be one of <none|median>"),
    (["create", "--heartbeat=0"], "--heartbeat=0"),
    (["create", "--name=a/b"], "--name is 'a/b'"),
    (["create", "--name="], "--name is ''"),
    (["create", "--space=space.yaml"], "cannot read space.yaml"),
    (["create", "--storage=here"], "--storage is no database's URL"),
    (["create", "--workers=2"], "--workers is a flag of study run"),
    (["create", URL], "cannot use postgresql://me@127.0.0.1:1/db: "),
    (["run", "--trials=2", "--out=x"], "--trials is a flag of study create"),
    (["run", "--workers=0"], "--workers=0"),
    (["run"], "study run needs --out, or --storage and --name"),
    (["status", URL], "study status needs --out, or --storage and --name"),
    (["status", URL, "--name=x"], "cannot use postgresql://me@127.0.0.1:1/db"),
    (["report", URL, "--name=x"], "study report needs --out"),
    (["run", "--out=x"], "x holds no study; make one"),
    (
        ["run", "--storage=sqlite:///x.db", "--name=x"],
        "there is no x.db; check --storage",
    ),
]


@pytest.mark.parametrize("arguments, words", MISTAKES)
def test_a_mistake_ends_in_one_line_and_status_2(
    arguments, words, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(["study", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("tf-largebatch: error: ")
    assert captured.err.count("\n") == 1
    assert words in captured.err
    assert "hunter2" not in captured.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "spaces, words",
    [
        ({}, "the space of row 'nesterov_power_2' has no free hyperparameter"),
        ({"optimizers": {"Nesterov": {}}}, "no free hyperparameter"),
        ({"optimizers": ["Nesterov"]}, "search spaces' optimizers is ['Nes"),
        (
            {"optimizers": {"Nesterov": {"learning_rte": None}}},
            "learning_rte in the space of row 'nesterov_power_2' must have",
        ),
        (
            {"rows": {"nesterov_power_2": {"momentun": ("linear", 0, 0.9)}}},
            "'momentun', which Nesterov has not; did you mean momentum?",
        ),
        (
            {"rows": {"nesterov_power_2": {"momentum": ("linear", 0, 0.9)}}},
            "lacks learning_rate; add it",
        ),
    ],
)
def test_a_space_that_is_none(spaces, words, tmp_path, capsys, out):
    for row in spaces.get("rows", {}).values():
        for name, (scale, low, high) in row.items():
            row[name] = {"scale": scale, "low": low, "high": high}
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(spaces))
    space = f"--space={tmp_path / 'space.yaml'}"
    study("create", *SIZES, out, space, status=2)
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not (tmp_path / "study").exists()


def started(*arguments):
    """Starts the command in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "tf_largebatch.cli.main", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
    )


@pytest.mark.slow
@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_two_workers_find_what_compare_finds(
    database, compared, tmp_path, request
):
    """For real: the same points, lines and summary but for times."""
    where = [f"--out={tmp_path / 'study'}"]
    if database == "postgresql":
        where.append(f"--storage={request.getfixturevalue('postgresql')}")
    study("create", *SIZES, *where)
    process = started("study", "run", *where, "--workers=2")
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said
    assert "p@ss" not in said and "p%40ss" not in said
    assert lines_of(tmp_path / "study") == lines_of(compared)
    assert summary_of(tmp_path / "study") == summary_of(compared)


@pytest.mark.slow
def test_ctrl_c_stops_all_workers_and_loses_nothing(compared, tmp_path):
    folder = tmp_path / "study"
    study("create", *SIZES, f"--out={folder}")
    process = started("study", "run", f"--out={folder}", "--workers=2")
    ledger = Ledger.open(storage.file(folder / "study.db"), NAME)
    while not ledger.done and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "Traceback" not in said
    assert "the same command goes on from there" in said
    assert 1 <= ledger.done == len(lines_of(folder)) < 12
    states = {state.name for _, state in ledger.states()}
    assert states == {"COMPLETE", "WAITING"}
    ledger.close()
    study("run", f"--out={folder}")
    assert lines_of(folder) == lines_of(compared)
