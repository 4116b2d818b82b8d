"""Made-up studies of the paper's tables, finished and not."""

import runpy
from pathlib import Path
from typing import Any

import pytest

from tf_largebatch.study import plots

FakeStudy = runpy.run_path(str(Path(__file__).with_name("fake_study.py")))[
    "FakeStudy"
]


@pytest.fixture(scope="session")
def table4() -> Any:
    """A finished study of table 4; nothing changes it."""
    return FakeStudy.finished()


@pytest.fixture(scope="session")
def table2() -> Any:
    """A finished study of table 2."""
    return FakeStudy.finished("table2")


@pytest.fixture(scope="session")
def fake_study() -> Any:
    """The class that makes up studies."""
    return FakeStudy


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has pictures that are composed and not drawn, which takes longest."""
    monkeypatch.setattr(
        plots,
        "picture",
        lambda file, alt, figure: plots.Picture(file, alt, b"PNG", 10, 10),
    )
