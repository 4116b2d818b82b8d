"""What the fuzz tests share: how a case is run, judged and counted."""

import contextlib
import io
import os
import pathlib
import re
import runpy
import shutil
import types
from collections.abc import Callable

import hypothesis
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.configuration import set_hypothesis_home_dir

from tf_largebatch import configs
from tf_largebatch.cli.main import main

SCRIPT = pathlib.Path(__file__).with_name("mutations.py")
LINE = re.compile(r"tf-largebatch: error: [^\n]+\n")
# What a user has that no refusal may change.
FILES = {
    "mine/notes.txt": "years of work",
    "mine/picture.png": "no picture",
    "full/params.yaml": "task: {name: other}",
    "full/study.yaml": "format: 1",
    "word.yaml": "word",
    "space.yaml": """optimizers: {LARS: {learning_rate: {scale: log, low: 1,
      high: 9}}}""",
    "steps.yaml": "trainer: {train_steps: 3}",
}


# Of so many cases some are right.
MANY = 100


class Reached(Exception):
    """Work that takes long would begin here: all that is before it is done."""


class Exported:
    """Stands for a SavedModel, which is there."""

    def __getattr__(self, name):
        raise Reached


def reach(*arguments, **more):
    """Stands for a function that works long."""
    raise Reached


def pytest_generate_tests(metafunc):
    """Few cases for every change, many for `make test-slow`."""
    marker = metafunc.definition.get_closest_marker("sizes")
    if marker:
        few, many = marker.args
        marks = [pytest.mark.slow, pytest.mark.long]
        metafunc.parametrize("count", [few, pytest.param(many, marks=marks)])


@pytest.fixture(scope="session")
def mutations():
    """What mutations.py has."""
    return types.SimpleNamespace(**runpy.run_path(str(SCRIPT)))


class Fuzz:
    """Runs cases in a folder of their own, and counts them."""

    def __init__(self, folder: pathlib.Path):
        self.folder = folder
        self.cases = self.refused = 0

    def all(self, strategy, count: int, check: Callable[..., bool]) -> None:
        """Runs ``count`` cases.

        Args:
            strategy: draws them, the same ones every time.
            count: how many.
            check: runs a case; returns whether it was refused. It fails for
                whatever is neither success nor a proper refusal.
        """

        # Not one of pytest's: a test runs as many as its parameter says.
        @settings(
            max_examples=count,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=[hypothesis.Phase.generate],
        )
        @given(strategy)
        def run(case):
            self.cases += 1
            self.refused += check(case)

        before = self.cases - self.refused
        run()
        # Else what was changed is not what was wrong.
        assert count < MANY or self.cases - self.refused > before

    def command(self, arguments, files=None) -> bool:
        """Runs a command in a folder with some files; whether it was refused.

        It must end in success, or in one line, the status 2, no output, and
        all files as they were.
        """
        shutil.rmtree(self.folder, ignore_errors=True)
        for name, text in {**FILES, **(files or {})}.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        before = contents(self.folder)
        out, err = io.StringIO(), io.StringIO()
        with (
            contextlib.chdir(self.folder),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                status = main(list(arguments))
            except Reached:
                return False
        if status in (0, 3):
            return False
        assert status == 2, err.getvalue()
        assert LINE.fullmatch(err.getvalue()), err.getvalue()
        assert out.getvalue() == ""
        assert contents(self.folder) == before
        return True


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    """Returns what is in all files of a folder."""
    return {
        os.path.relpath(path, folder): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def fuzz(tmp_path, record_property):
    """Runs cases; how many there were is said at the end of all tests."""
    set_hypothesis_home_dir(tmp_path / "hypothesis")
    found = Fuzz(tmp_path / "case")
    yield found
    record_property("fuzzed", [found.cases, found.refused])


@pytest.fixture(scope="module")
def patch():
    """Changes attributes while a module's tests run."""
    with pytest.MonkeyPatch.context() as found:
        yield found


@pytest.fixture(scope="module")
def root(patch, tmp_path_factory):
    """A copy of official_configs that commands take instead."""
    copy = tmp_path_factory.mktemp("configs") / "official_configs"
    shutil.copytree(configs.root(), copy)
    patch.setattr(configs, "root", lambda: copy)
    return copy


@pytest.fixture(scope="module")
def real_build():
    """What builds all that is to be trained, before it is replaced."""
    from tf_largebatch.garden import train

    def build(*arguments):
        return train_build(*arguments)

    train_build, build.reach = train.build, reach
    return build


@pytest.fixture(scope="module")
def stops(patch, real_build):
    """Has commands stop where work begins that takes long."""
    from matplotlib.figure import Figure
    from official.core import task_factory, train_utils

    from tf_largebatch import parallel
    from tf_largebatch.cli import bench
    from tf_largebatch.cli import train as command
    from tf_largebatch.garden import chain, evaluate, train
    from tf_largebatch.resnet import pictures
    from tf_largebatch.study import console, ledger
    from tf_largebatch.study import folder as folders

    make_strategy = train.make_strategy

    def strategy(runtime):
        # These look for other machines.
        if runtime.distribution_strategy in ("tpu", "multi_worker_mirrored"):
            raise Reached
        return make_strategy(runtime)

    def build(config, mode, model_dir, strategy):
        task = task_factory.get_task(config.task)
        train_utils.create_optimizer(task, config)
        train.enter(model_dir, config, mode, False)
        raise Reached

    def create(folder, study, url):
        folders.check(folder, study, url)
        kept = ledger.as_json_has_it(study)
        ledger.seed_trials(kept)
        for row in kept["table"]["rows"]:
            if row["space"]:
                ledger.tuning_trials(kept, row)
        raise Reached

    # It holds for all that a process does, and there are tests after these.
    patch.setattr(command, "make_deterministic", lambda: None)
    patch.setattr(train, "find_data", lambda *arguments: None)
    patch.setattr(train, "make_strategy", strategy)
    patch.setattr(train, "build", build)
    # Where there is a SavedModel is not the question.
    patch.setattr(evaluate, "load", lambda folder: Exported())
    patch.setattr(chain, "run_part", reach)
    patch.setattr(parallel, "start", reach)
    patch.setattr(pictures, "build", reach)
    patch.setattr(console, "train", reach)
    module = types.SimpleNamespace(measure=reach)
    found = types.SimpleNamespace(import_module=lambda name: module)
    patch.setattr(bench, "importlib", found)
    patch.setattr(Figure, "savefig", lambda *arguments, **more: None)
    patch.setattr(folders, "create", create)
