"""Bytes of a console become lines, however they are cut; limits leave out and count."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from localstore.surroundings.console_lines import (
    MAX_LINE_CHARS,
    MAX_OPEN_ROWS,
    SETTLED_S,
    Budget,
    Lines,
    Transcript,
)


def lines_of(data: bytes) -> list[str]:
    lines = Lines()
    return lines.feed(data, 0.0) + lines.close(0.0)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        (b"one\ntwo\n", ["one\n", "two\n"]),
        (b"", []),
        (b"\n\n", ["\n", "\n"]),
        (b"no end", ["no end\n"]),
        (b"dos\r\nlines\r\n", ["dos\n", "lines\n"]),
        (b"\r 10%\r 50%\r100%\n", ["100%\n"]),
        (b"100%\r5", ["500%\n"]),
        (b"long bar\r        \rhello\n", ["hello\n"]),
        (b"long bar\r\x1b[Khello\n", ["hello\n"]),
        (b"long bar\x1b[2K\rhello\n", ["hello\n"]),
        (b"abc\x1b[1K\n", ["\n"]),
        (b"spin |\b/\b-\bdone\n", ["spin done\n"]),
        (b"\b\b\bstart\n", ["start\n"]),
        (b"keep  \n", ["keep  \n"]),
        (b"a\tb\n", ["a\tb\n"]),
        (b"\x1b[31mred\x1b[0m\n", ["\x1b[31mred\x1b[0m\n"]),
        (b"\x1b[?25lhidden\x1b[?25h\n", ["hidden\n"]),
        (b"\x1b]0;title\x07text\n", ["text\n"]),
        (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\\n", ["link\n"]),
        (b"\x1bP1;2|data\x1b\\x\n", ["x\n"]),
        (b"\x1b(Bplain\x1b7\x1b8\n", ["plain\n"]),
        (b"bell\x07 and nul\x00\n", ["bell and nul\n"]),
        ("Füße 😀\n".encode(), ["Füße 😀\n"]),
        (b"bad \xff\xfe utf\n", ["bad �� utf\n"]),
        (b"cut \xf0\x9f", ["cut �\n"]),
        (b"a\x1b[5Cb\n", ["a     b\n"]),
        (b"abc\x1b[2DX\n", ["aXc\n"]),
        (b"abc\x1b[1GX\n", ["Xbc\n"]),
        (b"\x1b[32mgreen\x1b[0m\rblue!\n", ["blue!\n"]),
        (b"\x1b[32mgreen\x1b[0m\rX\n", ["Xreen\x1b[0m\n"]),
        (b"old\x1b[2J\x1b[Hnew\n", ["old\n", "new\n"]),
        (b"dangling \x1b[3", ["dangling \n"]),
    ],
)
def test_what_a_terminal_would_show_is_what_is_kept(written: bytes, shown: list[str]) -> None:
    assert lines_of(written) == shown


def bars(steps: int) -> bytes:
    """What tqdm writes for two bars, one below the other."""
    out = b""
    for step in range(steps):
        out += b"\r outer %d" % step + b"\n" + b"\r inner %d" % step + b"\x1b[A"
    return out


def test_two_bars_become_two_lines_and_not_one_for_each_step() -> None:
    kept = lines_of(bars(200) + b"\n\nafterwards\n")
    assert len(kept) <= 5
    assert [line.strip() for line in kept if line.strip()][-3:] == [
        "outer 199",
        "inner 199",
        "afterwards",
    ]


def test_a_table_drawn_again_and_again_in_its_place_is_kept_once_more_at_most() -> None:
    out = b"a 0\nb 0\nc 0"
    for step in range(1, 100):
        out += b"\r\x1b[2K\x1b[1A\x1b[2K\x1b[1A\x1b[2K" + b"a %d\nb %d\nc %d" % (step, step, step)
    kept = lines_of(out + b"\n")
    assert kept[-3:] == ["a 99\n", "b 99\n", "c 99\n"]
    assert len(kept) <= 6


def test_after_bars_have_ended_lines_come_at_once_again() -> None:
    lines = Lines()
    lines.feed(bars(3) + b"\n\n", 0.0)
    for number in range(100):
        lines.feed(b"line %d\n" % number, 0.0)
    assert lines.feed(b"prompt\n", 0.0) == ["prompt\n"]


def test_rows_that_a_cursor_could_reach_are_finished_when_nothing_changes_them() -> None:
    lines = Lines()
    lines.feed(bars(3) + b"\n\nlast\n", 0.0)
    assert "last\n" in lines.tick(SETTLED_S)


def test_a_cursor_that_goes_up_without_end_opens_no_rows_without_end() -> None:
    lines = Lines()
    kept = lines.feed(b"\x1b[999999A" * 1000 + b"top", 0.0) + lines.close(0.0)
    assert kept == ["top\n"]
    kept = lines.feed(b"x\n\x1b[A" * 10_000, 0.0)
    assert len(lines.close(0.0)) <= MAX_OPEN_ROWS + 1


def test_a_line_that_keeps_changing_is_shown_now_and_then_and_once_when_it_is_done() -> None:
    lines = Lines(changing_every_s=10.0)
    shown = []
    for second in range(60):
        shown += lines.feed(b"\r%d%%" % second, float(second))
        shown += lines.tick(float(second))
    assert 5 <= len(shown) <= 6
    assert all(text.endswith("%\r") for text in shown)
    assert lines.feed(b"\r100%\n", 60.0) == ["100%\n"]


def test_a_prompt_without_an_end_is_shown_once() -> None:
    lines = Lines(changing_every_s=10.0)
    assert lines.feed(b"name? ", 0.0) == []
    assert lines.tick(9.0) == []
    assert lines.tick(10.0) == ["name? \r"]
    assert lines.tick(100.0) == []
    assert lines.close(101.0) == ["name? \n"]


def test_a_line_without_an_end_is_cut_and_none_of_it_is_lost() -> None:
    data = b"0123456789" * (MAX_LINE_CHARS // 4)
    kept = lines_of(data + b"\n")
    assert all(len(line) <= MAX_LINE_CHARS + 1 for line in kept)
    assert "".join(line.removesuffix("\n") for line in kept) == data.decode()


def test_an_escape_that_never_ends_hides_nothing_for_ever() -> None:
    kept = lines_of(b"\x1b]0;" + b"x" * 10_000 + b"\nvisible\n")
    assert kept[-1] == "visible\n"


def test_colours_without_end_take_no_memory_without_end() -> None:
    lines = Lines()
    for _ in range(100):
        lines.feed(b"\x1b[31m" * 10_000, 0.0)
    assert sum(map(len, lines.close(0.0))) < 4 * MAX_LINE_CHARS


CONTROLS = [b"\r", b"\n", b"\r\n", b"\b", b"\t", b"\x07", b"\x1b", b"[", b"A", b"0", b"m"]
ESCAPES = [
    b"\x1b[A",
    b"\x1b[2B",
    b"\x1b[5F",
    b"\x1b[K",
    b"\x1b[2K",
    b"\x1b[J",
    b"\x1b[3C",
    b"\x1b[1m",
]
BEGUN = [b"\x1b[3", b"\x1b(", b"\x1b]0;t", b"\x1b\\", b"\x1bP", b"<TITLE>", b"\xf0\x9f"]
TEXTS = [b"text", b"more text", "ü😀".encode(), b"   ", b"\xff", b"<LONG>"]
PIECES = st.sampled_from([*CONTROLS, *ESCAPES, *BEGUN, *TEXTS])


@settings(deadline=None)
@given(
    st.lists(PIECES | st.binary(max_size=6), max_size=40).map(b"".join),
    st.lists(st.integers(min_value=1, max_value=40), min_size=1, max_size=30),
)
def test_how_bytes_are_cut_never_changes_the_lines(data: bytes, sizes: list[int]) -> None:
    data = data.replace(b"<LONG>", b"x" * (MAX_LINE_CHARS - 2))
    data = data.replace(b"<TITLE>", b"\x1b]" + b"y" * 4095)
    lines, kept, at = Lines(), [], 0
    while at < len(data):
        size = sizes[at % len(sizes)] if len(data) < 5000 else 997 * sizes[at % len(sizes)]
        kept += lines.feed(data[at : at + size], 0.0)
        at += size
    assert kept + lines.close(0.0) == lines_of(data)


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_whatever_raise_and_only_colours_remain_of_escapes(data: bytes) -> None:
    for line in lines_of(data):
        body = line[:-1]
        assert line[-1] == "\n"
        assert "\r" not in body
        assert "\n" not in body
        assert all(part.partition("m")[1] for part in body.split("\x1b[")[1:])


@settings(deadline=None)
@given(
    st.lists(
        st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), max_size=30)
    )
)
def test_plain_lines_come_out_as_they_went_in(texts: list[str]) -> None:
    wanted = [text + "\n" for text in texts]
    assert lines_of("".join(wanted).encode()) == wanted


# -------------------------------------------------------------- limits
def transcript(per_s: float = 100.0, total: float = 1e9) -> Transcript:
    return Transcript(max_bytes_per_s=per_s, max_total_bytes=total)


def test_a_budget_lets_pass_what_it_says_and_no_more() -> None:
    budget = Budget(100, 5000)
    passed = sum(10 for tick in range(3000) if budget.take(10, tick / 100))
    assert 100 * 30 <= passed <= 100 * (30 + Budget.BURST_S)
    assert not budget.spent
    assert sum(10 for tick in range(3000, 9000) if budget.take(10, tick / 100)) + passed <= 5000
    assert budget.spent


def test_a_clock_that_stands_or_goes_back_gives_no_budget() -> None:
    budget = Budget(10, 1e9)
    passed = sum(10 for _ in range(100) if budget.take(10, 5.0)) + 10 * budget.take(10, 1.0)
    assert passed == 10 * Budget.BURST_S


def test_what_is_too_fast_is_left_out_counted_and_said_in_one_line() -> None:
    kept = transcript()
    data = b"".join(b"line %05d\n" % number for number in range(1000))
    texts = kept.feed(1, data, 0.0)
    passed = sum(len(text) for _, text in texts)
    assert passed + kept.take_lost() == len(data)
    assert 0 < passed <= 1000
    said = kept.tick(0.5)
    assert said == [
        (2, f"[localstore: {len(data) - passed:,} bytes of output were too fast to be recorded]\n")
    ]
    assert kept.tick(1.0) == []
    assert kept.feed(1, b"later\n", 60.0) == [(1, "later\n")]
    assert kept.take_lost() == 0


def test_when_all_is_used_up_one_line_says_so_and_the_rest_is_counted() -> None:
    kept = transcript(1e6, 30)
    assert kept.feed(1, b"0123456789\n", 0.0) == [(1, "0123456789\n")]
    assert kept.feed(2, b"x" * 40 + b"\n", 0.0) == []
    assert [text for _, text in kept.tick(0.0)] == [
        "[localstore: the limit is reached; later output is not recorded]\n"
    ]
    assert kept.feed(1, b"more\n", 100.0) == []
    assert kept.tick(200.0) == kept.close(300.0) == []
    assert kept.take_lost() == 41 + 5


def test_a_flood_is_left_out_before_it_is_even_read() -> None:
    kept = transcript(100)
    flood = b"\r" * (1 << 16)
    for _ in range(1000):
        kept.feed(1, flood, 0.0)
    assert kept.take_lost() >= 1000 * len(flood) - Transcript.RAW_LEAST_PER_S * Budget.BURST_S


def test_the_two_streams_are_apart() -> None:
    kept = transcript()
    assert kept.feed(1, b"out ", 0.0) == kept.feed(2, b"err ", 0.0) == []
    assert kept.feed(1, b"put\n", 0.0) == [(1, "out put\n")]
    assert kept.close(0.0) == [(2, "err \n")]
