"""What other packages add: how it is found, and what is refused."""

import dataclasses
import importlib
import importlib.metadata
import sys
import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_largebatch import configs, plugins, schedules, workloads
from tf_largebatch.errors import UserError
from tf_largebatch.optimizers.base import LargeBatchOptimizer
from tf_largebatch.study import (
    optimizer_classes,
    protocol,
    settings,
    table_rows,
    tables,
    training,
)
from tf_largebatch.study import spaces as search_spaces


@dataclasses.dataclass(frozen=True)
class Distribution:
    name: str


@dataclasses.dataclass(frozen=True)
class Entry:
    """Stands for an entry point of an installed package."""

    name: str
    value: str
    package: str = "theirs"

    @property
    def dist(self):
        return Distribution(self.package)

    def load(self):
        real = importlib.metadata.EntryPoint(self.name, self.value, "any")
        return real.load()


class Sign(LargeBatchOptimizer):
    """Steps of one length."""

    def __init__(self, learning_rate, scale=1.0, **kwargs):
        super().__init__(
            learning_rate,
            hyperparameters={"scale": scale},
            options={},
            selectors={"exclude_from_weight_decay": ()},
            **kwargs,
        )

    def step(self, rules, xp, w, g, slots, learning_rate, *rest):
        return (w - learning_rate * rest[-1]["scale"] * xp.sign(g),)


class Forgetful(Sign):
    """Makes a plain number of what it is given."""

    def __init__(self, learning_rate, scale=1.0, **kwargs):
        super().__init__(learning_rate, scale=float(scale), **kwargs)


class Flat(schedules.Schedule):
    """The peak, times a number of its own, at every step."""

    function = staticmethod(
        lambda xp, step, peak, total_steps, share: xp.full(
            len(step), share * peak
        )
    )

    def __init__(self, peak, total_steps, share=1.0):
        if share > 2:
            raise ValueError(f"share is {share}")
        super().__init__(peak=peak, total_steps=total_steps, share=share)


class Scalar(Flat):
    """No rate a step."""

    function = staticmethod(lambda xp, step, **arguments: xp.float32(1))


class Unfinished(workloads.Workload):
    """Has nothing that a workload must have."""


@pytest.fixture
def install(monkeypatch):
    """A function that "installs" entry points of a kind."""
    module = types.ModuleType("theirs")
    for kind in (Sign, Forgetful, Flat, Scalar, Unfinished):
        setattr(module, kind.__name__, kind)
    module.number = 3
    monkeypatch.setitem(sys.modules, "theirs", module)
    found = {}
    monkeypatch.setattr(plugins, "entry_points", lambda k: found.get(k, ()))

    def add(kind, *entries):
        found[kind] = tuple(Entry(*entry) for entry in entries)

    return add


def message_of(function, *arguments, **named):
    with pytest.raises(UserError) as caught:
        function(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def row(**optimizer):
    return {
        "name": "mine",
        "weights_optimizer": "x",
        "bias_bn_optimizer": "x",
        "optimizer": {"learning_rate": 0.1, **optimizer},
        "fixed": True,
    }


def resolve(shared=None, **optimizer):
    return table_rows.resolve(row(**optimizer), shared or {}, {}, {})


def test_nothing_is_imported_to_list_names(install):
    install("optimizer", ("Far", "no_such_module:Far"))
    assert plugins.names("optimizer", ["Adam"]) == ["Adam", "Far"]
    assert "no_such_module" not in sys.modules


def test_an_import_that_fails_names_package_entry_point_and_reason(install):
    install("optimizer", ("Far", "no_such_module:Far", "far-away"))
    message = message_of(optimizer_classes.find, "Far")
    for part in ("far-away", "'Far'", "no_such_module:Far", "No module named"):
        assert part in message
    # Those that ship are of no concern to it.
    assert optimizer_classes.find("Adam").__name__ == "Adam"


@pytest.mark.parametrize("name", ["theirs:none", "theirs:number"])
def test_what_is_no_such_class_is_refused(install, name):
    install("optimizer", ("Odd", name))
    message = message_of(optimizer_classes.find, "Odd")
    assert name in message
    assert "cannot be imported" in message or "no subclass of" in message


def test_a_name_of_this_package_cannot_be_taken(install):
    install("optimizer", ("Adam", "theirs:Sign", "usurper"))
    message = message_of(resolve, **{"class": "Adam"})
    assert "usurper" in message and "'Adam'" in message
    install("schedule", ("cosine", "theirs:Flat", "usurper"))
    install("optimizer")
    message = message_of(resolve, {"schedule": "cosine"}, **{"class": "Adam"})
    assert "usurper" in message and "'cosine'" in message


def test_nor_can_one_of_another_package(install):
    install(
        "optimizer",
        ("Sign", "theirs:Sign", "one"),
        ("Sign", "theirs:Sign", "two"),
    )
    message = message_of(plugins.names, "optimizer")
    assert "one" in message and "two" in message


def test_unknown_names_are_answered_with_all_that_there_are(install):
    install("optimizer", ("Sign", "theirs:Sign"))
    install("schedule", ("flat", "theirs:Flat"))
    assert "Nesterov, Sign" in message_of(resolve, **{"class": "Sgin"})
    message = message_of(resolve, {"schedule": "flta"}, **{"class": "Sign"})
    assert "bert_polynomial, flat" in message
    message = message_of(
        plugins.load, "schedule", "flta", settings.SCHEDULES, schedules.Schedule
    )
    assert "did you mean flat?" in message


def test_a_row_has_the_numbers_of_its_schedule(install):
    install("optimizer", ("Sign", "theirs:Sign"))
    install("schedule", ("flat", "theirs:Flat"))
    shared = {"schedule": "flat", "share": 0.5}
    found = resolve(shared, **{"class": "Sign"})["settings"]
    assert found["share"] == 0.5
    assert (
        resolve({"schedule": "flat"}, **{"class": "Sign"})["settings"]["share"]
        == 1
    )
    rates = settings.rates(found, 0.3, 4)
    np.testing.assert_array_equal(rates, np.full(4, 0.15, np.float32))
    message = message_of(resolve, {"share": 0.5}, **{"class": "Sign"})
    assert "unknown setting 'share'" in message


@pytest.mark.parametrize(
    ("shared", "reason"),
    [
        ({"schedule": "flat", "share": 3.0}, "share is 3.0"),
        ({"schedule": "flat", "share": -1.0}, "0 or larger"),
        ({"schedule": "scalar"}, "not a finite rate for every step"),
    ],
)
def test_a_schedule_without_rates_is_refused(install, shared, reason):
    install("schedule", ("flat", "theirs:Flat"), ("scalar", "theirs:Scalar"))
    assert reason in message_of(resolve, shared, **{"class": "Adam"})


def test_a_setting_and_an_argument_of_one_name_are_refused(install):
    install("optimizer", ("Sign", "theirs:Sign"))
    message = message_of(
        table_rows.resolve, row(**{"class": "Sign"}), {}, {}, {"scale": 1.0}
    )
    assert "'scale'" in message and "rename" in message


def test_an_argument_that_is_wrong_is_refused(install):
    install("optimizer", ("Sign", "theirs:Sign"))
    wrong = {"class": "Sign", "scale": -1.0}
    assert "`scale`" in message_of(resolve, **wrong)
    assert "speed" in message_of(resolve, **{"class": "Sign", "speed": 1.0})


def fake_task(variables):
    """Returns a workload whose loss is the sum of its variables."""
    return types.SimpleNamespace(
        family="keras",
        loss_settings=(),
        jit_compile=False,
        batch=2,
        trained_variables=lambda model: variables,
        loss=lambda *arguments: sum(tf.reduce_sum(v.value) for v in variables),
    )


def program(name, options=None, variables=()):
    """Returns the compiled program of a fake workload."""
    names = [] if options else ["scale"]
    task = fake_task(list(variables))
    return training.Program(task, None, name, options or {}, names)


def test_an_optimizer_must_keep_its_numbers_as_variables(install):
    install(
        "optimizer",
        ("Sign", "theirs:Sign"),
        ("Forgetful", "theirs:Forgetful"),
    )
    made = program("Sign")
    assert made.optimizer.scale is made.hyperparameters["scale"]
    message = message_of(program, "Forgetful")
    assert "does not keep scale as it is given" in message


def test_a_workload_says_what_it_lacks(install):
    install("workload", ("odd", "theirs:Unfinished"))
    message = message_of(workloads.load, {"name": "odd"})
    assert "lacks build_model, data, loss, measure" in message


def test_the_step_of_a_subclass_is_not_left_to_the_kernels():
    from tf_largebatch.optimizers.adam import Adam
    from tf_largebatch.optimizers.nesterov import Nesterov

    class Own(Adam):
        def step(self, *arguments, **named):
            return super().step(*arguments, **named)

    assert Adam.has_kernels and Nesterov.has_kernels
    assert not Own.has_kernels and not Sign.has_kernels


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The configs of a package, empty."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "their_configs" / "tables").mkdir(parents=True)
    return tmp_path / "their_configs"


TABLE = """
table: mine
workload: digits_resnet
steps: 24
trials: 2
seeds: 2
rows:
  - {name: a, optimizer: {class: Adam}}
  - {optimizer: {class: LAMB}, space: {learning_rate: %s}}
spaces: {optimizers: {Adam: {learning_rate: %s}}}
""" % (("{scale: log, low: 0.001, high: 0.1}",) * 2)


def test_tables_of_a_package_and_of_a_file(install, folder):
    path = folder / "tables" / "mine.yaml"
    path.write_text(TABLE)
    install("folder of configs", ("theirs", "their_configs"))
    assert configs.names("tables") == ["bert", "mine", "table2", "table4"]
    study = protocol.create("mine")
    assert protocol.create(str(path)) == study
    first, second = study["table"]["rows"]
    assert (first["name"], second["name"]) == ("a", "LAMB")
    assert first["bias_bn_optimizer"] == "Adam"
    assert second["weights_optimizer"] == "LAMB"
    assert second["bias_bn_optimizer"] == "Adam"  # LAMB leaves them to it.
    assert first["space"] == second["space"]
    (axis,) = search_spaces.parse(first["space"])
    assert axis.ends == (0.001, 0.1)
    assert study["table"]["title"] == "mine"


def test_a_file_that_is_there_already(install, folder):
    (folder / "tables" / "table4.yaml").write_text(TABLE)
    install("folder of configs", ("theirs", "their_configs", "usurper"))
    message = message_of(configs.names, "tables")
    assert "tables/table4.yaml of the package usurper" in message


@pytest.mark.parametrize("name", ["no_such.configs", "json.decoder"])
def test_a_folder_that_is_not_there(install, name):
    install("folder of configs", ("theirs", name))
    message = message_of(configs.names, "tables")
    assert name in message and "is not there" in message


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("steps: 24\n", "", "steps is missing in the table"),
        ("steps: 24", "steps: many", "steps is 'many'"),
        ("table: mine\n", "", "table is missing"),
        ("rows:", "row:", "rows is missing"),
        ("rows:", "settings: {1: 2}\nrows:", "settings is {1: 2} in the table"),
        ("{class: Adam}", "Adam", "give it a name, and an optimizer"),
        ("{class: Adam}", "{class: Adma}", "choose one of Adam"),
        ("{Adam:", "{LARS:", "no free hyperparameter"),
        ("spaces: {o", "space: {o", "are no search spaces of table"),
        ("scale: log", "scale: lug", "scale 'lug'"),
    ],
)
def test_tables_that_make_no_study(install, tmp_path, old, new, reason):
    path = tmp_path / "mine.yaml"
    assert old in TABLE
    path.write_text(TABLE.replace(old, new))
    assert reason in message_of(protocol.create, str(path))


def test_a_workload_must_say_what_a_study_needs(install, folder):
    (folder / "workloads").mkdir()
    (folder / "workloads" / "odd.yaml").write_text("workload: odd\n")
    install("folder of configs", ("theirs", "their_configs"))
    message = message_of(tables.workload, "odd")
    assert "description is missing in the workload odd" in message


def keras_class(family):
    """Returns an optimizer as a user of Keras has it, with odd state."""

    class Drop(importlib.import_module(family).optimizers.SGD):
        """Gradient descent that halves its rate after every step."""

        def __init__(self, learning_rate=0.1, scale=1.0, **kwargs):
            if scale <= 0:  # As Keras's do, which no variable survives.
                raise ValueError(f"scale is {scale}")
            super().__init__(learning_rate * scale, **kwargs)

    return Drop


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_a_class_of_kerass_own_trains_with_plain_numbers(
    install, monkeypatch, scale
):
    monkeypatch.setattr(sys.modules["theirs"], "D", keras_class("keras"), False)
    install("optimizer", ("Drop", "theirs:D"))
    assert not optimizer_classes.takes_variables("Drop")
    resolve(**{"class": "Drop", "scale": scale})
    assert "'speed'" in message_of(resolve, **{"class": "Drop", "speed": 1.0})
    variable = keras.Variable([1.0, 2.0])
    made = program("Drop", {"scale": scale, "momentum": 0.5}, [variable])
    for _ in range(2):  # The second run begins where the first one did.
        variable.assign([1.0, 2.0])
        made.reset({})
        for rate in (0.1, 0.3):
            made._step(tf.constant([0]), tf.constant(rate))
        # Gradients of 1: the velocity is -0.1, and then -0.05 - 0.3.
        np.testing.assert_allclose(variable.numpy(), [0.55, 1.55], rtol=1e-6)
    message = message_of(program, "Drop", {"scale": -1.0}, [variable])
    assert "the optimizer Drop: scale is -1.0" in message


def test_a_class_of_the_other_keras_is_refused(install, monkeypatch):
    monkeypatch.setattr(
        sys.modules["theirs"], "D", keras_class("tf_keras"), False
    )
    install("optimizer", ("Drop", "theirs:D"))
    message = message_of(program, "Drop", {"scale": 1.0})
    assert "Drop is for models of tf_keras" in message


def test_only_the_last_program_of_plain_numbers_is_kept(install, monkeypatch):
    monkeypatch.setattr(sys.modules["theirs"], "D", keras_class("keras"), False)
    install("optimizer", ("Drop", "theirs:D"))
    trainer = training.Trainer.__new__(training.Trainer)
    trainer.programs, trainer.passing = {}, ""
    trainer.workload, trainer.model = fake_task([]), None
    plan = resolve(**{"class": "Drop"})
    made = [
        trainer.program(plan, protocol.Run("mine", "tune", n, 0, {"scale": x}))
        for n, x in enumerate((1.0, 2.0, 2.0))
    ]
    assert made[1] is made[2] is not made[0]
    assert list(trainer.programs.values()) == [made[2]]
