"""No plain text reaches a file, no byte a network, no mode is wider than its owner's."""

from __future__ import annotations

import base64
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

import pytest

import localstore
from localstore.remotes import add_remote
from tests.sdk.scripts import only_run, run_script

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FIELDS = (
    "project", "entity", "name", "group", "jobtype", "tag", "notes", "confkey", "confvalue",
    "metric", "nested", "text", "listitem", "summarykey", "summaryvalue", "exception", "runid",
    "defined", "longtext", "manytext",
)  # fmt: skip
WRITE = """
import sys, localstore
c = lambda field: f"CANARY-{field}-KQZ7"
run = localstore.init(project=c("project"), entity=c("entity"), name=c("name"), id=c("runid"),
    group=c("group"), job_type=c("jobtype"), tags=[c("tag")], notes=c("notes"),
    config={c("confkey"): c("confvalue"), "nested": {c("nested"): [c("listitem")]}})
run.define_metric(c("defined"), summary="min")
for step in range(3000):
    run.log({c("metric"): step, "text": c("text"), "long": c("longtext") * 50,
             "many": f"{c('manytext')}-{step}"})
run.summary[c("summarykey")] = c("summaryvalue")
run.flush()
run.log({c("metric"): 1})
if sys.argv[1] == "die":
    import os, signal
    os.kill(os.getpid(), signal.SIGKILL)
raise RuntimeError(c("exception"))
"""


def canary(field: str) -> bytes:
    return f"CANARY-{field}-KQZ7".encode()


def shapes(secret: bytes) -> Iterator[bytes]:
    """A secret as it is, in hex, in base64 at each alignment, and in UTF-16."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    yield secret.decode().encode("utf-16-le")
    yield secret.decode().encode("utf-16-be")
    yield secret[::-1]
    for shift in range(3):
        # What does not depend on the neighbours.
        whole = base64.b64encode(bytes(shift) + secret)
        yield whole[4 if shift else 0 : (shift + len(secret)) // 3 * 4]
        yield base64.urlsafe_b64encode(bytes(shift) + secret)[4 if shift else 0 : -4]


def leaks(root: Path) -> list[str]:
    """Every name or file below `root` that holds a canary in any shape."""
    wanted = {shape: field for field in FIELDS for shape in shapes(canary(field))}
    pattern = re.compile(b"|".join(re.escape(shape) for shape in wanted))
    found = []
    for path in root.rglob("*"):
        sources = [os.fsencode(path.name)]
        if path.is_file():
            sources.append(path.read_bytes())
        for content in sources:
            hit = pattern.search(content)
            if hit:
                found.append(f"{wanted[hit.group()]} in {path}")
    return found


@pytest.mark.parametrize("end", ["raise", "die"])
def test_no_file_holds_what_was_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str
) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HOME", str(tmp_path / "person"))
    run_script(WRITE, end)
    assert leaks(tmp_path) == []
    run = only_run()
    run.history(pandas=False)
    assert (run.id, run.project) == (canary("runid").decode(), canary("project").decode())
    assert run.summary["text"] == canary("text").decode()
    assert leaks(tmp_path) == []  # what reading leaves behind included


def test_the_search_for_leaks_finds_each_shape(tmp_path: Path) -> None:
    for number, shape in enumerate(shapes(canary("text"))):
        (tmp_path / "file").write_bytes(b"\x01\x02" + shape + b"\x03")
        assert leaks(tmp_path), number
    for shift in range(3):
        around = base64.b64encode(b"x" * shift + canary("text") + b"yz")
        (tmp_path / "file").write_bytes(around)
        assert leaks(tmp_path), shift


def test_nothing_is_printed_that_was_recorded() -> None:
    _, out, err = run_script(WRITE.replace("raise RuntimeError(c('exception'))", ""), "end")
    text = re.sub(r"RuntimeError: .*", "", out + err)
    text = re.sub(r"(?s)Traceback.*", "", text)
    assert "CANARY" not in text


def test_a_run_that_is_erased_leaves_no_keyslot_no_file_and_no_copy_in_a_cache() -> None:
    with localstore.init(project="erase", id="gone", config={"a": 1}) as run:
        run.log({"n": 1})
    with localstore.init(project="erase", id="kept") as kept:
        kept.log({"n": 2})
    stored = localstore.Api().run("erase/gone")
    project, subject = stored._project, stored._subject.hex()
    stored.delete(now=True)
    assert [one.id for one in localstore.Api().runs()] == ["kept"]
    names = [path for path in project.paths.root.rglob("*") if subject in str(path)]
    assert names == []
    for resume in (None, "allow", "must", "never"):
        with pytest.raises(localstore.LocalStoreError, match="was deleted"):
            localstore.init(project="erase", id="gone", resume=resume)
    assert not (project.paths.runs / subject).exists()
    assert not (project.paths.keys / subject).exists()


def test_an_open_run_can_be_erased() -> None:
    run = localstore.init(project="erase")
    run.log({"n": 1})
    run.delete(now=True)
    run.log({"n": 2})
    assert (run.finished, localstore.Api().runs()) == (True, [])


# ------------------------------------------------------------------ modes
def test_under_the_widest_umask_everything_is_the_owners_alone(tmp_path: Path) -> None:
    run_script("import os; os.umask(0)\n" + WRITE, "die")
    previous = os.umask(0)
    try:
        localstore.Api().runs()
        localstore.init(project="more").finish()
    finally:
        os.umask(previous)
    wide = [
        f"{stat.S_IMODE(path.lstat().st_mode):o} {path}"
        for path in [tmp_path / "home", *(tmp_path / "home").rglob("*")]
        if stat.S_IMODE(path.lstat().st_mode) != (0o700 if path.is_dir() else 0o600)
    ]
    assert wide == []


# ------------------------------------------------------------------ network
RECORD = """
import localstore
run = localstore.init(project="network", config={"lr": 1})
for step in range(2000): run.log({"loss": step})
run.finish()
localstore.Api().runs()[0].history(pandas=False)
"""


@pytest.mark.real("strace")
def test_recording_and_reading_touch_no_network_although_a_remote_is_there(
    tmp_path: Path,
) -> None:
    run_script(RECORD)
    add_remote(tmp_path / "home", "stick", str(tmp_path / "stick"))
    trace = tmp_path / "trace"
    filters = "trace=network,openat,open"
    words = ["strace", "-f", "-qq", "-o", str(trace), "-e", filters, sys.executable, "-c", RECORD]
    done = subprocess.run(words, capture_output=True, text=True)
    if "PTRACE" in done.stderr or "ptrace" in done.stderr:
        pytest.skip("tracing is not permitted here")
    assert done.returncode == 0, done.stderr
    lines = trace.read_text().splitlines()
    assert any("meta" in line or ".log" in line for line in lines)
    wanted = r"socket\(|connect\(|sendto\(|bind\(|resolv\.conf|nsswitch|/etc/hosts|gai\.conf"
    assert [line for line in lines if re.search(wanted, line)] == []
    assert sorted(path.name for path in (tmp_path / "stick").iterdir()) == ["LOCALSTORE-REMOTE"]


@pytest.mark.real("root", "unshare")
def test_recording_works_where_there_is_no_network_at_all() -> None:
    words = [shutil.which("unshare") or "unshare", "-n", sys.executable, "-c", RECORD]
    done = subprocess.run(words, capture_output=True, text=True)
    if "unshare failed" in done.stderr:
        pytest.skip("namespaces are not permitted here")
    assert (done.returncode, done.stderr) == (0, "")
    assert only_run().state == "finished"


def test_no_temporary_file_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    run_script(RECORD)
    assert list(temporary.iterdir()) == []
    left = [path for path in (tmp_path / "home").rglob(".*") if path.is_file()]
    assert left == []
