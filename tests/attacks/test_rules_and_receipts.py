"""What stands between held data and the world, when somebody plays with the files around it."""

from __future__ import annotations

import os
import shutil
import threading
from typing import TYPE_CHECKING

import pytest

import localstore
from localstore.errors import BadSetting, Damaged, RemoteError, UsageError
from localstore.format.spec import DataClass
from localstore.layout import HomePaths
from localstore.policy.places import project_file, user_file
from localstore.remotes import add_remote, claim_folder
from localstored.bundles import carried
from localstored.bundles.destinations import acknowledged
from localstored.engine import sync_home
from localstored.policyfile import Book
from localstored.replica import replica_id
from tests.bundle.homes import acknowledge, device_of, export, file_receipt, import_
from tests.cli.conftest import call
from tests.policy.homes import opened, policy, what_leaves, with_stick
from tests.sync.makers import NOW_US, Project, make_project

if TYPE_CHECKING:
    from pathlib import Path

LATER_US = NOW_US + 10**9


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    return tmp_path / "desk"


@pytest.fixture
def project(home: Path) -> Project:
    made = make_project(home)
    made.log(made.run(), DataClass.ARTIFACTS, refs=[made.object(size=3000)])
    return made


# ------------------------------------------------------------------ policy files
@pytest.mark.parametrize("of_project", [False, True])
def test_a_policy_file_that_is_a_link_to_nothing_lets_nothing_leave(
    home: Path, tmp_path: Path, project: Project, *, of_project: bool
) -> None:
    file = project_file(project.paths) if of_project else user_file(home)
    file.parent.mkdir(parents=True, exist_ok=True)
    with_stick(home)
    before = Book.read(home)
    (tmp_path / "dotfiles").mkdir()
    (tmp_path / "dotfiles" / "policy.toml").write_text("[classes]\nartifacts = 'never'\n")
    file.symlink_to(tmp_path / "dotfiles" / "policy.toml")
    assert not before.is_current()
    linked = Book.read(home)
    assert not linked.problems()
    shutil.rmtree(tmp_path / "dotfiles")
    assert not linked.is_current()
    assert "link to a file that is not there" in str(Book.read(home).problems()[0])
    sync_home(home)
    assert not list((tmp_path / "stick").glob("projects/*/runs/*/*"))
    file.unlink()
    sync_home(home)
    assert list((tmp_path / "stick").glob("projects/*/runs/*/*.log"))


def test_a_writer_whose_policy_file_is_a_link_to_nothing_records_to_stay(home: Path) -> None:
    home.mkdir()
    user_file(home).symlink_to(home.parent / "nowhere")
    with localstore.init(project="p", dir=home, config={"key": "CANARY-1"}) as run:
        run.log({"loss": 1.0})
    user_file(home).unlink()
    leaves = what_leaves(home)
    (paths,) = HomePaths(home).all_projects()
    for name, may_leave in leaves.items():
        if may_leave:
            continue
        paths.file(name).unlink()
    assert not all(leaves.values())
    assert b"CANARY-1" not in opened(home)


def test_a_setting_does_not_take_the_place_of_rules_behind_a_link(
    home: Path, tmp_path: Path
) -> None:
    home.mkdir()
    there = tmp_path / "policy.toml"
    user_file(home).symlink_to(there)
    done = call("policy", "set", "classes.media", "auto")
    assert done.code == BadSetting.exit_code
    assert "link to a file that is not there" in done.err
    there.write_text("[classes]\nmeta = 'never'\n")
    assert call("policy", "set", "classes.media", "auto").code == 0
    assert user_file(home).is_symlink()
    assert "meta = 'never'" in there.read_text()
    assert 'media = "auto"' in there.read_text()


def test_no_name_of_a_run_moves_a_terminal(
    home: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("LOCALSTORE_QUIET")
    localstore.init(project="p\u202e", dir=home, name="ä \x1b[2J\x07\udcff").finish()
    said = capfd.readouterr().err
    assert "run ä ?[2J??" in said
    assert not {"\x1b", "\x07", "\u202e"} & set(said)


def test_no_name_of_a_place_moves_a_terminal(home: Path, tmp_path: Path) -> None:
    make_project(home)
    add_remote(home, "stick", str(tmp_path / "st\x1b[31mick"))
    for words in (("ls",), ("check", "stick"), ("rm", "stick")):
        done = call("remote", *words)
        assert done.code == 0
        assert "\x1b" not in done.out + done.err


@pytest.mark.parametrize("moment", ["empty", "away"])
def test_an_editor_that_is_saving_loosens_nothing(home: Path, moment: str) -> None:
    make_project(home)
    policy(home, "[classes]\nmedia = 'never'\n")
    (paths,) = HomePaths(home).all_projects()
    before = Book.read(home)
    backup = user_file(home).with_suffix(".toml~")
    if moment == "away":
        user_file(home).rename(backup)
    else:
        user_file(home).write_text("")
    assert not before.is_current()
    save = threading.Timer(0.05, policy, (home, "[classes]\nmedia = 'never'\ncode = 'never'\n"))
    save.start()
    try:
        assert before.renewed().rules(paths) == Book.read(home).rules(paths)
        assert len(Book.read(home).files(paths)[0].rules) == 2
    finally:
        save.join()


# ------------------------------------------------------------------ folders of others
def test_a_pipe_in_place_of_a_marker_holds_nobody_up(tmp_path: Path, home: Path) -> None:
    make_project(home)
    add_remote(home, "shared", str(tmp_path / "shared"))
    add_remote(home, "good", str(tmp_path / "good"))
    marker = tmp_path / "shared" / "LOCALSTORE-REMOTE"
    marker.unlink()
    os.mkfifo(marker)
    report = sync_home(home)
    assert list(report.failed) == ["shared"]
    assert list((tmp_path / "good").glob("projects/*/FORMAT"))
    with pytest.raises(RemoteError, match="is no file"):
        claim_folder(tmp_path / "shared")


def test_a_bundle_in_a_remotes_folder_does_not_pass_by_its_rules(
    home: Path, tmp_path: Path, project: Project
) -> None:
    add_remote(home, "cloud", str(tmp_path / "cloud"))
    policy(home, "[remotes.cloud.classes]\nartifacts = 'never'\n")
    sync_home(home)
    before = sorted((tmp_path / "cloud").rglob("*"))
    assert not [path for path in before if path.parent.parent.name == "objects"]
    (tmp_path / "link").symlink_to(tmp_path / "cloud")
    for folder in ("cloud", "link"):
        with pytest.raises(UsageError, match="is the remote 'cloud'"):
            export(home, tmp_path / folder, projects=[project.id], folder=True)
    assert sorted((tmp_path / "cloud").rglob("*")) == before


# ------------------------------------------------------------------ receipts
def arrive(home: Path, desk: Path, tmp_path: Path) -> None:
    assert export(home, tmp_path / "a.bundle").ok
    assert import_(desk, tmp_path / "a.bundle").ok


def held_objects(project: Project, desk: Path) -> list[str]:
    lines = acknowledged(project.paths, replica_id(desk)).values()
    return [line.name for line in lines if line.name.startswith("objects/") and line.size]


def test_an_old_receipt_does_not_bring_back_what_the_destination_has_lost(
    home: Path, desk: Path, tmp_path: Path, project: Project
) -> None:
    arrive(home, desk, tmp_path)
    by, old, part, new = [device_of(project)], tmp_path / "old", tmp_path / "part", tmp_path / "new"
    acknowledge(desk, old, signers=by)
    acknowledge(desk, part, bundle=tmp_path / "a.bundle", signers=by)
    assert file_receipt(home, old, name="desk").ok
    assert file_receipt(home, old).ok
    assert held_objects(project, desk)
    for path in desk.rglob("objects/*/*"):
        path.unlink()
    acknowledge(desk, new, signers=by, clock=lambda: LATER_US)
    assert file_receipt(home, new, clock=lambda: LATER_US).gone == 1
    for replayed in (old, part):
        report = file_receipt(home, replayed, clock=lambda: LATER_US)
        assert "younger receipt" in report.refused[0].reason
        assert not held_objects(project, desk)
        assert not report.ok


def test_a_receipt_of_a_time_to_come_does_not_shut_out_those_that_follow(
    home: Path, desk: Path, tmp_path: Path, project: Project
) -> None:
    arrive(home, desk, tmp_path)
    for number, at_us in enumerate((NOW_US + 10**15, NOW_US + 1)):
        out = tmp_path / f"receipt-{number}"
        acknowledge(desk, out, signers=[device_of(project)], clock=lambda at_us=at_us: at_us)
        assert file_receipt(home, out, name="desk").ok


def test_a_receipt_that_reads_otherwise_the_second_time_is_not_believed(
    home: Path,
    desk: Path,
    tmp_path: Path,
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    arrive(home, desk, tmp_path)
    receipt = tmp_path / "receipt"
    acknowledge(desk, receipt, signers=[device_of(project)])
    lines = receipt.read_bytes().splitlines(keepends=True)
    lost = next(line for line in lines if b'"objects/' in line)
    id_ = project.object(size=2000).hex()
    size = project.paths.file(f"objects/{id_[:2]}/{id_}").stat().st_size
    forged = f'{{"name":"objects/{id_[:2]}/{id_}","size":{size},"sha256":"{id_}"}}\n'.encode()

    def swapped(asked: Path) -> str:
        receipt.write_bytes(receipt.read_bytes().replace(lost, forged))
        return replica_id(asked)

    monkeypatch.setattr(carried, "replica_id", swapped)  # asked between the two readings
    with pytest.raises(Damaged, match="changed while it was read"):
        file_receipt(home, receipt, name="desk")
    assert not acknowledged(project.paths, replica_id(desk))
