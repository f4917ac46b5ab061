"""`localstore artifact get`, `verify` and `diff`: the files of stored versions."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from localstore.cli import exit_status, terminal
from localstore.cli.artifact_found import bar, count, file_document, file_row, find
from localstore.cli.rm import size_text
from localstore.cli.terminal import inert
from localstore.errors import LocalStoreError, NotFound, Pruned, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from localstore.cli.artifact_found import Advance, Found
    from localstore.format.manifest import Entry
    from localstore.store.opening import Objects

_DAMAGED: Final = 20
_DIFFERENT: Final = 1
_THREADS_FROM_BYTES: Final = 4 * 1024 * 1024


# ------------------------------------------------------------------ get
@click.command(epilog=exit_status(0, 2, 11, 20, 66, 74, 77), short_help="Write files to a folder.")
@click.argument("name", metavar="NAME[:ALIAS]")
@click.option("--root", type=click.Path(path_type=Path), help="Default artifacts/NAME:VERSION.")
@click.option("--path", "prefix", default="", help="Only files whose path begins with this.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def get(name: str, root: Path | None, prefix: str, as_json: bool) -> None:
    """Write the files of a version to a folder, each checked by its hash.

    Files that are there and the same are left alone, other files of the folder stay. References
    are not fetched. What is written is plaintext.
    """
    from localstore import settings
    from localstore.store.restore import restore

    found = find(name)
    folder = root or settings.working_folder() / "artifacts" / found.name
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{str(folder)!r} is no folder", hint="--root takes a folder")
    entries = [entry for entry in found.entries if entry.path.startswith(prefix)]
    if prefix and not entries:
        raise NotFound(
            f"{found.name} has no file that begins with {prefix!r}",
            hint=f"`localstore artifact show {name} --files` lists them",
        )
    try:
        with bar(found.name, _size(entries), hidden=as_json) as advance:
            done = restore(found.project, entries, folder, progress=advance)
    except Pruned as problem:
        _say_notes(problem)
        raise found.pruned(problem) from None
    except LocalStoreError as problem:
        _say_notes(problem)
        raise
    if as_json:
        terminal.say_json(
            {
                "path": found.path,
                "root": str(folder),
                "written": done.files,
                "kept": done.kept,
                "bytes": done.size,
                "references": [file_document(entry) for entry in done.references],
            }
        )
        return
    kept = f", {done.kept} of them there already" if done.kept else ""
    files = count(done.files + done.kept, "file")
    click.echo(f"{inert(found.path)}  {files}, {size_text(done.size)} in {inert(folder)}{kept}")
    if done.references:
        terminal.note(f"{count(len(done.references), 'reference')} not fetched:")
        for entry in done.references:
            terminal.note(f"  {entry.path} -> {entry.uri}")


def _size(entries: Sequence[Entry]) -> int:
    return sum(entry.size or 0 for entry in entries if not entry.uri)


def _say_notes(problem: LocalStoreError) -> None:
    """Which file it was, and how many others."""
    for note in getattr(problem, "__notes__", ()):
        if not note.startswith("hint: "):
            terminal.warning(note)


# ------------------------------------------------------------------ verify
@dataclass(slots=True)
class Checked:
    """What a look at all files said: by path, what is wrong."""

    files: int
    size: int
    references: int
    wrong: dict[str, str] = field(default_factory=dict)


@click.command(epilog=exit_status(0, 2, 11, 20, 66, 77), short_help="Check every byte.")
@click.argument("name", metavar="NAME[:ALIAS]")
@click.option("--root", type=click.Path(path_type=Path), help="Compare this folder instead.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def verify(ctx: click.Context, name: str, root: Path | None, as_json: bool) -> None:
    """Open all that the store has of a version, and check the hash of each file.

    With --root, compare the files of a folder with those of the version: none missing, changed or
    added. References are counted, and not looked at. Changes nothing.
    """
    found = find(name)
    if root is not None and not root.is_dir():
        raise NotFound(f"there is no folder {str(root)!r}")
    entries = found.entries
    files = [entry for entry in entries if not entry.uri]
    checked = Checked(len(files), _size(files), len(entries) - len(files))
    with bar(found.name, checked.size, hidden=as_json) as advance:
        look = _in_folder(root, files, advance) if root else _in_store(found, files, advance)
        checked.wrong.update(look)
    if as_json:
        terminal.say_json(_verify_document(found, checked, root))
    else:
        _print_checked(found, checked, root)
    if checked.wrong:
        ctx.exit(_DAMAGED)


def _in_store(found: Found, files: list[Entry], advance: Advance) -> Iterator[tuple[str, str]]:
    """Files that do not open or are not what their hashes say."""
    from localstore.store.objects import ObjectFiles
    from localstore.store.opening import Objects
    from localstore.store.threads import thread_count

    threads = thread_count() if _size(files) >= _THREADS_FROM_BYTES else 0
    parts = (part for entry in files for part in entry.parts)
    with Objects(ObjectFiles(found.project.paths), parts, threads=threads) as objects:
        for entry in files:
            why = _why_wrong(objects, entry, advance)
            if why:
                yield entry.path, why


def _why_wrong(objects: Objects, entry: Entry, advance: Advance) -> str:
    from localstore import crypto

    hasher, size = crypto.content_hasher(), 0
    try:
        for part in entry.parts:
            piece, _ = objects.piece(part)
            hasher.update(piece)
            size += len(piece)
            advance(len(piece))
    except LocalStoreError as problem:
        return str(problem)
    if size != entry.size or not crypto.same(hasher.digest(), entry.hash):
        return "its bytes are not those of its hash"
    return ""


def _in_folder(root: Path, files: list[Entry], advance: Advance) -> Iterator[tuple[str, str]]:
    """Files that are missing, changed or added."""
    from localstore.artifacts.writing import hash_file
    from localstore.store.sources import walk

    for entry in files:
        try:
            here = hash_file(root / entry.path)
            if here != (entry.size, entry.hash):
                yield entry.path, "changed"
        except NotFound:
            yield entry.path, "missing"
        except LocalStoreError as problem:
            yield entry.path, str(problem)
        advance(entry.size or 0)
    known = {entry.path for entry in files}
    try:
        for path, _ in walk(root):
            if path not in known:
                yield path, "added"
    except LocalStoreError as problem:
        yield str(root), str(problem)


def _verify_document(found: Found, checked: Checked, root: Path | None) -> dict[str, Any]:
    return {
        "path": found.path,
        "root": None if root is None else str(root),
        "ok": not checked.wrong,
        "files": checked.files,
        "bytes": checked.size,
        "references": checked.references,
        "problems": [{"path": path, "problem": why} for path, why in checked.wrong.items()],
    }


def _print_checked(found: Found, checked: Checked, root: Path | None) -> None:
    for path, why in checked.wrong.items():
        click.echo(f"{inert(path)}: {inert(why)}")
    looked = f"{inert(found.path)}  {count(checked.files, 'file')}, {size_text(checked.size)}"
    wrong = len(checked.wrong)
    where = f" in {inert(root)}" if root else ""
    click.echo(f"{looked}: {f'{wrong} wrong' if wrong else 'nothing is wrong'}{where}")
    if checked.references:
        terminal.note(f"{count(checked.references, 'reference')} not looked at")
    if wrong and root is None:
        terminal.note("`localstore repair` or `localstore sync now` may bring good bytes")


# ------------------------------------------------------------------ diff
@dataclass(slots=True)
class Difference:
    """How the files of two versions differ: (before, after) each.

    Attributes:
        new_bytes: of the later version, in pieces that the earlier one has not.
    """

    added: list[Entry] = field(default_factory=list)
    removed: list[Entry] = field(default_factory=list)
    changed: list[tuple[Entry, Entry]] = field(default_factory=list)
    renamed: list[tuple[Entry, Entry]] = field(default_factory=list)
    same: int = 0
    new_bytes: int = 0

    @property
    def empty(self) -> bool:
        """Whether the versions have the same files."""
        return not (self.added or self.removed or self.changed or self.renamed)


@click.command(epilog=exit_status(0, 1, 2, 11, 20, 66, 77), short_help="Compare two versions.")
@click.argument("left", metavar="NAME:V1")
@click.argument("right", metavar="NAME:V2")
@click.option("--stat", is_flag=True, help="Totals only.")
@click.option("--exit-code", is_flag=True, help="Leave with 1 when they differ, as git does.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
@click.pass_context
def diff(
    ctx: click.Context, left: str, right: str, stat: bool, exit_code: bool, as_json: bool
) -> None:
    """Show which files were added (A), deleted (D), modified (M) or renamed (R) from one version
    to another; of one artifact, or of two.
    """
    before = find(left)
    after = find(right, before.api)
    found = compare(before.entries, after.entries)
    if as_json:
        terminal.say_json(_diff_document(before, after, found, stat=stat))
    else:
        if not stat:
            _print_files(found)
        click.echo(_totals(before, after, found))
    if exit_code and not found.empty:
        ctx.exit(_DIFFERENT)


def compare(before: Sequence[Entry], after: Sequence[Entry]) -> Difference:
    """How two lists of files differ; a file that went and came elsewhere was renamed."""
    old, new = ({entry.path: entry for entry in entries} for entries in (before, after))
    added = {path: new[path] for path in new if path not in old}
    found = Difference(new_bytes=_new_bytes(before, after))
    gone: dict[object, list[Entry]] = {}
    for entry in added.values():
        gone.setdefault(_content(entry), []).append(entry)
    for path, entry in old.items():
        other = new.get(path)
        if other is None:
            twins = gone.get(_content(entry)) if entry.size != 0 else None
            if twins:
                found.renamed.append((entry, twins[0]))
                del added[twins.pop(0).path]
            else:
                found.removed.append(entry)
        elif _content(entry) == _content(other):
            found.same += 1
        else:
            found.changed.append((entry, other))
    found.added = list(added.values())
    return found


def _content(entry: Entry) -> object:
    """What two entries of the same content have in common."""
    return entry.hash, entry.size, entry.uri


def _new_bytes(before: Sequence[Entry], after: Sequence[Entry]) -> int:
    known = {part.object_id for entry in before for part in entry.parts}
    pieces = {
        (part.object_id, part.offset): part.length
        for entry in after
        for part in entry.parts
        if part.object_id not in known
    }
    return sum(pieces.values())


def _print_files(found: Difference) -> None:
    rows = [
        *(["A", *_cells(entry)] for entry in found.added),
        *(["D", *_cells(entry)] for entry in found.removed),
        *(["M", _step(old, new), _cells(new)[1]] for old, new in found.changed),
        *(
            ["R", _cells(new)[0], f"{inert(old.path)} -> {inert(new.path)}"]
            for old, new in found.renamed
        ),
    ]
    if rows:
        click.echo(terminal.columns(rows))


def _cells(entry: Entry) -> list[str]:
    return file_row(entry)


def _step(old: Entry, new: Entry) -> str:
    return f"{_cells(old)[0]} -> {_cells(new)[0]}"


def _totals(before: Found, after: Found, found: Difference) -> str:
    sides = f"{inert(after.state.name)} {before.version.label} -> {after.version.label}"
    if before.state.name != after.state.name:
        sides = f"{inert(before.name)} -> {inert(after.name)}"
    if found.empty:
        return f"{sides}: the same {count(found.same, 'file')}"
    words = [
        f"{len(entries)} {what}"
        for what, entries in (
            ("added", found.added),
            ("deleted", found.removed),
            ("modified", found.changed),
            ("renamed", found.renamed),
        )
        if entries
    ]
    sizes = f"{size_text(before.version.size)} -> {size_text(after.version.size)}"
    words += [f"{found.same} the same"]
    return f"{sides}: {', '.join(words)}; {sizes}, {size_text(found.new_bytes)} new"


def _diff_document(before: Found, after: Found, found: Difference, *, stat: bool) -> dict[str, Any]:
    totals: dict[str, Any] = {
        "left": before.path,
        "right": after.path,
        "same": found.empty,
        "totals": {
            "added": len(found.added),
            "removed": len(found.removed),
            "changed": len(found.changed),
            "renamed": len(found.renamed),
            "unchanged": found.same,
            "left_bytes": before.version.size,
            "right_bytes": after.version.size,
            "new_bytes": found.new_bytes,
        },
    }
    if stat:
        return totals
    return totals | {
        "added": [file_document(entry) for entry in found.added],
        "removed": [file_document(entry) for entry in found.removed],
        "changed": [_pair(*pair) for pair in found.changed],
        "renamed": [_pair(*pair) for pair in found.renamed],
    }


def _pair(old: Entry, new: Entry) -> dict[str, Any]:
    return {"before": file_document(old), "after": file_document(new)}
