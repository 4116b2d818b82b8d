"""What goes to Weights & Biases, and what does not."""

import os
import subprocess
import sys
import types

import orbit
import pytest
import tensorflow as tf
import yaml

from tf_largebatch.cli.main import main
from tf_largebatch.errors import UserError
from tf_largebatch.garden import tracking, train

LARS = "resnet50/lars_32k"
KEY = "0123456789abcdef" * 2 + "01234567"
TRAIN = ["train", f"--recipe={LARS}", "--wandb=mine"]


class FakeRun:
    """wandb's run, as far as it is used."""

    def __init__(self, **given):
        self.given = given
        self.metrics = {}
        self.rows = []
        self.finished = None

    def __enter__(self):
        return self

    def __exit__(self, kind, error, traceback):
        self.finished = kind

    def define_metric(self, name, step_metric):
        self.metrics[name] = step_metric

    def log(self, row):
        self.rows.append(row)


@pytest.fixture
def runs(monkeypatch):
    """The runs that were begun with a module that stands for wandb."""
    wandb = types.ModuleType("wandb")
    wandb.Error = type("Error", (Exception,), {})
    wandb.Settings = dict
    begun = []

    def init(**given):
        if given["project"] == "locked":
            raise wandb.Error(f"bad key {KEY}")
        begun.append(FakeRun(**given))
        return begun[-1]

    wandb.init = init
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    return begun


def in_tensorboard(folder):
    """Returns the figures that TensorBoard shows: by step and name."""
    found = {}
    for kind in "train", "validation":
        for path in sorted((folder / kind).glob("events*")):
            for record in tf.data.TFRecordDataset(str(path)):
                event = tf.compat.v1.Event.FromString(record.numpy())
                for value in event.summary.value:
                    number = float(tf.make_ndarray(value.tensor))
                    found[event.step, f"{kind}/{value.tag}"] = number
    return found


def sent(run):
    return {
        (row[tracking.STEP], name): value
        for row in run.rows
        for name, value in row.items()
        if name != tracking.STEP
    }


def test_it_gets_what_tensorboard_shows(runs, small, tmp_path):
    config = small(LARS, trainer={"train_steps": 2, "validation_interval": 2})
    folder = str(tmp_path)
    train.run(config, "train_and_eval", folder, wandb_project="mine")
    (run,) = runs
    assert run.finished is None and run.metrics == {"*": tracking.STEP}
    expected = in_tensorboard(tmp_path)
    assert sent(run) == pytest.approx(expected, rel=1e-6)
    names = {name for _, name in expected}
    assert {"train/trust_ratio_min", "validation/accuracy"} <= names
    assert run.given["config"] == yaml.safe_load(
        (tmp_path / "params.yaml").read_text()
    )
    assert (run.given["project"], run.given["dir"]) == ("mine", folder)


def a_controller(folder):
    """Returns what stands for a controller that only trains."""
    step = tf.Variable(3, dtype=tf.int64)
    return types.SimpleNamespace(
        strategy=tf.distribute.get_strategy(),
        global_step=step,
        summary_manager=orbit.utils.SummaryManager(
            str(folder), tf.summary.scalar, step
        ),
    )


def begin(small, folder, mode="train", project="mine"):
    controller = a_controller(folder)
    settings = (controller, project, small(LARS), mode, str(folder))
    with tracking.sent(*settings):
        controller.summary_manager.write_summaries({"a": {"b": tf.constant(2)}})


def test_nothing_is_sent_unasked(runs, small, tmp_path):
    begin(small, tmp_path, project=None)
    assert not runs and not (tmp_path / tracking.ID).exists()


def test_nested_figures_have_dotted_names(runs, small, tmp_path):
    begin(small, tmp_path)
    assert runs[0].rows == [{tracking.STEP: 3, "train/a.b": 2.0}]


def test_a_training_that_goes_on_is_the_same_run(runs, small, tmp_path):
    for mode in ("train", "train_and_eval", "eval"):
        begin(small, tmp_path, mode)
    first, same, other = (run.given["id"] for run in runs)
    assert first == same != other
    assert [run.given["resume"] for run in runs] == ["allow"] * 3


def test_a_run_that_fails_is_said_to_have_failed(runs, small, tmp_path):
    controller = a_controller(tmp_path)
    settings = (controller, "mine", small(LARS), "train", str(tmp_path))
    with pytest.raises(ZeroDivisionError), tracking.sent(*settings):
        raise ZeroDivisionError
    assert runs[0].finished is ZeroDivisionError


def test_a_refusal_quotes_no_key(runs, small, tmp_path, capfd):
    with pytest.raises(UserError, match="'locked', in --wandb") as error:
        begin(small, tmp_path, project="locked")
    assert KEY not in str(error.value) and "\n" not in str(error.value)
    assert KEY not in "".join(capfd.readouterr())


def test_without_the_package_it_is_one_line(monkeypatch, capsys, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    assert main([*TRAIN, f"--model_dir={tmp_path}/run"]) == 2
    output, error = capsys.readouterr()
    assert (output, error.count("\n")) == ("", 1)
    assert "pip install 'tf-largebatch[wandb]'" in error
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_offline_it_stays_in_the_folder(small, tmp_path):
    """The real wandb, from the command line."""
    pytest.importorskip("wandb")
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(small(LARS).as_dict()))
    folder = tmp_path / "run"
    finished = subprocess.run(
        [
            *(sys.executable, "-m", "tf_largebatch.cli.main", *TRAIN),
            *(f"--config_file={path}", f"--model_dir={folder}"),
        ],
        env={**os.environ, "WANDB_MODE": "offline", "WANDB_API_KEY": KEY},
        capture_output=True,
        text=True,
    )
    assert finished.returncode == 0, finished.stderr
    (record,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    for name in ("train/gradient_norm", "validation/accuracy", "mine"):
        assert name.encode() in record.read_bytes(), name
    texts = [path for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in texts if KEY.encode() in path.read_bytes()]
    assert KEY not in finished.stdout + finished.stderr
