"""What the program does before and around any command."""

import subprocess
import sys
import types

import pytest
from absl import flags

from tf_largebatch.cli import main as program
from tf_largebatch.cli.main import main
from tf_largebatch.errors import DivergenceError, DoesNotFitError, RunError


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_the_commands_and_an_example(arguments, capsys):
    assert main(arguments) == 0
    text = capsys.readouterr().out
    for command, what in program.COMMANDS.items():
        assert f"  {command} " in text and what in text
    assert "example:\n  tf-largebatch compare" in text


@pytest.mark.parametrize("command", program.COMMANDS)
def test_a_commands_help_has_an_example_and_every_flag(command, capsys):
    assert main([command, "--trials=0", "--help"]) == 0
    text = capsys.readouterr().out
    assert f"example:\n  tf-largebatch {command}" in text
    module = program.importlib.import_module(f"tf_largebatch.cli.{command}")
    assert list(module.FLAGS)
    for flag in module.FLAGS:
        assert f"\n  --{flag} " in text
    assert max(map(len, text.splitlines())) <= 80


def test_help_waits_for_no_large_package():
    code = """
import sys
from tf_largebatch.cli.main import main
main(["--help"])
main(["compare", "--help"])
assert not {"tensorflow", "keras", "scipy", "numpy", "yaml"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "tf-largebatch 0.1.0\n"


MISTAKES = [
    (["compar"], "no command 'compar'; did you mean compare?"),
    (["shoe"], "no command 'shoe'; choose one of bench, compare"),
    (["compare", "--trails=3"], "'trails'. Did you mean: trials"),
    (["compare", "--trials=many"], "--trials=many"),
    (["compare", "--out"], "Missing value for flag --out"),
    (["compare", "table4"], "'table4' is no flag"),
    (["compare", "--trials=0"], "--trials is 0; give at least 1"),
    (["compare", "--seeds=-1"], "--seeds is -1; give at least 1"),
    (["compare", "--seed=-1"], "--seed is -1"),
    (["compare", "--steps=3"], "--steps is 3; give at least 12"),
    (["compare", "--table=table9"], "choose one of bert, table2, table4"),
    (["compare", "--workload=cifar"], "choose one of digits_resnet"),
    (["compare", "--rows=lamp"], "lamb_adam_1e-6, lamb_ratio_1, heavy_ball"),
    (["compare", "--seed=42949"], "--seed is 42949; give at most 42948"),
    (["compare", "--trials=100001"], "--trials is 100001; give at most"),
    (["compare", f"--flagfile={sys.executable}"], "can't decode byte"),
    (["compare", "--table=a\nb\x1b"], r"'a\nb\x1b'"),
]


@pytest.mark.parametrize("arguments, words", MISTAKES)
def test_a_mistake_ends_in_one_line_and_status_2(
    arguments, words, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("tf-largebatch: error: ")
    assert captured.err.count("\n") == 1
    assert words in captured.err
    assert not list(tmp_path.iterdir())


def command_that_raises(error):
    def fail():
        raise error

    return types.SimpleNamespace(
        FLAGS=flags.FlagValues(), EXTRA="study", main=fail
    )


@pytest.mark.parametrize(
    "error, status, words",
    [
        (RunError("the disk is gone"), 1, "error: the disk is gone\n"),
        (DoesNotFitError("too large"), 3, "error: too large\n"),
        (DivergenceError("too steep"), 4, "error: too steep\n"),
        (KeyboardInterrupt(), 130, ""),
        (
            ModuleNotFoundError("No module", name="scipy"),
            2,
            "(scipy); pip install 'tf-largebatch[study]'\n",
        ),
    ],
)
def test_how_a_command_may_end(error, status, words, capsys, monkeypatch):
    command = command_that_raises(error)
    monkeypatch.setattr(program.importlib, "import_module", lambda _: command)
    assert main(["compare"]) == status
    assert capsys.readouterr().err.endswith(words)
