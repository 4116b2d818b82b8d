"""A tiny BERT from plain text to F1 with one command, stopped and not."""

import pathlib
import re
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
import yaml

pytestmark = pytest.mark.slow

RECIPE = "bert_tiny/original"
STEPS = {"phase1": 6, "phase2": 5, "squad": 4}
# In the middle of each part, and how: without and with a chance to save.
STOPS = {
    "phase1": (3, signal.SIGTERM),
    "phase2": (3, signal.SIGKILL),
    "squad": (2, signal.SIGTERM),
}


def overrides():
    """Settings that make the recipes small; dropout is left on."""
    sizes = {"hidden_size": 16, "intermediate_size": 32}
    small = {
        "task": {
            "model": {"encoder": {"bert": sizes}},
            "train_data": {"global_batch_size": 16},
        },
        "trainer": {
            "micro_batch_size": 8,
            "steps_per_loop": 1,
            "summary_interval": 1,
            "validation_interval": 100,
            "checkpoint_interval": 2,
        },
    }
    parts = {
        part: {
            "trainer": {
                "train_steps": steps,
                "optimizer_config": {
                    "learning_rate": {
                        "largebatch_bert_polynomial": {
                            "total_steps": steps,
                            "warmup_steps": 2,
                        }
                    }
                },
            }
        }
        for part, steps in STEPS.items()
    }
    return {**small, **parts}


@pytest.fixture(scope="module")
def arguments(tmp_path_factory):
    """The command, but for the folders."""
    path = tmp_path_factory.mktemp("settings") / "small.yaml"
    path.write_text(yaml.safe_dump(overrides()))
    program = [sys.executable, "-m", "tf_largebatch.cli.main", "train"]
    return [*program, f"--recipe={RECIPE}", f"--config_file={path}"]


def run(arguments, cwd, stop=None):
    """Runs a command, to its end or to a step of a part."""
    process = subprocess.Popen(
        arguments,
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    part, lines = None, []
    for line in process.stderr:
        lines.append(line)
        found = re.match(r"(\w+): in ", line)
        part = found[1] if found else part
        if stop and stop in STOPS and part == stop:
            step, number = STOPS[stop]
            if re.match(rf"train \| step: +{step} ", line):
                process.send_signal(number)
    return process.wait(), process.stdout.read(), "".join(lines)


@pytest.fixture(scope="module")
def whole(arguments, tmp_path_factory):
    """A chain that ran without a stop: its folder and what it printed."""
    folder = tmp_path_factory.mktemp("whole")
    command = [*arguments, "--text=demo", "--model_dir=run"]
    status, output, messages = run(command, folder)
    assert status == 0, messages
    return folder / "run", output


@pytest.fixture(scope="module")
def stopped(arguments, whole, tmp_path_factory):
    """A chain that was stopped in the middle of each part, and went on."""
    folder = tmp_path_factory.mktemp("stopped")
    data = f"--data_dir={whole[0] / 'data'}"
    command = [*arguments, data, "--model_dir=run"]
    for part, (_, number) in STOPS.items():
        status, output, messages = run(command, folder, stop=part)
        wanted = -number if number == signal.SIGKILL else 128 + number
        assert (status, output) == (wanted, ""), messages
    status, output, messages = run(command, folder)
    assert status == 0, messages
    assert "phase1: done" in messages and "phase2: done" in messages
    return folder / "run", output


def state(folder, step):
    """Returns all that a checkpoint holds, by name."""
    reader = tf.train.load_checkpoint(str(folder / f"ckpt-{step}"))
    names = reader.get_variable_to_shape_map()
    return {
        name: reader.get_tensor(name)
        for name in names
        if not name.startswith(("_CHECKPOINTABLE", "save_counter"))
    }


@pytest.mark.parametrize("part", STEPS)
def test_a_chain_that_goes_on_ends_bit_by_bit_where_it_would_have(
    part, whole, stopped
):
    found, wanted = (
        state(folder / part, STEPS[part]) for folder, _ in (stopped, whole)
    )
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, name)


def test_it_prints_the_figures_of_each_part_and_f1(whole, stopped):
    assert stopped[1] == whole[1]
    lines = whole[1].splitlines()
    for line, (part, step) in zip(lines, STEPS.items(), strict=True):
        assert line.startswith(f"{part}: step {step}, ")
    assert re.search(
        r"F1 [\d.]+%, exact match [\d.]+%, questions 10$", lines[-1]
    )


def test_each_part_counts_its_own_steps(whole):
    for part, steps in STEPS.items():
        values = state(whole[0] / part, steps)
        (step,) = (values[name] for name in values if "global_step" in name)
        assert step == steps


def test_a_phase_begins_with_the_weights_before_it_alone(
    arguments, whole, tmp_path
):
    """Its first step, whose rate is 0, leaves them where they were."""
    command = [
        *arguments,
        f"--recipe={RECIPE}/phase2",
        f"--data_dir={whole[0] / 'data'}",
        "--mode=train",
        f"--model_dir={tmp_path}/phase2",
        f"--params_override=task.init_checkpoint={whole[0]}/phase1,"
        "trainer.train_steps=1",
    ]
    status, _, messages = run(command, tmp_path)
    assert status == 0, messages
    before = state(whole[0] / "phase1", STEPS["phase1"])
    after = state(tmp_path / "phase2", 1)
    assert before.keys() == after.keys()
    moments = {name for name in before if name.startswith("optimizer/")}
    weights = {x for x in before if "global_step" not in x} - moments
    assert len(weights) > 30 and len(moments) > 60
    for name in weights:
        np.testing.assert_array_equal(after[name], before[name], name)
    changed = [name for name in moments if (after[name] != before[name]).any()]
    assert len(changed) > 60


def test_a_finished_chain_is_left_alone(arguments, whole):
    folder, output = whole
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    command = [*arguments, "--text=demo", "--model_dir=run"]
    status, again, messages = run(command, folder.parent)
    assert (status, again) == (0, output)
    for name in ("data", *STEPS):
        assert f"{name}: done, in " in messages
    assert before == {p: p.stat().st_mtime_ns for p in folder.rglob("*")}


@pytest.mark.parametrize("part", ["phase2", "squad"])
def test_a_part_can_be_trained_alone(part, arguments, whole, tmp_path):
    """From the part before it, to the same end."""
    folder, _ = whole
    before = {"phase2": "phase1", "squad": "phase2"}[part]
    command = [
        *arguments,
        f"--recipe={RECIPE}/{part}",
        f"--data_dir={folder / 'data'}",
        "--mode=train",
        f"--model_dir={tmp_path / part}",
        f"--params_override=task.init_checkpoint={folder / before}",
    ]
    status, _, messages = run(command, tmp_path)
    assert status == 0, messages
    found, wanted = (
        state(pathlib.Path(place) / part, STEPS[part])
        for place in (tmp_path, folder)
    )
    for name, value in wanted.items():
        np.testing.assert_array_equal(found[name], value, name)


def test_other_data_is_not_taken_for_its_own(arguments, whole):
    command = [
        *arguments,
        "--text=demo",
        "--model_dir=run",
        "--params_override=phase1.task.train_data.seq_length=32",
    ]
    status, _, messages = run(command, whole[0].parent)
    assert status == 2
    last = messages.splitlines()[-1]
    assert "run/data holds other data (max_seq_length is [64, 128]" in last
