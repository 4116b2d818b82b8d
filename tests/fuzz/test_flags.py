"""The flags of every command with whatever a shell may hand on."""

import importlib

import pytest
from hypothesis import strategies as st

from tf_largebatch.cli.main import COMMANDS
from tf_largebatch.garden import recipes

SOME = ("resnet50/lars_32k", "bert_tiny/adam_32k/phase1")
RECIPES = ("resnet50/lars_32k", "bert_tiny/adam_32k", "resnet50", "x")
PATHS = ("mine", "mine/notes.txt", "full", "new", "no/where", "new.png", "")
YAML = ("word.yaml", "steps.yaml", "space.yaml", "mine", "none.yaml")
TABLES = ("table2", "table4", "bert", "table9", "../tables/table4")
URLS = (
    "sqlite:///new.db",
    "sqlite:///mine/notes.txt",
    "sqlite:///no/where/x.db",
    "sqlite://",
    "postgresql://me@host:port/db",
    "mysql://me@host/db",
    "oracle://",
    "://",
    "postgresql://[::1/db",
)
KNOWN = {
    **dict.fromkeys(("recipe", "recipes", "from", "to"), RECIPES),
    **dict.fromkeys(("config_file", "space", "protocol"), YAML),
    **dict.fromkeys(("out", "model_dir", "export_dir", "json"), PATHS),
    **dict.fromkeys(("checkpoint", "saved_model", "check"), PATHS),
    **dict.fromkeys(("data_dir", "tfds_dir", "vocab_file", "tuned"), PATHS),
    **dict.fromkeys(("squad_train", "squad_dev"), PATHS),
    "experiment": ("largebatch/bert_squad", "largebatch/resnet50_imagenet"),
    "input": ("demo", "mine/*", "none*", "mine/notes.txt", "full,mine", ","),
    "mode": ("train", "eval", "train_and_eval", "continuous_eval", "tune"),
    "params_override": ("trainer.train_steps=3", "steps.yaml", "{}", "a=b"),
    "rows": ("nesterov", "lars", "lars_momentum", "lamb_ratio_1", "x"),
    "storage": URLS,
    "table": TABLES,
    "text": ("demo", "mine/*"),
    "tfds": ("wikipedia/20230601.en", "mnist", "x/y/z"),
    "topology": ("v3-8", "v3-512", "v3:16x16", "v5e-3", "v4:0x0x0", "v3:x"),
    "workload": ("digits_resnet", "tiny_bert", "x"),
    "max_seq_length": ("8", "64", "128", "-1"),
    "max_predictions_per_seq": ("1", "10", "20"),
}
TABLE = ("--table=table4", "--rows=nesterov,lars", "--trials=2", "--seeds=2")
BASES = {
    "bench": [["study"], []],
    "compare": [["--table=table2", "--trials=2"], ["--out=new"], []],
    "data": [
        ["imagenet", "--out=new"],
        ["imagenet", "--input=mine/*"],
        ["bert", "--input=demo", "--out=new"],
        ["bert", "--check=full"],
    ],
    "evaluate": [["--saved_model=full"]],
    "export": [["--checkpoint=full", "--export_dir=new"]],
    "preflight": [["--recipe=resnet50/lars_32k", "--topology=v3-8"]],
    "recipes": [[], ["--json"]],
    "schedules": [["--out=new.png"], ["--figure=2", "--out=new.png"]],
    "study": [
        ["create", "--out=new", *TABLE],
        ["create", "--out=new", *TABLE, "--space=space.yaml"],
        [
            *("create", "--recipe=resnet50/lars_32k", "--space=space.yaml"),
            *("--trials=1", "--seeds=1"),
        ],
        ["create", "--protocol=full/study.yaml"],
        ["run", "--out=full"],
        ["run", "--storage=sqlite:///new.db", "--name=x"],
        ["status", "--out=full"],
        ["report", "--out=full"],
        [
            *("ablate", "--from=resnet50/table4/nesterov"),
            *("--to=resnet50/table4/lars", "--seeds=1"),
        ],
        ["ablate", "--from=nesterov", "--to=lars", "--tuned=full"],
    ],
    "train": [
        ["--recipe=resnet50/lars_32k", "--model_dir=new"],
        ["--recipe=bert_tiny/adam_32k", "--model_dir=new", "--text=demo"],
        ["--experiment=largebatch/bert_squad", "--model_dir=full"],
    ],
}


def flags_of(command, base):
    """Returns the flags of a command that go with a base, mostly."""
    module = importlib.import_module(f"tf_largebatch.cli.{command}")
    action = base[0] if base else ""
    names = set(module.FLAGS)
    if command == "study":
        of = {name: module.OF.get(name, module.OF_CREATE) for name in names}
        names = {name for name in names if action in of[name]}
        of_tables = "--recipe=" not in " ".join(base)
        names -= set(module.OF_RECIPES if of_tables else module.OF_TABLES)
        names |= {"out", "storage", "name"}
    if command == "data" and action == "imagenet":
        names = module.OF_BOTH | module.OF_IMAGENET
    if command == "data" and action == "bert":
        names -= module.OF_IMAGENET
    return {name: module.FLAGS[name] for name in sorted(names)}


@pytest.mark.sizes(16, 400)
def test_flags(fuzz, mutations, stops, patch, count):
    def drawn(command):
        found = st.sampled_from(BASES[command]).flatmap(
            lambda base: mutations.arguments(
                base, flags_of(command, base), KNOWN
            )
        )
        return st.tuples(st.just(command), found)

    patch.setattr(recipes, "names", lambda: [*SOME])
    # study has the most.
    names = st.sampled_from([*sorted(COMMANDS), "study", "study", "train"])
    fuzz.all(
        names.flatmap(drawn),
        count,
        lambda case: fuzz.command([case[0], *case[1]]),
    )


@pytest.mark.sizes(4, 50)
def test_a_command(fuzz, mutations, stops, count):
    words = st.lists(
        st.one_of(
            st.sampled_from([*COMMANDS, "--help", "--version", "-h", "--"]),
            st.sampled_from(mutations.WORDS),
            st.text(),
        ),
        max_size=3,
    )
    fuzz.all(words, count, fuzz.command)
