"""Credentials of a bucket: read where a person said they lie, kept nowhere.

A reference is `chain` (what the cloud's own tools would take), `keyring:NAME` or `file:PATH`, whose
content is TOML of a few known keys; for Google the JSON of a service account.
"""

from __future__ import annotations

import configparser
import os
import stat
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from localstore import settings
from localstored.remotes.base import Unreachable

if TYPE_CHECKING:
    from collections.abc import Mapping

KEYRING_SERVICE: Final = "localstore-remote"
_MAX_BYTES: Final = 64 * 1024
_KNOWN: Final = {
    "s3": ("access_key_id", "secret_access_key", "session_token"),
    "az": ("account_name", "account_key", "sas_key", "client_id", "client_secret", "tenant_id"),
}
# A keyring that keeps its entries in clear would be a file with a nicer name.
_KEYRINGS: Final = (
    "keyring.backends.SecretService.Keyring",
    "keyring.backends.kwallet.DBusKeyring",
    "keyring.backends.macOS.Keyring",
    "keyring.backends.Windows.WinVaultKeyring",
)


def credentials(scheme: str, reference: str) -> Mapping[str, str]:
    """What obstore's store wants to know; nothing where it finds its credentials itself.

    Args:
        scheme: `s3`, `gs` or `az`.

    Raises:
        Unreachable: permanent; they are not there, or others may read them, or are of another form.
    """
    kind, _, where = reference.partition(":")
    if kind == "chain":
        return _chain(scheme)
    text = _from_keyring(where) if kind == "keyring" else _from_file(Path(where))
    return _parsed(scheme, text, reference)


def _refused(problem: str, hint: str) -> Unreachable:
    return Unreachable(problem, hint=hint, permanent=True)


def _chain(scheme: str) -> Mapping[str, str]:
    """obstore reads variables and asks for the machine's own role; AWS's file of keys is ours."""
    if scheme != "s3" or any(map(settings.has_variable, _AWS_VARIABLES)):
        return {}
    path, profile = settings.aws_profile()
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(path.read_text("utf-8"))
        section = parser[profile]
        found = {
            "access_key_id": section["aws_access_key_id"],
            "secret_access_key": section["aws_secret_access_key"],
        }
    except (OSError, KeyError, UnicodeDecodeError, configparser.Error):
        return {}
    token = section.get("aws_session_token")
    return found | ({"session_token": token} if token else {})


_AWS_VARIABLES: Final = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)


def _from_file(path: Path) -> str:
    hint = f"put the keys into a file of your own with mode 0600: chmod 600 {path}"
    try:
        with path.open("rb") as file:
            facts = os.fstat(file.fileno())
            if not stat.S_ISREG(facts.st_mode):
                raise _refused(f"credentials {path} are no file", hint)
            if facts.st_uid not in (os.getuid(), 0) or stat.S_IMODE(facts.st_mode) & 0o077:
                mode = stat.S_IMODE(facts.st_mode)
                raise _refused(
                    f"credentials {path} have mode {mode:04o} and owner {facts.st_uid}, "
                    f"want 0600 and {os.getuid()}",
                    hint,
                )
            return file.read(_MAX_BYTES).decode("utf-8")
    except UnicodeDecodeError:
        raise _refused(f"credentials {path} are no text", hint) from None
    except OSError as error:
        raise _refused(f"credentials {path} cannot be read: {error.strerror}", hint) from None


def _from_keyring(name: str) -> str:
    hint = f"store them: `keyring set {KEYRING_SERVICE} {name}`; or use file:PATH"
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        raise _refused("no library for the OS keyring", "install localstore[keyring]") from None
    backend = keyring.get_keyring()
    for one in (backend, *getattr(backend, "backends", [])):
        if f"{type(one).__module__}.{type(one).__qualname__}" in _KEYRINGS:
            try:
                found: Any = one.get_password(KEYRING_SERVICE, name)
            except KeyringError:
                raise _refused("the OS keyring is locked or refuses", "unlock it") from None
            if found:
                return str(found)
            raise _refused(f"the OS keyring has no {KEYRING_SERVICE} {name!r}", hint)
    raise _refused("no OS keyring that encrypts was found", "use file:PATH, mode 0600")


def _parsed(scheme: str, text: str, reference: str) -> Mapping[str, str]:
    if scheme == "gs":
        return {"service_account_key": text}
    known = _KNOWN[scheme]
    hint = f'lines like {known[0]} = "…", of {", ".join(known)}'
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        raise _refused(f"credentials {reference} are no TOML", hint) from None
    if not found or set(found) - set(known) or not all(isinstance(v, str) for v in found.values()):
        raise _refused(f"credentials {reference} hold other keys than wanted", hint)
    return found
