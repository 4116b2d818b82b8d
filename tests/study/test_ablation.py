"""From one setting to another: what differs, and the rows that lie between."""

import json
import re
import shutil

import pytest
import yaml

from tf_largebatch import configs, keras
from tf_largebatch.errors import UserError
from tf_largebatch.study import ablation, protocol, recipes, table_rows
from tf_largebatch.study.ablation import flat, nested
from tf_largebatch.study.ledger import as_json_has_it

NESTEROV, LARS = "resnet50/nesterov_b_32k", "resnet50/lars_32k"
BERT = "bert_tiny/adam_32k/phase1"
# In the order of the file of resnet50/lars_32k.
FROM_NESTEROV_TO_LARS = {
    "gamma_0": (0.4138, 0.0),
    "label_smoothing": (0.15, 0.1),
    "optimizer": ("largebatch_nesterov", "largebatch_lars"),
    "momentum": (0.97603, 0.929),
    "weight_decay": (5.8e-5, 1e-4),
    "learning_rate": (7.05, 29.0),
    "warmup_steps": (706, 706.5),
    "final": (6e-6, 1e-4),
    "warmup_power": (2.0, 1.0),
    "decay_steps": (None, 1806.5),
}


def chosen(kind, **options):
    """Returns a setting that is one choice."""
    return {"x": {"type": kind, kind: options}}


@pytest.mark.parametrize(
    "a, b, found",
    [
        ({"p": 1, "q": {"r": 2}}, {"p": 1, "q": {"r": 3}}, ["q.r"]),
        ({"p": 1, "q": 2}, {"q": 3, "p": 4}, ["q", "p"]),
        ({"p": [0.1]}, {"p": []}, ["p"]),
        ({"p": None}, {"p": {"q": 1, "r": 2}}, ["p"]),
        ({"p": {"q": 1, "r": {"s": 2}}}, {"p": None}, ["p"]),
        (chosen("s", m=1, e=None), chosen("s", m=1, e=2), ["x.*.e"]),
        (chosen("s", m=1, n=2), chosen("t", m=1, o=2), ["x.type"]),
        (chosen("s", m=1, n=2), chosen("t", m=3), ["x.type", "x.*.m"]),
        # Another class cannot have None, which is the class's own.
        (chosen("s", m=1, e=None), chosen("t", m=1, e=2), ["x.type"]),
        (chosen("s", m=1, e=2), chosen("t", m=1, e=None), ["x.type"]),
        ({"x": {"type": None}}, chosen("t", m=1), ["x.type"]),
        (chosen("s", name="S"), chosen("t", name="T"), ["x.type"]),
    ],
)
def test_in_what_two_settings_differ(a, b, found):
    changes = ablation.changes(flat(a), flat(b))
    assert [".".join(change.path) for change in changes] == found
    setting = flat(a)
    for change in changes:
        setting = change.made(setting)
    assert nested(setting) == b


def test_a_class_takes_over_what_both_have():
    a = chosen("s", rate=1, momentum=2, own=3, epsilon=None)
    b = chosen("t", rate=4, momentum=2, trust=5, epsilon=6)
    first, second = ablation.changes(flat(a), flat(b))
    made = nested(first.made(flat(a)))
    assert made == chosen("t", rate=1, momentum=2, trust=5, epsilon=6)
    # The place of a value is the same in both classes.
    made = nested(second.made(flat(a)))
    assert made == chosen("s", rate=4, momentum=2, own=3, epsilon=None)


@pytest.fixture(scope="module")
def between():
    return ablation.between_recipes(NESTEROV, LARS)


def test_between_the_papers_two_pipelines(between):
    found = {
        between.names[change.path]: (change.before, change.after)
        for change in between.changes
    }
    assert list(found) == list(FROM_NESTEROV_TO_LARS)
    assert found == FROM_NESTEROV_TO_LARS
    lines = between.listed().splitlines()
    assert re.split(" {2,}", lines[0]) == [
        *("hyperparameter", "nesterov_b_32k", "lars_32k")
    ]
    assert re.split(" {2,}", lines[3]) == [
        *("optimizer", "largebatch_nesterov"),
        "largebatch_lars (epsilon 0, exclude_from_layer_adaptation "
        "bias_and_norm, trust_coefficient 0.001, variant mlperf)",
    ]
    assert re.split(" {2,}", lines[-1]) == ["decay_steps", "none", "1806.5"]


def test_the_rows_go_from_the_one_to_the_other(between):
    rows = {name: made for name, _, made in between.settings()}
    names = list(FROM_NESTEROV_TO_LARS)
    assert list(rows) == [
        "nesterov_b_32k",
        *(f"with {name}" for name in names),
        *(f"up to {name}" for name in names[1:-1]),
        "lars_32k",
    ]
    momentum = "momentum from 0.97603 to 0.929"
    assert rows["nesterov_b_32k"] == {}
    assert rows["with momentum"] == {momentum: "nesterov_b_32k"}
    assert rows["up to momentum"] == {momentum: "up to optimizer"}
    # What is the same setting as the row with the first alone is not run twice.
    smoothing = "label_smoothing from 0.15 to 0.1"
    assert rows["up to label_smoothing"] == {smoothing: "with gamma_0"}
    decay = "decay_steps from none to 1806.5"
    assert rows["lars_32k"] == {decay: "up to warmup_power"}


def test_every_setting_is_new(between):
    settings = [setting for _, setting, _ in between.settings()]
    for number, setting in enumerate(settings):
        assert setting not in settings[:number]


def test_one_alone_changes_no_other(between):
    for _, setting, _ in [*between.settings()][1:11]:
        paths = {*setting, *between.setting}
        changed = {
            path
            for path in paths
            if setting.get(path) != between.setting.get(path)
        }
        (change,) = (x for x in between.changes if x.path in changed)
        assert changed - {change.path} <= {*change.put, *change.drop}


PAIRS = [
    (NESTEROV, LARS),
    pytest.param(LARS, NESTEROV, marks=pytest.mark.slow),
    pytest.param(
        *("resnet50/table4/adam_1e-8", "resnet50/table4/lars"),
        marks=pytest.mark.slow,
    ),
    ("resnet50/table4/lars", "resnet50/table4/adam_1e-8"),
    ("resnet50/table4/lamb", "resnet50/table4/nesterov"),
    ("resnet50/table4/lamb", "resnet50/table4/lamb_adam_1e-8"),
    ("resnet50/table2/lars_power_1", "resnet50/table2/lars_power_2"),
    ("bert_tiny/adam_32k/phase1", "bert_tiny/lamb_32k/phase1"),
    ("bert_tiny/original/phase1", "bert_tiny/original_both/phase1"),
    ("bert_tiny/original/phase1", "bert_tiny/adam_32k/phase1"),
]


@pytest.mark.parametrize("first, last", PAIRS)
def test_the_rows_of_recipes_are_valid_and_end_as_they_should(first, last):
    """Each builds its optimizer, and the last is B in all that matters."""
    found = ablation.between_recipes(first, last)
    study = found.study(3, 0, 0.5)
    assert as_json_has_it(study) == study
    rows = study["table"]["rows"]
    count = len(found.changes)
    assert len(rows) == (2 * count if count > 1 else 2)
    assert (study["trials"], study["seeds"]) == (0, 3)
    assert not any(row["space"] or row["tuned_as"] for row in rows)
    ends = [recipes.resolve(name) for name in (first, last)]
    for row, end in ((rows[0], ends[0]), (rows[-1], ends[1])):
        setup = recipes.setup_of(study, row, {})
        assert setup.settings["task"] == end.settings["task"]
        assert (
            setup.settings["trainer"]["optimizer_config"]
            == end.settings["trainer"]["optimizer_config"]
        )


def test_groups_and_their_micro_batch_are_one_hyperparameter():
    """A group that is no micro-batch, or not clipped, cannot be run."""
    found = ablation.between_recipes(
        "bert_large/original/phase1",
        "bert_large/adam_32k/phase1",
        params_override="trainer.train_steps=9,"
        "task.train_data.global_batch_size=256",
    )
    (change,) = (x for x in found.changes if x.path[-1] == "group_size")
    assert (change.before, change.after) == (8, 0)
    assert change.put == {
        ("task", "group_size"): 0,
        ("task", "group_clip_norm"): 0.0,
        ("trainer", "micro_batch_size"): 32,
    }


def test_a_size_of_micro_batches_alone_is_none():
    change = ablation.Change(ablation.GROUPS[2], 8, 16, {})
    assert ablation.grouped([change]) == []


@pytest.fixture(scope="module")
def finished(table4, tmp_path_factory):
    """The folder of a finished study of table 4."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "study.yaml").write_text(yaml.safe_dump(table4.plan))
    (folder / "summary.json").write_text(json.dumps(table4.summary))
    return folder


def test_between_two_rows_of_a_study(finished, table4):
    found = ablation.between_rows(finished, "nesterov", "lars_momentum")
    best = [table4.row(x).best for x in ("nesterov", "lars_momentum")]
    assert [found.names[change.path] for change in found.changes] == [
        *("optimizer", "momentum", "learning_rate")
    ]
    rates = [values["learning_rate"] for values in best]
    assert [found.changes[2].before, found.changes[2].after] == rates
    study = found.study(4, 0, None)
    assert study["workload"] == table4.plan["workload"]
    assert study["steps"] == table4.plan["steps"]
    rows = {row["name"]: row for row in study["table"]["rows"]}
    assert list(rows) == [
        *("nesterov", "with optimizer", "with momentum", "with learning_rate"),
        *("up to momentum", "lars_momentum"),
    ]
    assert rows["with optimizer"]["optimizer"] == {
        "class": "LARS",
        "momentum": 0.98,
        **best[0],
    }
    assert rows["up to momentum"]["optimizer"] == {
        "class": "LARS",
        "momentum": 0.929,
        **best[0],
    }
    assert rows["with optimizer"]["bias_bn_optimizer"] == "Momentum"
    assert rows["with momentum"]["bias_bn_optimizer"] == "Nesterov"


NAMES = [row["name"] for row in configs.load("tables", "table4")["rows"]]
# From every optimizer to every other one.
TWO = [
    (first, last)
    for number, first in enumerate(NAMES)
    for last in NAMES[1 - number % 2 :: 2]
]


@pytest.mark.parametrize("first, last", TWO)
def test_the_ends_do_the_runs_that_the_study_did(first, last, finished, table4):
    """With the same options, so that they are the same program."""
    found = ablation.between_rows(finished, first, last)
    study = found.study(5, 0, None)
    rows = study["table"]["rows"]
    known = {row["name"]: row for row in table4.plan["table"]["rows"]}
    for row, name in ((rows[0], first), (rows[-1], last)):
        runs = protocol.seed_runs(study, row, {})
        wanted = protocol.seed_runs(
            table4.plan, known[name], table4.row(name).best
        )
        assert runs == wanted
        options = table_rows.optimizer_options(known[name])
        assert table_rows.optimizer_options(row) == options
    for row in rows:
        kind = getattr(keras, row["optimizer"]["class"])
        numbers = table_rows.fixed_hyperparameters(row)
        own = {name: numbers[name] for name in numbers.keys() - row["settings"]}
        kind(**own, **table_rows.optimizer_options(row))


def test_the_rows_of_an_ablation_have_names_of_their_own(finished, tmp_path):
    """Also where its ends are rows of another one."""
    study = ablation.between_rows(finished, "nesterov", "lars").study(
        1, 0, None
    )
    rows = [
        {"name": row["name"], "seeds": 1, "best": {}}
        for row in study["table"]["rows"]
    ]
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    (tmp_path / "summary.json").write_text(json.dumps({"rows": rows}))
    found = ablation.between_rows(
        tmp_path, "with optimizer", "with learning_rate"
    )
    names = [name for name, _, _ in found.settings()]
    assert len({*names}) == len(names) > 2
    assert "with optimizer (new)" in names


def test_a_schedule_brings_the_numbers_that_it_alone_has():
    cosine = {"schedule": "cosine", "warmup_fraction": 0.0}
    other = {"decay": 0.3, "schedule": "trapezoid", "warmup_fraction": 0.1}
    a, b = (ablation.flat({"settings": x}) for x in (cosine, other))
    for one, two, wanted in ((a, b, other), (b, a, cosine)):
        found = ablation.with_schedule(ablation.changes(one, two), one, two)
        assert [change.path[-1] for change in found] == [
            *("schedule", "warmup_fraction")
        ]
        with_it = ablation.nested(found[0].made(one))["settings"]
        assert with_it.keys() == wanted.keys()
        assert with_it["schedule"] == wanted["schedule"]


def test_tuned_settings_differ_too(table2, tmp_path):
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(table2.plan))
    (tmp_path / "summary.json").write_text(json.dumps(table2.summary))
    found = ablation.between_rows(tmp_path, "lars_power_1", "lars_power_2")
    # They have the same tuned values: the one takes over the other's.
    assert found.listed().splitlines()[1:] == [
        "warmup_power    1             2"
    ]
    names = [name for name, _, _ in found.settings()]
    assert names == ["lars_power_1", "lars_power_2"]


def test_what_the_other_row_alone_says_is_the_default(finished):
    found = ablation.between_rows(finished, "lars_momentum", "lars")
    layers, decay, *_ = found.changes
    assert layers.path[-1] == "exclude_from_layer_adaptation"
    assert (layers.before, layers.after) == ("bias_and_norm", [])
    rows = found.study(1, 0, None)["table"]["rows"]
    assert "exclude_from_layer_adaptation" not in rows[0]["optimizer"]
    assert rows[1]["bias_bn_optimizer"] == "LARS"
    assert rows[2]["bias_bn_optimizer"] == "Momentum"
    assert decay.path[-1] == "exclude_from_weight_decay"


def test_another_target(finished):
    found = ablation.between_rows(finished, "nesterov", "lars")
    assert found.study(1, 0, 0.5)["workload"]["target"] == 0.5


def test_rows_of_a_study_of_recipes(tmp_path):
    """At their tuned values."""
    names = [
        "resnet50/table4/nesterov",
        "resnet50/table4/lars",
    ]
    study = recipes.create(names, trials=1, seeds=1)
    best = [
        {"learning_rate": 2.5, "weight_decay": 1e-4},
        {"learning_rate": 9.5, "weight_decay": 1e-4},
    ]
    rows = [
        {"name": name, "seeds": 1, "best": values}
        for name, values in zip(names, best)
    ]
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    (tmp_path / "summary.json").write_text(json.dumps({"rows": rows}))
    found = ablation.between_rows(tmp_path, *names)
    by_name = {found.names[change.path]: change for change in found.changes}
    assert by_name["learning_rate"].before == 2.5
    assert by_name["learning_rate"].after == 9.5
    assert "weight_decay" not in by_name
    study = found.study(1, 0, None)
    assert study["table"]["rows"][0]["name"] == "nesterov"


MISTAKES = [
    ((BERT, BERT), "--from and --to are both 'bert_tiny/adam_32k/phase1'"),
    ((NESTEROV, "resnet50/lars_33k"), "did you mean resnet50/lars_32k?"),
    ((NESTEROV, "resnet50/table4/lars"), "trainer.train_steps is 2512 in"),
    ((NESTEROV, BERT), "the experiment is largebatch/resnet50_imagenet in"),
    (
        ("bert_large/adam_32k/phase1", "bert_large/adam_65k/phase1"),
        "trainer.train_steps is 14063 in bert_large/adam_32k/phase1 and 7037",
    ),
]


@pytest.mark.parametrize("names, words", MISTAKES)
def test_recipes_between_which_there_is_no_way(names, words):
    with pytest.raises(UserError) as caught:
        ablation.between_recipes(*names)
    assert words in str(caught.value)


def test_recipes_that_differ_otherwise():
    one = recipes.resolve(BERT)
    change = "task.train_data.shuffle_buffer_size=5"
    other = recipes.resolve("bert_tiny/lamb_32k/phase1", (), change)
    words = "task.train_data.shuffle_buffer_size is 16384 in bert_tiny/adam"
    with pytest.raises(UserError, match=words):
        ablation.between_setups(one, other)


def test_recipes_that_do_not_differ():
    free = (
        "trainer.validation_interval=9,trainer.micro_batch_size=8,task.seed=3"
    )
    ends = [recipes.resolve(BERT), recipes.resolve(BERT, (), free)]
    with pytest.raises(UserError, match="differ in no hyperparameter"):
        ablation.between_setups(*ends)


def unfinished(folder):
    """Lacks a run with a fresh seed."""
    summary = json.loads((folder / "summary.json").read_text())
    summary["rows"][2]["seeds"] = 4
    (folder / "summary.json").write_text(json.dumps(summary))


def never_run(folder):
    (folder / "summary.json").unlink()


def ones_own(folder):
    """Is of a model that no command can build."""
    study = yaml.safe_load((folder / "study.yaml").read_text())
    study["workload"]["python"] = True
    (folder / "study.yaml").write_text(yaml.safe_dump(study))


def of_later(folder):
    text = (folder / "study.yaml").read_text()
    (folder / "study.yaml").write_text(text.replace("format: 1", "format: 2"))


@pytest.mark.parametrize(
    "damage, names, words",
    [
        (
            unfinished,
            ("lars", "nesterov"),
            "not finished: lars has 4 of 5 runs",
        ),
        (never_run, ("lars", "nesterov"), "nesterov has 0 of 5 runs; tf-large"),
        (ones_own, ("lars", "nesterov"), "is of a model of your own"),
        (of_later, ("lars", "nesterov"), "of a newer version"),
        (str, ("lars", "nestrov"), "no row 'nestrov'; did you mean nesterov?"),
        (str, ("lars", "lars"), "--from and --to are both 'lars'"),
    ],
)
def test_a_study_that_has_no_way(damage, names, words, finished, tmp_path):
    folder = shutil.copytree(finished, tmp_path / "study")
    damage(folder)
    with pytest.raises(UserError) as caught:
        ablation.between_rows(folder, *names)
    assert words in str(caught.value)


def test_rows_that_do_not_differ(finished, tmp_path):
    """But in their names."""
    folder = shutil.copytree(finished, tmp_path / "study")
    study = yaml.safe_load((folder / "study.yaml").read_text())
    summary = json.loads((folder / "summary.json").read_text())
    for rows in (study["table"]["rows"], summary["rows"]):
        rows.append({**rows[0], "name": "again"})
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    (folder / "summary.json").write_text(json.dumps(summary))
    with pytest.raises(UserError, match="differ in no hyperparameter"):
        ablation.between_rows(folder, "nesterov", "again")


def test_a_folder_that_holds_no_study(tmp_path):
    with pytest.raises(UserError, match="holds no study; check --tuned"):
        ablation.between_rows(tmp_path, "a", "b")
