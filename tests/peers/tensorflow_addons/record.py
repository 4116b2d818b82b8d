"""Records what tensorflow-addons' LAMB does, into trajectories.npz.

tensorflow-addons needs TensorFlow 2.15, which cannot stand beside the one
that the tests run with, so this has an environment of its own, with Python
3.11. In this folder:

    python3.11 -m venv /tmp/tensorflow_addons
    /tmp/tensorflow_addons/bin/python -m pip install -r requirements.txt
    /tmp/tensorflow_addons/bin/python record.py

The file holds all that test_tensorflow_addons.py needs: `start/PATH`, the
weights before the first step; `gradients/PATH` and `rates`, one a step;
`weights/RUN/PATH`, the weights after every step; and `about`, in JSON the
optimizer's config in every run, and the versions.
"""

import json
import pathlib
import platform

import numpy as np
import tensorflow as tf
import tensorflow_addons as tfa

STEPS = 30
HYPERPARAMETERS = {
    "beta_1": 0.8,
    "beta_2": 0.98,
    "epsilon": 1e-3,
    "weight_decay": 0.1,
}
RUNS = {
    "all": HYPERPARAMETERS,
    "two_lists": {
        **HYPERPARAMETERS,
        "exclude_from_weight_decay": ["bias", "gamma"],
        "exclude_from_layer_adaptation": ["bias", "temperature"],
    },
    # The list of one purpose stands for both.
    "one_list": {
        **HYPERPARAMETERS,
        "exclude_from_weight_decay": ["bias", "gamma"],
    },
    "defaults": {},
}


def make_problem():
    """Returns start weights and gradients by path, and the rates.

    Ranks 0 to 4, two starts at zero, gradients in units of their own for each
    variable, those of the table zero for five steps.
    """
    rng = np.random.default_rng(2015)
    start = {
        "conv/kernel": rng.normal(size=(3, 3, 2, 4)),
        "table/embeddings": rng.normal(size=(3, 2, 5)),
        "dense/kernel": rng.normal(size=(6, 5)),
        "dense/bias": np.zeros(5),
        "norm/gamma": np.ones(7),
        "head/kernel": np.zeros((5, 4)),
        "head/temperature": np.array(1.5),
    }
    gradients = {
        path: unit
        * (rng.normal(size=w.shape) + rng.normal(size=(STEPS, *w.shape)))
        for unit, (path, w) in zip(np.geomspace(3, 0.01, 7), start.items())
    }
    gradients["table/embeddings"][:5] = 0
    return (
        {path: w.astype("float32") for path, w in start.items()},
        {path: g.astype("float32") for path, g in gradients.items()},
        rng.uniform(0.01, 0.1, STEPS).astype("float32"),
    )


def trajectory(optimizer, start, gradients, rates):
    """Returns the weights after every step, by path."""
    variables = {path: tf.Variable(w, name=path) for path, w in start.items()}
    weights = []
    for step, rate in enumerate(rates):
        optimizer.learning_rate = float(rate)
        optimizer.apply_gradients(
            (tf.constant(gradients[path][step]), variable)
            for path, variable in variables.items()
        )
        weights.append([v.numpy() for v in variables.values()])
    return dict(zip(variables, map(np.stack, zip(*weights))))


def config_of(optimizer):
    """Returns the arguments as resolved; a list may stand for both."""
    config = optimizer.get_config()
    for name in "name", "learning_rate", "decay":
        del config[name]
    return config


def prefixed(prefix, arrays):
    """Returns the arrays with the prefix before their paths."""
    return {f"{prefix}/{path}": array for path, array in arrays.items()}


def main():
    """Writes trajectories.npz beside this file."""
    start, gradients, rates = make_problem()
    arrays = {
        "rates": rates,
        **prefixed("start", start),
        **prefixed("gradients", gradients),
    }
    configs = {}
    for run, arguments in RUNS.items():
        optimizer = tfa.optimizers.LAMB(**arguments)
        configs[run] = config_of(optimizer)
        weights = trajectory(optimizer, start, gradients, rates)
        arrays.update(prefixed(f"weights/{run}", weights))
    versions = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "tensorflow": tf.__version__,
        "tensorflow-addons": tfa.__version__,
    }
    np.savez_compressed(
        pathlib.Path(__file__).with_name("trajectories.npz"),
        about=json.dumps({"configs": configs, "versions": versions}),
        **arrays,
    )


if __name__ == "__main__":
    main()
