"""This machine's keys: made without ceremony, kept in one place, moved by a recovery code.

The secret of a home is one msgpack map. It lies in a systemd credential, in the OS keyring, or in
`identity/secret` (mode 0600, plain or under an Argon2id passphrase); docs/format.md, section 13.
"""

from __future__ import annotations

import base64
import os
import shutil
import stat
import struct
import time
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec

from localstore import crypto, settings
from localstore.durable import make_folder, replace_file, sync_folder
from localstore.errors import (
    AlreadyExists,
    Damaged,
    Forged,
    KeyUnavailable,
    NotPermitted,
    UsageError,
)
from localstore.format import signed, spec
from localstore.format.spec import CertKind, Protection
from localstore.people import user_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from localstore.layout import HomePaths

SECRET_FILE: Final = "secret"  # noqa: S105
RECIPIENTS_FILE: Final = "recipients"
KEYRING_FILE: Final = "keyring"
KEYRING_SERVICE: Final = "localstore"
CREDENTIAL_NAME: Final = "localstore.identity"
_CHECK_BYTES: Final = 16
_HEAD: Final = struct.Struct("<4sBBBxI16s")
_PASSES: Final = range(2, 7)
_MEMORY_KIB: Final = range(64 * 1024, 1024 * 1024 + 1)
_RECOVERY_PREFIX: Final = "LS1-"
_KEYRINGS: Final = (
    "keyring.backends.SecretService.Keyring",
    "keyring.backends.kwallet.DBusKeyring",
    "keyring.backends.macOS.Keyring",
    "keyring.backends.Windows.WinVaultKeyring",
)


def now_us() -> int:
    """Unix time in microseconds."""
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Deposit:
    """A ticket that this home has: write to one project, read nothing."""

    project: bytes
    device_seed: bytes = field(repr=False)
    cert: bytes = field(repr=False)
    naming: bytes = field(repr=False)
    dedup: bytes = field(repr=False)
    entity: str
    name: str
    not_after_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """The secrets of one home. Never printed: `repr` shows ids only.

    Attributes:
        user: user id, 16 bytes; empty on a deposit-only machine.
        roots: user roots by generation, 16 bytes each.
        device_seed, device_box: Ed25519 seed and X25519 secret, 32 bytes each.
        device_cert: the device's certificate, whole file.
        user_certs: the user's own statements, whole files, oldest first.
        home_key: keys file names and sealed caches of this home.
        deposits: tickets by project id (hex).
    """

    user: bytes = b""
    user_name: str = ""
    roots: Mapping[int, bytes] = field(default_factory=dict, repr=False)
    device_seed: bytes = field(default=b"", repr=False)
    device_box: bytes = field(default=b"", repr=False)
    device_cert: bytes = field(default=b"", repr=False)
    user_certs: tuple[bytes, ...] = field(default=(), repr=False)
    home_key: bytes = field(default=b"", repr=False)
    deposits: Mapping[str, Deposit] = field(default_factory=dict, repr=False)

    @property
    def is_member(self) -> bool:
        """Whether this home belongs to a person, and so may read."""
        return bool(self.roots)

    @property
    def generation(self) -> int:
        """The latest generation of the user's keys."""
        return max(self.roots)

    def user_seed(self, generation: int | None = None) -> bytes:
        """Ed25519 seed of the user.

        Raises:
            NotPermitted: a deposit-only machine.
        """
        if not self.roots:
            raise NotPermitted(
                "this machine has deposit tickets only",
                hint="run this on a machine of the person who made the ticket",
            )
        root = self.roots[self.generation if generation is None else generation]
        return crypto.derive(root, spec.LABEL_USER_SIGN)

    def user_box(self, generation: int | None = None) -> bytes:
        """X25519 secret of the user."""
        root = self.roots[self.generation if generation is None else generation]
        return crypto.derive(root, spec.LABEL_USER_BOX)

    def own_keys(self) -> frozenset[bytes]:
        """The user's public sign keys of every generation known here."""
        return frozenset(crypto.sign_public(self.user_seed(g)) for g in self.roots)

    def recipients(self) -> frozenset[str]:
        """Tags (hex) of the public keys that keyslots for this home are sealed to."""
        boxes = [crypto.box_public(self.user_box(g)) for g in self.roots]
        if self.device_box:
            boxes.append(crypto.box_public(self.device_box))
        return frozenset(recipient_tag(box) for box in boxes)


def recipient_tag(box: bytes) -> str:
    """The first part of a keyslot's name: 32 hex digits."""
    return crypto.digest(spec.LABEL_RECIPIENT, box, size=16).hex()


# ------------------------------------------------------------------ making one
def new_member(user_name: str) -> Identity:
    """A new person on a new machine: user of generation 1, device, and their certificates."""
    root = crypto.random_bytes(16)
    seed = crypto.derive(root, spec.LABEL_USER_SIGN)
    return _with_device(
        Identity(
            user=user_id(crypto.sign_public(seed)),
            user_name=user_name,
            roots={1: root},
            user_certs=(_user_statement(root),),
        )
    )


def _user_statement(root: bytes) -> bytes:
    seed = crypto.derive(root, spec.LABEL_USER_SIGN)
    box = crypto.box_public(crypto.derive(root, spec.LABEL_USER_BOX))
    user = user_id(crypto.sign_public(seed))
    return signed.encode(
        spec.CERT_MAGIC,
        CertKind.USER,
        project=signed.NO_PROJECT,
        seed=seed,
        created_us=now_us(),
        body={"user": user, "generation": 1, "box": box},
    )


def _with_device(identity: Identity) -> Identity:
    """The same person with new device keys, certified by the latest user key."""
    seed, box = crypto.random_bytes(32), crypto.random_bytes(32)
    return replace(
        identity,
        device_seed=seed,
        device_box=box,
        device_cert=certify_device(identity, seed, box),
        home_key=identity.home_key or crypto.random_bytes(32),
    )


def certify_device(identity: Identity, seed: bytes, box: bytes) -> bytes:
    """A DEVICE certificate for the given keys; the machine's name is sealed to the user."""
    meta = crypto.derive(identity.roots[identity.generation], spec.LABEL_USER_META)
    name = crypto.encrypt_with_nonce(meta, os.uname().nodename.encode(), spec.LABEL_USER_META)
    return signed.encode(
        spec.CERT_MAGIC,
        CertKind.DEVICE,
        project=signed.NO_PROJECT,
        seed=identity.user_seed(),
        created_us=now_us(),
        body={
            "user": identity.user,
            "generation": identity.generation,
            "sign": crypto.sign_public(seed),
            "box": crypto.box_public(box),
            "name": name,
        },
    )


# ------------------------------------------------------------------ recovery code
def recovery_code(identity: Identity) -> str:
    """The latest user root as text, to be written down; moves the identity to another machine."""
    identity.user_seed()  # refuses where there is no user
    generation = identity.generation
    body = bytes((generation,)) + identity.roots[generation] + identity.user
    raw = body + crypto.digest(spec.LABEL_RECOVERY, body)[:2]
    text = base64.b32encode(raw).decode().rstrip("=")
    return _RECOVERY_PREFIX + "-".join(text[at : at + 4] for at in range(0, len(text), 4))


def from_recovery_code(code: str, user_name: str) -> Identity:
    """The person that a recovery code names, with new keys for this device.

    Raises:
        KeyUnavailable: not a recovery code, or mistyped.
    """
    text = "".join(code.split()).replace("-", "").upper()
    bad = KeyUnavailable(
        "that is no recovery code, or it is mistyped",
        hint="it begins with LS1- and has 14 groups of 4 letters and digits",
    )
    prefix = _RECOVERY_PREFIX.rstrip("-")
    if not text.startswith(prefix):
        raise bad
    try:
        raw = base64.b32decode(text[len(prefix) :])
    except ValueError:
        raise bad from None
    body, check = raw[:-2], raw[-2:]
    if len(raw) != 35 or crypto.digest(spec.LABEL_RECOVERY, body)[:2] != check or not body[0]:
        raise bad
    root, user = body[1:17], body[17:33]
    first = body[0] == 1
    if first and user_id(crypto.sign_public(crypto.derive(root, spec.LABEL_USER_SIGN))) != user:
        raise bad
    return _with_device(
        Identity(
            user=user,
            user_name=user_name,
            roots={body[0]: root},
            user_certs=(_user_statement(root),) if first else (),
        )
    )


# ------------------------------------------------------------------ as bytes
def to_bytes(identity: Identity) -> bytes:
    """The msgpack map of an identity's secrets."""
    deposits = {
        project: {name: getattr(deposit, name) for name in Deposit.__dataclass_fields__}
        for project, deposit in identity.deposits.items()
    }
    return msgspec.msgpack.encode(
        {
            "user": identity.user,
            "user_name": identity.user_name,
            "roots": dict(identity.roots),
            "device_seed": identity.device_seed,
            "device_box": identity.device_box,
            "device_cert": identity.device_cert,
            "user_certs": list(identity.user_certs),
            "home_key": identity.home_key,
            "deposits": deposits,
        }
    )


def from_bytes(raw: bytes) -> Identity:
    """What `to_bytes` wrote.

    Raises:
        Damaged: not such a map.
    """
    try:
        body = msgspec.msgpack.decode(raw, type=dict[str, Any])
        body["user_certs"] = tuple(body["user_certs"])
        body["deposits"] = {k: Deposit(**v) for k, v in body["deposits"].items()}
        return Identity(**body)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise _no_identity() from error


def _no_identity() -> Damaged:
    return Damaged(
        "the secret of this home is damaged",
        hint="move it away, then `localstore key recover` with your recovery code",
    )


def lock(identity: Identity, passphrase: str = "") -> bytes:
    """The content of a secret file, under a passphrase when one is given (Argon2id)."""
    plain = to_bytes(identity)
    if not passphrase:
        head = _HEAD.pack(spec.SECRET_MAGIC, 1, Protection.PLAIN, 0, 0, bytes(16))
        return head + plain + crypto.digest(spec.LABEL_SECRET, head, plain, size=_CHECK_BYTES)
    salt = crypto.random_bytes(16)
    passes, memory_kib = 3, 256 * 1024
    head = _HEAD.pack(spec.SECRET_MAGIC, 1, Protection.ARGON2ID, passes, memory_kib, salt)
    key = _stretch(passphrase, salt, passes, memory_kib)
    return head + crypto.encrypt_with_nonce(key, plain, spec.LABEL_SECRET + head)


def unlock(raw: bytes, passphrase: Callable[[], str]) -> Identity:
    """Read a secret file.

    Args:
        passphrase: called only when the file is protected.

    Raises:
        Damaged: not a secret file, or with cost parameters outside what we would ever write.
        KeyUnavailable: the passphrase is wrong.
    """
    if len(raw) < _HEAD.size or raw[:4] != spec.SECRET_MAGIC or raw[4] != 1:
        raise Damaged("not a secret file of this version")
    _, _, protection, passes, memory_kib, salt = _HEAD.unpack_from(raw)
    head, body = raw[: _HEAD.size], raw[_HEAD.size :]
    if protection == Protection.PLAIN:
        plain, check = body[:-_CHECK_BYTES], body[-_CHECK_BYTES:]
        if crypto.digest(spec.LABEL_SECRET, head, plain, size=_CHECK_BYTES) != check:
            raise _no_identity()
        return from_bytes(plain)
    if protection != Protection.ARGON2ID or passes not in _PASSES or memory_kib not in _MEMORY_KIB:
        raise Damaged(f"a secret file that asks for {passes} passes over {memory_kib} KiB")
    key = _stretch(passphrase(), salt, passes, memory_kib)
    try:
        return from_bytes(crypto.decrypt_with_nonce(key, body, spec.LABEL_SECRET + head))
    except Forged:
        raise KeyUnavailable("the passphrase does not open the key") from None


def _stretch(passphrase: str, salt: bytes, passes: int, memory_kib: int) -> bytes:
    # A variable or a file may hold bytes that are no UTF-8: they come here as surrogates.
    raw = passphrase.encode("utf-8", "surrogateescape")
    try:
        return crypto.argon2id(raw, salt, passes=passes, memory_bytes=memory_kib * 1024)
    except (RuntimeError, MemoryError):
        what = f"the key asks for {memory_kib // 1024} MiB of memory, which are not here"
        raise KeyUnavailable(what) from None


# ------------------------------------------------------------------ where it lies
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
            raise _no_identity() from None


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
        return read_private(Path(path)).decode("utf-8", "surrogateescape").split("\n", 1)[0]
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
