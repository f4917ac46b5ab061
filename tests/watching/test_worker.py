"""The process that the service starts: it begins, works, stops, and leaves nothing in clear."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from localstore.errors import BadSetting
from localstore.notify.notifiers import add_notifier
from localstore.vault import Vault
from localstore.watching import watches
from tests.watching.conftest import Bench, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def start(bench: Bench) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts workers as the service does: stdin is a pipe."""
    started: list[subprocess.Popen[str]] = []

    def begin(**more: Any) -> subprocess.Popen[str]:
        words = [sys.executable, "-m", "localstore.watching", "--worker"]
        words += ["--home", str(bench.home.root)]
        given: dict[str, Any] = {"stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
        process = subprocess.Popen(words, text=True, **{**given, **more})
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.wait(10)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                pipe.close()


def taken(bench: Bench, count: int) -> None:
    until(lambda: len(bench.versions()) >= count)
    assert len(bench.versions()) == count


@pytest.mark.parametrize("way", ["SIGTERM", "SIGINT", "stdin"])
def test_it_takes_what_comes_and_stops_when_told(bench: Bench, start: Any, way: str) -> None:
    bench.added()
    worker = start()
    bench.put("a.ckpt", b"1")
    taken(bench, 1)
    if way == "stdin":
        worker.stdin.close()
    else:
        worker.send_signal(getattr(signal, way))
    assert worker.wait(5) == 0


def test_a_killed_one_leaves_nothing_behind_that_the_next_one_trips_over(
    bench: Bench, start: Any
) -> None:
    bench.added()
    for number in range(3):
        worker = start()
        bench.put(f"{number}.ckpt", os.urandom(200_000))
        taken(bench, number + 1)
        worker.kill()
        worker.wait(5)
    worker = start()
    bench.put("last.ckpt", b"last")
    taken(bench, 4)


@pytest.mark.parametrize("after_s", [0.3, 0.5, 0.7])
def test_killed_at_any_moment_everything_is_taken_once_in_the_end(
    bench: Bench, start: Any, after_s: float
) -> None:
    bench.added()
    contents = {f"{number:02}.ckpt": os.urandom(20_000) for number in range(12)}
    for name, content in contents.items():
        bench.put(name, content)
    worker = start()
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(after_s)
    worker.kill()
    worker.wait(5)
    start()
    taken(bench, len(contents))
    found: dict[str, bytes] = {}
    for files in bench.contents():
        found |= files
    assert found == contents


def test_a_second_one_is_refused(bench: Bench, start: Any) -> None:
    bench.added()
    start()
    bench.put("a", b"1")
    taken(bench, 1)
    assert start().wait(10) == 73


def test_with_nothing_to_do_it_leaves_at_once(bench: Bench, start: Any) -> None:
    assert start().wait(10) == 0


def test_it_leaves_when_the_last_watch_is_forgotten(bench: Bench, start: Any) -> None:
    watch = bench.added()
    worker = start()
    bench.put("a", b"1")
    taken(bench, 1)
    watches.remove_watches(bench.home, [watch.id])
    assert worker.wait(10) == 0


def test_without_a_key_it_says_so_by_its_exit_code(bench: Bench, start: Any) -> None:
    bench.added()
    shutil.rmtree(bench.home.identity)
    assert start().wait(10) == 11


def test_with_another_key_it_says_that_the_settings_do_not_open(bench: Bench, start: Any) -> None:
    bench.added()
    text = watches.path_of(bench.home).read_text()
    watches.path_of(bench.home).write_text(text.replace('sealed = "', 'sealed = "AAAA'))
    assert start().wait(10) == 78


def test_without_a_key_it_stays_for_those_that_tell_of_remotes(bench: Bench, start: Any) -> None:
    add_notifier(bench.home, "own", "command", 1, words=("/bin/true",))
    shutil.rmtree(bench.home.identity)
    worker = start()
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(1.5)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(5) == 0


# ------------------------------------------------------------------ secrecy
def test_nothing_of_what_is_watched_stands_in_clear_in_the_home_or_in_the_journal(
    bench: Bench, start: Any, tmp_path: Path
) -> None:
    folder = tmp_path / "CANARY-folder"
    folder.mkdir()
    (folder / "CANARY-file.ckpt").write_bytes(b"CANARY-content")
    (folder / "CANARY-bad.ckpt").symlink_to("/etc/passwd")
    bench.added(
        folder=str(folder),
        name="CANARY-artifact",
        pattern="CANARY-*.ckpt",
        aliases=("CANARY-alias",),
        run="CANARY-run",
        complete_when="",
    )
    worker = start()
    until(lambda: bench.versions("CANARY-artifact"))
    worker.send_signal(signal.SIGTERM)
    _, said = worker.communicate(timeout=10)
    assert "CANARY" not in said
    assert "a name is passed over" in said
    assert all(re.match(r"\d{4}-\d\d-\d\dT[\d:]{8}Z warning ", line) for line in said.splitlines())
    for path in bench.home.root.rglob("*"):
        assert "CANARY" not in str(path)
        if path.is_file():
            assert b"CANARY" not in path.read_bytes()
            assert path.stat().st_mode & 0o077 == 0


def test_entries_do_not_open_under_another_id_or_key(bench: Bench) -> None:
    watch = bench.added()
    path = watches.path_of(bench.home)
    key = Vault(bench.home).load().home_key
    assert watches.read_watches(bench.home, key) == [watch]
    with pytest.raises(BadSetting, match="does not open"):
        watches.read_watches(bench.home, bytes(32))
    path.write_text(path.read_text().replace(watch.id, "f" * 16))
    with pytest.raises(BadSetting, match="does not open"):
        watches.read_watches(bench.home, key)


@pytest.mark.parametrize(
    "text",
    ["x = 1", "[watches.zz]\nsealed = 'x'", "[watches.0123456789abcdef]\nsealed = 1",
     "[watches.0123456789abcdef]\nsealed = 'x'\nmore = 1", "no toml", "watches = 3"],
)  # fmt: skip
def test_a_file_of_another_form_is_an_error_that_names_it(bench: Bench, text: str) -> None:
    watches.path_of(bench.home).write_text(text)
    with pytest.raises(BadSetting, match=r"watch\.toml"):
        watches.read_watches(bench.home, bytes(32))


def test_a_watch_of_any_folder_name_survives_the_file(bench: Bench) -> None:
    odd = os.fsdecode(b'/data/\xff\xfe "quoted" \\ \n')
    watch = bench.added(folder=odd, keep=3, aliases=("best", "new"), complete_when="{name}.ok")
    assert watches.read_watches(bench.home, Vault(bench.home).load().home_key) == [watch]


def test_another_key_ends_it_so_that_the_service_starts_one_that_has_it(
    bench: Bench, start: Any
) -> None:
    bench.added()
    worker = start()
    bench.put("a", b"1")
    taken(bench, 1)
    secret = next(bench.home.identity.glob("secret*"))
    os.utime(secret, ns=(1, 1))
    assert worker.wait(10) == 0


def test_one_entry_that_does_not_open_stops_no_other(bench: Bench, start: Any) -> None:
    bench.added(id="b" * 16)
    path = watches.path_of(bench.home)
    path.write_text(path.read_text().replace('sealed = "', 'sealed = "AAAA'))
    bench.added()
    worker = start()
    bench.put("a", b"1")
    taken(bench, 1)
    worker.send_signal(signal.SIGTERM)
    assert "an entry does not open" in worker.communicate(timeout=10)[1]
