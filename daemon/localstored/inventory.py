"""What a project holds: names, sizes, classes, and how much of a log may be shipped.

Reads headers and frames as far as they are clear. What was looked at once is kept in the catalog
by size and time of change, so that a second look costs one `stat` a file.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from localstore.errors import Damaged, Torn
from localstore.format import references, segment, spec
from localstore.format.references import LogRefs, RefFrame
from localstore.layout import FORMAT_FILE, FileKind, FileName, parse_name
from localstore.trust import Belief
from localstored.catalog import FileFacts

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from localstore.layout import ProjectPaths
    from localstore.trust import ProjectState
    from localstored.catalog import Catalog

NO_CLASS: Final = 0
NO_TAG: Final = "00" * spec.ID_BYTES
OBJECT_HEADER_BYTES: Final = 8
TRUST_FOLDERS: Final = ("certs", "links")
RUN_FOLDERS: Final = ("keys", "runs")
OBJECT_FOLDERS: Final = ("objects",)
_HAS_CLASS: Final = frozenset({FileKind.LOG, FileKind.FORK})


@dataclass(frozen=True, slots=True)
class Item:
    """One file of a project.

    Attributes:
        size: bytes that may be shipped: of a log only whole frames.
        data_class: a DataClass, or NO_CLASS for what has none or is not known.
        policy_tag: 32 hex digits from the segment's header.
        live: a log whose tails stand beside it: it belongs to its writer.
    """

    file: FileName
    size: int
    data_class: int = NO_CLASS
    policy_tag: str = NO_TAG
    live: bool = False

    @property
    def name(self) -> str:
        """The name, relative to the project."""
        return self.file.name


@dataclass(slots=True)
class Inventory:
    """The files of some folders of a project.

    Attributes:
        items: what may be looked at for shipping, by name.
        damaged: what breaks the format, by name.
        tails: live tails, by name, with their sizes in bytes; they never leave.
    """

    items: dict[str, Item] = field(default_factory=dict)
    damaged: dict[str, Damaged] = field(default_factory=dict)
    tails: dict[str, int] = field(default_factory=dict)


# ------------------------------------------------------------------ the disk
def _entries(root: Path, folders: tuple[str, ...]) -> Iterator[tuple[str, os.DirEntry[str]]]:
    for folder in folders:
        yield from _below(f"{root}/{folder}", folder)


def _below(path: str, name: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    try:
        entries = os.scandir(path)
    except (FileNotFoundError, NotADirectoryError):
        return
    with entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _below(entry.path, f"{name}/{entry.name}")
            elif entry.is_file(follow_symlinks=False):
                yield f"{name}/{entry.name}", entry


def read_inventory(paths: ProjectPaths, folders: tuple[str, ...], catalog: Catalog) -> Inventory:
    """Look at the files of some folders.

    Files that vanish meanwhile are passed over; files that cannot be read raise OSError.
    """
    found = Inventory()
    seen = []
    if folders == TRUST_FOLDERS:
        _add_format(paths, found)
    for name, entry in _entries(paths.root, folders):
        try:
            file, status = parse_name(name), entry.stat(follow_symlinks=False)
        except (Damaged, FileNotFoundError):
            continue
        if file.kind is FileKind.LIVE_TAIL:
            found.tails[name] = status.st_size
        else:
            seen.append((file, status, entry.path))
    live = {f"{name.rpartition('.')[0]}.log" for name in found.tails}
    for file, status, path in seen:
        try:
            found.items[file.name] = _item(file, status, path, live, catalog)
        except Torn:
            continue  # its writer has just begun: not even a header yet
        except Damaged as problem:
            found.damaged[file.name] = problem.at(file.name)
        except FileNotFoundError:
            continue
    _lend_classes(found)
    return found


def live_tails(paths: ProjectPaths) -> Iterator[tuple[Path, os.stat_result]]:
    """Every live tail of a project."""
    for name, entry in _entries(paths.root, ("runs",)):
        if name.endswith((".t0", ".t1")):
            with contextlib.suppress(Damaged, FileNotFoundError):
                if parse_name(name).kind is FileKind.LIVE_TAIL:
                    yield paths.root / name, entry.stat(follow_symlinks=False)


def _add_format(paths: ProjectPaths, found: Inventory) -> None:
    try:
        size = (paths.root / FORMAT_FILE).stat(follow_symlinks=False).st_size
    except FileNotFoundError:
        return
    found.items[FORMAT_FILE] = Item(parse_name(FORMAT_FILE), size)


def _item(
    file: FileName, status: os.stat_result, path: str, live: set[str], catalog: Catalog
) -> Item:
    if file.kind not in _HAS_CLASS and file.kind is not FileKind.OBJECT:
        return Item(file, status.st_size)
    facts = catalog.files.get(file.name)
    if facts is None or facts[:2] != (status.st_size, status.st_mtime_ns):
        facts = _look(file, status, path, facts, catalog)
    return Item(file, facts.end, facts.data_class, facts.policy_tag, file.name in live)


def _look(
    file: FileName, status: os.stat_result, path: str, before: FileFacts | None, catalog: Catalog
) -> FileFacts:
    """Open a file that is new or has changed, and keep what it says.

    Raises:
        Torn: it ends inside its header.
        Damaged: it breaks the format, with the offset.
    """
    with open(path, "rb") as handle:  # noqa: PTH123 - three times as fast, for thousands of files
        if file.kind is FileKind.OBJECT:
            data_class = object_class(handle.read(OBJECT_HEADER_BYTES))
            facts = FileFacts(
                status.st_size, status.st_mtime_ns, data_class, NO_TAG, status.st_size
            )
            catalog.remember_file(file.name, facts)
            return facts
        size = os.fstat(handle.fileno()).st_size
        if size == 0:
            raise Torn("an empty file")
        # Not closed by hand: frames, and the traces of errors, still hold views of the mapping.
        view = memoryview(mmap.mmap(handle.fileno(), size, access=mmap.ACCESS_READ))
    return _read_log(file, status, view, before, catalog)


def _read_log(
    file: FileName,
    status: os.stat_result,
    view: memoryview,
    before: FileFacts | None,
    catalog: Catalog,
) -> FileFacts:
    header, start = segment.decode_header(bytes(view[: spec.MAX_HEADER_BYTES]))
    check_header(header, file)
    # A log only grows: what was whole before is whole now.
    grown = before if before is not None and before.size <= len(view) else None
    found = references.scan(view, max(grown.end if grown else 0, start))
    cancels = found.cancels or (grown is not None and grown.cancels)
    facts = FileFacts(
        status.st_size,
        status.st_mtime_ns,
        header.data_class,
        header.policy_tag.hex(),
        found.end,
        cancels,
    )
    catalog.remember_file(file.name, facts, found.refs)
    if cancels or file.name in catalog.cancels:
        # What vouches for an UNREF covers the log from its beginning.
        catalog.remember_cancels(file.name, references.vouched_cancels(view))
    return facts


def check_header(header: segment.SegmentHeader, file: FileName) -> None:
    """Hold a segment's header against the name that it lies under.

    Raises:
        Damaged: it belongs under another name.
    """
    if (header.subject.hex(), header.segment.hex()) != (file.subject, file.segment):
        raise Damaged("the header of another segment")


def object_class(header: bytes) -> int:
    """The class that stands in an object's header.

    Raises:
        Damaged: not the beginning of an object.
    """
    if len(header) < OBJECT_HEADER_BYTES or header[:4] != spec.OBJECT_MAGIC:
        raise Damaged("not an object: wrong magic")
    version, suite, data_class, flags = header[4:OBJECT_HEADER_BYTES]
    if version != spec.FORMAT_VERSION or suite not in spec.SUPPORTED_SUITES or flags:
        raise Damaged(f"version {version}, suite {suite}, flags {flags} of a newer localstore")
    return data_class


def _lend_classes(found: Inventory) -> None:
    """A tail copy has no header: its class is that of its log."""
    for name, item in found.items.items():
        if item.file.kind is FileKind.TAIL_COPY:
            log = found.items.get(f"runs/{item.file.subject}/{item.file.segment}.log")
            if log is not None:
                found.items[name] = Item(item.file, item.size, log.data_class, log.policy_tag)


def cancelled_refs(
    paths: ProjectPaths, inventory: Inventory, catalog: Catalog, state: ProjectState
) -> dict[RefFrame, int]:
    """REF frames that no longer count, and since when (µs): cancelled by who is trusted to."""
    out: dict[RefFrame, int] = {}
    for name, cancels in catalog.cancels.items():
        item = inventory.items.get(name)
        if item is None or not cancels:
            continue
        try:
            with paths.file(name).open("rb") as handle:
                header, _ = segment.decode_header(handle.read(spec.MAX_HEADER_BYTES))
        except (Damaged, FileNotFoundError):
            continue
        if state.judge_cancel(header).belief is Belief.TRUSTED:
            out |= {RefFrame(item.file.subject, *frame): at for frame, at in cancels.items()}
    return out


def living_refs(
    inventory: Inventory,
    catalog: Catalog,
    erased: frozenset[str],
    cancelled: Collection[RefFrame] = (),
) -> Mapping[str, list[Item]]:
    """Which logs and forks need an object: their items by object id (hex)."""
    items = inventory.items
    logs = (
        LogRefs(name, items[name].file.subject, items[name].file.segment, refs)
        for name, refs in catalog.refs.items()
        if name in items and items[name].file.subject not in erased
    )
    found = references.needed(logs, cancelled)
    return {object_id: [items[name] for name in names] for object_id, names in found.items()}
