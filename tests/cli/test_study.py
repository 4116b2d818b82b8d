"""`tf-largebatch study`: create, run, status, report and ablate."""

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
from tf_largebatch.study import plots, storage
from tf_largebatch.study.ledger import Ledger

SIZES = "--table=table2 --trials=2 --seeds=2 --steps=12 --seed=3".split()
NAME = "table2_digits_resnet"
FakeTrainer = runpy.run_path(
    str(Path(__file__).parent.parent / "study" / "fake_worker.py")
)["FakeTrainer"]


def study(action, *flags, status=0):
    """Runs the command; returns nothing, as what matters is captured.

    In this process alone, as others know nothing of what a test made up.
    """
    if action in ("run", "ablate"):
        flags = (*flags, "--workers=1")
    assert main(["study", action, *map(str, flags)]) == status


@pytest.fixture
def trains_nothing(monkeypatch):
    """Makes up what runs measure."""
    monkeypatch.setattr(
        "tf_largebatch.study.training.Trainer", FakeTrainer, raising=True
    )


def undrawn(file, alt, figure):
    """Returns a picture that is composed and not drawn, which takes longest."""
    return plots.Picture(file, alt, b"PNG", 10, 10)


@pytest.fixture
def draws_nothing(monkeypatch):
    """Has no picture drawn."""
    monkeypatch.setattr(plots, "picture", undrawn)


without_drawing = pytest.mark.usefixtures("draws_nothing")


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


@without_drawing
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


@without_drawing
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


RECIPES = ["create", "--recipe=bert_tiny/adam_32k/phase1"]
LARS = ["create", "--recipe=resnet50/table4/lars"]
ONE = ["--trials=1", "--seeds=1"]
ABLATE = ["ablate", "--from=nesterov", "--to=lars"]
URL = "--storage=postgresql://me:hunter2@127.0.0.1:1/db"
MISTAKES = [
    ([], "study needs an action: create, run, status, report or ablate"),
    (["creat"], "should be one of <create|run|status|report|ablate>"),
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
    (["create", "--seed=1", "--protocol=x"], "--seed goes without --protocol"),
    (["create", "--protocol=x.yaml"], "cannot read x.yaml: No such file"),
    (["create", "--config_file=x"], "--config_file is for recipes; name them"),
    (["create", "--keep_checkpoints"], "--keep_checkpoints is for recipes"),
    ([*RECIPES, "--steps=9"], "give --params_override=trainer.train_steps=N"),
    ([*RECIPES, "--pruner=median"], "--pruner is not for recipes"),
    ([*RECIPES, "--rows=lars"], "--rows is not for recipes; give it or --rec"),
    (RECIPES, "recipes need --trials; give a number"),
    ([*RECIPES, "--trials=1"], "recipes need --seeds; give a number"),
    ([*RECIPES, *ONE], "no search space ships for bert_tiny/adam_32k/phase1"),
    ([*LARS, *ONE, "--target=75.9"], "--target is 75.9; top-1 accuracy lies"),
    (["create", "--from=a"], "--from is a flag of study ablate, not of study"),
    (["ablate", "--trials=2"], "--trials is a flag of study create, not of"),
    (["run", "--seeds=2"], "--seeds is a flag of study create and ablate, not"),
    (["ablate", "--to=a"], "study ablate needs --from and --to; give two"),
    (["ablate", "--from=a", "--to=b"], "'a' is no recipe; of a row, give the"),
    ([*ABLATE, "--tuned=x"], "x holds no study; check --tuned"),
    ([*ABLATE, "--tuned=x", "--config_file=y"], "--config_file goes without -"),
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


def test_a_study_is_made_again_from_its_protocol(tmp_path, created, capsys):
    again = f"--out={tmp_path / 'again'}"
    study("create", f"--protocol={created / 'study.yaml'}", again)
    protocols = [
        (folder / "study.yaml").read_bytes()
        for folder in (created, tmp_path / "again")
    ]
    assert protocols[0] == protocols[1]
    study("status", again)
    assert f"{NAME}: 0 of 12 runs\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "text, words",
    [
        ("a: 1", "x.yaml has no 'format', which a study has; give"),
        ("format: 2", "x.yaml holds a study of a newer version"),
        ("{format: 1, name: x, workload: {}, table: {}}", "has no 'steps'"),
        ("- 1", "x.yaml holds no mapping"),
        ("{format: [1], PARTS}", "format is [1], in "),
        ("{format: 1, PARTS}", "workload.name is missing, in "),
    ],
)
def test_a_protocol_that_is_none(text, words, tmp_path, out, capsys):
    parts = "name: x, workload: {}, table: {}, steps: 1, trials: 1, seeds: 1"
    text = text.replace("PARTS", f"{parts}, seed: 0")
    (tmp_path / "x.yaml").write_text(text)
    study("create", f"--protocol={tmp_path / 'x.yaml'}", out, status=2)
    error = capsys.readouterr().err
    assert words in error and error.count("\n") == 1
    assert not (tmp_path / "study").exists()


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    """The flag that names a finished study."""
    folder = tmp_path_factory.mktemp("tuned") / "study"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tf_largebatch.study.training.Trainer", FakeTrainer)
        patch.setattr(plots, "picture", undrawn)
        study("create", *SIZES, f"--out={folder}")
        study("run", f"--out={folder}")
    return f"--tuned={folder}"


ENDS = ["--from=nesterov_power_2", "--to=lars_power_1"]


@without_drawing
def test_an_ablation_from_one_row_to_another(
    tuned, tmp_path, trains_nothing, capsys, monkeypatch
):
    """Stopped, and given again."""
    between = tmp_path / "between"
    ends = ["--from=nesterov_power_2", "--to=nesterov_power_1"]
    command = [*ends, tuned, "--seeds=2", f"--out={between}"]
    calls, whole = [], FakeTrainer.run

    def stop(self, row, run, is_hopeless):
        calls.append(run.row)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return whole(self, row, run, is_hopeless)

    with monkeypatch.context() as patch:
        patch.setattr(FakeTrainer, "run", stop)
        study("ablate", *command, status=130)
    assert "3 runs are saved" in capsys.readouterr().err
    study("ablate", *command)
    said = capsys.readouterr()
    assert "3 of them done" in said.err
    found = yaml.safe_load((between / "study.yaml").read_text())
    names = [row["name"] for row in found["table"]["rows"]]
    assert names == ["nesterov_power_2", "nesterov_power_1"]
    assert found["name"] == "ablation_digits_resnet"
    assert len(lines_of(between)) == 4
    assert all(f"\n{name} " in said.out for name in names)
    assert (between / "report.html").exists()
    study("ablate", *command, "--target=0.5", status=2)
    assert (
        "holds another study (workload.target 0.97, not 0.5)"
        in capsys.readouterr().err
    )


def test_what_is_between_two_rows_is_listed(
    tuned, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    study("ablate", *ENDS, tuned, "--list")
    lines = capsys.readouterr().out.splitlines()
    head = ["hyperparameter", "nesterov_power_2", "lars_power_1"]
    assert lines[0].split() == head
    assert lines[1].split() == ["optimizer", "Nesterov", "LARS"]
    assert ["gamma_0", "0.4138", "0"] in [line.split() for line in lines]
    assert not list(tmp_path.iterdir())


def test_recipes_are_created_as_a_study(tmp_path, out, capsys):
    names = "resnet50/table4/lars,resnet50/table4/nesterov"
    study(
        *("create", f"--recipe={names}", *ONE, out, "--keep_checkpoints"),
        *("--params_override=trainer.train_steps=7", "--tuning_seeds=2"),
    )
    assert "6 runs of 7 steps" in capsys.readouterr().err
    found = yaml.safe_load((tmp_path / "study" / "study.yaml").read_text())
    assert [row["name"] for row in found["table"]["rows"]] == names.split(",")
    assert found["workload"]["target"] == 0.759
    assert found["keep_checkpoints"] is True
    study("status", out)
    assert "resnet50/table4/lars     tuning 0 of 2" in capsys.readouterr().out


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


@pytest.mark.slow
def test_two_workers_train_recipes(tmp_path, out, capsys):
    """For real, and nothing but the figures is left of it."""
    examples = runpy.run_path(
        str(Path(__file__).parents[1] / "bert" / "random_examples.py")
    )
    settings = examples["small"](examples["write"](tmp_path))
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(settings))
    rate = {"learning_rate": {"scale": "log", "low": 1e-3, "high": 1e-1}}
    spaces = {"optimizers": {"LAMB": rate}}
    (tmp_path / "space.yaml").write_text(yaml.safe_dump(spaces))
    study(
        *("create", "--recipe=bert_tiny/lamb_32k/phase1", out, "--target=4"),
        *("--trials=2", "--seeds=2", f"--space={tmp_path / 'space.yaml'}"),
        f"--config_file={tmp_path / 'small.yaml'}",
    )
    process = started("study", "run", out, "--workers=2")
    _, said = process.communicate(timeout=600)
    assert process.returncode == 0, said
    assert len(lines_of(tmp_path / "study")) == 4
    assert not (tmp_path / "study" / "runs").exists()
