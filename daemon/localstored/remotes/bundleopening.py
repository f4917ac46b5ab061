"""Opens the files of a bundle, and makes them ready to grow again.

What a kill or a power cut left at the end is cut off; what is damaged elsewhere is named and left
alone, since nobody knows what it held.
"""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING, Final

from localstore import crypto
from localstore.durable import sync_folder
from localstore.errors import Damaged, NotFound, Torn, UsageError
from localstored.remotes.base import Full, Unreachable
from localstored.remotes.bundleformat import PartHeader
from localstored.remotes.bundleparts import Part, part_path
from localstored.remotes.bundlescan import UNSURE_BYTES, Scan

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_RESCANS: Final = 8


def begun(path: Path, now_us: int) -> Scan:
    """Make the first part of a new bundle."""
    second = part_path(path, 2)
    if second.exists():
        raise UsageError(f"{second} is there, and {path} is not", hint="give the bundle a new name")
    path.unlink(missing_ok=True)  # an export that was killed in its first bytes
    part = Part.create(path, PartHeader(crypto.random_bytes(8), 1, now_us))
    sync_folder(path.parent)
    return Scan(path, part)


def scanned(path: Path, *, write: bool) -> Scan:
    """Open a bundle that is there; to write, with its end cut back to what is whole.

    Raises:
        NotFound: no such file. Torn: not even its header.
        Damaged: no bundle; to write: one that lacks more than its end.
        UsageError: to write: another file stands there.
        Unreachable: it cannot be read, or another export writes to it.
    """
    for _ in range(_RESCANS):
        scan = Scan(path, _first(path, write=write))
        try:
            scan.run()
            if not write or not _cut_back(scan):
                return scan
        except BaseException:
            scan.close()
            raise
        scan.close()
    raise Unreachable(f"{path} changes under our hands")


def _first(path: Path, *, write: bool) -> Part:
    try:
        return Part.open(path, write=write)
    except Torn:
        raise
    except Damaged as problem:
        if not write:
            raise
        raise UsageError(f"{path} is there, and is no bundle: {problem.problem}") from None


def _cut_back(scan: Scan) -> bool:
    """Make a bundle ready to grow: cut off what a kill or a power cut left; whether it did.

    Raises:
        Damaged: it lacks more than that.
    """
    last = max(scan.parts)
    if last > 1:
        scan.parts[last].close()
        scan.parts[last] = Part.open(part_path(scan.path, last), write=True)
    part, findings = scan.parts[last], scan.findings
    _refuse_damage(scan, part)
    at = scan.first_hole or scan.unsure()
    if at:
        part.truncate(at)
        part.sync()
        return True
    if scan.number > last:
        _replace_missing(scan)
    elif findings.missing:
        raise _damaged(scan, findings.missing)
    return False


def _refuse_damage(scan: Scan, part: Part) -> None:
    findings = scan.findings
    at_the_end = scan.first_hole and scan.first_hole >= part.size - UNSURE_BYTES
    if findings.holes and (scan.holes_before or not at_the_end):
        raise _damaged(scan, findings.holes)
    if findings.refused:
        raise _damaged(scan, findings.refused)
    if findings.missing and len(findings.missing) + len(scan.parts) > scan.number:
        raise _damaged(scan, findings.missing)


def _replace_missing(scan: Scan) -> None:
    """A kill came between the end of a part and the beginning of the next one."""
    path = part_path(scan.path, scan.number)
    if len(scan.findings.missing) != 1 or not _is_torn(path):
        raise _damaged(scan, scan.findings.missing)
    path.unlink(missing_ok=True)
    scan.findings.missing.clear()
    add_part(scan)


def _is_torn(path: Path) -> bool:
    """Whether a part is not there, or not even its header."""
    try:
        Part.open(path).close()
    except (NotFound, Torn):
        return True
    except (Damaged, UsageError):
        return False
    return False


def _damaged(scan: Scan, problems: list[str]) -> Damaged:
    more = f", and {len(problems) - 1} more" if len(problems) > 1 else ""
    hint = "export to a new file; what is whole in this one can still be imported"
    return Damaged(f"{scan.path} is damaged: {problems[0]}{more}", hint=hint)


@contextlib.contextmanager
def speaking(path: Path) -> Iterator[None]:
    """Turn what the system says into what the contract says."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            hint = (
                "a file of FAT ends at 4 GiB: --part-size 4G" if error.errno == errno.EFBIG else ""
            )
            raise Full(f"{path}: {error.strerror}", hint=hint) from error
        raise Unreachable(f"{path}: {error.strerror}") from error


def add_part(scan: Scan) -> None:
    """Make the part to which the scan has advanced."""
    header = PartHeader(
        scan.header.bundle,
        scan.number,
        scan.header.created_us,
        scan.before,
        scan.count,
        scan.chain,
    )
    path = part_path(scan.path, scan.number)
    with speaking(path):
        scan.parts[scan.number] = Part.create(path, header)
        sync_folder(path.parent)
