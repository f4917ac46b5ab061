"""The catalog: what the engine would have to compute again, `local/catalog.db` of a project.

A cache and nothing but a cache: it may be deleted at any time, a damaged one is thrown away. It
holds opaque ids and numbers only. It never lies on a network file system, whose locks cannot be
trusted: then it is in a folder of this machine.
"""

from __future__ import annotations

import contextlib
import re
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from localstore.crypto import digest
from localstore.durable import make_folder
from localstore.format import spec

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlite_utils import Database

    from localstore.layout import ProjectPaths
    from localstored.receipts import ReceiptFile

CATALOG_FILE: Final = "catalog.db"
_VERSION: Final = 2
_BUSY_TIMEOUT_S: Final = 30.0
_NETWORK: Final = frozenset(
    {"nfs", "nfs4", "cifs", "smb3", "smbfs", "lustre", "9p", "gpfs", "beegfs", "ceph", "afs"}
)
_OCTAL: Final = re.compile(r"\\([0-7]{3})")
_TABLES: Final = {
    "files": ("name text primary key, size, mtime_ns, data_class, policy_tag, end, cancels", 7),
    "refs": ("name text, frame, object text, primary key (name, frame, object)", 3),
    "cancels": ("name text, segment text, frame, at_us, primary key (name, segment, frame)", 4),
    "cursors": ("remote text, name text, size, sha256, primary key (remote, name)", 4),
    "marks": ("remote text, name text, primary key (remote, name)", 2),
    "progress": ("remote text primary key, offset", 2),
}


class FileFacts(NamedTuple):
    """What one look at a file found; valid while size and time stay the same."""

    size: int
    mtime_ns: int
    data_class: int
    policy_tag: str  # hex
    end: int  # bytes that may be shipped
    cancels: bool = False  # whether UNREF frames stand in it


class Cursor(NamedTuple):
    """What a remote acknowledged for a name: so many of our bytes, and their SHA-256 in hex."""

    size: int
    sha256: str


class Catalog:
    """The catalog of one project, read whole at the start and written in batches.

    Attributes:
        files: facts by name.
        refs: by the name of a log: object ids (hex) by the index of the REF frame that names them.
        cancels: by the name of a log: the REF frames (segment, index) that its UNREF frames name as
            far as a head vouches for them, and when (µs) that was signed.
        cursors: by name, for one remote. `marks`: names that need no copy there, or none from
            there, because a longer log holds the same bytes.
    """

    def __init__(self, path: Path, remote_id: str) -> None:
        self.path, self.remote_id = path, remote_id
        self._clear()
        try:
            self._load()
        except sqlite3.DatabaseError:
            # Damaged, or of another form: everything in it can be found again.
            self._clear()
            for suffix in ("", "-journal"):
                path.with_name(path.name + suffix).unlink(missing_ok=True)

    def _clear(self) -> None:
        self.files: dict[str, FileFacts] = {}
        self.refs: dict[str, dict[int, frozenset[str]]] = {}
        self.cancels: dict[str, dict[tuple[str, int], int]] = {}
        self.cursors: dict[str, Cursor] = {}
        self.marks: set[str] = set()
        self.receipts_read = 0
        self._changed: dict[str, list[tuple[object, ...]]] = {table: [] for table in _TABLES}
        self._counted_anew: set[str] = set()

    # -------------------------------------------------------------- facts
    def remember_file(
        self, name: str, facts: FileFacts, refs: Mapping[int, frozenset[str]] | None = None
    ) -> None:
        """Keep what a look at a file found, and the objects that it refers to."""
        self.files[name] = facts
        self._changed["files"].append((name, *facts))
        known = self.refs.setdefault(name, {}) if refs else {}
        for frame, ids in (refs or {}).items():
            new = ids - known.get(frame, frozenset())
            if new:
                known[frame] = known.get(frame, frozenset()) | new
                self._changed["refs"] += [(name, frame, id_) for id_ in sorted(new)]

    def remember_cancels(self, name: str, cancels: dict[tuple[str, int], int]) -> None:
        """Keep which REF frames a log cancels: all of them, for a log may have been replaced."""
        self.cancels[name] = cancels
        self._changed["cancels"] += [(name, *frame, at_us) for frame, at_us in cancels.items()]
        self._counted_anew.add(name)

    def remember_cursor(self, name: str, cursor: Cursor) -> None:
        """Keep what the remote acknowledged."""
        self.cursors[name] = cursor
        self._changed["cursors"].append((self.remote_id, name, *cursor))

    def remember_mark(self, name: str) -> None:
        """Keep that a name needs no copy on the other side."""
        self.marks.add(name)
        self._changed["marks"].append((self.remote_id, name))

    def catch_up(self, receipts: ReceiptFile) -> None:
        """Take in the receipts that are not in the cursors yet; they are the truth behind them."""
        lines, end = receipts.read_from(self.receipts_read)
        for line in lines:
            self.remember_cursor(line.name, Cursor(line.size, line.sha256))
        if end != self.receipts_read:
            self.receipts_read = end
            self._changed["progress"].append((self.remote_id, end))

    # -------------------------------------------------------------- the file
    def _load(self) -> None:
        if not self.path.exists():
            return
        with contextlib.closing(self._open()) as db:
            rows = db.conn.execute
            if rows("pragma user_version").fetchone()[0] != _VERSION:
                raise sqlite3.DatabaseError("a catalog of another version")
            for name, *facts in rows("select * from files"):
                self.files[name] = FileFacts(*facts)
            self._load_references(rows)
            mine = (self.remote_id,)
            for name, *cursor in rows(
                "select name, size, sha256 from cursors where remote = ?", mine
            ):
                self.cursors[name] = Cursor(*cursor)
            self.marks = {n for (n,) in rows("select name from marks where remote = ?", mine)}
            found = rows("select offset from progress where remote = ?", mine).fetchone()
            self.receipts_read = found[0] if found else 0

    def _load_references(self, rows: Callable[[str], sqlite3.Cursor]) -> None:
        refs: dict[str, dict[int, set[str]]] = {}
        for name, frame, object_id in rows("select name, frame, object from refs"):
            refs.setdefault(name, {}).setdefault(frame, set()).add(object_id)
        for name, frames in refs.items():
            self.refs[name] = {frame: frozenset(ids) for frame, ids in frames.items()}
        for name, segment, frame, at_us in rows("select * from cancels"):
            self.cancels.setdefault(name, {})[segment, frame] = at_us

    def save(self) -> None:
        """Write what changed since the last time; a catalog that cannot be written is no error."""
        if not any(self._changed.values()):
            return
        make_folder(self.path.parent)
        # A cache that is locked or damaged just now costs time, never data.
        with contextlib.suppress(sqlite3.DatabaseError), contextlib.closing(self._open()) as db:
            self._create(db)
            with db.atomic():
                gone = [(name,) for name in self._counted_anew]
                db.conn.executemany("delete from cancels where name = ?", gone)
                for table, rows in self._changed.items():
                    places = ",".join("?" * _TABLES[table][1])
                    statement = f"insert or replace into {table} values ({places})"  # noqa: S608
                    db.conn.executemany(statement, rows)
        self._changed = {table: [] for table in _TABLES}
        self._counted_anew = set()

    def _open(self) -> Database:
        from sqlite_utils import Database

        connection = sqlite3.connect(self.path, timeout=_BUSY_TIMEOUT_S)
        return Database(connection, execute_plugins=False)

    def _create(self, db: Database) -> None:
        if db.conn.execute("pragma user_version").fetchone()[0] == _VERSION:
            return
        self.path.chmod(0o600)
        with db.atomic():
            for table, (columns, _) in _TABLES.items():
                db.conn.execute(f"create table if not exists {table} ({columns}) without rowid")
            db.conn.execute(f"pragma user_version = {_VERSION}")


# ------------------------------------------------------------------ where it lies
def catalog_path(paths: ProjectPaths, mounts: str, node_folder: Path) -> Path:
    """Where the catalog of a project lies.

    Args:
        mounts: the text of /proc/self/mountinfo; empty where there is none.
        node_folder: a folder on this machine's own disk, for homes on a network file system.
    """
    if not is_network(file_system_of(paths.root.resolve(), mounts)):
        return paths.local / CATALOG_FILE
    place = digest(spec.LABEL_CACHE, str(paths.root.resolve()).encode(), size=16).hex()
    return node_folder / f"catalog-{place}.db"


def read_mounts() -> str:
    """The mounts that this process sees; empty on a system that does not say."""
    try:
        return Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    except OSError:
        return ""


def file_system_of(path: Path, mounts: str) -> str:
    """The type of the file system that holds `path`: of all mounts above it, the deepest."""
    best, kind = -1, ""
    for line in mounts.splitlines():
        left, _, right = line.partition(" - ")
        fields = left.split(" ")
        if len(fields) < 5 or not right:
            continue
        point = _OCTAL.sub(lambda code: chr(int(code[1], 8)), fields[4])
        # Of two mounts on one point the later hides the earlier.
        if len(point) >= best and path.is_relative_to(point):
            best, kind = len(point), right.split(" ")[0]
    return kind


def is_network(kind: str) -> bool:
    """Whether a file system's type says that other machines may write to it, or its locks lie."""
    return kind in _NETWORK or kind.startswith("fuse.")
