"""`localstore remote`: the places that this home syncs with."""

from __future__ import annotations

import contextlib
import json
import stat
from pathlib import Path
from typing import Final

import click

from localstore.cli import terminal
from localstore.cli.completion import complete_remote
from localstore.cli.engine import load_engine
from localstore.cli.terminal import inert
from localstore.errors import BadSetting, NotFound, NotPermitted, RemoteError
from localstore.layout import HomePaths, object_name
from localstore.remotes import BUCKET_SCHEMES, add_remote, read_remotes, remove_remote, scheme_of

_IN_WORDS: Final = {
    "AUTO": "yes, encrypted",
    "MANUAL": "when you say `localstore sync now`, encrypted",
    "NEVER": "never",
}
_ORDER: Final = ("meta", "metrics", "media", "artifacts", "code", "system", "console")


@click.group()
def remote() -> None:
    """The places that this machine syncs with."""


@remote.command(short_help="Make a remote of a folder or a bucket.")
@click.argument("name")
@click.argument("url", metavar="PATH|URL")
@click.option("--endpoint", default="", metavar="URL", help="A bucket's server; not the cloud's.")
@click.option("--region", default="", metavar="NAME", help="The region of a bucket.")
@click.option(
    "--credentials",
    default="",
    metavar="WHERE",
    help="chain (the cloud's usual, default), keyring:NAME or file:PATH.",
)
@click.option("--ca-file", default="", metavar="PATH", help="Certificates of a private authority.")
@click.option("--proxy", default="", metavar="URL", help="A proxy; else what HTTPS_PROXY says.")
def add(name: str, url: str, **options: str) -> None:
    """Make a remote of a folder (a USB stick, a shared drive, another disk) or of
    a place in a bucket: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, az://CONTAINER/PREFIX.

    A place that is a remote already, of you or of somebody else, is taken as it
    is. Credentials are named here and stay where they are: in the variables and
    files that the cloud's own tools read, in the keyring of the system, or in a
    file of mode 0600. The bucket itself must exist.

    \b
    EXIT STATUS
      0   done
      2   a bad name
      66  the file of credentials is not there
      69  the place cannot be reached or written, or the folder that should hold
          it is not there
      73  the name or the remote is there already
      77  others may read the file of credentials
      78  neither a path nor a url of a bucket, or a bad option
    """
    from localstore.cli.context import home

    claim = None
    if scheme_of(url) in BUCKET_SCHEMES:
        claim = load_engine("claim")
        _check_credentials(options["credentials"])
    try:
        entry = add_remote(home(), name, url, claim=claim, **options)
    except RemoteError as problem:
        raise _not_added(problem, options["endpoint"], is_bucket=claim is not None) from None
    click.echo(inert(f"{entry.name} is {entry.url}, remote {entry.id}"))
    click.echo(f"what leaves for {inert(name)} when you sync:", err=True)
    for classes, words in what_leaves(home(), name):
        click.echo(f"  {', '.join(classes):<41} {words}", err=True)
    for other in sorted(_named_in_rules(home()) - read_remotes(home()).keys()):
        terminal.warning(
            f"rules name a remote {other}, which is not there; they do not hold for {name}"
        )


def _check_credentials(reference: str) -> None:
    """Say what is wrong with a file of credentials before anybody is asked.

    Raises:
        NotFound: it is not there.
        NotPermitted: others may read it.
    """
    kind, _, where = reference.partition(":")
    if kind != "file" or not where:
        return
    path = Path(where).expanduser().absolute()
    try:
        facts = path.stat()
    except OSError as problem:
        hint = 'make it, mode 0600, for s3 with lines access_key_id = "…", secret_access_key = "…"'
        raise NotFound(f"no credentials {path}: {problem.strerror}", hint=hint) from None
    mode = stat.S_IMODE(facts.st_mode)
    if mode & 0o077:
        raise NotPermitted(
            f"credentials {path} have mode {mode:04o}, want 0600", hint=f"chmod 600 {path}"
        )


def _not_added(problem: RemoteError, endpoint: str, *, is_bucket: bool) -> RemoteError:
    """The same trouble, with the server that was asked and what to do."""
    if not is_bucket:
        return problem
    said = f"{problem}; asked was {endpoint or 'the server of the cloud itself'}"
    usual = "are --endpoint and the name of the bucket right, and is there a network?"
    return RemoteError(f"{said}; no remote was added", hint=problem.hint or usual)


def what_leaves(home: Path, name: str) -> list[tuple[list[str], str]]:
    """The classes of data, and what the policy lets go of them to a remote.

    What single projects hold back besides, and rules on names, `localstore policy show` tells.

    Raises:
        BadSetting: the policy cannot be understood; nothing leaves then.
    """
    from localstore.policy.places import HOST_NAMES, user_file
    from localstore.policy.rules import CLASS_WORDS, USER, Leave, When, merged, read_policy

    rules = merged([read_policy(user_file(home), USER)])
    hosts = any(rule.name == HOST_NAMES and rule.leave is Leave.NEVER for rule in rules)
    found: list[tuple[list[str], str]] = []
    for word in _ORDER:
        number = CLASS_WORDS[word]
        counts = [one for one in rules if one.is_about(number, name) and not one.stamped]
        leave = max((rule.leave for rule in counts), default=Leave.NEVER)
        text = _IN_WORDS[leave.name]
        if leave is not Leave.NEVER:
            text += ", without host and user names" if word == "system" and hosts else ""
            text += ", under conditions" if any(rule.when != When() for rule in counts) else ""
        if found and found[-1][1] == text:
            found[-1][0].append(word)
        else:
            found.append(([word], text))
    return found


@remote.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def ls(*, as_json: bool) -> None:
    """List the remotes."""
    from localstore.cli.context import home

    entries = list(read_remotes(home()).values())
    if as_json:
        rows = [{"name": e.name, "id": e.id, "url": e.url, **e.options} for e in entries]
        click.echo(json.dumps(rows))
        return
    table = [[inert(entry.name), inert(entry.url), entry.id] for entry in entries]
    if table:
        click.echo(terminal.columns([["REMOTE", "PLACE", "ID"], *table]))


@remote.command()
@click.argument("name", shell_complete=complete_remote)
@click.option("--force", is_flag=True, help="Also when bytes that were pruned here lie there.")
def rm(name: str, *, force: bool) -> None:
    """Forget a remote. What lies there stays there.

    \b
    EXIT STATUS
      0   done
      66  no such remote
      77  bytes that were pruned here lie there, and --force was not given
    """
    from localstore.cli.context import home

    known = read_remotes(home())
    pruned = _pruned_to(home(), known[name].id) if name in known else 0
    if pruned and not force:
        hint = "`localstore pull` brings them back first; --force forgets the remote all the same"
        raise NotPermitted(f"{pruned} files that were pruned here lie on {name}", hint=hint)
    entry = remove_remote(home(), name)
    click.echo(inert(f"forgot {entry.name}; nothing in {entry.url} was deleted"), err=True)
    if name in _named_in_rules(home()):
        terminal.warning(
            f"rules for the remote {name} stay, and hold for no remote of another name"
        )


def _pruned_to(home: Path, remote_id: str) -> int:
    """How many files of this home are known to lie on a remote alone."""
    from localstore.pruned import absent_logs, object_stubs

    count = 0
    for paths in HomePaths(home).all_projects():
        count += sum(stub.remote == remote_id for stub in absent_logs(paths))
        for id_, stub in object_stubs(paths).items():
            here = paths.file(object_name(bytes.fromhex(id_))).exists()
            count += stub.remote == remote_id and not here
    return count


def _named_in_rules(home: Path) -> frozenset[str]:
    """Remotes that rules of this home name, whether they are there or not."""
    from localstore.policy.places import project_file, user_file
    from localstore.policy.rules import PROJECT, USER, read_policy

    files = [(user_file(home), USER)]
    files += [(project_file(paths), PROJECT) for paths in HomePaths(home).all_projects()]
    found: set[str] = set()
    for path, level in files:
        with contextlib.suppress(BadSetting):  # `policy show` says what is wrong with it
            for rule in read_policy(path, level).rules:
                found |= (rule.remotes or frozenset()) | rule.except_remotes
    return frozenset(found)


@remote.command(short_help="Try whether a remote works.")
@click.argument("name", shell_complete=complete_remote)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(name: str, *, as_json: bool) -> None:
    """Reach a remote, write, read, list and delete a probe there.

    Nothing of yours is sent. The last line says whether the place itself refuses
    to replace what stands there; it works either way.

    \b
    EXIT STATUS
      0   everything works
      66  no such remote
      69  something does not; it is named, with what to do
    """
    from localstore.cli.context import home

    known = read_remotes(home())
    if name not in known:
        raise NotFound(f"no remote {name!r}; there are: {', '.join(known) or 'none'}")
    findings = load_engine("examine")(known[name])
    if as_json:
        rows = [{"what": one.what, "ok": one.ok, "note": one.note} for one in findings]
        click.echo(json.dumps(rows, indent=2))
    else:
        for one in findings:
            said = f"  {inert(one.note)}" if one.note else ""
            click.echo(f"{one.what:<8}{'ok' if one.ok else 'failed'}{said}")
    if not all(one.ok for one in findings):
        raise SystemExit(RemoteError.exit_code)
