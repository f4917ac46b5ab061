"""`localstore notify`: who is told of runs that end, crash or go silent, and of sync trouble."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from localstore.cli import exit_status, terminal
from localstore.cli.context import home_paths
from localstore.cli.ls import local_minute
from localstore.cli.terminal import inert
from localstore.cli.watch import seconds
from localstore.errors import KeyUnavailable, NotFound, UsageError

if TYPE_CHECKING:
    from localstore.identity import Identity
    from localstore.notify.notifiers import Notifier

_KINDS: Final = ("desktop", "mail", "webhook", "command")


@click.group()
def notify() -> None:
    """Tell of finished, crashed and silent runs, and of remotes that do not get through.

    Nothing is sent before a notifier was added. The service sends; `notify run` does it without.
    """


@notify.command(
    epilog=exit_status(0, 2, 73),
    short_help="Add a way to tell.",
    context_settings={"ignore_unknown_options": False},
)
@click.argument("name")
@click.argument("kind", type=click.Choice(_KINDS))
@click.argument("target", nargs=-1)
@click.option("--on", default="", help="Events, with commas; default all of them.")
@click.option("--tell", default="", help="Facts beside path and state: name, exit_code, times …")
@click.option("--silent-after", default="30m", show_default=True, help="Without a new record.")
@click.option("--sync-after", default="60m", show_default=True, help="Of a remote that fails.")
@click.option("--at-most", type=int, default=20, show_default=True, help="Messages an hour.")
@click.option("--token", default="", metavar="REF", help="Webhook: file:PATH or keyring:NAME.")
@click.option("--server", default="", metavar="HOST[:PORT]", help="Mail: the server.")
@click.option("--security", default="starttls", show_default=True, help="Mail: or tls, or none.")
@click.option("--user", default="", help="Mail: who logs in.")
@click.option("--password", default="", metavar="REF", help="Mail: file:PATH or keyring:NAME.")
@click.option("--from", "sender", default="", help="Mail: the sender; default the receiver.")
def add(name: str, kind: str, target: tuple[str, ...], **more: Any) -> None:
    """Add a notifier NAME of a KIND.

    Events: finished, failed, crashed, silent, sync. A password or token, or an address that is a
    secret, is given by reference: file:PATH (mode 0600) or keyring:NAME.

    \b
      localstore notify add desk desktop --on finished,crashed
      localstore notify add chat webhook https://chat.example.org/hooks/1
      localstore notify add me mail ada@example.org --server smtp.example.org
      localstore notify add own command -- /usr/local/bin/tell --loud
    """
    from localstore.identity import now_us
    from localstore.notify.notifiers import ALWAYS_TOLD, EVENTS, add_notifier

    more["on"] = _words(more["on"]) or EVENTS
    more["tell"] = tuple(dict.fromkeys((*ALWAYS_TOLD, *_words(more["tell"]))))
    for option in ("silent", "sync"):
        more[f"{option}_min"] = max(1, round(seconds(more.pop(f"{option}_after")) / 60))
    made = add_notifier(home_paths(), name, kind, now_us(), **more, **_target(kind, target))
    terminal.always(f"{made.name} tells of: {', '.join(made.on)}; it sends: {', '.join(made.tell)}")
    terminal.note(f"try it: localstore notify test {made.name}")


def _words(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))


def _target(kind: str, target: tuple[str, ...]) -> dict[str, Any]:
    """What the words behind the kind mean.

    Raises:
        UsageError: too few or too many.
    """
    if kind == "command":
        return {"words": target}
    if kind == "mail":
        return {"to": target}
    if kind == "webhook" and len(target) == 1:
        return {"url": target[0]}
    if kind == "desktop" and not target:
        return {}
    wanted = "one address" if kind == "webhook" else "nothing"
    raise UsageError(f"a {kind} notifier takes {wanted} behind its kind")


@notify.command(short_help="List the notifiers.", epilog=exit_status(0, 78))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def ls(*, as_json: bool) -> None:
    """List the notifiers, and which of them do not get through.

    Addresses of webhooks are shown as far as their host.
    """
    from localstore.notify.loop import STATE_FILE
    from localstore.notify.notifiers import read_notifiers
    from localstore.notify.told import Told

    found = list(read_notifiers(home_paths()).values())
    told = Told(home_paths().root / STATE_FILE)
    unsent = {one.name: told.unsent(one.id) for one in found}
    if as_json:
        terminal.say_json([{**_document(one), **_trouble(unsent[one.name])} for one in found])
        return
    rows = [
        [inert(one.name), one.kind, inert(_where(one)), ",".join(one.on), ",".join(one.tell)]
        for one in found
    ]
    if rows:
        click.echo(terminal.columns([["NAME", "KIND", "WHERE", "ON", "SENDS"], *rows]))
    for name, trouble in unsent.items():
        if trouble is not None:
            when = local_minute(trouble[0] / 1e6)
            terminal.warning(f"{name} does not get through since {when}: {trouble[1]}")


def _trouble(unsent: tuple[int, str] | None) -> dict[str, Any]:
    since, why = unsent or (None, None)
    return {"unsent_since_us": since, "unsent_because": why}


def _where(one: Notifier) -> str:
    if one.kind == "webhook":
        return one.url if one.url.startswith(("file:", "keyring:")) else _host(one.url)
    return {"mail": ",".join(one.to), "command": one.words[0] if one.words else ""}.get(
        one.kind, "-"
    )


def _host(url: str) -> str:
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.partition('/')[0].partition('?')[0]}"


def _document(one: Notifier) -> dict[str, Any]:
    return {
        "name": one.name,
        "kind": one.kind,
        "where": inert(_where(one)),
        "on": list(one.on),
        "tell": list(one.tell),
        "silent_min": one.silent_min,
        "sync_min": one.sync_min,
        "at_most": one.at_most,
    }


@notify.command(short_help="Forget a notifier.", epilog=exit_status(0, 66))
@click.argument("name")
def rm(name: str) -> None:
    """Forget a notifier."""
    from localstore.notify.notifiers import remove_notifier

    remove_notifier(home_paths(), name)
    terminal.note(f"forgot {name}")


@notify.command(short_help="Send a test message now.", epilog=exit_status(0, 66, 69))
@click.argument("name")
def test(name: str) -> None:
    """Send a test message by the notifier NAME, now."""
    from localstore.notify.loop import trial_of
    from localstore.notify.notifiers import read_notifiers
    from localstore.notify.senders import send

    known = read_notifiers(home_paths())
    if name not in known:
        raise NotFound(f"no notifier {name!r}; there are: {', '.join(known) or 'none'}")
    send(known[name], trial_of(known[name]))
    terminal.note(f"sent by {name}")


@notify.command(short_help="Tell, until interrupted.", epilog=exit_status(0, 66, 73))
@click.option("--once", is_flag=True, help="Tell what there is to tell now, and leave.")
def run(*, once: bool) -> None:
    """Tell of what happens, in this terminal, without the service."""
    from localstore.notify.loop import Notifying
    from localstore.notify.notifiers import read_notifiers
    from localstore.watching.worker import Stop, only_one

    if not read_notifiers(home_paths()):
        raise NotFound("there is no notifier", hint="localstore notify add NAME KIND")
    stop = Stop()
    with only_one(home_paths().root / "notify.lock", "tells of runs"):
        notifying = Notifying(home_paths(), _identity(), say=terminal.warning)
        if once:
            notifying.round()
            return
        stop.on_signals()
        notifying.run(lambda: stop.asked, stop.wait)


def _identity() -> Identity | None:
    from localstore.vault import Vault

    try:
        return Vault(home_paths()).load()
    except KeyUnavailable as problem:
        terminal.warning(f"{problem}; only trouble with remotes is told")
        return None
