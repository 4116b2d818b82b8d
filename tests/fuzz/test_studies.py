"""Search spaces, protocols and rows of studies that nobody would write."""

import copy

import pytest
from hypothesis import strategies as st

from tf_largebatch import configs
from tf_largebatch.errors import UserError
from tf_largebatch.study import ledger, own_model, protocol, spaces

SPACES = {
    "digits_resnet/table4": [
        *("study", "create", "--table=table4", "--rows=nesterov,lars"),
        *("--trials=2", "--seeds=2", "--out=new", "--space=mine/space.yaml"),
    ],
    "resnet50/nesterov_a_32k": [
        *("study", "create", "--recipe=resnet50/nesterov_a_32k"),
        *("--trials=2", "--seeds=2", "--out=new", "--space=mine/space.yaml"),
    ],
    "bert_large/phase1": [
        *("study", "create", "--recipe=bert_tiny/adam_32k/phase1"),
        *("--trials=2", "--seeds=2", "--out=new", "--space=mine/space.yaml"),
        "--target=1",
    ],
}


@pytest.mark.sizes(8, 200)
def test_a_search_space(fuzz, mutations, stops, count):
    drawn = st.sampled_from(sorted(SPACES)).flatmap(
        lambda name: st.tuples(
            st.just(SPACES[name]),
            mutations.yaml_texts(
                configs.read(configs.root() / f"spaces/{name}.yaml")
            ),
        )
    )

    def check(case):
        command, text = case
        return fuzz.command(command, {"mine/space.yaml": text})

    fuzz.all(drawn, count, check)


@pytest.fixture(scope="module")
def protocols():
    """Protocols of both kinds, as study.yaml has them."""
    from tf_largebatch.study import recipes

    table = protocol.create(
        "table2", rows=["lars_power_1", "lars_power_2"], trials=2, seeds=2
    )
    several = protocol.create("bert", rows=["adam", "lamb"], trials=1, seeds=1)
    of_recipes = recipes.create(["resnet50/nesterov_a_32k"], trials=1, seeds=1)
    found = [table, {**several, "pruner": "median", "tuning_seeds": 2}]
    return [ledger.as_json_has_it(each) for each in (*found, of_recipes)]


@pytest.mark.sizes(10, 300)
def test_a_protocol(fuzz, mutations, stops, protocols, count):
    texts = st.sampled_from(protocols).flatmap(mutations.yaml_texts)
    commands = st.sampled_from(
        [
            ["study", "create", "--protocol=mine/study.yaml", "--out=new"],
            ["study", "run", "--out=mine"],
            ["study", "status", "--out=mine"],
            ["study", "report", "--out=mine"],
            [
                *("study", "ablate", "--from=lars_power_1"),
                *("--to=lars_power_2", "--tuned=mine"),
            ],
            ["study", "create", "--table=table2", "--out=mine"],
        ]
    )

    def check(case):
        text, command = case
        files = {"mine/study.yaml": text, "mine/summary.json": "{}"}
        return fuzz.command(command, files)

    fuzz.all(st.tuples(texts, commands), count, check)


OWN = {
    "rows": [
        "Nesterov",
        {
            "name": "mine",
            "optimizer": {"class": "LARS", "momentum": 0.9, "clipnorm": 1.0},
            "settings": {"warmup_fraction": 0.1, "schedule": "cosine"},
            "space": {
                "learning_rate": {"scale": "log", "low": 0.1, "high": 10},
                "momentum": {"scale": "choice", "values": [0.8, 0.9]},
            },
        },
        {
            "name": "fixed",
            "optimizer": {"class": "Adam", "learning_rate": 1},
            "fixed": True,
        },
    ],
    "settings": {"schedule": "bert_polynomial", "decay_power": 1.0},
    "space": {
        "optimizers": {
            "Nesterov": {
                "learning_rate": {"scale": "log", "low": 0.1, "high": 1}
            }
        }
    },
    "sizes": {"steps": 12, "trials": 2, "seeds": 2},
    "metric": "accuracy",
    "direction": "max",
    "target": 0.9,
    "name": "my model",
    "seed": 0,
}


def planned(case):
    """Does all that study.compare does before there is a model."""
    sizes = case["sizes"]
    own_model.check_counts(
        {**sizes, "evaluations": 2}
        if isinstance(sizes, dict)
        else {"x": sizes},
        case["seed"],
    )
    config = {
        **own_model.workload_of(
            case["name"], case["metric"], case["direction"], case["target"]
        ),
        "batch": 8,
        "split_text": "",
        "evaluations": 2,
    }
    table = own_model.table_of(case["rows"], case["settings"])
    study = own_model.plan(
        config, table, case["space"], case["sizes"], case["seed"]
    )
    for row in ledger.as_json_has_it(study)["table"]["rows"]:
        if row["space"]:
            ledger.tuning_trials(study, row)
    ledger.seed_trials(study)


@pytest.mark.sizes(8, 300)
def test_rows_of_python(fuzz, mutations, count):
    parts = ["rows", "settings", "space", "metric", "direction", "target"]
    parts += ["name", "seed"]
    inner = {name: OWN[name] for name in parts}

    def check(case):
        # Which arguments there are is Python's to say.
        whole = {
            **copy.deepcopy(OWN),
            **{x: case[x] for x in parts if x in case},
        }
        try:
            planned(whole)
        except UserError as error:
            assert "\n" not in str(error)
            return True
        return False

    fuzz.all(mutations.trees(inner), count, check)


@pytest.mark.sizes(6, 200)
def test_points_of_a_space(fuzz, mutations, count):
    tree = {
        "rate": {"scale": "log", "low": 1e-3, "high": 1.0},
        "momentum": {"scale": "one_minus_log", "low": 0.5, "high": 0.9},
        "warmup": {"scale": "integer", "low": 9, "high": 90, "below": "steps"},
        "power": {"scale": "linear", "low": 1, "high": 2, "below": "warmup"},
        "kind": {"scale": "choice", "values": [1, "a", False]},
    }

    def check(case):
        try:
            found = spaces.points(spaces.parse(case), 2, 0, {"steps": 60})
        except UserError as error:
            assert "\n" not in str(error)
            return True
        assert len(found) == 2
        return False

    fuzz.all(mutations.trees(tree), count, check)
