"""What a script prints reaches its terminal unchanged, whatever happens, and is taken down."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.surroundings.scripts import LIMIT_S, Script

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def script(tmp_path: Path) -> Script:
    return Script(tmp_path)


EVERY_WAY = """
    print("python")
    sys.stdout.flush()
    os.write(1, b"system call\\n")
    libc = ctypes.CDLL(None)
    libc.puts(b"C")
    libc.fflush(None)
    subprocess.run(["echo", "child"])
    os.system("echo grandchild")
    print("error", file=sys.stderr, flush=True)
    print("end")
"""
ALL_OF_IT = "python\nsystem call\nC\nchild\ngrandchild\nerror\nend\n"


def test_every_way_to_print_is_shown_and_taken_down_in_order(script: Script) -> None:
    done = script.run(EVERY_WAY + "\n    console.stop()", together=True)
    assert (done.code, done.shown.decode()) == (0, ALL_OF_IT)
    assert (done.text(), done.text(2), done.dropped) == (ALL_OF_IT, "", 0)


def test_two_places_stay_two_places(script: Script) -> None:
    done = script.run(EVERY_WAY + "\n    console.stop()")
    out = ALL_OF_IT.replace("error\n", "")
    assert (done.shown.decode(), done.errors) == (out, b"error\n")
    assert (done.text(), done.text(2)) == (out, "error\n")


def test_the_order_of_output_and_errors_to_one_place_is_exact(script: Script) -> None:
    done = script.run(
        """
        for number in range(20_000):
            os.write(1 + number % 2, b"%d\\n" % number)
        """,
        together=True,
    )
    assert done.shown == b"".join(b"%d\n" % number for number in range(20_000))


def test_bytes_that_are_no_text_arrive_unchanged(script: Script) -> None:
    body = "sys.stdout.buffer.write(bytes(range(256)) * 5000)"
    assert script.run(body).shown == bytes(range(256)) * 5000


def test_bytes_that_look_like_the_end_of_output_are_not_held_back(script: Script) -> None:
    body = 'os.write(1, b"\\xff"); note("wrote", 1); os.read(0, 1); os.write(1, b"\\xff\\x00")'
    with subprocess.Popen(
        script.command(body), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.read(1) == b"\xff"
        process.stdin.write(b"x")
        assert process.stdout.read(2) + process.stdout.read(2) == b"\xff\x00"


def test_a_flood_arrives_whole(script: Script) -> None:
    done = script.run(
        """
        block = bytes(range(32, 127)) * 1000 + b"\\n"
        for _ in range(300):
            sys.stdout.buffer.write(block)
        console.stop()
        """
    )
    assert done.shown == (bytes(range(32, 127)) * 1000 + b"\n") * 300
    taken = done.text().replace("\n", "")
    assert len(taken) + done.dropped >= 300 * 95 * 1000


def test_a_progress_bar_is_taken_down_once_and_shown_each_time(script: Script) -> None:
    done = script.run(
        """
        for number in range(101):
            print(f"\\r{number:3d}% |{'#' * (number // 10):10s}|", end="", file=sys.stderr)
        print(file=sys.stderr)
        console.stop()
        """
    )
    assert done.errors.count(b"\r") == 101
    assert done.text(2) == "100% |##########|\n"


# -------------------------------------------------------------- ends
@pytest.mark.parametrize(
    "end",
    ["", "console.stop()", "console.stop(); console.stop()", "sys.exit(0)", "os._exit(0)"],
)
def test_nothing_is_lost_however_the_script_ends(script: Script, end: str) -> None:
    body = f"""
        for number in range(5000):
            print("line", number)
        sys.stdout.flush()
        {end}
        """
    done = script.run(body)
    assert done.code == 0
    assert done.shown == b"".join(b"line %d\n" % number for number in range(5000))


def test_what_is_printed_after_the_end_is_shown_and_not_taken_down(script: Script) -> None:
    done = script.run("print('before'); console.stop(); print('after')")
    assert done.shown == b"before\nafter\n"
    assert done.text() == "before\n"


def test_sigkill_loses_nothing_that_was_printed(script: Script) -> None:
    done = script.run(
        """
        for number in range(20_000):
            os.write(1, b"line %d\\n" % number)
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    assert done.code == -signal.SIGKILL
    assert done.shown == b"".join(b"line %d\n" % number for number in range(20_000))


def test_a_kill_of_the_whole_group_loses_nothing_that_was_printed(script: Script) -> None:
    body = """
        os.setpgid(0, 0)
        os.write(1, b"last words\\n" * 1000)
        os.killpg(0, signal.SIGKILL)
        """
    assert script.run(body).shown == b"last words\n" * 1000


def test_the_dump_of_a_crash_is_shown(script: Script) -> None:
    done = script.run("faulthandler.enable(); os.kill(os.getpid(), signal.SIGSEGV)")
    assert done.code == -signal.SIGSEGV
    assert b"Segmentation fault" in done.errors
    assert b"script.py" in done.errors


def test_c_code_that_prints_much_with_the_interpreter_locked_does_not_hang(script: Script) -> None:
    done = script.run(
        """
        block = b"x" * 999_999 + b"\\n"
        libc = ctypes.PyDLL(None)  # keeps the interpreter's lock while it calls
        written = libc.write(1, block, len(block))
        note("written", written)
        """
    )
    assert done.said("written") == [1_000_000]
    assert len(done.shown) == 1_000_000


def test_a_child_that_outlives_the_script_goes_on_printing(script: Script) -> None:
    done = script.run(
        """
        code = "import sys, time\\nfor n in range(20): time.sleep(.05); print(n, flush=True)"
        subprocess.Popen([sys.executable, "-c", code + "\\nprint('well', file=sys.stderr)"])
        print("parent", flush=True)
        console.stop()
        """
    )
    assert done.shown == b"parent\n" + b"".join(b"%d\n" % number for number in range(20))
    assert done.errors == b"well\n"
    assert done.text().startswith("parent\n")


def test_a_child_goes_on_printing_after_the_script_was_killed(script: Script) -> None:
    done = script.run(
        """
        code = "import sys, time\\nfor n in range(20): time.sleep(.05); print(n, flush=True)"
        subprocess.Popen([sys.executable, "-c", code + "\\nprint('well', file=sys.stderr)"])
        os.kill(os.getpid(), signal.SIGKILL)
        """
    )
    assert done.shown == b"".join(b"%d\n" % number for number in range(20))
    assert done.errors == b"well\n"


def test_a_reader_that_goes_away_does_not_end_training(script: Script) -> None:
    body = """
        for _ in range(1000):
            print("x" * 1000, flush=True)
        console.stop()
        note("done", True)
        """
    with subprocess.Popen(script.command(body), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        process.wait(LIMIT_S)
    done = script.outcome(process.returncode, b"")
    assert done.said("done") == [True]
    assert done.text().count("\n") == 1000


# -------------------------------------------------------------- forks
def test_what_a_forked_child_prints_is_taken_down_and_its_end_ends_nothing(script: Script) -> None:
    done = script.run(
        """
        print("before", flush=True)
        child = os.fork()
        if not child:
            console.after_fork()
            print("child", flush=True)
            console.stop()
            os._exit(0)
        os.waitpid(child, 0)
        print("parent")
        console.stop()
        """
    )
    assert done.shown == b"before\nchild\nparent\n"
    assert done.text() == "before\nchild\nparent\n"


@pytest.mark.parametrize("how", ["fork", "spawn"])
def test_workers_print_as_ever(script: Script, how: str) -> None:
    done = script.run(
        f"""
        if __name__ == "__main__":
            process = multiprocessing.get_context("{how}").Process(target=print, args=("worker",))
            process.start()
            process.join()
            console.stop()
            note("code", process.exitcode)
        """
    )
    assert b"worker\n" in done.shown
    assert done.said("code") == [0]


def test_a_script_that_waits_for_its_children_meets_no_stranger(script: Script) -> None:
    done = script.run(
        """
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            note("alone", True)
        """
    )
    assert done.said("alone") == [True]


# -------------------------------------------------------------- callbacks
def test_a_callback_that_stands_still_holds_nothing_up_and_what_it_missed_is_counted(
    script: Script,
) -> None:
    done = script.run(
        """
        console.stop()
        gate = threading.Event()

        def slow(stream, text):
            gate.wait()
            note("text", stream, text)

        second = console_of(slow)
        second.start()
        for _ in range(30_000):
            os.write(1, b"x" * 999 + b"\\n")
        gate.set()
        second.stop()
        """
    )
    assert len(done.shown) == 30_000_000
    assert done.dropped > 0
    notices = [line for line in done.text(2).splitlines() if "too fast" in line]
    assert 1 <= len(notices) <= 2
    # A line of which a part is missing may be joined to the next one.
    assert len(done.text()) + done.dropped == pytest.approx(30_000_000, abs=100_000)


def test_a_callback_that_raises_is_asked_again(script: Script) -> None:
    done = script.run(
        """
        console.stop()
        def bad(stream, text):
            raise RuntimeError(text)
        second = console_of(bad)
        second.start()
        print("one", flush=True)
        until(lambda: second.failures)
        print("two")
        second.stop()
        note("failures", second.failures)
        """
    )
    assert (done.code, done.shown, done.errors) == (0, b"one\ntwo\n", b"")
    assert done.said("failures") == [2]
    assert done.dropped == len("one\ntwo\n")


def test_limits_leave_out_and_count(script: Script) -> None:
    done = script.run(
        """
        console.stop()
        second = Console(
            lambda stream, text: note("text", stream, text),
            max_bytes_per_s=100,
            max_total_bytes=1e9,
            on_dropped=lambda count: note("dropped", count),
        )
        second.start()
        for number in range(10_000):
            print(f"{number:09d}")
        second.stop()
        """
    )
    assert len(done.shown) == 100_000
    assert len(done.text()) + done.dropped == 100_000
    assert 0 < len(done.text()) <= 3000
    assert "were too fast" in done.text(2)


def test_a_start_changes_no_flag_of_the_original(script: Script) -> None:
    read, write = os.pipe()
    before = fcntl.fcntl(write, fcntl.F_GETFL)
    subprocess.run(script.command("console.stop()"), stdout=write, timeout=LIMIT_S)
    assert fcntl.fcntl(write, fcntl.F_GETFL) == before
    os.close(read)
    os.close(write)


def test_a_terminal_that_stands_still_holds_back_the_output_and_not_the_end(script: Script) -> None:
    body = """
        from localstore.surroundings import console as module
        module._STOP_TIMEOUT_S = 0.2
        os.write(1, b"x" * 100_000)  # 65,536 fit into the pipe that nobody reads yet
        console.stop()
        note("done", True)
        """
    with subprocess.Popen(script.command(body), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.wait(LIMIT_S) == 0
        assert process.stdout.read() == b"x" * 100_000
    assert script.outcome(0, b"").said("done") == [True]


def test_a_script_with_very_many_open_files_is_heard(script: Script) -> None:
    done = script.run(
        """
        import resource
        console.stop()
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 2000), hard))
        files = [os.dup(0) for _ in range(1200)]
        second = console_of()
        second.start()
        print("heard")
        second.stop()
        """
    )
    assert (done.shown, done.text()) == (b"heard\n", "heard\n")


def test_many_threads_print_whole_lines(script: Script) -> None:
    done = script.run(
        """
        def work(name):
            for number in range(500):
                os.write(1, f"{name} {number}\\n".encode())

        threads = [threading.Thread(target=work, args=(name,)) for name in "abcdefgh"]
        for thread in threads: thread.start()
        for thread in threads: thread.join()
        console.stop()
        """
    )
    wanted = sorted(f"{name} {number}" for name in "abcdefgh" for number in range(500))
    assert sorted(done.shown.decode().splitlines()) == wanted
    assert sorted(done.text().splitlines()) == wanted
