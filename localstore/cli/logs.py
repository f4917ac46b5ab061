"""`localstore logs`: what a run's program printed, as it stood on its console at last.

Texts come from whoever wrote the run. Of what a terminal obeys only colours pass, and only to a
terminal; all else is made inert.
"""

from __future__ import annotations

import re
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from localstore.cli import exit_status, terminal
from localstore.cli.terminal import inert
from localstore.errors import NotFound
from localstore.format.spec import DataClass, RecordKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from localstore.errors import Damaged
    from localstore.project import Project
    from localstore.query.api import Api, StoredRun
    from localstore.reading import SegmentContent

_DAMAGED: Final = 20
_STDOUT, _STDERR = 1, 2
_LOOK_EVERY_S: Final = 0.5  # as often as a live run hands over what it printed
_LOOKING_SHARE: Final = 5  # a look at a long console takes long: a sixth of the time at most
_COLOUR: Final = re.compile(r"(\x1b\[[0-9;:]{0,64}m)")
_NO_COLOUR: Final = "\x1b[0m"
_CLEAR_LINE: Final = "\r\x1b[K"


@dataclass(frozen=True, slots=True)
class Piece:
    """One text of one stream of one process.

    Attributes:
        stream: 1 stdout, 2 stderr; all is 1 where both led to one place.
        text: whole lines; with a carriage return at its end it is what a line showed for a while,
            and the next text of its stream replaces it.
    """

    time_us: int
    writer: bytes
    stream: int
    text: str

    @property
    def changing(self) -> bool:
        """Whether the next text replaces it."""
        return self.text.endswith("\r")

    def lines(self) -> list[str]:
        """Its lines without their ends; a line that was cleared is none."""
        if self.changing and not self.text.strip():
            return []
        return [line.rstrip("\r") for line in self.text.removesuffix("\n").split("\n")]


def standing(pieces: Sequence[Piece]) -> list[Piece]:
    """Those that no later one of the same stream replaces, in the same order."""
    last = {(one.writer, one.stream): at for at, one in enumerate(pieces)}
    return [
        one
        for at, one in enumerate(pieces)
        if not one.changing or last[one.writer, one.stream] == at
    ]


# ------------------------------------------------------------------ reading
class Console:
    """The console of one run, which may still be written.

    Attributes:
        problems: damage that the last look met.
    """

    def __init__(self, project: Project, subject: bytes, tails: Path | None) -> None:
        self._project, self._subject, self._tails = project, subject, tails
        self._taken: dict[bytes, int] = {}  # by segment, the last record that was handed out
        self._before: Piece | None = None
        self.problems: list[Damaged] = []

    def running(self) -> bool:
        """Whether more may come."""
        from localstore.identity import now_us
        from localstore.query.info import fold_info

        return fold_info(self._read(DataClass.META, [])).state(now_us())[0] == "running"

    def take(self) -> list[Piece]:
        """What came since the last call, in order."""
        self.problems = []
        found = [
            (piece.time_us, piece.writer, at, piece)
            for content in self._read(DataClass.CONSOLE, self.problems)
            for at, piece in self._new(content)
        ]
        out: list[Piece] = []
        for *_, piece in sorted(found, key=lambda item: item[:3]):
            # Once more in another segment, when the disk failed under the first.
            if piece != self._before:
                out.append(piece)
            self._before = piece
        return out

    def _read(self, data_class: DataClass, problems: list[Damaged]) -> list[SegmentContent]:
        from localstore.reading import read_run

        return read_run(self._project, self._subject, (data_class,), problems, self._tails)

    def _new(self, content: SegmentContent) -> Iterable[tuple[int, Piece]]:
        segment, writer = content.header.segment, content.header.writer
        done = self._taken.get(segment, -1)
        for at in sorted(content.records):
            match content.records[at]:
                case [RecordKind.OUTPUT, int(when), int(stream), str(text), *_] if at > done:
                    yield at, Piece(when, writer, stream, text)
        self._taken[segment] = max([done, *content.records])


def open_console(api: Api, run: StoredRun) -> Console:
    """The console of a run that `api` found.

    Raises:
        NotFound: the run was erased meanwhile.
    """
    from localstore import settings
    from localstore.projects import Projects
    from localstore.tails import tail_folder

    subject = bytes.fromhex(run.subject)
    for project in Projects(api.home, api.identity).named(run.entity, run.project):
        if (project.paths.runs / run.subject).is_dir():
            folder = tail_folder(settings.load().tail_dir, project.paths.id, subject)
            return Console(project, subject, folder)
    raise NotFound(f"run {run.path!r} is here no more")


# ------------------------------------------------------------------ the command
@click.command(epilog=exit_status(0, 2, 11, 20, 66, 77, 130, 141))
@click.argument("run")
@click.option("--stdout/--stderr", "stdout", default=None, help="Only this stream; default both.")
@click.option("-n", "--lines", "count", type=click.IntRange(min=0), help="Only the last so many.")
@click.option("-f", "--follow", is_flag=True, help="Go on until the run ends.")
@click.pass_context
def logs(
    ctx: click.Context, run: str, stdout: bool | None, count: int | None, follow: bool
) -> None:
    """Print what the program of RUN printed, in order, on stdout.

    Of a line that was drawn again and again, a progress bar, the last state is shown. Where stdout
    and stderr of the program led to one place, a terminal or a file, all of it counts as stdout.
    Colours are kept on a terminal; whatever else could act on one is shown as text.
    """
    from localstore.query.api import Api

    api = Api()
    found = api.run(run)
    found.contents.check_here(DataClass.CONSOLE, "the output")
    console = open_console(api, found)
    stream = None if stdout is None else _STDOUT if stdout else _STDERR
    printer = _Printer(stream, count)
    try:
        while follow and console.running():
            began = time.monotonic()
            printer.add(console.take(), live=True)
            time.sleep(max(_LOOK_EVERY_S, _LOOKING_SHARE * (time.monotonic() - began)))
    except KeyboardInterrupt:
        printer.clear()
        raise
    printer.add(console.take(), live=False)
    if not printer.printed and count != 0:
        _say_why_nothing(found, stream)
    if terminal.warn_of_damage([*found.problems, *console.problems]):
        ctx.exit(_DAMAGED)


def _say_why_nothing(run: StoredRun, stream: int | None) -> None:
    if stream == _STDERR:
        terminal.note(f"{run.path} has nothing on stderr; stderr beside stdout counts as stdout")
    else:
        terminal.note(
            f"nothing that {run.path} printed is here; output stays on the machine where it was"
            " printed, and the setting `console` switches it off"
        )


class _Printer:
    """Writes final lines, and below them, on a terminal, the one that still changes.

    Attributes:
        printed: how many lines.
    """

    def __init__(self, stream: int | None, count: int | None) -> None:
        self._stream, self._count = stream, count
        self._held: list[Piece] = []
        self._colours = terminal.on_terminal()
        self._status = ""
        self.printed = 0

    def add(self, pieces: Iterable[Piece], *, live: bool) -> None:
        """Print what stands; of a live run, lines that still change are held back."""
        wanted = [one for one in pieces if self._stream in (None, one.stream)]
        found = standing([*self._held, *wanted])
        self._held = [one for one in found if one.changing] if live else []
        lines = [line for one in found if one not in self._held for line in one.lines()]
        if self._count is not None:
            lines = lines[-self._count :] if self._count else []
            self._count = None  # what comes from now on is all wanted
        self._write(lines)

    def _write(self, lines: Sequence[str]) -> None:
        status = self._status_line()
        if lines or status != self._status:
            sys.stdout.write(_CLEAR_LINE if self._status else "")
            sys.stdout.writelines(shown(line, colours=self._colours) + "\n" for line in lines)
            sys.stdout.write(status)
            sys.stdout.flush()
        self._status = status
        self.printed += len(lines)

    def clear(self) -> None:
        """Take the line that still changes off the terminal."""
        self._held = []
        self._write([])

    def _status_line(self) -> str:
        """The line that changed last, cut to the terminal's width; empty off a terminal."""
        if not self._held or not self._colours:
            return ""
        lines = self._held[-1].lines()
        line = shown(lines[-1], colours=False).expandtabs() if lines else ""
        return terminal.short(line, terminal.width_chars() - 1)


def shown(text: str, *, colours: bool) -> str:
    """One line for a person: tabs stay, colours where they are wanted, all else is inert."""
    parts = _COLOUR.split(text)  # every second one is a colour
    parts[::2] = ["\t".join(map(inert, part.split("\t"))) for part in parts[::2]]
    if len(parts) == 1:
        return parts[0]
    return "".join([*parts, _NO_COLOUR]) if colours else "".join(parts[::2])
