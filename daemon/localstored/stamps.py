"""Stamps: how a replica knows, by one short listing, that a remote is as it remembers it.

Whoever is about to change a project on a remote puts an open stamp there, and in the end a settled
one in place of its older ones. As long as the stamps are the same, nobody has changed anything, and
what was listed once need not be listed again. A remote that was set back has other stamps, too.
See docs/protocol.md, section 4.1.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from localstore.errors import LocalStoreError, Refused, RemoteError
from localstore.layout import FileKind
from localstored.remotes.base import check_name

if TYPE_CHECKING:
    from collections.abc import Iterable

    from localstored.catalog import Catalog
    from localstored.remotes.base import Remote
    from localstored.session import Options, Session

DAY_US: Final = 24 * 3600 * 1_000_000
_RENEWED_US: Final = 3600 * 1_000_000
MAX_STAMPS: Final = 10_000
_ID_BYTES: Final = 8
_OPEN: Final = ".open"
# Stamps of ours that another part of this home has made and removes by itself.
OTHERS: Final = ("f" * 16 + _OPEN, "e" * 16 + _OPEN)


class Stamps:
    """The stamps of one project on one remote.

    Args:
        replica: the id of this home.
    """

    def __init__(
        self,
        project: str,
        replica: str,
        remote: Remote,
        catalog: Catalog,
        session: Session,
        options: Options,
    ) -> None:
        self._prefix = f"projects/{project}/stamps/"
        self._key = (project, remote.id)
        self._replica, self._remote, self._catalog = replica, remote, catalog
        self._session, self._options = session, options

    def listed(self) -> frozenset[str]:
        """The stamps that are there.

        Raises:
            RemoteError: more than there can be.
        """
        found = set()
        for count, entry in enumerate(self._remote.list(self._prefix)):
            if count >= MAX_STAMPS:
                raise RemoteError(f"the remote lists more than {MAX_STAMPS} stamps")
            with contextlib.suppress(Refused):
                _, file = check_name(entry.name)
                if file.kind is FileKind.STAMP and entry.name.startswith(self._prefix):
                    found.add(entry.name)
        return frozenset(found)

    def agree(self, listed: frozenset[str]) -> bool:
        """Whether what is remembered of the remote still holds, given the stamps that it lists."""
        known, now_us = self._catalog.stamps(), self._options.clock()
        if self._open and self._open not in listed:
            del self._session.open[self._key]  # the remote was set back: it tells nobody anything
        if self._options.relist or not known or known.keys() != listed:
            return False
        # In one that is open somebody may be changing things just now; a day later it is dead.
        fresh = any(
            name.endswith(_OPEN) and name != self._open and now_us - known[name] < DAY_US
            for name in listed
        )
        return not fresh and 0 <= now_us - self._catalog.listed_us < DAY_US

    def remember(self, listed: Iterable[str]) -> None:
        """Keep the stamps that were listed before the listing that they stand for."""
        known, now_us = self._catalog.stamps(), self._options.clock()
        self._catalog.remember_stamps({name: known.get(name, now_us) for name in listed})

    @property
    def _open(self) -> str:
        return self._session.open.get(self._key, ("", 0))[0]

    def open(self) -> None:
        """Tell the others that something is about to change; once an hour until it is settled.

        One that is a day old counts for nothing: so it is renewed long before.
        """
        old, made_us = self._session.open.get(self._key, ("", 0))
        now_us = self._options.clock()
        if (old and 0 <= now_us - made_us < _RENEWED_US) or not self._options.stamps:
            return
        name = f"{self._new()}{_OPEN}"
        self._remote.create(name, b"")
        self._session.open[self._key] = (name, now_us)
        self.remember([*self._catalog.stamps(), name])
        if old:
            self._remote.delete(old)
            self.remember(self._catalog.stamps().keys() - {old})

    def settle(self) -> None:
        """Tell the others what there is now: a new stamp, then our older ones go."""
        if not self._open:
            return
        name, known = self._new(), self._catalog.stamps()
        self._remote.create(name, b"")
        old = {one for one in known if self._is_ours(one)}
        for one in sorted(old):
            self._remote.delete(one)
        del self._session.open[self._key]
        self.remember({name, *known} - old)

    def forget(self) -> None:
        """From now on our open stamp is like that of anybody else."""
        self._session.open.pop(self._key, None)

    def _is_ours(self, name: str) -> bool:
        return name.startswith(f"{self._prefix}{self._replica}-") and not name.endswith(OTHERS)

    def _new(self) -> str:
        return f"{self._prefix}{self._replica}-{self._options.random(_ID_BYTES).hex()}"


def settle_quietly(stamps: Stamps) -> None:
    """Settle if the remote lets us: an open stamp costs the others time, never data."""
    with contextlib.suppress(LocalStoreError, OSError):
        stamps.settle()
