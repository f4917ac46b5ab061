"""The catalog: what the engine would have to compute again, `local/catalog.db` of a project.

A cache and nothing but a cache: it may be deleted at any time, a damaged one is thrown away. It
holds opaque ids and numbers only, and is asked by range, so that a large project costs no memory.
It never lies on a network file system, whose locks cannot be trusted: then it is in a folder of
this machine.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Final, NamedTuple

from localstore.format.references import LogRefs
from localstore.layout import parse_name
from localstored.catalogfile import BUSY_TIMEOUT_S, CatalogError, copied, opened

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from pathlib import Path
    from sqlite3 import Cursor

    from localstored.receipts import ReceiptFile

_AFTER: Final = "\x7f"  # sorts behind every character of a name
ABSENT: Final = -1  # a size: the remote does not have it
UNKNOWN: Final = -2  # a size: a step failed, and the remote has to be asked
_BATCH: Final = 20_000
_SET_SIZE: Final = (
    "insert into there values (?, ?, ?, 0)"
    " on conflict (remote, name) do update set size = excluded.size"
)


class FileFacts(NamedTuple):
    """What one look at a log or fork found; valid while size and time stay the same."""

    size: int
    mtime_ns: int
    data_class: int
    policy_tag: str  # hex
    end: int  # bytes that may be shipped
    cancels: bool = False  # whether UNREF frames stand in it
    here: bool = True  # whether it was here when its folder was last looked at


class There(NamedTuple):
    """What is known of one name on a remote: its size as listed, and how much it acknowledged.

    The size is ABSENT or UNKNOWN where it is none; of `acked`, 0 is: of nothing of ours.
    """

    size: int
    acked: int


class Referrer(NamedTuple):
    """One REF frame that names an object, with the facts of its log."""

    object: str
    name: str
    frame: int
    data_class: int
    policy_tag: str
    end: int
    here: bool


class PartFacts(NamedTuple):
    """A part of a project with which nothing was left to do.

    Attributes:
        print: of all that was looked at here.
        complete: no log of a living subject is longer on the remote than here.
        held: rows that `localstored.held` makes and reads.
    """

    print: str
    complete: bool
    held: list[list[object]]


def _range(prefix: str) -> tuple[str, str]:
    return prefix, prefix + _AFTER


class Catalog:
    """The catalog of one project, as one remote needs it. For one thread.

    Args:
        writes: False: nothing is written to disk; what would be is forgotten at the end.
        patience_s: how long each change waits for another process.
    """

    def __init__(
        self,
        path: Path,
        remote_id: str,
        *,
        writes: bool = True,
        patience_s: float = BUSY_TIMEOUT_S,
    ) -> None:
        self.path, self.remote_id = path, remote_id
        self._db = opened(path, patience_s) if writes else copied(path)
        self._saved_changes, self._unsettled = 0, set[str]()
        self._remote = self._remote_number()

    def _remote_number(self) -> int:
        self._do("insert or ignore into remotes values (null, ?, 0, 0)", (self.remote_id,))
        rows = self._rows("select id from remotes where remote = ?", (self.remote_id,))
        self.save()
        return int(rows[0][0])  # type: ignore[call-overload, no-any-return]

    def _do(self, statement: str, values: tuple[object, ...] = ()) -> Cursor:
        return self._db.execute(statement, values)

    def _rows(self, statement: str, values: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
        return self._db.execute(statement, values).fetchall()

    def save(self) -> None:
        """Keep what was remembered; another process may write in between."""
        self._apply_unsettled()
        self._db.commit()
        self._saved_changes = self._db.total_changes

    def save_some(self) -> None:
        """Do as `save`, when much was remembered since: another process waits no longer."""
        if self._db.total_changes - self._saved_changes >= _BATCH:
            self.save()

    def close(self) -> None:
        """Keep what was remembered, and let the file go."""
        with contextlib.suppress(CatalogError):
            self.save()
        self._db.close()

    # -------------------------------------------------------------- facts of logs
    def files(self, prefix: str) -> dict[str, FileFacts]:
        """Facts of the logs and forks whose names begin so."""
        found = self._rows(
            "select name, size, mtime_ns, data_class, policy_tag, end, cancels, here from files"
            " where name > ? and name < ?",
            _range(prefix),
        )
        return {str(name): FileFacts(*facts) for name, *facts in found}  # type: ignore[arg-type]

    def remember_file(
        self, name: str, facts: FileFacts, refs: Mapping[int, Collection[str]] | None = None
    ) -> None:
        """Keep what a look at a file found, and the objects that it refers to."""
        self._do(
            "insert into files values (null, ?, ?, ?, ?, ?, ?, ?, ?) on conflict (name) do update"
            " set size = excluded.size, mtime_ns = excluded.mtime_ns,"
            " data_class = excluded.data_class, policy_tag = excluded.policy_tag,"
            " end = excluded.end, cancels = excluded.cancels, here = excluded.here",
            (name, *facts),
        )
        if refs:
            number = self._number(name)
            rows = [(one, number, frame) for frame, ids in refs.items() for one in ids]
            self._db.executemany("insert or ignore into refs values (?, ?, ?)", rows)
            self.unsettle_objects(one[:2] for one, _, _ in rows)

    def _number(self, name: str) -> int:
        rows = self._rows("select id from files where name = ?", (name,))
        return int(rows[0][0])  # type: ignore[call-overload, no-any-return]

    def set_here(self, name: str, *, here: bool) -> None:
        """Keep that a log is here, or is gone; the objects that it names are looked at again."""
        number = self._number(name)
        self._do("update files set here = ? where id = ?", (here, number))
        rows = self._rows(
            "select distinct substr(object, 1, 2) from refs where file = ?", (number,)
        )
        self.unsettle_objects(str(first) for (first,) in rows)

    def remember_cancels(self, name: str, cancels: Mapping[tuple[str, int], int]) -> None:
        """Keep which REF frames a log cancels: all of them, for a log may have been replaced."""
        number = self._number(name)
        self._do("delete from cancels where file = ?", (number,))
        rows = [(number, *frame, at_us) for frame, at_us in cancels.items()]
        self._db.executemany("insert into cancels values (?, ?, ?, ?)", rows)

    def cancels(self) -> dict[str, dict[tuple[str, int], int]]:
        """By the names of the logs that are here: REF frames (segment, index) that they cancel."""
        out: dict[str, dict[tuple[str, int], int]] = {}
        rows = self._rows(
            "select name, segment, frame, at_us from cancels join files on files.id = file"
            " where here"
        )
        for name, segment, frame, at_us in rows:
            out.setdefault(str(name), {})[str(segment), int(frame)] = int(at_us)  # type: ignore[call-overload]
        return out

    # -------------------------------------------------------------- references
    def referrers(self, prefix: str) -> Iterator[Referrer]:
        """The REF frames that name objects whose ids begin so, by object."""
        rows = self._do(
            "select object, name, frame, data_class, policy_tag, end, here from refs"
            " join files on files.id = file where object >= ? and object < ?"
            " order by object, file",
            _range(prefix),
        )
        yield from map(Referrer._make, rows)

    def refs_of_segments(self, segments: Collection[str]) -> list[LogRefs]:
        """All that the versions of some segments refer to."""
        found = []
        for segment in segments:
            like = f"runs/%/{segment}%"
            for (name,) in self._rows("select name from files where here and name like ?", (like,)):
                file = parse_name(str(name))
                refs = self._refs_of(str(name))
                found.append(LogRefs(file.name, file.subject, file.segment, refs))
        return found

    def _refs_of(self, name: str) -> dict[int, frozenset[str]]:
        out: dict[int, set[str]] = {}
        rows = self._rows("select frame, object from refs where file = ?", (self._number(name),))
        for frame, one in rows:
            out.setdefault(int(frame), set()).add(str(one))  # type: ignore[call-overload]
        return {frame: frozenset(ids) for frame, ids in out.items()}

    def objects_of(self, subject: str) -> set[str]:
        """Ids of the objects that the logs of one subject name."""
        # A cross join is carried out in the order in which it is written: few files, then theirs.
        rows = self._rows(
            "select distinct object from files cross join refs on refs.file = files.id"
            " where name > ? and name < ?",
            _range(f"runs/{subject}/"),
        )
        return {str(one) for (one,) in rows}

    # -------------------------------------------------------------- the remote
    def there(self, prefix: str) -> dict[str, There]:
        """What is known of the names on the remote that begin so."""
        rows = self._rows(
            "select name, size, acked from there where remote = ? and name >= ? and name < ?",
            (self._remote, *_range(prefix)),
        )
        return {str(name): There(size, acked) for name, size, acked in rows}  # type: ignore[arg-type]

    def there_of(self, name: str) -> There:
        """What is known of one name on the remote."""
        statement = "select size, acked from there where remote = ? and name = ?"
        rows = self._rows(statement, (self._remote, name))
        return There(*rows[0]) if rows else There(ABSENT, 0)  # type: ignore[arg-type]

    def first_bytes(self, folder: str) -> set[str]:
        """The first two characters of the names that the remote has in one folder."""
        at = len(folder) + 1
        out: set[str] = set()
        last = folder
        while True:
            rows = self._rows(
                "select substr(name, ?, 2) from there where remote = ? and name > ? and name < ?"
                " order by name limit 1",
                (at, self._remote, last, folder + _AFTER),
            )
            if not rows:
                return out
            out.add(str(rows[0][0]))
            last = f"{folder}{rows[0][0]}{_AFTER}"

    def set_size(self, name: str, size: int) -> None:
        """Keep what the remote has under a name now."""
        self._do(_SET_SIZE, (self._remote, name, size))

    def replace_listing(self, files: Iterable[tuple[str, int]], at_us: int) -> None:
        """Keep what the remote listed, all of it, and when (µs)."""
        mine = (self._remote,)
        known = self._rows("select 1 from there where remote = ? and size != -1 limit 1", mine)
        if known:
            self._replace_listing(files)
        else:
            rows = ((self._remote, name, size) for name, size in files)
            self._db.executemany(_SET_SIZE, rows)
        self._do("update remotes set listed_us = ? where id = ?", (at_us, self._remote))
        self._do("delete from parts where remote = ?", mine)
        self.save()

    def _replace_listing(self, files: Iterable[tuple[str, int]]) -> None:
        self._do("create temp table if not exists listed (name text primary key, size)")
        self._do("delete from temp.listed")
        # What a listing says twice is said once; what follows is one pass over both, in order.
        self._db.executemany("insert or replace into temp.listed values (?, ?)", files)
        self._do(
            "update there set size = -1 where remote = ? and size != -1"
            " and name not in (select name from temp.listed)",
            (self._remote,),
        )
        self._do(
            "insert into there select ?, name, size, 0 from temp.listed where true order by name"
            " on conflict (remote, name) do update set size = excluded.size"
            " where size != excluded.size",
            (self._remote,),
        )
        self._do("delete from temp.listed")

    @property
    def listed_us(self) -> int:
        """When the remote was listed in full, Unix µs; 0: never, or that counts no more."""
        rows = self._rows("select listed_us from remotes where id = ?", (self._remote,))
        return int(rows[0][0]) if rows else 0  # type: ignore[call-overload]

    def forget_listing(self) -> None:
        """The remembered listing counts no more."""
        self._do("update remotes set listed_us = 0 where id = ?", (self._remote,))
        self.save()

    def forget_remote(self) -> None:
        """Nothing is known of the remote any more."""
        for table in ("there", "marks", "stamps", "parts", "failures"):
            self._do(f"delete from {table} where remote = ?", (self._remote,))  # noqa: S608
        self._do("delete from remotes where id = ?", (self._remote,))
        self.save()

    def catch_up(self, receipts: ReceiptFile) -> None:
        """Take in the receipts that are not here yet; they are the truth behind `acked`."""
        rows = self._rows("select receipts_read from remotes where id = ?", (self._remote,))
        offset = int(rows[0][0]) if rows else 0  # type: ignore[call-overload]
        if receipts.size() < offset:  # it was deleted: nothing is acknowledged any more
            self._do("update there set acked = 0 where remote = ?", (self._remote,))
            self._do("delete from parts where remote = ?", (self._remote,))
            offset = 0
        for lines, end in receipts.batches(offset):
            latest = {line.name: line.size for line in lines}
            self._db.executemany(
                "insert into there values (?, ?, -1, ?) on conflict (remote, name)"
                " do update set acked = excluded.acked",
                [(self._remote, name, size) for name, size in sorted(latest.items())],
            )
            offset = end
        statement = "update remotes set receipts_read = ? where id = ? and receipts_read != ?"
        self._do(statement, (offset, self._remote, offset))

    # -------------------------------------------------------------- marks, stamps, failures
    def marks(self, prefix: str) -> frozenset[str]:
        """Names that need no copy there, or none from there: a longer log holds their bytes."""
        statement = "select name from marks where remote = ? and name > ? and name < ?"
        rows = self._rows(statement, (self._remote, *_range(prefix)))
        return frozenset(str(name) for (name,) in rows)

    def remember_mark(self, name: str) -> None:
        """Keep that a name needs no copy on the other side."""
        self._do("insert or ignore into marks values (?, ?)", (self._remote, name))

    def stamps(self) -> dict[str, int]:
        """The stamps of the remote that stand for the remembered listing, and when each was first
        seen (Unix µs)."""
        rows = self._rows("select name, seen_us from stamps where remote = ?", (self._remote,))
        return {str(name): int(seen_us) for name, seen_us in rows}  # type: ignore[call-overload]

    def remember_stamps(self, stamps: Mapping[str, int]) -> None:
        """Keep all the stamps of the remote."""
        self._do("delete from stamps where remote = ?", (self._remote,))
        rows = [(self._remote, name, seen_us) for name, seen_us in stamps.items()]
        self._db.executemany("insert into stamps values (?, ?, ?)", rows)
        self.save()

    def failures(self) -> dict[str, tuple[int, int]]:
        """Names whose last steps failed: how many in a row, and when the last (Unix µs)."""
        statement = "select name, count, last_us from failures where remote = ?"
        rows = self._rows(statement, (self._remote,))
        return {str(name): (int(count), int(at)) for name, count, at in rows}  # type: ignore[call-overload]

    def remember_failure(self, name: str, at_us: int) -> None:
        """Count one more failed step in a row."""
        self._do(
            "insert into failures values (?, ?, 1, ?) on conflict (remote, name)"
            " do update set count = count + 1, last_us = excluded.last_us",
            (self._remote, name, at_us),
        )

    def forget_failure(self, name: str) -> None:
        """A step succeeded."""
        self._do("delete from failures where remote = ? and name = ?", (self._remote, name))

    # -------------------------------------------------------------- parts
    def parts(self) -> dict[str, PartFacts]:
        """The parts with which nothing was left to do, by name."""
        self._apply_unsettled()
        rows = self._rows(
            "select part, print, complete, held from parts where remote = ?", (self._remote,)
        )
        return {
            str(part): PartFacts(str(print_), bool(complete), json.loads(str(held)))
            for part, print_, complete, held in rows
        }

    def settle(self, part: str, facts: PartFacts) -> None:
        """Keep that nothing is left to do with a part while it stays as it is."""
        held = json.dumps(facts.held, separators=(",", ":"))
        self._do(
            "insert or replace into parts values (?, ?, ?, ?, ?)",
            (self._remote, part, facts.print, facts.complete, held),
        )

    def unsettle(self, part: str) -> None:
        """There may be something to do with a part for this remote."""
        self._do("delete from parts where remote = ? and part = ?", (self._remote, part))

    def unsettle_objects(self, firsts: Iterable[str]) -> None:
        """There may be something to do with objects whose ids begin so, for every remote."""
        self._unsettled.update(firsts)

    def _apply_unsettled(self) -> None:
        rows = [(f"objects/{first}",) for first in self._unsettled]
        if rows:
            self._db.executemany("delete from parts where part = ?", rows)
            self._unsettled.clear()
