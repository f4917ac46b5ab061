"""A console where something is missing, dies or is there twice."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.surroundings.scripts import LIMIT_S, Script

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


def test_a_closed_stdout_and_the_file_that_took_its_number_are_left_alone(
    script: Script, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    body = f"""
        note("modes", console.modes)
        console.stop()
        fd = os.open({str(data)!r}, os.O_WRONLY | os.O_CREAT)
        second = console_of()
        second.start()
        note("fd", fd)
        os.write(fd, b"data")
        print("error", file=sys.stderr)
        second.stop()
        """
    command = ["sh", "-c", 'exec "$@" >&-', "sh", *script.command(body)]
    done = subprocess.run(command, stderr=subprocess.PIPE, timeout=LIMIT_S)
    outcome = script.outcome(done.returncode, b"", done.stderr)
    assert (outcome.code, outcome.errors) == (0, b"error\n")
    assert outcome.said("modes") == [{"1": "off", "2": "redirect"}]
    assert outcome.said("fd") == [1]
    assert data.read_bytes() == b"data"
    assert outcome.text(2) == "error\n"


@pytest.mark.parametrize("program", ["", "/bin/false", "/nowhere/python3", "/bin/true"])
def test_without_a_helper_python_is_still_heard(script: Script, program: str) -> None:
    body = f"""
        console.stop()
        sys.executable = {program!r}
        second = console_of()
        second.start()
        print("heard")
        second.stop()
        note("modes", second.modes)
        print("after")
        """
    done = script.run(body)
    assert (done.code, done.shown) == (0, b"heard\nafter\n")
    assert done.said("modes") == [{"1": "wrap", "2": "wrap"}]
    assert done.text() == "heard\n"


def test_a_program_named_python_that_is_none_is_not_waited_for_for_ever(
    script: Script, tmp_path: Path
) -> None:
    fake = tmp_path / "python3"
    fake.write_text("#!/bin/sh\nexit 0\n")
    fake.chmod(0o755)
    body = f"""
        console.stop()
        sys.executable = {str(fake)!r}
        second = console_of()
        second.start()
        print("heard")
        second.stop()
        note("modes", second.modes)
        """
    done = script.run(body)
    assert done.shown == b"heard\n"
    assert done.said("modes") == [{"1": "wrap", "2": "wrap"}]


def test_a_helper_that_is_killed_is_replaced(script: Script) -> None:
    done = script.run(
        """
        child = subprocess.Popen(["sh", "-c", "read line; echo child; echo rc $?"], stdin=-1)
        print("one", flush=True)
        [helper] = helpers()
        until(lambda: os.path.getsize(sys.argv[1]))  # "one" was taken down: the helper passed it on
        os.kill(helper, signal.SIGKILL)
        until(lambda: console.modes[1] == "wrap")
        print("two", flush=True)
        child.communicate(b"go\\n")
        console.stop()
        print("three", flush=True)
        """
    )
    assert done.code == 0
    assert sorted(done.shown.split(b"\n")) == sorted(
        [b"one", b"two", b"child", b"three", b"rc 0", b""]
    )
    assert "two\n" in done.text()
    assert "three" not in done.text()


def test_no_helper_stays_behind_and_no_descriptor_either(script: Script) -> None:
    done = script.run(
        """
        pids = helpers()
        note("helpers", len(pids))
        console.stop()
        until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in pids))
        before = os.listdir("/proc/self/fd")
        for _ in range(3):
            again = console_of()
            again.start()
            print("again")
            again.stop()
        note("more", len(os.listdir("/proc/self/fd")) - len(before))
        """
    )
    assert done.said("helpers") == [1]
    assert done.said("more") == [0]
    assert done.text() == "again\n" * 3


@pytest.mark.parametrize("order", ["first second", "second first"])
def test_two_consoles_may_end_in_any_order(script: Script, order: str) -> None:
    one, other = order.split()
    done = script.run(
        f"""
        first, second = console, console_of(lambda stream, text: note("second", text))
        second.start()
        print("both")
        {one}.stop()
        print("one")
        {other}.stop()
        print("none", flush=True)
        """
    )
    assert done.shown == b"both\none\nnone\n"
    assert "none" not in done.text() + "".join(done.said("second"))
    assert "both\n" in done.text()
    assert "both\n" in "".join(done.said("second"))
