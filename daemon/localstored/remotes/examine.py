"""Tries a remote: whether what a sync needs works there, one question after another."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING

from localstore.errors import LocalStoreError
from localstored.remotes import open_remote

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from localstore.remotes import RemoteEntry
    from localstored.remotes.base import Remote

_NOBODY = "0" * 64  # the id of no project: nobody's hash is zero
_PROBE = b"localstore tries whether it may write here"


@dataclass(frozen=True, slots=True)
class Finding:
    """One question: what was tried, whether it works, what else there is to say."""

    what: str
    ok: bool
    note: str = ""


def examine(entry: RemoteEntry) -> list[Finding]:
    """Try a remote with a stamp and a log of a project that cannot exist; they are removed again.

    Each step needs the one before; the first that fails is the last.
    """
    findings: list[Finding] = []
    try:
        remote = open_remote(entry)
    except LocalStoreError as error:
        return [Finding("reach", False, _told(error))]
    try:
        findings.append(Finding("reach", True, f"remote {remote.id}"))
        for what, step in _steps(remote):
            findings.append(Finding(what, True, step()))
        return findings
    except LocalStoreError as error:
        what = _ORDER[len(findings)]
        return [*findings, Finding(what, False, _told(error))]
    finally:
        remote.close()


_ORDER = ("reach", "write", "read", "list", "delete", "create")


def _steps(remote: Remote) -> Iterator[tuple[str, Callable[[], str]]]:
    folder = f"projects/{_NOBODY}/runs/{secrets.token_hex(16)}/"
    name = f"{folder}{secrets.token_hex(16)}.log"
    stamp = f"projects/{_NOBODY}/stamps/{secrets.token_hex(8)}-{secrets.token_hex(8)}"

    def write() -> str:
        remote.create(name, _PROBE[:10])
        remote.append(name, 10, _PROBE[10:])
        return ""

    def read() -> str:
        _must(remote.read(name, 0, 1000) == _PROBE, "other bytes come back than were sent")
        return ""

    def listed() -> str:
        sizes = [(one.name, one.size) for one in remote.list(folder)]
        _must(sizes == [(name, len(_PROBE))], "a file that was just written is not listed")
        return ""

    def delete() -> str:
        remote.delete(name)
        _must(not remote.have([name]), "what was deleted is still there")
        return ""

    def create() -> str:
        remote.create(stamp, b"")
        remote.delete(stamp)
        if remote.capabilities.atomic_create:
            return "the server refuses to replace what stands there"
        return "the server replaces what stands there (If-None-Match is ignored): we look first"

    yield from zip(_ORDER[1:], (write, read, listed, delete, create), strict=True)


def _must(true: bool, problem: str) -> None:
    if not true:
        raise LocalStoreError(problem)


def _told(error: LocalStoreError) -> str:
    return f"{error} ({error.hint})" if error.hint else str(error)
