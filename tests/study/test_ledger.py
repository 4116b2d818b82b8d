"""The ledger: every run is somebody's once, and nothing finished is lost."""

import contextlib
import copy
import json
import resource
import runpy
import warnings
from pathlib import Path

import matplotlib
import optuna
import pytest
import sqlalchemy
from matplotlib import pyplot
from optuna.trial import TrialState

from tf_largebatch.errors import UserError
from tf_largebatch.study import ledger as ledgers
from tf_largebatch.study import protocol, runner, spaces, storage
from tf_largebatch.study.ledger import Ledger

SCRIPT = runpy.run_path(str(Path(__file__).with_name("fake_worker.py")))
FakeTrainer, fake = SCRIPT["FakeTrainer"], SCRIPT["fake"]


def create(table="table2", workload="digits_resnet", **changes):
    sizes = {"trials": 3, "seeds": 2, "steps": 12, **changes}
    return protocol.create(table, workload, **sizes)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """The disk has it when the machine fails, which no test shows."""

    def begin_nothing(connection, record):
        begin(connection, record)
        connection.execute("PRAGMA synchronous = OFF")

    begin = storage.begin_nothing
    monkeypatch.setattr(storage, "begin_nothing", begin_nothing)


@pytest.fixture
def url(tmp_path):
    return storage.file(tmp_path / "study.db")


@pytest.fixture
def ledger(url):
    """Table 2: two rows are tuned, and two take over their values."""
    with contextlib.closing(Ledger(url, create())) as opened:
        yield opened


@pytest.fixture
def other(url, ledger):
    """Another worker's ledger of the same study."""
    with contextlib.closing(Ledger(url, create())) as opened:
        yield opened


def measured(claim, **changes):
    """Returns what a claimed run might have measured."""
    made = FakeTrainer({"steps": 12}).run(
        claim.row, claim.run, lambda step, value: False
    )
    return {**made, **changes}


def finish_all(ledger, kind="seed"):
    """Finishes all runs, or all tuning runs; returns them in this order."""
    done = []
    while (claim := ledger.claim()) is not None:
        if kind == "tune" and claim.run.kind == "seed":
            ledger.release(claim)
            break
        assert ledger.finish(claim, measured(claim))
        done.append(claim.run.key)
    return done


def claim_all(*workers):
    """Returns all claims of workers that claim in turn, none finished."""
    claims = []
    while found := [x for x in (each.claim() for each in workers) if x]:
        claims += found
    return claims


def keys(lines):
    return [(line["row"], line["kind"], line["index"]) for line in lines]


def silence(ledger, seconds=61):
    """Makes all heartbeats older."""
    past = f"datetime(heartbeat, '-{seconds} seconds')"
    with ledger.storage.engine.begin() as connection:
        connection.execute(
            sqlalchemy.text(f"UPDATE trial_heartbeats SET heartbeat = {past}")
        )


def states(ledger, key):
    return [state.name for each, state in ledger.states() if each == key]


def test_a_new_study_has_every_run_waiting(ledger):
    assert (ledger.total, ledger.done, ledger.lines) == (14, 0, [])
    expected = [
        run.key
        for row in ledger.study["table"]["rows"]
        for run in protocol.tuning_runs(ledger.study, row)
    ] + [
        run.key
        for row in ledger.study["table"]["rows"]
        for run in protocol.seed_runs(ledger.study, row, {})
    ]
    assert [key for key, _ in ledger.states()] == expected
    assert {state for _, state in ledger.states()} == {TrialState.WAITING}


def test_the_trials_are_the_quasi_random_points(ledger):
    row = ledger.rows["lars_power_1"]
    trials = ledger.tuning["lars_power_1"].trials.get_trials()
    points = spaces.points(spaces.parse(row["space"]), 3, seed=0)
    assert [trial.params for trial in trials] == points
    assert [trial.number for trial in trials] == [0, 1, 2]
    rate = trials[0].distributions["learning_rate"]
    assert (rate.low, rate.high, rate.log) == (0.3, 30.0, True)
    assert not trials[0].distributions["momentum"].log


@pytest.mark.parametrize(
    "entry, expected",
    [
        (
            {"scale": "integer", "low": 1, "high": 9},
            optuna.distributions.IntDistribution(1, 9),
        ),
        (
            {"scale": "choice", "values": ["a", "b"]},
            optuna.distributions.CategoricalDistribution(["a", "b"]),
        ),
        (
            {"scale": "linear", "low": 0, "high": 2},
            optuna.distributions.FloatDistribution(0, 2),
        ),
    ],
)
def test_every_scale_has_its_distribution(entry, expected):
    (axis,) = spaces.parse({"x": entry})
    assert ledgers.distribution(axis) == expected


def test_a_claimed_run_is_the_protocols(ledger):
    claim = ledger.claim()
    row = ledger.study["table"]["rows"][0]
    assert claim.run == protocol.tuning_runs(ledger.study, row)[0]
    assert claim.row == row


def test_no_run_is_claimed_twice(ledger, other):
    """Tuning alone: no row is tuned yet."""
    claims = claim_all(ledger, other)
    found = [claim.run.key for claim in claims]
    assert len(found) == len(set(found)) == 6
    assert {claim.run.kind for claim in claims} == {"tune"}


def test_a_trial_that_another_claimed_meanwhile_is_left_alone(ledger, other):
    """Both have seen it waiting."""
    queue, its = (x.tuning["lars_power_1"] for x in (ledger, other))
    (seen, *_), (same, *_) = (
        each.of(TrialState.WAITING) for each in (queue, its)
    )
    assert queue.take(seen) and not its.take(same)
    assert states(ledger, queue.key(seen)) == ["RUNNING"]


def test_seeds_begin_row_by_row_when_tuning_is_finished(ledger):
    tuning = claim_all(ledger)
    first = [claim for claim in tuning if claim.run.row == "lars_power_1"]
    for claim in first[1:]:
        ledger.finish(claim, measured(claim))
        assert ledger.claim() is None
    ledger.finish(first[0], measured(first[0]))
    seeds = [claim.run for claim in claim_all(ledger)]
    rows = ["lars_power_1"] * 2 + ["lars_power_2"] * 2
    assert [run.row for run in seeds] == rows
    assert {run.kind for run in seeds} == {"seed"}


def test_seeds_have_the_best_point_of_the_row_they_are_tuned_as(ledger):
    finish_all(ledger, "tune")
    lines = [x for x in ledger.lines if x["row"] == "nesterov_power_2"]
    best = max(lines, key=lambda line: line["validation"])
    claims = {c.run.row: c.run.hyperparameters for c in claim_all(ledger)}
    for row in ("nesterov_power_2", "nesterov_power_1"):
        for name in ("learning_rate", "momentum", "weight_decay"):
            assert claims[row][name] == best["hyperparameters"][name]


def test_a_row_that_is_fixed_needs_no_tuning_to_begin(url, ledger):
    study = copy.deepcopy(ledger.study) | {"name": "with a fixed row"}
    study["table"]["rows"][0] |= {"space": {}}
    study["table"]["rows"][0]["optimizer"]["learning_rate"] = 0.5
    del study["table"]["rows"][1:]
    fixed = Ledger(url, study)
    claims = claim_all(fixed)
    assert [claim.run.kind for claim in claims] == ["seed"] * study["seeds"]
    rates = {claim.run.hyperparameters["learning_rate"] for claim in claims}
    assert rates == {0.5}
    fixed.close()


def test_lines_are_in_order_however_they_were_finished(ledger, url):
    claims = claim_all(ledger)
    for claim in reversed(claims):
        ledger.finish(claim, measured(claim))
    assert keys(ledger.lines) == [claim.run.key for claim in claims]
    finish_all(ledger)
    with contextlib.closing(Ledger(url, create())) as again:
        assert again.is_finished()
        assert (again.done, again.claim()) == (14, None)
        text = [json.dumps(line) for line in again.lines]
        assert text == [json.dumps(line) for line in ledger.lines]


def test_a_finished_run_shows_its_metric_in_optuna(ledger):
    finish_all(ledger)
    for queue, split in (
        (ledger.tuning["lars_power_1"], "validation"),
        (ledger.repeats, "test"),
    ):
        trials = queue.trials.get_trials(states=(TrialState.COMPLETE,))
        lines = {trial.value: trial.user_attrs["line"] for trial in trials}
        assert all(value == line[split] for value, line in lines.items())
        assert queue.trials.metric_names == [f"{split} accuracy"]
        assert queue.trials.direction.name == "MAXIMIZE"


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
@pytest.mark.parametrize("direction, worst", [("max", "-inf"), ("min", "inf")])
def test_what_is_no_number_is_the_worst(ledger, value, direction, worst):
    queue = ledger.repeats
    queue.metric = {"direction": direction}
    assert queue.value({"test": value}) == float(worst)


def test_a_figure_that_json_does_not_have_is_refused(ledger):
    claim = ledger.claim()
    with pytest.raises(ValueError):
        ledger.finish(claim, measured(claim, test=float("nan")))
    assert ledger.lines == []


def test_a_run_given_back_is_anybodys(ledger, other):
    claim = ledger.claim()
    ledger.release(claim)
    assert other.claim().run == claim.run


def test_a_run_finished_is_not_given_back(ledger):
    """As when Ctrl-C comes right after its line is written."""
    claim = ledger.claim()
    ledger.finish(claim, measured(claim))
    ledger.release(claim)
    assert states(ledger, claim.run.key) == ["COMPLETE"]


def test_what_a_dead_worker_left_is_taken_over_once(ledger, other):
    dead = other.claim()
    assert not ledger.rescue()
    silence(ledger)
    assert ledger.rescue()
    assert not ledger.rescue() and not other.rescue()
    assert states(ledger, dead.run.key) == ["FAIL", "WAITING"]
    runs = [claim.run for claim in claim_all(ledger, other)]
    assert len(runs) == 6
    assert runs.count(dead.run) == 1


def test_a_heartbeat_keeps_a_run(ledger, other):
    claim = other.claim()
    silence(ledger)
    other.beat(claim)
    assert not ledger.rescue()
    assert other.finish(claim, measured(claim))


def test_a_heartbeat_may_be_almost_a_minute_old(ledger, other):
    other.claim()
    silence(ledger, ledgers.HEARTBEAT * ledgers.MISSING - 5)
    assert not ledger.rescue()


def test_the_heartbeat_is_the_studys(url):
    with contextlib.closing(Ledger(url, create() | {"heartbeat": 2})) as ledger:
        assert ledger.heartbeat == 2
        ledger.claim()
        silence(ledger, 7)
        assert not ledger.rescue()
        silence(ledger, 2)
        assert ledger.rescue()


def test_what_comes_after_a_run_was_taken_over_is_refused(ledger, other):
    """The worker was not dead but asleep, such as a closed laptop."""
    slow = other.claim()
    silence(ledger)
    ledger.rescue()
    quick = [x for x in claim_all(ledger) if x.run.key == slow.run.key]
    assert not other.finish(slow, measured(slow, test=0.25))
    other.release(slow)
    assert ledger.finish(quick[0], measured(quick[0], test=0.75))
    assert [line["test"] for line in ledger.lines] == [0.75]
    assert states(ledger, slow.run.key) == ["FAIL", "COMPLETE"]


def test_a_run_that_was_taken_over_is_not_worth_going_on(ledger, other):
    slow = other.claim()
    assert not other.is_hopeless(slow, 1, 0.5)
    silence(ledger)
    ledger.rescue()
    assert other.is_hopeless(slow, 2, 0.5)


def test_there_is_a_heartbeat_before_a_trial_is_running(ledger, monkeypatch):
    """Or a worker that died in between would be waited for forever."""

    def change(trial_id, state, values):
        with ledger.storage.engine.connect() as connection:
            beats = "SELECT trial_id FROM trial_heartbeats"
            assert connection.execute(sqlalchemy.text(beats)).all() == [
                (trial_id,)
            ]
        return set_state(trial_id, state, values)

    set_state = ledger.storage.set_trial_state_values
    monkeypatch.setattr(ledger.storage, "set_trial_state_values", change)
    assert ledger.claim() is not None


def test_of_two_trials_of_a_run_the_first_counts(ledger, other):
    """As when two workers have taken a run over at the same time."""
    queue = ledger.tuning["nesterov_power_2"]
    again = ("nesterov_power_2", "tune", 1)
    queue.trials.add_trial(queue.expected[again])
    runs = [claim.run.key for claim in claim_all(ledger, other)]
    assert runs.count(again) == 1
    assert sorted(states(ledger, again)) == ["FAIL", "RUNNING"]


def test_a_run_is_done_though_another_trial_of_it_waits(ledger):
    queue = ledger.tuning["nesterov_power_2"]
    claim = ledger.claim()
    queue.trials.add_trial(queue.expected[claim.run.key])
    ledger.finish(claim, measured(claim))
    assert keys(ledger.lines) == [claim.run.key]


def test_the_second_of_two_trials_counts_when_the_first_has_failed(ledger):
    queue = ledger.tuning["nesterov_power_2"]
    first = ledger.claim()
    queue.trials.add_trial(queue.expected[first.run.key])
    silence(ledger)
    ledger.rescue()
    found = [c for c in claim_all(ledger) if c.run.key == first.run.key]
    assert [claim.trial.number for claim in found] == [3]


def test_a_start_that_was_cut_short_is_completed(url, monkeypatch):
    add, left = ledgers.optuna.Study.add_trial, [4]

    def cut_short(study, trial):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        add(study, trial)

    monkeypatch.setattr(ledgers.optuna.Study, "add_trial", cut_short)
    with pytest.raises(KeyboardInterrupt):
        Ledger(url, create())
    monkeypatch.undo()
    with contextlib.closing(Ledger(url, create())) as ledger:
        assert len(finish_all(ledger)) == 14


def test_a_worker_does_all_that_is_left(ledger):
    events = list(runner.execute(ledger, fake, wait=0))
    begun = [event.key for event in events[::2]]
    assert begun == keys(events[1::2]) == keys(ledger.lines)
    assert list(runner.execute(ledger, None)) == []


def test_a_worker_that_is_stopped_gives_its_run_back(ledger):
    events = runner.execute(ledger, fake, wait=0)
    run = next(events)
    assert states(ledger, run.key) == ["RUNNING"]
    events.close()
    assert states(ledger, run.key) == ["WAITING"]


def test_a_worker_waits_for_others_and_takes_over(ledger, other):
    dead = other.claim()
    events = []
    for event in runner.execute(ledger, fake, wait=0):
        events.append(event)
        if event is None:
            silence(ledger)
    assert events.count(None) == 1
    assert ledger.is_finished()
    assert keys(ledger.lines).count(dead.run.key) == 1


def test_a_worker_beats_while_it_trains(ledger, monkeypatch):
    """Whatever the training does, which here waits for a second beat."""

    class Patient(FakeTrainer):
        def run(self, *arguments):
            for _ in range(2):
                assert beats.acquire(timeout=60)
            return super().run(*arguments)

    beats = runner.threading.Semaphore(0)
    ledger.heartbeat = 0.01
    beat = ledger.beat
    monkeypatch.setattr(
        ledger, "beat", lambda claim: (beat(claim), beats.release())
    )
    events = runner.execute(ledger, lambda study: Patient(study).run)
    next(events), next(events)
    events.close()
    assert ledger.done == 1


def test_the_pruner_stops_hopeless_trials_and_they_count(url):
    study = create("table4", trials=16, rows=["nesterov"]) | {
        "pruner": "median"
    }
    with contextlib.closing(Ledger(url, study)) as ledger:
        for _ in runner.execute(ledger, fake, wait=0):
            pass
        lines = [line for line in ledger.lines if line["kind"] == "tune"]
        assert len(lines) == 16
        pruned = [line for line in lines if line["pruned"]]
        assert 0 < len(pruned) < 11  # Never of the first five.
        assert {line["steps"] for line in pruned} == {4}
        whole = [line for line in lines if line not in pruned]
        assert {line["steps"] for line in whole} == {12}
        names = [state.name for key, state in ledger.states()]
        assert names.count("PRUNED") == len(pruned)
        assert not any("pruned" in x for x in ledger.lines[16:])
        best = max(whole, key=lambda line: line["validation"])
        rate = ledger.lines[16]["hyperparameters"]["learning_rate"]
        assert rate == best["hyperparameters"]["learning_rate"]


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"steps": 24}, "steps 12, not 24"),
        ({"seed": 1}, "seed 0, not 1"),
        ({"pruner": "median"}, "pruner None, not median"),
        (
            {"workload": {**create()["workload"], "target": 0.5}},
            "target 0.97, not 0.5",
        ),
    ],
)
def test_another_study_of_the_same_name_is_refused(url, ledger, changes, words):
    before = ledger.states()
    with pytest.raises(UserError) as caught:
        Ledger(url, {**create(), **changes})
    message = str(caught.value)
    assert "\n" not in message
    assert "holds another study called 'table2_digits_resnet'" in message
    assert words in message and "--name" in message
    assert ledger.states() == before


def test_a_storage_has_studies_side_by_side(url, ledger):
    more = {**create(trials=1), "name": "second"}
    with contextlib.closing(Ledger(url, more)) as second:
        finish_all(second)
        assert (second.total, second.done, ledger.done) == (10, 10, 0)


def test_a_study_is_opened_by_its_name(url, ledger):
    finish_all(ledger)
    with contextlib.closing(Ledger.open(url, ledger.study["name"])) as again:
        assert again.study == ledger.study
        assert again.lines == ledger.lines


def test_a_name_that_the_storage_has_not(url, ledger):
    with pytest.raises(UserError, match="did you mean table2_digits_resnet"):
        Ledger.open(url, "table2_digit")


def test_a_study_of_somebody_elses(url, ledger):
    optuna.create_study(storage=ledger.storage, study_name="theirs")
    with pytest.raises(UserError, match="'theirs' in .* is no study of this"):
        Ledger.open(url, "theirs")
    theirs = optuna.load_study(storage=ledger.storage, study_name="theirs")
    theirs.enqueue_trial({"x": 1.0})
    with pytest.raises(UserError, match="'theirs' in .* is no study of this"):
        Ledger(url, {**create(), "name": "theirs"})
    assert len(theirs.trials) == 1 and theirs.user_attrs == {}


def test_a_study_of_another_version(url, ledger):
    study = ledger.repeats.trials
    for number, age in ((2, "a newer version"), (0, "an earlier version")):
        study.set_user_attr("protocol", {**ledger.study, "format": number})
        with pytest.raises(UserError, match=f"{age}.*format {number}"):
            Ledger.open(url, ledger.study["name"])
        with pytest.raises(UserError, match=age):
            Ledger(url, create())


@contextlib.contextmanager
def full_disk(size):
    """Lets no file grow beyond ``size`` bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def test_a_full_disk_costs_the_run_but_not_the_study(ledger, tmp_path):
    claim = ledger.claim()
    ledger.finish(claim, measured(claim))
    done, claim = ledger.lines, ledger.claim()
    long = measured(claim, curve=[0.1] * 100_000)
    with full_disk((tmp_path / "study.db").stat().st_size):
        with pytest.raises(UserError) as caught:
            ledger.finish(claim, long)
    assert "\n" not in str(caught.value)
    assert "make room" in str(caught.value)
    assert ledger.lines == done
    assert ledger.finish(claim, long)
    assert len(ledger.lines) == 2


@pytest.fixture
def own_style():
    """Optuna changes the style for good, and leaves figures open."""
    before = pyplot.get_fignums()
    with matplotlib.rc_context():
        yield
    for number in set(pyplot.get_fignums()) - set(before):
        pyplot.close(number)


def test_optunas_plots_show_it(ledger, own_style):
    from optuna.visualization import matplotlib as plots

    finish_all(ledger)
    tuning = ledger.tuning["lars_power_1"].trials
    with warnings.catch_warnings(action="ignore"):
        history = plots.plot_optimization_history(tuning)
        slices = plots.plot_slice(ledger.repeats.trials)
    values = [trial.value for trial in tuning.trials]
    assert history.collections[0].get_offsets()[:, 1].tolist() == values
    assert slices.get_xlabel() == "row"
    rates = optuna.importance.get_param_importances(tuning)
    assert set(rates) == set(ledger.rows["lars_power_1"]["space"])


def test_optuna_dashboard_shows_it(ledger):
    dashboard = pytest.importorskip("optuna_dashboard")
    finish_all(ledger)
    app = dashboard.wsgi(ledger.storage)
    studies = get(app, "/api/studies")["study_summaries"]
    names = {study["study_name"]: study["study_id"] for study in studies}
    name = ledger.study["name"]
    assert set(names) == {
        *(name, f"{name}/lars_power_1", f"{name}/nesterov_power_2")
    }
    found = get(app, f"/api/studies/{names[name]}")
    assert [trial["state"] for trial in found["trials"]] == ["Complete"] * 8


def get(app, path):
    """Returns what a WSGI application answers, which is JSON."""
    from wsgiref.util import setup_testing_defaults

    environment = {"PATH_INFO": path}
    setup_testing_defaults(environment)
    status = []
    body = b"".join(app(environment, lambda text, *_: status.append(text)))
    assert status == ["200 OK"]
    return json.loads(body)
