"""`verify` names every damage and changes nothing; `repair` heals from a remote."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

import localstore
from localstore.check import Inspection, inspect_home
from localstore.cli.context import project_names
from localstore.cli.verify import verify
from localstore.format.segment import decode_header
from localstore.format.spec import DataClass
from localstore.remotes import add_remote
from localstore.vault import Vault
from localstored.engine import sync_home
from localstored.repair import RepairReport, repair_home
from tests.keys.conftest import record

if TYPE_CHECKING:
    from pathlib import Path

    from localstore.layout import HomePaths


def inspect(home: HomePaths, *, read_data: bool = True) -> Inspection:
    return inspect_home(home, Vault(home).load(), read_data=read_data)


def repair(home: HomePaths, *, dry_run: bool = False) -> RepairReport:
    return repair_home(home.root, inspect(home).to_heal(), dry_run=dry_run)


def files_of(home: HomePaths) -> dict[str, bytes]:
    (paths,) = home.all_projects()
    return {name: paths.file(name).read_bytes() for name in paths.names()}


@pytest.fixture
def synced(home: HomePaths, tmp_path: Path) -> HomePaths:
    for _ in range(3):
        record(home)
    add_remote(home.root, "stick", str(tmp_path / "stick"))
    assert sync_home(home.root).ok
    return home


def test_a_sound_store_has_nothing_wrong(synced: HomePaths) -> None:
    found = inspect(synced)
    assert found.findings == []
    assert found.opened == 6
    assert found.files == len(files_of(synced))


@pytest.mark.parametrize("seed", range(40))
def test_a_flipped_byte_anywhere_is_named_and_healed(synced: HomePaths, seed: int) -> None:
    before = files_of(synced)
    rng = random.Random(seed)
    name = rng.choice(sorted(before))
    (paths,) = synced.all_projects()
    raw = bytearray(before[name])
    raw[rng.randrange(len(raw))] ^= 1 << rng.randrange(8)
    paths.file(name).write_bytes(raw)

    found = inspect(synced)

    assert name in {one.file for one in found.findings}, name
    assert files_of(synced)[name] == bytes(raw), "verify changes nothing"
    report = repair(synced)
    assert report.ok, (name, report.failed, report.remotes)
    assert files_of(synced) == before
    assert list(paths.quarantine.iterdir()), "bad bytes are kept"
    assert inspect(synced).ok


def test_missing_files_are_named_and_come_back(synced: HomePaths) -> None:
    before = files_of(synced)
    (paths,) = synced.all_projects()
    shutil.rmtree(paths.runs)

    assert {one.kind for one in inspect(synced).findings} == {"missing"}
    assert repair(synced).ok
    assert files_of(synced) == before


def test_a_log_cut_short_is_missing_bytes_and_comes_back(synced: HomePaths) -> None:
    before = files_of(synced)
    (paths,) = synced.all_projects()
    log = next(paths.runs.glob("*/*.log"))
    log.write_bytes(log.read_bytes()[:-200])

    assert not inspect(synced, read_data=False).ok
    assert repair(synced).ok
    assert files_of(synced) == before


def test_a_dry_run_changes_nothing(synced: HomePaths) -> None:
    (paths,) = synced.all_projects()
    log = next(paths.runs.glob("*/*.log"))
    raw = bytearray(log.read_bytes())
    raw[-100] ^= 255
    log.write_bytes(raw)
    before = files_of(synced)

    report = repair(synced, dry_run=True)

    assert [one.name for one in report.healed] == [str(log.relative_to(paths.root))]
    assert files_of(synced) == before


def test_what_was_erased_on_purpose_is_not_missing(synced: HomePaths) -> None:
    run = localstore.Api(synced.root).runs("digits")[0]
    run.delete(now=True)
    assert inspect(synced).ok
    assert repair(synced).healed == []
    assert len(localstore.Api(synced.root).runs("digits")) == 2


def test_damage_that_no_remote_can_heal_is_said(home: HomePaths) -> None:
    record(home)
    (paths,) = home.all_projects()
    log = next(paths.runs.glob("*/*.log"))
    raw = bytearray(log.read_bytes())
    raw[-150] ^= 1
    log.write_bytes(raw)
    report = repair(home)
    assert not report.ok
    assert report.failed[0][0].endswith(log.name)
    assert log.read_bytes() == bytes(raw)


def test_a_remote_with_the_same_damage_heals_nothing(synced: HomePaths, tmp_path: Path) -> None:
    (paths,) = synced.all_projects()
    log = next(paths.runs.glob("*/*.log"))
    there = tmp_path / "stick" / "projects" / paths.id / log.relative_to(paths.root)
    for path in (log, there):
        raw = bytearray(path.read_bytes())
        raw[-150] ^= 1
        path.chmod(0o600)
        path.write_bytes(raw)
    assert not repair(synced).ok


def test_later_frames_that_the_remote_lacks_are_kept(home: HomePaths, tmp_path: Path) -> None:
    """The remote is behind: what it has is healed, what is beyond it stays."""
    run = localstore.init(project="digits", dir=home.root)
    for step in range(3000):
        run.log({"loss": float(step)})
    run.flush()
    add_remote(home.root, "stick", str(tmp_path / "stick"))
    sync_home(home.root)
    for step in range(3000):
        run.log({"loss": float(step)})
    run.finish()
    before = files_of(home)
    (paths,) = home.all_projects()
    log = max(paths.runs.glob("*/*.log"), key=lambda path: path.stat().st_size)
    raw = bytearray(log.read_bytes())
    raw[2000] ^= 1
    log.write_bytes(raw)

    assert repair(home).ok
    assert files_of(home) == before


def log_of(home: HomePaths, data_class: DataClass) -> Path:
    (paths,) = home.all_projects()
    logs = list(paths.runs.glob("*/*.log"))
    return next(log for log in logs if decode_header(log.read_bytes())[0].data_class == data_class)


def test_a_withheld_log_is_missed_even_without_any_remote(home: HomePaths) -> None:
    """The writer's last record names the logs that it closed."""
    run_id = record(home)
    log = log_of(home, DataClass.METRICS)
    whole = log.read_bytes()
    log.unlink()

    assert [one.kind for one in inspect(home).findings] == ["missing"]
    run = localstore.Api(home.root).run(run_id)
    run.history(pandas=False)
    assert "not here" in run.problems[0]
    log.write_bytes(whole)
    assert inspect(home).ok


def test_a_run_whose_meta_log_is_withheld_is_missed(home: HomePaths) -> None:
    record(home)
    log_of(home, DataClass.META).unlink()
    assert [one.kind for one in inspect(home).findings] == ["missing"]


def test_a_log_cut_before_its_final_head_is_missed_without_any_remote(home: HomePaths) -> None:
    record(home)
    log = log_of(home, DataClass.METRICS)
    log.write_bytes(log.read_bytes()[:-148])
    assert not inspect(home).ok


def test_verify_counts_what_it_found_and_says_who_heals(
    synced: HomePaths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOCALSTORE_QUIET", "0")
    (paths,) = synced.all_projects()
    path = next(paths.runs.rglob("*.log"))
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(raw)
    done = CliRunner().invoke(verify)
    assert done.exit_code == 20
    assert done.stdout.startswith("damaged: ")
    assert done.stdout.endswith(": 1 finding\n")
    assert done.stderr == "localstore: `localstore repair` takes good bytes from a remote\n"


def test_projects_have_names_for_who_has_the_key(synced: HomePaths) -> None:
    (paths,) = synced.all_projects()
    vault = Vault(synced)
    assert project_names() == {paths.id: f"{vault.load().user_name}/digits"}
    vault.save(vault.load(), "sesame")
    assert project_names() == {}
