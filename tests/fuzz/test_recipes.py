"""Recipes, settings and overrides with whatever may stand in their files."""

import itertools

import pytest
import tf_keras
import yaml
from hypothesis import strategies as st

from tf_largebatch import configs
from tf_largebatch.garden import recipes

NAMES = (
    "resnet50/nesterov_b_32k",
    "resnet50/lars_32k",
    "resnet50/table4/adam_1e-6",
    "bert_tiny/adam_32k/phase1",
    "bert_tiny/lamb_32k/squad",
)
NEW = "resnet50/fuzzed"
SPACE = "official_configs/spaces/resnet50/table4.yaml"
COMMANDS = (
    ["train", f"--recipe={NEW}", "--model_dir=run"],
    ["train", f"--recipe={NEW}", "--model_dir=run", "--mode=train"],
    ["schedules", f"--recipes={NEW}", "--out=x.png"],
    ["recipes", "--json"],
    ["recipes"],
    ["study", "create", f"--recipe={NEW}", "--trials=1", "--seeds=1"],
    ["preflight", f"--recipe={NEW}", "--topology=v3-8"],
)


def parts(name):
    """Returns a recipe's header and its values."""
    path = configs.root() / f"{name}.yaml"
    lines = path.read_text().splitlines()
    header = itertools.takewhile(lambda line: line.startswith("#"), lines)
    return {
        "header": yaml.safe_load("\n".join(line[2:] for line in header)),
        "values": yaml.safe_load("\n".join(lines)),
    }


@pytest.fixture(scope="module")
def written(mutations):
    """Draws the text of a recipe's file."""

    @st.composite
    def texts(draw):
        found = parts(draw(st.sampled_from(NAMES)))
        header, values = found["header"], mutations.dump(found["values"])
        if draw(st.integers(0, 3)):
            values = draw(mutations.yaml_texts(found["values"])).decode(
                errors="surrogateescape"
            )
        else:
            header = draw(mutations.trees(header))
        lines = mutations.dump(header).splitlines()
        comment = "\n".join(f"# {line}" for line in lines)
        return f"{comment}\n{values}".encode(errors="surrogateescape")

    return texts()


@pytest.mark.sizes(8, 300)
def test_a_recipe(fuzz, mutations, written, root, stops, patch, count):
    patch.setattr(recipes, "names", lambda: [NEW, NAMES[-1]])
    (root / "spaces/resnet50/fuzzed.yaml").write_bytes(
        (root / "spaces/resnet50/table4.yaml").read_bytes()
    )

    def check(case):
        text, command = case
        (root / f"{NEW}.yaml").write_bytes(text)
        return fuzz.command(command)

    fuzz.all(st.tuples(written, st.sampled_from(COMMANDS)), count, check)


# Settings, and values that they can have.
PATHS = {
    "trainer.train_steps": ["1", "20"],
    "trainer.steps_per_loop": ["1", "5"],
    "trainer.summary_interval": ["10", "20"],
    "trainer.evaluation_epochs": ["1", "0.5"],
    "trainer.micro_batch_size": ["0", "64"],
    "trainer.validation_steps": ["-1"],
    "trainer.optimizer_config.optimizer.type": ["sgd", "largebatch_lars"],
    "trainer.optimizer_config.learning_rate.type": ["cosine", "constant"],
    "trainer.optimizer_config.optimizer.largebatch_lars.momentum": ["0.5"],
    "trainer.optimizer_config.optimizer.sgd.clipnorm": ["1", "0.1"],
    "trainer.optimizer_config.ema.average_decay": ["0.9"],
    "trainer.optimizer_config.warmup.type": ["linear", "polynomial"],
    "trainer.best_checkpoint_export_subdir": ["best"],
    "trainer.best_checkpoint_eval_metric": ["accuracy"],
    "trainer.best_checkpoint_metric_comp": ["higher", "lower"],
    "task.train_data.input_path": ["train-*", "gs://DATA/train-*"],
    "task.train_data.global_batch_size": ["64", "4096"],
    "task.train_data.num_examples": ["0", "100"],
    "task.train_data.area_range": ["[0.2,1]"],
    "task.model.backbone.model_id": ["50"],
    "task.model.backbone.virtual_batch_size": ["32"],
    "task.losses": ["{}"],
    "task.losses.label_smoothing": ["0.1"],
    "task.init_checkpoint": ["none"],
    "runtime.mixed_precision_dtype": ["float32", "bfloat16"],
    "runtime.distribution_strategy": ["mirrored", "one_device", "off"],
    "runtime.num_gpus": ["0", "1"],
    "runtime.all_reduce_alg": ["nccl", "ring"],
    "runtime.loss_scale": ["dynamic", "2.0"],
    "runtime.tpu": ["local"],
    "phase1.trainer.train_steps": ["3"],
    "phase2.task.init_checkpoint": ["none"],
    "squad": ["{trainer: {train_steps: 3}}"],
}


@pytest.fixture(scope="module")
def overridden(mutations):
    """Draws what --params_override may be given."""
    right = st.sampled_from(sorted(PATHS)).flatmap(
        lambda path: st.sampled_from([f"{path}={x}" for x in PATHS[path]])
    )
    wrong = st.builds(
        "{}={}".format,
        st.one_of(st.sampled_from(sorted(PATHS)), st.text()),
        mutations.scalars,
    )
    one = st.one_of(right, right, wrong)
    several = st.lists(one, max_size=3).map(",".join)
    nested = {"trainer": {"train_steps": 3}, "task": {"losses": {"a": [1]}}}
    whole = mutations.yaml_texts(nested).map(
        lambda text: text.decode(errors="surrogateescape")
    )
    return st.one_of(several, several, several, whole, st.text())


OVERRIDING = (
    ["train", "--recipe=resnet50/nesterov_b_32k", "--model_dir=run"],
    ["train", "--recipe=bert_tiny/adam_32k/phase1", "--model_dir=run"],
    ["train", "--recipe=bert_tiny/adam_32k", "--model_dir=run"],
    ["train", "--experiment=largebatch/bert_squad", "--model_dir=run"],
    ["preflight", "--recipe=resnet50/lars_32k", "--topology=v3-8"],
    [
        *("study", "create", "--recipe=resnet50/lars_32k"),
        *("--trials=1", "--seeds=1"),
        "--space=space.yaml",
    ],
    [
        *("study", "ablate", "--from=resnet50/table4/nesterov"),
        *("--to=resnet50/table4/lars", "--seeds=1"),
    ],
)


@pytest.mark.sizes(8, 200)
def test_an_override(fuzz, overridden, stops, count):
    def check(case):
        text, command = case
        return fuzz.command([*command, f"--params_override={text}"])

    fuzz.all(st.tuples(overridden, st.sampled_from(OVERRIDING)), count, check)


@pytest.mark.sizes(6, 150)
def test_a_config_file(fuzz, mutations, stops, count):
    files = [parts(name)["values"] for name in NAMES[:4]]
    texts = st.sampled_from(files).flatmap(mutations.yaml_texts)

    def check(case):
        text, command = case
        arguments = [*command, "--config_file=mine/settings.yaml"]
        return fuzz.command(arguments, {"mine/settings.yaml": text})

    fuzz.all(st.tuples(texts, st.sampled_from(OVERRIDING)), count, check)


@pytest.mark.sizes(3, 90)
def test_the_settings_in_a_runs_folder(fuzz, mutations, stops, patch, count):
    from tf_largebatch.garden import run_folder

    tree = run_folder.as_yaml(recipes.experiment_config(NAMES[3]))
    texts = mutations.yaml_texts(tree)

    commands = (
        ["export", "--checkpoint=run", "--export_dir=exported"],
        ["evaluate", "--saved_model=run"],
        ["train", f"--recipe={NAMES[3]}", "--model_dir=run"],
    )

    def check(case):
        text, command = case
        files = {"run/ckpt-3.index": "", "run/params.yaml": text}
        files["run/checkpoint"] = 'model_checkpoint_path: "ckpt-3"'
        return fuzz.command(command, files)

    fuzz.all(st.tuples(texts, st.sampled_from(commands)), count, check)


SMALL = {
    "resnet50/nesterov_b_32k": {
        "task": {
            "model": {
                "backbone": {
                    "model_id": 10,
                    "width_multiplier": 0.0625,
                    "gamma_0": 0.5,
                    "epsilon": 1e-5,
                    "momentum": 0.9,
                    "virtual_batch_size": 8,
                },
                "num_classes": 8,
                "input_size": [16, 16, 3],
            },
            "seed": 0,
            "losses": {"label_smoothing": 0.1, "l2_weight_decay": 0.0},
            "train_data": {
                "global_batch_size": 16,
                "image_size": 16,
                "num_classes": 8,
                "area_range": [0.05, 1.0],
                "aspect_ratio_range": [0.75, 1.33],
                "streams": 0,
            },
            "validation_data": {"image_size": 16, "num_classes": 8},
        },
        "trainer": {"micro_batch_size": 8, "validation_steps": -1},
    },
    "bert_tiny/lamb_32k/phase1": {
        "task": {
            "model": {
                "encoder": {
                    "type": "bert",
                    "bert": {
                        "vocab_size": 60,
                        "hidden_size": 8,
                        "num_layers": 1,
                        "num_attention_heads": 2,
                        "intermediate_size": 8,
                        "max_position_embeddings": 64,
                        "type_vocab_size": 2,
                        "dropout_rate": 0.1,
                        "hidden_activation": "gelu",
                        "initializer_range": 0.02,
                        "norm_first": False,
                        "embedding_size": 8,
                        "output_range": 1,
                    },
                }
            },
            "seed": 0,
            "group_size": 0,
            "group_clip_norm": 0.0,
            "train_data": {
                "global_batch_size": 16,
                "seq_length": 64,
                "max_predictions_per_seq": 10,
            },
        },
        "trainer": {"micro_batch_size": 8},
    },
}


@pytest.fixture(scope="module")
def built(stops, patch, real_build):
    """Has train go on until all is built and the folder would be made."""
    from tf_largebatch.garden import train

    patch.setattr(train, "build", real_build)
    patch.setattr(train, "enter", real_build.reach)


@pytest.mark.sizes(2, 24)
def test_a_network(fuzz, mutations, built, count):
    def check(case):
        name, values = case
        arguments = ["train", f"--recipe={name}", "--model_dir=run"]
        arguments += ["--mode=train"]
        values["runtime"] = {
            "mixed_precision_dtype": "float32",
            "distribution_strategy": "off",
        }
        tf_keras.backend.clear_session()
        files = {"small.yaml": mutations.dump(values)}
        return fuzz.command([*arguments, "--config_file=small.yaml"], files)

    cases = st.sampled_from(sorted(SMALL)).flatmap(
        lambda name: st.tuples(st.just(name), mutations.resized(SMALL[name]))
    )
    fuzz.all(cases, count, check)
