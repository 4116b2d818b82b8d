"""The tables of variants: the names that users rely on, and what differs."""

import dataclasses

import pytest

from tf_largebatch.rules import (
    LAMB_VARIANTS,
    LARS_VARIANTS,
    LAMBVariant,
    LARSVariant,
)


def test_the_names_of_lars():
    assert list(LARS_VARIANTS) == [
        "mlperf",
        "mlperf_tf",
        "contrib_old",
        "optax",
        "model_garden",
        "model_garden_outside",
        "timm",
        "flax_2020",
    ]


def test_the_names_of_lamb():
    assert list(LAMB_VARIANTS) == ["mlperf", "keras", "flax", "bert_2019"]


@pytest.mark.parametrize(
    "default, variants",
    [(LARSVariant(), LARS_VARIANTS), (LAMBVariant(), LAMB_VARIANTS)],
)
def test_every_column_of_a_table_is_used_by_some_variant(default, variants):
    unused = [
        field.name
        for field in dataclasses.fields(default)
        if all(
            getattr(variant, field.name) == getattr(default, field.name)
            for variant in variants.values()
        )
    ]
    assert variants["mlperf"] == default
    assert not unused


@pytest.mark.parametrize("variants", [LARS_VARIANTS, LAMB_VARIANTS])
def test_a_published_variant_cannot_be_changed(variants):
    with pytest.raises(dataclasses.FrozenInstanceError):
        variants["mlperf"].epsilon = 1.0
