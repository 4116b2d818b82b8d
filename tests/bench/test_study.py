"""The study's benchmark, run for real at its smallest size."""

import functools
import json
import math
import os
import queue
import threading

import pytest

from tf_largebatch.bench import study
from tf_largebatch.cli.main import main

OURS = "fit, tf_largebatch.keras.Nesterov"


def work_here(steps, trials, count):
    """Does in this process, and with its program, what others would."""
    done = queue.Queue()
    study.work(steps, trials, threading.Barrier(count), done)
    return [done.get()]


@pytest.mark.parametrize(
    "together",
    [
        pytest.param(study.work_together, marks=pytest.mark.slow),
        work_here,
    ],
)
def test_it_prints_and_writes_the_figures(
    together, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(study, "Bench", functools.cache(study.Bench))
    monkeypatch.setattr(study, "work_together", together)
    path = tmp_path / "figures.json"
    fits = {OURS: study.FITS[OURS]}
    monkeypatch.setattr(study, "FITS", fits)
    arguments = "bench study --steps=12 --repeats=1 --workers=1".split()
    assert main([*arguments, f"--json={path}"]) == 0
    figures = json.loads(path.read_text())
    assert list(figures["ways"]) == [
        "study",
        f"{OURS}: whole trial",
        f"{OURS}: fit again",
        "study, 1 process of one thread",
    ]
    for way in figures["ways"].values():
        seconds, cpu = way["seconds"], way["cpu_seconds"]["median"]
        assert 0 < seconds["q1"] <= seconds["median"] <= seconds["q3"]
        assert way["trials_per_minute"] > 0 and cpu > 0
        assert 0 < way["cores_busy"] <= figures["cores"] + 1
    assert figures["set_up_seconds"] > 0
    # Both do the same, but for rounding, which grows from step to step.
    (ours,), (fitted,) = figures["test_accuracies"].values()
    assert ours == pytest.approx(fitted, abs=0.02)
    said = capsys.readouterr().out
    assert said == study.table(figures) + "\n"


def test_a_way_has_medians_quartiles_and_the_cores_it_kept_busy():
    timings = [(2.0, 1.0), (1.0, 1.0), (3.0, 4.0), (4.0, 4.0), (10.0, 20.0)]
    found = study.describe(timings)
    assert found["seconds"] == {"q1": 2.0, "median": 3.0, "q3": 4.0}
    assert found["cpu_seconds"] == {"q1": 1.0, "median": 4.0, "q3": 4.0}
    assert found["trials_per_minute"] == 20.0
    assert math.isclose(found["cores_busy"], 30 / 20)


def test_processes_are_counted_by_what_they_do_together():
    """Two that overlap: four trials from second 10 to second 18."""
    found = study.describe_together(
        [
            (10.0, 16.0, [(3.0, 2.0), (3.0, 2.0)]),
            (12.0, 18.0, [(3.0, 2.0), (3.0, 2.0)]),
        ]
    )
    assert found["trials_per_minute"] == 60 * 4 / 8
    assert found["cores_busy"] == 8 / 8
    assert found["seconds"]["median"] == 3.0


def test_the_table_has_ratios_to_the_studys_program():
    def way(seconds):
        return study.describe([(seconds, seconds)])

    figures = {
        "workload": "digits_resnet",
        "steps": 72,
        "batch": 512,
        "repeats": 10,
        "device": "a machine",
        "set_up_seconds": 6.0,
        "ways": {"study": way(2.0), "fit": way(20.0)},
    }
    lines = study.table(figures).splitlines()
    assert lines[3].endswith("30.0  1.0 times as fast")
    assert lines[4].endswith(" 3.0  10.0 times as fast")
    assert "6.0 seconds" in lines[-1]


@pytest.mark.parametrize("before", [None, "4"])
def test_processes_get_a_thread_each_and_this_one_keeps_its_own(
    before, monkeypatch
):
    for name in study.ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
        if before:
            monkeypatch.setenv(name, before)
    with study.single_threaded():
        for name, value in study.ENVIRONMENT.items():
            assert os.environ[name] == value
    assert {os.environ.get(name) for name in study.ENVIRONMENT} == {before}
