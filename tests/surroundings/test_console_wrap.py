"""Where stdout is no descriptor, as in notebooks: what Python prints is heard."""

# ruff: noqa: T201 - that is what is tested
from __future__ import annotations

import contextlib
import io
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

import pytest

from localstore.surroundings.console import Console

if TYPE_CHECKING:
    from collections.abc import Callable


class Heard:
    """Gathers what a console in this process hears."""

    def __init__(self) -> None:
        self.texts: list[tuple[int, str]] = []
        self.dropped = 0
        self.console = Console(
            lambda stream, text: self.texts.append((stream, text)),
            max_bytes_per_s=1e9,
            max_total_bytes=1e9,
            on_dropped=self.count,
        )

    def count(self, dropped: int) -> None:
        self.dropped += dropped


@pytest.fixture
def open_notebook(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Heard]:
    """Begins a console where stdout and stderr are objects of Python alone.

    To be called by the test itself: pytest puts its own objects there before each test.
    """

    def begin() -> Heard:
        monkeypatch.setattr(sys, "stdout", io.StringIO())
        monkeypatch.setattr(sys, "stderr", io.StringIO())
        heard = Heard()
        heard.console.start()
        return heard

    return begin


def shown(stream: Any) -> str:
    assert isinstance(stream, io.StringIO)
    return stream.getvalue()


def test_in_a_notebook_what_python_prints_is_heard(open_notebook: Callable[[], Heard]) -> None:
    notebook = open_notebook()
    print("out")
    print("err", file=sys.stderr)
    sys.stdout.writelines(["a\n", "b\n"])
    print("half \udc80", end="")
    notebook.console.stop()
    print("after")
    assert notebook.console.modes == {1: "wrap", 2: "wrap"}
    assert "".join(text for stream, text in notebook.texts if stream == 1) == "out\na\nb\nhalf ?\n"
    assert [text for stream, text in notebook.texts if stream == 2] == ["err\n"]
    assert shown(sys.stdout) == "out\na\nb\nhalf \udc80after\n"


def test_after_the_end_the_methods_are_what_they_were(open_notebook: Callable[[], Heard]) -> None:
    notebook = open_notebook()
    assert "write" in vars(sys.stdout)
    notebook.console.stop()
    assert "write" not in vars(sys.stdout)


def test_someone_else_who_wraps_over_us_keeps_working(open_notebook: Callable[[], Heard]) -> None:
    notebook = open_notebook()
    ours, more = sys.stdout.write, []

    def write(text: str) -> int:
        more.append(text)
        return ours(text)

    sys.stdout.write = write  # type: ignore[method-assign]
    print("both")
    notebook.console.stop()
    print("one")
    assert more == ["both", "\n", "one", "\n"]
    assert shown(sys.stdout) == "both\none\n"
    assert notebook.texts == [(1, "both\n")]


def test_an_error_of_print_is_the_scripts_own(open_notebook: Callable[[], Heard]) -> None:
    notebook = open_notebook()
    with pytest.raises(TypeError):
        sys.stdout.write(5)  # type: ignore[arg-type]
    sys.stdout.close()
    with pytest.raises(ValueError, match="closed"):
        print("x")
    notebook.console.stop()
    assert notebook.texts == []


def test_a_stream_that_cannot_be_wrapped_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Rigid:
        __slots__ = ("text",)

        def __init__(self) -> None:
            self.text = ""

        def write(self, text: str) -> int:
            self.text += text
            return len(text)

        def flush(self) -> None:
            raise OSError("no")

    rigid = Rigid()
    monkeypatch.setattr(sys, "stdout", rigid)
    monkeypatch.setattr(sys, "stderr", None)
    heard = Heard()
    heard.console.start()
    print("out")
    heard.console.stop()
    assert heard.console.modes == {1: "off", 2: "off"}
    assert rigid.text == "out\n"


def test_a_forked_child_of_a_notebook_prints_and_is_not_heard(
    open_notebook: Callable[[], Heard],
) -> None:
    notebook = open_notebook()
    pid = os.fork()
    if not pid:
        code = 1
        with contextlib.suppress(BaseException):
            notebook.console.after_fork()
            print("child")
            notebook.console.stop()
            code = 0 if shown(sys.stdout) == "child\n" else 2
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    notebook.console.stop()
    assert notebook.texts == []


def test_a_console_that_never_started_stops_too() -> None:
    heard = Heard()
    heard.console.stop()
    heard.console.start()
    assert signal.getsignal(signal.SIGWINCH) is signal.SIG_DFL
    heard.console.stop()
