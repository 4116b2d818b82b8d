"""BERT's recipes against the paper's table 3, which is entered here anew."""

import itertools
import shlex

import numpy as np
import pytest
import tensorflow as tf
from official.core import task_factory, train_utils
from official.modeling.hyperparams import params_dict

from tf_largebatch import configs
from tf_largebatch import tf_keras as largebatch
from tf_largebatch.cli import train
from tf_largebatch.errors import UserError
from tf_largebatch.garden import recipes, settings
from tf_largebatch.garden.overrides import override
from tf_largebatch.study import spaces
from tf_largebatch.tf_keras import model_garden

NAMES = [name for name in recipes.names() if name.startswith("bert_")]
PRETRAINING = [name for name in NAMES if not name.endswith("/squad")]
SIZES = ("bert_large", "bert_base", "bert_tiny")

# Table 3: F1, pretraining loss, batches and steps of the two phases.
TABLE_3 = {
    "adam_32k": (91.58, 1.277, (32768, 14063), (32768, 1562)),
    "adam_65k_32k": (91.04, None, (65536, 7037), (32768, 1562)),
    "adam_65k": (90.46, None, (65536, 7037), (65536, 781)),
    "lamb_32k": (91.48, 1.342, (32768, 14063), (32768, 1562)),
    "lamb_65k_32k": (90.58, None, (65536, 7037), (32768, 1562)),
}
TOTAL_STEPS = {"32k": 15625, "65k_32k": 8599, "65k": 7818}

# Own choices and, for LAMB, what others published: peak and warmup.
RATES = {
    "adam_32k": ((1e-3, 2813), (5e-4, 312)),
    "adam_65k_32k": ((1.6e-3, 1407), (5e-4, 312)),
    "adam_65k": ((1.6e-3, 1407), (7e-4, 156)),
    "lamb_32k": ((5e-3, 2813), (5e-3, 312)),
    "lamb_65k_32k": ((6e-3, 2000), (4e-3, 200)),
}
LENGTHS = ((128, 20), (512, 76))

# Of the tiny BERT all is an own choice: batch, steps, peak, warmup.
TINY_LENGTHS = ((64, 10), (128, 20))
TINY = {
    "adam_32k": ((64, 703, 2e-3, 141), (64, 78, 1e-3, 16)),
    "adam_65k_32k": ((128, 352, 3e-3, 70), (64, 78, 1e-3, 16)),
    "adam_65k": ((128, 352, 3e-3, 70), (128, 39, 1.4e-3, 8)),
    "lamb_32k": ((64, 703, 1e-2, 141), (64, 78, 1e-2, 16)),
    "lamb_65k_32k": ((128, 352, 1.4e-2, 70), (64, 78, 1e-2, 16)),
}

ADAM = {
    "class": "Adam",
    "beta_1": 0.9,
    "beta_2": 0.999,
    "epsilon": 1e-6,
    "weight_decay": 0.01,
    "undecayed": "bias_and_norm",
    "bias_correction": True,
    "global_clipnorm": 1.0,
    "clipnorm": None,
    "clipvalue": None,
    "discontinuous": False,
}
LAMB = {
    **ADAM,
    "class": "LAMB",
    "variant": "bert_2019",
    "bias_correction": False,
    "zero_norm_ratio": 1.0,
    "unadapted": "bias_and_norm",
    "fallback_epsilon": None,
    "discontinuous": True,
}
# google-research/bert, and what each fix changes.
RELEASED = {**ADAM, "bias_correction": False, "discontinuous": True}
FIXES = {
    "original": {},
    "original_bias_correction": {"bias_correction": True},
    "original_continuous": {"discontinuous": False},
    "original_both": {"bias_correction": True, "discontinuous": False},
}
SUMMED = {"group_size": 8, "group_clip_norm": 1.0, "global_clipnorm": None}
AVERAGED = {"group_size": 0, "group_clip_norm": 0.0}
LINEAR = {"power": 1.0, "warmup_power": 1.0}
SQUAD = {
    **LINEAR,
    "batch": 24,
    "steps": 7299,  # int(2 * 87599 / 24)
    "warmup_steps": 729,
    "peak": 3e-5,
    "seq_length": 384,
    "doc_stride": 128,
    "query_length": 64,
    "n_best_size": 20,
    "max_answer_length": 30,
}
SQUAD_OF = {
    "bert_large": SQUAD,
    "bert_base": SQUAD,
    "bert_tiny": {
        **SQUAD,
        "batch": 16,
        "steps": 100,
        "warmup_steps": 10,
        "peak": 5e-4,
        "seq_length": 128,
        "doc_stride": 64,
    },
}
# The README's values for BERT-Base: 12 in a batch, int(2 * 87599 / 12) steps.
SQUAD_OF_BASE = {"batch": 12, "steps": 14599, "warmup_steps": 1459}

ENCODERS = {
    "bert_large": {
        "vocab_size": 30522,
        "hidden_size": 1024,
        "num_layers": 24,
        "num_attention_heads": 16,
        "intermediate_size": 4096,
        "max_position_embeddings": 512,
    },
    "bert_base": {
        "vocab_size": 30522,
        "hidden_size": 768,
        "num_layers": 12,
        "num_attention_heads": 12,
        "intermediate_size": 3072,
        "max_position_embeddings": 512,
    },
    "bert_tiny": {
        "vocab_size": 4000,
        "hidden_size": 64,
        "num_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 256,
        "max_position_embeddings": 128,
    },
}
ENCODER = {
    "hidden_activation": "gelu",
    "dropout_rate": 0.1,
    "attention_dropout_rate": 0.1,
    "type_vocab_size": 2,
    "initializer_range": 0.02,
    "embedding_size": None,
    "norm_first": False,
}


def phase(number, batch, steps, peak, warmup, lengths):
    """What a phase of pretraining has, but for its optimizer."""
    length, predictions = lengths[number]
    return {
        **LINEAR,
        "batch": batch,
        "steps": steps,
        "peak": peak,
        "warmup_steps": warmup,
        "seq_length": length,
        "max_predictions_per_seq": predictions,
    }


def numbers(size, chain, number):
    """Batch, steps, peak and warmup of a phase."""
    if size == "bert_tiny":
        return TINY.get(chain, TINY["adam_32k"])[number]
    if chain in FIXES:
        return 256, (900_000, 100_000)[number], 1e-4, 10_000
    return *TABLE_3[chain][2 + number], *RATES[chain][number]


def row(size, chain, part):
    """What a recipe has to come to."""
    optimizer = {"adam": ADAM, "lamb": LAMB}.get(chain.split("_")[0])
    if chain in FIXES:
        optimizer = {**RELEASED, **FIXES[chain]}
    encoder = {**ENCODERS[size], **ENCODER}
    if part == "squad":
        # However it was pretrained, it is fine-tuned with Adam.
        fine_tuning = optimizer if chain in FIXES else ADAM
        of_base = chain in FIXES and size == "bert_base"
        values = SQUAD_OF[size] | (SQUAD_OF_BASE if of_base else {})
        return {**encoder, **fine_tuning, **values}
    number = ("phase1", "phase2").index(part)
    lengths = TINY_LENGTHS if size == "bert_tiny" else LENGTHS
    values = phase(number, *numbers(size, chain, number), lengths)
    clipping = SUMMED if chain in FIXES else AVERAGED
    return {**encoder, **optimizer, **values, **clipping}


ROWS = {
    f"{size}/{chain}/{part}": row(size, chain, part)
    for size, chain, part in itertools.product(
        SIZES, (*TABLE_3, *FIXES), ("phase1", "phase2", "squad")
    )
}
each_recipe = pytest.mark.parametrize("name", NAMES)


def resolved(name):
    """Returns what a recipe comes to, by the short names of this file."""
    config = recipes.experiment_config(name)
    task, trainer = config.task, config.trainer
    optimizer = model_garden.build_optimizer(trainer.optimizer_config)
    values = optimizer.get_config()
    del values["learning_rate"], values["name"]
    fields = ("group_size", "group_clip_norm")
    fields += ("n_best_size", "max_answer_length", "init_checkpoint")
    data = {**task.validation_data.as_dict(), **task.train_data.as_dict()}
    return {
        "class": type(optimizer).__name__,
        "unadapted": values.pop("exclude_from_layer_adaptation", None),
        "undecayed": values.pop("exclude_from_weight_decay"),
        "batch": data.pop("global_batch_size"),
        "steps": trainer.train_steps,
        "encoder": task.model.encoder.type,
        **{field: getattr(task, field, None) for field in fields},
        **task.model.encoder.get().as_dict(),
        **data,
        **optimizer._learning_rate.arguments,
        **values,
    }


def close(value, other):
    """Whether two values agree, numbers to the last digits."""
    if isinstance(value, float) and isinstance(other, (int, float)):
        return other == pytest.approx(value, rel=1e-12, abs=0)
    return value == other and isinstance(value, bool) == isinstance(other, bool)


def test_no_recipe_is_left_out():
    assert set(ROWS) == set(NAMES)
    assert len(NAMES) == 81


@pytest.mark.parametrize("name", ROWS)
def test_every_value_is_that_of_the_table(name):
    found, wanted = resolved(name), ROWS[name]
    differing = {
        key: (found[key], value)
        for key, value in wanted.items()
        if not close(value, found[key])
    }
    assert not differing
    assert found["encoder"] == "bert" and found["init_checkpoint"] == ""
    assert found["total_steps"] == found["steps"]


@pytest.mark.parametrize("chain", TABLE_3)
def test_the_steps_of_the_phases_are_those_of_the_paper(chain):
    _, _, (first_batch, first), (second_batch, second) = TABLE_3[chain]
    batches = chain.partition("_")[2]
    assert first + second == TOTAL_STEPS[batches]
    # 32k sees a million steps of 512 sequences; the others about as many.
    seen = first_batch * first + second_batch * second
    assert seen == pytest.approx(512_000_000, rel=1e-3)
    # 90 % of them are short.
    assert first_batch * first / seen == pytest.approx(0.9, abs=2e-4)


@pytest.mark.parametrize("chain", TABLE_3)
@pytest.mark.parametrize("part", recipes.PARTS)
def test_the_expected_result_is_the_papers(chain, part):
    f1, loss, *_ = TABLE_3[chain]
    recipe = recipes.load(f"bert_large/{chain}/{part}")
    words = f"{f1} % F1" + (f", pretraining loss {loss}" if loss else "")
    assert recipe.expected == words
    assert recipe.row.startswith("table 3, ")


@pytest.mark.parametrize("name", [x for x in NAMES if "bert_large" not in x])
def test_nothing_is_expected_of_what_nobody_published(name):
    recipe = recipes.load(name)
    # Base as released was run by those who released it.
    of_readme = name.startswith("bert_base/original/")
    wanted = "88.41 % F1 from the rel" if of_readme else "none published here"
    assert recipe.expected.startswith(wanted)
    assert recipe.row.startswith("none; ")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("part", recipes.PARTS)
def test_a_fix_changes_nothing_but_what_it_fixes(size, part):
    found = {chain: resolved(f"{size}/{chain}/{part}") for chain in FIXES}
    for chain, fix in FIXES.items():
        changed = {
            key
            for key, value in found["original"].items()
            if found[chain][key] != value
        }
        assert changed == set(fix)


@pytest.mark.parametrize("size", SIZES)
def test_the_chains_differ_in_pretraining_alone(size):
    """The fine-tuning of LAMB's and Adam's rows is one and the same."""
    found = [resolved(f"{size}/{chain}/squad") for chain in TABLE_3]
    assert all(values == found[0] for values in found)


def test_the_released_schedule_falls_when_its_warmup_ends():
    """Around the 10,000th of 100,000 steps, worked out by hand."""
    rates = {
        chain: recipes.load(f"bert_large/{chain}/phase2").rates()
        for chain in ("original", "original_continuous")
    }
    steps = [0, 9_999, 10_000, 10_001, 99_999]
    jump = [0.0, 9.999e-5, 9e-5, 8.9999e-5, 1e-9]
    np.testing.assert_allclose(rates["original"][steps], jump, rtol=1e-6)
    line = [0.0, 9.999e-5, 1e-4, 9.9998888889e-5, 1e-9 / 0.9]
    np.testing.assert_allclose(
        rates["original_continuous"][steps], line, rtol=1e-6
    )


def test_lambs_schedule_jumps_and_adams_does_not():
    """At the end of the warmup, the 2,813th of 14,063 steps."""
    adam, lamb = (
        recipes.load(f"bert_large/{name}_32k/phase1").rates()
        for name in ("adam", "lamb")
    )
    after = [2_812, 2_813, 2_814]
    np.testing.assert_allclose(
        adam[after] / 1e-3, [2812 / 2813, 1, 11249 / 11250], rtol=1e-6
    )
    np.testing.assert_allclose(
        lamb[after] / 5e-3,
        [2812 / 2813, 11250 / 14063, 11249 / 14063],
        rtol=1e-6,
    )


def test_without_correction_the_first_steps_are_larger():
    """(1 - 0.9^t) / sqrt(1 - 0.999^t) times as long, 3.16 at t = 1."""
    moved = {}
    for chain in ("original", "original_bias_correction"):
        config = recipes.experiment_config(f"bert_large/{chain}/phase1")
        optimizer = model_garden.build_optimizer(
            config.trainer.optimizer_config
        )
        optimizer._learning_rate = tf.Variable(1.0)
        variable = tf.Variable(tf.zeros((2, 3)), name="kernel")
        places = []
        for _ in range(3):
            # So large that epsilon does not show.
            optimizer.apply_gradients([(tf.fill((2, 3), 1e3), variable)])
            places.append(variable.numpy())
            variable.assign(tf.zeros((2, 3)))
        moved[chain] = np.array(places)
    ratios = moved["original"] / moved["original_bias_correction"]
    wanted = [(1 - 0.9**t) / np.sqrt(1 - 0.999**t) for t in (1, 2, 3)]
    assert wanted[0] == pytest.approx(3.1623, abs=1e-4)
    np.testing.assert_allclose(ratios[:, 0, 0], wanted, rtol=1e-5)


@each_recipe
def test_it_builds_its_optimizer_and_schedule(name):
    recipe = recipes.load(name)
    config = recipes.experiment_config(name)
    cls = task_factory.get_task_cls(type(config.task))
    optimizer = cls.create_optimizer(config.trainer.optimizer_config)
    assert type(optimizer) is getattr(largebatch, ROWS[name]["class"])
    steps = np.arange(0, recipe.steps, 97)
    rates = optimizer._learning_rate(tf.constant(steps)).numpy()
    np.testing.assert_allclose(recipe.rates()[steps], rates, rtol=1e-6)
    assert recipe.rates().shape == (recipe.steps,)
    assert (recipe.rates()[1:] > 0).all() and recipe.rates()[0] == 0


@each_recipe
def test_it_says_what_it_is_and_how_it_is_run(name):
    recipe = recipes.load(name)
    assert recipe.experiment == (
        "largebatch/bert_squad"
        if name.endswith("/squad")
        else "largebatch/bert_pretraining"
    )
    tiny = name.startswith("bert_tiny/")
    ran = recipes.chain_of(name) in ("bert_tiny/adam_32k", "bert_tiny/lamb_32k")
    assert recipe.status == (
        "run by this project on 2 CPU cores"
        if ran
        else f"not run {'in full' if tiny else 'at full scale'} by this project"
    )
    assert recipe.notes
    program, command, *flags = shlex.split(recipe.command)
    assert (program, command) == ("tf-largebatch", "train")
    values = dict(flag.removeprefix("--").split("=", 1) for flag in flags)
    assert values["recipe"] == name
    assert values.keys() <= set(train.FLAGS)
    # Beside it is the part that it begins from.
    assert values.pop("model_dir").endswith(f"/{recipes.part_of(name)}")
    config = settings.collect(**values)
    data = "runs/bert_data" if tiny else "gs://DATA"
    part = recipes.part_of(name)
    assert config.task.train_data.input_path == f"{data}/{part}/train-*"


def test_what_is_not_the_papers_is_said_to_be_an_own_choice():
    """Of Adam, exactly what the paper tuned."""
    for part in ("phase1", "phase2"):
        own = recipes.load(f"bert_large/adam_32k/{part}").notes["own"]
        tuned = "learning rate, beta_1, beta_2, the power of the warmup"
        assert tuned in own and "weight decay" in own
        assert f"spaces/bert_large/{part}.yaml" in own


@each_recipe
def test_params_yaml_brings_it_back(name, tmp_path):
    """By the Garden's own loader, and by what knows the experiment."""
    config = recipes.experiment_config(name)
    train_utils.serialize_config(config, str(tmp_path))
    again = recipes.experiment(recipes.load(name).experiment)
    values = params_dict.read_yaml_to_params_dict(
        str(tmp_path / "params.yaml")
    ).as_dict()
    override(again, values, "params.yaml")
    assert again.as_dict() == config.as_dict()
    known = settings.of_run(str(tmp_path / "ckpt-1"))
    assert known.as_dict() == config.as_dict()
    assert type(known.task) is type(config.task)


def space_of(name):
    """Returns the dimensions of a phase's search space."""
    path = configs.root() / "spaces" / "bert_large"
    content = configs.read(path / f"{recipes.part_of(name)}.yaml")
    return spaces.parse(content["optimizers"][ROWS[name]["class"]])


TUNED = [name for name in PRETRAINING if "/original" not in name]


@pytest.mark.parametrize("name", TUNED)
def test_a_search_space_is_what_the_paper_tuned(name):
    recipe = recipes.load(name)
    dimensions = space_of(name)
    tuned = "learning_rate beta_1 beta_2 warmup_power weight_decay"
    assert {axis.name for axis in dimensions} == set(tuned.split())
    for axis in dimensions:
        own = value_at(recipe.values, recipe.path_of(axis.name))
        assert axis.low <= own <= axis.high, axis.name
    (point,) = spaces.points(dimensions, 1, seed=0)
    config = recipes.experiment_config(name, recipe.at(point)).as_dict()
    for key, value in point.items():
        assert value_at(config, recipe.path_of(key)) == value


def value_at(values, path):
    """Returns the value at a dotted path of nested mappings."""
    for key in path.split("."):
        values = values[key]
    return values


def test_adam_and_lamb_search_equally_large_spaces():
    for part in ("phase1", "phase2"):
        sizes = [
            {
                axis.name: (
                    round(np.log10(axis.high / axis.low), 9)
                    if axis.scale == "log"
                    else (axis.scale, axis.low, axis.high)
                )
                for axis in space_of(f"bert_large/{optimizer}_32k/{part}")
            }
            for optimizer in ("adam", "lamb")
        ]
        assert sizes[0] == sizes[1]


@pytest.mark.parametrize("name", ["label_smoothing", "momentum", "gamma_0"])
def test_what_only_resnet_has_is_refused(name):
    recipe = recipes.load("bert_large/adam_32k/phase1")
    with pytest.raises(UserError, match=f"no hyperparameter {name!r}; "):
        recipe.at({name: 0.1})


def test_a_chain_is_its_three_parts_in_order():
    chain = "bert_large/adam_32k"
    parts = [f"{chain}/{part}" for part in ("phase1", "phase2", "squad")]
    assert recipes.parts(chain) == parts
    assert [recipes.chain_of(part) for part in parts] == [chain] * 3
    for name in ("bert_large", "resnet50/lars_32k", parts[0], "", "/"):
        assert recipes.parts(name) == []
