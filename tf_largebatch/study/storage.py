"""Opens the database that holds a study's ledger: SQLite or PostgreSQL.

Passwords stay inside: no message has one, whatever the database said.
"""

import contextlib
import pathlib
import urllib.parse
from collections.abc import Iterator
from typing import Any

import sqlalchemy
from optuna import exceptions
from optuna.storages import RDBStorage
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from tf_largebatch.errors import UserError

URL = sqlalchemy.URL
DRIVERS = {
    "sqlite": "sqlite",
    "postgres": "postgresql+psycopg",
    "postgresql": "postgresql+psycopg",
    "postgresql+psycopg": "postgresql+psycopg",
}
HIDDEN = "***"
# How long a process waits for the others' writes to a SQLite file, and for a
# server's answer, in seconds.
BUSY = 60
UNREACHABLE = 10


def parse(text: str) -> URL:
    """Returns a database's address.

    Raises:
        UserError: it is none, or not of a database that is supported. The
            message does not repeat it, as it may hold a password.
    """
    form = "give postgresql://USER@HOST/NAME or sqlite:///FILE"
    try:
        url = sqlalchemy.make_url(text)
    except (ArgumentError, ValueError):
        raise UserError(f"--storage is no database's URL; {form}") from None
    if url.drivername not in DRIVERS:
        raise UserError(f"--storage names another kind of database; {form}")
    if url.drivername == "sqlite" and url.database in (None, "", ":memory:"):
        raise UserError(f"--storage names no file; {form}")
    places = (url.host, url.database, *map(str, url.query.values()))
    if url.drivername != "sqlite" and any("@" in (x or "") for x in places):
        # Part of a password, which would be shown as if it were a host.
        raise UserError(
            "--storage has an @ out of place; write those in a password as "
            "%40, a / as %2F and a : as %3A"
        )
    return url.set(drivername=DRIVERS[url.drivername])


def file(path: pathlib.Path) -> URL:
    """Returns the address of a SQLite file, whatever characters it has."""
    return URL.create(
        "sqlite", database=path.resolve().as_uri(), query={"uri": "true"}
    )


def shown(url: URL) -> str:
    """Returns an address for a person to read, without its secrets.

    >>> shown(parse("postgresql://me:secret@host/db?sslpassword=secret"))
    'postgresql://me@host/db'
    """
    if url.drivername == "sqlite":
        return urllib.parse.unquote(
            (url.database or "").removeprefix("file://")
        )
    return URL.create(
        "postgresql",
        url.username,
        host=url.host,
        port=url.port,
        database=url.database,
    ).render_as_string()


def secrets(url: URL) -> set[str]:
    """Returns what must not be shown of an address, in every spelling."""
    query = [x for key, x in url.query.items() if "password" in key]
    found = {str(x) for x in (url.password, *query) if x}
    # SQLAlchemy leaves spaces and plus signs as they are.
    return found | {
        urllib.parse.quote(x, safe) for x in found for safe in ("", " +")
    }


def reason(error: BaseException, url: URL) -> str:
    """Returns in one line, without secrets, what a database objected to."""
    inner: BaseException | None = error
    while inner is not None:
        error = getattr(inner, "orig", None) or inner
        inner = error.__cause__
    text = " ".join(str(error).split()) or type(error).__name__
    for secret in sorted(secrets(url), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    return text


@contextlib.contextmanager
def reporting(url: URL) -> Iterator[None]:
    """Turns whatever the database objects to into one line for the user."""
    try:
        yield
    except (SQLAlchemyError, exceptions.StorageInternalError) as error:
        # Not chained, as what is chained may be shown too.
        hint = (
            "make room, or choose another --out or --storage"
            if url.drivername == "sqlite"
            else "check --storage and the password (PGPASSWORD, ~/.pgpass)"
        )
        raise UserError(
            f"cannot use {shown(url)}: {reason(error, url)}; {hint}"
        ) from None


def connect(url: URL, new: bool = True) -> RDBStorage:
    """Opens a database, and makes Optuna's tables in it if there are none.

    Args:
        url: its address.
        new: whether a SQLite file may be made.

    Raises:
        UserError: it cannot be reached, refuses, is no such database, or is
            another Optuna's.
    """
    text = url.render_as_string(hide_password=False)
    if url.drivername == "sqlite" and not (
        new or pathlib.Path(shown(url)).exists()
    ):
        raise UserError(f"there is no {shown(url)}; check --storage")
    with reporting(url):
        try:
            storage = RDBStorage(
                # Optuna fills a template.
                text.replace("{", "{{").replace("}", "}}"),
                engine_kwargs=engine_options(url),
            )
        except RuntimeError as error:
            raise UserError(f"{shown(url)}: {reason(error, url)}") from None
        except ImportError:
            raise UserError(
                "PostgreSQL needs a package that is not installed (psycopg); "
                "pip install 'tf-largebatch[postgresql]'"
            ) from None
        prepare(storage.engine)
    return storage


def engine_options(url: URL) -> dict[str, Any]:
    """Returns SQLAlchemy's settings for an address."""
    if url.drivername == "sqlite":
        return {"connect_args": {"timeout": BUSY}}
    wait = url.query.get("connect_timeout", UNREACHABLE)
    return {
        "connect_args": {"connect_timeout": wait},
        # A server that was started anew costs no run.
        "pool_pre_ping": True,
        # Whoever waited for a trial's lock must see what became of it.
        "isolation_level": "READ COMMITTED",
    }


def prepare(engine: sqlalchemy.Engine) -> None:
    """Makes what Optuna does in one transaction happen as one.

    To claim a trial it reads the state and then writes it. PostgreSQL locks
    the trial for that. In SQLite two processes could both read first, so
    here each transaction begins with the lock on the file.
    """
    if engine.name == "sqlite":
        event.listen(engine, "connect", begin_nothing)
        event.listen(engine, "begin", begin_with_the_lock)
    else:
        event.listen(engine, "connect", use_utc)
    engine.dispose()


def begin_nothing(connection: Any, record: Any) -> None:
    """Keeps Python's SQLite from beginning transactions of its own."""
    del record
    connection.isolation_level = None


def begin_with_the_lock(connection: sqlalchemy.Connection) -> None:
    """Begins a transaction that no other process writes during."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def use_utc(connection: Any, record: Any) -> None:
    """Has heartbeats of all machines written in one time zone."""
    del record
    with connection.cursor() as cursor:
        cursor.execute("SET TIME ZONE 'UTC'")
    connection.commit()
