"""Policy files: what they may say, what is an error, and when a change is seen."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from localstore.errors import BadSetting
from localstore.layout import HomePaths
from localstore.policy.places import project_file, tags_folder, user_file
from localstore.policy.rules import (
    BUILT_IN_FILE,
    CLASS_WORDS,
    Leave,
    Limits,
    Stamp,
    merged,
    parse,
    parse_stamp,
    read_policy,
)
from localstore.remotes import RemoteEntry
from localstored.policy import Conditions, Held, Leaves, RemoteFacts, decide
from localstored.policyfile import Book, remote_facts
from tests.policy.cases import TAG, item_of
from tests.policy.oracle import Case, World
from tests.sync.makers import make_project

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

WHOLE = """
[classes]
console = "manual"
[conditions]
network = "unmetered"
battery_above = 30
hours = ["mon-fri 22:00-06:00", "sat,sun 00:00-24:00"]
max_file = "2 GiB"
[limits]
upload = "2 MiB/s"
download = "10 MB/s"
max_parallel = 4
[rules.secret-data]
artifact_name = "secret-*"
artifact_type = ["dataset", "raw"]
remotes = ["cloud"]
leave = "never"
network = ["Office", "vpn:wg0"]
[rules.keys]
config = ["*password*"]
except_remotes = ["stick"]
battery_above = "50%"
[redact]
config = ["*password*"]
summary = "secret"
environment = ["*TOKEN*"]
arguments = ["--key"]
host_names = true
user_names = true
[keep_local]
config = ["data_path"]
[remotes.cloud.classes]
media = "never"
[remotes.cloud.conditions]
max_file = "1 MB"
[remotes.cloud.limits]
upload = "1 MiB/s"
"""


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_file_that_uses_every_key_is_understood(tmp_path: Path) -> None:
    file = read_policy(write(tmp_path / "policy.toml", WHOLE), "user")
    by_name = {rule.name: rule for rule in file.rules if rule.name}
    assert by_name["secret-data"].leave is Leave.NEVER
    assert by_name["secret-data"].remotes == frozenset({"cloud"})
    assert by_name["keys"].when.battery_above == 50
    assert by_name["keys"].stamped
    assert file.limits[""] == Limits(2 << 20, 10_000_000, 4)
    assert file.limits["cloud"] == Limits(1 << 20, None, None)
    assert file.redact.host_names
    assert file.keep_local == ("data_path",)
    keys = {rule.ref.rule for rule in file.rules}
    assert {"classes.console", "conditions.hours", "remotes.cloud.classes.media"} <= keys
    assert all(rule.ref.file == str(tmp_path / "policy.toml") for rule in file.rules)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[clases]\nmedia = 'never'", "clases.*want one of classes"),
        ("[classes]\nmedai = 'never'", r"'medai' in \[classes\], want one of meta"),
        ("[classes]\nmedia = 'no'", "classes.media is 'no'.*never"),
        ("[classes]\nmedia = false", "classes.media is False"),
        ("classes = 'never'", r"want a table \[classes\]"),
        ("[conditions]\nnetwork = 'Office'", "conditions.network.*list of names"),
        ("[conditions]\nnetwork = []", "conditions.network"),
        ("[conditions]\nnetwork = ['any']", "conditions.network"),
        ("[conditions]\nnetwork = 'vpn:'", "conditions.network"),
        ("[conditions]\nbattery_above = 130", "from 0 to 100"),
        ("[conditions]\nbattery_above = true", "from 0 to 100"),
        ("[conditions]\nbattery_above = '30 percent'", "from 0 to 100"),
        ("[conditions]\nhours = '22-6'", "hours such as"),
        ("[conditions]\nhours = '24:00-06:00'", "hours such as"),
        ("[conditions]\nhours = '06:00-06:00'", "hours such as"),
        ("[conditions]\nhours = '22:60-06:00'", "hours such as"),
        ("[conditions]\nhours = 'mo 22:00-06:00'", "hours such as"),
        ("[conditions]\nhours = []", "hours"),
        ("[conditions]\nmax_file = 2048", "a size such as"),
        ("[conditions]\nmax_file = '2 GB/s'", "a size such as"),
        ("[conditions]\nmax_file = '-1 GB'", "a size such as"),
        ("[conditions]\nmax_file = '0 GB'", "more than nothing"),
        ("[conditions]\nmax_file = '2 gib'", "a size such as"),
        ("[limits]\nupload = '2 MiB'", "a rate such as"),
        ("[limits]\nupload = '0 B/s'", "more than nothing"),
        ("[limits]\nmax_parallel = 0", "from 1 to 64"),
        ("[limits]\nuplaod = '2 MiB/s'", "want one of upload"),
        ("[rules]\nx = 'never'", r"a table \[rules.x\]"),
        ("[rules.'a b']\nleave = 'never'", "letters, digits"),
        ("[rules.x]\nleav = 'never'", r"'leav' in \[rules.x\]"),
        ("[rules.x]\nclasses = ['videos']", "names class 'videos'"),
        ("[rules.x]\nartifact_name = ''", "none of them empty"),
        ("[rules.x]\nartifact_name = ['a', 1]", "none of them empty"),
        ("[rules.x]\nartifact_name = 'a'\nconfig = 'b'", "nothing is both"),
        ("[redact]\nhost_names = 'yes'", "true or false"),
        ("[redact]\npasswords = ['*']", r"'passwords' in \[redact\]"),
        ("[keep_local]\nsummary = ['*']", r"'summary' in \[keep_local\]"),
        ("[remotes.cloud]\nclasses = 'never'", r"a table \[remotes.cloud.classes\]"),
        ("[remotes.cloud]\nmedia = 'never'", r"'media' in \[remotes.cloud\]"),
        ("[remotes]\ncloud = 1", r"a table \[remotes.cloud\]"),
        ("nonsense", "policy.toml: "),
        ("[classes]\nmedia = 'never'\nmedia = 'auto'", "media|overwrite"),
    ],
)
def test_what_is_not_understood_names_file_key_and_what_was_wanted(
    tmp_path: Path, text: str, wanted: str
) -> None:
    file = write(tmp_path / "policy.toml", text)
    with pytest.raises(BadSetting, match=wanted) as caught:
        read_policy(file, "user")
    assert str(file) in str(caught.value)


def test_a_slip_is_answered_with_what_was_meant(tmp_path: Path) -> None:
    for text, meant in (("[clases]", "classes"), ("[rules.x]\nleav = 'never'", "leave")):
        with pytest.raises(BadSetting) as caught:
            read_policy(write(tmp_path / "policy.toml", text), "user")
        assert caught.value.hint == f"did you mean {meant!r}?"


def test_bytes_that_are_no_text_and_folders_are_errors_too(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\0")
    (tmp_path / "folder").mkdir()
    (tmp_path / "long").write_bytes(b"#" * ((1 << 20) + 1))
    (tmp_path / "deep").write_text("x = " + "[" * 100_000)
    for name in ("binary", "folder", "long", "deep"):
        with pytest.raises(BadSetting, match=name):
            read_policy(tmp_path / name, "user")


# ------------------------------------------------------------------ levels
def test_every_class_has_a_built_in_statement() -> None:
    stated = {rule.states for rule in BUILT_IN_FILE.rules if rule.states}
    assert stated == {int(one) for one in CLASS_WORDS.values()}


def test_a_team_replaces_no_default() -> None:
    loose: dict[str, Any] = {"classes": {"console": "auto"}, "rules": {"host-names": {}}}
    for level, replaces in (("user", True), ("project", True), ("team", False)):
        rules = merged([parse(loose, level=level)])
        built_in = {rule.ref.rule for rule in rules if rule.ref.level == "built-in"}
        assert ("classes.console" in built_in) is not replaces
        assert ("rules.host-names" in built_in) is not replaces


# ------------------------------------------------------------------ the book
def verdict(book: Book, home: Path, data_class: str = "media") -> object:
    (paths,) = HomePaths(home).all_projects()
    item = item_of(Case(data_class, None, 10, "r", False, World(), True))
    return decide(item, RemoteFacts("r"), Conditions(), book.rules(paths), manual=True)


def test_levels_are_read_together_and_the_strictest_wins(tmp_path: Path) -> None:
    home = tmp_path / "home"
    paths = make_project(home).paths
    assert isinstance(verdict(Book.read(home), home), Leaves)
    write(user_file(home), "[classes]\nmedia = 'auto'")
    write(project_file(paths), "[classes]\nmedia = 'never'")
    held = verdict(Book.read(home), home)
    assert isinstance(held, Held)
    assert (held.rule.level, held.rule.file) == ("project", str(project_file(paths)))
    assert held.rule.rule == "classes.media"


def test_while_a_file_is_broken_nothing_leaves_and_the_error_is_told(tmp_path: Path) -> None:
    home = tmp_path / "home"
    paths = make_project(home).paths
    for file, level in ((user_file(home), "user"), (project_file(paths), "project")):
        write(file, "[classes]\nmeta = 'yes'")
        book = Book.read(home)
        for word in (*CLASS_WORDS, ""):
            held = verdict(book, home, word)
            assert isinstance(held, Held)
            assert (held.rule.level, held.rule.file) == (level, str(file))
            assert "classes.meta is 'yes'" in held.reason
        assert len(book.problems(paths)) == len(book.problems()) == 1
        file.unlink()
    assert not Book.read(home).problems()


def test_a_change_of_any_file_is_seen_by_a_few_looks(tmp_path: Path) -> None:
    home = tmp_path / "home"
    paths = make_project(home).paths
    changes: list[Callable[[], object]] = [
        lambda: write(user_file(home), "[classes]\nmedia = 'auto'"),
        lambda: write(user_file(home), "[classes]\nmedia = 'neve'"),
        lambda: write(user_file(home), "[classes]\nmedia = 'never'"),
        lambda: write(project_file(paths), ""),
        lambda: project_file(paths).unlink(),
        lambda: write(tags_folder(paths) / TAG, "a-rule"),
        lambda: user_file(home).unlink(),
    ]
    book = Book.read(home)
    for change in changes:
        assert book.is_current()
        change()
        assert not book.is_current()
        newer = Book.read(home)
        assert newer.fingerprint != book.fingerprint
        book = newer


def test_the_tightest_limit_of_all_files_counts(tmp_path: Path) -> None:
    home = tmp_path / "home"
    paths = make_project(home).paths
    write(user_file(home), "[limits]\nupload = '2 MB/s'\n[remotes.cloud.limits]\nupload='1 MB/s'")
    write(project_file(paths), "[limits]\nupload = '3 MB/s'\nmax_parallel = 2")
    book = Book.read(home)
    assert book.limits("cloud") == Limits(1_000_000, None, 2)
    assert book.limits("stick") == Limits(2_000_000, None, 2)


# ------------------------------------------------------------------ stamps
@pytest.mark.parametrize(
    "stamp", [Stamp(("a",)), Stamp(("a", "b-c")), Stamp((), 5), Stamp(("a",), 1 << 40, 2)]
)
def test_what_a_tag_stands_for_reads_back(stamp: Stamp) -> None:
    assert parse_stamp(str(stamp)) == stamp


@pytest.mark.parametrize("text", ["", "a b", "../x", "largest-file x", "like x", "a\n\nb"])
def test_a_stamp_of_another_form_stands_for_nothing(text: str) -> None:
    assert parse_stamp(text) is None


def test_tags_that_cannot_be_read_stay_unknown(tmp_path: Path) -> None:
    home = tmp_path / "home"
    paths = make_project(home).paths
    folder = tags_folder(paths)
    write(folder / TAG, "a-rule")
    write(folder / ("cd" * 16), "of another form!")
    write(folder / "other", "a-rule")
    (folder / ("ef" * 16)).symlink_to("/nowhere")
    os.mkfifo(folder / "pipe")
    assert Book.read(home).rules(paths).stamps == {TAG: Stamp(("a-rule",))}


@pytest.mark.parametrize(
    ("url", "mounted", "scheme", "local"),
    [
        ("/media/stick/x", "vfat", "file", True),
        ("/media/stick/x", "nfs4", "file", False),
        ("/media/stick/x", "fuse.sshfs", "file", False),
        ("s3://bucket/x", "vfat", "s3", False),
    ],
)
def test_a_folder_on_a_network_file_system_is_reached_over_a_network(
    monkeypatch: pytest.MonkeyPatch, url: str, mounted: str, scheme: str, local: bool
) -> None:
    mounts = f"22 1 0:1 / /media/stick rw - {mounted} server:/x rw"
    monkeypatch.setattr("localstored.policyfile.read_mounts", lambda: mounts)
    entry = RemoteEntry("r", url, "00" * 8)
    assert remote_facts(entry) == RemoteFacts("r", scheme, local)
