"""Bundles: a home's data in a file or a folder that a person carries. Needs no key.

An export is a sync that only pushes, an import one that only pulls, through the same policy and the
same checks of hostile bytes as any other. What a bundle holds is no proof that anybody has it: only
a receipt that came back is (`localstored.bundles.carried`).
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Final

from localstore import trust
from localstore.errors import Damaged, LocalStoreError, NotFound, UsageError
from localstore.format import signed, spec
from localstore.format.spec import CertKind
from localstore.layout import FileKind, HomePaths, parse_name
from localstore.remotes import claim_folder, read_remotes
from localstore.trust import Belief
from localstored.bundles.contents import contents_of_bundle, contents_of_folder, damaged_files
from localstored.bundles.destinations import acknowledged, find_destination
from localstored.bundles.reports import (
    ExportReport,
    ImportReport,
    Inspection,
    PartFacts,
    SignedBy,
)
from localstored.crew import Threads
from localstored.engine import forget_remote, now_us, settle_tails, sync_remote
from localstored.place import file_system_of, read_mounts
from localstored.receipts import ReceiptFile
from localstored.remotes.base import check_name
from localstored.remotes.bundlefile import (
    FAT_PART_BYTES,
    LEAST_PART_BYTES,
    BundleFile,
    Signer,
)
from localstored.remotes.bundleformat import Assumed
from localstored.remotes.bundleparts import first_part
from localstored.remotes.folder import FolderRemote
from localstored.session import Options
from localstored.verify import sha256_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from localstore.format.signed import SignedFile
    from localstore.layout import ProjectPaths
    from localstore.trust import ProjectState
    from localstored.crew import Crew
    from localstored.receipts import Line
    from localstored.remotes.base import Remote
    from localstored.remotes.bundlescan import Findings, Vouched
    from localstored.report import Event

    SignerFacts = tuple[bytes, bytes, Callable[[bytes, bytes], bytes]]

REMOTE_NAME: Final = "bundle"  # what rules of policy files call it
_FAT: Final = frozenset({"vfat", "msdos", "fat", "fat32"})
_BATCH_LINES: Final = 1000
RECEIPT_START: Final = b'{"localstore_receipt":'


# ------------------------------------------------------------------ export
def bundle_export(
    home: Path,
    path: Path,
    *,
    projects: Sequence[str] | None = None,
    since: str | None = None,
    part_bytes: int = 0,
    signers: Sequence[SignerFacts] = (),
    folder: bool = False,
    on_event: Callable[[Event], None] | None = None,
    clock: Callable[[], int] = now_us,
    sleep: Callable[[float], object] = time.sleep,
    check: Callable[[], None] | None = None,
    crew: Callable[[int], Crew] = Threads,
) -> ExportReport:
    """Put everything that may leave into a bundle; again into the same one goes on with it.

    Args:
        path: the file to write, or go on with; or a folder.
        projects: their ids; None: all that are here.
        since: leave out what this destination acknowledged; empty: the only one there is.
        part_bytes: each file is smaller; 0: any size, but what FAT can hold where that is.
        signers: devices that vouch: public key, certificate (the file), and what signs a message
            under a label of `localstore.format.spec`.
        folder: make a remote of the folder `path`, which may exist.
        crew: see `session.Options`.

    Raises:
        NotFound: no such project or destination, or no folder to write into.
        UsageError: another file stands there, or parts that are too small.
        Damaged: the bundle that is there lacks more than its end.
        Unreachable, Full: it cannot be written.
    """
    paths = _chosen(HomePaths(home), projects)
    report = ExportReport(str(path))
    options = _options(paths, on_event, clock, check, crew)
    settle_tails(paths, report.sync, clock, sleep)
    if folder or path.is_dir():
        _export_folder(HomePaths(home), path, since, options, report)
        return report
    replica = find_destination(home, since)[1] if since is not None else ""
    bundle = BundleFile.for_writing(path, part_bytes=_part_bytes(path, part_bytes), now_us=clock())
    with contextlib.closing(bundle):
        report.bundle = bundle.id
        if replica:
            report.assumed = sum(_assume(bundle, one, replica) for one in paths)
        _push(HomePaths(home), bundle, options, report)
        if report.finished:
            made = [Signer(*facts) for facts in signers]
            bundle.finish(made, clock())
            report.signed = len(made)
        bundle.flush()
        report.parts = _part_facts(bundle)
    if report.finished:
        _forget(paths, report.bundle)
    return report


def _chosen(home: HomePaths, projects: Sequence[str] | None) -> list[ProjectPaths]:
    here = {paths.id: paths for paths in home.all_projects()}
    for project in projects or ():
        if project not in here:
            raise NotFound(f"no project {project} in {home.root}")
    if not here:
        raise NotFound(f"no project in {home.root}")
    return [here[project] for project in (here if projects is None else projects)]


def _options(
    projects: Sequence[ProjectPaths],
    on_event: Callable[[Event], None] | None,
    clock: Callable[[], int],
    check: Callable[[], None] | None,
    crew: Callable[[int], Crew],
) -> Options:
    return Options(
        projects=frozenset(paths.id for paths in projects),
        on_event=on_event,
        clock=clock,
        check=check,
        scheme=REMOTE_NAME,
        local=True,
        pull=False,
        stamps=False,
        crew=crew,
    )


def _part_bytes(path: Path, wanted: int) -> int:
    """How small parts must be, for the person and for the file system."""
    if wanted and wanted < LEAST_PART_BYTES:
        raise UsageError(f"parts of {wanted} bytes, want at least {LEAST_PART_BYTES}")
    if not path.parent.is_dir():
        raise NotFound(f"no folder {path.parent}", hint="mount the disk, or make the folder first")
    if file_system_of(path.parent.resolve(), read_mounts()) in _FAT:
        return min(wanted or FAT_PART_BYTES, FAT_PART_BYTES)
    return wanted


def _push(home: HomePaths, remote: Remote, options: Options, report: ExportReport) -> None:
    """Push, and find out whether everything that may leave is in."""
    try:
        sync_remote(home, REMOTE_NAME, remote, options, report.sync)
    except (LocalStoreError, OSError) as problem:
        report.sync.failed[REMOTE_NAME] = str(problem)
        return
    report.finished = not any(project.errors for project in report.sync.projects)


def _part_facts(bundle: BundleFile) -> list[PartFacts]:
    return [PartFacts(str(path), path.stat().st_size) for path in bundle.parts()]


def _forget(projects: Sequence[ProjectPaths], bundle: str) -> None:
    """A bundle may be wiped the next moment: nothing may count on what it holds."""
    for paths in projects:
        forget_remote(paths, bundle)


def _export_folder(
    home: HomePaths, path: Path, since: str | None, options: Options, report: ExportReport
) -> None:
    if since is not None:
        hint = "leave --since-receipt away: what lies in the folder is not written again"
        raise UsageError("a folder holds everything", hint=hint)
    report.form, report.bundle = "folder", claim_folder(path)
    for entry in read_remotes(home.root).values():
        if entry.id == report.bundle:
            # Its rules are about its name; as a bundle it would pass them by.
            hint = f"`localstore sync now --remote {entry.name}`"
            raise UsageError(f"{path} is the remote {entry.name!r} of this home", hint=hint)
    with contextlib.closing(FolderRemote(path)) as remote:
        _push(home, remote, options, report)


# ------------------------------------------------------------------ what the receiver has
def _assume(bundle: BundleFile, paths: ProjectPaths, replica: str) -> int:
    """Leave out what a destination acknowledged and is the same here; returns how much that is."""
    lines = acknowledged(paths, replica).values()
    same = [line for line in lines if line.size and _is_ours(paths, line)]
    bundle.assume(paths.id, (Assumed(n.name, n.size, bytes.fromhex(n.sha256)) for n in same))
    # The engine believes receipts alone: with these it asks the bundle for nothing.
    receipts = ReceiptFile.of(paths, bundle.id)
    for at in range(0, len(same), _BATCH_LINES):
        receipts.append(same[at : at + _BATCH_LINES])
    return len(same)


def _is_ours(paths: ProjectPaths, line: Line) -> bool:
    """Whether what was acknowledged is the beginning of what lies here."""
    try:
        file = parse_name(line.name)
        path = paths.file(file.name)
        size = path.stat().st_size
        if file.kind is FileKind.OBJECT:
            return size == line.size and line.sha256 == file.hash
        fits = size >= line.size if file.kind is FileKind.LOG else size == line.size
        return fits and file.kind.syncs and sha256_of(path, line.size) == line.sha256
    except (Damaged, OSError):
        return False


# ------------------------------------------------------------------ import
def bundle_import(
    home: Path,
    path: Path,
    *,
    projects: Sequence[str] | None = None,
    relay: bool = False,
    restore: bool = False,
    recipients: frozenset[str] = frozenset(),
    on_event: Callable[[Event], None] | None = None,
    clock: Callable[[], int] = now_us,
    check: Callable[[], None] | None = None,
    crew: Callable[[int], Crew] = Threads,
) -> ImportReport:
    """Take what a bundle has for this home; any number of times, in any order.

    Everything that is valid by itself is taken, whoever signed the bundle: its contents are signed
    each. What is wrong with the bundle stands in the report.

    Args:
        path: a bundle (any of its parts), or a folder that is a remote.
        projects: ids; None: all that are here, and those that hold a keyslot for `recipients`.
        relay: keep projects that nobody here can read, too, to pass them on.
        restore: bring back what was pruned here.
        crew: see `session.Options`.

    Raises:
        NotFound: no such file, or it has none of `projects`.
        Damaged: it is no bundle. Unreachable: it cannot be read.
    """
    report = ImportReport(str(path))
    remote = _open_to_read(HomePaths(home), path)
    with contextlib.closing(remote):
        report.bundle, inside = remote.id, sorted(remote.projects())
        wanted = _wanted(inside, projects, path)
        options = Options(
            projects=frozenset(wanted),
            recipients=recipients,
            accept=frozenset(wanted) if relay else frozenset(),
            on_event=on_event,
            clock=clock,
            check=check,
            scheme=REMOTE_NAME,
            push=False,
            restore=restore,
            stamps=False,
            crew=crew,
        )
        _pull(HomePaths(home), remote, options, report)
        report.projects = sorted({project.project for project in report.sync.projects})
        report.skipped = sorted(set(wanted) - set(report.projects))
        if isinstance(remote, BundleFile):
            _judge(HomePaths(home), remote, report, clock)
            _forget([HomePaths(home).project(one) for one in report.projects], remote.id)
        else:
            report.form = "folder"
    return report


def _open_to_read(home: HomePaths, path: Path) -> BundleFile | FolderRemote:
    if path.is_dir():
        return FolderRemote(path)

    def local(name: str) -> Path | None:
        project, file = check_name(name)
        found = home.project(project).file(file.name)
        return found if found.exists() else None

    return _bundle(path, local)


def _bundle(path: Path, local: Callable[[str], Path | None] | None = None) -> BundleFile:
    """Open a bundle to read.

    Raises:
        NotFound, Unreachable: as `BundleFile.for_reading` does.
        UsageError: it is a receipt.
        Damaged: it is no bundle; with a hint that fits.
    """
    try:
        return BundleFile.for_reading(first_part(path), local=local)
    except Damaged as problem:
        with path.open("rb") as file:
            if file.read(len(RECEIPT_START)) == RECEIPT_START:
                hint = f"`localstore bundle receipt {path}`, where the bundle was made"
                raise UsageError(f"{path} is a receipt, not a bundle", hint=hint) from None
        hint = "a bundle is named by its first file; a damaged one must be exported anew"
        raise Damaged(
            problem.problem, file=problem.file or str(path), offset=problem.offset, hint=hint
        ) from None


def _wanted(inside: list[str], projects: Sequence[str] | None, path: Path) -> list[str]:
    for project in projects or ():
        if project not in inside:
            raise NotFound(f"{path} has no project {project}")
    return inside if projects is None else list(projects)


def _pull(home: HomePaths, remote: Remote, options: Options, report: ImportReport) -> None:
    try:
        sync_remote(home, REMOTE_NAME, remote, options, report.sync)
    except (LocalStoreError, OSError) as problem:
        report.sync.failed[REMOTE_NAME] = str(problem)


def _judge(
    home: HomePaths, bundle: BundleFile, report: ImportReport, clock: Callable[[], int]
) -> None:
    """What there is to say of the bundle as a whole."""
    findings = bundle.findings
    report.ended, report.forged = findings.ended, findings.forged
    report.unchecked = findings.unchecked
    report.problems = [*_problems(findings, bundle.incomplete), *_damages(bundle, report)]
    shown = [cert for one in findings.signatures for cert in shown_cert(one.cert)]
    states = list(_states(home, report.projects, shown))
    report.signatures = [_signed_by(one, states) for one in findings.signatures]
    here = set(report.projects)
    report.unmet = [name for name in bundle.unmet() if check_name(name)[0] in here]
    erased = {state.project.hex(): state.erased(clock()) for state in states}
    report.absent = sum(
        1
        for name, held in bundle.files.items()
        if held.base and not held.extents and _is_absent(home, name, erased)
    )


def _damages(bundle: BundleFile, report: ImportReport) -> Iterator[str]:
    """Which of the files that were refused are not as the exporter wrote them."""
    for project in report.sync.projects:
        for note in project.refused:
            name = f"projects/{project.project}/{note.name}"
            if name in bundle.files and (problem := bundle.damage(name)):
                yield problem


def _is_absent(home: HomePaths, name: str, erased: dict[str, frozenset[str]]) -> bool:
    project, file = check_name(name)
    if project not in erased or file.subject in erased[project]:
        return False
    return not home.project(project).file(file.name).exists()


def _problems(findings: Findings, incomplete: str) -> list[str]:
    problems = [*findings.missing, *findings.holes, *findings.refused]
    if incomplete:
        problems.append(f"{incomplete} is not whole")
    return problems


def _states(
    home: HomePaths, projects: Sequence[str], shown: Sequence[SignedFile]
) -> Iterator[ProjectState]:
    for project in projects:
        with contextlib.suppress(Damaged, FileNotFoundError):
            yield trust.read_project(home.project(project), shown=shown)


def shown_cert(raw: bytes) -> list[SignedFile]:
    """The certificate that a signer shows, when it is one of a device."""
    with contextlib.suppress(Damaged):
        found = signed.decode(raw, spec.CERT_MAGIC)
        if found.kind in (CertKind.DEVICE, CertKind.DEPOSIT):
            return [found]
    return []


def _signed_by(vouched: Vouched, states: Sequence[ProjectState]) -> SignedBy:
    best, user, cert = "unknown", "", signed.file_hash(vouched.cert)
    for state in states:
        device = state.devices.get(cert)
        if device is None or device.sign != vouched.device:
            continue
        belief = state.judge_device(device, vouched.time_us).belief
        if belief is Belief.TRUSTED:
            best, user = "member", device.user.hex()
        elif belief is Belief.FLAGGED and best == "unknown":
            best, user = "former", device.user.hex()
    return SignedBy(vouched.device.hex(), cert.hex(), vouched.time_us, best, user)


# ------------------------------------------------------------------ inspect
def bundle_inspect(path: Path, *, verify: bool = False, home: Path | None = None) -> Inspection:
    """What is in a bundle, as it says itself; needs no key.

    Args:
        verify: read every byte, too. home: the store that may know who signed.

    Raises:
        NotFound: no such file. Damaged: it is no bundle. Unreachable: it cannot be read.
    """
    if path.is_dir():
        with contextlib.closing(FolderRemote(path)) as remote:
            found = Inspection(str(path), remote.id, form="folder")
            found.projects = contents_of_folder(remote)
            return found
    with contextlib.closing(_bundle(path)) as bundle:
        findings = bundle.findings
        found = Inspection(str(bundle.path), bundle.id, created_us=bundle.created_us)
        found.parts, found.ended = _part_facts(bundle), findings.ended
        found.problems = _problems(findings, bundle.incomplete)
        found.forged, found.unchecked = findings.forged, findings.unchecked
        found.projects = contents_of_bundle(bundle)
        states: list[ProjectState] = []
        if home is not None:
            inside = [content.project for content in found.projects]
            shown = [cert for one in findings.signatures for cert in shown_cert(one.cert)]
            states = list(_states(HomePaths(home), inside, shown))
        found.signatures = [_signed_by(one, states) for one in findings.signatures]
        found.damaged = damaged_files(bundle) if verify else []
        return found
