"""What a console shows, as lines of text: bytes of a stream in, finished lines out.

A small model of a terminal's bottom rows, so that a progress bar counts once and not each time it
was drawn. Pure: no clock, no file, no thread; callers say what time it is. How the bytes are cut
into pieces never changes the lines.
"""

from __future__ import annotations

import codecs
import re
from typing import Final

# A row this long is cut: a line of base64 must not become one record.
MAX_LINE_CHARS: Final = 16_384
# Rows that a cursor may go back to. More bars than that are drawn over one another.
MAX_OPEN_ROWS: Final = 64
# After so many new rows without a way back up, the bars are over.
_CALM_ROWS: Final = 50
# An escape sequence that is longer is text.
_MAX_SEQUENCE: Final = 4_096
# A row that only a cursor could still reach is finished after so long without a change.
SETTLED_S: Final = 2.0

_PLAIN: Final = re.compile(r"[^\x00-\x08\x0b-\x1f\x7f-\x9f]+")
_CSI: Final = re.compile(r"\x1b\[([0-?]{0,64})([ -/]{0,8})([@-~])")
_CSI_BEGUN: Final = re.compile(r"\x1b\[[0-?]{0,64}[ -/]{0,8}\Z")
_STRING: Final = re.compile(rf"\x1b[\]PX^_][^\x07\x1b]{{0,{_MAX_SEQUENCE}}}(?:\x07|\x1b\\)")
_STRING_BEGUN: Final = re.compile(rf"\x1b[\]PX^_][^\x07\x1b]{{0,{_MAX_SEQUENCE}}}\x1b?\Z")
_SHORT: Final = re.compile(r"\x1b[ -/]{0,8}[0-~]")
_SHORT_BEGUN: Final = re.compile(r"\x1b[ -/]{0,8}\Z")
_CELL: Final = re.compile(r"((?:\x1b\[[0-?]*m)*)([^\x1b]|\Z)")


class _Row:
    """One row of the screen: its text with colours in it, and where the next character goes."""

    __slots__ = ("changed_at", "col", "pen", "redrawn", "shown", "text", "width", "wrote")

    def __init__(self, *, wrote: bool, now: float = 0.0) -> None:
        self.text = ""
        self.width = 0  # characters without colours
        self.col = 0
        self.pen = ""  # colours for the next character, when it stands inside the row
        self.wrote = wrote
        self.redrawn = False
        self.shown: float | None = None  # since when it differs from what was handed out
        self.changed_at = now

    def cells(self) -> tuple[list[str], str]:
        """The characters, each with the colours before it; and the colours after the last."""
        found = _CELL.findall(self.text)
        return [a + b for a, b in found if b], "".join(a for a, b in found if not b)

    def write(self, text: str, now: float) -> None:
        if self.col > self.width:
            self._pad()
        if self.col == self.width:
            self.text += self.pen + text
            self.width += len(text)
        elif self.col == 0 and len(text) >= self.width:
            self.text, self.width = self.pen + text, len(text)
        elif "\x1b" in self.text or self.pen:
            self._write_over_colours(text)
        else:
            self.text = self.text[: self.col] + text + self.text[self.col + len(text) :]
            self.width = max(self.width, self.col + len(text))
        self.col += len(text)
        self.pen = ""
        self._touch(now)

    def _pad(self) -> None:
        self.text += " " * (self.col - self.width)
        self.width = self.col

    def _write_over_colours(self, text: str) -> None:
        cells, tail = self.cells()
        cells[self.col : self.col + len(text)] = [self.pen + text[0], *text[1:]]
        self.text, self.width = "".join(cells) + tail, len(cells)

    def _touch(self, now: float) -> None:
        self.wrote = True
        self.changed_at = now
        if self.shown is None:
            self.shown = now

    def colour(self, sequence: str) -> None:
        if len(self.text) + len(self.pen) > 2 * MAX_LINE_CHARS:
            return
        if self.col == self.width:
            self.text += sequence
        else:
            self.pen += sequence

    def move(self, col: int) -> None:
        self.redrawn = self.redrawn or col < self.col
        self.col = min(max(col, 0), MAX_LINE_CHARS - 1)

    def erase(self, how: int) -> None:
        """0: from the cursor on; 1: up to the cursor; 2: all."""
        self.redrawn = True
        if how == 0:
            cells, _ = self.cells()
            self.text = "".join(cells[: self.col])
        elif how == 1:
            cells, tail = self.cells()
            self.text = " " * min(self.col, len(cells)) + "".join(cells[self.col :]) + tail
        else:
            self.text = ""
        self.width = len(self.cells()[0])

    def line(self) -> str:
        return (self.text.rstrip(" ") if self.redrawn else self.text) + self.pen


class Lines:
    """The lines of one stream.

    Each text that comes out is one line. It ends with a line feed; or with a carriage return, and
    then it is what a line that still changes shows now, which later text replaces.
    """

    def __init__(self, *, changing_every_s: float = 10.0) -> None:
        """
        Args:
            changing_every_s: how often a line that keeps changing is handed out, seconds.
        """
        self._every_s = changing_every_s
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begun = ""
        self._rows = [_Row(wrote=False)]
        self._at = 0
        self._reach = 0
        self._calm = 0
        self._out: list[str] = []

    def feed(self, data: bytes, now: float) -> list[str]:
        """Take the next bytes of the stream; returns the lines that they finish."""
        self._take(self._decoder.decode(data), now)
        return self._hand_out()

    def tick(self, now: float) -> list[str]:
        """What time alone brings: rows nobody goes back to, and lines that keep changing."""
        while self._at and now - self._rows[0].changed_at >= SETTLED_S:
            self._retire()
        for row in self._rows:
            if row.shown is not None and now - row.shown >= self._every_s:
                self._out.append(row.line() + "\r")
                row.shown = None
        return self._hand_out()

    def close(self, now: float) -> list[str]:
        """What remains when the stream ends; the object begins anew."""
        self._take(self._decoder.decode(b"", final=True), now)
        self._finish_all()
        self._begun = ""
        return self._hand_out()

    def _hand_out(self) -> list[str]:
        lines, self._out = self._out, []
        return lines

    # -------------------------------------------------------------- reading the text
    def _take(self, text: str, now: float) -> None:
        text, at = self._begun + text, 0
        self._begun = ""
        while at < len(text):
            plain = _PLAIN.match(text, at)
            if plain:
                self._plain(plain[0], now)
                at = plain.end()
            elif text[at] == "\x1b":
                length = self._sequence(text, at)
                if not length:
                    self._begun = text[at:]
                    return
                at += length
            else:
                self._control(text[at])
                at += 1

    def _plain(self, text: str, now: float) -> None:
        first, *others = text.split("\n")
        self._write(first, now)
        for other in others:
            self._line_feed(now)
            self._write(other, now)

    def _write(self, text: str, now: float) -> None:
        while text:
            row = self._rows[self._at]
            room = MAX_LINE_CHARS - max(len(row.text) if row.col >= row.width else 0, row.col)
            if room <= 0:
                self._out.append(row.line() + "\n")
                self._rows[self._at] = _Row(wrote=False, now=now)
                continue
            row.write(text[:room], now)
            text = text[room:]

    def _control(self, character: str) -> None:
        row = self._rows[self._at]
        if character == "\r":
            row.move(0)
        elif character == "\b":
            row.move(row.col - 1)

    def _sequence(self, text: str, at: int) -> int:
        """Obey one escape sequence; returns its length, 0 when it is not complete."""
        csi = _CSI.match(text, at)
        if csi:
            self._obey(csi)
            return len(csi[0])
        string = _STRING.match(text, at)
        if string:
            return len(string[0])
        for begun in (_CSI_BEGUN, _STRING_BEGUN, _SHORT_BEGUN):
            if begun.match(text, at):
                return 0
        short = _SHORT.match(text, at)
        # What begins like a longer sequence and is none: only its first character goes.
        return len(short[0]) if short and short[0][1] not in "[]PX^_" else 1

    def _obey(self, csi: re.Match[str]) -> None:
        parameters, between, final = csi.groups()
        row = self._rows[self._at]
        if between or parameters[:1] in {"<", "=", ">", "?"}:
            return
        if final == "m":
            row.colour(csi[0])
            return
        first = parameters.partition(";")[0]
        number = int(first[:6]) if first.isdecimal() else -1
        if final in "CDG":
            goal = {"C": row.col + abs(number), "D": row.col - abs(number), "G": number - 1}
            row.move(goal[final])
        elif final in "ABEF":
            self._vertical(abs(number), up=final in "AF", home=final in "EF")
        elif final == "K":
            row.erase(max(number, 0))
        elif final == "J":
            self._erase_screen(max(number, 0))

    # -------------------------------------------------------------- moving between rows
    def _line_feed(self, now: float) -> None:
        if self._at + 1 < len(self._rows):
            self._at += 1
        else:
            self._rows[-1].wrote = True
            self._rows.append(_Row(wrote=True, now=now))
            self._at += 1
            self._calm += 1
            if self._calm > _CALM_ROWS:
                self._reach = 0
            while len(self._rows) - 1 > self._reach:
                self._retire()
        self._rows[self._at].col = 0

    def _vertical(self, count: int, *, up: bool, home: bool) -> None:
        col = 0 if home else self._rows[self._at].col
        if up:
            goal = self._at - min(count, MAX_OPEN_ROWS)
            if goal < 0:
                more = min(-goal, max(MAX_OPEN_ROWS - len(self._rows), 0))
                self._rows[:0] = [_Row(wrote=False) for _ in range(more)]
                goal = 0
            self._at, self._calm = goal, 0
            self._reach = max(self._reach, len(self._rows) - 1 - goal)
        else:
            self._at = min(self._at + count, len(self._rows) - 1)
        self._rows[self._at].col = col

    def _erase_screen(self, how: int) -> None:
        if how == 0:
            self._rows[self._at].erase(0)
            del self._rows[self._at + 1 :]
        elif how in {2, 3}:
            self._finish_all()

    def _retire(self) -> None:
        row = self._rows.pop(0)
        self._at = max(self._at - 1, 0)
        if row.wrote:
            self._out.append(row.line() + "\n")

    def _finish_all(self) -> None:
        last = self._rows[-1]
        last.wrote = last.width > 0
        self._at = 0
        while self._rows:
            self._retire()
        self._rows = [_Row(wrote=False)]
        self._reach = self._calm = self._at = 0


class Budget:
    """How much text may pass: bytes per second with some seconds in hand, and bytes in all."""

    BURST_S: Final = 10.0

    def __init__(self, per_s: float, total: float) -> None:
        self._per_s, self._total = per_s, total
        self._left = per_s * self.BURST_S
        self._at: float | None = None

    @property
    def spent(self) -> bool:
        """Whether nothing passes any more, for ever."""
        return self._total <= 0

    def take(self, size: int, now: float) -> bool:
        """Whether so many bytes pass now."""
        passed = max(now - self._at, 0.0) if self._at is not None else 0.0
        self._at = now
        self._left = min(self._left + passed * self._per_s, self._per_s * self.BURST_S)
        if size > self._total:
            self._total = 0
            return False
        if size > self._left:
            return False
        self._left -= size
        self._total -= size
        return True


class Transcript:
    """What is kept of a console: the lines of its two streams, as far as the limits let them.

    Attributes:
        lost: bytes left out since `take_lost`.
    """

    NOTICE_EVERY_S: Final = 10.0
    # A bar that is drawn a hundred times becomes one line: far more may come in than goes out.
    RAW_FACTOR: Final = 16
    RAW_LEAST_PER_S: Final = 1 << 20

    def __init__(
        self, *, max_bytes_per_s: float, max_total_bytes: float, changing_every_s: float = 10.0
    ) -> None:
        self._per_s = max_bytes_per_s
        self._budget = Budget(max_bytes_per_s, max_total_bytes)
        raw_per_s = max(max_bytes_per_s * self.RAW_FACTOR, self.RAW_LEAST_PER_S)
        self._raw = Budget(raw_per_s, float("inf"))
        self._lines = {stream: Lines(changing_every_s=changing_every_s) for stream in (1, 2)}
        self._unsaid = 0
        self._said_at = float("-inf")
        self._ended = False
        self.lost = 0

    def feed(self, stream: int, data: bytes, now: float) -> list[tuple[int, str]]:
        """Take bytes of stream 1 or 2; returns text by stream, whole lines each."""
        if self._budget.spent or not self._raw.take(len(data), now):
            self.lose(len(data))
            return []
        return self._pass(stream, self._lines[stream].feed(data, now), now)

    def tick(self, now: float) -> list[tuple[int, str]]:
        """What time alone brings, and a line about what was left out."""
        found = [text for one in self._lines for text in self._ticked(one, now)]
        if now - self._said_at >= self.NOTICE_EVERY_S:
            found += self._notice(now)
        return found

    def close(self, now: float) -> list[tuple[int, str]]:
        """The rest, when both streams have ended."""
        found: list[tuple[int, str]] = []
        for stream, lines in self._lines.items():
            found += self._pass(stream, lines.close(now), now)
        return found + self._notice(now)

    def lose(self, size: int) -> None:
        """Count bytes that never came here."""
        self.lost += size
        self._unsaid += size

    def refused(self, text: str) -> None:
        """Count text that was handed out in vain; a line that says so would be in vain too."""
        self.lost += len(text.encode())

    def take_lost(self) -> int:
        """Bytes left out since the last call."""
        lost, self.lost = self.lost, 0
        return lost

    def _ticked(self, stream: int, now: float) -> list[tuple[int, str]]:
        return self._pass(stream, self._lines[stream].tick(now), now)

    def _pass(self, stream: int, lines: list[str], now: float) -> list[tuple[int, str]]:
        kept: list[str] = []
        for line in lines:
            size = len(line.encode())
            if self._budget.take(size, now):
                kept.append(line)
            else:
                self.lose(size)
        return [(stream, "".join(kept))] if kept else []

    def _notice(self, now: float) -> list[tuple[int, str]]:
        if not self._unsaid or self._ended:
            return []
        count, self._unsaid, self._said_at = self._unsaid, 0, now
        if self._budget.spent:
            self._ended = True
            return [(2, "[localstore: the limit is reached; later output is not recorded]\n")]
        return [(2, f"[localstore: {count:,} bytes of output were too fast to be recorded]\n")]
