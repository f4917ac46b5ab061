"""One name, made on machines that were apart, is one project to people."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import localstore
from localstore.format.spec import LinkKind
from localstore.layout import HomePaths
from localstore.projects import Projects
from localstore.vault import Vault
from tests.keys.conftest import carry, record, recover

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def apart(home: HomePaths, laptop: HomePaths, tmp_path: Path) -> list[HomePaths]:
    """Three machines of one person; each made `digits` on its own, the first one first."""
    record(home, project="first of all")
    desktop = HomePaths(tmp_path / "desktop")
    for machine in (laptop, desktop):
        recover(home, machine)
        paths = home.all_projects()[0]
        carry(home, machine)
        assert machine.project(paths.id).root.exists()
    machines = [home, laptop, desktop]
    for machine in machines:
        record(machine)
    return machines


def meet(machines: list[HomePaths]) -> None:
    for source in machines:
        for target in machines:
            if source is not target:
                carry(source, target)


def designated(home: HomePaths, name: str = "digits") -> str:
    return Projects(home, Vault(home).load()).named("", name)[0].paths.id


def place_of(home: HomePaths, run_id: str) -> str:
    run = localstore.Api(home.root).run(run_id)
    (folder,) = home.projects.glob(f"*/runs/{run.subject}")
    return folder.parent.parent.name


def test_projects_of_one_name_unite_when_machines_meet(apart: list[HomePaths]) -> None:
    oldest = designated(apart[0])
    assert len({designated(machine) for machine in apart}) == 3
    meet(apart)
    for machine in apart:
        assert len(localstore.Api(machine.root).runs("digits")) == 3
        assert designated(machine) == oldest
    written = [record(machine) for machine in apart]
    assert {place_of(m, run) for m, run in zip(apart, written, strict=True)} == {oldest}
    meet(apart)
    for machine in apart:
        assert len(localstore.Api(machine.root).runs("digits")) == 6


def test_two_machines_that_meet_agree_whatever_the_third_has(apart: list[HomePaths]) -> None:
    meet(apart[1:])
    assert designated(apart[1]) == designated(apart[2]) != designated(apart[0])
    meet(apart)
    assert len({designated(machine) for machine in apart}) == 1


def test_a_same_as_link_moves_the_designation_and_everybody_follows(
    apart: list[HomePaths],
) -> None:
    meet(apart)
    projects = Projects(apart[0], Vault(apart[0]).load()).named("", "digits")
    newest = projects[-1]
    projects[0].add_link(LinkKind.SAME_AS, {"project": newest.id})
    meet(apart)
    for machine in apart:
        assert designated(machine) == newest.paths.id


def test_new_runs_go_where_a_same_as_link_points(apart: list[HomePaths]) -> None:
    """Also where the name was looked up before: the pointer is only a memory."""
    meet(apart)
    record(apart[0])
    projects = Projects(apart[0], Vault(apart[0]).load()).named("", "digits")
    projects[0].add_link(LinkKind.SAME_AS, {"project": projects[-1].id})
    assert place_of(apart[0], record(apart[0])) == projects[-1].paths.id


# ------------------------------------------------------------------ the pointer
POINTERS = [
    b"",
    b"{",
    b"\xff\xfe",
    b"[]",
    b"{}",
    b'{"project": "", "folder": "", "seen": ""}',
    b'{"project": "../../etc", "folder": "", "seen": ""}',
    json.dumps({"project": "a" * 64, "folder": "", "seen": ""}).encode(),
    json.dumps({"project": "a" * 64, "folder": ".new-gone", "seen": ""}).encode(),
    json.dumps({"project": "a" * 64, "folder": "../../..", "seen": ""}).encode(),
    json.dumps({"project": "a" * 64, "folder": "", "seen": "old"}).encode(),
    json.dumps({"project": 7, "folder": None}).encode(),
]


@pytest.mark.parametrize("content", POINTERS)
def test_a_bad_pointer_costs_nothing(home: HomePaths, content: bytes) -> None:
    record(home)
    (pointer,) = home.names.iterdir()
    before = designated(home)
    pointer.write_bytes(content)
    run = localstore.init(project="digits", dir=home.root)
    run.log({"loss": 1.0})
    run.finish()
    assert designated(home) == before
    assert len(localstore.Api(home.root).runs("digits")) == 2
    assert len(home.all_projects()) == 1
    assert len(list(home.names.iterdir())) == 1


@pytest.mark.parametrize("content", POINTERS)
def test_a_bad_pointer_to_a_name_that_is_gone_makes_the_project_anew(
    home: HomePaths, content: bytes, tmp_path: Path
) -> None:
    record(home)
    (pointer,) = home.names.iterdir()
    home.all_projects()[0].root.rename(tmp_path / "elsewhere")
    pointer.write_bytes(content)
    run_id = record(home)
    assert localstore.Api(home.root).run(run_id).state == "finished"
    assert not list(home.projects.glob(".new-*"))
    assert len(list(home.names.iterdir())) == 1


def test_a_pointer_to_a_project_of_another_name_is_not_believed(home: HomePaths) -> None:
    record(home, project="one")
    (first,) = home.names.iterdir()
    record(home, project="two")
    (second,) = set(home.names.iterdir()) - {first}
    first.write_bytes(second.read_bytes())
    run_id = record(home, project="one")
    assert localstore.Api(home.root).run(f"one/{run_id}").project == "one"
