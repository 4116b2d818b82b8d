"""The example package: its optimizer and schedule, and all of it installed."""

import importlib
import json
import os
import pathlib
import re
import runpy
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

from tf_largebatch import configs

ROOT = pathlib.Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "own_optimizer"
RATES = np.array([0.1, 0.05, 0.2, 0.0, 0.01, 0.3])


@pytest.fixture
def package(monkeypatch):
    """A function that imports a module of the package."""
    monkeypatch.syspath_prepend(EXAMPLE)
    return lambda name: importlib.import_module(f"own_optimizer.{name}")


def lion(w, gradients, beta_1, beta_2, decay):
    """Algorithm 2 of the paper, in float64; returns where it ends."""
    m = np.zeros_like(w)
    for g, eta in zip(gradients, RATES):
        c = beta_1 * m + (1 - beta_1) * g
        w = w - eta * (np.sign(c) + decay * w)
        m = beta_2 * m + (1 - beta_2) * g
    return w


@pytest.mark.parametrize("family", ["keras", "tf_keras"])
def test_lion_against_its_paper(package, family):
    random = np.random.default_rng(0)
    starts = [random.normal(size=shape) for shape in ((4, 3), (3,))]
    gradients = [random.normal(size=(len(RATES), *w.shape)) for w in starts]
    kind = keras.Variable if family == "keras" else tf.Variable
    names = ("kernel", "bias")
    variables = [
        kind(w.astype("float32"), name=name) for w, name in zip(starts, names)
    ]
    rate = kind(0.0, name="rate")
    numbers = {"beta_1": 0.8, "beta_2": 0.95, "weight_decay": 0.3}
    optimizer = package(family).Lion(rate, **numbers)
    for step, eta in enumerate(RATES):
        rate.assign(np.float32(eta))
        given = [tf.constant(g[step], tf.float32) for g in gradients]
        optimizer.apply_gradients(list(zip(given, variables)))
    for w, g, decay, variable in zip(starts, gradients, (0.3, 0), variables):
        wanted = lion(w, g, 0.8, 0.95, decay)
        np.testing.assert_allclose(np.array(variable), wanted, rtol=1e-5)


@pytest.mark.parametrize("family", ["keras", "tf_keras"])
def test_the_trapezoid(package, family):
    schedule = package(family).Trapezoid(
        2.0, total_steps=20, warmup_steps=4, final=0.5, decay_fraction=0.3
    )
    wanted = {0: 0, 1: 0.5, 4: 2, 5: 2, 14: 2, 17: 1.25, 20: 0.5, 30: 0.5}
    found = [float(schedule(step)) for step in wanted]
    np.testing.assert_allclose(found, list(wanted.values()), rtol=1e-6)
    with pytest.raises(ValueError, match="decay_fraction"):
        package(family).Trapezoid(1.0, 20, warmup_steps=18)


def test_they_serve_a_keras_user_too(package):
    module = package("keras")
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    schedule = module.Trapezoid(0.1, total_steps=4)
    model.compile(optimizer=module.Lion(schedule), loss="mse")
    model.fit(np.ones((8, 3)), np.ones((8, 1)), verbose=0)
    config = keras.saving.serialize_keras_object(model.optimizer)
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config() == model.optimizer.get_config()
    assert config["registered_name"] == "own_optimizer>Lion"


def test_the_workload_is_as_it_says(package):
    path = "configs/workloads/tumour_mlp.yaml"
    config = configs.read(EXAMPLE / "own_optimizer" / path)
    task = package("tumour_mlp").Task(config)
    sizes = {name: len(x) for name, (x, _) in task.splits.items()}
    assert sizes == config["splits"]
    parameters = task.build_model(0, config["settings"]).count_params()
    assert f"{parameters} parameters" in config["description"]
    assert f" {sum(sizes.values())} tumours" in config["description"]


@pytest.fixture(scope="module")
def run(tmp_path_factory, uv):
    """A function that runs a command where the package is installed."""
    folder = tmp_path_factory.mktemp("installed")
    # A copy, as a build leaves files behind.
    source = shutil.copytree(EXAMPLE, folder / "source")
    subprocess.run(
        [
            *(uv, "pip", "install", "--quiet", "--python", sys.executable),
            *("--build-constraints", ROOT / "build-constraints.txt"),
            *("--no-deps", "--target", folder / "site", source),
        ],
        check=True,
    )
    path = os.pathsep.join([str(ROOT), str(folder / "site")])

    def command(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "tf_largebatch.cli.main", *arguments],
            env={**os.environ, "PYTHONPATH": path},
            cwd=folder,
            capture_output=True,
            text=True,
        )

    return command


SMALL = ("--trials=2", "--seeds=2", "--steps=20")


@pytest.mark.slow
def test_two_workers_compare_it(run, tmp_path):
    out = tmp_path / "study"
    flags = (*SMALL, "--workers=2", f"--out={out}")
    rows = "--rows=lion,adam,keras_lion"
    finished = run("compare", "--table=lion", rows, *flags)
    assert finished.returncode == 0, finished.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert [(row["name"], row["seeds"]) for row in summary["rows"]] == [
        ("lion", 2),
        ("adam", 2),
        ("keras_lion", 2),
    ]
    assert summary["versions"]["own-optimizer"] == "0.1.0"
    report = (out / "report.html").read_text()
    assert "Lion or Adam?" in report
    assert "tf-largebatch compare --table=lion" in report


@pytest.mark.slow
def test_it_joins_what_ships(run, tmp_path):
    """Lion on the digits, by a file; and what a study's machine must have."""
    table = tmp_path / "mine.yaml"
    table.write_text(
        "{table: mine, workload: digits_resnet, steps: 12, trials: 2, "
        "seeds: 2, settings: {schedule: trapezoid}, rows: [{optimizer: "
        "{class: Lion}, space: {learning_rate: "
        "{scale: log, low: 1e-4, high: 1e-2}}}]}"
    )
    out = f"--out={tmp_path / 'study'}"
    made = run("study", "create", f"--table={table}", out)
    assert made.returncode == 0, made.stderr
    done = run("study", "run", "--workers=2", out)
    assert done.returncode == 0, done.stderr
    assert re.search(r"^Lion +0\.\d+", done.stdout, re.MULTILINE)
    without = subprocess.run(
        [sys.executable, "-m", "tf_largebatch.cli.main", "study", "run", out],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert without.returncode == 2
    assert "the optimizer 'Lion'; choose one of Adam" in without.stderr


@pytest.mark.slow
def test_it_is_trained_and_exported(run, tmp_path):
    garden = runpy.run_path(str(ROOT / "tests/garden/conftest.py"))
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    values = garden["small_settings"](garden["write_pictures"](pictures))
    del values["task"]["model"]["backbone"]
    values["trainer"] |= {"train_steps": 2, "validation_interval": 2}
    small = tmp_path / "small.yaml"
    small.write_text(json.dumps(values))
    finished = run(
        "train",
        "--experiment=own/plain_imagenet",
        f"--config_file={EXAMPLE / 'lion_resnet.yaml'}",
        f"--config_file={small}",
        f"--model_dir={tmp_path / 'run'}",
    )
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.startswith("step 2, top-1 ")
    exported = run(
        "export",
        f"--checkpoint={tmp_path / 'run' / 'ckpt-2'}",
        f"--export_dir={tmp_path / 'export'}",
    )
    assert exported.returncode == 0, exported.stderr
