"""LAMB against the one of tensorflow-addons, as TensorFlow 2.15 ran it.

The record is tensorflow_addons/trajectories.npz; record.py beside it says how
it is made.
"""

import dataclasses
import json
import pathlib

import numpy as np
import pytest

FILE = pathlib.Path(__file__).parent / "tensorflow_addons/trajectories.npz"

ZEROS = {"dense/bias", "head/kernel"}
KERNELS = {"conv/kernel", "table/embeddings", "dense/kernel", "head/kernel"}
DECAYED = KERNELS | {"head/temperature"}
EVERY = DECAYED | {"dense/bias", "norm/gamma"}


@pytest.fixture(scope="module")
def record():
    with np.load(FILE) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def about(record):
    """The optimizer's config in each run, and the versions."""
    return json.loads(str(record["about"]))


@pytest.fixture(scope="module")
def recorded(problem, record):
    """The problem that was solved."""
    return dataclasses.replace(
        problem,
        start=below("start", record),
        gradients=below("gradients", record),
        rates=record["rates"],
    )


def below(prefix, record):
    """Returns by path what the record has under a prefix."""
    return {
        name.removeprefix(f"{prefix}/"): array
        for name, array in record.items()
        if name.startswith(f"{prefix}/")
    }


@pytest.mark.parametrize(
    "run, variant, apart",
    [
        ("all", "mlperf", set()),
        ("all", "keras", EVERY),
        ("all", "flax", ZEROS),
        # A ratio takes the scale of the update out of a scalar.
        ("all", "bert_2019", EVERY - {"head/temperature"}),
        ("two_lists", "mlperf", set()),
        ("two_lists", "keras", KERNELS),
        ("two_lists", "flax", {"head/kernel"}),
        ("two_lists", "bert_2019", EVERY),
        ("one_list", "mlperf", set()),
        ("one_list", "keras", DECAYED),
        ("one_list", "flax", {"head/kernel"}),
        ("defaults", "mlperf", set()),
        ("defaults", "flax", ZEROS),
    ],
)
def test_lamb_is_the_default_variant(
    family, record, about, recorded, run, variant, apart
):
    config = about["configs"][run]
    arguments = {name: () if v is None else v for name, v in config.items()}
    optimizer = family.largebatch.LAMB(**arguments, variant=variant)
    ours = recorded.trajectory(family, optimizer)
    assert recorded.apart(ours, below(f"weights/{run}", record)) == apart


def test_one_list_stands_for_both_only_in_tensorflow_addons(
    family, record, about, recorded
):
    arguments = {
        **about["configs"]["one_list"],
        "exclude_from_layer_adaptation": (),
    }
    optimizer = family.largebatch.LAMB(**arguments)
    ours = recorded.trajectory(family, optimizer)
    peer = below("weights/one_list", record)
    assert recorded.apart(ours, peer) == {"dense/bias", "norm/gamma"}


def test_the_default_variant_has_the_epsilon_of_tensorflow_addons(
    family, about
):
    epsilon = about["configs"]["defaults"]["epsilon"]
    assert family.largebatch.LAMB().epsilon == epsilon


def test_the_record_is_of_the_pinned_versions(about):
    lines = FILE.with_name("requirements.txt").read_text().splitlines()
    pins = dict(line.split()[0].split("==") for line in lines if line[0] != "#")
    versions = dict(about["versions"])
    assert versions.pop("python").startswith("3.11.")
    assert versions.items() <= pins.items()
