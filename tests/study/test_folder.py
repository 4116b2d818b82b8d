"""A study's folder: nothing of others is touched, nothing half written."""

import concurrent.futures
import contextlib
import os

import pytest
import yaml

from tf_largebatch.errors import UserError
from tf_largebatch.folders import replace
from tf_largebatch.study import folder as folders
from tf_largebatch.study import protocol, storage
from tf_largebatch.study.ledger import Ledger

NAME = "table2_digits_resnet"


def plan(**changes):
    sizes = {"trials": 1, "seeds": 1, "steps": 12, **changes}
    return protocol.create("table2", "digits_resnet", **sizes)


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "runs" / "study"


@pytest.fixture
def begun(folder):
    """The folder of a study of which nothing was run."""
    folders.create(folder, plan(), None).close()
    return folder


def content(folder):
    """Returns all files below a folder with their bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def refused(folder, study=None, url=None):
    """Returns the one line with which a folder is refused, untouched."""
    before = content(folder.parent)
    with pytest.raises(UserError) as caught:
        folders.create(folder, study or plan(), url)
    assert content(folder.parent) == before
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


def test_a_new_study_has_its_protocol_and_its_ledger(begun):
    assert yaml.safe_load((begun / "study.yaml").read_text()) == plan()
    assert set(content(begun)) == {"study.yaml", "study.db"}


def test_a_study_is_taken_up(begun):
    with contextlib.closing(folders.create(begun, plan(), None)) as ledger:
        assert ledger.total == 6
    with contextlib.closing(folders.take_up(begun, None, None)) as ledger:
        assert ledger.study == plan()


def test_a_study_may_get_more_seeds(begun):
    with contextlib.closing(folders.create(begun, plan(), None)) as ledger:
        claim = ledger.claim()
        ledger.finish(claim, {"index": 0, "validation": 1, "test": 1})
    more = plan(seeds=3)
    with contextlib.closing(folders.create(begun, more, None)) as ledger:
        assert (ledger.done, ledger.total) == (1, 2 + 4 * 3)
    assert yaml.safe_load((begun / "study.yaml").read_text()) == more
    with contextlib.closing(folders.take_up(begun, None, None)) as ledger:
        assert ledger.study == more
    assert "seeds 3, not 1" in refused(begun, plan())


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"steps": 48}, "steps 12, not 48"),
        ({"seed": 1}, "seed 0, not 1"),
        ({"heartbeat": 2}, "heartbeat None, not 2"),
        (
            {"workload": {**plan()["workload"], "target": 0.5}},
            "(workload.target 0.97, not 0.5)",
        ),
    ],
)
def test_another_study_is_refused(begun, changes, words):
    message = refused(begun, {**plan(), **changes})
    assert "holds another study" in message
    assert words in message and "--out" in message


def test_a_protocol_that_yaml_writes_otherwise_is_the_same_study(folder):
    """Tuples, numbers like 1e-05 and text with line breaks."""
    odd = {"more": ("a", "b"), "low": 1e-05, "text": "a:\n- 'b'"}
    for _ in range(2):
        folders.create(folder, {**plan(), **odd}, None).close()


@pytest.mark.parametrize(
    "number, words", [(2, "a newer version"), (None, "an earlier version")]
)
def test_a_study_of_another_version(begun, number, words):
    study = {**plan(), "format": number}
    if number is None:
        del study["format"]
    (begun / "study.yaml").write_text(yaml.safe_dump(study))
    assert words in refused(begun)
    with pytest.raises(UserError, match=words):
        folders.take_up(begun, None, None)


def test_files_that_are_no_study_are_left_alone(folder):
    folder.mkdir(parents=True)
    (folder / "thesis.tex").write_text("years of work")
    assert "no study" in refused(folder)
    with pytest.raises(UserError, match="holds no study; make one"):
        folders.take_up(folder, None, None)


def test_a_file_is_no_folder(folder):
    folder.parent.mkdir()
    folder.write_text("years of work")
    assert "is a file, not a folder" in refused(folder)


def test_a_folder_below_a_file(folder):
    folder.parent.write_text("years of work")
    with pytest.raises(UserError, match="cannot write to"):
        folders.create(folder, plan(), None)
    assert folder.parent.read_text() == "years of work"


def test_a_protocol_that_is_no_yaml(begun):
    (begun / "study.yaml").write_text("steps: [")
    assert "study.yaml, line 1" in refused(begun)


def test_a_ledger_that_is_elsewhere_is_not_begun_anew(begun):
    (begun / "study.db").rename(begun / "elsewhere.db")
    assert "has no study.db; give the --storage" in refused(begun)
    with pytest.raises(UserError, match="has no study.db"):
        folders.take_up(begun, None, None)
    url = storage.file(begun / "elsewhere.db")
    folders.create(begun, plan(), url).close()
    folders.take_up(begun, None, url).close()
    assert not (begun / "study.db").exists()


def test_a_ledger_that_is_none(begun):
    (begun / "study.db").write_text("years of work, in some other format")
    assert "file is not a database" in refused(begun)


@pytest.mark.parametrize("left", [[], ["study.db", "study.yaml.0a1b2c3d.new"]])
def test_an_empty_folder_is_taken(folder, left):
    """Also one in which a start failed."""
    folder.mkdir(parents=True)
    for name in left:
        (folder / name).touch()
    folders.create(folder, plan(), None).close()
    assert (folder / "study.yaml").exists()


def test_a_folder_that_cannot_be_written(begun, monkeypatch):
    """By a stand-in, as tests may run as root."""

    def read_only(path, text):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("tf_largebatch.folders.replace", read_only)
    with contextlib.closing(folders.take_up(begun, None, None)) as ledger:
        with pytest.raises(UserError, match="Permission denied.*--out"):
            folders.write_lines(begun, ledger)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "summary.json"
    path.write_text("old")

    def fail(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError):
        replace(path, "new")
    assert path.read_text() == "old"
    monkeypatch.undo()
    replace(path, "new")
    assert content(tmp_path) == {"summary.json": b"new"}


def test_two_may_write_a_file_at_once(tmp_path):
    """As workers do that end together."""
    path = tmp_path / "summary.json"
    contents = [str(number) * 100_000 for number in range(8)]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            list(pool.map(lambda each: replace(path, each), contents))
            assert path.read_text() in contents
    assert list(tmp_path.iterdir()) == [path]


def of_table(**changes):
    return {"table": {**plan()["table"], **changes}}


def of_workload(**changes):
    return {"workload": {**plan()["workload"], **changes}}


@pytest.mark.parametrize(
    "changes, words",
    [
        (
            of_table(question="So?"),
            "question is 'So?', in table table2; give a",
        ),
        (of_table(title=4), "table.title is 4, in table table2; give text"),
        (of_table(name="a/b"), "two rows are called"),
        (of_workload(metric={"name": "loss"}), "metric.direction is missing"),
        (of_workload(evaluations=0), "workload.evaluations is 0"),
        (of_workload(packages=["no-such-one"]), "no-such-one, which the workl"),
    ],
)
def test_what_makes_no_study_is_refused_before_anything_is_made(
    changes, words, folder
):
    """As where it would go on, or its runs could not be reported."""
    study = {**plan(), **changes}
    if "two rows" in words:
        row = study["table"]["rows"][0]
        study = {**plan(), **of_table(rows=[row, row])}
    with pytest.raises(UserError) as caught:
        folders.create(folder, study, None)
    assert words in str(caught.value)
    assert not folder.exists()


def test_its_file_gets_the_seeds_that_another_worker_gave(begun, tmp_path):
    url = storage.file(begun / "study.db")
    other = tmp_path / "other"
    folders.create(other, plan(), url).close()
    folders.create(begun, plan(seeds=3), None).close()
    folders.take_up(other, None, url).close()
    assert yaml.safe_load((other / "study.yaml").read_text())["seeds"] == 3


def test_a_protocol_that_is_lost_can_be_had_from_the_ledger(begun, tmp_path):
    (begun / "study.yaml").unlink()
    with pytest.raises(UserError, match="has study.db but no study.yaml") as e:
        folders.take_up(begun, None, None)
    address = str(e.value).partition("--storage=")[2].partition(" ")[0]
    ledger = Ledger.open(storage.parse(address), NAME)
    with contextlib.closing(ledger):
        folders.write_protocol(tmp_path / "another", ledger)
    found = yaml.safe_load((tmp_path / "another" / "study.yaml").read_text())
    assert found == plan()
