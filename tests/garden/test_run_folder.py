"""What a run's folder says: which experiment, and which settings make it."""

import re
import urllib.error
import uuid

import pytest
import tensorflow as tf
import yaml
from official.modeling.hyperparams import params_dict

from tf_largebatch.bert import network
from tf_largebatch.errors import UserError
from tf_largebatch.garden import export, recipes, run_folder, settings, train

PHASE = "bert_tiny/original/phase1"
SQUAD = "bert_tiny/original/squad"
LARS = "resnet50/lars_32k"


def written(name, folder, **task):
    """Writes the settings of a recipe; returns the path of a checkpoint."""
    config = recipes.experiment_config(name, {"task": task})
    assert config.task.name == recipes.load(name).experiment
    run_folder.write_parameters(str(folder), config)
    return str(folder / "ckpt-1")


@pytest.mark.parametrize("name", [PHASE, SQUAD, LARS])
def test_a_folder_knows_its_experiment(name, tmp_path):
    found = settings.of_run(written(name, tmp_path, seed=3))
    assert found == recipes.experiment_config(name, {"task": {"seed": 3}})
    # The Garden reads it as well.
    params = params_dict.read_yaml_to_params_dict(
        str(tmp_path / "params.yaml")
    ).as_dict()
    assert params == yaml.safe_load((tmp_path / "params.yaml").read_text())


def test_a_folder_that_does_not_say_it_is_resnets(tmp_path):
    """As those of before there were others."""
    checkpoint = written(LARS, tmp_path)
    path = tmp_path / "params.yaml"
    values = yaml.safe_load(path.read_text())
    del values["task"]["name"]
    path.write_text(yaml.safe_dump(values))
    config = settings.of_run(checkpoint)
    assert config == recipes.experiment_config(LARS)
    run_folder.check(str(tmp_path), config, run_folder.OF_THE_RUN)


def test_an_experiment_that_nobody_knows(tmp_path):
    checkpoint = written(PHASE, tmp_path)
    path = tmp_path / "params.yaml"
    path.write_text(path.read_text().replace("bert_pretraining", "bert_pre"))
    words = (
        f"task.name is 'largebatch/bert_pre', in {path}, which is no "
        "experiment; did you mean largebatch/bert_pretraining?"
    )
    with pytest.raises(UserError, match=re.escape(words)):
        settings.of_run(checkpoint)


def test_another_experiments_folder_is_refused(tmp_path):
    """Though the network of both is the same."""
    written(PHASE, tmp_path)
    config = recipes.experiment_config(SQUAD)
    words = "(task.name is largebatch/bert_pretraining there, not largebatch/"
    with pytest.raises(UserError, match=re.escape(words)):
        run_folder.check(str(tmp_path), config, run_folder.OF_THE_MODEL)


@pytest.mark.parametrize("flag", ["config_files", "params_override"])
@pytest.mark.parametrize(
    "text, words",
    [
        (None, "cannot read PATH: "),
        (b"\xff", "cannot read PATH: "),
        ("task: [", "in PATH, line 1; correct the file"),
        ("7", "PATH holds no mapping"),
        ("task: {seed: 3}", None),
    ],
)
def test_settings_may_be_on_any_file_system(flag, text, words):
    """TensorFlow's own in memory stands for a bucket."""
    path = f"ram://{uuid.uuid4().hex}.yaml"
    values = {flag: [path] if flag == "config_files" else path}
    if text is not None:
        with tf.io.gfile.GFile(path, "wb") as file:
            file.write(text)
    if words is None:
        assert settings.collect(LARS, **values).task.seed == 3
        return
    words = re.escape(words.replace("PATH", path))
    with pytest.raises(UserError, match=words):
        settings.collect(LARS, **values)


def test_a_scheme_that_tensorflow_does_not_know():
    with pytest.raises(UserError, match="cannot read s3://b/x.yaml: "):
        settings.collect(LARS, config_files=["s3://b/x.yaml"])


@pytest.mark.parametrize("count", [1, 3, 4, 6])
def test_the_differences_are_listed(count, tmp_path):
    written(PHASE, tmp_path)
    changes = {
        "group_clip_norm": 2.0,
        "group_size": 4,
        "init_checkpoint": "x",
        "seed": 1,
        "train_data.global_batch_size": 8,
        "train_data.seq_length": 32,
    }
    names = list(changes)[:count]
    text = ",".join(f"task.{name}={changes[name]}" for name in names)
    config = settings.collect(PHASE, params_override=text)
    with pytest.raises(UserError) as caught:
        run_folder.check(str(tmp_path), config, run_folder.OF_THE_RUN)
    (said,) = re.findall(r"recipe \((.*)\); give", str(caught.value))
    listed = said.split("; ")
    assert [each.split(" is ")[0] for each in listed[:3]] == [
        f"task.{name}" for name in names[:3]
    ]
    assert all(" there, not " in each for each in listed[:3])
    assert listed[3:] == ([f"and {count - 3} more"] if count > 3 else [])


@pytest.mark.parametrize("name", ["r[1]", "r*", "r?", "r\\1"])
def test_a_folder_whose_name_is_a_pattern(name, tmp_path):
    folder = str(tmp_path / name)
    with pytest.raises(UserError, match="by which TensorFlow finds no check"):
        run_folder.claim(folder, recipes.experiment_config(LARS))
    assert not list(tmp_path.iterdir())


ELSEWHERE = "s3://bucket/run"  # Which this TensorFlow knows nothing about.


def test_a_file_system_that_cannot_be_used():
    with pytest.raises(UserError, match=f"cannot write to {ELSEWHERE}: "):
        run_folder.claim(ELSEWHERE, recipes.experiment_config(LARS))
    with pytest.raises(UserError, match=f"no checkpoint {ELSEWHERE}; give"):
        export.find(ELSEWHERE)
    with pytest.raises(UserError, match=f"no checkpoint {ELSEWHERE}, in"):
        network.find(ELSEWHERE)


def test_a_tpu_that_nobody_can_be_asked_for(monkeypatch):
    def ask(**arguments):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(
        train.distribute_utils, "get_distribution_strategy", ask
    )
    config = settings.collect(LARS, tpu="mine")
    words = "there is no 'tpu' to run on: .*not known.*; change runtime"
    with pytest.raises(UserError, match=words):
        train.make_strategy(config.runtime)


def test_a_name_that_is_no_text():
    assert run_folder.named({1: {2.5: 3}})["1.2.5"] == 3


OF_THE_RUN = [
    {"seed": 1},
    {"init_checkpoint": "x"},
    {"group_size": 4},
    {"group_clip_norm": 2.0},
    {"train_data": {"global_batch_size": 8}},
    {"train_data": {"seq_length": 128}},
    {"train_data": {"max_predictions_per_seq": 20}},
    {"model": {"encoder": {"bert": {"num_layers": 3}}}},
]


@pytest.mark.parametrize("task", OF_THE_RUN)
def test_what_makes_a_pretraining_another_run(task, tmp_path):
    written(PHASE, tmp_path)
    config = recipes.experiment_config(PHASE, {"task": task})
    with pytest.raises(UserError, match="holds a run of another recipe"):
        run_folder.check(str(tmp_path), config, run_folder.OF_THE_RUN)
    if "model" not in task:
        run_folder.check(str(tmp_path), config, run_folder.OF_THE_MODEL)


@pytest.mark.parametrize(
    "task",
    [
        {"train_data": {"input_path": "elsewhere"}},
        {"validation_data": {"global_batch_size": 3}},
    ],
)
def test_what_may_change_when_a_pretraining_goes_on(task, tmp_path):
    written(PHASE, tmp_path)
    config = recipes.experiment_config(PHASE, {"task": task})
    run_folder.check(str(tmp_path), config, run_folder.OF_THE_RUN)
