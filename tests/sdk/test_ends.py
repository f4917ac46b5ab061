"""However a process ends, its run says how, and what was logged is there."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

import pytest

import localstore
from tests.sdk.scripts import column, only_run, points, run_script, start

if TYPE_CHECKING:
    from pathlib import Path

BEGIN = """
import os, sys, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
import localstore
run = localstore.init(project="ends")
run.log({"loss": 1.0})
"""


@pytest.mark.parametrize(
    ("ending", "state", "code"),
    [
        ("pass", "finished", 0),
        ("run.finish()", "finished", 0),
        ("run.finish(exit_code=3)", "failed", 3),
        ("localstore.finish()", "finished", 0),
        ("sys.exit()", "finished", 0),
        ("sys.exit(0)", "finished", 0),
        ("sys.exit(7)", "failed", 7),
        ("sys.exit('went wrong')", "failed", 1),
        ("exit(3)", "failed", 3),
        ("quit('went wrong')", "failed", 1),
        ("exit()", "finished", 0),
        ("raise ValueError('no')", "failed", 1),
        ("raise KeyboardInterrupt", "failed", 130),
        ("os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)", "failed", 143),
        ("os.kill(os.getpid(), signal.SIGINT); time.sleep(9)", "failed", 130),
        ("os._exit(5)", "crashed", None),
        ("os.kill(os.getpid(), signal.SIGKILL)", "crashed", None),
    ],
)
def test_the_end_of_a_process_is_the_state_of_its_run(
    ending: str, state: str, code: int | None
) -> None:
    run_script(BEGIN + ending)
    run = only_run()
    assert (run.state, run.exit_code) == (state, code)
    assert (column("loss", run), run.problems, run.gaps) == ([1.0], [], {})


@pytest.mark.parametrize(
    ("ending", "state", "code"),
    [
        ("pass", "finished", 0),
        ("raise ValueError('no')", "failed", 1),
        ("raise KeyboardInterrupt", "failed", 130),
        ("raise SystemExit(4)", "failed", 4),
    ],
)
def test_a_with_block_ends_its_run(ending: str, state: str, code: int) -> None:
    def block() -> None:
        with localstore.init(project="ends") as run:
            run.log({"loss": 1.0})
            exec(ending)  # noqa: S102

    if ending == "pass":
        block()
    else:
        with pytest.raises((ValueError, KeyboardInterrupt, SystemExit)):
            block()
    assert (only_run().state, only_run().exit_code) == (state, code)


def test_the_exit_code_of_the_script_is_its_own() -> None:
    assert run_script(BEGIN + "sys.exit(7)")[0] == 7
    assert run_script(BEGIN + "raise ValueError")[0] == 1
    assert run_script(BEGIN + "os.kill(os.getpid(), signal.SIGTERM); time.sleep(9)")[0] == 143


def test_a_thread_that_leaves_with_an_exit_code_fails_no_run() -> None:
    thread = "import threading\nthread = threading.Thread(target=sys.exit, args=(3,))\n"
    assert run_script(BEGIN + thread + "thread.start(); thread.join()")[0] == 0
    assert (only_run().state, only_run().exit_code) == ("finished", 0)


def test_a_handler_for_sigterm_that_the_script_has_is_left_alone() -> None:
    handler = "import signal, sys\nsignal.signal(signal.SIGTERM, lambda *_: print('mine'))\n"
    code, out, _ = run_script(
        handler + BEGIN + "os.kill(os.getpid(), signal.SIGTERM); run.log({'loss': 2.0})"
    )
    assert (code, out.strip()) == (0, "mine")
    assert column("loss") == [1.0, 2.0]


def test_a_run_is_running_while_its_process_lives_and_crashed_when_it_is_gone() -> None:
    process = start(BEGIN + "print('ready', flush=True); time.sleep(60)")
    assert process.stdout is not None
    process.stdout.readline()
    assert only_run().state == "running"
    assert column("loss") == [1.0]
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert only_run().state == "crashed"


def test_a_live_run_is_never_read_with_a_hole() -> None:
    process = start(
        BEGIN + "print(flush=True)\nfor i in range(10**7): run.log({'n': i}) or time.sleep(0.0001)"
    )
    try:
        before, until = 0, time.monotonic() + 4
        assert process.stdout is not None
        process.stdout.readline()
        while time.monotonic() < until:
            runs = localstore.Api().runs()
            if runs:
                found = column("n", runs[0])
                assert found == list(range(len(found)))
                assert len(found) >= before
                before = len(found)
    finally:
        process.kill()
        process.communicate()
    assert before > 1000


# ------------------------------------------------------------------ one process, many calls
def test_log_after_finish_is_not_recorded_and_raises_nothing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = localstore.init(project="ends")
    run.log({"loss": 1.0})
    run.finish()
    run.log({"loss": 2.0})
    run.log({"other": 2.0}, step=0)
    run.config["late"] = 1
    run.summary["late"] = 1
    run.define_metric("late")
    run.flush()
    assert column("loss") == [1.0]
    assert "late" not in only_run().config
    assert capsys.readouterr().err.count("not recorded") == 1


def test_finish_twice_is_finish_once() -> None:
    run = localstore.init(project="ends")
    run.finish()
    run.finish(exit_code=1)
    localstore.finish()
    assert only_run().state == "finished"


def test_two_runs_one_after_the_other_are_two_runs() -> None:
    for value in (1, 2):
        with localstore.init(project="ends", name=f"run {value}") as run:
            run.log({"loss": value})
    found = {run.name: column("loss", run) for run in localstore.Api().runs()}
    assert found == {"run 1": [1], "run 2": [2]}


def test_init_twice_gives_the_open_run() -> None:
    first = localstore.init(project="ends")
    assert localstore.init(project="ends", config={"other": 1}) is first
    assert localstore.run is first
    second = localstore.init(project="ends", reinit=True)
    assert (first.finished, second.finished) == (True, False)
    assert second.id != first.id
    second.finish()
    assert len(localstore.Api().runs()) == 2


@pytest.mark.parametrize(
    ("asked", "warned"),
    [
        ({}, False),
        ({"project": "ends", "name": "one", "id": "1"}, False),
        ({"project": "other"}, True),
        ({"name": "ends"}, True),
        ({"id": "2"}, True),
        ({"config": {"lr": 1}}, True),
    ],
)
def test_who_asks_for_another_run_while_one_is_open_is_told(
    asked: dict[str, Any], warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    with localstore.init(project="ends", name="one", id="1") as run:
        capsys.readouterr()
        assert localstore.init(**asked) is run
    assert ("is still open in project ends" in capsys.readouterr().err) is warned


def test_a_home_that_is_no_folder_is_named_without_the_number_of_the_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    localstore.init(project="ends", dir=tmp_path / "file").finish()
    said = capsys.readouterr().err.splitlines()[0]
    assert said.endswith(f"nothing will be recorded: {tmp_path / 'file'}: Not a directory")


def test_a_new_key_says_how_to_back_it_up_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LOCALSTORE_QUIET", "0")
    localstore.init(project="ends").finish()
    assert "back it up: localstore key recovery-code\n" in capsys.readouterr().err
    localstore.init(project="ends", dir=tmp_path / "a b").finish()
    command = f"localstore --home '{tmp_path}/a b' key recovery-code\n"
    assert f"back it up: {command}" in capsys.readouterr().err


def test_a_script_that_an_error_ends_shows_the_hint() -> None:
    _, _, err = run_script('import localstore; localstore.log({"a": 1})')
    assert err.endswith("there is no run\nhint: call localstore.init(project=...) first\n")


def test_tags_may_be_one_text() -> None:
    localstore.init(project="ends", tags="baseline, long").finish()
    assert only_run().tags == ["baseline", "long"]


def test_module_functions_speak_of_the_current_run() -> None:
    with pytest.raises(localstore.LocalStoreError, match="no run"):
        localstore.log({"a": 1})
    localstore.init(project="ends", config={"lr": 1})
    localstore.define_metric("loss", summary="min")
    localstore.log({"loss": 1})
    assert (localstore.config.lr, localstore.summary["loss"]) == (1, {"min": 1})
    localstore.finish()
    assert localstore.run is None


def test_a_disabled_run_takes_everything_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with localstore.init(project="ends", mode="disabled", config={"lr": 1}) as run:
        run.log({"loss": 2})
        run.log({"loss": 1}, step="soon")  # type: ignore[arg-type]
        run.log(5)  # type: ignore[arg-type]
        run.config.batch = 5
        run.config["lr"] = 2
        run.define_metric("loss", summary="min")
        run.summary["best"] = 1
        run.flush()
        assert (run.disabled, run.summary["loss"], run.summary["best"]) == (True, 1, 1)
        assert run.config["lr"] == 2
    monkeypatch.setenv("LOCALSTORE_MODE", "disabled")
    localstore.init(project="ends").finish()
    with pytest.raises(localstore.LocalStoreError):
        localstore.Api()


AUDIT = """
import sys, threading
seen = []
def hook(event, args):
    if event == "open" and isinstance(args[0], (str, bytes)):
        flags = args[2] or 0
        if flags & 0o3:
            seen.append((event, args[0], flags))
    elif event.startswith(("socket.", "subprocess.", "os.mkdir", "os.rename", "os.remove",
                           "os.system", "os.fork", "os.link", "os.symlink", "os.putenv",
                           "signal.", "_thread.start_new_thread", "sqlite3.")):
        seen.append((event, args))
sys.dont_write_bytecode = True
before = set(sys.modules)
sys.addaudithook(hook)
import localstore
print(seen, threading.active_count(), len(set(sys.modules) - before), sep="\\n")
import localstore.sdk.start, localstore.query.api
print(seen)
"""


def test_an_import_starts_no_thread_opens_no_socket_and_writes_nothing() -> None:
    code, out, err = run_script(AUDIT)
    assert code == 0, err
    seen, threads, modules, all_seen = out.splitlines()
    assert (seen, threads, all_seen) == ("[]", "1", "[]")
    assert int(modules) < 30


def test_a_killed_script_leaves_rows_in_order() -> None:
    process = start(BEGIN + "for i in range(10**7): run.log({'n': i})")
    time.sleep(2)
    process.kill()
    process.communicate()
    found = [row["_step"] for row in points()]
    assert found == list(range(len(found)))
    assert len(found) > 1000
