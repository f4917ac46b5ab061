"""Where a bucket's credentials may lie, and what is said when they do not."""

from __future__ import annotations

import sys
import types
from typing import TYPE_CHECKING, ClassVar

import pytest

from localstored.remotes.base import Unreachable
from localstored.remotes.credentials import KEYRING_SERVICE, credentials

if TYPE_CHECKING:
    from pathlib import Path

KEYS = 'access_key_id = "AK"\nsecret_access_key = "very secret"\n'


@pytest.fixture(autouse=True)
def nobodys_account(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No keys of the person who runs the tests."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "aws"))


def secret_file(folder: Path, content: str, mode: int = 0o600) -> Path:
    path = folder / "keys"
    path.write_text(content)
    path.chmod(mode)
    return path


def test_a_file_that_only_its_owner_reads_is_taken(tmp_path: Path) -> None:
    path = secret_file(tmp_path, KEYS)
    assert credentials("s3", f"file:{path}") == {
        "access_key_id": "AK", "secret_access_key": "very secret",
    }  # fmt: skip


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = secret_file(tmp_path, KEYS, mode)
    with pytest.raises(Unreachable, match="want 0600") as caught:
        credentials("s3", f"file:{path}")
    assert caught.value.permanent
    assert "chmod 600" in caught.value.hint


@pytest.mark.parametrize(
    "content",
    [
        "", "very secret", KEYS + 'password = "very secret"', "access_key_id = 3",
        'account_key = "very secret"', "\x00",
    ],
)  # fmt: skip
def test_a_file_of_another_form_is_refused_and_not_repeated(tmp_path: Path, content: str) -> None:
    path = secret_file(tmp_path, content)
    with pytest.raises(Unreachable) as caught:
        credentials("s3", f"file:{path}")
    assert caught.value.permanent
    assert "very secret" not in str(caught.value) + caught.value.hint


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path / "nothing", tmp_path):
        with pytest.raises(Unreachable) as caught:
            credentials("s3", f"file:{path}")
        assert caught.value.permanent


def test_each_cloud_has_its_own_words(tmp_path: Path) -> None:
    azure = secret_file(tmp_path, 'account_name = "me"\naccount_key = "k"\n')
    assert credentials("az", f"file:{azure}") == {"account_name": "me", "account_key": "k"}
    with pytest.raises(Unreachable):
        credentials("s3", f"file:{azure}")
    google = secret_file(tmp_path, '{"type": "service_account"}')
    assert credentials("gs", f"file:{google}") == {
        "service_account_key": '{"type": "service_account"}'
    }


# ------------------------------------------------------------------ the cloud's usual chain
PROFILES = """
[default]
aws_access_key_id = AK
aws_secret_access_key = one
[work]
aws_access_key_id = WK
aws_secret_access_key = two
aws_session_token = three
[sso]
sso_session = x
"""


@pytest.mark.parametrize(
    ("profile", "found"),
    [
        ("", {"access_key_id": "AK", "secret_access_key": "one"}),
        ("work", {"access_key_id": "WK", "secret_access_key": "two", "session_token": "three"}),
        ("sso", {}),
        ("nobody", {}),
    ],
)
def test_keys_of_the_aws_command_are_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, profile: str, found: dict[str, str]
) -> None:
    (tmp_path / "aws").write_text(PROFILES)
    if profile:
        monkeypatch.setenv("AWS_PROFILE", profile)
    assert credentials("s3", "chain") == found


def test_variables_come_before_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "aws").write_text(PROFILES)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "from the environment")
    assert credentials("s3", "chain") == {}


@pytest.mark.parametrize("content", ["", "\xff", "[default\n", "aws_access_key_id = x"])
def test_a_broken_file_of_the_aws_command_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "aws").write_bytes(content.encode("latin-1"))
    assert credentials("s3", "chain") == {}


def test_other_clouds_find_theirs_themselves() -> None:
    assert credentials("gs", "chain") == credentials("az", "chain") == {}


# ------------------------------------------------------------------ the keyring
class Ring:
    """A keyring that says which class it is."""

    entries: ClassVar = {(KEYRING_SERVICE, "cloud"): KEYS}

    def get_password(self, service: str, name: str) -> str | None:
        return self.entries.get((service, name))


def install(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    """Make the library answer a keyring of a class of this module."""
    ring = type("Keyring", (Ring,), {"__module__": module})()
    library = types.ModuleType("keyring")
    library.get_keyring = lambda: ring  # type: ignore[attr-defined]
    errors = types.ModuleType("keyring.errors")
    errors.KeyringError = RuntimeError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", library)
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)


def test_a_keyring_that_encrypts_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "keyring.backends.SecretService")
    assert credentials("s3", "keyring:cloud")["secret_access_key"] == "very secret"
    with pytest.raises(Unreachable, match="has no localstore-remote 'other'"):
        credentials("s3", "keyring:other")


def test_a_keyring_in_clear_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, "keyrings.alt.file")
    with pytest.raises(Unreachable, match="no OS keyring that encrypts"):
        credentials("s3", "keyring:cloud")
