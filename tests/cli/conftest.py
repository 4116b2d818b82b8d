"""A real comparison, small enough to be run by the tests."""

import pathlib

import pytest

from tf_largebatch.cli.main import main

SMALL = (
    "compare --table=table2 --trials=2 --seeds=2 --steps=12 --seed=3 "
    "--workers=1".split()
)


@pytest.fixture(scope="session")
def small() -> list[str]:
    """The arguments of the small comparison, without its folder."""
    return SMALL


@pytest.fixture(scope="session")
def compared(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The folder of the small comparison, finished."""
    folder = tmp_path_factory.mktemp("compare") / "study"
    assert main([*SMALL, f"--out={folder}"]) == 0
    return folder
