"""Names and contents of files, captions, console, machine: not in clear, not sent unasked."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from localstore import Api
from localstore.format import spec
from localstore.format.segment import decode_header
from localstore.format.spec import DataClass
from localstore.reading import read_segment
from localstore.remotes import add_remote
from localstored.engine import sync_home
from tests.attacks.test_secrecy import canary, shapes
from tests.cli.conftest import call

if TYPE_CHECKING:
    from pathlib import Path

    from localstore.format.segment import SegmentHeader

FIELDS = (
    "artifact", "type", "alias", "tag", "description", "metakey", "metavalue", "filename",
    "filecontent", "refuri", "caption", "pixel", "table", "column", "savedname", "savedcontent",
    "stdout", "stderr", "config", "variable", "argument", "script", "user",
    "host",
)  # fmt: skip
RECORD = """
import os, sys, socket, localstore
c = lambda field: f"CANARY-{field}-KQZ7"
socket.gethostname = lambda: c("host")
os.uname = lambda real=os.uname(): os.uname_result((real[0], c("host"), *real[2:]))
import platform
platform.node = lambda: c("host")
script = c("script")
run = localstore.init(project="secret", id="one", config={"value": c("config")})
print(c("stdout"), flush=True)
print(c("stderr"), file=sys.stderr, flush=True)
picture = bytes((c("pixel") * 100).encode())
import numpy as np
pixels = np.frombuffer(picture, np.uint8)[:1200].reshape(20, 20, 3)
run.log({"picture": localstore.Image(pixels, caption=c("caption")),
         "table": localstore.Table(columns=[c("column")], data=[[c("table")]] * 50)})
open(c("savedname"), "w").write(c("savedcontent") * 1000)
run.save(c("savedname"))
about = {c("metakey"): c("metavalue")}
made = localstore.Artifact(c("artifact"), c("type"), c("description"), about)
for size in (1, 20_000):
    with made.new_file(f"{c('filename')}/{size}") as file:
        file.write(c("filecontent") * size)
made.add_reference(f"s3://bucket/{c('refuri')}", "reference")
run.log_artifact(made, aliases=[c("alias")], tags=[c("tag")]).wait()
run.use_artifact(c("artifact") + ":latest").download("plain")
run.finish()
"""


def leaks(root: Path) -> list[str]:
    """Every name or file below `root` that holds a canary in any shape."""
    wanted = {shape: field for field in FIELDS for shape in shapes(canary(field))}
    pattern = re.compile(b"|".join(re.escape(shape) for shape in wanted))
    found = []
    for path in root.rglob("*"):
        if path.relative_to(root).as_posix() == "identity/secret":
            continue  # the plain key itself, which has its person's name
        for content in (os.fsencode(path.name), path.read_bytes() if path.is_file() else b""):
            hit = pattern.search(content)
            if hit:
                found.append(f"{wanted[hit.group()]} in {path}")
    return found


@pytest.fixture
def synced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home with one run of everything, recorded as people have it set, and its remote."""
    for name in ("CONSOLE", "SYSTEM_METRICS", "ENVIRONMENT", "HOST_NAMES"):
        monkeypatch.delenv(f"LOCALSTORE_{name}")
    work = tmp_path / "work"
    (work / "tmp").mkdir(parents=True)
    folders = {"TMPDIR": work / "tmp", "XDG_CACHE_HOME": work / "cache"}
    for name, folder in folders.items():
        monkeypatch.setenv(name, str(folder))
    values = {"USER": "user", "LOGNAME": "user", "SECRET": "variable", "HOSTNAME": "host"}
    for name, field in values.items():
        monkeypatch.setenv(name, canary(field).decode())
    settings = {"CODE_SAVING": "all", "ENTITY": "ada"}
    for name, value in settings.items():
        monkeypatch.setenv(f"LOCALSTORE_{name}", value)
    (work / "train.py").write_text(RECORD)
    words = [sys.executable, "train.py", canary("argument").decode()]
    done = subprocess.run(words, cwd=work, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    add_remote(tmp_path / "home", "stick", str(tmp_path / "stick"))
    assert not sync_home(tmp_path / "home").failed
    return tmp_path


def logs_below(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.log"))


def headers(folder: Path) -> list[SegmentHeader]:
    return [
        decode_header(path.read_bytes()[: spec.MAX_HEADER_BYTES])[0] for path in logs_below(folder)
    ]


def test_nothing_that_was_recorded_lies_in_clear_at_home_or_on_a_remote(synced: Path) -> None:
    assert leaks(synced / "home") == []
    assert leaks(synced / "stick") == []
    run = Api().run("one")  # the canaries are there for who may read them
    assert run.facts("host")["host"] == canary("host").decode()
    assert canary("stdout").decode() in "".join(line.text for line in run.console())
    assert canary("caption").decode() in repr([file.facts for file in run.files()])
    assert len(run.logged_artifacts()) == 1
    assert call("show", "one", "--json").code == call("du").code == call("gc").code == 0
    assert call("verify", "--read-data").code == 0
    assert leaks(synced / "home") == []  # what reading leaves behind: caches are sealed
    caches = [path for path in (synced / "home").rglob("*.cache") if path.is_file()]
    assert caches
    assert list((synced / "work" / "tmp").iterdir()) == []
    assert not (synced / "work" / "cache").exists()


def test_the_search_would_find_a_leak(tmp_path: Path) -> None:
    for number, field in enumerate(FIELDS):
        (tmp_path / str(number)).write_bytes(b"\x01" + canary(field) + b"\x02")
    assert len(leaks(tmp_path)) == len(FIELDS)


def test_console_and_names_of_machine_and_user_reach_no_remote_unasked(synced: Path) -> None:
    project = Api().run("one")._project
    tag = project.policy_tag("host-names")
    here, there = headers(synced / "home"), headers(synced / "stick")
    assert DataClass.CONSOLE in {one.data_class for one in here}
    assert tag in {one.policy_tag for one in here}
    assert DataClass.CONSOLE not in {one.data_class for one in there}
    assert tag not in {one.policy_tag for one in there}
    assert {DataClass.MEDIA, DataClass.CODE, DataClass.ARTIFACTS, DataClass.SYSTEM} <= {
        one.data_class for one in there
    }
    said = []
    for path in logs_below(synced / "stick"):
        name = f"runs/{path.parent.name}/{path.name}"
        content = read_segment(project, name)
        said += [repr(record) for record in content.records.values()]
    for field in ("host", "user", "stdout", "stderr", "variable"):
        # What the program's own source names, it names.
        found = [text for text in said if canary(field).decode() in text]
        assert found == [], (field, found)


def test_every_file_and_folder_is_the_owners_alone(synced: Path) -> None:
    Api().runs()
    wide = [
        f"{stat.S_IMODE(path.lstat().st_mode):o} {path}"
        for path in [synced / "home", *(synced / "home").rglob("*")]
        if stat.S_IMODE(path.lstat().st_mode) != (0o700 if path.is_dir() else 0o600)
    ]
    assert wide == []
