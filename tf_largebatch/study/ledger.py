"""The ledger: all runs of a study, in a storage of Optuna's.

Every row that is tuned has an Optuna study called NAME/ROW, whose trials are
its tuning runs. The runs with fresh seeds of all rows are the trials of the
Optuna study called NAME, with the row as their parameter, so that Optuna's
slice plot of it compares the rows. What a finished run measured is its user
attribute ``line``.

All trials are there from the start, waiting. Any number of workers, each
with a ledger of its own on the same storage, claim and finish them:

- A worker gives a first heartbeat, then changes the trial from waiting to
  running, which the database lets one of them do. A trial that is running and
  has no fresh heartbeat was left behind; there is no moment between.
- A trial that was left behind is failed, which is final: should its worker
  wake up, what it brings is refused. A new trial of the same run is added.
- Workers may add one at the same time. Of a run's trials, the first that has
  not failed is the one that counts: its number is the lowest, and the
  database gives the numbers out one by one. A worker that finds it has
  claimed a later one fails that again and does something else.
"""

import functools
import json
import math
import pathlib
import warnings
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any, TypeVar

import optuna
from optuna import distributions
from optuna.exceptions import (
    DuplicatedStudyError,
    ExperimentalWarning,
    UpdateFinishedTrialError,
)
from optuna.storages import RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from tf_largebatch.errors import UserError, hint
from tf_largebatch.study import checking, protocol, spaces, table_rows
from tf_largebatch.study import storage as storages
from tf_largebatch.study.protocol import Run

Study = Mapping[str, Any]
Row = Mapping[str, Any]
Line = dict[str, Any]
Key = tuple[str, str, int]
Method = TypeVar("Method", bound=Callable[..., Any])

DONE = (TrialState.COMPLETE, TrialState.PRUNED)
# Seconds between two signs of life, and how many of them may be missing.
HEARTBEAT = 15
MISSING = 4


def reported(method: Method) -> Method:
    """Has a ledger's method end in one line when the database fails."""

    @functools.wraps(method)
    def wrapper(self: "Ledger", *arguments: Any, **more: Any) -> Any:
        with storages.reporting(self.url):
            return method(self, *arguments, **more)

    return wrapper  # type: ignore[return-value]


class Queue:
    """One Optuna study: runs that wait, are under way, or are finished.

    Args:
        storage: where it is or will be.
        name: of the Optuna study.
        kind: of its runs.
        expected: for each of its runs, in order, a trial that waits.
        study: the protocol.
    """

    def __init__(
        self,
        storage: RDBStorage,
        name: str,
        kind: str,
        expected: Mapping[Key, FrozenTrial],
        study: Study,
    ):
        self.storage, self.kind, self.expected = storage, kind, expected
        self.final: list[Line] | None = None
        self.metric = study["workload"]["metric"]
        settings: Any = {
            "storage": storage,
            "study_name": name,
            "pruner": pruner(study if kind == "tune" else {}),
        }
        split = "validation" if kind == "tune" else "test"
        direction = (
            StudyDirection.MINIMIZE
            if self.metric["direction"] == "min"
            else StudyDirection.MAXIMIZE
        )
        with quiet():
            try:
                self.trials = optuna.create_study(
                    direction=direction, **settings
                )
                self.trials.set_metric_names([f"{split} {self.metric['name']}"])
            except DuplicatedStudyError:
                self.trials = optuna.load_study(**settings)

    def key(self, trial: FrozenTrial) -> Key:
        """Returns the key of the run that a trial is of."""
        row = trial.params.get("row", self.row)
        return row, self.kind, trial.user_attrs.get("index", -1)

    @property
    def row(self) -> str:
        """The row, where all runs are of one."""
        return next(iter(self.expected))[0]

    def standing(self) -> dict[Key, list[FrozenTrial]]:
        """Returns, by run, its trials that have not failed, by number."""
        found: dict[Key, list[FrozenTrial]] = {key: [] for key in self.expected}
        for trial in self.trials.get_trials(deepcopy=False):
            if trial.state is not TrialState.FAIL:
                found.get(self.key(trial), []).append(trial)
        return found

    def lines(self) -> list[Line]:
        """Returns what the finished runs measured, in the runs' order.

        The storage is asked no more once all are.
        """
        if self.final is not None:
            return self.final
        lines = [
            trials[0].user_attrs["line"]
            for trials in self.standing().values()
            if trials and trials[0].state in DONE
        ]
        if len(lines) == len(self.expected):
            self.final = lines
        return lines

    def is_complete(self) -> bool:
        """Whether all runs are finished."""
        return len(self.lines()) == len(self.expected)

    def fill(self) -> int:
        """Adds a trial for every run that has none; returns how many."""
        missing = [key for key, found in self.standing().items() if not found]
        for key in missing:
            self.trials.add_trial(self.expected[key])
        return len(missing)

    def claim(self, rows: Container[str]) -> FrozenTrial | None:
        """Returns a trial that waited and is this worker's now, if any.

        Args:
            rows: of which rows it may be.
        """
        for trial in self.of(TrialState.WAITING):
            key = self.key(trial)
            if key in self.expected and key[0] in rows and self.take(trial):
                return trial
        return None

    def of(self, state: TrialState) -> list[FrozenTrial]:
        """Returns the trials in a state, by number."""
        return self.trials.get_trials(deepcopy=False, states=(state,))

    def take(self, trial: FrozenTrial) -> bool:
        """Makes a trial that waits this worker's; whether that went well."""
        self.storage.record_heartbeat(trial._trial_id)
        if not self.change(trial, TrialState.RUNNING):
            return False
        first = self.standing()[self.key(trial)][:1]
        if [found.number for found in first] == [trial.number]:
            return True
        self.change(trial, TrialState.FAIL)
        return False

    def change(
        self,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None = None,
    ) -> bool:
        """Changes a trial's state; False where another was faster."""
        try:
            return self.storage.set_trial_state_values(
                trial._trial_id, state, values
            )
        except UpdateFinishedTrialError:
            return False

    def finish(self, trial: FrozenTrial, line: Line) -> bool:
        """Writes what a run measured; False where that came too late."""
        state = DONE[bool(line.get("pruned"))]
        try:
            self.storage.set_trial_user_attr(trial._trial_id, "line", line)
        except UpdateFinishedTrialError:
            return False
        return self.change(trial, state, [self.value(line)])

    def value(self, line: Line) -> float:
        """Returns what Optuna shows of a run; infinity for no number."""
        value = line["validation" if self.kind == "tune" else "test"]
        if value is not None and math.isfinite(value):
            return value
        return math.inf if self.metric["direction"] == "min" else -math.inf

    def is_hopeless(
        self, claimed: FrozenTrial, step: int, value: float
    ) -> bool:
        """Reports a value on the way; whether the pruner would stop there.

        Also where another worker has taken the trial over.
        """
        number = claimed._trial_id
        try:
            self.storage.set_trial_intermediate_value(number, step, value)
        except UpdateFinishedTrialError:
            return True
        trial = self.storage.get_trial(number)
        return bool(self.trials.pruner.prune(self.trials, trial))

    def rescue(self) -> int:
        """Fails what was left behind and adds trials for it; how many."""
        with quiet():
            optuna.storages.fail_stale_trials(self.trials)
        return self.fill()


class Claim:
    """A run that a worker has to itself until it finishes or releases it.

    Attributes:
        row: the row, as the protocol has it.
        run: what is to be run.
    """

    def __init__(self, queue: Queue, trial: FrozenTrial, row: Row, run: Run):
        self.queue, self.trial = queue, trial
        self.row, self.run = row, run


class Ledger:
    """All runs of one study; see the module's docstring.

    Args:
        url: of the storage.
        study: the protocol, which the storage has or will have.

    Attributes:
        folder: of the study on this machine, where runs may keep checkpoints;
            None, as at first, means that they have no place to.

    Raises:
        UserError: the storage has a study of this name and another protocol,
            or cannot be used.
    """

    folder: pathlib.Path | None = None

    def __init__(self, url: storages.URL, study: Study):
        self.url = url
        self.study = as_json_has_it(study)
        self.storage = storages.connect(url)
        self.heartbeat: int = study.get("heartbeat", HEARTBEAT)
        self.storage.heartbeat_interval = self.heartbeat
        self.storage.grace_period = MISSING * self.heartbeat
        self.rows: dict[str, Row] = {
            row["name"]: row for row in self.study["table"]["rows"]
        }
        self._set_up()

    @classmethod
    def open(cls, url: storages.URL, name: str) -> "Ledger":
        """Opens the ledger of a study that there is.

        Raises:
            UserError: there is none of this name, or a newer version's.
        """
        storage = storages.connect(url, new=False)
        with storages.reporting(url):
            try:
                found = optuna.load_study(study_name=name, storage=storage)
            except KeyError:
                names = optuna.get_all_study_names(storage)
                whole = [name for name in names if "/" not in name]
                raise UserError(
                    f"{storages.shown(url)} has no study {name!r}; "
                    + (hint(name, whole) if whole else "create it first")
                ) from None
            study = found.user_attrs.get("protocol")
        storage.engine.dispose()
        if study is None:
            raise foreign(name, url)
        check_format(study, storages.shown(url))
        return cls(url, study)

    @reported
    def _set_up(self) -> None:
        """Adds to the storage what it lacks of the study."""
        self.repeats = self._queue(
            self.study["name"], "seed", seed_trials(self.study)
        )
        found = self.repeats.trials.user_attrs.get("protocol")
        if found is not None:
            self._check_same(found)
        elif self.repeats.trials.get_trials(deepcopy=False):
            raise foreign(self.study["name"], self.url)
        if found != self.study:
            self.repeats.trials.set_user_attr("protocol", self.study)
        self.tuning = {
            name: self._queue(
                f"{self.study['name']}/{name}",
                "tune",
                tuning_trials(self.study, row),
            )
            for name, row in self.rows.items()
            if row["space"]
        }
        for queue in self.queues:
            queue.fill()

    def _queue(
        self, name: str, kind: str, expected: Mapping[Key, FrozenTrial]
    ) -> Queue:
        return Queue(self.storage, name, kind, expected, self.study)

    def _check_same(self, found: Study) -> None:
        """Raises UserError where the storage's protocol is another one."""
        where = storages.shown(self.url)
        check_format(found, where)
        different = conflict(found, self.study)
        if different:
            raise UserError(
                f"{where} holds another study called {self.study['name']!r} "
                f"({different}); choose another --name"
            )

    @property
    def queues(self) -> list[Queue]:
        """All queues, in the order in which they are worked off."""
        return [*self.tuning.values(), self.repeats]

    @property
    @reported
    def lines(self) -> list[Line]:
        """A line for every finished run, always in the same order."""
        return [line for queue in self.queues for line in queue.lines()]

    @property
    def total(self) -> int:
        """How many runs the study has in all."""
        return sum(len(queue.expected) for queue in self.queues)

    @property
    @reported
    def done(self) -> int:
        """How many of them are finished."""
        return sum(len(queue.lines()) for queue in self.queues)

    @reported
    def is_finished(self) -> bool:
        """Whether no run is left to do."""
        return all(queue.is_complete() for queue in self.queues)

    @reported
    def claim(self) -> Claim | None:
        """Returns a run for this worker; None where none can begin now.

        Tuning goes first. The runs with fresh seeds of a row can begin when
        the row that it is tuned as is tuned.
        """
        for name, queue in self.tuning.items():
            trial = None if queue.final else queue.claim([name])
            if trial is not None:
                return self._claim(queue, trial)
        tuned = [name for name, row in self.rows.items() if self._is_tuned(row)]
        trial = self.repeats.claim(tuned)
        return None if trial is None else self._claim(self.repeats, trial)

    def _claim(self, queue: Queue, trial: FrozenTrial) -> Claim:
        name, kind, index = queue.key(trial)
        row = self.rows[name]
        chosen = trial.params if kind == "tune" else self._best(row)
        numbers = {**table_rows.fixed_hyperparameters(row), **chosen}
        run = Run(name, kind, index, trial.user_attrs["seed"], numbers)
        return Claim(queue, trial, row, run)

    def _is_tuned(self, row: Row) -> bool:
        """Whether a row's tuned values are known, if it has any."""
        base = protocol.tuned_row(self.study, row)
        queue = self.tuning.get(base["name"])
        return queue is None or queue.is_complete()

    def _best(self, row: Row) -> dict[str, Any]:
        """Returns a row's tuned values; none for one that is fixed."""
        base = protocol.tuned_row(self.study, row)
        queue = self.tuning.get(base["name"])
        if queue is None:
            return {}
        return protocol.best_point(self.study, base, queue.lines())

    @reported
    def beat(self, claim: Claim) -> None:
        """Says that a claimed run is still under way."""
        self.storage.record_heartbeat(claim.trial._trial_id)

    def leave(self) -> None:
        """Closes this thread's connection."""
        self.storage.remove_session()

    @reported
    def is_hopeless(self, claim: Claim, step: int, value: float) -> bool:
        """Whether a claimed run should stop here, by the study's pruner."""
        return claim.queue.is_hopeless(claim.trial, step, value)

    @reported
    def finish(self, claim: Claim, line: Line) -> bool:
        """Writes a finished run; it is on the disk when this returns.

        Returns:
            Whether it was written: not if another worker took the run over.

        Raises:
            UserError: the storage cannot be written.
            ValueError: the line has a number that JSON does not have.
        """
        json.dumps(line, allow_nan=False)
        return claim.queue.finish(claim.trial, line)

    @reported
    def release(self, claim: Claim) -> None:
        """Lets others have a run that was not finished."""
        claim.queue.change(claim.trial, TrialState.WAITING)

    @reported
    def rescue(self) -> bool:
        """Takes over what dead workers left behind; whether there was any."""
        unfinished = [queue for queue in self.queues if not queue.is_complete()]
        return sum(queue.rescue() for queue in unfinished) > 0

    @reported
    def states(self) -> list[tuple[Key, TrialState]]:
        """Returns every run's state, and FAIL once for each failed trial."""
        found = []
        for queue in self.queues:
            for trial in queue.of(TrialState.FAIL):
                found.append((queue.key(trial), trial.state))
            for key, trials in queue.standing().items():
                state = trials[0].state if trials else TrialState.WAITING
                found.append((key, state))
        return found

    def close(self) -> None:
        """Closes all connections."""
        self.storage.remove_session()
        self.storage.engine.dispose()


def tuning_trials(study: Study, row: Row) -> dict[Key, FrozenTrial]:
    """Returns a waiting trial for each of a row's tuning runs."""
    space = spaces.parse(row["space"])
    ranges = {axis.name: distribution(axis) for axis in space}
    return {
        run.key: waiting(
            run, {name: run.hyperparameters[name] for name in ranges}, ranges
        )
        for run in protocol.tuning_runs(study, row)
    }


def seed_trials(study: Study) -> dict[Key, FrozenTrial]:
    """Returns a waiting trial for each run with a fresh seed."""
    rows = study["table"]["rows"]
    names = distributions.CategoricalDistribution([row["name"] for row in rows])
    return {
        run.key: waiting(run, {"row": run.row}, {"row": names})
        for row in rows
        for run in protocol.seed_runs(study, row, {})
    }


def waiting(
    run: Run,
    params: Mapping[str, Any],
    ranges: Mapping[str, distributions.BaseDistribution],
) -> FrozenTrial:
    """Returns a trial that waits to be claimed."""
    return optuna.trial.create_trial(
        state=TrialState.WAITING,
        params=dict(params),
        distributions=dict(ranges),
        user_attrs={"index": run.index, "seed": run.seed},
    )


def distribution(axis: spaces.Axis) -> distributions.BaseDistribution:
    """Returns a dimension as Optuna has it."""
    if isinstance(axis, spaces.Choice):
        return distributions.CategoricalDistribution(axis.values)
    if axis.scale == "integer":
        return distributions.IntDistribution(int(axis.low), int(axis.high))
    # Optuna has no scale for 1 - momentum.
    return distributions.FloatDistribution(
        axis.low, axis.high, log=axis.scale == "log"
    )


def pruner(study: Study) -> optuna.pruners.BasePruner:
    """Returns what stops hopeless tuning runs, which is nothing by default."""
    if study.get("pruner") != "median":
        return optuna.pruners.NopPruner()
    # A warmup says little about the end.
    return optuna.pruners.MedianPruner(n_warmup_steps=study["steps"] // 3)


def as_json_has_it(study: Study) -> dict[str, Any]:
    """Returns a protocol with plain lists, dicts and numbers only."""
    return json.loads(json.dumps(study))


def difference(found: Study, wanted: Study, within: str = "") -> str | None:
    """Returns in words what differs first between two protocols.

    >>> difference({"workload": {"target": 1}}, {"workload": {"target": 2}})
    'workload.target 1, not 2'

    Args:
        found: the one.
        wanted: the other.
        within: what both are parts of.
    """
    for key in {**found, **wanted}:
        one, other = found.get(key), wanted.get(key)
        if one == other:
            continue
        name = f"{within}{key}"
        if isinstance(one, dict) and isinstance(other, dict):
            return difference(one, other, f"{name}.")
        if isinstance(one, (dict, list)) or isinstance(other, (dict, list)):
            return name
        return f"{name} {one}, not {other}"
    return None


def conflict(found: Study, wanted: Study) -> str | None:
    """Returns in words why one study cannot go on as another; None if it can.

    A study may get more seeds: its other runs stay as they are.
    """
    more = found["seeds"] < wanted["seeds"]
    seeds = wanted["seeds"] if more else found["seeds"]
    return difference({**found, "seeds": seeds}, wanted)


def foreign(name: str, url: storages.URL) -> UserError:
    """Returns the error for an Optuna study that is none of this package's."""
    return UserError(
        f"{name!r} in {storages.shown(url)} is no study of this kind; "
        "choose another --name"
    )


def check_format(study: Study, where: object) -> None:
    """Raises UserError where a study cannot be that of a ledger.

    Another version of this package may have written it, or something in it is
    not as it must be.
    """
    check_version(study, where)
    checking.check(study, where)


def check_version(study: Study, where: object) -> None:
    """Raises UserError where another version of this package wrote a study."""
    found = study.get("format", 0)
    if not spaces.is_integer(found):
        raise UserError(f"format is {found!r}, in {where}; correct it")
    if found != protocol.FORMAT:
        age = "a newer" if found > protocol.FORMAT else "an earlier"
        raise UserError(
            f"{where} holds a study of {age} version of tf-largebatch (format "
            f"{found}; this one has {protocol.FORMAT}); use that version, or "
            "choose another folder with --out"
        )


def quiet() -> warnings.catch_warnings:
    """Returns a context without warnings of what Optuna may still change."""
    return warnings.catch_warnings(
        action="ignore", category=ExperimentalWarning
    )
