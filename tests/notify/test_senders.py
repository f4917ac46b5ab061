"""Every way out, with the real other side: a program, a mail server, a web server."""

from __future__ import annotations

import email
import json
import os
import ssl
import stat
import sys
from dataclasses import dataclass, field
from email.policy import default as email_policy
from typing import TYPE_CHECKING, Any

import keyring.backends.fail
import pytest
import trustme
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, LoginPassword

from localstore.errors import BadSetting, UsageError
from localstore.notify.events import Event
from localstore.notify.notifiers import Notifier, add_notifier, read_notifiers
from localstore.notify.senders import Message, NotSent, message_of, send

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from localstore.layout import HomePaths
    from tests.notify.conftest import Sink

HOSTILE = "ada/<b>$(touch x)`id`\r\nBcc: eve@example.org\x1b[2J/r1"


def notifier(kind: str, **values: Any) -> Notifier:
    return Notifier(**{"name": "n", "id": "f" * 16, "kind": kind, "added_us": 0, **values})


def message(path: str = "ada/digits/r1", kind: str = "finished", count: int = 1) -> Message:
    events = [Event(key=str(n), kind=kind, subject=path, time_us=0) for n in range(count)]
    return message_of(events, notifier("desktop"))


# ------------------------------------------------------------------ programs
@pytest.fixture
def recorder(tmp_path: Path) -> Path:
    """A program that writes down its words, its environment and its input."""
    path = tmp_path / "bin" / "notify-send"
    path.parent.mkdir()
    path.write_text(
        f"#!{sys.executable}\n"
        "import json, os, sys\n"
        "found = [sys.argv[1:], dict(os.environ), sys.stdin.read()]\n"
        f"json.dump(found, open({str(tmp_path / 'got')!r}, 'w'))\n"
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def got(tmp_path: Path) -> tuple[list[str], dict[str, str], str]:
    words, environment, stdin = json.loads((tmp_path / "got").read_text())
    return words, environment, stdin


def test_a_desktop_shows_it(
    recorder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(recorder.parent), prepend=os.pathsep)
    send(notifier("desktop"), message())
    words, _, _ = got(tmp_path)
    assert words == [
        "--app-name=localstore", "--", "localstore: run ada/digits/r1 finished",
        "run ada/digits/r1 finished",
    ]  # fmt: skip


def test_a_desktop_gets_no_markup_and_no_options_from_a_name(
    recorder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(recorder.parent), prepend=os.pathsep)
    send(notifier("desktop"), message(HOSTILE))
    words, _, _ = got(tmp_path)
    assert words[1] == "--"
    assert "&lt;b&gt;" in words[3]
    assert not any(control in "".join(words) for control in "\r\n\x1b")


def test_no_desktop_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotSent, match="no program notify-send"):
        send(notifier("desktop"), message())


def test_a_command_gets_what_is_told_in_its_environment_and_no_shell_reads_it(
    recorder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCALSTORE_PASSPHRASE", "secret")
    monkeypatch.setenv("OTHER", "stays")
    monkeypatch.chdir(tmp_path)
    send(notifier("command", words=(str(recorder), "$HOME", "; ls")), message(HOSTILE))
    words, environment, stdin = got(tmp_path)
    assert words == ["$HOME", "; ls"]
    ours = {name: value for name, value in environment.items() if name.startswith("LOCALSTORE_")}
    assert ours == {
        "LOCALSTORE_NOTIFY_TITLE": "localstore: run "
        "ada/<b>$(touch x)`id`??Bcc: eve@example.org?[2J/r1 finished",
        "LOCALSTORE_NOTIFY_STATE": "finished",
        "LOCALSTORE_NOTIFY_PATH": "ada/<b>$(touch x)`id`??Bcc: eve@example.org?[2J/r1",
        "LOCALSTORE_NOTIFY_COUNT": "1",
    }
    assert environment["OTHER"] == "stays"
    assert json.loads(stdin)["events"] == [{"path": HOSTILE, "state": "finished"}]
    assert not (tmp_path / "x").exists()


def test_several_events_are_counted(recorder: Path, tmp_path: Path) -> None:
    send(notifier("command", words=(str(recorder),)), message(count=30))
    _, environment, stdin = got(tmp_path)
    assert environment["LOCALSTORE_NOTIFY_STATE"] == "several"
    assert environment["LOCALSTORE_NOTIFY_COUNT"] == "30"
    assert json.loads(stdin)["text"].endswith("and 10 more")


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("/does/not/exist",), "does not start"),
        ((sys.executable, "-c", "raise SystemExit(3)"), "exit code 3"),
        ((sys.executable, "-c", "import time; time.sleep(60)"), "more than 0 s"),
    ],
)
def test_a_program_that_fails_is_told(
    words: tuple[str, ...], why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if "0 s" in why:
        monkeypatch.setattr("localstore.notify.senders.TIMEOUT_S", 0.3)
    with pytest.raises(NotSent, match=why):
        send(notifier("command", words=words), message())


# ------------------------------------------------------------------ webhook
def test_a_webhook_gets_json_and_a_token_by_reference(sink: Sink, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    token.chmod(0o600)
    send(notifier("webhook", url=sink.url, token=f"file:{token}"), message())
    (post,) = sink.got
    assert post.path == "/hook"
    assert post.headers["Authorization"] == "Bearer s3cret"
    assert post.body == {
        "version": 1,
        "text": "localstore: run ada/digits/r1 finished",
        "events": [{"path": "ada/digits/r1", "state": "finished"}],
    }


def test_an_address_that_is_a_secret_stands_in_a_file(sink: Sink, tmp_path: Path) -> None:
    address = tmp_path / "address"
    address.write_text(sink.url + "?key=abc\n")
    address.chmod(0o600)
    send(notifier("webhook", url=f"file:{address}"), message())
    assert sink.got[0].path == "/hook?key=abc"
    address.chmod(0o644)
    with pytest.raises(NotSent, match="mode 0644"):
        send(notifier("webhook", url=f"file:{address}"), message())
    address.write_text("http://example.org/")
    address.chmod(0o600)
    with pytest.raises(NotSent, match="http and not of this machine"):
        send(notifier("webhook", url=f"file:{address}"), message())


@pytest.mark.parametrize("status", [302, 400, 401, 404, 429, 500])
def test_an_answer_that_is_no_success_is_a_failure_and_no_redirect_is_followed(
    sink: Sink, status: int
) -> None:
    sink.answers = [(status, {"Location": "http://example.org/"})]
    with pytest.raises(NotSent, match=str(status)):
        send(notifier("webhook", url=sink.url), message())
    assert len(sink.got) == 1


def test_a_webhook_that_is_not_there_is_told_without_its_address() -> None:
    with pytest.raises(NotSent) as problem:
        send(notifier("webhook", url="http://127.0.0.1:9/SECRET"), message())
    assert "SECRET" not in str(problem.value)


@pytest.mark.parametrize(
    "url",
    ["http://example.org/x", "ftp://example.org", "https://ada:pw@example.org/", "example.org", "",
     "http://localhost.example.org/", "http://127.0.0.1@example.org/", "https://exa mple.org/",
     "http://127.0.0.1.example.org/", "https://"],
)  # fmt: skip
def test_addresses_that_are_not_safe_are_refused(url: str) -> None:
    with pytest.raises(UsageError):
        notifier("webhook", url=url)


# ------------------------------------------------------------------ mail
@dataclass(slots=True)
class Mailbox:
    """A real mail server, and what it got."""

    port: int = 0
    got: list[Any] = field(default_factory=list)

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:
        self.got.append(envelope)
        return "250 taken"


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    """Takes mail on this machine; wants user ada with password pw where somebody logs in."""
    found = Mailbox()

    def check(_server: Any, _session: Any, _envelope: Any, _kind: str, data: Any) -> AuthResult:
        good = isinstance(data, LoginPassword) and (data.login, data.password) == (b"ada", b"pw")
        return AuthResult(success=good, handled=good)

    controller = Controller(
        found, hostname="127.0.0.1", port=_free_port(), authenticator=check,
        auth_require_tls=False,
    )  # fmt: skip
    controller.start()
    found.port = controller.port
    yield found
    controller.stop()


def _free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def mail(mailbox: Mailbox, **values: Any) -> Notifier:
    given = {"server": f"127.0.0.1:{mailbox.port}", "security": "none"}
    return notifier("mail", **{**given, "to": ("ada@example.org", "bob@example.org"), **values})


def test_mail_arrives(mailbox: Mailbox) -> None:
    send(mail(mailbox, sender="me@example.org"), message())
    (envelope,) = mailbox.got
    assert envelope.mail_from == "me@example.org"
    assert envelope.rcpt_tos == ["ada@example.org", "bob@example.org"]
    found = email.message_from_bytes(envelope.content, policy=email_policy)
    assert found["Subject"] == "localstore: run ada/digits/r1 finished"
    assert found["Auto-Submitted"] == "auto-generated"
    assert found.get_content().split() == ["run", "ada/digits/r1", "finished"]


def test_a_name_adds_no_header_and_no_receiver(mailbox: Mailbox) -> None:
    send(mail(mailbox), message(HOSTILE))
    (envelope,) = mailbox.got
    assert envelope.rcpt_tos == ["ada@example.org", "bob@example.org"]
    found = email.message_from_bytes(envelope.content, policy=email_policy)
    assert found["Bcc"] is None


def test_the_password_comes_from_a_private_file(mailbox: Mailbox, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("pw\n")
    file.chmod(0o600)
    send(mail(mailbox, user="ada", password=f"file:{file}"), message())
    assert len(mailbox.got) == 1
    file.write_text("wrong\n")
    with pytest.raises(NotSent, match="refuses user or password"):
        send(mail(mailbox, user="ada", password=f"file:{file}"), message())
    file.unlink()
    with pytest.raises(NotSent, match="cannot be read"):
        send(mail(mailbox, user="ada", password=f"file:{file}"), message())


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_server_without_the_encryption_that_was_asked_for_gets_nothing(
    mailbox: Mailbox, security: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("localstore.notify.senders.TIMEOUT_S", 2.0)
    with pytest.raises(NotSent, match="mail server does not take it"):
        send(mail(mailbox, security=security), message())
    assert mailbox.got == []


def test_a_server_that_is_not_there_is_told(mailbox: Mailbox) -> None:
    with pytest.raises(NotSent, match="ConnectionRefusedError"):
        send(mail(mailbox, server=f"127.0.0.1:{_free_port()}"), message())


@pytest.mark.parametrize(
    "wrong",
    [{"to": ()}, {"to": ("nobody",)}, {"to": ("a@b\r\nBcc: c@d",)}, {"sender": "x"},
     {"server": "a b"}, {"server": "h:99999"}, {"security": "maybe"}, {"user": "ada"},
     {"password": "file:x"}, {"user": "ada", "password": "clear"},
     {"server": "mail.example.org", "security": "none", "user": "a", "password": "file:x"}],
)  # fmt: skip
def test_mail_that_would_fail_or_leak_is_refused(wrong: dict[str, Any]) -> None:
    given = {"server": "mail.example.org", "sender": "a@example.org", "to": ("a@example.org",)}
    with pytest.raises(UsageError):
        notifier("mail", **{**given, **wrong})


@pytest.fixture
def encrypted(tmp_path: Path) -> Iterator[Mailbox]:
    """A mail server that speaks STARTTLS, with a certificate of an authority nobody knows."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "cert.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    found = Mailbox()
    controller = Controller(
        found, hostname="127.0.0.1", port=_free_port(), tls_context=context, require_starttls=True
    )
    controller.start()
    found.port = controller.port
    yield found
    controller.stop()


def test_an_encrypted_server_with_a_good_certificate_gets_mail(
    encrypted: Mailbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    send(mail(encrypted, security="starttls"), message())
    assert len(encrypted.got) == 1


def test_a_server_with_a_certificate_of_nobody_gets_nothing(encrypted: Mailbox) -> None:
    with pytest.raises(NotSent, match="SSLCertVerificationError"):
        send(mail(encrypted, security="starttls"), message())
    assert encrypted.got == []


# ------------------------------------------------------------------ notify.toml
def test_a_notifier_survives_its_file(home: HomePaths) -> None:
    made = [
        add_notifier(home, "a b", "desktop", 7, on=("crashed",), silent_min=5),
        add_notifier(home, "c", "command", 8, words=('x "y"', "\\", "é\x7f")),
        add_notifier(home, "m", "mail", 9, server="h:25", to=("a@example.org",), user="u",
                     password="keyring:x", tell=("path", "state", "name")),
    ]  # fmt: skip
    assert list(read_notifiers(home).values()) == made
    assert (home.root / "notify.toml").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize(
    "text",
    ["x = 1", "no toml", "[notifiers]\na = 1", "[notifiers.a]\nkind = 'desktop'",
     "[notifiers.a]\nid = 'x'\nadded_us = 1\nkind = 'pigeon'",
     "[notifiers.a]\nid = 'x'\nadded_us = 1\nkind = 'desktop'\nmore = 1",
     "[notifiers.a]\nid = 'x'\nadded_us = true\nkind = 'desktop'",
     "[notifiers.a]\nid = 'x'\nadded_us = 1\nkind = 'desktop'\non = [1]",
     "[notifiers.a]\nid = 'x'\nadded_us = 1\nkind = 'desktop'\nname = 'b'"],
)  # fmt: skip
def test_a_file_of_another_form_is_an_error_that_names_it(home: HomePaths, text: str) -> None:
    (home.root / "notify.toml").write_text(text)
    with pytest.raises(BadSetting, match=r"notify\.toml"):
        read_notifiers(home)


def test_without_a_keyring_that_encrypts_a_reference_to_it_is_told(
    sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("keyring.get_keyring", keyring.backends.fail.Keyring)
    with pytest.raises(NotSent, match="no OS keyring that encrypts"):
        send(notifier("webhook", url="keyring:chat"), message())
    assert sink.got == []
