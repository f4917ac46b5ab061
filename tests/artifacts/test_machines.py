"""Artifacts of several machines that did not see each other, and of machines that only write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import localstore
from localstore import Api, Artifact, settings
from localstore.errors import NotPermitted
from localstore.identity import now_us
from localstore.remotes import add_remote
from localstore.rotation import revoke_device
from localstore.tickets import enroll, make_ticket
from localstore.vault import Vault
from localstored.engine import sync_home
from tests.artifacts.conftest import carry, log, open_project, recover, state
from tests.keys.test_rotation import id_of

if TYPE_CHECKING:
    from pathlib import Path

    from localstore.layout import HomePaths


def exchange(one: HomePaths, other: HomePaths) -> None:
    """Both ways, twice, as syncs through a remote would."""
    carry(one, other)
    carry(other, one)


@pytest.fixture
def pair(home: HomePaths, laptop: HomePaths) -> tuple[HomePaths, HomePaths]:
    """Two machines of one person that know one project with one version."""
    log(home, {"a": "common"})
    recover(home, laptop)
    carry(home, laptop)
    return home, laptop


def test_versions_that_two_machines_made_apart_are_the_same_on_both(
    pair: tuple[HomePaths, HomePaths],
) -> None:
    home, laptop = pair
    log(home, {"a": "of the first"}, "model", "mine")
    log(laptop, {"a": "of the second"}, "model", "theirs")
    log(laptop, {"a": "of the second too"})
    exchange(home, laptop)

    here, there = state(home), state(laptop)
    assert here == there
    numbers = [version.number for version in here.versions]
    assert numbers == [0, 1, 1, 2]
    labels = [version.label for version in here.versions]
    assert labels[0] == "v0"
    assert labels[3] == "v2"
    assert labels[1] == "v1"
    assert labels[2].startswith("v1.")
    for machine in pair:
        api = Api(machine.root)
        assert api.artifact("model:mine").get_entry("a").read() == b"of the first"
        assert api.artifact("model:theirs").get_entry("a").read() == b"of the second"
        assert api.artifact(f"model:{labels[2]}").digest == here.versions[2].digest.hex()


def test_artifacts_travel_through_a_remote_and_deletions_too(
    home: HomePaths, laptop: HomePaths, tmp_path: Path
) -> None:
    log(home, {"a": "1" * 200_000}, "model", "best")
    recover(home, laptop)
    for machine in (home, laptop):
        add_remote(machine.root, "stick", str(tmp_path / "stick"))

    def sync(machine: HomePaths) -> None:
        report = sync_home(machine.root, recipients=Vault(machine).recipients())
        assert not report.failed
        assert not report.damaged

    sync(home)
    sync(laptop)
    assert Api(laptop.root).artifact("model:best").get_entry("a").read() == b"1" * 200_000
    log(laptop, {"a": "2"})
    Api(laptop.root).artifact("model:best").delete(delete_aliases=True)
    sync(laptop)
    sync(home)
    assert state(home) == state(laptop)
    assert [one.version for one in Api(home.root).artifacts(name="model")] == ["v1"]
    assert Api(home.root).problems == []


def test_latest_is_what_was_logged_last_on_any_machine(
    pair: tuple[HomePaths, HomePaths],
) -> None:
    home, laptop = pair
    log(laptop, {"a": "second"})
    log(home, {"a": "third"})
    exchange(home, laptop)

    for machine in pair:
        assert Api(machine.root).artifact("model").get_entry("a").read() == b"third"


def test_the_same_content_on_two_machines_is_one_version(
    pair: tuple[HomePaths, HomePaths],
) -> None:
    home, laptop = pair
    log(home, {"a": "between"})
    log(home, {"a": "same"})
    log(laptop, {"a": "same"})
    exchange(home, laptop)

    assert state(home) == state(laptop)
    version = state(home).find("latest")
    assert set(version.labels) <= {"v1", "v2"} | {one for one in version.labels if "." in one}
    assert len(state(home).versions) == 3
    assert len(version.runs) == 2


def test_what_one_machine_deletes_is_gone_on_the_other_whatever_that_did_meanwhile(
    pair: tuple[HomePaths, HomePaths],
) -> None:
    home, laptop = pair
    log(home, {"a": "second"})
    carry(home, laptop)
    Api(home.root).artifact("model:v0").delete()
    theirs = Api(laptop.root).artifact("model:v0")
    theirs.aliases.append("prod")
    theirs.save()
    exchange(home, laptop)

    assert state(home) == state(laptop)
    assert [version.label for version in state(home).versions] == ["v1"]
    assert "prod" not in state(home).aliases


def test_an_edit_that_saw_another_wins_on_both_machines(
    pair: tuple[HomePaths, HomePaths],
) -> None:
    home, laptop = pair
    first = Api(home.root).artifact("model")
    first.tags, first.description = ["a", "b"], "one"
    first.save()
    exchange(home, laptop)
    second = Api(laptop.root).artifact("model")
    second.tags, second.description = ["b", "c"], "two"
    second.save()
    exchange(home, laptop)

    assert state(home) == state(laptop)
    assert (state(home).versions[0].tags, state(home).versions[0].description) == (
        ("b", "c"),
        "two",
    )


def test_lineage_is_read_both_ways_on_every_machine(
    pair: tuple[HomePaths, HomePaths],
) -> None:
    home, laptop = pair
    with localstore.init(project="digits", dir=laptop.root) as run:
        used = run.use_artifact("model:v0")
        made = used.new_draft()
        with made.new_file("b") as file:
            file.write("more")
        run.log_artifact(made)
    exchange(home, laptop)

    for machine in pair:
        found = Api(machine.root).run(f"digits/{run.id}")
        assert [one.name for one in found.used_artifacts()] == ["model:v0"]
        assert [one.name for one in found.logged_artifacts()] == ["model:v1"]
        made_there = Api(machine.root).artifact("model:v1")
        by = made_there.logged_by()
        assert by is not None
        assert by.id == run.id
        assert made_there.source == f"{run.entity}/digits/{run.id}"
        assert [r.id for r in Api(machine.root).artifact("model:v0").used_by()] == [run.id]
        assert made_there.used_by() == []


def test_lineage_crosses_projects(home: HomePaths) -> None:
    log(home, {"a": "1"})
    with localstore.init(project="letters") as run:
        run.use_artifact("digits/model")
        run.use_artifact("digits/model:v0")

    found = Api().run(f"letters/{run.id}")
    assert len(found.lineage) == 1
    assert [one.qualified_name for one in found.used_artifacts()] == [
        f"{run.entity}/digits/model:v0"
    ]
    assert [one.id for one in Api().artifact("digits/model").used_by()] == [run.id]


def test_a_machine_that_only_writes_logs_versions_and_reads_none(
    home: HomePaths, laptop: HomePaths
) -> None:
    log(home, {"a": "1"})
    ticket = make_ticket(open_project(home), now_us() + 3_600_000_000)
    enroll(laptop, ticket, settings.load({"home": str(laptop.root)}))

    with localstore.init(project="digits", dir=laptop.root) as run:
        made = []
        for content in ("2", "3", "2"):
            artifact = Artifact("model", "model")
            with artifact.new_file("a") as file:
                file.write(content)
            made.append(run.log_artifact(artifact, aliases=["node"]).wait())
        assert [one.version for one in made] == ["v0", "v1", "v0"]
        assert made[0].digest == made[2].digest
        assert made[2].aliases == ["latest", "node"]
        with pytest.raises(NotPermitted):
            run.use_artifact("model:v0")
        run.use_artifact(made[1])
        with pytest.raises(NotPermitted):
            made[1].delete(delete_aliases=True)
    carry(laptop, home)

    api = Api(home.root)
    assert {one.get_entry("a").read() for one in api.artifacts(name="model")} == {
        b"1",
        b"2",
        b"3",
    }
    assert api.artifact("model:node").get_entry("a").read() == b"2"
    assert len({one.version for one in api.artifacts(name="model")}) == 3
    found = api.run(f"digits/{run.id}")
    assert len(found.logged_artifacts()) == 2
    assert len(found.used_artifacts()) == 1


def test_processes_of_a_machine_that_only_writes_give_different_numbers(
    home: HomePaths, laptop: HomePaths
) -> None:
    from localstore.artifacts import session

    log(home, {"a": "1"}, "other")
    ticket = make_ticket(open_project(home), now_us() + 3_600_000_000)
    enroll(laptop, ticket, settings.load({"home": str(laptop.root)}))
    for content in ("1", "2", "3"):
        log(laptop, {"a": content})
        session._own.clear()  # as another process, which knows nothing of the first one's
    carry(laptop, home)

    assert [version.label for version in state(home).versions] == ["v0", "v1", "v2"]


def test_versions_of_a_revoked_machine_are_kept_and_flagged(
    pair: tuple[HomePaths, HomePaths],
) -> None:
    home, laptop = pair
    log(laptop, {"a": "from the lost one"})
    carry(laptop, home)
    assert not any(one.flags for one in Api(home.root).artifacts(name="model"))
    revoke_device(home, id_of(home, laptop))
    log(laptop, {"a": "later, from the lost one"})
    carry(laptop, home)

    found = Api(home.root).artifacts(name="model")
    flagged = [one for one in found if one.flags]
    assert [one.get_entry("a").read() for one in flagged] == [
        b"later, from the lost one",
        b"from the lost one",
    ]
