"""`localstore gc` and `localstore du`: what deleted things took, freed; what is left, counted."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

import localstore
from localstore.layout import HomePaths
from localstore.store.gc import TAKEN_PREFIX
from localstore.vault import Vault
from tests.cli.conftest import call

MB = 1_000_000


def home() -> HomePaths:
    """This test's home."""
    return HomePaths(Path(os.environ["LOCALSTORE_HOME"]))


def objects() -> list[Path]:
    """All object files of the home."""
    return sorted(path for path in home().root.glob("projects/*/objects/*/*") if path.is_file())


def save(folder: Path, name: str = "data", /, **contents: bytes) -> localstore.Artifact:
    """One version of an artifact with these files."""
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    for file, content in contents.items():
        (folder / file).write_bytes(content)
    artifact = localstore.Artifact(name, "dataset")
    artifact.add_dir(str(folder))
    return artifact.save(project="digits")


def freed(*words: str) -> dict[str, Any]:
    """Collect, and what the one project reports."""
    outcome = call("gc", "--json", "--grace", "0", *words)
    assert outcome.code == 0, outcome.err
    (project,) = json.loads(outcome.out)["projects"]
    return dict(project)


@pytest.fixture
def two_versions(tmp_path: Path) -> tuple[localstore.Artifact, localstore.Artifact]:
    """They share one file of 300 kB; each has one of 200 kB of its own."""
    shared, first, second = os.urandom(300_000), os.urandom(200_000), os.urandom(200_000)
    return (
        save(tmp_path / "data", shared=shared, own=first),
        save(tmp_path / "data", shared=shared, own=second),
    )


Two = tuple[localstore.Artifact, localstore.Artifact]


class TestGc:
    def test_what_is_in_use_stays(self, two_versions: Two) -> None:
        before = objects()
        assert freed()["freed"] == 0
        assert objects() == before
        outcome = call("gc", "--dry-run", "--grace", "0", LOCALSTORE_QUIET="0")
        assert outcome.out == ""
        assert "nothing here is unused" in outcome.err

    def test_a_deleted_version_gives_back_what_it_had_alone(
        self, two_versions: Two, tmp_path: Path
    ) -> None:
        first, second = two_versions
        first.delete(delete_aliases=True)
        found = freed("--dry-run")
        assert found["freed"] == 0
        listed = {one["object"] for one in found["unneeded"]}
        assert 200_000 <= sum(one["bytes"] for one in found["unneeded"]) < 215_000
        before = {path.name for path in objects()}
        found = freed()
        assert {path.name for path in objects()} == before - listed
        assert found["freed"] == len(listed)
        assert 200_000 <= found["freed_bytes"] < 215_000
        second.download(str(tmp_path / "back"))
        assert call("verify", "--read-data").code == 0

    def test_what_is_freed_can_be_logged_again(self, two_versions: Two, tmp_path: Path) -> None:
        first, _ = two_versions
        first.delete(delete_aliases=True)
        content = {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()}
        two_versions[1].delete(delete_aliases=True)
        freed()
        assert objects() == []
        again = save(tmp_path / "again", **content)
        assert again.version == "v2"
        again.download(str(tmp_path / "back"))

    def test_the_grace_keeps_what_is_young_and_says_so(self, two_versions: Two) -> None:
        two_versions[0].delete(delete_aliases=True)
        before = objects()
        outcome = call("gc", LOCALSTORE_QUIET="0")
        assert outcome.code == 0
        assert "may still be in use" in outcome.err
        assert objects() == before

    def test_people_read_what_would_go_and_what_went(self, two_versions: Two) -> None:
        two_versions[0].delete(delete_aliases=True)
        outcome = call("gc", "--dry-run", "--grace", "0", LOCALSTORE_QUIET="0")
        titles, *rows = outcome.out.splitlines()
        assert titles.split() == ["PROJECT", "OBJECT", "SIZE", "LAST", "USED"]
        assert all(row.startswith("ada/digits") for row in rows)
        assert "nothing refers to" in outcome.err
        outcome = call("gc", "--grace", "0", LOCALSTORE_QUIET="0")
        assert outcome.out.startswith("ada/digits  ")
        assert "freed 20" in outcome.err

    def test_a_deleted_run_gives_its_objects_back(self, tmp_path: Path) -> None:
        big = tmp_path / "model.bin"
        big.write_bytes(os.urandom(500_000))
        run = localstore.init(project="digits", id="first")
        run.save(str(big), base_path=str(tmp_path))
        run.finish()
        assert len(objects()) > 0
        (paths,) = home().all_projects()
        index = paths.local / "chunks" / "00"
        index.parent.mkdir(parents=True, exist_ok=True)
        index.touch()
        assert call("rm", "--now", "-y", "first").code == 0
        assert not index.exists(), "the sealed index of chunks holds keys of what was erased"
        assert freed()["freed_bytes"] >= 500_000
        assert objects() == []

    def test_a_damaged_log_holds_everything_and_is_named(self, two_versions: Two) -> None:
        two_versions[0].delete(delete_aliases=True)
        log = max(home().root.glob("projects/*/runs/*/*.log"), key=lambda path: path.stat().st_size)
        raw = bytearray(log.read_bytes())
        raw[-200] ^= 1
        log.write_bytes(raw)
        before = objects()
        outcome = call("gc", "--grace", "0")
        assert outcome.code == 20
        assert log.name in outcome.err
        assert objects() == before

    def test_what_a_killed_collector_took_away_comes_back(
        self, two_versions: Two, tmp_path: Path
    ) -> None:
        before = objects()
        for path in before:
            path.rename(path.with_name(f"{TAKEN_PREFIX}{path.name}-{'0' * 16}"))
        assert call("verify").code == 0
        assert freed()["returned"] == len(before)
        assert objects() == before
        two_versions[0].download(str(tmp_path / "back"))

    def test_it_needs_no_key(self, two_versions: Two) -> None:
        two_versions[0].delete(delete_aliases=True)
        (home().identity / "secret").rename(home().identity / "elsewhere")
        assert freed()["freed"] > 0

    def test_one_project_of_several(self, two_versions: Two) -> None:
        localstore.init(project="other").finish()
        assert len(json.loads(call("gc", "--json").out)["projects"]) == 2
        assert freed("-p", "digits")["name"] == "ada/digits"
        outcome = call("gc", "-p", "0" * 64)
        assert outcome.code == 66

    def test_a_grace_below_nothing_is_refused(self) -> None:
        assert call("gc", "--grace", "-1").code == 2

    def test_an_empty_home_has_nothing_to_free(self) -> None:
        assert json.loads(call("gc", "--json").out) == {"dry_run": False, "projects": []}
        assert call("du").out == ""

    def test_a_project_whose_founder_is_not_here_is_named_and_left_alone(
        self, two_versions: Two
    ) -> None:
        (paths,) = home().all_projects()
        for link in paths.links.iterdir():
            link.unlink()
        before = objects()
        outcome = call("gc", "--grace", "0")
        assert outcome.code == 20
        assert paths.id[:16] in outcome.err
        assert objects() == before


class TestDu:
    def usage(self) -> dict[str, Any]:
        """The only project."""
        (project,) = json.loads(call("du", "--json").out)["projects"]
        return dict(project)

    def test_versions_count_in_full_and_once_and_as_they_lie(self, two_versions: Two) -> None:
        (artifact,) = self.usage()["artifacts"]
        assert (artifact["name"], artifact["type"], artifact["versions"]) == ("data", "dataset", 2)
        assert artifact["logical"] == 1_000_000
        assert artifact["unique"] == 700_000
        stored = sum(path.stat().st_size for path in objects())
        assert artifact["stored"] == stored
        assert 700_000 < stored < 730_000

    def test_the_classes_add_up_to_all_files(self, two_versions: Two) -> None:
        found = self.usage()
        (paths,) = home().all_projects()
        size = sum(path.stat().st_size for path in paths.root.rglob("*") if path.is_file())
        assert abs(found["stored"] - size) < 20_000  # caches may be written meanwhile
        for what in ("logical", "unique", "stored"):
            assert found[what] == sum(one[what] for one in found["classes"].values())
        assert found["classes"]["artifacts"]["logical"] > 1_000_000

    def test_what_two_artifacts_share_is_counted_in_each_and_once_in_all(
        self, tmp_path: Path
    ) -> None:
        content = os.urandom(400_000)
        save(tmp_path / "a", "one", file=content)
        before = self.usage()["classes"]["artifacts"]["unique"]
        save(tmp_path / "b", "two", file=content)
        found = self.usage()
        assert [one["unique"] for one in found["artifacts"]] == [400_000, 400_000]
        assert found["classes"]["artifacts"]["unique"] - before < 10_000

    def test_files_of_runs_count_for_their_class(self, tmp_path: Path) -> None:
        file = tmp_path / "file.bin"
        file.write_bytes(os.urandom(200_000))
        for name in ("first", "second"):
            run = localstore.init(project="digits", id=name)
            run.save(str(file), base_path=str(tmp_path))
            run.finish()
        classes = self.usage()["classes"]
        logical = sum(one["logical"] for one in classes.values())
        unique = sum(one["unique"] for one in classes.values())
        assert logical - unique == 200_000

    def test_without_keys_only_what_is_stored_is_known(self, two_versions: Two) -> None:
        before = self.usage()
        (home().identity / "secret").rename(home().identity / "elsewhere")
        found = self.usage()
        assert found["name"] is None
        assert found["artifacts"] == []
        assert found["logical"] is None
        assert found["classes"]["artifacts"]["stored"] == before["classes"]["artifacts"]["stored"]
        assert "ada/digits" not in call("du").out

    def test_people_read_a_table(self, two_versions: Two) -> None:
        lines = call("du").out.splitlines()
        assert lines[0].split() == ["LOGICAL", "UNIQUE", "STORED"]
        assert lines[1].startswith("ada/digits ")
        assert any("data (dataset, 2 versions)" in line and "1.0 MB" in line for line in lines)

    def test_a_version_whose_manifest_is_elsewhere_counts_by_its_size(
        self, two_versions: Two
    ) -> None:
        for path in objects():
            path.unlink()
        (artifact,) = self.usage()["artifacts"]
        assert (artifact["logical"], artifact["unique"], artifact["stored"]) == (1_000_000, 0, 0)

    def test_a_damaged_manifest_is_named(self, two_versions: Two) -> None:
        for path in objects():
            path.write_bytes(path.read_bytes()[:-1])
        outcome = call("du")
        assert outcome.code == 20
        assert "data:v0" in outcome.err


def test_a_vault_that_asks_is_not_asked(two_versions: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Vault, "protected", lambda vault: True)
    assert freed()["name"] is None
