"""`localstore artifact`: put, ls, show, aliases, rm."""

from __future__ import annotations

import json
import os
import pty
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import localstore
from localstore.layout import HomePaths
from localstore.projects import Projects
from localstore.vault import Vault
from tests.cli.conftest import COMMAND, call

if TYPE_CHECKING:
    from collections.abc import Iterator

LOUD = {"LOCALSTORE_QUIET": "0"}


@pytest.fixture(autouse=True)
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder; no run of a failed test stays open."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    yield folder
    localstore.finish()


def write(**contents: bytes | str) -> None:
    """The folder `data` with these files and no others."""
    Path("data").mkdir(exist_ok=True)
    for old in Path("data").iterdir():
        old.unlink()
    for name, content in contents.items():
        raw = content.encode() if isinstance(content, str) else content
        Path("data", name).write_bytes(raw)


def put(*words: str) -> dict[str, Any]:
    """`artifact put data --name digits/mnist` as its document."""
    outcome = call("artifact", "put", "data", "--name", "digits/mnist", "--json", *words)
    assert (outcome.code, outcome.err) == (0, "")
    return dict(json.loads(outcome.out))


def ask(*words: str) -> Any:
    """A command's document."""
    outcome = call("artifact", *words, "--json")
    assert outcome.code == 0, outcome.err
    return json.loads(outcome.out)


@pytest.fixture
def two_versions() -> None:
    """digits/mnist of type dataset: v0 `clean` with tag raw, v1 the latest."""
    write(a="one", b="two")
    put("--type", "dataset", "--alias", "clean", "--tag", "raw", "-m", "n=5", "-m", "who=ada")
    write(a="one", b="three")
    put()


def home() -> HomePaths:
    """This test's home."""
    return HomePaths(Path(os.environ["LOCALSTORE_HOME"]))


# ------------------------------------------------------------------ put
class TestPut:
    def test_a_folder_becomes_a_version_and_one_line_says_so(self) -> None:
        write(a=os.urandom(1_000_000), b="two")
        outcome = call("artifact", "put", "data", "-n", "digits/mnist", "-t", "dataset")
        assert outcome.code == 0
        digest = localstore.Api().artifact("mnist").digest[:12]
        line = f"ada/digits/mnist:v0 ({digest}) 1.0 MB in 2 files, 1.0 MB new\n"
        assert (outcome.out, outcome.err) == (line, "")

    def test_the_same_content_is_the_same_version_and_nothing_is_new(self) -> None:
        write(a=os.urandom(300_000))
        assert put()["fresh"]
        again = call("artifact", "put", "data", "-n", "digits/mnist")
        assert again.out.endswith(" 300.0 kB in 1 file, the same as before\n")
        assert [one["version"] for one in ask("ls", "mnist")["versions"]] == ["v0"]

    def test_only_what_changed_is_new(self) -> None:
        content = os.urandom(8_000_000)
        write(a=content)
        assert put()["new_bytes"] >= 8_000_000
        write(a=content, b=os.urandom(50_000))
        assert 50_000 <= put()["new_bytes"] < 60_000

    def test_the_same_content_takes_what_is_said_of_it(self) -> None:
        write(a="one")
        put("-m", "n=1", "--description", "first")
        put("-m", "m=2", "--alias", "best")
        found = ask("show", "mnist")
        assert (found["version"], found["description"]) == ("v0", "first")
        assert (found["metadata"], found["aliases"]) == ({"n": 1, "m": 2}, ["best", "latest"])

    def test_latest_that_goes_back_is_told(self, two_versions: None) -> None:
        write(a="one", b="two")
        outcome = call("artifact", "put", "data", "-n", "digits/mnist", **LOUD)
        assert outcome.out.startswith("ada/digits/mnist:v0 ")
        assert "localstore: latest names v0 now; it was v1\n" in outcome.err

    def test_a_first_key_is_told(self) -> None:
        write(a="one")
        outcome = call("artifact", "put", "data", "-n", "mnist", **LOUD)
        assert "made your key; back it up: localstore key recovery-code" in outcome.err
        assert outcome.out.startswith("ada/uncategorized/mnist:v0 ")
        assert call("artifact", "put", "data", "-n", "mnist", **LOUD).err == ""

    def test_several_paths_keep_their_names(self, work: Path) -> None:
        write(a="one")
        Path("x.txt").write_text("x")
        Path("data/deep").mkdir()
        Path("data/deep/y").write_text("y")
        call("artifact", "put", "data", "x.txt", "-n", "mnist")
        assert _paths("mnist") == ["data/a", "data/deep/y", "x.txt"]
        Path("x.txt").unlink()
        assert call("artifact", "put", ".", "-n", "whole").code == 0
        assert _paths("whole") == ["data/a", "data/deep/y"]

    def test_two_paths_of_one_name_are_refused(self) -> None:
        write(a="one")
        Path("a").write_text("other")
        outcome = call("artifact", "put", "data/a", "a", "-n", "mnist")
        assert (outcome.code, outcome.out) == (2, "")
        assert "two of the paths are called 'a'" in outcome.err
        assert not home().all_projects()

    def test_a_uri_is_a_reference_and_nothing_is_read(self) -> None:
        write(a="one")
        uri = "s3://bucket/train.tar"
        call("artifact", "put", uri, "data/a", "-n", "mnist")
        files = ask("show", "mnist", "--files")["entries"]
        assert [(one["path"], one["reference"]) for one in files] == [
            ("a", None),
            ("train.tar", uri),
        ]

    def test_a_folder_behind_a_file_uri_is_a_reference_for_each_file(self, work: Path) -> None:
        write(a="one", b="two")
        call("artifact", "put", f"file://{work}/data", "-n", "mnist")
        files = ask("show", "mnist", "--files")["entries"]
        assert [one["reference"] for one in files] == [f"file://{work}/data/{n}" for n in "ab"]

    def test_metadata_are_json_or_text_and_files_of_json(self) -> None:
        write(a="one")
        Path("more.json").write_text('{"deep": {"x": [1, 2]}, "n": 1}')
        put("-m", "@more.json", "-m", "n=2.5", "-m", "text=a=b", "-m", "yes=true", "-m", "empty=")
        assert ask("show", "mnist")["metadata"] == {
            "deep": {"x": [1, 2]}, "n": 2.5, "text": "a=b", "yes": True, "empty": "",
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("words", "code", "said"),
        [
            (["nowhere", "-n", "mnist"], 66, "there is no file 'nowhere'"),
            (["data", "-n", "a/b/c/d"], 2, "names no artifact"),
            (["data", "-n", "mnist:best"], 2, "--alias best"),
            (["data", "-n", "digits/mnist", "-p", "other"], 2, "--project says 'other'"),
            (["data", "-n", "mnist", "-a", "v7"], 2, "looks like a version's number"),
            (["data", "-n", "mnist", "-m", "nonsense"], 2, "neither KEY=VALUE nor @FILE"),
            (["data", "-n", "mnist", "-m", "=1"], 2, "neither KEY=VALUE nor @FILE"),
            (["data", "-n", "mnist", "-m", "@data/a"], 2, "holds no JSON"),
            (["data", "-n", "mnist", "-m", "@list.json"], 2, "want a JSON object"),
            (["data", "-n", "mnist", "-m", "@gone.json"], 66, "there is no file 'gone.json'"),
            (["data", "-n", "mnist", "-m", "@data"], 2, "'data' is a directory"),
            (["data/pipe", "-n", "mnist"], 2, "a named pipe"),
            (["s3://", "-n", "mnist"], 2, "s3://bucket/train.tar"),
            (["file:///nowhere/x", "-n", "mnist"], 66, "/nowhere/x"),
            (["data"], 2, "Missing option '-n'"),
        ],
    )
    def test_what_is_wrong_is_named_and_makes_no_project(
        self, words: list[str], code: int, said: str
    ) -> None:
        write(a="one")
        os.mkfifo("data/pipe")
        Path("list.json").write_text("[1]")
        outcome = call("artifact", "put", *words)
        assert (outcome.code, outcome.out) == (code, "")
        assert said in outcome.err
        assert not home().all_projects()

    def test_an_artifact_keeps_its_type(self, two_versions: None) -> None:
        assert ask("show", "mnist")["type"] == "dataset"
        outcome = call("artifact", "put", "data", "-n", "digits/mnist", "-t", "model")
        assert outcome.code == 2
        assert "is of type 'dataset', not 'model'" in outcome.err

    def test_rehash_sees_what_looks_unchanged(self) -> None:
        write(a="one")
        old = 1_600_000_000
        os.utime("data/a", (old, old))
        put()
        Path("data/a").write_text("two")
        os.utime("data/a", (old, old))
        assert put("--rehash")["version"] == "v1"

    def test_a_machine_with_a_ticket_puts_and_reads_nothing(
        self, tmp_path: Path, two_versions: None
    ) -> None:
        ticket, node = str(tmp_path / "ticket"), str(tmp_path / "node")
        call("project", "ticket", "--deposit", "--project", "digits", ticket)
        assert call("--home", node, "enroll", ticket).code == 0
        outcome = call("--home", node, "artifact", "put", "data", "-n", "digits/mnist")
        assert outcome.code == 0
        assert outcome.out.startswith("ada/digits/mnist (")
        assert outcome.out.endswith(" 8 B in 2 files, 8 B new\n")
        document = call("--home", node, "artifact", "put", "data", "-n", "digits/m", "--json").out
        assert json.loads(document)["version"] is None
        for words in (
            ["ls"], ["ls", "mnist"], ["show", "mnist"], ["get", "mnist"], ["verify", "mnist"],
            ["diff", "mnist", "mnist"], ["alias", "mnist", "x"], ["rm-alias", "mnist", "x"],
            ["rm", "mnist", "-y"],
        ):  # fmt: skip
            outcome = call("--home", node, "artifact", *words)
            assert (outcome.code, outcome.out) == (77, ""), words
            assert "read none" in outcome.err
            assert "localstore: hint: " in outcome.err

    def test_nothing_of_it_is_on_disk_in_the_clear(self) -> None:
        write(secretfile="treasure" * 1000)
        put("--alias", "goldalias", "--tag", "silvertag", "--description", "copperwords")
        call("artifact", "ls")
        raw = b"".join(path.read_bytes() for path in home().root.rglob("*") if path.is_file())
        names = " ".join(str(path) for path in home().root.rglob("*"))
        for word in ("treasure", "secretfile", "goldalias", "silvertag", "copperwords", "mnist"):
            assert word.encode() not in raw
            assert word not in names


def _paths(name: str) -> list[str]:
    return [one["path"] for one in ask("show", name, "--files")["entries"]]


def _at_a_terminal(*words: str, typed: bytes = b"", quiet: str = "1") -> tuple[int, str]:
    """Run the command with keyboard and screen; what the screen showed."""
    main, side = pty.openpty()
    process = subprocess.Popen(
        [str(COMMAND), *words],
        stdin=side,
        stdout=side,
        stderr=side,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "100", "LOCALSTORE_QUIET": quiet},
    )
    os.close(side)
    if typed:
        os.write(main, typed)
    shown = b""
    while True:
        try:
            piece = os.read(main, 65536)
        except OSError:  # the last one at the terminal has left
            break
        if not piece:
            break
        shown += piece
    os.close(main)
    return process.wait(60), shown.decode()


def test_a_person_sees_a_bar_while_bytes_move() -> None:
    write(a=os.urandom(3_000_000))
    words = ("artifact", "put", "data", "-n", "mnist")
    code, shown = _at_a_terminal(*words, quiet="0")
    assert code == 0
    assert "3.0/3.0 MB" in shown
    assert "3.0 MB in 1 file, 3.0 MB new" in shown
    assert "3.0/3.0 MB" not in _at_a_terminal(*words, "--rehash")[1]
    assert "3.0/3.0 MB" in _at_a_terminal("artifact", "get", "mnist", quiet="0")[1]
    assert "3.0/3.0 MB" in _at_a_terminal("artifact", "verify", "mnist", quiet="0")[1]


# ------------------------------------------------------------------ ls
class TestLs:
    def test_an_empty_store_says_how_to_begin(self) -> None:
        outcome = call("artifact", "ls", **LOUD)
        assert (outcome.code, outcome.out) == (0, "")
        assert "localstore artifact put PATH --name NAME" in outcome.err
        assert ask("ls") == {"artifacts": []}

    def test_one_line_for_each_artifact(self, two_versions: None) -> None:
        lines = [line.split() for line in call("artifact", "ls").out.splitlines()]
        assert lines[0] == ["NAME", "TYPE", "VERSIONS", "LATEST", "SIZE", "LOGGED"]
        assert lines[1][:6] == ["mnist", "dataset", "2", "v1", "8", "B"]

    def test_projects_stand_apart(self, two_versions: None) -> None:
        call("artifact", "put", "data", "-n", "other/words")
        titles = [line for line in call("artifact", "ls").out.splitlines() if "/" in line]
        assert titles == ["ada/digits", "ada/other"]
        assert [one["name"] for one in ask("ls", "-p", "other")["artifacts"]] == ["words"]
        assert [one["name"] for one in ask("ls", "--type", "dataset")["artifacts"]] == ["mnist"]
        assert call("artifact", "ls", "-p", "nobody").code == 66

    def test_the_versions_of_one_newest_first(self, two_versions: None) -> None:
        lines = [line.split() for line in call("artifact", "ls", "mnist").out.splitlines()]
        assert [line[:3] for line in lines[1:]] == [["v1", "latest", "-"], ["v0", "clean", "raw"]]
        assert [one["path"] for one in ask("ls", "digits/mnist")["versions"]] == [
            "ada/digits/mnist:v1",
            "ada/digits/mnist:v0",
        ]

    def test_two_projects_with_one_name(self, two_versions: None) -> None:
        call("artifact", "put", "data", "-n", "other/mnist")
        shown = call("artifact", "ls", "mnist").out
        assert "ada/digits/mnist\n" in shown
        assert "\nada/other/mnist\n" in shown
        assert len(ask("ls", "mnist", "-p", "other")["versions"]) == 1
        outcome = call("artifact", "show", "mnist")
        assert outcome.code == 2
        assert "ada/digits/mnist:v1, ada/other/mnist:v0" in outcome.err

    @pytest.mark.parametrize(
        ("words", "code"),
        [
            (["nobody"], 66),
            (["mnist", "--type", "model"], 66),
            (["mnist:v0"], 2),
            (["digits/mnist", "-p", "digits"], 2),
            (["a/b/c/d"], 2),
        ],
    )
    def test_what_is_not_there_is_said(
        self, two_versions: None, words: list[str], code: int
    ) -> None:
        outcome = call("artifact", "ls", *words)
        assert (outcome.code, outcome.out) == (code, "")
        assert "localstore: hint: " in outcome.err or "--project" in outcome.err

    def test_damage_is_named_and_the_rest_listed(self, two_versions: None) -> None:
        _break_a_log("mnist")
        outcome = call("artifact", "ls")
        assert outcome.code == 20
        assert outcome.out.splitlines()[1].startswith("mnist ")
        assert "localstore: warning: " in outcome.err
        assert ".log" in outcome.err


def _break_a_log(name: str) -> None:
    """The last log of an artifact loses its middle; what is known from before is forgotten."""
    (project,) = Projects(home(), Vault(home()).load()).all()
    folder = project.paths.runs / project.artifact_subject(name).hex()
    log = max(folder.glob("*.log"), key=lambda path: path.stat().st_mtime_ns)
    raw = bytearray(log.read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    log.write_bytes(bytes(raw))


# ------------------------------------------------------------------ show
class TestShow:
    def test_facts_metadata_and_files(self, two_versions: None) -> None:
        outcome = call("artifact", "show", "mnist:clean")
        assert (outcome.code, outcome.err) == (0, "")
        rows = dict(line.split("  ", 1) for line in outcome.out.splitlines() if "  " in line[1:])
        assert rows["artifact"].strip() == "ada/digits/mnist:v0"
        assert "\nmetadata\n  n    5\n  who  ada\n" in outcome.out
        assert outcome.out.endswith("\nfiles\n  3 B  a\n  3 B  b\n")

    def test_lineage_both_ways(self, two_versions: None) -> None:
        with localstore.init(project="digits", id="maker") as run:
            made = localstore.Artifact("model", "model")
            with made.new_file("weights") as file:
                file.write("w")
            run.log_artifact(made)
        with localstore.init(project="digits", id="reader") as run:
            run.use_artifact("model")
            run.use_artifact("mnist:v0")
        found = ask("show", "model")
        assert (found["runs"], found["used_by"]) == (["ada/digits/maker"], ["ada/digits/reader"])
        shown = call("artifact", "show", "model").out
        assert "logged by  ada/digits/maker\n" in shown
        assert "used by    ada/digits/reader\n" in shown
        assert ask("show", "mnist:v0")["used_by"] == ["ada/digits/reader"]
        assert "used by    no run\n" in call("artifact", "show", "mnist").out

    def test_many_files_are_counted_and_listed_on_request(self) -> None:
        write(**{f"file{number:02}": str(number) for number in range(12)})
        put()
        assert call("artifact", "show", "mnist").out.endswith("  and 2 more: --files\n")
        assert call("artifact", "show", "mnist", "--files").out.endswith("  2 B  file11\n")

    def test_a_version_whose_files_are_elsewhere_is_shown_and_20(self, two_versions: None) -> None:
        for path in home().root.glob("projects/*/objects/*/*"):
            path.unlink()
        outcome = call("artifact", "show", "mnist")
        assert outcome.code == 20
        assert "ada/digits/mnist:v1" in outcome.out
        assert "the list of its files" in outcome.err

    def test_hostile_text_is_shown_inert(self) -> None:
        Path("data").mkdir()
        Path("data", "a\x1b[2Jb").write_text("x")
        put("--description", "red \x1b[31m", "-m", "k\x1b]0;=v\u202e", "--tag", "\u202etag")
        for words in (["ls"], ["ls", "mnist"], ["show", "mnist"], ["show", "mnist", "--json"]):
            shown = call("artifact", *words).out
            assert "\x1b" not in shown
            assert "\u202e" not in shown

    @pytest.mark.parametrize("name", ["mnist:v9", "mnist:nobody", "nobody"])
    def test_what_is_not_there_is_66(self, two_versions: None, name: str) -> None:
        outcome = call("artifact", "show", name)
        assert (outcome.code, outcome.out) == (66, "")
        assert "localstore: hint: " in outcome.err


# ------------------------------------------------------------------ aliases
class TestAliases:
    def test_an_alias_moves_and_says_from_where(self, two_versions: None) -> None:
        outcome = call("artifact", "alias", "mnist:v1", "clean", "best", **LOUD)
        assert outcome.out == "ada/digits/mnist:v1  best, clean, latest\n"
        assert outcome.err == "localstore: clean named v0 before\n"
        assert ask("show", "mnist:clean")["version"] == "v1"

    def test_an_alias_that_stands_right_writes_nothing(self, two_versions: None) -> None:
        before = sorted(home().root.rglob("*.log"))
        assert ask("alias", "mnist:v0", "clean")["aliases"] == ["clean"]
        assert sorted(home().root.rglob("*.log")) == before

    def test_latest_can_be_moved_and_not_removed(self, two_versions: None) -> None:
        assert call("artifact", "alias", "mnist:v0", "latest").code == 0
        assert ask("show", "mnist")["version"] == "v0"
        outcome = call("artifact", "rm-alias", "mnist", "latest")
        assert outcome.code == 2
        assert "artifact alias mnist:VERSION latest" in outcome.err

    def test_a_removed_alias_names_nothing(self, two_versions: None) -> None:
        assert call("artifact", "rm-alias", "mnist", "clean").out == "clean  removed from v0\n"
        assert call("artifact", "show", "mnist:clean").code == 66
        assert ask("show", "mnist:v0")["aliases"] == []

    def test_one_wrong_alias_changes_nothing(self, two_versions: None) -> None:
        assert call("artifact", "rm-alias", "mnist", "clean", "nobody").code == 66
        assert call("artifact", "alias", "mnist:v1", "clean", "v3").code == 2
        assert ask("show", "mnist:clean")["version"] == "v0"

    def test_an_alias_is_of_the_artifact_not_of_a_version(self, two_versions: None) -> None:
        assert call("artifact", "rm-alias", "mnist:v0", "clean").code == 2


# ------------------------------------------------------------------ rm
class TestRm:
    def test_without_yes_and_nobody_to_ask_nothing_is_deleted(self, two_versions: None) -> None:
        outcome = call("artifact", "rm", "mnist")
        assert (outcome.code, outcome.out) == (2, "")
        assert outcome.err.endswith("localstore: hint: give --yes\n")
        assert len(ask("ls", "mnist")["versions"]) == 2

    def test_it_names_what_goes_and_asks(self, two_versions: None) -> None:
        with localstore.init(project="digits") as run:
            run.use_artifact("mnist:v0")
        code, shown = _at_a_terminal("artifact", "rm", "mnist", typed=b"n\n")
        assert code == 2
        assert "ada/digits/mnist:v0  clean   6 B  2 files" in shown
        assert "used by 1 run" in shown
        assert "Delete 2 versions (14 B) for ever, here and on every remote?" in shown
        assert len(ask("ls", "mnist")["versions"]) == 2
        assert _at_a_terminal("artifact", "rm", "mnist:v0", typed=b"y\n")[0] == 0
        assert len(ask("ls", "mnist")["versions"]) == 1

    def test_a_version_goes_and_the_others_stay(self, two_versions: None) -> None:
        assert call("artifact", "rm", "mnist:clean", "-y").out == "ada/digits/mnist:v0  deleted\n"
        assert [one["version"] for one in ask("ls", "mnist")["versions"]] == ["v1"]
        assert call("artifact", "get", "mnist").code == 0

    def test_a_name_alone_deletes_every_version_and_can_be_used_again(
        self, two_versions: None
    ) -> None:
        deleted = ask("rm", "mnist", "-y")["deleted"]
        assert [one["path"][-2:] for one in deleted] == ["v0", "v1"]
        assert call("artifact", "show", "mnist").code == 66
        assert ask("ls") == {"artifacts": []}
        assert put()["version"] == "v2"

    def test_it_says_what_gc_frees_and_gc_frees_it(self) -> None:
        write(a=os.urandom(400_000))
        put()
        outcome = call("artifact", "rm", "mnist", "-y", **LOUD)
        assert "`localstore gc` frees 40" in outcome.err
        assert " kB in an hour\n" in outcome.err
        write(a=os.urandom(400_000))
        put()
        found = ask("rm", "mnist", "-y")
        (freed,) = json.loads(call("gc", "--json", "--grace", "0").out)["projects"]
        assert freed["freed_bytes"] == found["gc_bytes"] + found["gc_bytes_later"] > 800_000

    def test_one_wrong_name_deletes_nothing(self, two_versions: None) -> None:
        assert call("artifact", "rm", "mnist:v0", "mnist:v7", "-y").code == 66
        assert len(ask("ls", "mnist")["versions"]) == 2

    def test_a_version_that_is_named_twice_is_deleted_once(self, two_versions: None) -> None:
        found = ask("rm", "mnist:v0", "mnist:clean", "digits/mnist", "-y")
        assert len(found["deleted"]) == 2
