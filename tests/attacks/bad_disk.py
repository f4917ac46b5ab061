"""Disks that refuse: the calls of the operating system, made to fail at a chosen moment."""

from __future__ import annotations

import errno
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pytest


class Fault:
    """One call that fails when `when` says so; counts how often it was called and failed."""

    def __init__(self, name: str, when: Callable[[int], bool], code: int) -> None:
        self.name, self._when, self._code = name, when, code
        self._real: Any = getattr(os, name)
        self.calls = self.failed = 0
        self.healed = False

    def __call__(self, *arguments: Any, **words: Any) -> Any:
        self.calls += 1
        if not self.healed and self._when(self.calls):
            self.failed += 1
            raise OSError(self._code, os.strerror(self._code))
        return self._real(*arguments, **words)


@contextmanager
def failing(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    when: Callable[[int], bool],
    code: int = errno.EIO,
) -> Iterator[Fault]:
    """Let `os.<name>` fail while the block runs."""
    fault = Fault(name, when, code)
    with monkeypatch.context() as patch:
        patch.setattr(os, name, fault)
        yield fault


def at(*numbers: int) -> Callable[[int], bool]:
    """Fail at these calls, counted from 1."""
    return lambda call: call in numbers


def from_on(number: int) -> Callable[[int], bool]:
    """Fail from this call on."""
    return lambda call: call >= number


def always(_call: int) -> bool:
    """Fail every time."""
    return True
