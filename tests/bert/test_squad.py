"""The task: the same on any number of devices, resumed, exported, misused."""

import json
import pathlib
import runpy
import shutil

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
import yaml
from official.core import task_factory

from tf_largebatch.bert import answers, network, pretraining, serving, squad
from tf_largebatch.cli.main import main
from tf_largebatch.errors import RunError, UserError
from tf_largebatch.garden import evaluate, export, train

WRITTEN = runpy.run_path(
    str(pathlib.Path(__file__).with_name("written_questions.py"))
)
STEPS = WRITTEN["STEPS"]
NO_DROPOUT = {
    "model": {
        "encoder": {
            "bert": {"dropout_rate": 0.0, "attention_dropout_rate": 0.0}
        }
    }
}
ULP = 2.0**-23  # One unit in the last place of a float32, relative.


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder of questions, and of the records made of them."""
    return WRITTEN["write_records"](tmp_path_factory.mktemp("squad"))


@pytest.fixture(scope="module")
def small(folder):
    """A function that returns the settings of a small network."""
    return lambda **overrides: WRITTEN["settings"](folder, **overrides)


@pytest.fixture(scope="module")
def trained(small, tmp_path_factory):
    """The folder and the figures of a run."""
    run = tmp_path_factory.mktemp("run")
    return run, train.run(small(), "train_and_eval", str(run))


@pytest.fixture(scope="module")
def exported(trained, small, tmp_path_factory):
    """The SavedModel of that run."""
    saved = tmp_path_factory.mktemp("export") / "saved"
    export.export(small(), str(trained[0]), str(saved))
    return saved


@pytest.fixture(scope="module")
def replicas(folder, run_script):
    """What `squad_replicas.py` finds on 1 and 2 devices."""
    return run_script("bert/squad_replicas.py", QUESTIONS=str(folder))


def values(arrays, prefix):
    return {
        key.removeprefix(prefix): value
        for key, value in arrays.items()
        if key.startswith(prefix)
    }


# A constant that is added to all inputs of a softmax has no effect. Of these,
# the gradient is what rounding leaves of 0, and Adam makes whole steps of it.
WITHOUT_EFFECT = (
    "key/bias",
    "layer_0/output_layer_norm/beta",
    "predictions/transform/logits/bias",
)


def test_devices_and_micro_batches_make_no_difference(replicas):
    """5 steps end at the same parameters."""
    norm = np.linalg.norm
    moved = values(replicas, "1x1 moved ")
    found, expected = (
        values(replicas, f"{each} end ") for each in ("2x4", "1x1")
    )
    assert found.keys() == expected.keys() == moved.keys()
    compared = 0
    for name, value in expected.items():
        if any(part in name for part in WITHOUT_EFFECT):
            continue
        allowed = 1e-5 * norm(moved[name]) + ULP * norm(value)
        assert norm(found[name] - value) <= allowed, name
        assert norm(moved[name]) > 0 or "pooler" in name
        compared += 1
    assert compared == len(expected) - 3


def test_figures_of_training_are_those_of_the_global_batch(replicas):
    found, expected = (values(replicas, f"{each} ") for each in ("2x4", "1x1"))
    for name in ("training_loss", "gradient_norm"):
        assert found[name] == pytest.approx(expected[name], rel=1e-5)
    assert found["learning_rate"] == expected["learning_rate"]


def test_the_pooler_stays_as_it_is(replicas):
    moved = values(replicas, "2x4 moved ")
    still = {name for name, value in moved.items() if not value.any()}
    assert still == {"pooler_transform/kernel:0", "pooler_transform/bias:0"}


def test_replicas_answer_every_question_once(replicas):
    """30 features at batch 64, and at 7 on 2 replicas."""
    one, two = (values(replicas, f"{n} evaluated ") for n in (1, 2))
    assert one["questions"] == 9
    assert 0 < one["final_f1"] < 1
    assert two == one


def test_the_loss_is_the_mean_of_two_cross_entropies():
    random = np.random.default_rng(0)
    logits = random.normal(size=(2, 5, 7)).astype("f4")
    places = random.integers(7, size=(2, 5))
    exact = logits.astype("f8")
    log = exact - np.log(np.exp(exact).sum(-1, keepdims=True))
    expected = -np.mean(
        [log[side, range(5), places[side]] for side in (0, 1)], 0
    )
    labels = dict(zip(("start_positions", "end_positions"), places))
    found = squad.span_losses(labels, tuple(logits))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_a_step_has_the_gradient_of_the_mean_over_the_global_batch(small):
    """Taken apart by hand: features, first, last."""
    task = task_factory.get_task(small(task=NO_DROPOUT).task)
    model = task.build_model()
    (batch,) = task.build_inputs(task.task_config.train_data).take(1)
    with tf.GradientTape() as tape:
        starts, ends = model(
            {name: batch[name] for name in model.input_names}, training=True
        )
        loss = sum(
            -tf.nn.log_softmax(logits[row])[batch[f"{side}_positions"][row]]
            for side, logits in (("start", starts), ("end", ends))
            for row in range(8)
        ) / (2 * 8)
    variables = task.trained_variables(model)
    expected = tape.gradient(loss, variables)
    found, losses = task.gradients(batch, model, [])
    assert float(tf.reduce_mean(losses)) == pytest.approx(float(loss))
    for one, other, variable in zip(found, expected, variables):
        one, other = (np.array(tf.convert_to_tensor(x)) for x in (one, other))
        error = np.linalg.norm(one - other)
        assert error <= 1e-5 * np.linalg.norm(other) + 1e-7, variable.name


@pytest.mark.slow
def test_a_run_that_is_resumed_ends_at_the_same_bits(trained, small, tmp_path):
    """With dropout, and stopped within an epoch."""
    whole, figures = trained
    part = small(trainer={"train_steps": 2})
    train.run(part, "train", str(tmp_path))
    assert train.run(small(), "train_and_eval", str(tmp_path)) == figures
    for name, _ in tf.train.list_variables(f"{whole}/ckpt-{STEPS}"):
        if name.endswith("VARIABLE_VALUE") and "save_counter" not in name:
            found, expected = (
                tf.train.load_variable(f"{run}/ckpt-{STEPS}", name)
                for run in (tmp_path, whole)
            )
            np.testing.assert_array_equal(found, expected, err_msg=name)


def test_answers_of_an_export_are_those_of_the_trainer(
    exported, trained, folder
):
    other = shutil.copy(folder / "dev.json", folder / "copy.json")
    for path in (None, str(other)):
        found = evaluate.evaluate(str(exported), path)
        assert {**found, "step": STEPS} == trained[1]


def test_logits_of_an_export_equal_the_trainers(exported, trained, small):
    config = small()
    task = task_factory.get_task(config.task)
    model = task.build_model()
    export.restore(model, f"{trained[0]}/ckpt-{STEPS}")
    questions = answers.Questionnaire(config.task.validation_data)
    (batch,) = questions.dataset(len(questions.features))
    starts, ends = task.inference_step(batch, model)
    loaded = tf.saved_model.load(str(exported))
    found = serving.predict(loaded, questions)
    real = found["numbers"] != answers.PADDING
    assert list(found["numbers"][real]) == [*range(30)]
    examples = [serialize(feature) for feature in questions.features]
    of_records = loaded.signatures["serving_examples"](tf.constant(examples))
    for name, expected in (("start_logits", starts), ("end_logits", ends)):
        assert np.ptp(expected, 1).min() > 0.01
        for logits in (found[name][real], of_records[name]):
            np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)


def serialize(feature):
    """Returns a feature as the Model Garden's tools write it."""
    columns = {
        name: tf.train.Feature(
            int64_list=tf.train.Int64List(value=getattr(feature, name))
        )
        for name in ("input_ids", "input_mask", "segment_ids")
    }
    return tf.train.Example(
        features=tf.train.Features(feature=columns)
    ).SerializeToString()


def test_an_export_has_its_vocabulary_and_nothing_for_training(
    exported, trained, folder, tmp_path
):
    moved = shutil.copytree(exported, tmp_path / "moved")
    (folder / "vocab.txt").rename(folder / "away.txt")
    try:
        found = evaluate.evaluate(str(moved))
    finally:
        (folder / "away.txt").rename(folder / "vocab.txt")
    assert {**found, "step": STEPS} == trained[1]
    (asset,) = (exported / "assets").iterdir()
    assert asset.read_bytes() == (folder / "vocab.txt").read_bytes()
    stored = tf.train.list_variables(str(exported / "variables/variables"))
    names = {name.split("/")[0] for name, _ in stored}
    assert names == {"weights", "_CHECKPOINTABLE_OBJECT_GRAPH"}


def test_features_that_are_not_predicted_are_noticed(trained, small):
    config = small(trainer={"validation_steps": 2})
    with pytest.raises(RunError, match="of 30 features, 14 were not predicted"):
        train.run(config, "eval", str(trained[0]))


def test_training_begins_with_the_encoder_of_pretraining(small, tmp_path):
    """And with nothing else of it, be it named by its folder or its path."""
    encoder = small().task.model.encoder
    model = pretraining.make_model(network.ModelConfig(encoder=encoder))
    optimizer = tf_keras.optimizers.SGD(momentum=0.9)
    optimizer.build(model.trainable_variables)
    saved = tf.train.Checkpoint(
        model=model, optimizer=optimizer, **model.checkpoint_items
    )
    manager = tf.train.CheckpointManager(saved, str(tmp_path), max_to_keep=2)
    for value in (0.5, 0.25):
        for variable in model.trainable_variables:
            variable.assign(tf.fill(variable.shape, value))
        manager.save()
    for start, value in ((tmp_path, 0.25), (tmp_path / "ckpt-1", 0.5)):
        config = small(task={"init_checkpoint": str(start)})
        task = task_factory.get_task(config.task)
        found, random = task.build_model(), task.build_model()
        task.initialize(found)
        own = {id(v) for v in found.span_labeling.trainable_variables}
        for variable, drawn in zip(found.weights, random.weights):
            expected = drawn if id(variable) in own else np.float32(value)
            assert np.all(variable.numpy() == expected), variable.name


@pytest.mark.parametrize(
    "encoder, words",
    [
        ({"hidden_size": 32}, "is no checkpoint of this network"),
        ({"num_layers": 3}, "is no checkpoint of this network"),
        ({"vocab_size": 99}, "72.*99"),
    ],
)
def test_a_checkpoint_of_another_size_is_an_error(
    small, encoder, words, tmp_path
):
    own = small().task.model.encoder
    model = pretraining.make_model(network.ModelConfig(encoder=own))
    saved = tf.train.Checkpoint(model=model, **model.checkpoint_items)
    path = saved.save(f"{tmp_path}/ckpt")
    config = small(
        task={"init_checkpoint": path, "model": {"encoder": {"bert": encoder}}}
    )
    task = task_factory.get_task(config.task)
    with pytest.raises(UserError, match=words) as error:
        task.initialize(task.build_model())
    assert "\n" not in str(error.value)


def run_command(arguments, capsys):
    """Returns the exit status, the output and the last line of errors."""
    status = main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err.rstrip("\n").rpartition("\n")[2]


@pytest.fixture(scope="module")
def recipe(folder):
    """Arguments that describe the small network's training."""
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(WRITTEN["small"](folder)))
    return ["--experiment=largebatch/bert_squad", f"--config_file={path}"]


def test_commands_train_export_and_evaluate(
    recipe, trained, folder, capsys, tmp_path
):
    run, figures = trained
    line = (
        f"F1 {figures['final_f1']:.2%}, exact match "
        f"{figures['exact_match']:.2%}, questions 9\n"
    )
    arguments = ["train", *recipe, f"--model_dir={run}", "--mode=eval"]
    assert run_command(arguments, capsys)[:2] == (0, f"step {STEPS}, {line}")
    arguments = ["export", f"--checkpoint={run}", f"--export_dir={tmp_path}/e"]
    assert run_command(arguments, capsys)[0] == 0
    arguments = ["evaluate", f"--saved_model={tmp_path}/e"]
    arguments += [f"--input={folder}/dev.json"]
    assert run_command(arguments, capsys)[:2] == (0, line)


MISTAKES = [
    ({"task.init_checkpoint": "nowhere"}, "there is no checkpoint nowhere"),
    ({"task.model.encoder.type": "albert"}, "type is albert"),
    (
        {"task.model.encoder.bert.max_position_embeddings": 63},
        "seq_length is 64, in task.train_data, but max_position_embeddings",
    ),
    (
        {"task.validation_data.seq_length": 65},
        "seq_length is 65, in task.validation_data, but max_position",
    ),
    (
        {"task.model.encoder.bert.vocab_size": 73},
        "the vocabulary has 72 tokens, in",
    ),
    ({"task.validation_data.vocab_file": "none"}, "cannot read none"),
    ({"task.validation_data.vocab_file": ""}, "vocab_file is not set"),
    ({"task.validation_data.input_path": ""}, "input_path is not set"),
    ({"task.validation_data.input_path": "v2.json"}, "v2.json, question q1;"),
    ({"task.validation_data.global_batch_size": 0}, "global_batch_size is 0"),
    ({"task.validation_data.query_length": 29}, "query_length 29"),
    ({"task.validation_data.doc_stride": 0}, "doc_stride is 0"),
    ({"task.train_data.input_path": "none-*"}, "no file matches 'none-*'"),
    ({"task.train_data.seq_length": 32}, "no feature of 32 tokens"),
    ({"task.n_best_size": 0}, "n_best_size is 0, in task"),
    ({"trainer.micro_batch_size": 3}, "micro_batch_size is 3"),
]


def nested(change):
    """Returns a value under a dotted name as nested mappings."""
    ((name, value),) = change.items()
    for part in reversed(name.split(".")):
        value = {part: value}
    return value


@pytest.mark.parametrize("change, words", MISTAKES)
def test_a_mistake_ends_in_one_line_and_status_2(
    recipe, change, words, capsys, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    content = WRITTEN["squad"]()
    content["data"][0]["paragraphs"][0]["qas"][1]["is_impossible"] = True
    pathlib.Path("v2.json").write_text(json.dumps(content))
    override = f"--params_override={json.dumps(nested(change))}"
    status, out, error = run_command(
        ["train", *recipe, "--model_dir=run", override], capsys
    )
    assert (status, out) == (2, "")
    assert error.startswith("tf-largebatch: error: ")
    assert words in error
    assert not list(tmp_path.rglob("ckpt-*"))


def test_mistakes_in_evaluating_an_export(exported, capsys, tmp_path):
    for path, words in (
        ("none.json", "cannot read none.json"),
        (__file__, "the file is no JSON"),
    ):
        arguments = ["evaluate", f"--saved_model={exported}"]
        found = run_command([*arguments, f"--input={path}"], capsys)
        assert found[:2] == (2, "")
        assert words in found[2]


def test_an_export_needs_the_vocabulary(trained, small, tmp_path):
    config = small(task={"validation_data": {"vocab_file": "none"}})
    with pytest.raises(UserError, match="cannot read none"):
        export.export(config, str(trained[0]), f"{tmp_path}/e")
    assert not list(tmp_path.iterdir())
