"""What goes in comes out: files, folders, references, objects; and what is refused when named."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import localstore
from localstore import Api, Artifact, crypto
from localstore.artifacts import draft as draft_module
from localstore.artifacts.references import file_uri, read_reference
from localstore.errors import BadName, Damaged, NotFound, NotPermitted, UsageError
from tests.artifacts.conftest import log

if TYPE_CHECKING:
    from localstore.layout import HomePaths


def stored(artifact: Artifact) -> dict[str, bytes]:
    """Save it, and read it back through the store."""
    artifact.save("digits")
    found = Api().artifact(artifact.collection_name)
    return {entry.path: entry.read() for entry in found.files() if entry.ref is None}


def test_files_and_folders_come_back_byte_for_byte(home: HomePaths, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "deep" / "er").mkdir(parents=True)
    (data / "empty").write_bytes(b"")
    (data / "ünï cödé\n").write_bytes(b"name")
    (data / "deep" / "er" / "big").write_bytes(os.urandom(3 << 20))
    artifact = Artifact("data", "dataset")
    artifact.add_dir(data)
    artifact.add_dir(data / "deep", name="copy/of")
    artifact.add_file(data / "empty", name="other/name")
    artifact.save("digits")

    folder = Api().artifact("data").download()
    back = {
        str(p.relative_to(folder)): p.read_bytes()
        for p in sorted(Path(folder).rglob("*"))
        if p.is_file()
    }
    big = (data / "deep/er/big").read_bytes()
    assert back == {
        "empty": b"",
        "ünï cödé\n": b"name",
        "deep/er/big": big,
        "copy/of/er/big": big,
        "other/name": b"",
    }


def test_a_download_that_was_changed_is_noticed_and_mended(home: HomePaths, tmp_path: Path) -> None:
    log(home, {"a": "1", "b/c": "2"})
    found = Api().artifact("model")
    root = tmp_path / "out"
    found.download(root)
    found.verify(root)
    (root / "a").write_text("x")
    (root / "more").write_text("x")
    with pytest.raises(Damaged, match=r"2 files .*: a, more"):
        found.verify(root)

    found.checkout(root)
    found.verify(root)
    assert (root / "a").read_text() == "1"
    assert not (root / "more").exists()


def test_checkout_empties_no_folder_where_other_things_live(
    home: HomePaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log(home, {"a": "1"})
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    for folder in ("/", tmp_path / "me", tmp_path / "work", tmp_path, home.root / "projects"):
        with pytest.raises(UsageError, match="remove everything"):
            Api().artifact("model").checkout(folder)


def test_checkout_removes_links_and_not_what_they_lead_to(home: HomePaths, tmp_path: Path) -> None:
    log(home, {"a": "1"})
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "kept").write_text("x")
    root = tmp_path / "out"
    (root / "sub").mkdir(parents=True)
    (root / "link").symlink_to(tmp_path / "mine")
    Api().artifact("model").checkout(root)

    assert [path.name for path in root.iterdir()] == ["a"]
    assert (tmp_path / "mine" / "kept").exists()


def test_a_part_of_an_artifact_can_be_downloaded(home: HomePaths, tmp_path: Path) -> None:
    log(home, {"a/1": "1", "a/2": "2", "b": "3"})
    found = Api().artifact("model")
    found.download(tmp_path / "out", path_prefix="a/")
    assert sorted(p.name for p in (tmp_path / "out").rglob("*")) == ["1", "2", "a"]
    assert found.get_entry("b").download(tmp_path / "one") == str(tmp_path / "one" / "b")
    with pytest.raises(UsageError, match="3 files"):
        found.file()
    with pytest.raises(NotFound):
        found.get_path("none")


def test_a_small_file_that_changes_after_it_was_added_is_stored_as_it_was(
    home: HomePaths, tmp_path: Path
) -> None:
    file = tmp_path / "f"
    file.write_text("before")
    artifact = Artifact("data", "dataset")
    artifact.add_file(file)
    file.write_text("after")
    file.unlink()
    assert stored(artifact) == {"f": b"before"}


def test_a_great_file_that_changes_after_it_was_added_is_told(
    home: HomePaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(draft_module, "_SMALL_BYTES", 10)
    file = tmp_path / "f"
    file.write_bytes(b"before" * 100)
    artifact = Artifact("data", "dataset")
    artifact.add_file(file)
    file.write_bytes(b"after" * 100)
    assert stored(artifact) == {"f": b"after" * 100}
    assert "f of artifact data changed after it was added" in capsys.readouterr().err


def test_drafts_hold_a_bounded_amount_in_memory_and_give_it_back(
    home: HomePaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draft_module, "MEMORY_BYTES", 1000)
    budget = draft_module._Budget()
    monkeypatch.setattr(draft_module, "_budget", budget)
    for name in "abc":
        (tmp_path / name).write_bytes(name.encode() * 400)
    artifact = Artifact("data", "dataset")
    for name in "abc":
        artifact.add_file(tmp_path / name)
    assert budget.used == 800
    (tmp_path / "a").unlink()
    assert len(stored(artifact)) == 3
    assert budget.used == 0


def test_what_cannot_be_stored_is_refused_when_it_is_named(tmp_path: Path) -> None:
    artifact = Artifact("data", "dataset")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere").symlink_to("gone")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s"))
        for name in ("pipe", "s", "folder"):
            with pytest.raises(UsageError, match=name):
                artifact.add_file(tmp_path / name)
    for name in ("nowhere", "none"):
        with pytest.raises(NotFound, match=name):
            artifact.add_file(tmp_path / name)
    with pytest.raises(NotFound):
        artifact.add_dir(tmp_path / "none")
    (tmp_path / "folder" / "loop").symlink_to(tmp_path / "folder")
    with pytest.raises(UsageError, match="loop"):
        artifact.add_dir(tmp_path / "folder")
    with pytest.raises(UsageError):
        artifact.add_file(5)  # type: ignore[arg-type]


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read_is_refused_when_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    (tmp_path / "f").chmod(0)
    with pytest.raises(NotPermitted):
        Artifact("data", "dataset").add_file(tmp_path / "f")


@pytest.mark.parametrize("name", ["/abs", "../up", "a/../b", "a//b", "a/.", "\0", "x" * 5000])
def test_paths_that_lead_out_of_an_artifact_are_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "f").write_text("x")
    artifact = Artifact("data", "dataset")
    with pytest.raises(BadName):
        artifact.add_file(tmp_path / "f", name=name)
    with pytest.raises(BadName), artifact.new_file(name) as file:
        file.write("x")
    with pytest.raises(BadName):
        artifact.add_reference("s3://b/k", name=name)


def test_a_name_is_given_once_unless_it_shall_be_replaced(home: HomePaths, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("2")
    artifact = Artifact("data", "dataset")
    with artifact.new_file("f") as file:
        file.write("1")
    with pytest.raises(UsageError, match="overwrite"):
        artifact.add_file(tmp_path / "f")
    artifact.add_file(tmp_path / "f", overwrite=True)
    with pytest.raises(UsageError, match="below"), artifact.new_file("f/g") as file:
        file.write("1")
    assert stored(artifact) == {"f": b"2"}


def test_a_file_is_not_added_when_writing_it_fails(home: HomePaths) -> None:
    artifact = Artifact("data", "dataset")
    with pytest.raises(ZeroDivisionError), artifact.new_file("f") as file:
        file.write("half")
        file.write(str(1 / 0))
    with pytest.raises(UsageError), artifact.new_file("f", mode="a") as file:
        file.write("x")
    assert stored(artifact) == {}


def test_the_content_of_a_new_file_is_never_on_the_disk_in_clear(
    home: HomePaths, tmp_path: Path
) -> None:
    secret = "a sentence that stands nowhere"
    log(home, {"zebra-name.txt": secret * 50}, "zebra-artifact", "zebra-alias")
    for path in tmp_path.rglob("*"):
        assert "zebra" not in path.name
        if path.is_file():
            content = path.read_bytes()
            assert b"sentence that" not in content
            assert b"zebra-" not in content


def test_removal_takes_back_files_and_folders(home: HomePaths, tmp_path: Path) -> None:
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    for name in ("a", "b", "sub/c", "sub/d"):
        (data / name).write_text(name)
    artifact = Artifact("data", "dataset")
    artifact.add_dir(data)
    artifact.remove("a")
    artifact.remove("sub/")
    with pytest.raises(NotFound):
        artifact.remove("none")
    assert stored(artifact) == {"b": b"b"}


def test_a_great_folder_is_found_when_it_is_logged(
    home: HomePaths, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draft_module, "_AT_ONCE", 3)
    data = tmp_path / "data"
    (data / "sub").mkdir(parents=True)
    for name in ("a", "b", "sub/c", "sub/d"):
        (data / name).write_text(name)
    artifact = Artifact("data", "dataset")
    artifact.add_dir(data, name="in")
    with artifact.new_file("in/a") as file:
        file.write("named apart")
    artifact.remove("in/sub/d")
    assert stored(artifact) == {"in/a": b"named apart", "in/b": b"b", "in/sub/c": b"sub/c"}


def test_references_are_named_and_not_copied(home: HomePaths, tmp_path: Path) -> None:
    data = tmp_path / "data set"
    data.mkdir()
    (data / "ü%41#?").write_bytes(b"x" * 100_000)
    artifact = Artifact("data", "dataset")
    artifact.add_reference(f"file://{data}", name="train")
    known = crypto.content_hash(b"q").hex()
    artifact.add_reference("s3://bucket/some/key.bin?versionId=3", checksum=known, size=7)
    artifact.add_reference("https://example.org/", name="page")
    artifact.save("digits")

    entries = Api().artifact("data").manifest.entries
    local, remote, page = entries["train/ü%41#?"], entries["key.bin"], entries["page"]
    assert local.ref == file_uri(data / "ü%41#?")
    assert local.digest == crypto.content_hash(b"x" * 100_000).hex()
    assert (local.size, remote.size, page.size) == (100_000, 7, None)
    assert (remote.digest, page.digest) == (known, "")
    assert remote.ref_target() == "s3://bucket/some/key.bin?versionId=3"
    with pytest.raises(UsageError, match="refers to"):
        remote.read()
    objects = home.all_projects()[0].root / "objects"
    assert sum(p.stat().st_size for p in objects.rglob("*") if p.is_file()) < 20_000
    folder = Api().artifact("data").download(tmp_path / "out")
    assert not list(Path(folder).iterdir())


def test_a_referred_file_that_changes_makes_another_version(
    home: HomePaths, tmp_path: Path
) -> None:
    file = tmp_path / "f"
    for number, content in enumerate(("1", "2", "1")):
        file.write_text(content)
        artifact = Artifact("data", "dataset")
        artifact.add_reference(f"file://{file}")
        artifact.save("digits")
        assert artifact.version == f"v{number % 2}"


@pytest.mark.parametrize(
    ("uri", "more"),
    [
        ("/just/a/path", {}),
        ("nothing", {}),
        ("s3://", {}),
        ("s3://b/a\nb", {}),
        ("s3://b/k", {"checksum": "zz"}),
        ("s3://b/k", {"size": -1}),
        ("file://host/share", {}),
        ("s3://b/" + "x" * 9000, {}),
    ],
)
def test_what_refers_to_nothing_is_refused(uri: str, more: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Artifact("data", "dataset").add_reference(uri, **more)


def test_a_reference_to_a_file_that_is_missing_or_a_folder_too_large_is_refused(
    home: HomePaths, tmp_path: Path
) -> None:
    artifact = Artifact("data", "dataset")
    with pytest.raises(NotFound):
        artifact.add_reference(f"file://{tmp_path}/none")
    for number in range(3):
        (tmp_path / "work" / str(number)).write_text("x")
    artifact.add_reference(f"file://{tmp_path}/work", max_objects=2)
    with pytest.raises(UsageError, match="max_objects"):
        artifact.save("digits")


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0/"), max_size=20))
def test_every_file_name_survives_its_uri(name: str) -> None:
    path = Path("/nowhere-at-all") / (name or "x")
    if ".." in path.parts:
        return
    uri = file_uri(path)
    assert uri.isascii()
    with pytest.raises(NotFound, match="nowhere-at-all"):
        read_reference(uri, None, True, None, None)


def test_media_and_tables_come_back_as_they_were(home: HomePaths) -> None:
    artifact = Artifact("data", "dataset")
    table = localstore.Table(columns=["x", "y"], data=[[1, "a"], [2, "b"]])
    artifact["predictions"] = table
    artifact.add(localstore.Html("<p>hello</p>"), "page")
    with pytest.raises(UsageError, match="object"):
        artifact.add(object(), "thing")
    artifact.save("digits")

    found = Api().artifact("data")
    assert found["predictions"].data == table.data
    assert found.get("page").html == "<p>hello</p>"
    assert found.get("none") is None


def test_code_has_a_class_of_its_own(home: HomePaths) -> None:
    from localstore.format.spec import DataClass

    artifact = Artifact("source", "code")
    with artifact.new_file("train.py") as file:
        file.write("print(1)\n" * 100)
    assert stored(artifact) == {"train.py": b"print(1)\n" * 100}
    objects = home.all_projects()[0].root / "objects"
    kinds = {path.read_bytes()[6] for path in objects.rglob("*") if path.is_file()}
    assert kinds == {DataClass.CODE}
