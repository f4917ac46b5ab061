"""`localstore remote`: what a person adds, sees and tries; and what stands in remotes.toml."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

import pytest

from localstore.errors import AlreadyExists, BadSetting, RemoteError
from localstore.remotes import RemoteEntry, add_remote, read_remotes
from tests.cli.conftest import call
from tests.house.servers import ACCESS_KEY, SECRET_KEY, S3Server, free_port

if TYPE_CHECKING:
    from pathlib import Path

ID = "0123456789abcdef"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """The home of the test's environment."""
    return tmp_path / "home"


def words(server: S3Server) -> list[str]:
    return ["--endpoint", server.endpoint, "--credentials", server.credentials]


def claimed(url: str, **options: str) -> str:
    """A claim that reaches nobody."""
    return ID


# ------------------------------------------------------------------ the command
def test_a_bucket_is_added_tried_and_listed(rclone_s3: S3Server, home: Path) -> None:
    url = f"s3://{rclone_s3.bucket}/by-hand"
    added = call("remote", "add", "cloud", url, *words(rclone_s3))
    assert added.code == 0
    entry = read_remotes(home)["cloud"]
    assert added.out == f"cloud is {url}, remote {entry.id}\n"

    tried = call("remote", "check", "cloud", "--json")
    assert tried.code == 0
    found = json.loads(tried.out)
    assert [one["what"] for one in found] == ["reach", "write", "read", "list", "delete", "create"]
    assert all(one["ok"] for one in found)
    assert "we look first" in found[-1]["note"]

    listed = json.loads(call("remote", "ls", "--json").out)
    assert listed == [{"name": "cloud", "id": entry.id, "url": url, **rclone_s3.options}]
    assert call("remote", "rm", "cloud").code == 0
    again = call("remote", "add", "cloud", url, *words(rclone_s3))
    assert again.out == added.out


def test_no_secret_stands_in_the_home_or_is_said(rclone_s3: S3Server, home: Path) -> None:
    said = [
        call("remote", "add", "cloud", f"s3://{rclone_s3.bucket}/x", *words(rclone_s3)),
        call("remote", "check", "cloud"),
        call("remote", "ls", "--json"),
    ]
    texts = [one.out + one.err for one in said]
    texts += [path.read_text("latin-1") for path in home.rglob("*") if path.is_file()]
    assert not [text for text in texts if SECRET_KEY in text or ACCESS_KEY in text]


def test_what_leaves_is_said_when_a_remote_is_added(tmp_path: Path) -> None:
    added = call("remote", "add", "stick", str(tmp_path / "stick"))
    assert added.err == (
        "what leaves for stick when you sync:\n"
        "  meta, metrics, media, artifacts, code     yes, encrypted\n"
        "  system                                    yes, encrypted, without host and user names\n"
        "  console                                   never\n"
    )


def test_what_leaves_is_what_the_policy_says(tmp_path: Path, home: Path) -> None:
    home.mkdir()
    (home / "policy.toml").write_text(
        '[classes]\nconsole = "auto"\nartifacts = "manual"\n'
        '[conditions]\nnetwork = "unmetered"\n[remotes.stick.classes]\nmedia = "never"\n'
    )
    said = call("remote", "add", "stick", str(tmp_path / "stick")).err.splitlines()[1:]
    assert [" ".join(line.split()) for line in said] == [
        "meta, metrics yes, encrypted, under conditions",
        "media never",
        "artifacts when you say `localstore sync now`, encrypted, under conditions",
        "code yes, encrypted, under conditions",
        "system yes, encrypted, without host and user names, under conditions",
        "console yes, encrypted, under conditions",
    ]


def test_a_bucket_that_cannot_be_reached_is_not_written_down(
    rclone_s3: S3Server, home: Path
) -> None:
    nobody = S3Server(f"http://127.0.0.1:{free_port()}", rclone_s3.credentials)
    tried = call("remote", "add", "cloud", f"s3://{rclone_s3.bucket}/x", *words(nobody))
    assert tried.code == RemoteError.exit_code
    assert "cannot be reached: connection refused" in tried.err
    assert nobody.endpoint in tried.err
    assert "hint: are --endpoint and the name" in tried.err
    assert read_remotes(home) == {}


def test_a_file_of_credentials_is_looked_at_before_anybody_is_asked(
    home: Path, tmp_path: Path
) -> None:
    words = ["remote", "add", "cloud", "s3://bucket/x", "--endpoint", "http://127.0.0.1:9"]
    missing = call(*words, "--credentials", f"file:{tmp_path}/keys")
    assert missing.code == 66
    assert "make it" in missing.err
    (tmp_path / "keys").write_text("")
    (tmp_path / "keys").chmod(0o644)
    open_to_all = call(*words, "--credentials", f"file:{tmp_path}/keys")
    assert open_to_all.code == 77
    assert f"chmod 600 {tmp_path}/keys" in open_to_all.err
    assert read_remotes(home) == {}


@pytest.mark.parametrize("url", ["s3:/bucket/x", "s3s://bucket/x", "az:bucket"])
def test_what_was_meant_as_a_bucket_is_not_taken_for_a_folder(home: Path, url: str) -> None:
    outcome = call("remote", "add", "cloud", url, "--endpoint", "http://127.0.0.1:9")
    assert outcome.code == 78
    assert "s3://BUCKET/PREFIX" in outcome.err
    assert read_remotes(home) == {}


def test_remotes_are_listed_under_titles(tmp_path: Path, home: Path) -> None:
    assert call("remote", "ls").out == ""
    call("remote", "add", "stick", str(tmp_path / "stick"))
    titles, row = call("remote", "ls").out.splitlines()
    assert titles.split() == ["REMOTE", "PLACE", "ID"]
    assert row.split() == ["stick", str(tmp_path / "stick"), read_remotes(home)["stick"].id]


def test_a_remote_that_does_not_work_says_which_step_fails(
    rclone_s3: S3Server, home: Path, tmp_path: Path
) -> None:
    add_remote(
        home,
        "cloud",
        f"s3://{rclone_s3.bucket}/nobody-was-here",
        claim=claimed,
        **rclone_s3.options,
    )
    tried = call("remote", "check", "cloud")
    assert tried.code == RemoteError.exit_code
    assert tried.out.startswith("reach   failed  no localstore remote in s3://")


def test_a_folder_is_tried_alike(tmp_path: Path) -> None:
    call("remote", "add", "stick", str(tmp_path / "stick"))
    tried = call("remote", "check", "stick")
    assert tried.code == 0
    assert [line.split()[:2] for line in tried.out.splitlines()] == [
        [what, "ok"] for what in ("reach", "write", "read", "list", "delete", "create")
    ]
    assert not [path for path in (tmp_path / "stick").rglob("*.log")]


def test_an_unknown_remote_is_not_tried() -> None:
    assert call("remote", "check", "nobody").code == 66


# ------------------------------------------------------------------ remotes.toml
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"endpoint": "https://rgw.example:8443/s3", "region": "eu central"},
        {"credentials": "keyring:cloud"},
        {"proxy": "http://proxy.example:3128", "region": 'quo"te'},
    ],
    ids=str,
)
def test_options_come_back_as_they_were_given(home: Path, options: dict[str, str]) -> None:
    made = add_remote(home, "cloud", "s3://bucket/a/b/", claim=claimed, **options)
    assert made == RemoteEntry("cloud", "s3://bucket/a/b", ID, **options)
    assert read_remotes(home) == {"cloud": made}
    assert set(tomllib.loads((home / "remotes.toml").read_text())["remotes"]["cloud"]) == {
        "url", "id", *options,
    }  # fmt: skip


def test_paths_are_written_whole(
    home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The service has another working folder."""
    monkeypatch.chdir(tmp_path)
    made = add_remote(
        home, "cloud", "s3://bucket/x", claim=claimed, credentials="file:keys", ca_file="ca.pem"
    )
    assert made.credentials == f"file:{tmp_path}/keys"
    assert made.ca_file == f"{tmp_path}/ca.pem"


@pytest.mark.parametrize(
    "url",
    [
        "s3://", "s3:///x", "s3://b", "s3://bucket/../x", "s3://bucket/a/./b", "s3://bucket//x",
        "s3://user:secret@bucket/x", "s3://bucket/x?y", "s3://bucket/x y", "s3://bucket/\x1b[0m",
        "http://bucket/x", "ftp://bucket/x", "S3://bucket/x",
    ],
)  # fmt: skip
def test_a_url_of_another_form_is_no_remote(home: Path, url: str) -> None:
    with pytest.raises(BadSetting):
        add_remote(home, "cloud", url, claim=claimed)
    assert read_remotes(home) == {}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("endpoint", "rgw.example"),
        ("endpoint", "https://user:secret@rgw.example"),
        ("proxy", "http://user:secret@proxy.example:3128"),
        ("credentials", "AKIA0000:secret"),
        ("credentials", "keyring:"),
        ("region", "a\nb"),
        ("ca_file", "\x00"),
    ],
)
def test_an_option_of_another_form_is_refused_and_not_repeated(
    home: Path, key: str, value: str
) -> None:
    with pytest.raises(BadSetting) as caught:
        add_remote(home, "cloud", "s3://bucket/x", claim=claimed, **{key: value})
    assert key in str(caught.value)
    assert "user:secret" not in str(caught.value)


def test_options_of_a_bucket_are_not_for_folders(home: Path, tmp_path: Path) -> None:
    with pytest.raises(BadSetting, match="is a folder"):
        add_remote(home, "stick", str(tmp_path / "stick"), region="x")


@pytest.mark.parametrize(
    "text",
    [
        '[remotes.x]\nurl = "s3://b/x"\nid = "0123456789abcdef"\nsecret = "x"',
        '[remotes.x]\nurl = "s3://b/x"\nid = "0123456789abcdef"\nendpoint = 3',
        '[remotes.x]\nurl = "s3://b/x"\nid = "0123456789abcdef"\ncredentials = "secret"',
        '[remotes.x]\nurl = "/mnt/x"\nid = "0123456789abcdef"\nregion = "x"',
    ],
)
def test_a_file_with_other_keys_is_an_error_that_names_it(home: Path, text: str) -> None:
    home.mkdir()
    (home / "remotes.toml").write_text(text)
    with pytest.raises(BadSetting):
        read_remotes(home)


def test_one_bucket_is_added_once(home: Path) -> None:
    add_remote(home, "cloud", "s3://bucket/x", claim=claimed)
    with pytest.raises(AlreadyExists):
        add_remote(home, "again", "s3://bucket/x", claim=claimed)


def test_without_an_engine_a_bucket_is_not_added(home: Path) -> None:
    with pytest.raises(BadSetting, match="no engine") as caught:
        add_remote(home, "cloud", "s3://bucket/x")
    assert "localstore[daemon]" in caught.value.hint


def test_rules_for_a_remote_that_goes_and_comes_under_another_name_are_told(tmp_path: Path) -> None:
    folder = str(tmp_path / "stick")
    assert call("remote", "add", "stick", folder).code == 0
    assert call("policy", "set", "metrics", "never", "--remote", "stick").code == 0
    assert "rules for the remote stick stay" in call("remote", "rm", "stick").err
    again = call("remote", "add", "other", folder)
    assert "rules name a remote stick, which is not there; they do not hold for other" in again.err
    assert call("remote", "rm", "other").code == 0
    back = call("remote", "add", "stick", folder)
    assert "which is not there" not in back.err
