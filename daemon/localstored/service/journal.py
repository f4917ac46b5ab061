"""What the service says of itself: one line per event on stderr, ids and numbers only.

Never a name that a person chose for a run, never a value, never the bytes of anything: who reads
the journal of a machine need not be who may read its runs. The text of an error may be said, as it
is made by us or by the system and names files by their ids.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
from datetime import UTC, datetime
from enum import IntEnum
from typing import TYPE_CHECKING, Final, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_TEXT_CHARS: Final = 500
_REMEMBERED: Final = 1000


class Level(IntEnum):
    """As syslog counts them; systemd's journal reads the number at the beginning of a line."""

    SILENT = 0
    ERROR = 3
    WARNING = 4
    NOTICE = 5
    INFO = 6
    DEBUG = 7


class Journal:
    """Lines on a stream, each whole, from any thread."""

    def __init__(
        self,
        stream: TextIO | None = None,
        *,
        to_systemd: bool = False,
        as_json: bool = False,
        least: Level = Level.INFO,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Nothing is written yet.

        Args:
            to_systemd: begin lines with `<N>`, and leave the time to the journal.
            as_json: one JSON object per line, instead of words and key=value.
            least: say nothing that matters less.
        """
        self._stream, self._lock = stream or sys.stderr, threading.Lock()
        self._to_systemd, self._as_json, self._clock = to_systemd, as_json, clock
        self._least = least
        self._last: dict[str, str] = {}

    def error(self, event: str, **facts: object) -> None:
        """Somebody has to act."""
        self._say(Level.ERROR, event, facts)

    def warning(self, event: str, **facts: object) -> None:
        """Something is not as it should be; it may mend itself."""
        self._say(Level.WARNING, event, facts)

    def notice(self, event: str, **facts: object) -> None:
        """Something that does not happen often, and is fine."""
        self._say(Level.NOTICE, event, facts)

    def info(self, event: str, **facts: object) -> None:
        """Something happened."""
        self._say(Level.INFO, event, facts)

    def debug(self, event: str, **facts: object) -> None:
        """Something happened, as it does all the time."""
        self._say(Level.DEBUG, event, facts)

    def on_change(self, about: str, level: Level, event: str, **facts: object) -> bool:
        """Say something only when it differs from what was said of `about` the last time.

        A stick that is away for a week is news once, not ten thousand times.

        Returns:
            Whether it was said.
        """
        said = f"{event} {facts}"
        with self._lock:
            if self._last.get(about) == said:
                return False
            if len(self._last) >= _REMEMBERED:
                self._last.clear()
            self._last[about] = said
        self._say(level, event, facts)
        return True

    def forget(self, about: str) -> bool:
        """That trouble is over; returns whether there was any."""
        with self._lock:
            return self._last.pop(about, None) is not None

    # -------------------------------------------------------------- one line
    def _say(self, level: Level, event: str, facts: dict[str, object]) -> None:
        if level > self._least:
            return
        line = self._json(level, event, facts) if self._as_json else self._words(event, facts)
        if self._to_systemd:
            line = f"<{int(level)}>{line}"
        elif not self._as_json:
            line = f"{self._clock():%Y-%m-%dT%H:%M:%SZ} {level.name.lower()} {line}"
        try:
            with self._lock:
                self._stream.write(line + "\n")
                self._stream.flush()
        except (OSError, ValueError):
            pass  # a terminal that was closed; the service goes on without

    def _json(self, level: Level, event: str, facts: dict[str, object]) -> str:
        values: dict[str, object] = {"level": level.name.lower(), "event": event}
        if not self._to_systemd:
            values["time"] = f"{self._clock():%Y-%m-%dT%H:%M:%S.%fZ}"
        return json.dumps(values | {key: _plain(value) for key, value in facts.items()})

    def _words(self, event: str, facts: dict[str, object]) -> str:
        return " ".join([event, *(f"{key}={_word(value)}" for key, value in facts.items())])


def _plain(value: object) -> object:
    return value if isinstance(value, int | float | bool) or value is None else _text(value)


def _text(value: object) -> str:
    return str(value)[:_MAX_TEXT_CHARS]


def _word(value: object) -> str:
    """One word, quoted where it is more; never a line break or another control character."""
    text = f"{value:.3g}" if isinstance(value, float) else _text(value)
    plain = text.isascii() and text.isprintable() and not set(text) & set(" \"'=\\")
    return text if text and plain else json.dumps(text)


class FromLogging(logging.Handler):
    """What libraries say through `logging`, as lines of the journal."""

    def __init__(self, journal: Journal) -> None:
        super().__init__(logging.WARNING)
        self._journal = journal

    def emit(self, record: logging.LogRecord) -> None:
        """One line, once until another follows."""
        about = record.name.partition(".")[0]
        self._journal.on_change(about, Level.WARNING, "library", of=about, text=record.getMessage())
