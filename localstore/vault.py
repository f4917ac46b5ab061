"""Where the secret of a home lies: a systemd credential, the OS keyring, or `identity/secret`.

What it holds is for `localstore.identity`; docs/format.md, section 13.
"""

from __future__ import annotations

import base64
import os
import shutil
import stat
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from localstore import crypto, settings
from localstore.durable import make_folder, replace_file, sync_folder
from localstore.errors import (
    AlreadyExists,
    KeyUnavailable,
    NotPermitted,
    UsageError,
)
from localstore.format.spec import Protection
from localstore.identity import (
    Deposit,
    Identity,
    from_recovery_code,
    lock,
    new_member,
    no_identity,
    unlock,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from localstore.layout import HomePaths

SECRET_FILE: Final = "secret"  # noqa: S105
RECIPIENTS_FILE: Final = "recipients"
KEYRING_FILE: Final = "keyring"
KEYRING_SERVICE: Final = "localstore"
CREDENTIAL_NAME: Final = "localstore.identity"
_KEYRINGS: Final = (
    "keyring.backends.SecretService.Keyring",
    "keyring.backends.kwallet.DBusKeyring",
    "keyring.backends.macOS.Keyring",
    "keyring.backends.Windows.WinVaultKeyring",
)


class Vault:
    """The place of one home's secret."""

    def __init__(self, home: HomePaths, ask: Callable[[], str] | None = None) -> None:
        """`ask` returns a passphrase; without it, settings and then a terminal are asked."""
        self.home = home
        self._ask = cache(ask or _passphrase)  # a person is asked once

    @property
    def exists(self) -> bool:
        """Whether this home has an identity."""
        return self._credential() is not None or self.home.identity.is_dir()

    @property
    def is_credential(self) -> bool:
        """Whether the secret is a systemd credential, which is read and never written."""
        return self._credential() is not None

    def place(self) -> str:
        """Where the secret lies, for people."""
        if self._credential() is not None:
            return f"systemd credential {CREDENTIAL_NAME}"
        if (self.home.identity / KEYRING_FILE).exists():
            return "the operating system's keyring"
        return str(self.home.identity / SECRET_FILE)

    def protected(self) -> bool:
        """Whether a passphrase is needed."""
        return self.exists and self._content()[5:6] == bytes((Protection.ARGON2ID,))

    def load(self) -> Identity:
        """The identity of this home.

        Raises:
            KeyUnavailable: there is none, or it does not open.
            NotPermitted: the key file may be read by others, or belongs to somebody else.
        """
        return unlock(self._content(), self._ask)

    def _content(self) -> bytes:
        credential = self._credential()
        if credential is not None:
            return credential.read_bytes()
        if (self.home.identity / KEYRING_FILE).exists():
            return self._from_keyring()
        path = self.home.identity / SECRET_FILE
        if not path.exists():
            raise KeyUnavailable(
                f"no key in {self.home.root}",
                hint="start a run here, or move your key with `localstore key recover`",
            )
        return read_private(path)

    def _credential(self) -> Path | None:
        folder = settings.credentials_folder()
        path = folder / CREDENTIAL_NAME if folder else None
        return path if path is not None and path.is_file() else None

    def create(self, identity: Identity, storage: str = "auto") -> bool:
        """Put a new identity into this home; of many at once exactly one succeeds.

        Returns:
            False when the home has one already.
        """
        make_folder(self.home.root)
        if self.home.identity.exists():
            return False
        temporary = self.home.root / f".new-{crypto.random_bytes(8).hex()}"
        entry = temporary.name[5:]
        backend = _keyring_backend(storage)
        if backend is None:
            replace_file(temporary / SECRET_FILE, lock(identity))
        else:
            text = base64.b64encode(lock(identity)).decode()
            try:
                _ask_keyring(backend.set_password, KEYRING_SERVICE, entry, text)
            except KeyUnavailable:
                if storage == "keyring":
                    raise
                return self.create(identity, "file")
            replace_file(temporary / KEYRING_FILE, entry.encode())
        self._write_recipients(temporary, identity)
        try:
            temporary.rename(self.home.identity)
        except OSError:
            if backend is not None:
                _ask_keyring(backend.delete_password, KEYRING_SERVICE, entry)
            shutil.rmtree(temporary)
            if self.home.identity.is_dir():
                return False
            raise
        sync_folder(self.home.root)
        return True

    def save(self, identity: Identity, passphrase: str | None = None) -> None:
        """Replace this home's identity, keeping its place.

        Args:
            passphrase: a new one; empty takes protection away; None keeps what is.

        Raises:
            NotPermitted: the secret is a systemd credential, which only its owner may change.
        """
        if self._credential() is not None:
            raise NotPermitted("the key is a systemd credential and cannot be changed here")
        if passphrase is None:
            passphrase = self._ask() if self.protected() else ""
        content = lock(identity, passphrase)
        marker = self.home.identity / KEYRING_FILE
        if marker.exists():
            backend = _keyring_backend("keyring")
            text = base64.b64encode(content).decode()
            _ask_keyring(backend.set_password, KEYRING_SERVICE, marker.read_text(), text)
        else:
            replace_file(self.home.identity / SECRET_FILE, content)
        self._write_recipients(self.home.identity, identity)

    def _write_recipients(self, folder: Path, identity: Identity) -> None:
        replace_file(folder / RECIPIENTS_FILE, "\n".join(sorted(identity.recipients())).encode())

    def recipients(self) -> frozenset[str]:
        """Keyslot tags of this home; readable without its key."""
        path = self.home.identity / RECIPIENTS_FILE
        return frozenset(path.read_text().split()) if path.exists() else frozenset()

    def _from_keyring(self) -> bytes:
        entry = (self.home.identity / KEYRING_FILE).read_text()
        backend = _keyring_backend("keyring")
        text = _ask_keyring(backend.get_password, KEYRING_SERVICE, entry)
        if not text:
            raise KeyUnavailable(
                "the keyring has no key for this home",
                hint="unlock the keyring, or use `localstore key recover` in another home",
            )
        try:
            return base64.b64decode(text, validate=True)
        except ValueError:
            raise no_identity() from None


def read_private(path: Path) -> bytes:
    """The content of a file that nobody else may read.

    Raises:
        NotPermitted: its mode lets others in, or it belongs to somebody else.
    """
    facts = path.stat()
    if facts.st_uid != os.getuid() or stat.S_IMODE(facts.st_mode) & 0o077:
        raise NotPermitted(
            f"{path} has mode {stat.S_IMODE(facts.st_mode):04o} and owner {facts.st_uid}, "
            f"want 0600 and {os.getuid()}",
            hint=f"if nobody else has read it: chmod 600 {path}",
        )
    return path.read_bytes()


def _keyring_backend(storage: str) -> Any:  # a third-party object without types
    """The OS keyring if it is one of four that encrypt; never a plaintext one."""
    if storage == "file" or (storage == "auto" and not settings.session_bus()):
        return None
    try:
        import keyring

        backend = keyring.get_keyring()
        chosen = [backend, *getattr(backend, "backends", [])]
        for one in chosen:
            if f"{type(one).__module__}.{type(one).__qualname__}" in _KEYRINGS:
                return one
    except (ImportError, RuntimeError):
        pass
    if storage == "keyring":
        raise KeyUnavailable(
            "no OS keyring that encrypts was found",
            hint="install localstore[keyring] in a desktop session, or set key_storage = 'file'",
        )
    return None


def keyring_entry(service: str, name: str) -> str:
    """A secret that a person put into the OS keyring; empty where there is none.

    Raises:
        KeyUnavailable: no keyring that encrypts, or it is locked or refuses.
    """
    backend = _keyring_backend("keyring")
    return str(_ask_keyring(backend.get_password, service, name) or "")


def _ask_keyring(what: Callable[..., Any], *words: str) -> Any:
    """Call the keyring.

    Raises:
        KeyUnavailable: it is locked, or refuses.
    """
    from keyring.errors import KeyringError

    try:
        return what(*words)
    except KeyringError as error:
        raise KeyUnavailable(
            f"the keyring refuses: {type(error).__name__}",
            hint="unlock it, or set key_storage = 'file' for a new key",
        ) from None


def _passphrase() -> str:
    given = settings.take_secret_variable("passphrase")
    if given:
        return given
    path = settings.load().passphrase_file
    if path:
        try:
            return read_private(Path(path)).decode("utf-8", "surrogateescape").split("\n", 1)[0]
        except FileNotFoundError:
            raise KeyUnavailable(
                f"no passphrase file {path}",
                hint="LOCALSTORE_PASSPHRASE_FILE, or the setting passphrase_file, names it",
            ) from None
    import getpass
    import sys

    if sys.stdin is not None and sys.stdin.isatty():
        return getpass.getpass("localstore passphrase: ")
    raise KeyUnavailable(
        "the key is protected by a passphrase, and there is nobody to ask",
        hint="set LOCALSTORE_PASSPHRASE_FILE to a file of mode 0600",
    )


def open_or_create(home: HomePaths, options: settings.Settings) -> tuple[Identity, bool]:
    """This home's identity, made now if it has none; says whether it is new."""
    vault = Vault(home)
    if vault.exists:
        return vault.load(), False
    name = options.username or settings.account_name()
    made = new_member(name)
    if vault.create(made, options.key_storage):
        return made, True
    return vault.load(), False


def recover(home: HomePaths, code: str, options: settings.Settings) -> Identity:
    """Put the person whom a recovery code names into a home that has nobody yet.

    Raises:
        AlreadyExists: the home has an identity.
        KeyUnavailable: not a recovery code.
    """
    vault = Vault(home)
    if vault.exists:
        raise AlreadyExists(
            f"{home.root} has a key already",
            hint="set LOCALSTORE_HOME to an empty folder to recover into",
        )
    name = options.username or settings.account_name()
    identity = from_recovery_code(code, name)
    if not vault.create(identity, options.key_storage):
        raise AlreadyExists(f"{home.root} has a key already")
    return identity


def add_deposit(home: HomePaths, deposit: Deposit, options: settings.Settings) -> None:
    """Put a ticket into a home of tickets.

    Raises:
        UsageError: the home belongs to a person, who needs no ticket.
    """
    vault = Vault(home)
    project = deposit.project.hex()
    if not vault.exists:
        fresh = Identity(home_key=crypto.random_bytes(32), deposits={project: deposit})
        if vault.create(fresh, options.key_storage):
            return
    known = vault.load()
    if known.is_member:
        raise UsageError(
            f"{home.root} belongs to a person, and tickets are for machines that may not read",
            hint="set LOCALSTORE_HOME to a folder of its own for the ticket",
        )
    vault.save(replace(known, deposits={**known.deposits, project: deposit}))
