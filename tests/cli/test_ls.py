"""`localstore ls`."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import localstore
from localstore.cli.filters import parse_filter
from localstore.errors import UsageError
from localstore.format.segment import decode_header
from localstore.format.spec import DataClass, RecordKind
from tests.cli.conftest import COMMAND, call

if TYPE_CHECKING:
    from collections.abc import Callable

_TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d")


def _plain(text: str) -> str:
    """A table without its times, which differ each time."""
    return _TIME.sub("TIME            ", text)


_FACTS = ("NAME", "ID", "STATE", "CREATED")


def _names(*words: str) -> list[str]:
    outcome = call("ls", "--json", *words)
    assert (outcome.code, outcome.err) == (0, "")
    return [run["name"] for run in json.loads(outcome.out)["runs"]]


def test_the_newest_run_comes_first_with_what_tells_them_apart(two_runs: None) -> None:
    outcome = call("ls")
    assert (outcome.code, outcome.err) == (0, "")
    assert _plain(outcome.out) == (
        "NAME   ID      STATE     CREATED           lr   net.depth  loss  acc\n"
        "beta   second  failed    TIME              0.2  -          2     0\n"
        "alpha  first   finished  TIME              0.1  3          0.5   1\n"
    )


def test_an_empty_store_is_no_error_and_says_what_to_do() -> None:
    outcome = call("ls", LOCALSTORE_QUIET="0")
    assert (outcome.code, outcome.out) == (0, "")
    assert "no runs yet" in outcome.err
    assert "localstore.init(" in outcome.err
    assert call("ls", "--json").out == '{\n  "runs": []\n}\n'


def test_looking_at_an_empty_store_makes_nothing(tmp_path: Path) -> None:
    call("ls")
    assert not (tmp_path / "home").exists()


def test_an_unknown_project_is_an_error(two_runs: None) -> None:
    outcome = call("ls", "nonsense")
    assert (outcome.code, outcome.out) == (66, "")
    assert outcome.err.startswith("localstore: error: no project 'nonsense' in ")
    assert outcome.err.endswith("hint: `localstore ls` lists the projects and their runs\n")


def test_a_project_whose_runs_are_in_the_trash_says_where_they_are(two_runs: None) -> None:
    call("rm", "--yes", "first", "second")
    outcome = call("ls", "digits", LOCALSTORE_QUIET="0")
    assert (outcome.code, outcome.out) == (0, "")
    assert outcome.err == (
        "localstore: no runs in digits; `localstore ls --trash` lists what is deleted\n"
    )


def test_runs_that_nothing_tells_apart_show_their_first_values(
    make_run: Callable[..., str],
) -> None:
    for name in ("one", "two"):
        make_run([{"loss": 1.0}], name=name, config={"lr": 0.1})
    assert call("ls").out.splitlines()[0].split() == [*_FACTS, "lr", "loss"]


def test_a_home_that_is_a_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    outcome = call("--home", str(tmp_path / "file"), "ls")
    assert outcome.code == 78
    assert "want a folder" in outcome.err


def test_several_projects_stand_one_after_another(
    two_runs: None, make_run: Callable[..., str]
) -> None:
    make_run(id="third", name="gamma", project="words")
    titles = [line for line in call("ls").out.splitlines() if line.startswith("ada/")]
    assert titles == ["ada/digits  (2 runs)", "ada/words  (1 run)"]
    assert _names("words") == _names("ada/words") == ["gamma"]


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["--filter", "lr<0.15"], ["alpha"]),
        (["--filter", "lr = 0.2"], ["beta"]),
        (["--filter", "config.lr>=0.1", "--filter", "summary.loss<=0.5"], ["alpha"]),
        (["--filter", "lr!=0.2"], ["alpha"]),
        (["--filter", "net.depth=3"], ["alpha"]),
        (["--filter", "name~^b"], ["beta"]),
        (["--filter", "id=second"], ["beta"]),
        (["--filter", '{"config.lr": {"$in": [0.1, 7]}}'], ["alpha"]),
        (["--state", "failed"], ["beta"]),
        (["--state", "running", "--state", "crashed"], []),
        (["--order", "+created_at"], ["alpha", "beta"]),
        (["--order", "-summary.loss"], ["beta", "alpha"]),
        (["--limit", "1"], ["beta"]),
        (["--trash"], []),
    ],
)
def test_filters_orders_and_limits(two_runs: None, words: list[str], names: list[str]) -> None:
    assert _names(*words) == names


@pytest.mark.parametrize("text", ["lr", "", "=3", "{", '{"a": ', "<3"])
def test_a_filter_of_no_form_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="filter"):
        parse_filter(text)


@pytest.mark.parametrize("text", ['{"$bogus": 1}', "name~(", '{"config.lr": {"$what": 1}}'])
def test_a_filter_that_no_run_can_answer_is_a_usage_error(two_runs: None, text: str) -> None:
    assert call("ls", "--filter", text).code == 2


def test_json_is_strict_and_has_all_facts(make_run: Callable[..., str]) -> None:
    make_run([{"loss": float("nan")}], id="one", config={"lr": float("inf")}, tags=["a"])

    def refuse(constant: str) -> Any:
        raise AssertionError(constant)

    found = json.loads(call("ls", "--json").out, parse_constant=refuse)["runs"]
    assert [run["path"] for run in found] == ["ada/digits/one"]
    assert found[0]["summary"] == {"loss": "NaN"}
    assert found[0]["config"] == {"lr": "Infinity"}
    assert (found[0]["state"], found[0]["exit_code"], found[0]["tags"]) == ("finished", 0, ["a"])


HOSTILE = "\x1b[31m[red]x[/red]\x07\r\n\u202e\u009b2J"


@pytest.mark.parametrize("words", [["ls"], ["show", "one"], ["ls", "--json"], ["rm", "-y", "one"]])
def test_hostile_names_keys_and_values_are_shown_inert(
    make_run: Callable[..., str], words: list[str]
) -> None:
    """Neither control characters, nor escapes, nor a table's own markup act on a terminal."""
    about: dict[str, Any] = {"name": HOSTILE, "config": {HOSTILE: HOSTILE}, "notes": HOSTILE}
    make_run([{HOSTILE: 1.0}, {HOSTILE: HOSTILE}], id="one", tags=[HOSTILE], **about)
    outcome = call(*words)
    assert outcome.code == 0
    assert not set("\x1b\x07\r\u202e\u009b") & set(outcome.out + outcome.err)


def _on_terminal(*words: str, width: int = 100) -> str:
    """What a person sees: the command on a pseudo-terminal of so many characters."""
    main, side = pty.openpty()
    environment = {**os.environ, "COLUMNS": str(width), "TERM": "xterm-256color"}
    with os.fdopen(main, "rb", buffering=0) as screen:
        process = subprocess.Popen(
            [str(COMMAND), *words], stdin=side, stdout=side, stderr=side, env=environment
        )
        os.close(side)
        seen = b""
        while True:
            try:
                piece = screen.read(4096)
            except OSError:  # the other side is closed
                break
            if not piece:
                break
            seen += piece
        assert process.wait(60) == 0
    return seen.decode()


def test_markup_in_a_name_is_text_on_a_terminal(make_run: Callable[..., str]) -> None:
    make_run(id="one", name="[red]x[/red] \x1b[31m :smile:")
    seen = _on_terminal("ls")
    assert "[red]x[/red] \\x1b[31m :smile:" in seen
    assert "s ago" in seen


@pytest.mark.parametrize(("width", "values"), [(50, 0), (70, 2), (90, 4), (150, 6)])
def test_a_narrow_terminal_shortens_names_and_leaves_out_values_but_no_id(
    make_run: Callable[..., str], width: int, values: int
) -> None:
    config = {"batch_size": 1024, "lr": 0.125, "optimizer": "adamw"}
    rows = [{"accuracy": 0.99, "loss": 1.5, "perplexity": 4.25}]
    make_run(rows, id="ab12cd34", name="a-name-that-is-rather-long", config=config)
    seen = re.sub(r"\x1b\[[0-9;]*m", "", _on_terminal("ls", width=width))
    title, row = (line.rstrip() for line in seen.splitlines())
    assert re.search(r"  ab12cd34  finished  \d+ s ago", row)
    assert max(len(title), len(row)) <= width
    assert len(title.split()) == len(_FACTS) + values


def _damage(run_id: str, data_class: DataClass) -> None:
    """Flip a bit in the first frame of one segment of a run."""
    run = localstore.Api().run(run_id)
    home = Path(os.environ["LOCALSTORE_HOME"])
    folder = next((home / "projects").glob(f"*/runs/{run.subject}"))
    for log in folder.glob("*.log"):
        raw = bytearray(log.read_bytes())
        header, start = decode_header(raw)
        if header.data_class == data_class:
            raw[start + 60] ^= 1
            log.write_bytes(raw)


def test_damage_is_named_and_what_is_readable_is_printed(two_runs: None) -> None:
    _damage("first", DataClass.META)
    outcome = call("ls")
    assert outcome.code == 20
    assert "beta" in outcome.out
    assert re.search(
        r"localstore: warning: projects/\w+/runs/\w+/\w+\.log at byte \d+: ", outcome.err
    )
    lines = outcome.err.splitlines()
    assert len(lines) == len(set(lines))


@pytest.mark.parametrize("words", [["show", "first"], ["export", "first"], ["export"]])
def test_damage_of_a_history_is_named_too(two_runs: None, words: list[str]) -> None:
    _damage("first", DataClass.METRICS)
    outcome = call(*words)
    assert outcome.code == 20
    assert re.match(r"localstore: warning: projects/\w+/runs/", outcome.err)
    assert call("show", "second").code == 0


@pytest.mark.parametrize("words", [["ls"], ["ls", "--json"], ["show", "one"], ["export", "one"]])
def test_a_time_that_no_calendar_has_stops_nothing(
    two_runs: None,
    make_run: Callable[..., str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
) -> None:
    """Times are claims of whoever wrote a run, with whatever clock."""
    with monkeypatch.context() as mad_clock:
        mad_clock.setattr("time.time_ns", lambda: (1 << 60) * 1000)
        make_run([{"x": 1}], id="one")
    outcome = call(*words)
    assert (outcome.code, outcome.err) == (0, "")


_NOW = 1_800_000_000_000_000
NONSENSE: list[list[Any]] = [
    [RecordKind.START, _NOW, {"tags": 5}],
    [RecordKind.START, _NOW, {"process": 5, "name": ["x"], "id": {"a": 1}}],
    [RecordKind.START, _NOW, {"process": {"pid": "x", "boot": [1]}, "notes": b"\xff"}],
    [RecordKind.CONFIG, _NOW, {1: 2, "x": {3: {4: 5}}, "y": b"\xff"}, []],
    [RecordKind.CONFIG, _NOW, {"a": 1}, [[1], {}]],
    [RecordKind.SUMMARY, _NOW, {1: 2, b"x": 1}, []],
    [RecordKind.STATE, _NOW, "failed", "x"],
    [RecordKind.DEFINE, _NOW, "x*[", {"summary": 5}],
    [RecordKind.DEFINE, _NOW, "x", {"summary": [[]], "goal": [], 1: 2}],
    [RecordKind.GAP, _NOW, -5, "\x1b[31m"],
    [RecordKind.EDIT, _NOW],
    [99, (1 << 63) - 1, 3],
]


@pytest.mark.parametrize("record", NONSENSE, ids=str)
@pytest.mark.parametrize("ended", [True, False])
def test_a_run_full_of_nonsense_stops_no_other(
    two_runs: None, record: list[Any], ended: bool
) -> None:
    """A machine with a ticket may sign what it likes; everybody else's runs are still listed."""
    run = localstore.init(project="digits", id="bad")
    run.log({"x": 1, "n": {"y": 2}})
    run._append_meta(record)
    if not ended:
        run._writer.close()  # the process vanished
    run.finish()
    for words in (
        ["ls"],
        ["ls", "--json"],
        ["export"],
        ["ls", "--filter", "lr>0"],
        ["show", "bad"],
    ):
        assert call(*words).code in ((0, 66) if words[0] == "show" else (0,))
    assert '"ada/digits/first"' in call("ls", "--json").out


def test_filters_that_are_no_mapping_are_refused(two_runs: None) -> None:
    with pytest.raises(UsageError, match="want as in"):
        localstore.Api().runs(filters="lr<1")  # type: ignore[arg-type]
