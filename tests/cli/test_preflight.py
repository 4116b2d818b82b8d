"""The command prints a table and says by its status whether all fits."""

import contextlib
import json

import pytest

from tf_largebatch import parallel
from tf_largebatch.cli import preflight as command
from tf_largebatch.cli.main import main
from tf_largebatch.garden import recipes
from tf_largebatch.tpu import compiler, preflight
from tf_largebatch.tpu.preflight import Result

NESTEROV = "resnet50/nesterov_b_32k"
GOOD = Result(
    recipe=NESTEROV,
    slice="v3-512",
    devices=512,
    global_batch=32768,
    steps=2512,
    capacity=2.0**34,
    micro_batch=64,
    micro_batches=1,
    parameters=4,
    slots=4,
    temporaries=3,
    needed=3 * 2**30,
    flops=1.5e12,
    accessed=20e9,
    reduce_time=0.001,
    step_time=0.05,
    optimizer_accessed=0.55e9,
    optimizer_flops=1.0,
    optimizer_floor=500_000_000,
)
BAD = Result(
    recipe="resnet50/lars_32k",
    slice="v3-512",
    devices=512,
    global_batch=32768,
    steps=2512,
    capacity=2.0**34,
    problem="does not fit",
    fits_with=32,
)


@pytest.fixture
def examined(monkeypatch):
    """What was asked for; it is not compiled, and in no other process."""
    asked = []

    @contextlib.contextmanager
    def start(processes, jobs_each):
        assert jobs_each == 1 and processes >= 1
        yield

    def run(pool, what, function, jobs):
        return [function(job) for job in jobs]

    def examine(name, config, where, cache):
        asked.append((name, config, where.name, cache.folder))
        return GOOD if name == NESTEROV else BAD

    monkeypatch.setattr(preflight, "examine", examine)
    monkeypatch.setattr(parallel, "start", start)
    monkeypatch.setattr(parallel, "run", run)
    return asked


def test_what_fits_is_status_0(examined, capsys, tmp_path):
    path = tmp_path / "figures.json"
    arguments = [f"--recipe={NESTEROV}", f"--json={path}"]
    assert main(["preflight", *arguments]) == 0
    title, line, *rest = capsys.readouterr().out.splitlines()
    assert title.split() == " ".join(command.TITLES).split()
    assert line.split() == [
        *(NESTEROV, "1", "x", "64", "3.0", "GiB", "1.50", "20.0", "50.0"),
        *("0.03", "18", "0.55", "(1.10x)", "fits"),
    ]
    assert "libtpu" in rest[-1] and "512 replicas on v3-512" in rest[1]
    content = json.loads(path.read_text())
    assert set(content["versions"]) == {"jax", "libtpu"}
    (figures,) = content["recipes"]
    assert figures["steps_per_second"] == 20
    assert figures["device_hours"] == pytest.approx(2512 * 0.05 / 3600 * 512)


def test_what_does_not_fit_is_status_3(examined, capsys):
    names = f"{NESTEROV},resnet50/lars_32k"
    assert main(["preflight", f"--recipe={names}"]) == 3
    assert (
        "–  does not fit; trainer.micro_batch_size=32 would fit"
        in capsys.readouterr().out
    )


def test_all_are_those_of_the_paper(examined):
    assert main(["preflight", "--all", "--topology=v5e-256"]) == 3
    names = [name for name, *_ in examined]
    assert names == [
        name
        for name in recipes.names()
        if name.startswith(("resnet50/", "bert_large/"))
    ]
    assert {where for _, _, where, _ in examined} == {"v5e-256"}


def test_a_folder_of_recipes_is_its_parts(examined):
    main(["preflight", "--recipe=bert_large/adam_32k", "--nocache"])
    assert [name for name, *_ in examined] == recipes.parts(
        "bert_large/adam_32k"
    )
    assert {folder for *_, folder in examined} == {None}


def test_settings_can_be_overridden(examined, tmp_path):
    path = tmp_path / "more.yaml"
    path.write_text("task: {train_data: {global_batch_size: 4096}}\n")
    main(
        [
            *("preflight", f"--recipe={NESTEROV}", f"--config_file={path}"),
            "--params_override=trainer.micro_batch_size=128",
        ]
    )
    ((_, config, _, _),) = examined
    assert config.task.train_data.global_batch_size == 4096
    assert config.trainer.micro_batch_size == 128


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], "give --recipe=NAME or --all"),
        (["--all", "--recipe=x"], "give --recipe=NAME or --all"),
        (["--recipe=resnet50/larz_32k"], "did you mean"),
        (["--recipe=x", "--topology=v3-513"], "there is no slice 'v3-513'"),
        (
            [f"--recipe={NESTEROV}", "--params_override=task.x=1"],
            "unknown key 'task.x'",
        ),
    ],
)
def test_mistakes_are_one_line(examined, capsys, arguments, words):
    assert main(["preflight", *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()[-1:]
    assert line.startswith("tf-largebatch: error: ") and words in line
    assert not examined


def test_without_the_compiler_it_says_how_to_get_it(monkeypatch, capsys):
    monkeypatch.setattr(compiler, "PACKAGES", ("jax", "no_such_compiler"))
    assert main(["preflight", f"--recipe={NESTEROV}"]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "no_such_compiler" in line
    assert "pip install 'tf-largebatch[garden,preflight]'" in line


def test_a_file_that_cannot_be_written(examined, capsys):
    arguments = [f"--recipe={NESTEROV}", "--json=/nowhere/figures.json"]
    assert main(["preflight", *arguments]) == 2
    assert "cannot write /nowhere/figures.json" in capsys.readouterr().err


def test_what_is_refused_leaves_no_file(examined, tmp_path):
    arguments = [f"--recipe={NESTEROV}", f"--json={tmp_path}/figures.json"]
    assert main(["preflight", *arguments, "--topology=many"]) == 2
    assert not [*tmp_path.iterdir()] and not examined


@pytest.mark.slow
def test_recipes_that_do_not_divide_are_told_apart_for_real(capsys):
    """Each in a process of its own, and nothing has to be compiled."""
    names = ["resnet50/nesterov_b_32k", "resnet50/lars_32k"]
    arguments = [
        *("preflight", f"--recipe={','.join(names)}"),
        "--params_override=task.train_data.global_batch_size=32769",
    ]
    assert main(arguments) == 3
    lines = capsys.readouterr().out.splitlines()[1:3]
    for name, line in zip(names, lines, strict=True):
        assert line.startswith(name) and "32769" in line
