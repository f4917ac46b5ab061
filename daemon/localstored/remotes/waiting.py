"""Waiting that can be stopped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

ASK_EVERY_S: Final = 0.2  # how long a wait goes on after somebody asked to stop


def wait(seconds: float, sleep: Callable[[float], object], check: Callable[[], None]) -> None:
    """Sleep, and ask `check` now and then, which raises `Stopped` to end it."""
    check()
    while seconds > 0:
        sleep(min(seconds, ASK_EVERY_S))
        seconds -= ASK_EVERY_S
        check()


def never() -> None:
    """A `check` that never asks to stop."""
