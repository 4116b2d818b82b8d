"""`tf-largebatch data imagenet`: makes a small set, and checks files."""

import os
import subprocess
import sys

import pytest

from tf_largebatch import shards
from tf_largebatch.cli.main import main


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The small set of pictures, made by the command."""
    folder = tmp_path_factory.mktemp("data") / "pictures"
    assert main(["data", "imagenet", f"--out={folder}"]) == 0
    return folder


def test_it_makes_and_checks_the_small_set(made, capsys):
    for split, records in (("train", 1024), ("validation", 256)):
        arguments = [f"--input={made}/{split}-*", f"--records={records}"]
        assert main(["data", "imagenet", *arguments]) == 0
        printed = capsys.readouterr().out
        files = {"train": 8, "validation": 2}[split]
        assert f"{files} files, all records read, 1 picture in 50" in printed
        each = records // 16
        words = (
            f"{records:,} pictures, 16 labels from 1 to 16, {each} to {each}"
        )
        assert words in printed
        assert "missing" not in printed


def test_a_file_that_is_missing_is_listed(made, capsys):
    pattern = f"{made}/validation-00000-*"
    assert main(["data", "imagenet", f"--input={pattern}"]) == 0
    printed = capsys.readouterr().out
    assert f"missing: {made}/validation-00001-of-00002\n" in printed
    assert "128 pictures" in printed


def test_missing_files_follow_from_the_names():
    names = [
        "a/train-00000-of-00003",
        "a/train-00002-of-00003",
        "b",
        "a/b-of-3",
    ]
    assert shards.missing(names) == ["a/train-00001-of-00003"]


def test_a_broken_record_is_named(made, tmp_path, capsys):
    whole = (made / "validation-00000-of-00002").read_bytes()
    path = tmp_path / "validation-00000-of-00002"
    path.write_bytes(whole[:-100])
    assert main(["data", "imagenet", f"--input={path}"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error == (
        "tf-largebatch: error: the record is corrupt or cut short, in "
        f"{path}, record 127 (the first is 0); replace the file"
    )


def mistakes(made):
    pattern = f"--input={made}/validation-*"
    return {
        "no data set": (["data"], "which data is not said"),
        "another data set": (["data", "mnist"], "one of <imagenet|bert>"),
        "a second data set": (["data", "imagenet", "x"], "'x' is no flag"),
        "nothing to do": (["data", "imagenet"], "give one of --input"),
        "both": (["data", "imagenet", pattern, "--out=x"], "give one of"),
        "no files": (
            ["data", "imagenet", "--input=no/such-*"],
            "no file matches 'no/such-*'",
        ),
        "too few records": (
            ["data", "imagenet", pattern, "--records=50000"],
            "there are 256 records, not 50000",
        ),
        "too few classes": (
            ["data", "imagenet", pattern, "--classes=15"],
            "the label is 16, not one of 1 to 15",
        ),
        "a flag of bert": (
            ["data", "imagenet", pattern, "--nodo_lower_case"],
            "--do_lower_case is of bert, not of imagenet; leave it out",
        ),
        "a folder in use": (
            ["data", "imagenet", f"--out={made}"],
            "is not empty; give a new folder",
        ),
        "a folder elsewhere": (
            ["data", "imagenet", "--out=gs://bucket/pictures"],
            "gs:/bucket/pictures is not on this machine; give a folder that",
        ),
        "0 decoded": (
            ["data", "imagenet", pattern, "--decode_every=0"],
            "--decode_every=0",
        ),
    }


@pytest.mark.parametrize("case", mistakes(""))
def test_a_mistake_ends_in_one_line_and_status_2(
    case, made, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    arguments, words = mistakes(made)[case]
    assert main(arguments) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("tf-largebatch: error: ")
    assert words in error
    assert not list(tmp_path.iterdir())


def test_the_flag_may_be_written_out(capsys):
    assert main(["data", "--dataset=imagenet"]) == 2
    assert "give one of --input" in capsys.readouterr().err


def test_a_missing_package_is_named(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert main(["data", "imagenet", f"--out={tmp_path}/set"]) == 2
    error = capsys.readouterr().err
    assert "pip install 'tf-largebatch[garden]'" in error


@pytest.mark.slow
def test_it_runs_in_a_process_of_its_own(made):
    """Where nothing is imported yet."""
    command = [sys.executable, "-m", "tf_largebatch.cli.main", "data"]
    finished = subprocess.run(
        [*command, "imagenet", "--input", f"{made}/validation-*"],
        capture_output=True,
        text=True,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
    )
    assert finished.returncode == 0, finished.stderr
    assert "256 pictures" in finished.stdout
    assert "2/2" in finished.stderr
