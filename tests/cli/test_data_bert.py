"""`tf-largebatch data bert`: makes data from text, and looks through it."""

import concurrent.futures
import json
import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest

from tf_largebatch import parallel
from tf_largebatch.bert import demo, text
from tf_largebatch.cli.main import main

SENTENCES = "\n\n".join(
    f"The first of {n} sentences.\nThe second one.\nA third of {n}."
    for n in range(40)
)
FLAGS = (
    "--vocab_size=60 --max_seq_length=16,24 --max_predictions_per_seq=2,3 "
    "--dupe_factor=2 --validation_fraction=0.1 --seed=7 --processes=1"
).split()


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Data of a small text, made by the command, in this process."""
    folder = tmp_path_factory.mktemp("bert")
    (folder / "text.txt").write_text(SENTENCES)
    arguments = [f"--input={folder}/text.txt", f"--out={folder}/data", *FLAGS]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "start", concurrent.futures.ThreadPoolExecutor)
        assert main(["data", "bert", *arguments]) == 0
    return folder / "data"


def test_flags_are_settings(made):
    settings = json.loads((made / "data.json").read_text())["settings"]
    assert settings["max_seq_length"] == [16, 24]
    assert settings["max_predictions_per_seq"] == [2, 3]
    assert settings["vocab_size"] == 60
    assert settings["dupe_factor"] == 2
    assert settings["validation_fraction"] == 0.1
    assert settings["seed"] == 7
    assert settings["do_lower_case"] is True
    assert settings["masked_lm_prob"] == 0.15


def test_it_is_looked_through(made, capsys):
    counts = json.loads((made / "data.json").read_text())["records"]
    (made / "phase2" / "validation-00000-of-00001").rename(
        made / "phase2" / "validation-00000-of-00002"
    )
    assert main(["data", "bert", f"--check={made}", "--processes=1"]) == 0
    printed = capsys.readouterr().out
    assert f"60 tokens, in {made}/vocab.txt\n" in printed
    for name, count in counts.items():
        length = {"1": 16, "2": 24}[name[5]]
        assert re.search(
            f"\n{made}/{name}\n(  missing: .*\n)?  {count} examples in 1 files"
            rf", all read\n  {length} tokens, of which \d+\.\d are text\n"
            r"  1\d\.\d% of the text to be predicted, . tokens at most: "
            r"\d\d\.\d% masked, [\d.]+% kept, [\d.]+% others\n"
            r"  \d\d\.\d% of the second sentences from elsewhere\n"
            r"  \[CLS\] .*\) .* \[SEP\]",
            printed,
        )
    assert f"missing: {made}/phase2/validation-00001-of-00002\n" in printed
    assert printed.count("missing") == 1


def test_the_demo_has_settings_of_its_own(monkeypatch, tmp_path, capsys):
    asked = []

    def build(*given):
        asked.append(given)
        return {"phase1/train": 12345}

    monkeypatch.setattr(text, "build", build)
    command = ["data", "bert", "--input=demo", f"--out={tmp_path}/data"]
    assert main(command) == 0
    assert main([*command, "--max_seq_length=32,64", "--noprocesses"]) == 2
    assert main([*command, "--squad_length=99", "--processes=3"]) == 0
    printed = capsys.readouterr().out
    assert f"12,345 examples in {tmp_path}/data/phase1/train-*\n" in printed
    folder = pathlib.Path(f"{tmp_path}/data")
    assert asked == [
        (folder, text.demo_settings(), None),
        (folder, text.demo_settings(squad_length=99), 3),
    ]
    assert asked[0][1].squad_train == demo.TRAIN


MISTAKES = {
    "nothing to do": ([], "give one of --out=DIR, to make data, and --check"),
    "text alone": (["--input=a.txt"], "give one of --out=DIR"),
    "both": (["--out=a", "--check=b"], "give one of --out=DIR"),
    "no text": (["--out=a"], "give one of --input=FILES and --tfds=NAME"),
    "no vocabulary": (["--out=a", "--input=a"], "give one of --vocab_file"),
    "no file": (
        ["--out=a", "--input=no/*", "--vocab_size=99"],
        "no file matches 'no/*', in --input; give text files",
    ),
    "no number": (
        ["--out=a", "--input=demo", "--max_seq_length=128,x"],
        "--max_seq_length=128,x are no whole numbers; give one a phase",
    ),
    "impossible lengths": (
        ["--out=a", "--input=demo", "--max_predictions_per_seq=64,20"],
        "max_seq_length is 64 and max_predictions_per_seq 64",
    ),
    "no process": (["--out=a", "--processes=0"], "--processes=0"),
    "a flag of imagenet": (
        ["--out=a", "--classes=10"],
        "--classes is of imagenet, not of bert; leave it out",
    ),
    "a folder elsewhere": (
        ["--out=gs://bucket/bert", "--input=demo"],
        "gs:/bucket/bert is not on this machine; give a folder that",
    ),
    "nothing to check": (["--check=a"], "a is no folder with a vocabulary"),
    "no such files": (
        ["--check=a-*", "--vocab_file=b"],
        "cannot read b: ",
    ),
    "no such data set": (
        ["--out=a", "--tfds=wikipedia/1", "--tfds_dir=.", "--vocab_size=99"],
        "TFDS has no prepared 'wikipedia/1'",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_a_mistake_ends_in_one_line_and_status_2(
    case, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    arguments, words = MISTAKES[case]
    assert main(["data", "bert", *arguments]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("tf-largebatch: error: ")
    assert words in error
    assert not list(tmp_path.iterdir())


def test_nothing_is_written_over(made, capsys):
    arguments = [f"--input={made.parent}/text.txt", f"--out={made}", *FLAGS]
    assert main(["data", "bert", *arguments]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert f"{made} is not empty; give a new folder" in error


@pytest.mark.parametrize(
    "number, status",
    [
        pytest.param(signal.SIGINT, 130, marks=pytest.mark.slow),
        (signal.SIGTERM, 143),
    ],
)
def test_a_stop_leaves_nothing_behind(number, status, made, tmp_path):
    """In the midst of the work, as Ctrl-C in a shell: to all processes."""
    command = [sys.executable, "-m", "tf_largebatch.cli.main", "data", "bert"]
    arguments = [
        "--input=demo",
        f"--vocab_file={made}/vocab.txt",
        f"--out={tmp_path}/data",
        "--dupe_factor=9999",
    ]
    process = subprocess.Popen(
        [*command, *arguments, "--processes=2"],
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    seen = b""
    while b"files of examples" not in seen:
        seen += process.stderr.read(1)
    assert list(tmp_path.iterdir())
    os.killpg(process.pid, number)
    # Ends when the last process does that can write to it.
    rest = process.stderr.read()
    assert process.wait() == status
    assert b"Traceback" not in rest
    assert not list(tmp_path.iterdir())
