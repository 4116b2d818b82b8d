"""`tf-largebatch train`, `export` and `evaluate`, run and misused."""

import pathlib
import re
import runpy
import signal
import subprocess
import sys

import pytest
import yaml

from tf_largebatch.cli.main import main

CONFTEST = runpy.run_path(
    str(pathlib.Path(__file__).parents[1] / "garden" / "conftest.py")
)
RECIPE = "--recipe=resnet50/lars_32k"
FIGURES = r"top-1 [\d.]+%, top-5 [\d.]+%, loss [\d.]+, examples 50$"


@pytest.fixture(scope="module")
def overrides(tmp_path_factory):
    """A YAML file that makes any recipe small."""
    folder = CONFTEST["write_pictures"](tmp_path_factory.mktemp("pictures"))
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(CONFTEST["small_settings"](folder)))
    return path


@pytest.fixture(scope="module")
def stopped(overrides, tmp_path_factory):
    """A run that got SIGTERM: its folder, exit status and messages."""
    folder = tmp_path_factory.mktemp("run") / "stopped"
    text = overrides.read_text().replace("train_steps: 4", "train_steps: 9999")
    (overrides.parent / "long.yaml").write_text(text)
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tf_largebatch.cli.main", "train", RECIPE),
            f"--config_file={overrides.parent / 'long.yaml'}",
            f"--model_dir={folder}",
            "--params_override=trainer.checkpoint_interval=5000",
        ],
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith("train | step:      2 "):
            process.send_signal(signal.SIGTERM)
    return folder, process.wait(), lines, process.stdout.read()


def test_sigterm_saves_what_was_trained(stopped):
    folder, status, lines, output = stopped
    assert status == 128 + signal.SIGTERM
    assert output == ""
    found = re.fullmatch(
        r"stopped; saved at step (\d+), and the same command goes on from "
        r"there\n",
        lines[-1],
    )
    saved = {path.name for path in folder.glob("ckpt-*.index")}
    assert saved == {f"ckpt-{found[1]}.index"}
    assert 2 <= int(found[1]) < 9999


def test_it_goes_on_and_what_is_exported_evaluates_alike(
    stopped, overrides, capsys, tmp_path
):
    folder = stopped[0]
    last = int(re.search(r"saved at step (\d+)", stopped[2][-1])[1]) + 1
    small = f"--config_file={overrides}"
    steps = f"--params_override=trainer.train_steps={last}"
    arguments = ["train", RECIPE, small, f"--model_dir={folder}", steps]
    assert main(arguments) == 0
    trained = capsys.readouterr()
    assert re.fullmatch(rf"step {last}, {FIGURES}", trained.out.strip())
    assert f"restored model from {folder}/ckpt-{last - 1}" in trained.err

    assert main([*arguments, "--mode=eval"]) == 0
    assert capsys.readouterr().out == trained.out

    export = ["export", f"--checkpoint={folder}", f"--export_dir={tmp_path}/e"]
    assert main(export) == 0
    assert capsys.readouterr().out.startswith(f"exported {folder}/ckpt-{last}")
    for data in ([], [f"--input={overrides.parent}/validation-*"]):
        assert main(["evaluate", f"--saved_model={tmp_path}/e", *data]) == 0
        out = capsys.readouterr().out
        assert re.fullmatch(FIGURES, out.strip())
        assert trained.out == f"step {last}, {out}"


CHAIN = "--recipe=bert_tiny/adam_32k"
MISTAKES = [
    (["--recipe=resnet50/lars_23k"], "did you mean resnet50/lars_32k?"),
    ([], "give either --recipe=NAME"),
    ([RECIPE, "--experiment=x"], "give either --recipe=NAME"),
    (["--experiment=largebatch/resnet"], "did you mean largebatch/resnet50"),
    ([RECIPE, "--mode=evaluate"], "mode is 'evaluate', in --mode; give one of"),
    ([RECIPE, "--model_dir="], "give --model_dir=FOLDER"),
    (
        [RECIPE, "--params_override=nonsense"],
        "'nonsense', in --params_override",
    ),
    ([RECIPE, "--params_override=none.yaml"], "cannot read none.yaml: No such"),
    (
        [RECIPE, "--params_override=task.train_data.sed=1"],
        "unknown key 'task.train_data.sed', in --params_override; did you mean",
    ),
    (
        [RECIPE, "--params_override=trainer.train_steps=many"],
        "trainer.train_steps in --params_override is 'many'",
    ),
    ([RECIPE, "--config_file=nowhere.yaml"], "cannot read nowhere.yaml"),
    (
        [RECIPE, "--params_override=task.train_data.input_path=a,b"],
        "a value with commas as a list in YAML",
    ),
    (
        [
            CHAIN,
            "--text=demo",
            "--params_override=phase2.trainer.max_to_keep=0",
        ],
        "phase2: max_to_keep is 0, in trainer",
    ),
    ([RECIPE], "neither of input_path and tfds_name"),
    (
        [RECIPE, "--params_override=task.train_data.input_path=/none/*"],
        "no file matches '/none/*'",
    ),
    (
        [RECIPE, "--params_override=runtime.mixed_precision_dtype=float16"],
        "mixed_precision_dtype is float16, in runtime",
    ),
    (
        [RECIPE, "--params_override=runtime.distribution_strategy=two"],
        "there is no 'two' to run on",
    ),
    (
        [RECIPE, "--params_override=runtime.num_gpus=99"],
        "num_gpus is 99, in runtime, but TensorFlow finds",
    ),
    (
        [RECIPE, "--params_override=trainer.steps_per_loop=3"],
        "steps_per_loop is 3 and summary_interval 10",
    ),
    (
        [RECIPE, "--params_override=task.losses.l2_weight_decay=-1e-4"],
        "l2_weight_decay is -0.0001, in task.losses",
    ),
    (["--recipe=bert_tiny"], "such as bert_tiny/adam_32k/phase1"),
    (["--recipe=bert_tiny/adam_33k"], "did you mean bert_tiny/adam_32k/"),
    ([CHAIN, "--experiment=x"], "give either --recipe=NAME"),
    ([CHAIN, "--mode=continuous_eval"], "for several recipes give one of"),
    ([CHAIN, "--mode=eval"], "no checkpoint of phase1, in run/phase1"),
    ([CHAIN], "task.train_data: no file matches"),
    ([CHAIN, "--data_dir=none"], "no file matches 'none/phase1/train-*'"),
    ([f"{CHAIN}/phase2"], "begins from a checkpoint of phase1, and there is"),
    ([f"{CHAIN}/squad"], "none in phase2; train that first, or give"),
    (
        [CHAIN, "--params_override=task.init_checkpoint=none"],
        "phase2 begins from phase1; give it as phase1.task.init_checkpoint",
    ),
    (
        [CHAIN, "--params_override=phase2.task.sed=1"],
        "unknown key 'task.sed', in --params_override; did you mean seed?",
    ),
    ([CHAIN, "--text=demo", "--data_dir=x"], "one of --text and --data_dir"),
    ([CHAIN, "--text=*.txt"], "give --squad_train=FILE and --squad_dev=FILE"),
    ([CHAIN, "--squad_dev=x"], "go with text files, in --text"),
    ([CHAIN, "--text=demo", "--squad_dev=x"], "go with text files, in --te"),
    ([f"{CHAIN}/squad", "--text=demo"], "--text is for a folder of recipes"),
    ([RECIPE, "--text=demo"], "--text is for a folder of recipes"),
    ([RECIPE, "--data_dir=x"], "--data_dir is for BERT's recipes only"),
]


@pytest.mark.parametrize("arguments, words", MISTAKES)
def test_a_mistake_ends_in_one_line_and_status_2(
    arguments, words, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert_one_line(["train", "--model_dir=run", *arguments], words, capsys)
    assert not list(tmp_path.iterdir())


def assert_one_line(arguments, words, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    error = captured.err.splitlines()[-1]
    assert error.startswith("tf-largebatch: error: ")
    assert words in error
    return captured.err


def test_a_chain_prints_the_figures_of_every_part(
    capsys, monkeypatch, tmp_path
):
    def run(configs, mode, folder, wandb_project):
        steps = {part: x.trainer.train_steps for part, x in configs.items()}
        print(mode, folder, wandb_project)
        figures = {part: {"step": step} for part, step in steps.items()}
        figures["squad"] |= {"final_f1": 0.5, "exact_match": 0.25}
        return figures

    monkeypatch.setattr("tf_largebatch.garden.chain.run", run)
    override = "--params_override=phase2.trainer.train_steps=7"
    arguments = ["train", CHAIN, f"--model_dir={tmp_path}/run", override]
    assert main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "phase1: step 703",
        "phase2: step 7",
        "squad: step 100, F1 50.00%, exact match 25.00%",
    ]
    assert f"train_and_eval {tmp_path}/run None" in captured.err


def test_a_micro_batch_that_does_not_divide_says_which_do(
    overrides, capsys, tmp_path
):
    words = "micro_batch_size is 12, in trainer, but must divide the 16"
    arguments = ["train", RECIPE, f"--config_file={overrides}"]
    arguments += [f"--model_dir={tmp_path}/run"]
    arguments += ["--params_override=trainer.micro_batch_size=12"]
    assert assert_one_line(arguments, words, capsys).count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_that_cannot_be_written_to(overrides, capsys, tmp_path):
    (tmp_path / "thesis").write_text("all my work")
    arguments = ["train", RECIPE, f"--config_file={overrides}"]
    for folder in (tmp_path / "thesis", tmp_path / "thesis" / "run"):
        words = f"cannot write to {folder}: "
        error = assert_one_line(
            [*arguments, f"--model_dir={folder}"], words, capsys
        )
        assert error.count("\n") == 1
    assert (tmp_path / "thesis").read_text() == "all my work"


def test_a_checkpoint_of_another_recipe(stopped, overrides, capsys):
    arguments = ["train", "--recipe=resnet50/nesterov_b_32k"]
    arguments += [f"--config_file={overrides}", f"--model_dir={stopped[0]}"]
    words = f"{stopped[0]} holds a run of another recipe"
    assert_one_line(arguments, words, capsys)
    for mode in ("eval", "train"):
        words = "virtual_batch_size is 8 there, not 4)"
        change = "--params_override=task.model.backbone.virtual_batch_size=4"
        assert_one_line(
            ["train", RECIPE, *arguments[2:], change, f"--mode={mode}"],
            words,
            capsys,
        )


def test_nothing_to_evaluate(overrides, capsys, tmp_path):
    arguments = ["train", RECIPE, f"--config_file={overrides}", "--mode=eval"]
    arguments += [f"--model_dir={tmp_path}/run"]
    assert_one_line(arguments, "there is no checkpoint in", capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["export"], "give --checkpoint=...; see export --help"),
        (["export", "--checkpoint=a"], "give --export_dir=..."),
        (["export", "--checkpoint=a", "--export_dir=b"], "no checkpoint a"),
        (["evaluate"], "give --saved_model=FOLDER"),
        (["evaluate", "--saved_model=a"], "there is no SavedModel in a"),
    ],
)
def test_mistakes_in_exporting_and_evaluating(
    arguments, words, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert_one_line(arguments, words, capsys)
    assert not list(tmp_path.iterdir())
