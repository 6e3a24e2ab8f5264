"""Where the store lives: URLs, connections, transactions, and what their errors mean."""

from __future__ import annotations

import contextlib
import errno
import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.pool import QueuePool

from fewmark.core import StoreError

DEFAULT_URL: Final = "sqlite:///fewmark.db"
ENVIRONMENT_VARIABLE: Final = "FEWMARK_STORE"
BUSY_TIMEOUT_S: Final = 60.0
CACHE_KIB: Final = 65_536  # of SQLite's pages: ids are hashes, so that an import touches an index everywhere
PAGE_BYTES: Final = 8192  # a measurement takes 1 KiB: of SQLite's own 4096 much is left over, and written
CONNECT_TIMEOUT_S: Final = 10
LOCK_TIMEOUT_S: Final = 60  # of PostgreSQL, for a writer's turn
STATEMENT_TIMEOUT_S: Final = 300
IDLE_TIMEOUT_S: Final = 300  # after which PostgreSQL ends a transaction in which nothing happens
RECONNECT_PAUSES_S: Final = (0.2, 1.0, 3.0)
_WRITER_LOCK: Final = 0x6665776D61726B  # "fewmark"; any constant that other programs do not use
_POSTGRESQL: Final = ("postgres", "postgresql", "postgresql+psycopg")
DAMAGED_HINT: Final = "it is damaged; `fewmark store check` tells where, `fewmark store salvage` saves the rest"
_HINTS: Final = (
    ("lock timeout", f"another writer has been at it for {LOCK_TIMEOUT_S} s; try again when it is done"),
    ("statement timeout", f"the server took more than {STATEMENT_TIMEOUT_S} s for one statement; is it overloaded?"),
    ("idle-in-transaction", "this process was stopped in the middle of writing; what was written before is safe"),
    ("no such table", "a table is missing; `fewmark store check` tells which, `fewmark store salvage` saves the rest"),
    ("no such column", "the table is damaged or another program's; `fewmark store check` tells more"),
    (
        "could not decode",
        "a text of it is none; `fewmark store check` tells where, `fewmark store salvage` saves the rest",
    ),
    ("not a database", "the file is something else, or damaged; give another path"),
    ("malformed", "it is damaged; `fewmark store salvage NEW` saves what can be read, `sqlite3 FILE .recover` more"),
    ("locked", "another process has been writing for a long time; try again when it is done"),
    ("readonly", "make the file and its folder writable, or copy the store elsewhere"),
    ("unable to open", "check that the folder exists and is writable"),
    ("disk is full", "free some space; everything added before is safe"),
    ("disk i/o error", "check the disk; everything added before is safe"),
    ("does not exist", "create the database first: createdb NAME"),
    ("permission denied", "give the user the right to create tables and to write"),
    ("connection", "check that the PostgreSQL server runs and that host, port and user are right"),
)


def parse_url(url: str | os.PathLike[str] | None) -> sa.URL:
    """The SQLAlchemy URL behind a URL, a plain path, or (None) the environment variable or the default.

    Raises
    ------
    StoreError
        If it is no URL that a store can live at.
    """
    text = os.fspath(url) if url is not None else os.environ.get(ENVIRONMENT_VARIABLE) or DEFAULT_URL
    if "\0" in text:
        raise StoreError("a store's URL holds no NUL", got=text, hint=f"as in {DEFAULT_URL}")
    if not text.strip():
        raise StoreError("a store needs a URL or a path", got=repr(text), hint=f"as in {DEFAULT_URL}")
    if text == ":memory:":
        return sa.URL.create("sqlite", database=":memory:")
    if "://" not in text:
        return sa.URL.create("sqlite", database=str(Path(text).expanduser()))
    try:
        parsed = sa.make_url(text)
    except (sa.exc.ArgumentError, ValueError):
        scheme = text.split("://")[0]  # the rest may hold a password
        raise StoreError("the store's URL cannot be read", got=f"{scheme}://…", hint=f"as in {DEFAULT_URL}") from None
    if parsed.drivername in _POSTGRESQL:
        return parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername != "sqlite" or parsed.query or parsed.host:
        raise StoreError(
            "a store lives in an SQLite file or in PostgreSQL",
            got=parsed.render_as_string(hide_password=True),
            hint="sqlite:///relative.db, sqlite:////absolute.db, a plain path, or postgresql://user@host/database",
        )
    return parsed.set(database=parsed.database or ":memory:")


class Database:
    """Connections to one database, with one writer at a time.

    SQLite runs in WAL mode with ``synchronous=FULL``: a process may be killed at any point either way, but only FULL
    also keeps the last commits when the machine itself goes, as preemptible ones do. A commit then costs a disk sync;
    a measurement costs seconds, and imports are committed in large batches.

    On PostgreSQL writers take turns too, by an advisory lock: two batches that overlap in another order cannot
    deadlock, and the running numbers grow in the order of commits, so that a reader who goes by them misses nothing.
    """

    def __init__(self, url: sa.URL, *, create: bool = True) -> None:
        self.is_sqlite = url.get_backend_name() == "sqlite"
        self.label = url.render_as_string(hide_password=True)
        self._closed = False
        self._pid = os.getpid()
        path = None if not self.is_sqlite or url.database == ":memory:" else Path(str(url.database))
        if path is not None:
            _check_path(path, create=create)
        self._in_memory = self.is_sqlite and path is None
        self.path = path
        if path is not None and create:
            _create_private(path)
        self._engine = self._create_engine(url)
        if path is not None:
            try:
                self._enter_wal_mode()
            except BaseException:
                self._engine.dispose()
                raise

    def close(self) -> None:
        """Close every connection. A store in memory is gone then."""
        self._closed = True
        self._engine.dispose()

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """A connection for reading one page. Raises `StoreError` on any error of the database."""
        with self._translated(), self._connection() as connection:
            yield connection

    @contextmanager
    def write(self, *, complete: bool = False) -> Iterator[sa.Connection]:
        """A transaction that nobody else writes beside; durable once left. Raises `StoreError`, nothing written.

        `complete` says that whatever the new rows refer to is among them or stored: SQLite then does not look it up
        for each of them, which takes as long as writing it.
        """
        connected = self._connection
        with self._translated(), connected() as made, self._unchecked(made, complete) as connection, connection.begin():
            if self.is_sqlite:
                # Deferred transactions that start with a read fail at once when another process writes in between.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_WRITER_LOCK})")
            yield connection

    @contextmanager
    def _unchecked(self, connection: sa.Connection, complete: bool) -> Iterator[sa.Connection]:
        """The connection; to SQLite without a check of foreign keys, which cannot be switched in a transaction."""
        driver = connection.connection.driver_connection
        if not (complete and self.is_sqlite) or driver is None:
            yield connection
            return
        driver.execute("PRAGMA foreign_keys=OFF")
        try:
            yield connection
        finally:
            if driver.in_transaction:  # in one the checks cannot be switched on again
                driver.rollback()
            driver.execute("PRAGMA foreign_keys=ON")

    def _connection(self) -> sa.Connection:
        """A connection; where a server does not answer, tried again for some seconds."""
        if self.is_sqlite:
            return self._connect()
        for pause_s in RECONNECT_PAUSES_S:
            try:
                return self._connect()
            except sa.exc.OperationalError as error:
                if not _may_come_back(error):
                    raise
                time.sleep(pause_s)
        return self._connect()

    def _connect(self) -> sa.Connection:
        if self._closed:
            raise StoreError("the store is closed", got=self.label, hint="open it again with open_store")
        if self._pid != os.getpid() and not self._in_memory:
            # Connections do not survive a fork: the parent keeps its own, the child opens new ones.
            self._engine.dispose(close=False)
            self._pid = os.getpid()
        return self._engine.connect()

    def _create_engine(self, url: sa.URL) -> sa.Engine:
        if not self.is_sqlite:
            try:
                return sa.create_engine(url, connect_args=_limits(url), pool_pre_ping=True)
            except ImportError as error:
                raise StoreError(
                    "PostgreSQL needs the psycopg package",
                    got=str(error),
                    hint="pip install 'fewmark[postgres]'",
                ) from None
        # isolation_level None: transactions are begun by `write`, not by the driver's guess.
        arguments: dict[str, object] = {"timeout": BUSY_TIMEOUT_S, "isolation_level": None, "check_same_thread": False}
        if self._in_memory:
            # The database is its one connection: threads queue for it.
            engine = sa.create_engine(
                url, connect_args=arguments, poolclass=QueuePool, pool_size=1, max_overflow=0, pool_timeout=None
            )
        else:
            engine = sa.create_engine(url, connect_args=arguments)
        sa.event.listen(engine, "connect", _configure_sqlite)
        return engine

    def _enter_wal_mode(self) -> None:
        # The mode stays with the file. Changing it needs the file for oneself and does not wait by itself.
        deadline = time.monotonic() + BUSY_TIMEOUT_S
        while True:
            try:
                with self.read() as connection:
                    if connection.exec_driver_sql("PRAGMA journal_mode").scalar() != "wal":
                        connection.exec_driver_sql(f"PRAGMA page_size={PAGE_BYTES}")  # of an empty file only
                        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                return
            except StoreError as error:
                if "locked" not in str(error.got) or time.monotonic() > deadline:
                    raise
                time.sleep(0.02)

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.DBAPIError as error:
            reason = " ".join(str(error.orig).split()) or type(error.orig).__name__
            hint = next((hint for sign, hint in _HINTS if sign in reason.lower()), None)
            raise StoreError("the store cannot be used", got=f"{self.label}: {reason}", hint=hint) from error
        except (sa.exc.SQLAlchemyError, sqlite3.Error, UnicodeDecodeError, OverflowError) as error:
            # Texts that are none, numbers beyond all integers: what only a damaged file holds.
            reason = f"{self.label}: {type(error).__name__}: {error}"
            raise StoreError("the store holds what it cannot hold", got=reason, hint=DAMAGED_HINT) from error


def _limits(url: sa.URL) -> dict[str, object]:
    """What a connection to PostgreSQL is opened with: no wait without an end, unless the URL says otherwise."""
    settings = {
        "lock_timeout": LOCK_TIMEOUT_S,
        "statement_timeout": STATEMENT_TIMEOUT_S,
        "idle_in_transaction_session_timeout": IDLE_TIMEOUT_S,
    }
    arguments: dict[str, object] = {"connect_timeout": CONNECT_TIMEOUT_S} if "connect_timeout" not in url.query else {}
    if "options" not in url.query:
        arguments["options"] = " ".join(f"-c {name}={seconds}s" for name, seconds in settings.items())
    # A server whose machine is gone says nothing; the kernel then finds out within half a minute.
    alive = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 4, "tcp_user_timeout": 30_000}
    return {**{name: value for name, value in alive.items() if name not in url.query}, **arguments}


def _may_come_back(error: sa.exc.OperationalError) -> bool:
    """Whether a server that cannot be reached may be starting, or busy; one that refuses us is not asked again."""
    reason = str(error.orig).lower()
    signs = ("refused", "starting up", "shutting down", "recovery", "closed the connection", "too many", "timeout")
    return any(sign in reason for sign in signs) and "does not exist" not in reason


def _configure_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
    cursor.close()


def _create_private(path: Path) -> None:
    """A new store is its owner's alone: what runs record may tell of their machine. SQLite's own files follow it."""
    with contextlib.suppress(OSError):  # one that exists keeps its mode; any other fault is told when it is opened
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))


def _check_path(path: Path, *, create: bool) -> None:
    folder = path.parent
    try:
        path.stat()
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            raise StoreError("the store's path is none", got=f"{path}: {error.strerror}") from None
    if path.exists() and not path.is_file() and not path.is_dir():
        raise StoreError("the store's path must be a file", got=path, hint="a pipe or a device keeps nothing")
    if path.is_dir():
        raise StoreError("the store's path is a folder", got=path, hint=f"give a file, as in {path / 'fewmark.db'}")
    if not path.exists() and not create:
        raise StoreError("there is no store", got=path, hint="check the path, or import or measure something first")
    if not folder.is_dir():
        raise StoreError("the store's folder does not exist", got=folder, hint=f"mkdir -p {folder}")
    effective = os.access in os.supports_effective_ids
    for place, what in ((path, "file"), (folder, "folder")):
        if place.exists() and not os.access(place, os.R_OK | os.W_OK, effective_ids=effective):
            raise StoreError(
                f"the store's {what} must be readable and writable",
                got=place,
                hint="SQLite writes beside the file, too; change the permissions, or copy the store elsewhere",
            )
