"""`localstore key`."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from localstore.layout import HomePaths
from localstore.vault import Vault
from tests.cli.conftest import COMMAND, call, spawn

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.fixture
def secret(make_run: Callable[..., str]) -> Path:
    """The secret file of a home that has one run."""
    make_run([{"x": 1}], id="one")
    return Path(os.environ["LOCALSTORE_HOME"]) / "identity/secret"


def _facts(**environment: str) -> dict[str, Any]:
    outcome = call("key", "show", "--json", **environment)
    assert (outcome.code, outcome.err) == (0, "")
    found: dict[str, Any] = json.loads(outcome.out)
    return found


# ------------------------------------------------------------------ show
def test_show_says_who_this_is_and_where_the_secret_lies(secret: Path) -> None:
    identity = Vault(HomePaths(secret.parent.parent)).load()
    device = json.loads(call("device", "ls", "--json").out)[0]["id"]
    assert call("key", "show").out == (
        f"user        {identity.user.hex()}\n"
        "user name   ada\n"
        "generation  1\n"
        f"device      {device}\n"
        f"secret      {secret}\n"
        "protected   no\n"
    )


def test_show_prints_no_secret(secret: Path) -> None:
    identity = Vault(HomePaths(secret.parent.parent)).load()
    shown = call("key", "show").out + call("key", "show", "--json").out
    for value in (*identity.roots.values(), identity.device_seed, identity.home_key):
        assert value.hex() not in shown


def test_a_home_without_a_key_says_what_to_do() -> None:
    outcome = call("key", "show")
    assert (outcome.code, outcome.out) == (11, "")
    assert "localstore: hint: start a run here, or move your key with" in outcome.err


def test_a_key_file_that_others_may_read_is_refused(secret: Path) -> None:
    secret.chmod(0o644)
    for words in (["key", "show"], ["ls"], ["export"]):
        outcome = call(*words)
        assert (outcome.code, outcome.out) == (77, "")
        assert f"localstore: error: {secret} has mode 0644" in outcome.err
        assert f"localstore: hint: if nobody else has read it: chmod 600 {secret}" in outcome.err


# ------------------------------------------------------------------ passphrase
def test_protect_wrong_passphrase_remove(secret: Path, tmp_path: Path) -> None:
    assert call("key", "protect", "--stdin", stdin="open sesame\n").code == 0
    wrong = call("ls", LOCALSTORE_PASSPHRASE="sesame")
    assert (wrong.code, wrong.out) == (11, "")
    assert wrong.err == "localstore: error: the passphrase does not open the key\n"
    assert call("ls").code == 11
    assert _facts(LOCALSTORE_PASSPHRASE="open sesame")["protected"] is True
    file = tmp_path / "passphrase"
    file.touch(0o600)
    file.write_text("open sesame\nmore\n")
    assert call("key", "protect", "--remove", LOCALSTORE_PASSPHRASE_FILE=str(file)).code == 0
    assert _facts()["protected"] is False


def test_a_new_passphrase_takes_the_place_of_the_old(secret: Path, tmp_path: Path) -> None:
    new = tmp_path / "new"
    new.touch(0o600)
    new.write_text("second")
    call("key", "protect", "--stdin", stdin="first\n")
    words = ["key", "protect", "--passphrase-file", str(new)]
    assert call(*words).code == 11
    assert call(*words, LOCALSTORE_PASSPHRASE="first").code == 0
    assert call("ls", LOCALSTORE_PASSPHRASE="first").code == 11
    assert call("ls", LOCALSTORE_PASSPHRASE="second").code == 0


def test_the_file_that_will_open_the_key_also_protects_it(secret: Path, tmp_path: Path) -> None:
    file = tmp_path / "passphrase"
    file.touch(0o600)
    file.write_text("sesame\n")
    assert call("key", "protect", LOCALSTORE_PASSPHRASE_FILE=str(file)).code == 0
    assert _facts(LOCALSTORE_PASSPHRASE_FILE=str(file))["protected"] is True


@pytest.mark.parametrize(
    ("words", "stdin", "code"),
    [([], "", 2), (["--stdin"], "\n", 2), (["--stdin", "--remove"], "x\n", 2)],
    ids=["nobody to ask", "empty", "both"],
)
def test_no_passphrase_changes_nothing(
    secret: Path, words: list[str], stdin: str, code: int
) -> None:
    before = secret.read_bytes()
    assert call("key", "protect", *words, stdin=stdin).code == code
    assert secret.read_bytes() == before


def test_a_passphrase_file_that_others_may_read_is_refused(secret: Path, tmp_path: Path) -> None:
    (tmp_path / "open").write_text("sesame")
    (tmp_path / "open").chmod(0o644)
    assert call("key", "protect", "--passphrase-file", str(tmp_path / "open")).code == 77


def test_a_passphrase_file_that_is_not_there_is_named(secret: Path, tmp_path: Path) -> None:
    call("key", "protect", "--stdin", stdin="sesame\n")
    outcome = call("key", "show", LOCALSTORE_PASSPHRASE_FILE=str(tmp_path / "gone"))
    assert outcome.code == 11
    assert f"no passphrase file {tmp_path / 'gone'}\n" in outcome.err


def test_a_protected_systemd_credential_is_shown_as_such_and_not_changed(
    secret: Path, tmp_path: Path
) -> None:
    call("key", "protect", "--stdin", stdin="sesame\n")
    (tmp_path / "credentials").mkdir()
    secret.rename(tmp_path / "credentials/localstore.identity")
    given = {"CREDENTIALS_DIRECTORY": str(tmp_path / "credentials")}
    facts = _facts(LOCALSTORE_PASSPHRASE="sesame", **given)
    assert facts["secret"] == "systemd credential localstore.identity"
    assert facts["protected"] is True
    changed = call("key", "protect", "--remove", LOCALSTORE_PASSPHRASE="sesame", **given)
    assert changed.code == 77


def _type(lines: list[str], *words: str) -> tuple[int, str]:
    """Run the command with a terminal of its own, on which somebody types these lines."""
    process_id, screen = pty.fork()
    if process_id == 0:  # pragma: no cover - the child
        os.execv(COMMAND, [str(COMMAND), *words])  # noqa: S606
    seen = b""
    with os.fdopen(screen, "r+b", buffering=0) as person:
        for line in lines:
            while not seen.endswith(b": "):
                seen += person.read(1)
            person.write(line.encode() + b"\n")
            seen += b"\n"
        try:
            while piece := person.read(4096):
                seen += piece
        except OSError:  # the other side is closed
            pass
    return os.waitstatus_to_exitcode(os.waitpid(process_id, 0)[1]), seen.decode()


def test_a_person_is_asked_twice_and_nothing_is_echoed(secret: Path) -> None:
    code, seen = _type(["sesame", "sesame"], "key", "protect")
    assert code == 0
    assert "sesame" not in seen
    assert _facts(LOCALSTORE_PASSPHRASE="sesame")["protected"] is True


def test_two_passphrases_that_differ_change_nothing(secret: Path) -> None:
    code, seen = _type(["sesame", "sesam"], "key", "protect")
    assert code == 2
    assert "the two passphrases differ" in seen
    assert _facts()["protected"] is False


# ------------------------------------------------------------------ recovery code
def test_a_pipe_moves_the_identity(secret: Path, tmp_path: Path) -> None:
    """`localstore key recovery-code | localstore key recover`."""
    there = {**os.environ, "LOCALSTORE_HOME": str(tmp_path / "there"), "LOCALSTORE_QUIET": "0"}
    source = subprocess.Popen([str(COMMAND), "key", "recovery-code"], stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE, text=True)  # fmt: skip
    target = subprocess.run([str(COMMAND), "key", "recover"], stdin=source.stdout, env=there,
                            capture_output=True, text=True, timeout=60)  # fmt: skip
    _, explained = source.communicate(timeout=60)
    assert (source.returncode, target.returncode) == (0, 0)
    assert "your data are lost" in explained
    assert "localstore remote add NAME PATH\n  localstore sync now\n" in target.stdout
    here, moved = (
        _facts(),
        json.loads(call("--home", str(tmp_path / "there"), "key", "show", "--json").out),
    )
    assert here["user"] == moved["user"]
    assert here["device"] != moved["device"]
    assert (tmp_path / "there/identity/secret").stat().st_mode & 0o777 == 0o600


def test_the_code_stands_alone_on_stdout(secret: Path) -> None:
    out = spawn("key", "recovery-code").out
    assert out.startswith("LS1-")
    assert out.count("\n") == 1


def test_recovering_over_a_key_is_refused(secret: Path) -> None:
    code = call("key", "recovery-code").out
    before = secret.read_bytes()
    assert call("key", "recover", stdin=code).code == 73
    assert secret.read_bytes() == before


@pytest.mark.parametrize("change", ["", "LS1-AAAA", "cut", "mistyped", "two"])
def test_what_is_no_code_makes_no_key(secret: Path, tmp_path: Path, change: str) -> None:
    code = call("key", "recovery-code").out.strip()
    other = "B" if code[10] != "B" else "C"
    text = {
        "cut": code[:-1],
        "mistyped": code[:10] + other + code[11:],
        "two": f"{code}\n{code}",
    }.get(change, change)
    outcome = call("--home", str(tmp_path / "there"), "key", "recover", stdin=text)
    assert (outcome.code, outcome.out) == (11, "")
    assert not (tmp_path / "there").exists()


def test_a_code_may_be_typed_in_lower_case_with_blanks(secret: Path, tmp_path: Path) -> None:
    code = call("key", "recovery-code").out.lower().replace("-", "- ")
    assert call("--home", str(tmp_path / "there"), "key", "recover", stdin=code).code == 0


def test_a_person_types_the_code_unseen(secret: Path, tmp_path: Path) -> None:
    code = call("key", "recovery-code").out.strip()
    status, seen = _type([code], "--home", str(tmp_path / "there"), "key", "recover")
    assert status == 0
    assert code not in seen


# ------------------------------------------------------------------ a machine with tickets
def test_a_machine_with_tickets_says_so_and_reads_nothing(secret: Path, tmp_path: Path) -> None:
    ticket = tmp_path / "ticket"
    assert call("project", "ticket", "--deposit", "--project", "digits", str(ticket)).code == 0
    typo = call("project", "ticket", "--deposit", "--project", "digtis", str(tmp_path / "typo"))
    assert typo.err.startswith("there was no project digtis: it is made\n")
    node = str(tmp_path / "node")
    assert call("--home", node, "enroll", str(ticket)).code == 0
    shown = call("--home", node, "key", "show")
    assert shown.out.startswith(
        f"secret     {node}/identity/secret\nprotected  no\nticket     ada/digits "
    )
    for words in (
        ["ls"],
        ["show", "one"],
        ["export"],
        ["rm", "-y", "one"],
        ["key", "recovery-code"],
    ):
        outcome = call("--home", node, *words)
        assert (outcome.code, outcome.out) == (77, "")
