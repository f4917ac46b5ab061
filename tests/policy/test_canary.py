"""What is held never arrives: canaries in every class, rule and redaction, under random rules."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from localstore.layout import HomePaths
from localstore.policy.editing import toml_text
from localstore.policy.places import user_file
from localstored.engine import sync_home
from localstored.remotes import open_remote
from tests.policy.homes import opened, policy, what_leaves, with_stick
from tests.policy.recorded import CLASSES, Witness, canary, record

if TYPE_CHECKING:
    from pathlib import Path

    from localstore.remotes import RemoteEntry

ALWAYS = """
[redact]
config = "redacted"
[keep_local]
config = "*local"
[rules.held]
artifact_name = "secret-*"
leave = "never"
"""


def sync(home: Path, *, manual: bool) -> tuple[Witness, Any]:
    """One sync with a remote that keeps all that it is told."""
    witnesses: list[Witness] = []

    def opener(entry: RemoteEntry) -> Witness:
        witnesses.append(Witness(open_remote(entry)))
        return witnesses[-1]

    with_stick(home)
    report = sync_home(home, manual=manual, opener=opener)
    (witness,) = witnesses
    return witness, report


def arrived(home: Path, target: Path) -> Path:
    """A home of the same person with what lies at the remote, and nothing else."""
    shutil.copytree(home, target, ignore=shutil.ignore_patterns("projects"))
    shutil.copytree(home.parent / "stick" / "projects", target / "projects")
    return target


def held_bytes(home: Path) -> dict[str, list[bytes]]:
    """Pieces of the sealed bytes of every file that is held."""
    (paths,) = HomePaths(home).all_projects()
    pieces = {}
    for name, leaves in what_leaves(home).items():
        if not leaves:
            raw = paths.file(name).read_bytes()
            pieces[name] = [raw[at : at + 48] for at in range(64, len(raw) - 48, 997)]
    return pieces


def check(home: Path, tmp_path: Path, words: dict[str, str], *, manual: bool) -> None:
    """No held canary and no held byte arrived; all others did."""
    witness, report = sync(home, manual=manual)
    assert not report.failed
    there = opened(arrived(home, tmp_path / "there"))
    for data_class in CLASSES:
        word = words[data_class]
        leaves = word == "auto" or (manual and word == "manual")
        # Without META nobody can tell what the rest belongs to.
        if words["meta"] == "auto" or not leaves:
            assert (canary(data_class) in there) is leaves, data_class
    for field in ("held", "local", "redacted"):
        assert canary(field) not in there, field
        assert canary(field) not in witness.bytes
    whole = opened(home)
    assert canary("redacted") not in whole
    assert canary("held") in whole
    assert canary("local") in whole
    if manual:
        for name, pieces in held_bytes(home).items():
            assert not any(piece in witness.bytes for piece in pieces), name


def test_under_the_built_in_rules_and_three_of_ones_own(tmp_path: Path) -> None:
    home = tmp_path / "home"
    policy(home, ALWAYS)
    record(home)
    words = {**dict.fromkeys(CLASSES, "auto"), "console": "never"}
    check(home, tmp_path, words, manual=True)


@pytest.mark.parametrize("seed", range(6))
def test_under_random_rules(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    home = tmp_path / "home"
    words = {name: chance.choice(("never", "manual", "auto")) for name in CLASSES}
    words["meta"] = chance.choice(("auto", "auto", "never"))
    table = "\n".join(f"{name} = {toml_text(word)}" for name, word in words.items())
    policy(home, f"[classes]\n{table}\n{ALWAYS}")
    record(home)
    check(home, tmp_path, words, manual=chance.random() < 0.5)


def test_a_broken_file_lets_nothing_go_and_the_report_says_why(tmp_path: Path) -> None:
    home = tmp_path / "home"
    policy(home, ALWAYS)
    record(home)
    policy(home, "[classes]\nmeta = 'sure'")
    witness, report = sync(home, manual=True)
    names = {name for name in witness.seen if name.startswith(b"projects/")}
    assert not [name for name in names if b"/stamps/" not in name]
    assert "classes.meta is" in repr(report.to_json())
    assert not report.ok


class Tightening(Witness):
    """The person changes the rules when so many objects are on their way."""

    def __init__(self, inner: Any, home: Path, after: int) -> None:
        super().__init__(inner)
        self.home, self.after = home, after
        self.objects = self.later = 0

    def create(self, name: str, data: bytes) -> None:
        if "/objects/" in name:
            self.objects += 1
            if self.objects == self.after:
                user_file(self.home).write_text("[classes]\nartifacts = 'never'")
            self.later += self.objects > self.after
        super().create(name, data)


def test_tightening_stops_what_is_under_way(tmp_path: Path) -> None:
    import localstore

    home, files = tmp_path / "home", tmp_path / "files"
    files.mkdir()
    for number in range(60):
        (files / str(number)).write_bytes(random.Random(number).randbytes(300_000))
    with localstore.init(project="p", dir=home) as run:
        run.log_artifact(files, name="many")
    with_stick(home)
    made: list[Tightening] = []

    def opener(entry: RemoteEntry) -> Tightening:
        made.append(Tightening(open_remote(entry), home, 3))
        return made[-1]

    clock = [1_900_000_000_000_000]

    def tick() -> int:
        clock[0] += 100_000
        return clock[0]

    report = sync_home(home, opener=opener, clock=tick)
    assert made[0].objects >= 3
    assert made[0].later <= 20, "what was in the air, and no more"
    assert "artifacts never leaves" in repr(report.to_json())
    again = sync_home(home, opener=opener)
    assert not again.failed
    assert made[1].objects == 0
