"""Chains: what runs, from where, what is skipped, and what is refused."""

import json
import re
import shutil
import types

import pytest
import tensorflow as tf

from tf_largebatch.errors import UserError
from tf_largebatch.garden import chain, recipes, run_folder, settings, train

CHAIN = "bert_tiny/adam_32k"
STEPS = {"phase1": 703, "phase2": 78, "squad": 100}
PARTS = list(STEPS)


def collect(overrides="", recipe=CHAIN):
    """The settings of a chain's parts, by part."""
    return {
        recipes.part_of(name): settings.collect(name, params_override=overrides)
        for name in recipes.parts(recipe)
    }


class Runner:
    """Stands in for `train.run`: saves at once, or stops on the way.

    Attributes:
        runs: of each call the part, the mode, and what it begins from.
        strategies: how the runs were to be distributed.
        projects: to which the figures were to go.
        stop: the step at which a part is stopped, by part.
        evaluate: whether a run lives to see its evaluation.
    """

    def __init__(self):
        self.runs = []
        self.strategies = []
        self.projects = []
        self.stop = {}
        self.evaluate = True

    def __call__(self, config, mode, folder, strategy, wandb_project):
        self.strategies.append(strategy)
        self.projects.append(wandb_project)
        part = folder.rpartition("/")[2]
        begins = config.task.init_checkpoint.rpartition("/")[2]
        self.runs.append((part, mode, begins))
        if mode != "eval":
            run_folder.claim(folder, config)
            step = self.stop.get(part, config.trainer.train_steps)
            save(folder, step)
            if step < config.trainer.train_steps or not self.evaluate:
                raise KeyboardInterrupt
        evaluated = {"loss": float(PARTS.index(part))} if "eval" in mode else {}
        return {"step": STEPS[part], **evaluated}

    def parts(self):
        """Which parts were run since the last call of this."""
        parts = [part for part, *_ in self.runs]
        self.runs.clear()
        return parts


def save(folder, step):
    """Writes a checkpoint of that step, with nothing else in it."""
    path = f"{folder}/ckpt-{step}"
    tf.train.Checkpoint(step=tf.Variable(step)).write(path)
    tf.compat.v1.train.update_checkpoint_state(folder, path)


@pytest.fixture
def runner(monkeypatch):
    """Stands in for training; data is there, whichever."""
    runner = Runner()
    monkeypatch.setattr(train, "run", runner)
    monkeypatch.setattr(train, "find_data", lambda task, mode: None)
    return runner


FIGURES = {
    part: {"step": steps, "loss": float(number)}
    for number, (part, steps) in enumerate(STEPS.items())
}


def test_each_part_sends_its_figures_where_it_is_told_to(runner, tmp_path):
    chain.run(collect(), "train_and_eval", str(tmp_path), "mine")
    assert runner.projects == ["mine"] * len(PARTS)


def test_each_part_begins_from_the_one_before(runner, tmp_path):
    folder = str(tmp_path / "run")
    assert chain.run(collect(), "train_and_eval", folder) == FIGURES
    assert runner.runs == [
        ("phase1", "train_and_eval", ""),
        ("phase2", "train_and_eval", "phase1"),
        ("squad", "train_and_eval", "phase2"),
    ]
    for part in PARTS:
        begins = run_folder.read_parameters(f"{folder}/{part}")["task"]
        before = chain.before(part)
        assert begins["init_checkpoint"] == (
            f"{folder}/{before}" if before else ""
        )


def test_what_is_done_is_not_done_again(runner, tmp_path, capsys):
    first = chain.run(collect(), "train_and_eval", str(tmp_path))
    assert runner.parts() == PARTS
    again = chain.run(collect(), "train_and_eval", f"{tmp_path}/")
    assert again == first and runner.parts() == []
    assert "squad: done, in " in capsys.readouterr().err


@pytest.mark.parametrize("part", PARTS)
def test_a_stopped_chain_goes_on_where_it_was(part, runner, tmp_path):
    runner.stop = {part: 50}
    with pytest.raises(KeyboardInterrupt):
        chain.run(collect(), "train_and_eval", str(tmp_path))
    number = PARTS.index(part)
    assert runner.parts() == PARTS[: number + 1]
    runner.stop = {}
    figures = chain.run(collect(), "train_and_eval", str(tmp_path))
    assert runner.parts() == PARTS[number:] and figures == FIGURES


def test_a_part_that_was_stopped_while_it_was_evaluated(runner, tmp_path):
    runner.evaluate = False
    with pytest.raises(KeyboardInterrupt):
        chain.run(collect(), "train_and_eval", str(tmp_path))
    runner.evaluate = True
    assert runner.parts() == ["phase1"]
    assert chain.run(collect(), "train_and_eval", str(tmp_path)) == FIGURES
    assert runner.parts() == PARTS


@pytest.mark.parametrize("content", ["", "[", "7", '{"step": 50}'])
def test_broken_figures_are_found_anew(content, runner, tmp_path):
    chain.run(collect(), "train_and_eval", str(tmp_path))
    (tmp_path / "phase2" / "figures.json").write_text(content)
    runner.parts()
    assert chain.run(collect(), "train_and_eval", str(tmp_path)) == FIGURES
    assert runner.parts() == ["phase2"]
    written = (tmp_path / "phase2" / "figures.json").read_text()
    assert json.loads(written) == FIGURES["phase2"]


def test_a_longer_run_goes_on_from_its_end(runner, tmp_path):
    chain.run(collect(), "train_and_eval", str(tmp_path))
    runner.parts()
    longer = collect("squad.trainer.train_steps=101")
    chain.run(longer, "train_and_eval", str(tmp_path))
    assert runner.parts() == ["squad"]


def test_training_alone_needs_no_figures(runner, tmp_path):
    figures = chain.run(collect(), "train", str(tmp_path))
    assert figures == {part: {"step": step} for part, step in STEPS.items()}
    assert chain.run(collect(), "train", str(tmp_path)) == figures
    assert runner.parts() == PARTS
    assert chain.run(collect(), "train_and_eval", str(tmp_path)) == FIGURES
    assert runner.parts() == PARTS


def test_evaluating_evaluates_what_is_done(runner, tmp_path):
    chain.run(collect(), "train_and_eval", str(tmp_path))
    runner.parts()
    assert chain.run(collect(), "eval", str(tmp_path)) == FIGURES
    assert runner.parts() == PARTS
    shutil.rmtree(tmp_path / "phase2")
    with pytest.raises(UserError, match="no checkpoint of phase2, in"):
        chain.run(collect(), "eval", str(tmp_path))
    assert runner.parts() == []


def test_a_folder_may_be_moved(runner, tmp_path):
    runner.stop = {"phase2": 50}
    with pytest.raises(KeyboardInterrupt):
        chain.run(collect(), "train_and_eval", str(tmp_path / "old"))
    (tmp_path / "old").rename(tmp_path / "new")
    for path in (tmp_path / "new").glob("*/checkpoint"):
        path.write_text(path.read_text().replace("/old/", "/new/"))
    runner.stop = {}
    runner.parts()
    chain.run(collect(), "train_and_eval", str(tmp_path / "new"))
    assert runner.parts() == ["phase2", "squad"]


def test_another_recipes_part_is_found_before_any_is_trained(runner, tmp_path):
    chain.run(collect(), "train_and_eval", str(tmp_path))
    shutil.rmtree(tmp_path / "phase1")
    runner.parts()
    other = collect(recipe="bert_tiny/original")
    words = f"{tmp_path}/phase2 holds a run of another recipe"
    with pytest.raises(UserError, match=words):
        chain.run(other, "train_and_eval", str(tmp_path))
    assert runner.parts() == []


def test_missing_data_is_found_before_anything_is_trained(
    runner, tmp_path, monkeypatch
):
    def find(task, mode):
        if hasattr(task.task_config, "n_best_size"):
            raise UserError(f"no questions to {mode}")

    monkeypatch.setattr(train, "find_data", find)
    with pytest.raises(UserError, match="no questions to train"):
        chain.run(collect(), "train", str(tmp_path))
    assert runner.parts() == [] and not list(tmp_path.iterdir())


def replicas(count, first=True):
    """Stands in for a strategy of so many replicas, on the first worker."""
    return types.SimpleNamespace(
        num_replicas_in_sync=count,
        extended=types.SimpleNamespace(should_checkpoint=first),
    )


@pytest.mark.parametrize("first", [True, False])
def test_the_first_worker_alone_writes_the_figures(
    first, runner, tmp_path, monkeypatch
):
    strategy = replicas(2, first)
    monkeypatch.setattr(train, "make_strategy", lambda runtime: strategy)
    assert chain.run(collect(), "train_and_eval", str(tmp_path)) == FIGURES
    assert len([*tmp_path.glob("*/figures.json")]) == len(PARTS) * first


@pytest.mark.parametrize(
    "cluster, words",
    [
        ('{"cluster": {"worker": ["a:1", "b:1"]}}', "names 2 workers, of"),
        ("{", "TF_CONFIG is not as it must be"),
    ],
)
def test_several_workers_do_not_make_the_same_data(
    cluster, words, tmp_path, monkeypatch
):
    monkeypatch.setenv("TF_CONFIG", cluster)
    data = str(tmp_path / "data")
    with pytest.raises(UserError, match=words):
        chain.make_data(collect(), "demo", None, None, data)
    assert not list(tmp_path.iterdir())


def test_a_batch_that_cannot_be_shared_is_found_before_any_is_trained(
    runner, tmp_path, monkeypatch
):
    monkeypatch.setattr(train, "make_strategy", lambda runtime: replicas(32))
    large = collect(recipe="bert_large/adam_32k")
    words = (
        "squad: global_batch_size is 24, in task.train_data, but there are 32 "
        "replicas; give a multiple of that"
    )
    with pytest.raises(UserError, match=words):
        chain.run(large, "train_and_eval", str(tmp_path))
    assert runner.parts() == [] and not list(tmp_path.iterdir())
    # All parts of it can be trained on a v3-8.
    monkeypatch.setattr(train, "make_strategy", lambda runtime: replicas(8))
    chain.run(large, "train", str(tmp_path))
    assert runner.parts() == PARTS


@pytest.mark.parametrize(
    "override, words",
    [
        ("phase2.task.train_data.streams=7", "phase2: streams is 7"),
        (
            "phase2.task.group_size=4,phase2.task.group_clip_norm=1.0,"
            "phase2.trainer.micro_batch_size=8",
            "phase2: micro_batch_size is 8, in trainer, but group_size is 4",
        ),
        ("phase2.trainer.steps_per_loop=0", "phase2: steps_per_loop is 0"),
    ],
)
def test_other_settings_of_a_later_part_are_looked_at_first(
    override, words, runner, tmp_path
):
    with pytest.raises(UserError, match=words):
        chain.run(collect(override), "train", str(tmp_path))
    assert runner.parts() == []


def test_a_part_that_is_done_was_shared_elsewhere(
    runner, tmp_path, monkeypatch
):
    """As phase 1 on a slice, before SQuAD on three devices."""
    chain.run(collect(), "train", str(tmp_path))
    shutil.rmtree(tmp_path / "squad")
    runner.parts()
    monkeypatch.setattr(train, "make_strategy", lambda runtime: replicas(3))
    three = collect("squad.task.train_data.global_batch_size=24")
    chain.run(three, "train", str(tmp_path))
    assert runner.parts() == ["squad"]


def test_parts_share_a_strategy_unless_they_differ(
    runner, tmp_path, monkeypatch
):
    made = []

    def make(runtime):
        made.append(runtime.distribution_strategy)
        return replicas(1)

    monkeypatch.setattr(train, "make_strategy", make)
    other = collect(
        "squad.runtime.distribution_strategy=mirrored,"
        "phase2.runtime.mixed_precision_dtype=float32"
    )
    chain.run(other, "train", str(tmp_path))
    assert made == ["one_device", "mirrored"]
    first, second, third = runner.strategies
    assert first is second and second is not third


def test_where_a_chain_begins_can_be_said(runner, tmp_path):
    start = f"phase1.task.init_checkpoint={tmp_path}/elsewhere"
    words = f"phase1: there is no checkpoint {tmp_path}/elsewhere"
    with pytest.raises(UserError, match=words):
        chain.run(collect(start), "train", str(tmp_path))
    (tmp_path / "elsewhere.index").touch()
    chain.run(collect(start), "train", str(tmp_path))
    begins = [start for _, _, start in runner.runs]
    assert begins == ["elsewhere", "phase1", "phase2"]
    words = "task.init_checkpoint is elsewhere, but phase2 begins from phase1"
    with pytest.raises(UserError, match=words):
        chain.run(
            collect("task.init_checkpoint=elsewhere"), "train", str(tmp_path)
        )


@pytest.mark.parametrize("mode", ["continuous_eval", "evaluate"])
def test_a_mode_that_is_for_one_run(mode, runner, tmp_path):
    with pytest.raises(UserError, match=f"mode is '{mode}', in --mode; for"):
        chain.run(collect(), mode, str(tmp_path))


def test_overrides_are_for_all_parts_or_for_one():
    configs = collect(
        "task.seed=7, phase2.task.seed=8, trainer.train_steps=5,"
        "squad.task.n_best_size=3"
    )
    seeds = [config.task.seed for config in configs.values()]
    assert seeds == [7, 8, 7]
    assert {x.trainer.train_steps for x in configs.values()} == {5}
    assert configs["squad"].task.n_best_size == 3


@pytest.mark.parametrize(
    "overrides, words",
    [
        ("task.n_best_size=3", "unknown key 'task.n_best_size'"),
        ("phase1.task.sed=3", "unknown key 'task.sed', in --params_override"),
        ("phase1=3", "phase1 in --params_override must hold keys; it is 3"),
    ],
)
def test_an_override_that_a_part_does_not_know(overrides, words):
    with pytest.raises(UserError, match=re.escape(words)):
        collect(overrides)


def test_a_recipe_of_no_chain_knows_no_parts():
    with pytest.raises(UserError, match="unknown key 'phase1'"):
        settings.collect(
            "resnet50/lars_32k", params_override="phase1.task.seed=3"
        )


def test_a_folder_of_data_comes_before_the_other_overrides():
    found = {
        name: settings.collect(
            f"{CHAIN}/{name}",
            data_dir="gs://data",
            params_override="task.validation_data.input_path=mine",
        ).task
        for name in PARTS
    }
    for name, task in found.items():
        assert task.train_data.input_path == f"gs://data/{name}/train-*"
        assert task.validation_data.input_path == "mine"
    assert found["squad"].validation_data.vocab_file == "gs://data/vocab.txt"
    paths = {
        name: settings.data_in("data", name)["task"]["validation_data"]
        for name in PARTS
    }
    assert paths["phase2"] == {"input_path": "data/phase2/validation-*"}
    assert paths["squad"]["input_path"] == "data/squad/dev.json"
    with pytest.raises(UserError, match="--data_dir is for BERT's recipes"):
        settings.collect("resnet50/lars_32k", data_dir="data")


def alone(part, folder, mode="train", overrides=""):
    """The settings of one part that is trained by itself."""
    config = settings.collect(f"{CHAIN}/{part}", params_override=overrides)
    return chain.alone(config, f"{CHAIN}/{part}", mode, str(folder))


def test_a_part_alone_begins_from_the_folder_beside_it(tmp_path):
    (tmp_path / "phase1").mkdir()
    save(str(tmp_path / "phase1"), 7)
    config = alone("phase2", tmp_path / "phase2")
    assert config.task.init_checkpoint == f"{tmp_path}/phase1"
    assert alone("phase1", tmp_path / "phase1").task.init_checkpoint == ""


@pytest.mark.parametrize("part", ["phase2", "squad"])
def test_a_part_alone_without_the_one_before(part, tmp_path):
    words = (
        f"{CHAIN}/{part} begins from a checkpoint of {chain.before(part)}, "
        f"and there is none in {tmp_path}/{chain.before(part)}; train that "
        "first, or give its folder with "
        "--params_override=task.init_checkpoint=FOLDER"
    )
    with pytest.raises(UserError, match=re.escape(words)):
        alone(part, tmp_path / part)
    assert not list(tmp_path.iterdir())
    given = alone(part, tmp_path, overrides="task.init_checkpoint=x")
    assert given.task.init_checkpoint == "x"
    assert alone(part, tmp_path, mode="eval").task.init_checkpoint == ""


def test_a_part_that_has_begun_needs_the_one_before_no_more(runner, tmp_path):
    chain.run(collect(), "train", str(tmp_path))
    shutil.rmtree(tmp_path / "phase1")
    config = alone("phase2", tmp_path / "phase2")
    assert config.task.init_checkpoint == f"{tmp_path}/phase1"
