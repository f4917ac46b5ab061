"""What a receipt proves may be pruned, nothing else, and a bundle brings it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from localstore.errors import NotFound, Refused
from localstored.pruning.prune import prune
from localstored.remotes.acknowledged import AcknowledgedRemote
from localstored.replica import replica_id
from tests.bundle.homes import acknowledge, device_of, export, file_receipt, import_
from tests.prune.makers import DAY_US, ended_run
from tests.sync.makers import NOW_US, Project, make_project, synced_bytes

if TYPE_CHECKING:
    from pathlib import Path

LATER_US = NOW_US + 2 * DAY_US


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with a run that ended long ago, with console."""
    made = make_project(tmp_path / "home")
    ended_run(made)
    return made


def pruned(home: Path, *names: str, days: int = 2, **words: object) -> int:
    """Prune everything that may go; returns how many files went."""
    report = prune(
        home,
        remotes=names or None,
        clock=lambda: NOW_US + days * DAY_US,
        grace_us=0,
        **words,  # type: ignore[arg-type]
    )
    return sum(one.logs + one.objects for one in report.projects)


def test_an_export_alone_lets_nothing_be_pruned(tmp_path: Path, project: Project) -> None:
    home, path = tmp_path / "home", tmp_path / "a.bundle"
    export(home, path)
    import_(tmp_path / "desk", path)
    before = synced_bytes(home)
    assert pruned(home) == 0
    with pytest.raises(NotFound):
        pruned(home, "desk")
    assert synced_bytes(home) == before


def test_what_a_receipt_proves_may_go_and_comes_back_with_a_bundle(
    tmp_path: Path, project: Project
) -> None:
    home, desk, path = tmp_path / "home", tmp_path / "desk", tmp_path / "a.bundle"
    assert export(home, path).ok
    assert import_(desk, path).ok
    acknowledge(desk, tmp_path / "r", bundle=path, signers=[device_of(project)])
    assert file_receipt(home, tmp_path / "r", name="desk").ok
    before = synced_bytes(home)
    assert pruned(home) == 0, "nobody named the destination"
    assert pruned(home, "desk") == 4, "metrics, system, media and its object; console never left"
    gone = before.keys() - synced_bytes(home).keys()
    assert gone <= synced_bytes(desk).keys()

    assert import_(home, path).ok
    assert before.keys() - synced_bytes(home).keys() == gone, "what was pruned stays away"
    assert export(desk, tmp_path / "back").ok
    taken = import_(home, tmp_path / "back", restore=True)
    assert taken.ok, taken.to_json()
    assert synced_bytes(home) == before


def test_what_changed_since_the_receipt_does_not_go(tmp_path: Path, project: Project) -> None:
    home, desk, path = tmp_path / "home", tmp_path / "desk", tmp_path / "a.bundle"
    export(home, path)
    import_(desk, path)
    acknowledge(desk, tmp_path / "r", bundle=path, signers=[device_of(project)])
    file_receipt(home, tmp_path / "r", name="desk")
    for log in home.glob("projects/*/runs/*/*.log"):
        log.write_bytes(log.read_bytes()[:-1])
    assert pruned(home, "desk") == 0


def test_a_destination_confirms_what_it_signed_for_and_takes_nothing(
    tmp_path: Path, project: Project
) -> None:
    home, desk, path = tmp_path / "home", tmp_path / "desk", tmp_path / "a.bundle"
    export(home, path)
    import_(desk, path)
    acknowledge(desk, tmp_path / "r", bundle=path, signers=[device_of(project)])
    file_receipt(home, tmp_path / "r", name="desk")
    remote = AcknowledgedRemote(home, replica_id(desk))
    name = f"projects/{project.id}/FORMAT"
    source = project.paths.root / "FORMAT"
    size = source.stat().st_size
    assert remote.have([name]) == {name: size}
    assert remote.confirm(name, size, source)
    assert not remote.confirm(name, size - 1, source)
    with pytest.raises(NotFound):
        remote.confirm(f"projects/{project.id}/links/{'00' * 32}", 1, source)
    for attack in (
        lambda: remote.read(name, 0, 1),
        lambda: remote.create(name, b"x"),
        lambda: remote.append(name, 0, b"x"),
        lambda: remote.delete(name),
        lambda: remote.have(["../x"]),
    ):
        with pytest.raises(Refused):
            attack()
    assert not list(remote.list(""))
    assert not list(remote.projects())
