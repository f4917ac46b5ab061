"""The file of a catalog: its tables; opened, copied for a dry run, thrown away when damaged."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
from typing import TYPE_CHECKING, Final

from localstore.durable import make_folder
from localstore.layout import FILE_MODE

if TYPE_CHECKING:
    from pathlib import Path

    from sqlite_utils import Database

CatalogError = sqlite3.DatabaseError  # it is damaged, locked by another for long, or the disk full

_VERSION: Final = 3
BUSY_TIMEOUT_S: Final = 30.0
_CACHE_KIB: Final = 16_000
_LOG_PAGES: Final = 8000  # 32 MB
_TABLES: Final = {
    "remotes": "id integer primary key, remote text unique, receipts_read, listed_us",
    "files": "id integer primary key, name text unique, size, mtime_ns, data_class, policy_tag,"
    " end, cancels, here",
    "refs": "object text, file, frame, primary key (object, file, frame)",
    "cancels": "file, segment text, frame, at_us, primary key (file, segment, frame)",
    "there": "remote, name text, size, acked, primary key (remote, name)",
    "marks": "remote, name text, primary key (remote, name)",
    "stamps": "remote, name text, seen_us, primary key (remote, name)",
    "parts": "remote, part text, print text, complete, held text, primary key (remote, part)",
    "failures": "remote, name text, count, last_us, primary key (remote, name)",
}
_INDEXES: Final = ("create index if not exists refs_of_file on refs (file)",)


def is_damage(problem: CatalogError) -> bool:
    """Whether it is the file that is of no use, not the disk or another process in the way."""
    passing = ("locked", "busy", "full", "readonly", "unable to open")
    return not any(word in str(problem) for word in passing)


def opened(path: Path, patience_s: float = BUSY_TIMEOUT_S) -> sqlite3.Connection:
    """The catalog at `path`, made where there is none or where it is of no use.

    Args:
        patience_s: how long each change waits for another process.

    Raises:
        CatalogError: another process holds it for long.
    """
    make_folder(path.parent)
    try:
        return _prepared(_connected(path, patience_s))
    except CatalogError as problem:
        if not is_damage(problem):
            raise
        discard(path)
        return _prepared(_connected(path, patience_s))


def _connected(path: Path, patience_s: float) -> sqlite3.Connection:
    path.touch(mode=FILE_MODE)
    return sqlite3.connect(path, timeout=patience_s)


def copied(path: Path) -> sqlite3.Connection:
    """A private copy that is gone when it is closed: in memory, and in a nameless file beyond."""
    copy = sqlite3.connect("")
    if path.exists():
        with (
            contextlib.suppress(sqlite3.DatabaseError),
            contextlib.closing(
                sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)
            ) as real,
        ):
            real.backup(copy)
    try:
        return _prepared(copy)
    except sqlite3.DatabaseError:
        copy.close()
        return _prepared(sqlite3.connect(""))


def _prepared(db: sqlite3.Connection) -> sqlite3.Connection:
    try:
        db.execute(f"pragma cache_size = -{_CACHE_KIB}")
        db.execute("pragma temp_store = file")
        version = db.execute("pragma user_version").fetchone()[0]
        if version not in (0, _VERSION):
            raise sqlite3.DatabaseError("a catalog of another version")
        if version != _VERSION:
            _create(db)
        db.execute("pragma synchronous = normal")
        db.execute(f"pragma wal_autocheckpoint = {_LOG_PAGES}")
    except BaseException:
        db.close()
        raise
    return db


def _database(connection: sqlite3.Connection) -> Database:
    """sqlite-utils loads these where they are installed: memory that a service would keep."""
    absent = {"numpy", "pandas"} - sys.modules.keys()
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment] # an import finds nothing
    try:
        from sqlite_utils import Database
    finally:
        for name in absent:
            sys.modules.pop(name, None)
    return Database(connection, execute_plugins=False)


def _create(connection: sqlite3.Connection) -> None:
    db = _database(connection)
    # A log beside the file, so that readers and one writer do not wait for one another.
    db.enable_wal()
    with db.atomic():
        for table, columns in _TABLES.items():
            without = "" if "integer primary key" in columns else " without rowid"
            db.execute(f"create table if not exists {table} ({columns}){without}")
        for index in _INDEXES:
            db.execute(index)
        db.execute(f"pragma user_version = {_VERSION}")


def discard(path: Path) -> None:
    """Throw a catalog away: everything in it can be found again."""
    for suffix in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
