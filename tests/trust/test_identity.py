"""Where the key lies, who may read it, and what a damaged or wrong one says."""

from __future__ import annotations

import os
import string
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import keyring
import keyring.backend
import keyring.errors
import pytest

import localstore
from localstore import identity, settings
from localstore import vault as vault_module
from localstore.errors import (
    AlreadyExists,
    Damaged,
    KeyUnavailable,
    LocalStoreError,
    NotPermitted,
)
from localstore.identity import lock, recovery_code, unlock
from localstore.vault import Vault
from tests.keys.conftest import record

if TYPE_CHECKING:
    from collections.abc import Iterator

    from localstore.layout import HomePaths

CREDENTIAL = vault_module.CREDENTIAL_NAME


def nobody_asked() -> str:
    raise AssertionError("a passphrase was asked for")


def secret_file(home: HomePaths) -> Path:
    return home.identity / vault_module.SECRET_FILE


def all_secrets(home: HomePaths) -> list[bytes]:
    one = Vault(home).load()
    own = [*one.roots.values(), one.home_key]
    own += [one.device_seed, one.device_box] if one.is_member else []
    own += [one.user_seed(), one.user_box()] if one.is_member else []
    for deposit in one.deposits.values():
        own += [deposit.device_seed, deposit.naming, deposit.dedup]
    return own


def assert_hidden(text: str, home: HomePaths) -> None:
    for secret in all_secrets(home):
        assert secret.hex() not in text
        assert repr(secret)[2:-1] not in text


# ------------------------------------------------------------------ the first run
def test_the_first_run_makes_everything_and_nobody_else_can_read_it(home: HomePaths) -> None:
    record(home)
    (project,) = home.all_projects()
    assert Vault(home).load().is_member
    assert len(list(project.links.iterdir())) == 4, "genesis, epoch, two names"
    assert len(list(project.certs.iterdir())) == 2, "user and device"
    modes = {path: path.stat().st_mode & 0o777 for path in home.root.rglob("*")}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666, 0o620, 0o610, 0o601])
def test_a_key_that_others_may_touch_is_refused_and_says_what_to_do(
    home: HomePaths, mode: int
) -> None:
    record(home)
    secret_file(home).chmod(mode)
    with pytest.raises(NotPermitted, match=f"mode {mode:04o}") as caught:
        Vault(home).load()
    assert "chmod 600" in caught.value.hint
    with pytest.raises(NotPermitted):
        localstore.init(dir=home.root)


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_a_key_of_another_account_is_refused(home: HomePaths) -> None:
    record(home)
    os.chown(secret_file(home), 12345, -1)
    with pytest.raises(NotPermitted, match="owner 12345"):
        Vault(home).load()


# ------------------------------------------------------------------ keyring
class Memory(keyring.backend.KeyringBackend):
    """Keeps entries in a dict."""

    priority = 5
    __module__ = "keyring.backends.SecretService"
    __qualname__ = "Keyring"

    def __init__(self) -> None:
        self.entries: dict[tuple[str, str], str] = {}

    def get_password(self, service: str, username: str) -> str | None:
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        del self.entries[service, username]


class Plain(Memory):
    __module__ = "keyrings.alt.file"
    __qualname__ = "PlaintextKeyring"


class Locked(Memory):
    __module__ = "keyring.backends.SecretService"
    __qualname__ = "Keyring"

    def set_password(self, service: str, username: str, password: str) -> None:
        raise keyring.errors.KeyringLocked("hunter2")

    def get_password(self, service: str, username: str) -> str | None:
        raise keyring.errors.KeyringLocked("hunter2")


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    before = keyring.get_keyring()
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere")
    yield
    keyring.set_keyring(before)


def test_a_keyring_that_encrypts_keeps_the_key_and_no_file_does(
    home: HomePaths, session: None
) -> None:
    backend = Memory()
    keyring.set_keyring(backend)
    record(home)
    assert not secret_file(home).exists()
    assert len(backend.entries) == 1
    vault = Vault(home)
    assert "keyring" in vault.place()
    one = vault.load()
    vault.save(one, "word")
    assert Vault(home, lambda: "word").load() == one


def test_a_keyring_that_writes_plain_text_gets_no_key(home: HomePaths, session: None) -> None:
    backend = Plain()
    keyring.set_keyring(backend)
    record(home)
    assert backend.entries == {}
    assert secret_file(home).exists()


def test_a_plain_keyring_that_was_asked_for_is_refused(home: HomePaths, session: None) -> None:
    keyring.set_keyring(Plain())
    with pytest.raises(KeyUnavailable, match="no OS keyring that encrypts"):
        Vault(home).create(identity.new_member("ada"), "keyring")
    assert not home.identity.exists()


def test_a_locked_keyring_costs_no_run(home: HomePaths, session: None) -> None:
    keyring.set_keyring(Locked())
    record(home)
    assert secret_file(home).exists()


def test_a_keyring_that_locks_later_says_so(home: HomePaths, session: None) -> None:
    keyring.set_keyring(Memory())
    record(home)
    keyring.set_keyring(Locked())
    with pytest.raises(KeyUnavailable, match="the keyring refuses: KeyringLocked"):
        Vault(home).load()


@pytest.mark.parametrize("text", ["no base64!", "AAAA", ""])
def test_a_damaged_entry_of_the_keyring_is_named(home: HomePaths, session: None, text: str) -> None:
    backend = Memory()
    keyring.set_keyring(backend)
    record(home)
    backend.entries = dict.fromkeys(backend.entries, text)
    with pytest.raises(LocalStoreError):
        Vault(home).load()


# ------------------------------------------------------------------ systemd
def test_a_systemd_credential_is_used_and_never_written(
    home: HomePaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(home)
    folder = tmp_path / "credentials"
    folder.mkdir()
    secret_file(home).rename(folder / CREDENTIAL)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(folder))
    before = (folder / CREDENTIAL).read_bytes()
    record(home)
    vault = Vault(home)
    assert len(localstore.Api(home.root).runs()) == 2
    with pytest.raises(NotPermitted, match="systemd credential"):
        vault.save(vault.load(), "word")
    with pytest.raises(AlreadyExists):
        vault_module.recover(home, recovery_code(vault.load()), settings.load())
    assert (folder / CREDENTIAL).read_bytes() == before
    assert not secret_file(home).exists()


# ------------------------------------------------------------------ passphrase
@pytest.fixture(scope="module")
def locked() -> tuple[identity.Identity, bytes]:
    one = identity.new_member("ada")
    return one, lock(one, "correct horse")


def test_a_passphrase_opens_and_another_does_not(locked: tuple[identity.Identity, bytes]) -> None:
    one, raw = locked
    assert unlock(raw, lambda: "correct horse") == one
    with pytest.raises(KeyUnavailable, match="does not open the key"):
        unlock(raw, lambda: "correct horses")
    for root in one.roots.values():
        assert root not in raw


def test_a_passphrase_can_be_put_on_and_taken_off(home: HomePaths) -> None:
    record(home)
    one = Vault(home).load()
    Vault(home).save(one, "word")
    assert Vault(home).protected()
    assert one.device_seed not in secret_file(home).read_bytes()
    assert secret_file(home).stat().st_mode & 0o777 == 0o600
    Vault(home).save(Vault(home, lambda: "word").load(), "")
    assert not Vault(home).protected()
    assert Vault(home, nobody_asked).load() == one


def test_a_passphrase_of_any_bytes_opens_what_it_locked(
    home: HomePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(home)
    one = Vault(home).load()
    word = b"\xff\xfe word".decode("utf-8", "surrogateescape")
    Vault(home).save(one, word)
    monkeypatch.setenv("LOCALSTORE_PASSPHRASE", word)
    assert Vault(home).load() == one


@pytest.mark.parametrize(
    ("passes", "memory_kib"),
    [(0, 262144), (1, 262144), (7, 262144), (255, 262144), (3, 0), (3, 1024), (3, 2**32 - 1)],
)
def test_hostile_costs_are_refused_before_any_memory_is_taken(
    passes: int, memory_kib: int, locked: tuple[identity.Identity, bytes]
) -> None:
    head = struct.pack("<4sBBBxI16s", b"LSSK", 1, 1, passes, memory_kib, bytes(16))
    with pytest.raises(Damaged, match="asks for"):
        unlock(head + locked[1][28:], nobody_asked)


def test_memory_that_is_not_there_is_said(
    locked: tuple[identity.Identity, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 64 * 2**20, hard))
    try:
        with pytest.raises(KeyUnavailable, match="256 MiB"):
            unlock(locked[1], lambda: "correct horse")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_the_passphrase_leaves_the_environment(
    home: HomePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    record(home)
    Vault(home).save(Vault(home).load(), "hunter2")
    monkeypatch.setenv("LOCALSTORE_PASSPHRASE", "hunter2")
    run = localstore.init(project="digits", dir=home.root)
    assert "LOCALSTORE_PASSPHRASE" not in os.environ
    assert "hunter2" not in str(vars(run))
    run.finish()


# ------------------------------------------------------------------ damage
def outcome(raw: bytes) -> object:
    try:
        return unlock(raw, lambda: "wrong")
    except LocalStoreError as error:
        return error


def test_every_flipped_or_missing_byte_of_a_key_file_is_said() -> None:
    one = identity.new_member("ada")
    raw = lock(one)
    for at in range(len(raw)):
        assert isinstance(outcome(raw[:at]), LocalStoreError), at
        for mask in (1, 0x80, 0xFF):
            bad = raw[:at] + bytes((raw[at] ^ mask,)) + raw[at + 1 :]
            assert isinstance(outcome(bad), LocalStoreError), at


def test_a_flipped_byte_of_a_protected_key_file_is_said(
    locked: tuple[identity.Identity, bytes],
) -> None:
    _, raw = locked
    for at in (0, 4, 5, 7, 20, 40, 60, len(raw) - 1):
        bad = raw[:at] + bytes((raw[at] ^ 1,)) + raw[at + 1 :]
        with pytest.raises(LocalStoreError):
            unlock(bad, lambda: "correct horse")


@pytest.mark.parametrize(
    "body",
    [b"", b"\xc0", b"\x80", b"\x01", b"\x81\xa1\xff\x01", b"\x91" * 5000, b"\x81\xa4user\x01"],
)
def test_a_map_that_is_none_is_damage(body: bytes) -> None:
    with pytest.raises(Damaged, match="secret of this home is damaged"):
        identity.from_bytes(body)


# ------------------------------------------------------------------ recovery code
ADA = identity.new_member("ada")
CODE = recovery_code(ADA)


def recovered(code: str) -> bytes | None:
    try:
        return identity.from_recovery_code(code, "ada").user
    except KeyUnavailable:
        return None


def test_every_typing_error_of_a_recovery_code_is_refused() -> None:
    letters = string.ascii_uppercase + string.digits
    for at, right in enumerate(CODE):
        if right == "-":
            continue
        for wrong in letters.replace(right, ""):
            assert recovered(CODE[:at] + wrong + CODE[at + 1 :]) is None, (at, wrong)
        assert recovered(CODE[:at] + CODE[at + 1 :]) is None


def test_swapped_neighbours_are_refused() -> None:
    for at in range(4, len(CODE) - 1):
        swapped = CODE[:at] + CODE[at + 1] + CODE[at] + CODE[at + 2 :]
        if "-" not in CODE[at : at + 2] and swapped != CODE:
            assert recovered(swapped) is None


@pytest.mark.parametrize(
    "text",
    [
        CODE,
        CODE.lower(),
        f"  {CODE}\n",
        CODE.replace("-", " "),
        CODE.replace("-", ""),
        CODE.replace("-", " - "),
        "\n".join(CODE.split("-")),
    ],
)
def test_case_blanks_and_hyphens_do_not_matter(text: str) -> None:
    assert recovered(text) == ADA.user


@pytest.mark.parametrize("text", ["", "LS1-", "LS2-" + CODE[4:], "é" * 60, CODE + "A", CODE * 2])
def test_what_is_no_recovery_code_is_refused(text: str) -> None:
    assert recovered(text) is None


def test_a_home_with_a_key_takes_no_other(home: HomePaths) -> None:
    record(home)
    before = secret_file(home).read_bytes()
    with pytest.raises(AlreadyExists):
        vault_module.recover(home, CODE, settings.load())
    assert secret_file(home).read_bytes() == before


# ------------------------------------------------------------------ nothing is told
def test_no_secret_stands_in_a_repr(home: HomePaths, laptop: HomePaths) -> None:
    from localstore.format import signed
    from localstore.projects import Projects
    from localstore.tickets import enroll, make_ticket

    record(home)
    projects = Projects(home, Vault(home).load())
    (project,) = projects.all()
    raw = make_ticket(project, identity.now_us() + 10**9)
    enroll(laptop, raw, settings.load({"home": str(laptop.root)}))
    one = Vault(laptop).load()
    assert_hidden(repr(one) + repr(list(one.deposits.values())), laptop)
    assert_hidden(repr(signed.decode(raw, b"LSTK")), laptop)
    assert_hidden(repr((Vault(home).load(), project, project.state, Vault(home))), home)


def test_no_secret_stands_in_an_error(home: HomePaths, capsys: pytest.CaptureFixture[str]) -> None:
    record(home)
    told = []
    raw = secret_file(home).read_bytes()
    for bad in (raw[:-1], raw[:40], raw[:60] + b"\xff" + raw[61:], b"LSSK" + raw):
        try:
            unlock(bad, nobody_asked)
        except LocalStoreError as error:
            told.append(f"{error!r} {error} {error.__cause__!r} {error.hint}")
    for code in (CODE[:-1], CODE[:-1] + "0"):
        try:
            identity.from_recovery_code(code, "ada")
        except KeyUnavailable as error:
            told.append(f"{error!r} {error} {error.__cause__!r}")
            assert CODE[4:20] not in told[-1]
    try:
        unlock(lock(Vault(home).load(), "hunter2"), lambda: "hunter3")
    except KeyUnavailable as error:
        told.append(f"{error!r} {error}")
        assert "hunter" not in told[-1]
    assert len(told) == 7
    assert_hidden("".join(told), home)


def test_the_passphrase_does_not_stand_in_the_repr_of_settings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOCALSTORE_PASSPHRASE", "hunter2")
    assert "hunter2" not in repr(settings.load())
