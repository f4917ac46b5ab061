"""`localstore remote`: the places that this home syncs with."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import click

from localstore.cli.completion import complete_remote
from localstore.cli.engine import load_engine
from localstore.cli.terminal import inert
from localstore.errors import NotFound, RemoteError
from localstore.remotes import BUCKET_SCHEMES, add_remote, read_remotes, remove_remote, scheme_of

if TYPE_CHECKING:
    from pathlib import Path

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
      69  the place cannot be reached or written, or the folder that should hold
          it is not there
      73  the name or the remote is there already
      78  neither a path nor a url of a bucket, or a bad option
    """
    from localstore.cli.context import home

    claim = load_engine("claim") if scheme_of(url) in BUCKET_SCHEMES else None
    entry = add_remote(home(), name, url, claim=claim, **options)
    click.echo(inert(f"{entry.name} {entry.id} {entry.url}"))
    click.echo(f"what leaves for {inert(name)} when you sync:", err=True)
    for classes, words in what_leaves(home(), name):
        click.echo(f"  {', '.join(classes):<41} {words}", err=True)


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
    for entry in entries:
        click.echo(inert(f"{entry.name} {entry.id} {entry.url}"))


@remote.command()
@click.argument("name", shell_complete=complete_remote)
def rm(name: str) -> None:
    """Forget a remote. What lies there stays there.

    EXIT STATUS: 0 done; 66 no such remote.
    """
    from localstore.cli.context import home

    entry = remove_remote(home(), name)
    click.echo(f"forgot {entry.name}; nothing in {entry.url} was deleted", err=True)


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
