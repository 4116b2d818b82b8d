"""Slices have the names that Google Cloud and the compiler have for them."""

import pytest

from tf_largebatch.errors import UserError
from tf_largebatch.tpu import slices


@pytest.mark.parametrize(
    "name, topology, devices, memory",
    [
        ("v2-8", "v2:2x2", 8, 8),
        ("v3-8", "v3:2x2", 8, 16),
        ("v3-32", "v3:4x4", 32, 16),
        ("v3-512", "v3:16x16", 512, 16),
        ("v3-2048", "v3:32x32", 2048, 16),
        ("v4-8", "v4:2x2x1", 4, 32),
        ("v4-512", "v4:4x8x8", 256, 32),
        ("v5e-256", "v5e:16x16", 256, 16),
        ("v5litepod-16", "v5e:4x4", 16, 16),
        ("v5p-128", "v5p:4x4x4", 64, 95),
        ("v6e-8", "v6e:2x4", 8, 32),
    ],
)
def test_a_name_stands_for_chips(name, topology, devices, memory):
    found = slices.find(name)
    assert found.topology == topology
    assert found.devices == devices
    assert found.memory == memory * 2**30
    assert slices.find(topology) == found


@pytest.mark.parametrize(
    "name, advice",
    [
        ("", "give a generation (v2, v3, v4, v5e, v5p, v6e) and a size"),
        ("v3", "give a generation"),
        ("v9-8", "give a generation"),
        ("h100-8", "give a generation"),
        ("v3-", "give a generation"),
        ("v3-513", "did you mean v3-512?"),
        ("v3-7", "v3-8"),
        ("v4-2x2x1", "v4-"),
        ("v3:2x2x1", "v3-8"),
        ("v3:4x2", "v3-"),
        ("v5e:x", "v5e-"),
    ],
)
def test_what_is_no_slice_is_one_line(name, advice):
    with pytest.raises(UserError, match="there is no slice") as caught:
        slices.find(name)
    assert advice in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", slices.CHIPS)
def test_no_two_slices_have_one_name(kind):
    chip = slices.CHIPS[kind]
    found = [
        slices.find(f"{kind}-{chips * chip.counted}") for chips in chip.shapes
    ]
    assert len({each.name for each in found}) == len(chip.shapes)
    assert [each.shape for each in found] == list(chip.shapes.values())
