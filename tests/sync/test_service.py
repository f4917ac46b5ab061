"""`localstored` as a process, and the two commands of `localstore` that reach the engine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from localstore.cli.remote import remote
from localstore.cli.sync import sync as sync_group
from localstore.errors import AlreadyExists
from localstore.layout import HomePaths
from localstored.cli import Service, only_instance, read_recipients
from tests.sync.makers import TAG, make_project, synced_bytes, with_remote, write

if TYPE_CHECKING:
    from pathlib import Path

COMMAND = [sys.executable, "-c", "from localstored.cli import main; main()"]


def wait_until(condition: object, seconds: float = 20.0) -> None:
    """Wait for something that another process does."""
    assert callable(condition)
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class TestService:
    def test_once_syncs_and_exits(self, home: Path, stick: Path) -> None:
        make_project(home).run()
        done = subprocess.run(
            [*COMMAND, "--once", "--home", str(home)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("stick ")
        assert synced_bytes(stick) == synced_bytes(home)

    def test_once_says_and_returns_that_the_stick_is_away(self, home: Path, stick: Path) -> None:
        make_project(home).run()
        (stick / "LOCALSTORE-REMOTE").unlink()
        done = subprocess.run(
            [*COMMAND, "--once", "--home", str(home)], capture_output=True, text=True
        )
        assert done.returncode == 69
        assert "no localstore remote" in done.stderr

    def test_it_syncs_until_it_is_told_to_stop(self, home: Path, stick: Path) -> None:
        project = make_project(home)
        process = subprocess.Popen(
            [*COMMAND, "--interval", "1"],
            env={**os.environ, "LOCALSTORE_HOME": str(home)},
            stdout=subprocess.DEVNULL,
        )
        try:
            wait_until(lambda: synced_bytes(stick) == synced_bytes(home))
            second = subprocess.run(
                [*COMMAND, "--home", str(home)], capture_output=True, text=True, timeout=20
            )
            assert second.returncode == 73
            assert "another localstored" in second.stderr
            project.run()
            wait_until(lambda: synced_bytes(stick) == synced_bytes(home))
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0

    def test_killed_at_any_moment_it_goes_on_where_it_was(self, home: Path, stick: Path) -> None:
        project = make_project(home)
        for _ in range(8):
            project.run()
        project.log(project.run(), frames=4, size=4_000_000)
        for milliseconds in range(250, 800, 50):
            process = subprocess.Popen(
                [*COMMAND, "--once", "--home", str(home)], stdout=subprocess.DEVNULL
            )
            time.sleep(milliseconds / 1000)
            process.kill()
            process.wait()
            have = synced_bytes(home)
            for name, data in synced_bytes(stick).items():
                assert have[name].startswith(data)
        done = subprocess.run([*COMMAND, "--once", "--home", str(home)], stdout=subprocess.DEVNULL)
        assert done.returncode == 0
        assert synced_bytes(stick) == synced_bytes(home)

    def test_trouble_is_said_once_and_its_end_too(
        self, home: Path, stick: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        make_project(home).run()
        service, marker = Service(home), stick / "LOCALSTORE-REMOTE"
        text = marker.read_bytes()
        marker.unlink()
        assert not service.sync_once()
        assert not service.sync_once()
        assert capsys.readouterr().err.count("no localstore remote") == 1
        marker.write_bytes(text)
        assert service.sync_once()
        assert "well again" in capsys.readouterr().err

    def test_one_service_for_one_home(self, home: Path) -> None:
        with only_instance(home), pytest.raises(AlreadyExists), only_instance(home):
            pass
        with only_instance(home):
            pass

    def test_it_knows_whom_keyslots_address_without_a_key(self, home: Path) -> None:
        assert read_recipients(HomePaths(home)) == frozenset()
        write(home / "identity" / "recipients", f"{TAG}\n{'ab' * 16}".encode())
        assert read_recipients(HomePaths(home)) == {TAG, "ab" * 16}


class TestCommands:
    @pytest.fixture(autouse=True)
    def _home(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LOCALSTORE_HOME", str(home))

    def test_sync_now_prints_counts_and_exits_zero(self, home: Path, stick: Path) -> None:
        make_project(home).run()
        done = CliRunner().invoke(sync_group, ["now"])
        assert done.exit_code == 0, done.output
        assert " pushed 7 (" in done.stdout
        assert synced_bytes(stick) == synced_bytes(home)

    def test_on_a_terminal_projects_have_names(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        project = make_project(home)
        monkeypatch.setattr("localstore.cli.sync._names_for_a_person", lambda: {project.id: "a\tb"})
        done = CliRunner().invoke(sync_group, ["now"])
        assert done.stdout.startswith("stick a\\tb pushed 4 (")

    def test_sync_now_exits_69_when_something_did_not_leave(self, home: Path) -> None:
        log = make_project(home).log("ab" * 16)
        log.write_bytes(b"no segment" * 100)
        done = CliRunner().invoke(sync_group, ["now", "--remote", "stick"])
        assert done.exit_code == 69
        assert f"{log.stem}.log at byte 0: not a segment" in done.stderr

    def test_a_dry_run_prints_one_line_for_each_step(self, home: Path, stick: Path) -> None:
        make_project(home).run()
        done = CliRunner().invoke(sync_group, ["now", "--dry-run"])
        assert done.exit_code == 0
        assert len(done.stdout.splitlines()) == 7
        assert all(" push create " in line for line in done.stdout.splitlines())
        assert not (stick / "projects").exists()

    def test_json_is_alone_on_stdout(self, home: Path) -> None:
        project = make_project(home)
        done = CliRunner().invoke(sync_group, ["now", "--json", "--project", project.id])
        assert json.loads(done.stdout)["projects"][0]["pushed"] == 4

    def test_adding_a_remote_says_what_will_leave(self, home: Path, tmp_path: Path) -> None:
        done = CliRunner().invoke(remote, ["add", "lab disk", str(tmp_path / "lab")])
        assert done.exit_code == 0, done.output
        for line in ("meta, metrics, media, artifacts, code   yes", "console", "never"):
            assert line in done.stderr
        listed = CliRunner().invoke(remote, ["ls"]).stdout
        assert [line.split()[0] for line in listed.splitlines()] == ["stick", "lab"]
        assert CliRunner().invoke(remote, ["rm", "lab disk"]).exit_code == 0
        assert len(json.loads(CliRunner().invoke(remote, ["ls", "--json"]).stdout)) == 1
        assert (tmp_path / "lab" / "LOCALSTORE-REMOTE").exists()


def test_a_home_without_remotes_has_nothing_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCALSTORE_HOME", str(with_remote(tmp_path / "home", tmp_path / "s")))
    CliRunner().invoke(remote, ["rm", "stick"])
    done = CliRunner().invoke(sync_group, ["now"])
    assert done.exit_code == 0
    assert "nothing to sync: no remote" in done.stdout


def test_a_home_without_a_key_is_told_to_recover_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCALSTORE_HOME", str(tmp_path / "new"))
    CliRunner().invoke(remote, ["add", "stick", str(tmp_path / "s")])
    done = CliRunner().invoke(sync_group, ["now"])
    assert done.exit_code == 0
    assert "localstore key recover" in done.stdout
