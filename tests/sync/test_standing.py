"""How far a project is on a remote is told from what is here, without asking the remote."""

from __future__ import annotations

import contextlib
import json
import secrets
import sqlite3
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from localstore.format.spec import DataClass
from localstored.engine import standing
from localstored.remotes.memory import MemoryRemote
from tests.sync.conftest import sync, sync_with
from tests.sync.makers import NOW_US, Log, Project, frame, make_project, synced_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from localstored.standing import Standing


def stand(home: Path) -> Standing:
    """How the one project stands on the one remote."""
    (found,) = standing(home, clock=lambda: NOW_US)
    return found


def items(found: Standing) -> int:
    return sum(tally["items"] for tally in found.held.values())


def test_before_the_first_sync_everything_is_behind(home: Path) -> None:
    make_project(home).run()
    found = stand(home)
    assert found.behind_items == len(synced_bytes(home))
    assert found.behind_bytes == sum(map(len, synced_bytes(home).values()))
    assert found.last_receipt_us is None


def test_after_a_sync_nothing_is_and_the_last_receipt_is_told(home: Path, stick: Path) -> None:
    make_project(home).run()
    report = sync(home)
    (stick / "LOCALSTORE-REMOTE").unlink()  # it is pulled: nobody asks it
    found = stand(home)
    assert (found.behind_items, found.behind_bytes, found.held) == (0, 0, {})
    assert found.last_receipt_us == NOW_US
    assert report.projects[0].standing.to_json()["behind_items"] == 0


def test_what_grew_since_is_behind_by_so_many_bytes(home: Path) -> None:
    project = make_project(home)
    log, grown = project.log(secrets.token_hex(16)), frame(3)
    sync(home)
    with log.open("ab") as file:
        file.write(grown)
    found = stand(home)
    assert (found.behind_items, found.behind_bytes) == (1, len(grown))


def test_what_is_held_is_counted_by_reason_whether_or_not_it_was_looked_at(home: Path) -> None:
    project = make_project(home)
    logs = [project.log(project.run(), DataClass.CONSOLE) for _ in range(3)]
    hidden = Log(project, secrets.token_hex(16), DataClass.CONSOLE)
    hidden.ref(project.object())
    reports = [sync(home) for _ in range(3)]

    for report in reports:
        held = report.projects[0].standing.held
        assert sum(tally.items for tally in held.values()) == 5
    assert reports[0].projects[0].held.total == 5
    assert reports[2].projects[0].held.total == 0, "nothing changed, so nothing is looked at"
    found = stand(home)
    assert items(found) == 5
    (console,) = [tally for reason, tally in found.held.items() if "only" not in reason]
    assert console["items"] == 4
    size = sum(log.stat().st_size for log in (*logs, hidden.path))
    assert console["bytes"] == size
    assert json.loads(json.dumps(found.to_json()))["held"] == found.held


def test_what_a_rule_lets_go_later_leaves_though_no_file_changed(home: Path, stick: Path) -> None:
    (home / "policy.toml").write_text('[classes]\nmedia = "never"\n')
    project = make_project(home)
    log = Log(project, secrets.token_hex(16), DataClass.MEDIA)
    one = project.object(DataClass.MEDIA)
    log.ref(one)
    for _ in range(2):
        assert sync(home).ok
    assert items(stand(home)) == 2
    assert not list(stick.rglob(one.hex()))
    (home / "policy.toml").write_text('[classes]\nmedia = "auto"\n')
    assert stand(home).behind_items == 2
    report = sync(home)
    assert report.projects[0].pushed == 2
    assert list(stick.rglob(one.hex()))
    assert items(stand(home)) == 0


def test_what_leaves_by_hand_alone_waits_for_a_hand(home: Path, stick: Path) -> None:
    (home / "policy.toml").write_text('[classes]\nmedia = "manual"\n')
    log = Log(make_project(home), secrets.token_hex(16), DataClass.MEDIA)
    log.records()
    for _ in range(2):
        assert sync(home, manual=False).moved + 1 > 0
        assert not list(stick.rglob(log.path.name))
    assert sync(home, manual=True).projects[0].pushed == 1


def test_asking_changes_nothing_for_the_next_sync(home: Path) -> None:
    project = make_project(home)
    project.log(project.run(), DataClass.CONSOLE)
    before = stand(home)
    assert sync(home).projects[0].pushed == before.behind_items
    assert stand(home).behind_items == 0


def test_whoever_asks_does_not_wait_for_a_sync_that_writes_to_the_catalog(home: Path) -> None:
    project = make_project(home)
    project.run()
    sync(home)
    project.run()
    with contextlib.closing(
        sqlite3.connect(home / f"projects/{project.id}/local/catalog.db")
    ) as db:
        db.execute("begin immediate")
        db.execute("delete from parts")
        assert stand(home).behind_items > 0
        db.rollback()
    assert sync(home).ok
    assert stand(home).behind_items == 0


class Slow(MemoryRemote):
    """Takes its second object only when somebody else could write to the catalog meanwhile."""

    def __init__(self, catalog: Path) -> None:
        super().__init__()
        self.catalog, self.asked = catalog, 0

    def create(self, name: str, data: bytes) -> None:
        """As a remote does, for as long as that takes."""
        self.asked += "/objects/" in name
        if "/objects/" in name and self.asked == 2:
            with contextlib.closing(sqlite3.connect(self.catalog, timeout=10)) as db:
                db.execute("begin immediate")
        super().create(name, data)


def test_while_a_file_takes_its_time_the_catalog_is_free(home: Path) -> None:
    project = make_project(home)
    log = Log(project, secrets.token_hex(16), DataClass.MEDIA)
    for _ in range(3):
        log.ref(project.object(DataClass.MEDIA))
    remote = Slow(home / f"projects/{project.id}/local/catalog.db")
    report = sync_with(home, remote, clock=lambda: time.time_ns() // 1000)
    assert (report.ok, remote.asked) == (True, 3), report


def test_a_part_of_another_project_says_nothing(home: Path) -> None:
    first = make_project(home)
    first.run()
    sync(home)
    second: Project = make_project(home)
    second.run()
    by_project = {one.project: one.behind_items for one in standing(home, clock=lambda: NOW_US)}
    assert by_project == {first.id: 0, second.id: 7}


def test_a_sync_loads_no_library_for_tables_of_numbers(home: Path, stick: Path) -> None:
    make_project(home).run()
    program = (
        "import sys; from pathlib import Path; from localstored.engine import sync_home;"
        f" assert sync_home(Path({str(home)!r})).moved;"
        " assert 'sqlite_utils' in sys.modules;"
        " sys.exit(bool({'numpy', 'pandas'} & sys.modules.keys()))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0
