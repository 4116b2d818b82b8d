"""Steps are compiled for TPUs by their own compiler; figures follow."""

import dataclasses
import functools
import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras

from tf_largebatch import experiments
from tf_largebatch.garden import recipes
from tf_largebatch.garden.overrides import override
from tf_largebatch.tpu import compiler, preflight, programs, slices
from tf_largebatch.tpu.compiler import Figures

EIGHT = slices.find("v3-8")
# Of any recipe, a network of the same kind that compiles within seconds.
SHALLOW = {
    "largebatch/resnet50_imagenet": {
        "model": {
            "backbone": {"model_id": 10, "width_multiplier": 0.25},
            "input_size": [32, 32, 3],
        },
        "train_data": {"image_size": 32},
        "validation_data": {"image_size": 32},
    },
    "largebatch/bert_pretraining": {"model": {}},
    "largebatch/bert_squad": {"model": {}},
}
ENCODER = {
    "bert": {
        "num_layers": 1,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_attention_heads": 2,
    }
}


def shallow(name, batch=None, micro_batch=None):
    """Returns a recipe's settings, with a small network."""
    config = recipes.experiment_config(name)
    values = {"task": SHALLOW[recipes.load(name).experiment]}
    if "bert" in name:
        values = {"task": {"model": {"encoder": ENCODER}}}
    override(config, values, "the test")
    if batch:
        data = {"train_data": {"global_batch_size": batch}}
        override(config, {"task": data}, "the test")
    if micro_batch:
        trainer = {"micro_batch_size": micro_batch}
        override(config, {"trainer": trainer}, "the test")
    return config


@pytest.fixture(scope="module", autouse=True)
def trace():
    """A function that traces a step; `programs.trace` does so once a step."""
    real, known = programs.trace, {}

    def trace(config, replicas):
        tf_keras.backend.clear_session()  # Names start over.
        return real(config, replicas)

    def trace_once(config, replicas):
        key = str(config.as_dict()), replicas
        if key not in known:
            known[key] = trace(config, replicas)
        return known[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(programs, "trace", trace_once)
        yield trace


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return preflight.Cache(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def examined(cache):
    """A function that returns what is found out about a small recipe."""

    @functools.cache
    def examine(name, batch=None, micro_batch=None):
        config = shallow(name, batch, micro_batch)
        return preflight.examine(name, config, EIGHT, cache)

    return examine


def test_a_resnet_compiles_with_its_sums_over_all_replicas(examined):
    found = examined("resnet50/nesterov_b_32k", batch=1024, micro_batch=128)
    assert found.problem is None
    assert (found.micro_batch, found.micro_batches) == (128, 1)
    assert found.devices == 8 and found.steps == 2512
    # Nesterov has one slot for each parameter, and counts its steps.
    assert found.slots == found.parameters + 8
    assert found.parameters < found.needed < EIGHT.memory
    assert found.optimizer_floor == 20 * found.parameters / 4
    assert found.optimizer_accessed >= found.optimizer_floor
    assert found.step_time > found.reduce_time > 0
    assert found.hours == pytest.approx(2512 * found.step_time / 3600)


def test_more_micro_batches_cost_more_and_need_no_more(examined):
    """Of half the size, so that what is there at once is not more."""
    one = examined("resnet50/nesterov_b_32k", batch=1024, micro_batch=128)
    two = examined("resnet50/nesterov_b_32k", batch=1024, micro_batch=64)
    assert (one.micro_batches, two.micro_batches) == (1, 2)
    assert two.temporaries < one.temporaries
    # Gradients are written and read once more.
    assert two.accessed > one.accessed
    assert two.flops == pytest.approx(one.flops, rel=0.05)


@pytest.mark.slow
def test_a_bert_compiles(examined):
    found = examined("bert_large/lamb_32k/phase1", batch=512, micro_batch=64)
    assert found.problem is None
    assert found.slots == 2 * found.parameters + 8
    assert found.optimizer_floor == 40 * found.parameters / 4


def test_what_does_not_divide_is_a_result(examined):
    found = examined("bert_large/adam_32k/squad", batch=20)
    assert "there are 8 replicas; give a multiple of that" in found.problem
    assert found.needed is None and found.hours is None
    json.dumps(found.as_json(), allow_nan=False)


def test_what_does_not_fit_says_what_would(examined, cache, monkeypatch):
    recipe = ("resnet50/nesterov_b_32k", 1024)
    whole, less = (examined(*recipe, size).needed for size in (128, 64))
    assert less < whole
    # A core has half of it.
    chip = dataclasses.replace(slices.CHIPS["v3"], memory=2 * less)
    monkeypatch.setitem(slices.CHIPS, "v3", chip)
    found = preflight.examine("one", shallow(*recipe, 128), EIGHT, cache)
    assert found.problem == "does not fit"
    assert found.fits_with == 64


def test_the_compilers_error_is_a_result(trace, cache, monkeypatch):
    monkeypatch.setattr(programs, "COPY", programs.re.compile("(no)(thing)"))
    monkeypatch.setattr(programs, "trace", trace)
    config = shallow("resnet50/nesterov_b_32k", batch=512)
    found = preflight.examine("one", config, EIGHT, cache)
    assert found.problem.startswith("step: ")
    assert "mhlo.copy" in found.problem
    assert found.fits_with is None


def kinds_of_recipes():
    """Returns the paper's recipes without those of a kind that is there.

    Recipes whose steps differ in numbers alone are of one kind.
    """
    found = {}
    for name in preflight.names_of_the_paper():
        recipe = recipes.load(name)
        config = recipe.values["trainer"]["optimizer_config"]
        words = {
            key: value
            for key, value in config["optimizer"][recipe.optimizer].items()
            if not isinstance(value, (int, float)) or value in (True, False)
        }
        task = recipe.values["task"]
        groups = sorted(key for key in task if "group" in key)
        losses = sorted(task.get("losses", ()))
        kind = (recipe.experiment, recipe.optimizer, recipe.schedule)
        found.setdefault(str((*kind, words, groups, losses)), name)
    return [*found.values()]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.long] * ("/table4/" in name))
        for name in kinds_of_recipes()
    ],
)
def test_every_kind_of_recipe_has_only_what_a_tpu_can_do(examined, name):
    """With a small network of the same kind and a batch for eight cores."""
    assert examined(name, batch=1024).problem is None


@pytest.mark.parametrize(
    "name, batch",
    [
        ("resnet50/lars_32k", 1024),
        ("bert_large/lamb_32k/phase1", 512),
        ("bert_large/adam_32k/squad", 1024),
    ],
)
def test_replicas_that_are_pretended_share_the_batch(name, batch):
    step = programs.trace(shallow(name, batch, 64), 8)
    assert step.micro_batch_size * step.micro_batches == batch // 8
    texts = [each.text for each in step.programs]
    reduced = sum(text.count("stablehlo.all_reduce") for text in texts)
    assert reduced > 10
    groups = "dense<" in texts[-1] and "replica_groups" in texts[-1]
    assert groups


def test_another_optimizer_is_another_program():
    one, other = (
        programs.trace(shallow(f"resnet50/{name}_32k", 1024, 64), 8).optimizer
        for name in ("nesterov_b", "lars")
    )
    assert preflight.canonical(one.text) != preflight.canonical(other.text)


@pytest.mark.parametrize(
    "name, batch",
    [
        ("resnet50/nesterov_b_32k", 1024),
        ("bert_large/lamb_32k/phase1", 512),
    ],
)
def test_programs_are_known_again_traced_with_values(
    name, batch, trace, monkeypatch
):
    """When they are traced again, of variables with values of their own."""
    config = shallow(name, batch, 64)
    step = programs.trace(config, 8)
    monkeypatch.setattr(
        programs, "of_shared_memory", lambda create, **kwargs: create(**kwargs)
    )
    with_values = trace(config, 8)
    for one, other in zip(
        (*step.programs, step.optimizer),
        (*with_values.programs, with_values.optimizer),
        strict=True,
    ):
        assert one.text != other.text
        assert preflight.canonical(one.text) == preflight.canonical(other.text)
        assert one.variables == other.variables


def test_variables_that_are_traced_share_their_memory():
    with tf.variable_creator_scope(programs.of_shared_memory):
        layers = [tf_keras.layers.Dense(512) for _ in range(2)]
        for layer in layers:
            layer.build((None, 256))
        told = tf.Variable(tf.ones((256, 512)))
        untold = tf.Variable(3.0)
    places = {
        each.numpy().ctypes.data
        for each in (layers[0].kernel, layers[1].kernel, told)
    }
    assert len(places) == 1
    assert not np.any(layers[0].kernel) and float(untold) == 3.0


def test_what_was_compiled_is_not_compiled_again(tmp_path, monkeypatch):
    compiled = []

    def compile(text, topology):
        compiled.append((text, topology))
        return FIGURES

    monkeypatch.setattr(compiler, "compile", compile)
    cache = preflight.Cache(tmp_path / "new")
    for text in ("module @a_1 x", "module @b_2 x", "module @a_1 y"):
        assert cache.compile(text, "v3:2x2") == FIGURES
    assert cache.compile("module @a_1 x", "v3:4x4") == FIGURES
    assert [text[-1] for text, _ in compiled] == ["x", "y", "x"]
    assert len([*(tmp_path / "new").iterdir()]) == 3
    none = preflight.Cache(None)
    none.compile("module @a_1 x", "v3:2x2")
    assert len(compiled) == 4


def test_errors_are_not_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(compiler, "compile", lambda text, topology: "wrong")
    assert preflight.Cache(tmp_path).compile("x", "v3:2x2") == "wrong"
    assert not [*tmp_path.iterdir()]


FIGURES = Figures(
    arguments=1000,
    outputs=700,
    aliased=600,
    temporaries=5000,
    code=10,
    flops=123e12,
    accessed=450e9,
)


def test_the_largest_smaller_micro_batch_that_fits_is_found(monkeypatch):
    """Of 64, 32, 16 and 8: the first ends the compiler, the next is large."""

    def trace(config, replicas):
        size = config.trainer.micro_batch_size
        program = programs.Program("step", str(size), 1, 0)
        return programs.Step([program], program, 0, 0, 0, 0, size, 1)

    def compile(text, topology):
        if text == "64":
            return f"{preflight.NO_MEMORY}: Ran out of memory"
        needed = EIGHT.memory * int(text) / 20
        return dataclasses.replace(FIGURES, temporaries=needed)

    monkeypatch.setattr(programs, "trace", trace)
    monkeypatch.setattr(compiler, "compile", compile)
    config = shallow("resnet50/nesterov_b_32k", batch=1024, micro_batch=128)
    none = preflight.Cache(None)
    assert preflight.smaller(config, trace(config, 8), EIGHT, none) == 16


def test_a_step_is_the_sum_of_its_programs():
    def program(name, times, variables):
        return programs.Program(name, "", times, variables)

    step = programs.Step(
        [program("accumulate", 3, 300), program("update", 1, 800)],
        program("optimizer", 1, 500),
        parameters=400,
        slots=200,
        others=300,
        trained=100,
        micro_batch_size=8,
        micro_batches=3,
    )
    found = {
        "accumulate": FIGURES,
        "update": dataclasses.replace(FIGURES, flops=1.0, temporaries=0),
        "optimizer": dataclasses.replace(FIGURES, accessed=2500.0),
    }
    costs = preflight.costs(step, found, EIGHT, "largebatch_lamb")
    assert costs["flops"] == 3 * 123e12 + 1
    assert costs["accessed"] == 4 * 450e9
    assert costs["temporaries"] == 5000
    # Beside its own variables, 600 bytes of others.
    assert costs["needed"] == 600 + 1000 + 100 + 5000 + 10
    # A core has half of a chip: 2 s of operations, 1 s of bytes.
    reduce_time = 2 * 400 * 3 / 4 / 328e9
    assert costs["reduce_time"] == pytest.approx(reduce_time)
    assert costs["step_time"] == pytest.approx(3 * 2.0 + 1.0 + reduce_time)
    assert costs["optimizer_accessed"] == 2500
    assert costs["optimizer_floor"] == 4000


def test_the_input_is_that_of_the_data(tmp_path):
    """The shapes and types that are compiled are those that are read."""
    from tf_largebatch.resnet import pictures
    from tf_largebatch.resnet import task as resnet

    pictures.build(tmp_path / "pictures")
    config = shallow("resnet50/nesterov_b_32k", batch=64)
    data = {"input_path": f"{tmp_path}/pictures/train-*"}
    override(config, {"task": {"train_data": data}}, "the test")
    task = resnet.ResNetTask(config.task)
    spec = task.build_inputs(config.task.train_data).element_spec
    assert task.input_spec(64) == spec


@pytest.mark.parametrize("part", ["phase1", "squad"])
def test_the_input_of_bert_is_that_of_its_data(part):
    from tf_largebatch.bert import features, squad_input
    from tf_largebatch.bert import input as inputs

    config = recipes.experiment_config(f"bert_large/adam_32k/{part}")
    module = squad_input if part == "squad" else inputs
    form = module.form_of(config.task.train_data, 30522)
    values = {
        each.stored: tf.train.Feature(
            int64_list=tf.train.Int64List(
                value=np.zeros(each.shape, int).reshape(-1)
            )
        )
        if each.limit
        else tf.train.Feature(
            float_list=tf.train.FloatList(value=np.zeros(each.shape))
        )
        for each in form.values()
    }
    example = tf.train.Example(features=tf.train.Features(feature=values))
    records = tf.data.Dataset.from_tensors(example.SerializeToString())
    parsed = records.map(lambda x: features.parse_valid(form, x))
    batch = parsed.repeat(3).batch(3, drop_remainder=True).element_spec
    spec = features.batch_spec(form, 3)
    assert spec.pop("numbers") == tf.TensorSpec((3,), tf.int64)
    assert spec == batch


def test_every_task_says_what_it_takes():
    assert "input_spec" in experiments.Task.__abstractmethods__
