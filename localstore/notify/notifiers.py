"""Who is told, of what, and by which way: `notify.toml` in the home.

These are settings, in clear and readable by their owner alone. What opens a door (a password, a
token, an address that is a secret) stands there as a reference: `file:PATH` or `keyring:NAME`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Final

from localstore import crypto
from localstore.durable import replace_file
from localstore.errors import AlreadyExists, BadSetting, NotFound, UsageError
from localstore.layout import check_label
from localstore.tables import read_tables

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from localstore.layout import HomePaths

FILE: Final = "notify.toml"
KINDS: Final = ("desktop", "mail", "webhook", "command")
EVENTS: Final = ("finished", "failed", "crashed", "silent", "sync")
ALWAYS_TOLD: Final = ("path", "state")
TOLD: Final = (*ALWAYS_TOLD, "name", "exit_code", "times", "reason")
SECURITY: Final = ("starttls", "tls", "none")
_LOCAL: Final = re.compile(r"(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d{1,5})?\Z")
_URL: Final = re.compile(r"(https?)://([^/?#@\s]+)(?:[/?#]\S*)?\Z")
_SERVER: Final = re.compile(r"(\[[0-9a-fA-F:]+\]|[^\s:/@]+)(?::(\d{1,5}))?\Z")
_ADDRESS: Final = re.compile(r"[^@\s<>\"',;:]+@[^@\s<>\"',;:]+\Z")
_PORTS: Final = {"starttls": 587, "tls": 465, "none": 25}
_MAX_WORDS: Final = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Notifier:
    """One way to tell somebody.

    Attributes:
        id: 16 hex digits; what was told is remembered under it.
        kind: desktop, mail, webhook or command.
        on: events that are told. tell: facts that are told of them.
        silent_min, sync_min: minutes after which a run counts as silent, a failing remote as
            trouble.
        at_most: messages an hour.
        added_us: when it was added; what happened before is not told.
        url, token: of a webhook; the token goes into the Authorization header.
        server, security, user, password, sender, to: of mail.
        words: of a command.
    """

    name: str
    id: str
    kind: str
    added_us: int
    on: tuple[str, ...] = EVENTS
    tell: tuple[str, ...] = ALWAYS_TOLD
    silent_min: int = 30
    sync_min: int = 60
    at_most: int = 20
    url: str = ""
    token: str = ""
    server: str = ""
    security: str = "starttls"
    user: str = ""
    password: str = ""
    sender: str = ""
    to: tuple[str, ...] = ()
    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            UsageError: one breaks the rules.
        """
        check_label("the notifier", self.name)
        _check_words("kind", (self.kind,), KINDS)
        _check_words("event", self.on, EVENTS)
        _check_words("fact", self.tell, TOLD)
        for what in ("silent_min", "sync_min", "at_most"):
            if not 1 <= getattr(self, what) <= 100_000:
                raise UsageError(f"{what} is {getattr(self, what)}, want 1 to 100,000")
        _CHECKS[self.kind](self)

    @property
    def wants_runs(self) -> bool:
        """Whether it tells of runs, for which somebody must read them."""
        return any(event != "sync" for event in self.on)

    def host_and_port(self) -> tuple[str, int]:
        """Of the mail server."""
        found = _SERVER.match(self.server)
        host, port = (found[1], found[2]) if found else ("", None)
        return host.strip("[]"), int(port or _PORTS[self.security])


def _check_words(what: str, given: tuple[str, ...], known: tuple[str, ...]) -> None:
    wrong = [word for word in given if word not in known]
    if wrong or not given:
        said = repr(wrong[0]) if wrong else "nothing"
        raise UsageError(f"{what} is {said}, want one of {', '.join(known)}")


def check_url(url: str) -> str:
    """An address to which a webhook may be sent.

    Raises:
        UsageError: no URL; with a password in it; not https, and not this machine.
    """
    found = _URL.match(url)
    if found is None:
        raise UsageError("the address is none", hint="want https://…, without user and password")
    if found[1] == "http" and not _LOCAL.match(found[2]):
        raise UsageError("the address is http and not of this machine", hint="want https://…")
    return url


def is_reference(text: str) -> bool:
    """Whether a text says where a secret stands instead of being one."""
    return text.startswith(("file:", "keyring:")) and len(text.partition(":")[2]) > 0


def _check_reference(what: str, text: str) -> None:
    if text and not is_reference(text):
        raise UsageError(f"the {what} would stand in clear", hint="want file:PATH or keyring:NAME")


def _check_mail(one: Notifier) -> None:
    _check_words("security", (one.security,), SECURITY)
    if not _SERVER.match(one.server) or not 0 < one.host_and_port()[1] < 65_536:
        raise UsageError(f"mail server is {one.server!r}, want HOST or HOST:PORT")
    for address in filter(None, (one.sender, *one.to)):
        if not _ADDRESS.match(address):
            raise UsageError(f"{address!r} is no mail address")
    if not one.to:
        raise UsageError("mail wants somebody to send it to")
    _check_reference("password", one.password)
    if bool(one.user) != bool(one.password):
        raise UsageError("mail wants both, a user and a password, or neither")
    if one.user and one.security == "none" and not _LOCAL.match(one.server):
        raise UsageError("the password would be sent in clear", hint="security starttls or tls")


def _check_webhook(one: Notifier) -> None:
    if not is_reference(one.url):
        check_url(one.url)
    _check_reference("token", one.token)


def _check_command(one: Notifier) -> None:
    if not one.words or len(one.words) > _MAX_WORDS or any("\0" in word for word in one.words):
        raise UsageError("a command wants 1 to 64 words")


def _check_desktop(_one: Notifier) -> None:
    """A desktop needs nothing."""


_CHECKS: Final = {
    "desktop": _check_desktop,
    "mail": _check_mail,
    "webhook": _check_webhook,
    "command": _check_command,
}


# ------------------------------------------------------------------ notify.toml
def path_of(home: HomePaths) -> Path:
    """Where the notifiers of a home stand."""
    return home.root / FILE


def read_notifiers(home: HomePaths) -> dict[str, Notifier]:
    """All notifiers by name, in the order in which they were added; needs no key.

    Raises:
        BadSetting: not of its form.
    """
    path = path_of(home)
    tables = read_tables(path, "notifiers")
    return {name: _read(path, name, table) for name, table in tables.items()}


def _read(path: Path, name: str, table: object) -> Notifier:
    known = {field.name: field for field in fields(Notifier)}
    if not isinstance(table, dict):
        raise BadSetting(f"{path}: {name!r} is no table")
    for key, value in table.items():
        if key not in known or key == "name":
            raise BadSetting(f"{path}: notifier {name!r}: unknown key {key!r}")
        if not _is_of(str(known[key].type), value):
            raise BadSetting(f"{path}: notifier {name!r}: {key} is {value!r}")
    values: dict[str, Any] = {
        key: tuple(one) if isinstance(one, list) else one for key, one in table.items()
    }
    try:
        return Notifier(name=name, **values)
    except (UsageError, TypeError) as error:
        raise BadSetting(f"{path}: notifier {name!r}: {error}") from error


def _is_of(kind: str, value: object) -> bool:
    if kind.startswith("tuple"):
        return isinstance(value, list) and all(isinstance(one, str) for one in value)
    return type(value) is (int if kind == "int" else str)


def add_notifier(home: HomePaths, name: str, kind: str, now_us: int, **values: Any) -> Notifier:
    """Write a notifier down.

    Raises:
        AlreadyExists: one of this name is there.
        UsageError: a value breaks the rules.
    """
    known = read_notifiers(home)
    if name in known:
        raise AlreadyExists(f"a notifier {name!r} is there already")
    made = Notifier(
        name=name, id=crypto.random_bytes(8).hex(), kind=kind, added_us=now_us, **values
    )
    _write(home, {**known, name: made})
    return made


def remove_notifier(home: HomePaths, name: str) -> Notifier:
    """Forget a notifier.

    Raises:
        NotFound: no notifier of this name.
    """
    known = read_notifiers(home)
    if name not in known:
        raise NotFound(f"no notifier {name!r}; there are: {', '.join(known) or 'none'}")
    _write(home, {other: one for other, one in known.items() if other != name})
    return known[name]


def _write(home: HomePaths, notifiers: Mapping[str, Notifier]) -> None:
    if not notifiers:
        path_of(home).unlink(missing_ok=True)
        return
    replace_file(path_of(home), "\n".join(map(_table, notifiers.values())).encode())


def _table(one: Notifier) -> str:
    lines = [f"[notifiers.{_quoted(one.name)}]"]
    for field in fields(Notifier):
        value = getattr(one, field.name)
        if field.name == "name" or value == field.default:
            continue
        text = _quoted(value) if isinstance(value, str) else json.dumps(value)
        if isinstance(value, tuple):
            text = f"[{', '.join(map(_quoted, value))}]"
        lines.append(f"{field.name} = {text}")
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    """A TOML basic string. JSON's escapes are TOML's, but for DEL, which TOML wants escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
