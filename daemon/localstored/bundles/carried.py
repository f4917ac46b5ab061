"""Receipts that are carried by hand: what a home holds, said by its device, filed by the sender.

A receipt is a text file of JSON lines: a head, the files of each project with the SHA-256 of their
bytes as they lie there, and a last line with signatures over all lines before. It is the only
proof that a bundle arrived; what `prune` may count on comes through here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from localstore import crypto, trust
from localstore.durable import make_folder, replace_file
from localstore.errors import AlreadyExists, Damaged, Forged, NotFound, Refused, UsageError
from localstore.format import signed, spec
from localstore.format.spec import CertKind
from localstore.layout import FileKind, HomePaths, parse_name
from localstore.remotes import read_remotes
from localstore.trust import Belief
from localstored.bundles.destinations import acknowledged, name_destination
from localstored.bundles.reports import Count, FiledReport, ReceiptMade
from localstored.engine import now_us
from localstored.receipts import EMPTY_SHA256, Line, ReceiptFile
from localstored.remotes.base import check_name
from localstored.remotes.bundlefile import BundleFile
from localstored.remotes.bundleformat import MAGIC as BUNDLE_MAGIC
from localstored.remotes.bundleparts import first_part
from localstored.replica import replica_id
from localstored.report import Note
from localstored.verify import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from localstore.format.signed import SignedFile
    from localstore.layout import ProjectPaths

    SignerFacts = tuple[bytes, bytes, Callable[[bytes, bytes], bytes]]

VERSION: Final = 1
MAX_LINE_BYTES: Final = 64 * 1024
MAX_FILES: Final = 1_000_000  # of one receipt; about 300 MB here
_MAX_SIGNATURES: Final = 16
_MOST_DIGITS: Final = 18
_BATCH_LINES: Final = 1000
_FIELDS: Final = ("device", "cert", "signature")
_SHA256: Final = re.compile(r"[0-9a-f]{64}")
_REPLICA: Final = re.compile(r"[0-9a-f]{16}")
_AGAIN: Final = "have it written again where the data are: `localstore bundle receipt --make FILE`"


# ------------------------------------------------------------------ making one
def make_receipt(
    home: Path,
    out: Path,
    *,
    bundle: Path | None = None,
    projects: Sequence[str] | None = None,
    signers: Sequence[SignerFacts] = (),
    on_file: Callable[[str], None] | None = None,
    clock: Callable[[], int] = now_us,
) -> ReceiptMade:
    """Write down what this home holds now, from the bytes as they lie there.

    Args:
        out: where the receipt goes; one that is there is replaced.
        bundle: only what this bundle brought. None: everything, and the receipt says so: what a
            full receipt does not name is not held any more.
        projects: ids; None: all that are here (and in the bundle).
        on_file: is told each file's name after it was read.

    Raises:
        NotFound: no such project here, or nothing of the bundle is here.
        UsageError: something that is no receipt stands at `out`.
        AlreadyExists: the receipt of another home stands there.
    """
    replica = replica_id(home)
    _check_target(out, replica)
    found = _names(HomePaths(home), bundle, projects)
    made = ReceiptMade(str(out), replica, projects=sorted(found))
    head = {
        "localstore_receipt": VERSION,
        "replica": replica,
        "at_us": clock(),
        "full": bundle is None,
    }
    lines = [_line(head)]
    for project in sorted(found):
        lines.append(_line({"project": project}))
        for line in _held(HomePaths(home).project(project), found[project]):
            lines.append(_line({"name": line.name, "size": line.size, "sha256": line.sha256}))
            made.files, made.bytes = made.files + 1, made.bytes + line.size
            if on_file is not None:
                on_file(line.name)
    if not made.files:
        raise NotFound("nothing of it is here, so there is nothing to acknowledge")
    body = b"".join(lines)
    tail = {"files": made.files, "signatures": [_signature(one, body) for one in signers]}
    made.signed = len(signers)
    replace_file(out, body + _line(tail))
    return made


def _check_target(out: Path, replica: str) -> None:
    """Replace a receipt of our own, and nothing else: another home's may be its only proof."""
    if not out.exists():
        return
    with out.open("rb") as file:
        first = file.readline(MAX_LINE_BYTES)
    try:
        head = _head(first, out)
    except Damaged:
        raise UsageError(f"{out} is there, and is no receipt") from None
    if head.replica != replica:
        hint = "carry that one back too; give this one another name: --receipt OUT"
        raise AlreadyExists(f"{out} is there, the receipt of another store", hint=hint)


def _names(
    home: HomePaths, bundle: Path | None, projects: Sequence[str] | None
) -> dict[str, Iterable[str]]:
    """What to look for, by project."""
    here = {paths.id: paths for paths in home.all_projects()}
    for project in projects or ():
        if project not in here:
            raise NotFound(f"no project {project} in {home.root}")
    chosen = [one for one in here if projects is None or one in projects]
    if bundle is None:
        return {one: here[one].names() for one in chosen}
    if bundle.is_dir():
        raise UsageError(f"{bundle} is a folder", hint="its receipts are kept by each sync")
    opened = BundleFile.for_reading(first_part(bundle))
    try:
        found: dict[str, Iterable[str]] = {}
        for one in chosen:
            prefix = f"projects/{one}/"
            inside = (n for n, held in opened.files.items() if held.extents)
            names = sorted(n.removeprefix(prefix) for n in inside if n.startswith(prefix))
            if names:
                found[one] = names
        return found
    finally:
        opened.close()


def _held(paths: ProjectPaths, names: Iterable[str]) -> Iterator[Line]:
    """Files that are here, with what their bytes say now."""
    for name in names:
        try:
            file = parse_name(name)
            size = paths.file(name).stat().st_size
            if not file.kind.syncs:
                continue
            sha256 = sha256_of(paths.file(name), size)
        except (Damaged, FileNotFoundError):
            continue
        if file.kind is FileKind.OBJECT and sha256 != file.hash:
            continue  # damaged here: `verify` names it, and it is not acknowledged
        yield Line(name, size, sha256, 0)


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def _signature(signer: SignerFacts, body: bytes) -> dict[str, str]:
    device, cert, sign = signer
    signature = sign(spec.SIGN_RECEIPT, crypto.sha256(body))
    return dict(zip(_FIELDS, (device.hex(), cert.hex(), signature.hex()), strict=True))


# ------------------------------------------------------------------ reading one
@dataclass(frozen=True, slots=True)
class Head:
    """The first line of a receipt."""

    replica: str
    at_us: int
    full: bool


def _read_lines(path: Path) -> Iterator[bytes]:
    """Lines with their line feeds, bounded."""
    try:
        with path.open("rb") as file:
            if file.peek(len(BUNDLE_MAGIC)).startswith(BUNDLE_MAGIC):
                hint = f"its receipt is what the import there wrote: {path.name}.receipt"
                raise UsageError(f"{path} is a bundle, not a receipt", hint=hint)
            while raw := file.readline(MAX_LINE_BYTES + 1):
                if len(raw) > MAX_LINE_BYTES or not raw.endswith(b"\n"):
                    raise Damaged("a line that is too long, or cut", file=str(path), hint=_AGAIN)
                yield raw
    except FileNotFoundError:
        raise NotFound(f"no receipt {path}") from None
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def _parsed(raw: bytes, path: Path) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise Damaged("a line that is no JSON object", file=str(path), hint=_AGAIN)
    return value


def _head(raw: bytes, path: Path) -> Head:
    match _parsed(raw, path):
        case {
            "localstore_receipt": 1,
            "replica": str(replica),
            "at_us": int(at_us),
            "full": bool(full),
        } if _REPLICA.fullmatch(replica):
            return Head(replica, at_us, full)
        case {"localstore_receipt": int(version)} if version != VERSION:
            raise Damaged(
                f"a receipt of version {version}, want {VERSION}", file=str(path), hint=_AGAIN
            )
    raise Damaged("no receipt of a home", file=str(path), hint=_AGAIN)


def _check(path: Path) -> tuple[Head, list[tuple[bytes, bytes]], bytes]:
    """Go through a receipt once: its head, (device, certificate's file) of its signatures, and the
    hash of what they are about.

    Raises:
        Damaged: it is no receipt, cut, or too long.
        Forged: a signature does not fit.
    """
    state, head, last, files = hashlib.sha256(), None, b"", 0
    for count, raw in enumerate(_read_lines(path)):
        if count > 2 * MAX_FILES:
            raise Damaged(f"more than {2 * MAX_FILES} lines", file=str(path), hint=_AGAIN)
        head = head or _head(raw, path)
        state.update(last)
        last, files = raw, files + raw.startswith(b'{"name":')
    if head is None:
        raise Damaged("an empty file", file=str(path), hint=_AGAIN)
    digest = state.digest()
    return head, list(_fitting(last, files, digest, path)), digest


def _fitting(last: bytes, files: int, message: bytes, path: Path) -> Iterator[tuple[bytes, bytes]]:
    """Who signed, by the last line; which has one form alone, so that nobody can play with it."""
    listed = _parsed(last, path).get("signatures")
    if not isinstance(listed, list) or len(listed) > _MAX_SIGNATURES:
        raise Damaged("cut: its last line is missing", file=str(path), hint=_AGAIN)
    found = [_raw_signature(one, path) for one in listed]
    again = [dict(zip(_FIELDS, (part.hex() for part in one), strict=True)) for one in found]
    if last != _line({"files": files, "signatures": again}):
        raise Damaged("a last line that does not fit the others", file=str(path), hint=_AGAIN)
    for device, cert, signature in found:
        try:
            crypto.check_signature(device, spec.SIGN_RECEIPT, message, signature)
        except Damaged:
            raise Forged("a signature that does not fit", file=str(path), hint=_AGAIN) from None
        yield device, cert


def _raw_signature(one: object, path: Path) -> tuple[bytes, bytes, bytes]:
    match one:
        case {"device": str(device), "cert": str(cert), "signature": str(signature)}:
            with contextlib.suppress(ValueError):
                return bytes.fromhex(device), bytes.fromhex(cert), bytes.fromhex(signature)
    raise Damaged("a signature of another form", file=str(path), hint=_AGAIN)


def _sections(path: Path, digest: bytes) -> dict[str, list[Line]]:
    """The files of each project, of the very lines that were checked.

    Raises:
        Damaged: another file stands there by now.
    """
    state, last, project = hashlib.sha256(), b"", ""
    sections: dict[str, list[Line]] = {}
    for count, raw in enumerate(_read_lines(path)):
        if count > 2 * MAX_FILES:
            break
        state.update(last)
        last = raw
        match _parsed(raw, path):
            case {"project": str(found)}:
                project = found
            case {"name": str(name), "size": int(size), "sha256": str(sha256)} if (
                project and size >= 0 and _SHA256.fullmatch(sha256)
            ):
                sections.setdefault(project, []).append(Line(name, size, sha256, 0))
    if state.digest() != digest:
        raise Damaged("it changed while it was read", file=str(path))
    return sections


# ------------------------------------------------------------------ filing one
def bundle_receipt(
    home: Path,
    path: Path,
    *,
    name: str = "",
    trust_unsigned: bool = False,
    clock: Callable[[], int] = now_us,
) -> FiledReport:
    """File a receipt that came back: from then on its sender's home knows what arrived.

    Only what a device of a project's member signed counts for this project, and only what is the
    same as what lies here.

    Args:
        name: what to call the destination; empty: the name that it has, or one made of its id.
        trust_unsigned: believe it whoever signed it, or nobody.

    Raises:
        NotFound: no such file. Damaged, Forged: it is no receipt, or was changed.
        UsageError: it was made here. Refused: it says to be from one of our remotes.
        AlreadyExists: another destination has this name.
    """
    head, signers, digest = _check(path)
    if head.replica == replica_id(home):
        raise UsageError("this receipt was made here", hint="carry it to where the bundle is from")
    if any(entry.id == head.replica for entry in read_remotes(home).values()):
        raise Refused(f"{path} says to be from a remote of this home; a remote answers itself")
    known = {paths.id: paths for paths in HomePaths(home).all_projects()}
    report = FiledReport("", head.replica, head.at_us)
    believed = []
    for project, lines in _sections(path, digest).items():
        paths = known.get(project)
        reason = _doubt(paths, signers, head.at_us, trust_unsigned=trust_unsigned)
        reason = reason or _too_old(paths, head)
        if paths is None or reason:
            report.refused.append(Note(f"project {project[:64]}", reason))
            continue
        believed.append(project)
        _file(paths, head, lines, report, clock)
    if believed:
        report.name = name_destination(home, head.replica, name)
    return report


def _doubt(
    paths: ProjectPaths | None,
    signers: Sequence[tuple[bytes, bytes]],
    at_us: int,
    *,
    trust_unsigned: bool,
) -> str:
    """Why a receipt does not count for a project; empty: it does."""
    if paths is None:
        return "is not here"
    if trust_unsigned:
        return ""
    shown = [found for _, cert in signers for found in _shown(cert)]
    try:
        state = trust.read_project(paths, shown=shown)
    except Damaged as problem:
        return problem.problem
    for key, cert in signers:
        device = state.devices.get(signed.file_hash(cert))
        if device is None or device.sign != key or device.deposit:
            continue
        if state.judge_device(device, at_us).belief is Belief.TRUSTED:
            return ""
    if not signers:
        return "nobody signed the receipt"
    return "no device of a member signed the receipt"


# ------------------------------------------------------------------ in which order
def _too_old(paths: ProjectPaths | None, head: Head) -> str:
    """Why a receipt says nothing any more: a full one that was filed is younger.

    Else an old receipt, filed again, would say that the destination has what it has lost since.
    """
    newest_us = 0 if paths is None else _newest_us(_newest_file(paths, head.replica))
    if head.at_us >= newest_us:
        return ""
    return "a younger receipt of everything there was filed already"


def _newest_file(paths: ProjectPaths, replica: str) -> Path:
    return paths.local / f"full-receipt-{replica}"


def _newest_us(path: Path) -> int:
    """When the youngest full receipt that was filed was made, Unix µs; 0: none was."""
    try:
        text = path.read_text("ascii").strip()
    except (FileNotFoundError, UnicodeDecodeError):
        return 0
    return int(text) if text.isdecimal() and len(text) <= _MOST_DIGITS else 0


def _note_full(paths: ProjectPaths, head: Head, now_us: int) -> None:
    """Keep when a full receipt was made; one from the future counts as of now."""
    make_folder(paths.local)
    at_us = max(0, min(head.at_us, now_us))
    replace_file(_newest_file(paths, head.replica), f"{at_us}\n".encode())


def _shown(cert: bytes) -> list[SignedFile]:
    """A certificate of a device; others would have a say in who is a member."""
    with contextlib.suppress(Damaged):
        found = signed.decode(cert, spec.CERT_MAGIC)
        if found.kind == CertKind.DEVICE:
            return [found]
    return []


def _file(
    paths: ProjectPaths,
    head: Head,
    lines: list[Line],
    report: FiledReport,
    clock: Callable[[], int],
) -> None:
    receipts = ReceiptFile.of(paths, head.replica)
    latest = acknowledged(paths, head.replica)
    known = {name: line for name, line in latest.items() if line.size}
    count, now, new = Count(), clock(), []
    for line in lines:
        agrees = _agrees(paths, line)
        if not agrees:
            report.others += agrees is False
            report.longer += agrees is None
            continue
        count.add(line.size)
        before = known.pop(line.name, None)
        if before is None or (before.size, before.sha256) != (line.size, line.sha256):
            new.append(Line(line.name, line.size, line.sha256, now))
    if head.full:
        _note_full(paths, head, now)
        new += [Line(name, 0, EMPTY_SHA256, now) for name in known]
        report.gone += len(known)
    for at in range(0, len(new), _BATCH_LINES):
        receipts.append(new[at : at + _BATCH_LINES])
    report.filed[paths.id] = count


def _agrees(paths: ProjectPaths, line: Line) -> bool | None:
    """Whether a destination holds the beginning of what we hold, or what we no longer have.

    None: it holds more of a log than we do, which nobody here can compare.
    """
    try:
        _, file = check_name(f"projects/{paths.id}/{line.name}")
    except Refused:
        return False
    if file.kind is FileKind.OBJECT or not file.kind.syncs:
        return line.sha256 == file.hash
    try:
        path = paths.file(file.name)
        if path.stat().st_size < line.size:
            return None if file.kind is FileKind.LOG else False
        return sha256_of(path, line.size) == line.sha256
    except FileNotFoundError:
        return True
    except OSError:
        return False
