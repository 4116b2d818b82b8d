"""Training is killed again and again, and ends as if nothing had happened."""

import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
import uuid

import numpy as np
import pytest
import tensorflow as tf
import yaml

from tf_largebatch import checkpoints
from tf_largebatch.errors import UserError

RECIPE = "resnet50/lars_32k"
STEPS = 80
SLOWEST_STOP = 30


def state(path):
    """Returns all that a checkpoint holds, by name."""
    reader = tf.train.load_checkpoint(str(path))
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if not name.startswith(("_CHECKPOINTABLE", "save_counter"))
    }


def assert_equal(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.fixture(scope="module")
def start(small, tmp_path_factory):
    """A function that starts training in a folder, deterministically."""
    path = tmp_path_factory.mktemp("settings") / "small.yaml"
    config = small(RECIPE).as_dict()
    config["trainer"] |= {"train_steps": STEPS, "max_to_keep": 3}
    parts = ("task", "trainer", "runtime")
    path.write_text(yaml.safe_dump({part: config[part] for part in parts}))

    def process(folder, *more, **arguments):
        return subprocess.Popen(
            [sys.executable, "-m", "tf_largebatch.cli.main", "train"]
            + [f"--recipe={RECIPE}", f"--config_file={path}", "--mode=train"]
            + [f"--model_dir={folder}", "--deterministic", *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **arguments,
        )

    return process


@pytest.fixture(scope="module")
def undisturbed(start, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    process = start(folder)
    _, said = process.communicate()
    assert process.returncode == 0, said
    return folder


def half_written(folder):
    """What TensorFlow moves to its place when it is whole."""
    return [*folder.glob("*_temp*")]


def wait_until_saving(process, folder):
    while process.poll() is None and not half_written(folder):
        pass


@pytest.mark.slow
@pytest.mark.parametrize("kills", [5, pytest.param(20, marks=pytest.mark.long)])
def test_runs_that_are_killed_lose_nothing(
    start, undisturbed, tmp_path, record_property, kills
):
    """At random moments; every second one while a checkpoint is written."""
    chance, folder = random.Random(0), tmp_path / "run"
    while_saving = 0
    for kill in range(kills):
        process = start(folder)
        steps = chance.randrange(1, 4)
        for line in process.stderr:
            steps -= line.startswith("train | step")
            if not steps:
                break
        if kill % 2:
            wait_until_saving(process, folder)
        else:
            time.sleep(chance.uniform(0, 0.2))
        process.kill()
        assert process.wait() == -signal.SIGKILL
        process.communicate()
        while_saving += bool(half_written(folder))
    process = start(folder)
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert_equal(
        state(folder / f"ckpt-{STEPS}"), state(undisturbed / f"ckpt-{STEPS}")
    )
    assert len(checkpoints.saved(str(folder))) == 3
    assert not half_written(folder)
    record_property("kills", [kills, while_saving])
    assert while_saving


@pytest.mark.slow
def test_two_undisturbed_runs_are_equal(start, undisturbed, tmp_path):
    process = start(tmp_path / "run")
    _, said = process.communicate()
    assert process.returncode == 0, said
    for step in range(STEPS - 2, STEPS + 1):
        assert_equal(
            state(tmp_path / f"run/ckpt-{step}"),
            state(undisturbed / f"ckpt-{step}"),
        )


@pytest.mark.slow
def test_two_replicas_go_on_with_equal_bits(run_script, pictures, tmp_path):
    def train(folder, steps):
        return run_script(
            "garden/replicas.py",
            PICTURES=str(pictures),
            RUN=str(tmp_path / folder),
            STEPS=str(steps),
        )

    expected = train("whole", 4)
    # In the middle of an epoch.
    train("stopped", 2)
    found = train("stopped", 4)
    assert len(expected) > 100
    assert_equal(found, expected)


@pytest.mark.slow
def test_sigterm_saves_in_time(start, undisturbed, tmp_path):
    folder = tmp_path / "run"
    process = start(folder)
    for line in process.stderr:
        if "steps/sec" in line:
            break
    process.send_signal(signal.SIGTERM)
    begin = time.monotonic()
    said = process.stderr.read()
    process.wait()
    assert process.returncode == 128 + signal.SIGTERM
    assert time.monotonic() - begin < SLOWEST_STOP
    assert "stopped; saved at step" in said


@pytest.mark.slow
def test_a_full_disk_leaves_the_last_good_checkpoint(start, tmp_path):
    """A file of at most so many bytes stands for a disk that is full."""
    folder = tmp_path / "run"

    def little_room():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        size = max(os.path.getsize(path) for path in folder.glob("ckpt-1.*"))
        resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, size // 2))

    process = start(folder, "--params_override=trainer.train_steps=1")
    _, said = process.communicate()
    assert process.returncode == 0, said
    before = state(folder / "ckpt-1")
    process = start(folder, preexec_fn=little_room)
    _, said = process.communicate()
    assert process.returncode == 1
    last = said.splitlines()[-1]
    assert "cannot save step 2 in" in last, said
    assert "make room, and the same command goes on from" in last
    assert_equal(state(folder / "ckpt-1"), before)
    process = start(folder, "--params_override=trainer.train_steps=3")
    _, said = process.communicate()
    assert process.returncode == 0, said
    assert state(folder / "ckpt-3")


@pytest.fixture
def copy(trained, tmp_path):
    """A run's folder, to be damaged."""
    return shutil.copytree(trained(RECIPE), tmp_path / "copy")


def cut_index(path):
    path.with_suffix(".index").write_bytes(b"")


def cut_data(path):
    (file,) = path.parent.glob(f"{path.name}.data*")
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def flip_a_bit(path):
    (file,) = path.parent.glob(f"{path.name}.data*")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def lose_data(path):
    (file,) = path.parent.glob(f"{path.name}.data*")
    file.unlink()


DAMAGES = [cut_index, cut_data, flip_a_bit, lose_data]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(
    damage, copy, capsys
):
    newest = copy / "ckpt-4"
    assert checkpoints.damage(str(newest)) is None
    damage(newest)
    checkpoints.mend(str(copy))
    said = capsys.readouterr().err
    assert said.startswith(f"{newest} is damaged (")
    assert said.endswith(f"); going on from {copy / 'ckpt-3'}\n")
    assert checkpoints.newest(str(copy)) == str(copy / "ckpt-3")
    assert [*copy.glob("damaged-ckpt-4.*")] and not [*copy.glob("ckpt-4.*")]
    checkpoints.mend(str(copy))
    assert capsys.readouterr().err == ""


def test_a_folder_of_a_bucket_whose_name_ends_in_a_slash(copy, capsys):
    """TensorFlow's file system in memory joins names as that of buckets."""
    folder = f"ram://{uuid.uuid4().hex}/run/"
    for path in copy.iterdir():
        if path.is_file():
            content = path.read_bytes()
            if path.name.startswith("ckpt-4.data"):
                content = content[:-9] + bytes(9)
            with tf.io.gfile.GFile(f"{folder}{path.name}", "wb") as file:
                file.write(content)
    checkpoints.mend(folder)
    assert "ckpt-4 is damaged (" in capsys.readouterr().err
    assert checkpoints.newest(folder) == f"{folder}ckpt-3"


def test_where_all_are_damaged_nothing_begins_anew(copy):
    for path in copy.glob("ckpt-*.index"):
        flip_a_bit(path.with_suffix(""))
    before = sorted(copy.rglob("*"))
    with pytest.raises(UserError, match="no checkpoint in .* can be read"):
        checkpoints.mend(str(copy))
    assert sorted(copy.rglob("*")) == before


def test_a_run_without_its_list_of_checkpoints_goes_on(copy):
    (copy / "checkpoint").unlink()
    (copy / "ckpt-5_temp").mkdir()
    checkpoints.mend(str(copy))
    assert checkpoints.newest(str(copy)) == str(copy / "ckpt-4")
    assert not (copy / "ckpt-5_temp").exists()


def test_what_no_list_names_is_deleted_too(copy):
    """A process may be killed before it lists or deletes a checkpoint."""
    for name in ("checkpoint", *(path.name for path in copy.glob("ckpt-2.*"))):
        (copy / name).unlink()
    paths = checkpoints.saved(str(copy))
    assert len(paths) == 3
    checkpoints.mend(str(copy))
    assert checkpoints.listed(str(copy)) == paths
    manager = tf.train.CheckpointManager(
        tf.train.Checkpoint(), str(copy), max_to_keep=2, checkpoint_name="ckpt"
    )
    manager.save(5)
    assert checkpoints.saved(str(copy)) == [paths[-1], f"{copy}/ckpt-5"]


def test_a_folder_that_is_not_there_needs_no_mending(tmp_path):
    checkpoints.mend(str(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
