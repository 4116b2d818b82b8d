"""Several processes train together through the same command."""

import contextlib
import functools
import json
import os
import socket
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import yaml

from tf_largebatch.errors import RunError
from tf_largebatch.garden import run_folder, train
from tf_largebatch.garden.controller import Follower

STEPS = 5
LARS = "resnet50/lars_32k"
# Six groups of eight a step, which one, two and three workers can share.
TOGETHER = {
    "task": {"train_data": {"global_batch_size": 48, "streams": 6}},
    "trainer": {
        "train_steps": STEPS,
        "validation_interval": STEPS,
        "best_checkpoint_export_subdir": "best",
        "best_checkpoint_eval_metric": "accuracy",
    },
    "runtime": {"distribution_strategy": "multi_worker_mirrored"},
}


@pytest.fixture(scope="module")
def config_file(small, tmp_path_factory):
    path = tmp_path_factory.mktemp("settings") / "together.yaml"
    config = small(LARS, **TOGETHER)
    parts = {name: getattr(config, name).as_dict() for name in TOGETHER}
    path.write_text(yaml.safe_dump(parts))
    return path


def free_port():
    with socket.socket() as any_port:
        any_port.bind(("127.0.0.1", 0))
        return any_port.getsockname()[1]


def start(count, config_file, folder):
    """Starts workers that train together; returns their processes."""
    cluster = {"worker": [f"127.0.0.1:{free_port()}" for _ in range(count)]}
    tasks = [{"type": "worker", "index": index} for index in range(count)]
    return [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "tf_largebatch.cli.main", "train"),
                f"--recipe={LARS}",
                f"--config_file={config_file}",
                f"--model_dir={folder}",
                "--deterministic",
            ],
            env=os.environ
            | {"TF_CONFIG": json.dumps({"cluster": cluster, "task": task})},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for task in tasks
    ]


def finish(workers):
    """Waits for workers; returns what each printed as its result."""
    said = [worker.communicate(timeout=500) for worker in workers]
    for worker, (_, errors) in zip(workers, said):
        assert worker.returncode == 0, errors
    return [output for output, _ in said]


def variables(folder, step=None):
    """Returns the variables of a checkpoint, the newest one or a step's."""
    path = folder if step is None else folder / f"ckpt-{step}"
    reader = tf.train.load_checkpoint(str(path))
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if name.startswith(("model/", "optimizer/"))
    }


def assert_same_but_for_rounding(found, expected, start):
    """To 1e-5 of the distance moved, and one unit of float32."""
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        moved = np.linalg.norm(value - start[name])
        unit = np.finfo(np.float32).eps * np.linalg.norm(value)
        assert np.linalg.norm(found[name] - value) <= 1e-5 * moved + unit, name


def assert_same_bits(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.fixture(scope="module")
def alone(config_file, tmp_path_factory):
    """The folder of a run of one worker, and its result."""
    folder = tmp_path_factory.mktemp("alone")
    (result,) = finish(start(1, config_file, folder))
    return folder, result


@pytest.fixture(scope="module")
def together(config_file, tmp_path_factory):
    """A function that returns what so many workers find, as `alone` does."""

    @functools.cache
    def run(count):
        folder = tmp_path_factory.mktemp("together")
        return folder, finish(start(count, config_file, folder))

    return run


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, pytest.param(3, marks=pytest.mark.long)])
def test_several_workers_train_as_one(alone, together, count):
    expected, result = alone
    folder, results = together(count)
    assert_same_but_for_rounding(
        variables(folder, STEPS),
        variables(expected, STEPS),
        variables(expected, 1),
    )
    # All examples were counted, and once; the first worker wrote.
    assert results == [result] * count
    assert "examples 50" in result
    assert {path.name for path in folder.glob("ckpt-*.index")} == {
        path.name for path in expected.glob("ckpt-*.index")
    }
    for split in ("train", "validation"):
        assert len([*(folder / split).iterdir()]) == 1
    assert len([*(folder / "best").glob("best_ckpt-*.index")]) == 1
    assert_same_bits(variables(folder / "best"), variables(folder, STEPS))


@pytest.mark.slow
def test_workers_go_on_where_one_was_killed(together, config_file, tmp_path):
    """And end with the bits of workers that nobody disturbed."""
    folder, results = together(2)
    first, second = start(2, config_file, tmp_path)
    for line in first.stderr:
        if line.startswith("saved checkpoint") and "ckpt-2" in line:
            second.kill()
    second.communicate()
    assert first.wait() == 1
    # Noticed within seconds, but steps may have been taken meanwhile.
    assert not (tmp_path / f"ckpt-{STEPS}.index").exists()
    assert finish(start(2, config_file, tmp_path)) == results
    assert_same_bits(variables(tmp_path, STEPS), variables(folder, STEPS))


def follower(folder, value):
    """Returns a checkpoint's variable, and a follower that manages it."""
    variable = tf.Variable(value)
    checkpoint = tf.train.Checkpoint(variable=variable)
    started = []
    manager = Follower(
        checkpoint, str(folder), init_fn=lambda: started.append(True)
    )
    return variable, manager, started


def test_a_follower_begins_from_what_the_first_has_written(tmp_path):
    first = tf.train.Checkpoint(variable=tf.Variable(3.0))
    written = tf.train.CheckpointManager(
        first, str(tmp_path), max_to_keep=2, checkpoint_name="ckpt"
    ).save(checkpoint_number=7)
    variable, manager, started = follower(tmp_path, 0.0)
    assert manager.latest_checkpoint == written
    assert manager.restore_or_initialize() == written
    assert variable.numpy() == 3.0 and not started
    # What it saves is elsewhere, and is the newest then.
    saved = manager.save(checkpoint_number=8)
    assert manager.latest_checkpoint == saved
    assert Path(saved).parent != tmp_path
    assert (tmp_path / "ckpt-7.index").exists()
    assert not (tmp_path / "ckpt-8.index").exists()


def test_a_follower_begins_anew_where_nothing_was_written(tmp_path):
    _, manager, started = follower(tmp_path, 0.0)
    assert manager.latest_checkpoint is None
    assert manager.restore_or_initialize() is None
    assert started


def test_the_first_worker_alone_writes_the_settings(small, tmp_path):
    folder = tmp_path / "run"
    run_folder.claim(str(folder), small(LARS), writes=False)
    assert not folder.exists()
    run_folder.claim(str(folder), small(LARS), writes=True)
    assert [path.name for path in folder.iterdir()] == ["params.yaml"]


def test_a_worker_that_is_gone_is_one_line():
    gone = tf.errors.UnavailableError(None, None, "Collective ops is aborted")
    nothing = contextlib.nullcontext()
    with pytest.raises(RunError, match="another worker is gone; start all"):
        with train.explained(nothing, one_of_several=True):
            raise gone
    with pytest.raises(tf.errors.UnavailableError):
        with train.explained(nothing, one_of_several=False):
            raise gone


@pytest.mark.parametrize(
    "workers, expected", [(["a:1", "b:1"], True), (["a:1"], False)]
)
def test_it_is_known_whether_there_are_several(workers, expected):
    spec = tf.train.ClusterSpec({"worker": workers})
    resolver = types.SimpleNamespace(cluster_spec=lambda: spec)
    strategy = types.SimpleNamespace(cluster_resolver=resolver)
    assert train.is_one_of_several(strategy) is expected
    alone = tf.distribute.OneDeviceStrategy("CPU:0")
    assert not train.is_one_of_several(alone)


def test_one_of_several_does_not_save_when_it_is_stopped(capsys, monkeypatch):
    monkeypatch.setattr(train, "is_one_of_several", lambda strategy: True)
    controller = types.SimpleNamespace(strategy=None)
    with pytest.raises(KeyboardInterrupt):
        with train.saved_when_stopped(controller):
            raise KeyboardInterrupt
    assert "go on from the last checkpoint" in capsys.readouterr().err
