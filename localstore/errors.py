"""Every error that localstore raises on purpose, grouped by who must act.

LocalStoreError                   exit 1
├── UsageError                    exit 2    the call or the command line is wrong
│   ├── BadName                             a name or id breaks the rules
│   ├── ConfigError                         a config value was set and would change
│   └── BadSetting                exit 78   a setting breaks the rules
├── NotFound                      exit 66   no such run, project, remote or file
│   └── Pruned                              bytes that were pruned here; a remote has them
├── AlreadyExists                 exit 73   what should be new is there
├── KeyUnavailable                exit 11   no key, or the wrong passphrase
├── NotPermitted                  exit 77   a deposit device asked to read, a file mode is too wide
├── StoreError                    exit 74   the disk refused
│   └── Damaged                   exit 20   bytes break docs/format.md
│       ├── Torn                            bytes end inside a frame: a cut, no damage
│       └── Forged                          a signature or a tag does not fit
└── RemoteError                   exit 69   a remote refused or did not answer
    ├── Conflict                            the remote holds other bytes than it should
    └── Refused                             the remote, or we, decline by rule
"""

from __future__ import annotations

from typing import ClassVar


class LocalStoreError(Exception):
    """Base of all errors raised on purpose; carries an exit code and what to do next."""

    exit_code: ClassVar[int] = 1
    hint: str = ""

    def __init__(self, problem: str, *, hint: str = "") -> None:
        super().__init__(problem)
        if hint:
            self.hint = hint
        if self.hint:
            self.add_note(f"hint: {self.hint}")  # a script's traceback ends with it


class UsageError(LocalStoreError):
    """The call or the command line is wrong."""

    exit_code = 2


class BadName(UsageError):
    """A name or an id breaks the rules for names."""


class ConfigError(UsageError):
    """A config value that was set would change, and nobody allowed it."""


class BadSetting(UsageError):
    """A setting is unknown, or its value is not of its kind."""

    exit_code = 78


class NotFound(LocalStoreError):
    """What was named does not exist."""

    exit_code = 66


class Pruned(NotFound):
    """Bytes that were pruned here on purpose; a remote has them."""


class AlreadyExists(LocalStoreError):
    """What should be new is there already."""

    exit_code = 73


class KeyUnavailable(LocalStoreError):
    """No key opens this, or the passphrase is wrong."""

    exit_code = 11


class NotPermitted(LocalStoreError):
    """The holder of these keys may not do this."""

    exit_code = 77


class StoreError(LocalStoreError):
    """The disk under the store refused."""

    exit_code = 74


class Damaged(StoreError):
    """Bytes break docs/format.md; names the file and the offset."""

    exit_code = 20
    hint = "run `localstore verify --read-data`; `localstore repair` takes good bytes from a remote"

    def __init__(self, problem: str, *, file: str = "", offset: int = 0, hint: str = "") -> None:
        where = f"{file} at byte {offset}: " if file else ""
        super().__init__(where + problem, hint=hint)
        self.problem, self.file, self.offset = problem, file, offset

    def at(self, file: str, offset: int | None = None) -> Damaged:
        """The same damage with its place, for a caller that knows the file."""
        here = self.offset if offset is None else offset
        return type(self)(self.problem, file=file, offset=here)


class Torn(Damaged):
    """The bytes end inside a frame: a write was cut, nothing is wrong with what is before."""


class Forged(Damaged):
    """A signature, a tag or a commitment does not fit its bytes."""


class RemoteError(LocalStoreError):
    """A remote refused, or did not answer."""

    exit_code = 69


class Conflict(RemoteError):
    """The remote holds other bytes than the caller thought."""


class Refused(RemoteError):
    """Declined by rule: too long, not of the format, or erased for ever."""
