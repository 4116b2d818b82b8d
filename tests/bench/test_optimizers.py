"""The optimizers' benchmark, run for real at its smallest size."""

import json

import pytest

from tf_largebatch.bench import optimizers, sizes
from tf_largebatch.errors import RunError


@pytest.fixture(scope="module")
def figures():
    """Of two of the optimizers, as each takes a process that is slow to start.

    One is of this project, one a peer; and of the loop.
    """
    with pytest.MonkeyPatch.context() as patch:
        two = [
            each
            for each in optimizers.CONTESTANTS
            if each.name
            in ("tf_largebatch.keras.LAMB, graph", "optax.lamb, jax")
            or (each.algorithm == "LAMB" and each.name == optimizers.LOOP)
        ]
        patch.setattr(optimizers, "CONTESTANTS", two)
        return optimizers.measure(2, ["small"], ["LAMB"])


def test_an_optimizer_takes_steps(figures):
    assert len(figures["rows"]) == 3
    assert_measured(figures)
    loop, *others = figures["rows"]
    assert loop["times_loop"] == 1
    for row in others:
        times = row["seconds"]["median"] / loop["seconds"]["median"]
        assert row["times_loop"] == pytest.approx(times)


@pytest.mark.slow
def test_every_optimizer_takes_steps():
    figures = optimizers.measure(2, ["small"], ["LAMB"])
    names = [row["name"] for row in figures["rows"]]
    assert names == [
        optimizers.LOOP,
        "tf_largebatch.tf_keras.LAMB, graph",
        "tf_largebatch.tf_keras.LAMB, XLA",
        "tf_largebatch.keras.LAMB, graph",
        "tf_largebatch.keras.LAMB, XLA",
        "tf_largebatch.keras.LAMB, jax",
        "keras.Lamb, graph",
        "keras.Lamb, XLA",
        "lamb.LAMB, graph",
        "lamb.LAMB, XLA",
        "optax.lamb, jax",
    ]
    assert_measured(figures)


def assert_measured(figures):
    """Every row has times, and its floor."""
    assert json.loads(json.dumps(figures)) == figures
    for row in figures["rows"]:
        seconds = row["seconds"]
        assert 0 < seconds["q1"] <= seconds["median"] <= seconds["q3"]
        assert row["first_call_seconds"] > seconds["q1"]
        assert row["ours"] == row["name"].startswith("tf_largebatch")
        # 8,576 parameters, of which 40 bytes each have to move.
        floor = 40 * 8576 / row["bandwidth"]
        assert row["floor_seconds"] == pytest.approx(floor)
        assert row["times_floor"] == pytest.approx(seconds["median"] / floor)


def test_the_table_and_the_bars_have_a_line_each(figures):
    lines = optimizers.table(figures).splitlines()
    assert lines[2].startswith("small, 0.0 M parameters, LAMB: floor 40 bytes")
    assert len(lines) == 4 + len(figures["rows"])
    bars = optimizers.bars(figures)
    assert [bar["label"] for bar in bars] == [
        row["name"] for row in figures["rows"]
    ]
    assert all(bar["low"] <= bar["value"] <= bar["high"] for bar in bars)


def test_what_fails_says_so():
    wrong = optimizers.Contestant("LAMB", "x", "optax", "optax.no_such", {})
    with pytest.raises(RunError, match="(?s)x, jax failed: .*no_such"):
        optimizers.Process(wrong, sizes.small(), optimizers.sys.executable)


def test_only_as_many_run_at_once_as_memory_holds(monkeypatch):
    contest = optimizers.Contest("bert_base", "LAMB", 1, None, None)
    waiting = [c for c in optimizers.CONTESTANTS if c.algorithm == "LAMB"]
    monkeypatch.setattr(optimizers, "free_memory", lambda: 1)
    assert contest.fitting(waiting) == waiting[:1]
    monkeypatch.setattr(optimizers, "free_memory", lambda: 10 << 40)
    assert contest.fitting(waiting) == waiting


def test_peers_of_another_environment_need_its_interpreter():
    addons = [c for c in optimizers.CONTESTANTS if "addons" in c.name]
    without = optimizers.Contest("small", "LAMB", 1, None, None)
    given = optimizers.Contest("small", "LAMB", 1, None, "a/python")
    assert {without.python(each) for each in addons} == {None}
    assert {given.python(each) for each in addons} == {"a/python"}


def test_the_sizes_are_those_of_the_models():
    resnet, bert = sizes.resnet50(), sizes.bert_base()
    assert (len(resnet), sizes.count(resnet)) == (161, 25_557_032)
    assert (len(bert), sizes.count(bert)) == (206, 110_106_428)
    assert sizes.count(sizes.small()) == 8576


def interrupted_at(algorithm):
    """Returns what stands in for a contest, with a row for each."""

    def run(contest):
        if contest.algorithm == algorithm:
            raise KeyboardInterrupt
        return [{"algorithm": contest.algorithm}]

    return run


def test_ctrl_c_keeps_what_was_measured(monkeypatch):
    run = interrupted_at("LARS")
    monkeypatch.setattr(optimizers.Contest, "run", run)
    found = optimizers.measure(1, ["small"])
    assert [row["algorithm"] for row in found["rows"]] == ["momentum", "Adam"]
    assert found["stopped"] == ["small, LARS", "small, LAMB"]
    with pytest.raises(KeyboardInterrupt):
        optimizers.measure(1, ["small"], ["LARS", "LAMB"])


def test_the_table_says_what_was_not_measured(figures):
    stopped = {**figures, "stopped": ["small, LARS"]}
    last = optimizers.table(stopped).splitlines()[-1]
    assert last == "Stopped before: small, LARS"
    assert "Stopped" not in optimizers.table(figures)
