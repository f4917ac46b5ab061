"""`localstore bundle`: the store's data in a file that a person carries, and a receipt back."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from localstore.cli import terminal
from localstore.cli.engine import load_engine
from localstore.cli.rm import size_text
from localstore.cli.terminal import inert
from localstore.errors import (
    AlreadyExists,
    Damaged,
    KeyUnavailable,
    NotFound,
    NotPermitted,
    RemoteError,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Signer = tuple[bytes, bytes, Callable[[bytes, bytes], bytes]]

_SIZE: Final = re.compile(r"(\d{1,15}(?:\.\d{1,3})?)\s*([KMGT]?)(i?B)?", re.IGNORECASE)
_POWERS: Final = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_ONLY: Final = "\0"  # `--since-receipt` without a name: the only destination
_SHOWN: Final = 20
_RECEIPT: Final = ".receipt"


class _Size(click.ParamType[int]):
    """A number of bytes: 650M, 4G, 4GiB are of powers of 1,024; 20MB, 4GB of powers of 1,000."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        found = _SIZE.fullmatch(str(value).strip())
        if found is None:
            self.fail(f"{value!r} is no size, want for example 650M, 4G or 20MB", param, ctx)
        base = 1000 if (found[3] or "").upper() == "B" else 1024
        return int(float(found[1]) * base ** _POWERS[found[2].upper()])


_projects = click.option(
    "--project",
    "projects",
    multiple=True,
    metavar="NAME",
    help="Only this project: its name, or its id.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
_file = click.argument("file", type=click.Path(path_type=str))


@click.group()
def bundle() -> None:
    """Carry data where no network goes: files on a stick, receipts back."""


# ------------------------------------------------------------------ export
@bundle.command()
@_file
@_projects
@click.option("--all", "everything", is_flag=True, help="Everything that may leave (the default).")
@click.option(
    "--since-receipt",
    "since",
    is_flag=False,
    flag_value=_ONLY,
    metavar="[NAME]",
    help="Leave out what this destination acknowledged; without a name: the only one.",
)
@click.option("--part-size", type=_Size(), help="Split into files that are smaller: 4G, 20MB.")
@_json
@click.pass_context
def export(
    context: click.Context,
    file: str,
    projects: tuple[str, ...],
    *,
    everything: bool,
    since: str | None,
    part_size: int | None,
    as_json: bool,
) -> None:
    """Put what may leave into FILE, sealed as everything is. The policy decides what may.

    FILE that is a bundle already is gone on with: after an interruption where it was cut, later
    with what is new. A FILE that ends with a slash, or a folder, becomes a folder of files. On FAT
    the files stay below 4 GiB by themselves: FILE, FILE.002, FILE.003 and so on.

    EXIT STATUS: 0 everything that may leave is in; 2 another file stands there; 20 the bundle that
    is there is damaged; 66 no such project, destination or folder; 69 something is not in, or the
    disk is full or gone.
    """
    from localstore.cli import context as store
    from localstore.cli.sync_display import showing

    if everything and since is not None:
        raise click.UsageError("--all and --since-receipt exclude each other")
    store.bring_tails_home()
    names = store.project_names()
    with showing(names, quiet=as_json, verbose=False) as on_event:
        report = load_engine("bundle_export")(
            store.home(),
            Path(file),
            projects=_ids(projects),
            since="" if since == _ONLY else since,
            part_bytes=part_size or 0,
            signers=_signers(),
            folder=file.endswith(os.sep),
            on_event=on_event,
        )
    values = report.to_json()
    if as_json:
        terminal.say_json(values)
    else:
        _print_export(values, names)
    if not report.ok:
        context.exit(RemoteError.exit_code)


def _print_export(values: Mapping[str, Any], names: Mapping[str, str]) -> None:
    _print_failures(values["sync"])
    _print_projects(values["sync"], names, "pushed", "put in")
    for part in values["parts"]:
        click.echo(inert(f"{part['path']} {size_text(part['bytes'])}"))
    if values["form"] == "folder":
        click.echo(inert(f"{values['path']} is up to date" if values["ok"] else values["path"]))
    if values["assumed"]:
        terminal.note(f"left out {values['assumed']} files that the destination acknowledged")
    if not values["finished"]:
        terminal.error("the bundle is not finished", "the same command goes on where it stopped")
    elif values["form"] == "file":
        signed = "signed by this device" if values["signed"] else "signed by nobody: no key here"
        terminal.note(f"bundle {values['bundle']} is whole, {signed}")
        terminal.note("there: localstore bundle import FILE; bring the receipt back")


# ------------------------------------------------------------------ import
@bundle.command(name="import")
@_file
@_projects
@click.option("--relay", is_flag=True, help="Also keep what nobody here can read, to pass it on.")
@click.option("--pruned", is_flag=True, help="Also bring back what was pruned here.")
@click.option(
    "--receipt",
    "receipt_file",
    type=click.Path(path_type=Path),
    help="Where the receipt goes; default FILE.receipt.",
)
@click.option("--no-receipt", is_flag=True, help="Write no receipt.")
@_json
@click.pass_context
def import_(
    context: click.Context,
    file: str,
    projects: tuple[str, ...],
    *,
    relay: bool,
    pruned: bool,
    receipt_file: Path | None,
    no_receipt: bool,
    as_json: bool,
) -> None:
    """Take what FILE has for this store; in any order, and as often as you like.

    Everything in it is checked by itself, so a bundle that was cut, damaged or changed gives what
    is whole and genuine, and the exit status tells. Nothing that was deleted comes back. Then a
    receipt is written beside FILE: carry it to where the bundle is from.

    EXIT STATUS: 0 everything is here; 20 the bundle is damaged, cut, changed, lacks a part or
    builds on one that was not imported; 11 there is no key here that could open it; 66 no such
    file, or nothing in it is for this store; 69 something was refused or did not find room.
    """
    from localstore.cli import context as store
    from localstore.cli.sync_display import showing

    path, names = Path(file), store.project_names()
    with showing(names, quiet=as_json, verbose=False) as on_event:
        report = load_engine("bundle_import")(
            store.home(),
            path,
            projects=_ids(projects),
            relay=relay,
            restore=pruned,
            recipients=store.recipients(),
            on_event=on_event,
        )
    store.sweep_erased()
    news = store.adopt_keys()
    values = report.to_json()
    if not no_receipt and report.form == "file" and report.projects:
        values["receipt"] = _write_receipt(path, receipt_file, report.projects)
    if as_json:
        terminal.say_json(values)
    else:
        _print_import(values, {**names, **store.project_names()}, relay=relay)
    if news:
        terminal.always(news)
    if not report.ok:
        context.exit(_import_status(values))


def _import_status(values: Mapping[str, Any]) -> int:
    if not values["intact"] or values["unmet"]:
        return Damaged.exit_code
    if values["projects"]:
        return RemoteError.exit_code
    return NotFound.exit_code if _has_key() else KeyUnavailable.exit_code


def _has_key() -> bool:
    """Whether anything could be sealed to this store."""
    from localstore.cli import context as store

    return bool(store.recipients())


def _write_receipt(path: Path, out: Path | None, projects: Sequence[str]) -> str:
    """Where the receipt was written; empty when it could not be, or says nothing."""
    names = [path.name + _RECEIPT, *(f"{path.name}.{one}{_RECEIPT}" for one in range(2, 10))]
    for place in [path.with_name(name) for name in names] if out is None else [out]:
        try:
            load_engine("bundle_make_receipt")(
                _home(), place, bundle=path, projects=projects, signers=_signers()
            )
        except NotFound:
            return ""
        except AlreadyExists as problem:  # another store's: it stays
            terminal.warning(problem)
        except OSError as problem:
            terminal.warning(f"no receipt: {place} cannot be written: {problem.strerror}")
            break
        else:
            return str(place)
    terminal.note("give --receipt OUT, or later: localstore bundle receipt --make OUT")
    return ""


def _home() -> Path:
    from localstore.cli import context as store

    return store.home()


def _print_import(values: Mapping[str, Any], names: Mapping[str, str], *, relay: bool) -> None:
    _print_failures(values["sync"])
    _print_projects(values["sync"], names, "pulled", "took")
    for project in values["skipped"]:
        why = "was not taken" if relay else "is not for this store"
        terminal.warning(f"project {project[:16]} {why}")
    if values["skipped"] and not relay:
        if not _has_key():
            terminal.error("there is no key here", "your key: `localstore key recover`")
        terminal.note("to keep such projects and pass them on: --relay")
    _print_soundness(values)
    for name in values["unmet"][:_SHOWN]:
        terminal.error(f"the bundle has the end of {name} alone, and its beginning is not here")
    if values["unmet"] or values["absent"]:
        _print_absent(values)
    if values.get("receipt"):
        terminal.note(f"receipt: {values['receipt']}; carry it to where the bundle is from")


def _print_absent(values: Mapping[str, Any]) -> None:
    say = terminal.error if values["unmet"] else terminal.warning
    say(
        f"the sender took {len(values['unmet']) + values['absent']} files to be here that are not",
        *(["import the earlier bundles, then this one again"] if values["unmet"] else []),
    )


def _print_soundness(values: Mapping[str, Any]) -> None:
    """Who vouches for a bundle, and what is wrong with it."""
    for problem in values["problems"][:_SHOWN]:
        terminal.error(f"bundle: {problem}")
    if values["forged"]:
        terminal.error("bundle: a signature does not fit: somebody changed it since")
    if values["unchecked"]:
        terminal.error("bundle: the signature cannot be checked, since something is missing")
    if not values["ended"]:
        terminal.error("bundle: it is not finished: the export was cut, or a part is missing")
    for one in values["signatures"]:
        terminal.note(f"signed by {_WHO[one['who']]}, {one['device'][:16]}")
    signed = values["signatures"] or values["forged"] or values["unchecked"]
    if values["form"] == "file" and not signed:
        terminal.warning("nobody signed the bundle; what is in it is signed by itself")


_WHO: Final = {
    "member": "a member's device",
    "former": "a device that is no member's any more",
    "unknown": "a device that this store does not know",
}


# ------------------------------------------------------------------ inspect
@bundle.command()
@_file
@click.option("--verify", is_flag=True, help="Read every byte.")
@_json
@click.pass_context
def inspect(context: click.Context, file: str, *, verify: bool, as_json: bool) -> None:
    """Show what is in FILE; needs no key. It is what the bundle says: an import checks it.

    EXIT STATUS: 0 nothing is wrong; 20 it is damaged, cut, changed or lacks a part; 66 no such
    file.
    """
    from localstore.cli import context as store

    report = load_engine("bundle_inspect")(Path(file), verify=verify, home=store.home())
    values = report.to_json()
    if as_json:
        terminal.say_json(values)
    else:
        _print_inspection(values, store.project_names())
    if not report.ok:
        context.exit(Damaged.exit_code)


def _print_inspection(values: Mapping[str, Any], names: Mapping[str, str]) -> None:
    from localstore.cli.sync_report import called

    for part in values["parts"]:
        click.echo(inert(f"{part['path']} {size_text(part['bytes'])}"))
    click.echo(f"{values['form']} {values['bundle']}")
    for project in values["projects"]:
        files = project["files"]
        click.echo(
            f"{called(project['project'], names)}: {project['subjects']} runs and artifacts, "
            f"{files['items']} files ({size_text(files['bytes'])})"
        )
        rows = [
            [word, str(one["items"]), size_text(one["bytes"])]
            for word, one in project["classes"].items()
        ]
        if rows:
            click.echo(terminal.columns(rows, indent="  "))
        if project["assumed"] or project["continued"]:
            click.echo(
                f"  builds on {project['assumed'] + project['continued']} files "
                "that the receiver acknowledged"
            )
    for problem in values["damaged"][:_SHOWN]:
        terminal.error(problem)
    _print_soundness(values)


# ------------------------------------------------------------------ receipt
@bundle.command()
@_file
@click.option("--as", "name", default="", metavar="NAME", help="What to call the destination.")
@click.option("--trust-unsigned", is_flag=True, help="Believe it, whoever signed it or nobody.")
@click.option("--make", is_flag=True, help="Write FILE: what this store holds now.")
@_projects
@_json
@click.pass_context
def receipt(
    context: click.Context,
    file: str,
    projects: tuple[str, ...],
    *,
    name: str,
    trust_unsigned: bool,
    make: bool,
    as_json: bool,
) -> None:
    """File a receipt that came back, so that this store knows what arrived.

    Then `bundle export --since-receipt NAME` leaves out what is there, and `prune` may count on it.
    With --make a receipt of everything that this store holds is written instead: each byte is read.

    EXIT STATUS: 0 done; 2 it was made here, or is a bundle; 20 it was changed or cut; 66 no such
    file; 69 a part of it was not believed; 73 another destination has this name, or the receipt of
    another store stands at FILE.
    """
    report = _made(file, projects) if make else _filed(file, name, trust=trust_unsigned)
    values = report.to_json()
    if as_json:
        terminal.say_json(values)
    elif make:
        click.echo(inert(f"{values['path']}: {values['files']} files ({_size(values)})"))
    else:
        _print_filed(values)
    if not report.ok:
        context.exit(RemoteError.exit_code)


def _made(file: str, projects: tuple[str, ...]) -> Any:
    make = load_engine("bundle_make_receipt")
    return make(_home(), Path(file), projects=_ids(projects), signers=_signers())


def _filed(file: str, name: str, *, trust: bool) -> Any:
    filing = load_engine("bundle_receipt")
    return filing(_home(), Path(file), name=name, trust_unsigned=trust)


def _size(values: Mapping[str, Any]) -> str:
    return size_text(values["bytes"])


def _print_filed(values: Mapping[str, Any]) -> None:
    from localstore.cli import context as store
    from localstore.cli.sync_report import called

    names = store.project_names()
    for project, count in values["filed"].items():
        click.echo(
            inert(f"{values['name']} holds {count['items']} files ({_size(count)}) of ")
            + called(project, names)
        )
    for note in values["refused"]:
        terminal.error(f"{note['name']}: {note['reason']}")
    if values["refused"]:
        terminal.note("--trust-unsigned believes it all the same")
    if values["others"]:
        terminal.error(f"it holds other bytes than this store under {values['others']} names")
    if values["gone"]:
        terminal.warning(f"{values['gone']} files that it held are not there any more")


# ------------------------------------------------------------------ shared
def _ids(names: Sequence[str]) -> list[str] | None:
    from localstore.cli import context as store

    return [one for name in names for one in store.project_ids(name)] or None


def _signers() -> list[Signer]:
    """The keys of this machine that may vouch; none where there are none, or nobody to ask."""
    from localstore.cli import context as store
    from localstore.vault import Vault

    vault = Vault(store.home_paths())
    if not vault.exists:
        return []
    try:
        identity = vault.load()
    except (KeyUnavailable, NotPermitted) as problem:
        terminal.warning(f"nothing is signed: {problem}")
        return []
    own = [(identity.device_seed, identity.device_cert)] if identity.device_seed else []
    tickets = [(one.device_seed, one.cert) for one in identity.deposits.values()]
    return [_signer(seed, cert) for seed, cert in own or tickets]


def _signer(seed: bytes, cert: bytes) -> Signer:
    from localstore import crypto

    def sign(label: bytes, message: bytes) -> bytes:
        return crypto.sign(seed, label, message)

    return crypto.sign_public(seed), cert, sign


def _print_failures(sync: Mapping[str, Any]) -> None:
    from localstore.cli.sync_report import note_line

    for reason in sync["failed"].values():
        terminal.error(reason)
    for note in (*sync["refused"], *sync["damaged"]):
        terminal.error(note_line(note))


def _print_projects(
    sync: Mapping[str, Any], names: Mapping[str, str], field: str, verb: str
) -> None:
    from localstore.cli.sync_report import called, print_trouble

    for project in sync["projects"]:
        head = called(project["project"], names)
        moved = f"{project[field]} files ({size_text(project[f'{field}_bytes'])})"
        click.echo(f"{head} {verb} {moved}")
        print_trouble(head, project)
