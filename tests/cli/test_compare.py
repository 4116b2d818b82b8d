"""`tf-largebatch compare`, run for real at a small size."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml

from tf_largebatch.cli.main import main
from tf_largebatch.study import protocol

KEYS = {
    *("row", "kind", "seed", "hyperparameters", "validation", "test", "train"),
    *("steps", "seconds", "diverged"),
}


def lines_of(folder):
    text = (folder / "trials.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def without_seconds(lines):
    return [{**line, "seconds": None} for line in lines]


def test_it_writes_what_is_promised(compared):
    names = {path.name for path in compared.iterdir()}
    assert names == {
        *("study.yaml", "study.db", "trials.jsonl", "summary.json"),
        *("report.html", "plots"),
    }
    assert len(list((compared / "plots").glob("*.png"))) >= 8


def test_every_tuned_row_gets_the_same_budget(compared):
    lines = lines_of(compared)
    assert all(set(line) >= KEYS for line in lines)
    runs = [(line["row"], line["kind"]) for line in lines]
    tuned = {"nesterov_power_2", "lars_power_1"}
    rows = tuned | {"nesterov_power_1", "lars_power_2"}
    assert {row: runs.count((row, "tune")) for row in rows} == {
        row: 2 * (row in tuned) for row in rows
    }
    assert all(runs.count((row, "seed")) == 2 for row in rows)
    assert {line["steps"] for line in lines if not line["diverged"]} == {12}


def test_seeds_are_fresh_and_the_same_for_all_rows(compared):
    lines = lines_of(compared)
    tuning = {line["seed"] for line in lines if line["kind"] == "tune"}
    repeats = [
        {line["seed"] for line in lines if line["row"] == row["name"]} - tuning
        for row in json.loads((compared / "summary.json").read_text())["rows"]
    ]
    assert len(tuning) == 1
    assert all(seeds == repeats[0] and len(seeds) == 2 for seeds in repeats)


def test_the_swapped_rows_inherit_and_change_the_power_alone(compared):
    lines = lines_of(compared)

    def numbers(row):
        (line,) = (
            x
            for x in lines
            if (x["row"], x["kind"], x["index"]) == (row, "seed", 0)
        )
        return line["hyperparameters"]

    for one, other in (
        ("nesterov_power_2", "nesterov_power_1"),
        ("lars_power_1", "lars_power_2"),
    ):
        a, b = numbers(one), numbers(other)
        assert {name for name in a if a[name] != b[name]} == {"warmup_power"}


def test_the_summary_follows_from_the_lines(compared):
    lines = lines_of(compared)
    summary = json.loads((compared / "summary.json").read_text())
    assert summary["table"] == "table2"
    assert summary["steps"] == 12 and summary["batch"] == 512
    for row in summary["rows"]:
        tests = [
            line["test"]
            for line in lines
            if (line["row"], line["kind"]) == (row["name"], "seed")
        ]
        assert row["test"]["median"] == np.median(tests)
        assert row["test"]["max"] == max(tests)
        assert row["hits"] == sum(x >= summary["target"] for x in tests)
        tuned = row["tuned_as"] or row["name"]
        best = max(
            (x for x in lines if (x["row"], x["kind"]) == (tuned, "tune")),
            key=lambda x: (x["validation"], -(x["validation_loss"] or np.inf)),
        )
        assert row["best"].items() <= best["hyperparameters"].items()


def test_study_yaml_is_all_that_is_needed_to_run_it_again(compared, small):
    written = yaml.safe_load((compared / "study.yaml").read_text())
    assert written == protocol.create(
        "table2", "digits_resnet", trials=2, seeds=2, steps=12, seed=3
    )
    rows = written["table"]["rows"]
    tuned = sum(row["tuned_as"] is None for row in rows)
    assert len(lines_of(compared)) == 2 * tuned + 2 * len(rows)


def test_the_same_command_again_does_nothing_twice(compared, small, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(compared, folder)
    (folder / "report.html").unlink()
    assert main([*small, f"--out={folder}"]) == 0
    assert lines_of(folder) == lines_of(compared)
    again = (folder / "report.html").read_bytes()
    assert again == (compared / "report.html").read_bytes()


def test_another_study_in_the_folder_is_left_alone(compared, small, capsys):
    before = {p: p.read_bytes() for p in compared.iterdir() if p.is_file()}
    assert main([*small, "--trials=3", f"--out={compared}"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "holds another study (trials 2, not 3)" in error
    assert before == {p: p.read_bytes() for p in before}


def test_a_foreign_folder_and_a_file_are_left_alone(small, capsys, tmp_path):
    (tmp_path / "thesis.txt").write_text("all my work")
    for out in (tmp_path, tmp_path / "thesis.txt"):
        assert main([*small, f"--out={out}"]) == 2
        assert str(out) in capsys.readouterr().err
    assert (tmp_path / "thesis.txt").read_text() == "all my work"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_full_disk_is_one_line(compared, small, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("tf_largebatch.study.report.write", full)
    assert main([*small, f"--out={compared}"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("tf-largebatch: error: cannot write to")
    assert "No space left on device" in error


@pytest.mark.parametrize(
    "number, status",
    [
        pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow),
        (signal.SIGINT, 130),
    ],
)
def test_stopped_and_started_again_it_ends_the_same(
    number, status, compared, small, tmp_path
):
    """With the rows of one optimizer, whose lines are the same."""
    rows = ["nesterov_power_2", "nesterov_power_1"]
    folder = tmp_path / "study"
    arguments = [*small, f"--rows={','.join(rows)}", f"--out={folder}"]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    process = subprocess.Popen(
        [sys.executable, "-m", "tf_largebatch.cli.main", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    wait_for_a_run(folder / "study.db", process)
    process.send_signal(number)
    _, said = process.communicate(timeout=120)
    assert process.returncode == status
    assert "Traceback" not in said
    assert "the same command goes on from there" in said
    done = len(lines_of(folder))
    assert 1 <= done < 6
    # The ledger has them, so nothing depends on this.
    (folder / "trials.jsonl").unlink()

    assert main(arguments) == 0
    assert without_seconds(lines_of(folder)) == without_seconds(
        line for line in lines_of(compared) if line["row"] in rows
    )


@pytest.mark.slow
def test_a_worker_a_core_finds_the_same(compared, small, tmp_path):
    *flags, workers = small
    assert workers == "--workers=1"
    folder = tmp_path / "study"
    assert main([*flags, f"--out={folder}"]) == 0
    assert without_seconds(lines_of(folder)) == without_seconds(
        lines_of(compared)
    )


def wait_for_a_run(path, process):
    """Returns when a run is finished, or the process is."""
    while process.poll() is None:
        if path.exists() and finished(path):
            return
        time.sleep(0.05)


def finished(path):
    """Returns how many runs a ledger has whose tables may not be there yet."""
    count = "SELECT count(*) FROM trials WHERE state = 'COMPLETE'"
    with contextlib.closing(sqlite3.connect(path)) as database:
        try:
            return database.execute(count).fetchone()[0]
        except sqlite3.OperationalError:
            return 0
