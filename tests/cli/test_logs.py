"""`localstore logs`: what a program printed, and what hostile text may not do."""

from __future__ import annotations

import os
import pty
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import localstore
from localstore.cli.logs import Piece, shown, standing
from localstore.format.spec import DataClass, RecordKind
from localstore.identity import now_us
from tests.cli.conftest import COMMAND, call
from tests.sdk.scripts import TIMEOUT_S, run_script, start

if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAM = """
import sys, localstore
run = localstore.init(project="digits", id="one")
print("first")
for at in range(5):
    print(f"bar {at}", end="\\r", flush=True)
print("bar done")
sys.stdout.flush()
print("oh no", file=sys.stderr, flush=True)
print("last")
run.finish()
"""


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch) -> None:
    """The console is recorded."""
    monkeypatch.setenv("LOCALSTORE_CONSOLE", "true")


def print_as(run: Any, *texts: str, stream: int = 1) -> None:
    """Record texts as a run does that printed them."""
    for text in texts:
        run._writer.append(DataClass.CONSOLE, [RecordKind.OUTPUT, now_us(), stream, text], b"")


@pytest.fixture
def printed() -> Callable[..., None]:
    """Makes the finished run `one` that printed some texts."""

    def make(*texts: str, stream: int = 1) -> None:
        run = localstore.init(project="digits", id="one")
        print_as(run, *texts, stream=stream)
        run.finish()

    return make


def lines(*words: str) -> list[str]:
    outcome = call("logs", "one", *words)
    assert (outcome.code, outcome.err) == (0, "")
    return outcome.out.splitlines()


# ------------------------------------------------------------------ what was printed
@pytest.mark.usefixtures("console")
def test_what_a_program_printed_comes_in_order_with_a_bar_in_its_last_state() -> None:
    assert run_script(PROGRAM)[0] == 0
    assert [line for line in lines("--stdout")] == ["first", "bar done", "last"]
    assert lines("--stderr") == ["oh no"]
    assert set(lines()) == {"first", "bar done", "last", "oh no"}


def test_a_text_that_ends_in_cr_is_replaced_by_what_follows(printed: Callable[..., None]) -> None:
    printed("10 %\r", "50 %\r", "100 %\n", "next\r")
    assert lines() == ["100 %", "next"]


def test_a_line_that_was_cleared_is_none(printed: Callable[..., None]) -> None:
    printed("10 %\r", "  \r")
    assert call("logs", "one").out == ""


def test_streams_and_processes_replace_their_own_lines_alone() -> None:
    pieces = [
        Piece(1, b"a", 1, "bar of a\r"),
        Piece(2, b"b", 1, "line of b\n"),
        Piece(3, b"a", 2, "error of a\n"),
        Piece(4, b"b", 1, "bar of b\r"),
        Piece(5, b"b", 1, "end of b\n"),
    ]
    assert standing(pieces) == [*pieces[:3], pieces[4]]


TEXTS = st.lists(st.tuples(st.integers(0, 1), st.sampled_from(["x\n", "y\r"])), max_size=12)


@given(TEXTS, st.integers(0, 12))
def test_looking_twice_shows_what_looking_once_shows(texts: list[Any], cut: int) -> None:
    pieces = [Piece(at, bytes([who]), 1, text) for at, (who, text) in enumerate(texts)]
    early = standing(pieces[:cut])
    final = [one for one in early if not one.changing]
    held = [one for one in early if one.changing]
    late = standing([*held, *pieces[cut:]])
    assert sorted([*final, *late], key=lambda one: one.time_us) == standing(pieces)


@pytest.mark.parametrize(
    ("count", "wanted"), [("0", []), ("2", ["b", "c"]), ("9", ["a", "b", "c"])]
)
def test_the_last_lines_alone(printed: Callable[..., None], count: str, wanted: list[str]) -> None:
    printed("a\nb\n", "c\n")
    assert lines("-n", count) == wanted


def test_a_run_that_recorded_no_output_says_so_on_stderr(printed: Callable[..., None]) -> None:
    printed()
    outcome = call("logs", "one", LOCALSTORE_QUIET="0")
    assert (outcome.code, outcome.out) == (0, "")
    assert "the setting `console`" in outcome.err


def test_an_unknown_run_is_an_error(printed: Callable[..., None]) -> None:
    printed()
    assert call("logs", "two").code == 66


# ------------------------------------------------------------------ hostile texts
HOSTILE = [
    "\x1b]0;title\x07",
    "\x1b[2J",
    "\x1b[1;1H",
    "\x1b[?1049h",
    "\x1b]52;c;cm0gLXJm\x07",
    "\x1b]8;;http://evil\x1b\\click\x1b]8;;\x1b\\",
    "\x9b2J",
    "\x1bc",
    "a\rb",
    "a\x08\x08b",
    "\u202egnp.exe",
    "\x1b[31",
    "\x1b[" + "1;" * 100 + "m",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_nothing_but_a_colour_reaches_a_terminal(text: str) -> None:
    for colours in (True, False):
        made = re.sub("\x1b\\[[0-9;:]{0,64}m", "", shown(text, colours=colours))
        assert made.isprintable()


@given(st.text(alphabet="\x1b[]m0;:\x07\x9bH\r\tx\u202e\n"), st.booleans())
def test_whatever_is_printed_only_colours_and_tabs_are_left(text: str, colours: bool) -> None:
    made = re.sub("\x1b\\[[0-9;:]{0,64}m", "", shown(text, colours=colours))
    assert made.replace("\t", "").isprintable()
    assert colours or "\x1b" not in shown(text, colours=False)


def test_a_colour_ends_with_its_line() -> None:
    assert shown("\x1b[31mred", colours=True) == "\x1b[31mred\x1b[0m"


def test_off_a_terminal_there_are_no_colours(printed: Callable[..., None]) -> None:
    printed("\x1b[1;31mred\x1b[0m\tand\x1b[2J\n")
    assert lines() == ["red\tand\\x1b[2J"]


def test_a_colour_reaches_a_terminal(printed: Callable[..., None]) -> None:
    printed("\x1b[31mred\x1b[0m\x1b[2J\n")
    assert "\x1b[31mred\x1b[0m\\x1b[2J" in Terminal("logs", "one").end()


# ------------------------------------------------------------------ damage
def test_damage_costs_what_it_damaged_and_is_told(
    printed: Callable[..., None], tmp_path: Any
) -> None:
    printed(*(f"line {at} {os.urandom(200).hex()}\n" for at in range(50)))
    logs = sorted((tmp_path / "home").rglob("*.log"), key=lambda path: path.stat().st_size)
    raw = bytearray(logs[-1].read_bytes())
    raw[len(raw) // 2] ^= 1
    logs[-1].write_bytes(raw)
    outcome = call("logs", "one")
    assert outcome.code == 20
    assert logs[-1].name in outcome.err


# ------------------------------------------------------------------ following
class Terminal:
    """The command on a terminal of its own."""

    def __init__(self, *words: str) -> None:
        self._ours, its = pty.openpty()
        self._process = subprocess.Popen([str(COMMAND), *words], stdin=its, stdout=its, stderr=its)
        os.close(its)
        self.shown = ""

    def read(self) -> bool:
        """Take what it wrote; whether there may be more."""
        try:
            piece = os.read(self._ours, 4096)
        except OSError:  # the end of a terminal
            piece = b""
        self.shown += piece.decode()
        return piece != b""

    def wait_for(self, text: str) -> None:
        """Read until it shows a text."""
        while text not in self.shown:
            assert self.read(), self.shown

    def end(self) -> str:
        """All that it wrote, once it has ended well."""
        while self.read():
            pass
        os.close(self._ours)
        assert self._process.wait(TIMEOUT_S) == 0
        return self.shown


def test_following_on_a_terminal_shows_a_line_that_still_changes_in_place() -> None:
    run = localstore.init(project="digits", id="one")
    print_as(run, "begin\n", "\x1b[32m10 %\x1b[0m\r")
    terminal = Terminal("logs", "one", "-f")
    terminal.wait_for("begin\r\n10 %")
    print_as(run, "50 %\r")
    terminal.wait_for("\r\x1b[K50 %")
    print_as(run, "100 %\n", "end\r")
    run.finish()
    assert terminal.end().endswith("50 %\r\x1b[K100 %\r\nend\r\n")


@pytest.mark.usefixtures("console")
def test_following_prints_a_line_as_it_comes_and_ends_with_the_run() -> None:
    program = """
    import sys, localstore
    run = localstore.init(project="digits", id="one")
    for word in sys.stdin:
        print("said", word, end="", flush=True)
    run.finish()
    """
    training = start(program, stdin=subprocess.PIPE)
    assert training.stdin is not None
    training.stdin.write("a\n")
    training.stdin.flush()
    follower = start_following()
    assert follower.stdout is not None
    assert next(line for line in follower.stdout if line.startswith("said")) == "said a\n"
    training.stdin.write("b\n")
    training.stdin.flush()
    assert follower.stdout.readline() == "said b\n"
    training.communicate(timeout=TIMEOUT_S)
    rest, errors = follower.communicate(timeout=TIMEOUT_S)
    assert (follower.returncode, errors) == (0, "")
    assert "said" not in rest


def start_following() -> subprocess.Popen[str]:
    """Wait until the run is there, and follow it."""
    while call("logs", "one").code:
        pass
    words = [str(COMMAND), "logs", "one", "-f", "--stdout"]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
