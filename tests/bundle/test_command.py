"""`localstore bundle`: three machines and a stick, as a person uses them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import localstore
from localstore import identity, settings
from localstore.layout import HomePaths
from localstore.vault import Vault
from localstored.remotes.bundlefile import BundleFile
from tests.cli.conftest import Outcome, call

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "canary-5f2e"


@pytest.fixture(autouse=True)
def ada(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every key of these tests belongs to a user of this name."""
    monkeypatch.setenv("LOCALSTORE_USERNAME", "ada")


@pytest.fixture
def lab(tmp_path: Path) -> Path:
    """A home with a run; `LOCALSTORE_HOME` names it."""
    log_run("one")
    return tmp_path / "home"


@pytest.fixture
def desk(lab: Path, tmp_path: Path) -> Path:
    """Another home of the same person."""
    home = tmp_path / "desk"
    code = identity.recovery_code(Vault(HomePaths(lab)).load())
    Vault(HomePaths(home)).create(
        identity.from_recovery_code(code, settings.account_name()), "file"
    )
    return home


@pytest.fixture
def stick(tmp_path: Path) -> Path:
    """Where the stick is mounted."""
    folder = tmp_path / "stick"
    folder.mkdir()
    return folder


def log_run(name: str) -> None:
    run = localstore.init(project="digits", id=name, config={"note": SECRET})
    run.log({"loss": 0.5})
    run.finish()


def at(home: Path, *words: str) -> Outcome:
    """The command on one of the machines."""
    return call("--home", str(home), *words)


def runs(home: Path) -> list[str]:
    """Ids of the runs that a home can read."""
    listed = at(home, "ls", "--json")
    assert listed.code == 0, listed.err
    return sorted(row["id"] for row in json.loads(listed.out)["runs"])


def test_a_stick_there_and_a_receipt_back(lab: Path, desk: Path, stick: Path) -> None:
    path = stick / "monday.bundle"
    done = at(lab, "bundle", "export", str(path))
    assert done.code == 0, done.err
    assert "ada/digits put in" in done.out

    seen = at(desk, "bundle", "inspect", "--verify", str(path))
    assert seen.code == 0, seen.err
    assert "digits" not in seen.out
    assert "metrics" in seen.out

    taken = at(desk, "bundle", "import", str(path))
    assert taken.code == 0, taken.err
    assert runs(desk) == ["one"]
    receipt = stick / "monday.bundle.receipt"
    assert receipt.exists()

    filed = at(lab, "bundle", "receipt", str(receipt), "--as", "desk")
    assert filed.code == 0, filed.err
    assert filed.out.startswith("desk holds ")

    log_run("two")
    later = stick / "tuesday.bundle"
    again = at(lab, "bundle", "export", "--json", str(later), "--since-receipt")
    assert again.code == 0, again.err
    assert json.loads(again.out)["assumed"] > 5
    assert at(desk, "bundle", "import", str(later)).code == 0
    assert runs(desk) == ["one", "two"]


def test_no_name_and_no_value_leaves_in_clear(lab: Path, desk: Path, stick: Path) -> None:
    log_run("canary-run-77")
    at(lab, "bundle", "export", str(stick / "a"))
    at(desk, "bundle", "import", str(stick / "a"))
    assert len(list(stick.iterdir())) == 2
    for path in stick.iterdir():
        for word in (SECRET, "digits", "canary-run-77", "loss", str(lab)):
            assert word.encode() not in path.read_bytes()


def test_signatures_are_told(lab: Path, desk: Path, stick: Path) -> None:
    at(lab, "bundle", "export", str(stick / "a"))
    taken = json.loads(at(desk, "bundle", "import", "--json", str(stick / "a")).out)
    assert [one["who"] for one in taken["signatures"]] == ["member"]
    assert taken["receipt"] == str(stick / "a.receipt")


def test_a_machine_without_keys_passes_on_and_signs_nothing(
    lab: Path, desk: Path, stick: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    at(lab, "bundle", "export", str(stick / "a"))
    alone = at(gate, "bundle", "import", str(stick / "a"))
    assert alone.code == 11
    assert "not for this store" in alone.err
    assert at(gate, "bundle", "import", "--relay", "--no-receipt", str(stick / "a")).code == 0
    passed = at(gate, "bundle", "export", str(stick / "b"))
    assert passed.code == 0, passed.err
    assert not (gate / "identity" / "secret").exists()
    taken = at(desk, "bundle", "import", str(stick / "b"))
    assert taken.code == 0, taken.err
    assert "nobody signed the bundle" in taken.err
    assert runs(desk) == ["one"]
    made = at(gate, "bundle", "receipt", "--make", str(stick / "gate.receipt"))
    assert made.code == 0, made.err
    doubted = at(lab, "bundle", "receipt", str(stick / "gate.receipt"))
    assert doubted.code == 69
    assert "nobody signed" in doubted.err
    assert at(lab, "bundle", "receipt", "--trust-unsigned", str(stick / "gate.receipt")).code == 0


@pytest.mark.parametrize("where", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_a_damaged_bundle_is_told_by_the_exit_status(
    lab: Path, desk: Path, stick: Path, where: float
) -> None:
    path = stick / "a"
    at(lab, "bundle", "export", str(path))
    raw = bytearray(path.read_bytes())
    raw[int(len(raw) * where)] ^= 1
    path.write_bytes(raw)
    taken = at(desk, "bundle", "import", str(path))
    assert taken.code == 20, taken.err
    assert "error" in taken.err
    assert at(desk, "bundle", "inspect", "--verify", str(path)).code == 20


def test_a_cut_bundle_is_told_and_goes_on(lab: Path, desk: Path, stick: Path) -> None:
    path = stick / "a"
    at(lab, "bundle", "export", str(path))
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    taken = at(desk, "bundle", "import", str(path))
    assert taken.code == 20
    assert "not finished" in taken.err
    assert at(lab, "bundle", "export", str(path)).code == 0
    assert at(desk, "bundle", "import", str(path)).code == 0
    assert runs(desk) == ["one"]


def test_a_deleted_run_does_not_come_back(lab: Path, desk: Path, stick: Path) -> None:
    log_run("two")
    at(lab, "bundle", "export", str(stick / "old"))
    at(desk, "bundle", "import", str(stick / "old"))
    assert at(desk, "rm", "--yes", "--now", "two").code == 0
    at(desk, "bundle", "export", str(stick / "news"))
    assert at(desk, "bundle", "import", str(stick / "old")).code == 0
    assert runs(desk) == ["one"]
    assert at(lab, "bundle", "import", str(stick / "news")).code == 0
    assert at(lab, "bundle", "import", str(stick / "old")).code == 0
    assert runs(lab) == ["one"]


def test_another_file_is_never_written_over(lab: Path, stick: Path) -> None:
    thesis = stick / "thesis"
    thesis.write_bytes(b"years of work")
    for words in (["export"], ["import"], ["inspect"], ["receipt"], ["receipt", "--make"]):
        assert at(lab, "bundle", words[0], str(thesis), *words[1:]).code in (2, 20)
    assert thesis.read_bytes() == b"years of work"


@pytest.mark.parametrize(
    ("size", "wanted"),
    [
        ("4G", 4 << 30),
        ("650M", 650 << 20),
        ("1.5GiB", 3 << 29),
        ("8388608", 8 << 20),
        ("20MB", 20_000_000),
        ("4 gb", 4_000_000_000),
    ],
)
def test_sizes_of_parts_are_what_their_unit_says(
    lab: Path, stick: Path, monkeypatch: pytest.MonkeyPatch, size: str, wanted: int
) -> None:
    asked = []
    real = BundleFile.for_writing

    def spy(path: Path, *, part_bytes: int = 0, now_us: int = 0) -> BundleFile:
        asked.append(part_bytes)
        return real(path, part_bytes=part_bytes, now_us=now_us)

    monkeypatch.setattr(BundleFile, "for_writing", spy)
    assert at(lab, "bundle", "export", "--part-size", size, str(stick / "a")).code == 0
    assert asked == [wanted]


def test_plainly_wrong_command_lines_are_usage_errors(lab: Path, stick: Path) -> None:
    for words in (
        ["--part-size", "big"],
        ["--part-size", "1K"],
        ["--all", "--since-receipt", "x"],
    ):
        outcome = at(lab, "bundle", "export", str(stick / "a"), *words)
        assert outcome.code == 2, outcome.err
    assert at(lab, "bundle", "export", str(stick / "a"), "--since-receipt", "x").code == 66
    assert at(lab, "bundle", "import", str(stick / "nothing")).code == 66
    assert at(lab, "bundle", "export", str(stick / "no" / "a")).code == 66


def test_a_bundle_given_as_a_receipt_is_called_a_bundle(lab: Path, stick: Path) -> None:
    at(lab, "bundle", "export", str(stick / "a"))
    outcome = at(lab, "bundle", "receipt", str(stick / "a"))
    assert outcome.code == 2
    assert "is a bundle, not a receipt" in outcome.err
    assert "a.receipt" in outcome.err


@pytest.mark.parametrize("verb", ["import", "inspect"])
def test_a_receipt_given_as_a_bundle_is_called_a_receipt(
    lab: Path, desk: Path, stick: Path, verb: str
) -> None:
    at(lab, "bundle", "export", str(stick / "a"))
    at(desk, "bundle", "import", str(stick / "a"))
    outcome = at(desk, "bundle", verb, str(stick / "a.receipt"))
    assert outcome.code == 2
    assert "is a receipt, not a bundle" in outcome.err
    (stick / "text").write_text("hello")
    other = at(desk, "bundle", verb, str(stick / "text"))
    assert other.code == 20
    assert "localstore repair" not in other.err


def test_the_receipt_of_another_store_is_not_overwritten(
    lab: Path, desk: Path, stick: Path
) -> None:
    at(lab, "bundle", "export", str(stick / "a"))
    at(desk, "bundle", "import", str(stick / "a"))
    first = (stick / "a.receipt").read_bytes()
    for _ in range(2):
        again = at(stick / "gate", "bundle", "import", "--relay", str(stick / "a"))
        assert again.code == 0, again.err
        assert "the receipt of another store" in again.err
    assert (stick / "a.receipt").read_bytes() == first
    assert sorted(path.name for path in stick.glob("*.receipt")) == ["a.2.receipt", "a.receipt"]
    given = str(stick / "a.receipt")
    asked = at(stick / "gate", "bundle", "receipt", "--make", given)
    assert asked.code == 73
    assert (stick / "a.receipt").read_bytes() == first


def test_what_is_no_receipt_has_a_hint_that_helps(lab: Path, stick: Path) -> None:
    (stick / "text").write_text("hello\n")
    outcome = at(lab, "bundle", "receipt", str(stick / "text"))
    assert outcome.code == 20
    assert "receipt --make" in outcome.err
    assert "verify" not in outcome.err


def test_who_made_a_bundle_is_known_where_it_was_made(lab: Path, stick: Path) -> None:
    at(lab, "bundle", "export", str(stick / "a"))
    for home, who in ((lab, "member"), (stick / "no-home", "unknown")):
        seen = at(home, "bundle", "inspect", "--json", str(stick / "a"))
        assert seen.code == 0
        assert [one["who"] for one in json.loads(seen.out)["signatures"]] == [who]


def test_an_import_without_a_key_says_that_the_key_is_missing(lab: Path, stick: Path) -> None:
    at(lab, "bundle", "export", str(stick / "a"))
    outcome = at(stick / "new", "bundle", "import", str(stick / "a"))
    assert outcome.code == 11
    assert "there is no key here" in outcome.err
    assert "localstore key recover" in outcome.err
    assert at(stick / "new", "bundle", "import", "--relay", str(stick / "a")).code == 0


def test_a_folder_is_the_same_without_a_file(lab: Path, desk: Path, stick: Path) -> None:
    folder = f"{stick / 'runs'}/"
    assert at(lab, "bundle", "export", folder).code == 0
    assert at(desk, "bundle", "inspect", folder).code == 0
    taken = at(desk, "bundle", "import", folder)
    assert taken.code == 0, taken.err
    assert runs(desk) == ["one"]


def test_a_protected_key_signs_nothing_when_nobody_is_asked(
    lab: Path, stick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault = Vault(HomePaths(lab))
    vault.save(vault.load(), "sesame")
    done = at(lab, "bundle", "export", str(stick / "a"))
    assert done.code == 0, done.err
    assert "nothing is signed" in done.err
    monkeypatch.setenv("LOCALSTORE_PASSPHRASE", "sesame")
    assert "nothing is signed" not in at(lab, "bundle", "export", str(stick / "b")).err
