"""Addresses and failures of databases; a password is never shown."""

import contextlib
import socket
import sqlite3
import traceback

import pytest
import sqlalchemy

from tf_largebatch.errors import UserError
from tf_largebatch.study import storage

SECRET = "hunter2"


def refused(action, *arguments):
    """Returns the one line of a refusal, which shows no password."""
    with pytest.raises(UserError) as caught:
        action(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    for text in (message, *traceback.format_exception(caught.value)):
        assert SECRET not in text
    return message


@pytest.mark.parametrize(
    "text, driver",
    [
        ("postgresql://me:pw@host:5/db", "postgresql+psycopg"),
        ("postgres://host/db", "postgresql+psycopg"),
        ("postgresql+psycopg://host/db", "postgresql+psycopg"),
        ("sqlite:///runs/study.db", "sqlite"),
    ],
)
def test_what_is_an_address(text, driver):
    assert storage.parse(text).drivername == driver


@pytest.mark.parametrize(
    "text, words",
    [
        (SECRET, "is no database's URL"),
        (f"host:{SECRET}", "is no database's URL"),
        (f"postgresql://me:{SECRET}@host:port/db", "is no database's URL"),
        (f"mysql://me:{SECRET}@host/db", "another kind of database"),
        (f"postgresql+asyncpg://me:{SECRET}@host/db", "another kind"),
        (f"postgresql://me:a@{SECRET}@host/db", "an @ out of place"),
        (f"postgresql://m/e:{SECRET}@host/db", "an @ out of place"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
    ],
)
def test_what_is_no_address_is_not_repeated(text, words):
    message = refused(storage.parse, text)
    assert words in message
    assert "--storage" in message


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://me:{SECRET}@host/db",
        f"postgresql://me@host/db?password={SECRET}",
        f"postgresql://me:{SECRET}@host/db?sslpassword={SECRET}",
    ],
)
def test_an_address_is_shown_without_its_secrets(text):
    assert storage.shown(storage.parse(text)) == "postgresql://me@host/db"


@pytest.mark.parametrize("password", ["p@ss/w:rd %", "plain"])
def test_a_database_may_repeat_the_password(password):
    url = sqlalchemy.URL.create(
        "postgresql+psycopg", "me", password, "host", database="db"
    )
    quoted = url.render_as_string(hide_password=False)
    error = ValueError(f"bad {password}\n in {quoted}")
    message = storage.reason(error, url)
    assert message == "bad *** in postgresql+psycopg://me:***@host/db"


def test_the_innermost_reason_is_given():
    class Outer(Exception):
        orig = ValueError("disk full")

    error = RuntimeError("Optuna's words")
    error.__cause__ = Outer("SQLAlchemy's words")
    assert storage.reason(error, storage.parse("sqlite:///x")) == "disk full"


def test_a_server_that_is_not_there():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # Bound and not listening.
        port = unused.getsockname()[1]
        url = storage.parse(f"postgresql://me:{SECRET}@127.0.0.1:{port}/db")
        message = refused(storage.connect, url)
    assert f"cannot use postgresql://me@127.0.0.1:{port}" in message
    assert "PGPASSWORD" in message


@pytest.mark.parametrize(
    "name", ["study.db", "what? {SCHEMA_VERSION} 100% #1 é.db"]
)
def test_a_file_may_have_any_name(tmp_path, name):
    url = storage.file(tmp_path / name)
    for new in (True, False):
        storage.connect(url, new).engine.dispose()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert storage.shown(url) == str(tmp_path / name)


def test_a_file_that_is_not_there_is_not_made(tmp_path):
    url = storage.parse(f"sqlite:///{tmp_path}/study.db")
    assert "there is no" in refused(storage.connect, url, False)
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there(tmp_path):
    url = storage.file(tmp_path / "no" / "study.db")
    assert "unable to open" in refused(storage.connect, url)


def test_a_file_that_is_no_database(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work" * 100)
    message = refused(storage.connect, storage.file(tmp_path / "thesis.tex"))
    assert "file is not a database" in message
    assert (tmp_path / "thesis.tex").read_text() == "years of work" * 100


def test_another_optunas_database(tmp_path):
    url = storage.file(tmp_path / "study.db")
    with storage.connect(url).engine.begin() as connection:
        connection.execute(
            sqlalchemy.text("UPDATE alembic_version SET version_num = 'v99'")
        )
    message = refused(storage.connect, url)
    assert "no longer compatible" in message
    assert str(tmp_path / "study.db") in message


def test_a_transaction_that_reads_keeps_other_processes_from_writing(tmp_path):
    """So none can change what it has read before it writes."""
    opened = storage.connect(storage.file(tmp_path / "study.db"))
    with contextlib.closing(
        sqlite3.connect(tmp_path / "study.db", timeout=0)
    ) as other:
        with opened.engine.begin() as connection:
            connection.execute(sqlalchemy.text("SELECT 1"))
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("DELETE FROM trials")
        other.execute("DELETE FROM trials")


@pytest.mark.slow
def test_a_server_that_refuses_the_password(postgresql):
    url = storage.parse(postgresql).set(password=SECRET)
    message = refused(storage.connect, url)
    assert "password authentication failed" in message


@pytest.mark.slow
def test_heartbeats_of_all_machines_are_in_one_time_zone(
    postgresql, monkeypatch
):
    monkeypatch.setenv("PGTZ", "Asia/Tokyo")
    opened = storage.connect(storage.parse(postgresql))
    for _ in range(2):  # The second time the connection is used again.
        with opened.engine.connect() as connection:
            zone = connection.execute(sqlalchemy.text("SHOW TIME ZONE"))
            assert zone.scalar() == "UTC"
    opened.engine.dispose()
