"""The ways out: a desktop, mail, a webhook, a command. Each sends one message or says why not.

What is sent is a path and a state, and what else the person chose; texts of others pass as text,
never as markup, header, address or word of a shell.
"""

from __future__ import annotations

import html
import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from localstore import settings
from localstore.errors import LocalStoreError, RemoteError
from localstore.notify.notifiers import check_url, is_reference

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from localstore.notify.events import Event
    from localstore.notify.notifiers import Notifier

TIMEOUT_S: Final = 20.0
_MOST_LINES: Final = 20
_KEYRING_SERVICE: Final = "localstore-notify"
_TOO_MANY: Final = 429
_REDIRECTS: Final = range(300, 400)


class NotSent(RemoteError):
    """A message did not go out.

    Attributes:
        retry_after_s: when the other side wants to be asked again; None where it did not say.
    """

    def __init__(self, problem: str, *, hint: str = "", retry_after_s: float | None = None) -> None:
        super().__init__(problem, hint=hint)
        self.retry_after_s = retry_after_s


@dataclass(frozen=True, slots=True)
class Message:
    """What goes out at once.

    Attributes:
        title: one line. lines: one for each event, at most 20. events: what is told of each.
    """

    title: str
    lines: tuple[str, ...]
    events: tuple[Mapping[str, Any], ...]

    @property
    def text(self) -> str:
        """All lines."""
        return "\n".join(self.lines)


def message_of(events: Sequence[Event], notifier: Notifier) -> Message:
    """One message for one or more events."""
    lines = [plain(_line(event, notifier)) for event in events[:_MOST_LINES]]
    if len(events) > _MOST_LINES:
        lines.append(f"and {len(events) - _MOST_LINES} more")
    title = lines[0].partition("\n")[0] if len(events) == 1 else _count(events)
    told = tuple(event.told(notifier.tell) for event in events)
    return Message(plain(f"localstore: {title}"), tuple(lines), told)


def _line(event: Event, notifier: Notifier) -> str:
    facts = event.told(notifier.tell)
    more = [f"{key} {value}" for key, value in facts.items() if key not in ("path", "state")]
    return event.line + (f" ({', '.join(more)})" if more else "")


def _count(events: Sequence[Event]) -> str:
    kinds: dict[str, int] = {}
    for event in events:
        kinds[event.kind] = kinds.get(event.kind, 0) + 1
    return ", ".join(f"{count} {kind}" for kind, count in kinds.items())


def plain(text: str) -> str:
    """Text without characters that move, hide or end anything."""
    return "".join(one if one.isprintable() else "?" for one in text)


def secret(reference: str) -> str:
    """What a reference points to: the first line of a private file, or an entry of the keyring.

    Raises:
        NotSent, KeyUnavailable, NotPermitted: it is not there, or others may read it.
    """
    where, _, name = reference.partition(":")
    if where == "keyring":
        return _from_keyring(name)
    from localstore.vault import read_private

    try:
        lines = read_private(Path(name).expanduser()).decode("utf-8", "replace").splitlines()
    except OSError as error:
        raise NotSent(f"the file of a secret cannot be read: {error.strerror}") from None
    if not lines or not lines[0].strip():
        raise NotSent("the file of a secret is empty")
    return lines[0].strip()


def _from_keyring(name: str) -> str:
    from localstore.vault import keyring_entry

    found = keyring_entry(_KEYRING_SERVICE, name)
    if not found:
        raise NotSent(
            "the keyring has no such entry",
            hint=f"`keyring set {_KEYRING_SERVICE} NAME` makes it",
        )
    return found


def send(notifier: Notifier, message: Message) -> None:
    """Send one message.

    Raises:
        NotSent: with the reason; it may be tried again.
    """
    try:
        _WAYS[notifier.kind](notifier, message)
    except NotSent:
        raise
    except LocalStoreError as error:
        raise NotSent(str(error), hint=error.hint) from None


# ------------------------------------------------------------------ desktop and command
def _desktop(_notifier: Notifier, message: Message) -> None:
    program = shutil.which("notify-send")
    if program is None:
        raise NotSent("no program notify-send", hint="install libnotify, or another notifier")
    # Bodies are markup to most desktops.
    words = [program, "--app-name=localstore", "--", message.title, html.escape(message.text)]
    _run(words, {}, b"")


def _command(notifier: Notifier, message: Message) -> None:
    document = _document(message)
    one = message.events[0] if len(message.events) == 1 else {}
    values = {
        "LOCALSTORE_NOTIFY_TITLE": message.title,
        "LOCALSTORE_NOTIFY_STATE": plain(str(one.get("state", "several"))),
        "LOCALSTORE_NOTIFY_PATH": plain(str(one.get("path", ""))),
        "LOCALSTORE_NOTIFY_COUNT": str(len(message.events)),
    }
    _run(list(notifier.words), values, json.dumps(document).encode())


def _run(words: list[str], values: Mapping[str, str], stdin: bytes) -> None:
    """A program without a shell, with the environment of this process, our own settings aside."""
    environment = {**settings.environment_variables(("*",)), **values}
    try:
        done = subprocess.run(
            words,
            input=stdin,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environment,
            timeout=TIMEOUT_S,
            check=False,
            start_new_session=True,
        )
    except subprocess.TimeoutExpired:
        raise NotSent(f"the program took more than {TIMEOUT_S:.0f} s") from None
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise NotSent(f"the program does not start: {why}") from None
    if done.returncode:
        raise NotSent(f"the program ended with exit code {done.returncode}")


def _document(message: Message) -> dict[str, Any]:
    """What machines get; `text` is what chat services show."""
    events = [dict(event) for event in message.events]
    # The title of one event is its line.
    text = message.title if len(events) == 1 else "\n".join([message.title, *message.lines])
    return {"version": 1, "text": text, "events": events}


# ------------------------------------------------------------------ webhook
def _webhook(notifier: Notifier, message: Message) -> None:
    try:
        import httpx
    except ImportError:
        raise NotSent("no library for http here", hint="install localstore[daemon]") from None
    url = secret(notifier.url) if is_reference(notifier.url) else notifier.url
    headers = {"User-Agent": "localstore"}
    if notifier.token:
        headers["Authorization"] = f"Bearer {secret(notifier.token)}"
    try:
        # The answer's body is nobody's business, and might never end.
        with (
            httpx.Client(timeout=TIMEOUT_S, follow_redirects=False) as client,
            client.stream(
                "POST", check_url(url), json=_document(message), headers=headers
            ) as answer,
        ):
            _check_answer(answer.status_code, answer.headers.get("Retry-After", ""))
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        # Its text may hold the address, which may be a secret.
        raise NotSent(f"the webhook does not answer: {type(error).__name__}") from None


def _check_answer(status: int, retry_after: str) -> None:
    if status in _REDIRECTS:
        raise NotSent(f"the webhook answers {status}", hint="give the address it moved to")
    if not 200 <= status < 300:
        wait_s = float(retry_after) if retry_after.isdecimal() else None
        hint = "it wants fewer messages" if status == _TOO_MANY else ""
        raise NotSent(f"the webhook answers {status}", hint=hint, retry_after_s=wait_s)


# ------------------------------------------------------------------ mail
def _mail(notifier: Notifier, message: Message) -> None:
    import smtplib
    import ssl
    from email.message import EmailMessage
    from email.utils import formatdate, make_msgid

    mail = EmailMessage()
    mail["Subject"], mail["Date"] = message.title[:200], formatdate(localtime=True)
    mail["From"] = notifier.sender or notifier.to[0]
    mail["To"] = ", ".join(notifier.to)
    mail["Message-ID"] = make_msgid(domain="localstore.invalid")
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(message.text + "\n")
    host, port = notifier.host_and_port()
    context = ssl.create_default_context()
    try:
        client = (
            smtplib.SMTP_SSL(host, port, timeout=TIMEOUT_S, context=context)
            if notifier.security == "tls"
            else smtplib.SMTP(host, port, timeout=TIMEOUT_S)
        )
        with client:
            if notifier.security == "starttls":
                client.starttls(context=context)
            if notifier.user:
                client.login(notifier.user, secret(notifier.password))
            client.send_message(mail)
    except smtplib.SMTPAuthenticationError:
        raise NotSent("the mail server refuses user or password") from None
    except (smtplib.SMTPException, OSError, ValueError) as error:
        raise NotSent(f"the mail server does not take it: {type(error).__name__}") from None


_WAYS: Final[dict[str, Callable[[Notifier, Message], None]]] = {
    "desktop": _desktop,
    "command": _command,
    "webhook": _webhook,
    "mail": _mail,
}
