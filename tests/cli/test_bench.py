"""`tf-largebatch bench`: its flags, and what it writes."""

import inspect
import json
import sys

import pytest

from tf_largebatch.cli import bench
from tf_largebatch.cli.main import main


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "bench needs what to measure: input, optimizers, study, train"),
        (["speed"], "value should be one of <input|optimizers|study|train>"),
        (["study", "--repeats=0"], "--repeats"),
        (["study", "--steps=11"], "--steps"),
        (["study", "--steps=30"], "--steps is 30; give a multiple of 12"),
        (["study", "--json=no/such/folder/x"], "cannot write no/such/folder/x"),
        (["study", "--plot=no/such/x"], "choose another file with --plot"),
        (["train", "--steps=24"], "--steps is given, but bench train has no"),
        (["study", "--size=small"], "leave it out, or measure optimizers"),
        (["optimizers", "--size=huge"], "--size"),
    ],
)
def test_a_mistake_is_one_line(arguments, words, capsys):
    assert main(["bench", *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("tf-largebatch: error: ")
    assert error.count("\n") == 1 and words in error


def test_a_file_that_could_be_written_is_not_left(tmp_path, capsys):
    """Where the next flag is refused; a file that was there stays."""
    new, old = tmp_path / "new.json", tmp_path / "old.json"
    old.write_text("figures")
    for path in (new, old):
        arguments = [f"--json={path}", "--plot=no/such/x"]
        assert main(["bench", "study", *arguments]) == 2
        assert "choose another file with --plot" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["old.json"]
    assert old.read_text() == "figures"


@pytest.mark.parametrize("name", bench.BENCHMARKS)
def test_every_benchmark_has_all_functions(name):
    module = bench.importlib.import_module(bench.BENCHMARKS[name])
    for function in ("measure", "table", "bars"):
        assert callable(getattr(module, function))
    assert module.AXIS
    options = inspect.signature(module.measure).parameters
    assert {"repeats", *bench.OF_ONE[name]} <= set(options)


class Measured:
    """A benchmark that takes no time."""

    AXIS = "seconds"

    def measure(self, repeats, **options):
        return {"repeats": repeats, **options}

    def table(self, figures):
        return f"{figures['repeats']} repeats"

    def bars(self, figures):
        bar = {"group": "all", "low": 1.0, "high": 3.0}
        return [
            {**bar, "label": "this", "value": 2.0, "ours": True},
            {**bar, "label": "that", "value": 2.5, "ours": False},
        ]


def test_figures_are_printed_written_and_drawn(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "measured", Measured())
    monkeypatch.setitem(bench.BENCHMARKS, "train", "measured")
    figures, plot = tmp_path / "figures.json", tmp_path / "bars.png"
    arguments = ["--repeats=3", f"--json={figures}", f"--plot={plot}"]
    assert main(["bench", "train", *arguments, "--batch=2"]) == 0
    assert capsys.readouterr().out == "3 repeats\n"
    assert json.loads(figures.read_text()) == {"repeats": 3, "batch": 2}
    assert plot.read_bytes().startswith(b"\x89PNG")
