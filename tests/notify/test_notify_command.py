"""`localstore notify`."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.cli.conftest import COMMAND, call
from tests.watching.conftest import until

if TYPE_CHECKING:
    from localstore.layout import HomePaths
    from tests.notify.conftest import Sink


def test_what_is_added_says_what_it_sends_and_is_listed_without_secrets(home: HomePaths) -> None:
    done = call("notify", "add", "chat", "webhook", "https://example.org/hooks/SECRET?x=SECRET",
                "--on", "finished,crashed", "--tell", "name", "--silent-after", "2h")  # fmt: skip
    assert done.code == 0
    assert "chat tells of: finished, crashed; it sends: path, state, name" in done.err
    listed = call("notify", "ls")
    assert "https://example.org " in listed.out
    assert "SECRET" not in listed.out
    (one,) = json.loads(call("notify", "ls", "--json").out)
    assert one == {
        "name": "chat", "kind": "webhook", "where": "https://example.org", "at_most": 20,
        "on": ["finished", "crashed"], "tell": ["path", "state", "name"], "silent_min": 120,
        "sync_min": 60, "unsent_since_us": None, "unsent_because": None,
    }  # fmt: skip
    assert call("notify", "add", "chat", "desktop").code == 73
    assert call("notify", "rm", "chat").code == 0
    assert call("notify", "rm", "chat").code == 66
    assert not (home.root / "notify.toml").exists()


@pytest.mark.parametrize(
    "words",
    [("x", "pigeon"), ("x", "webhook"), ("x", "webhook", "http://example.org"), ("x", "mail"),
     ("x", "desktop", "more"), ("x", "command"), ("x", "desktop", "--on", "everything"),
     ("x", "desktop", "--tell", "config"), ("x", "desktop", "--at-most", "0"), ("a/b", "desktop"),
     ("x", "mail", "a@example.org", "--server", "h", "--user", "u", "--password", "clear")],
)  # fmt: skip
def test_wrong_words_are_refused_and_nothing_is_written(
    home: HomePaths, words: tuple[str, ...]
) -> None:
    assert call("notify", "add", *words).code == 2
    assert not (home.root / "notify.toml").exists()


def test_a_test_message_goes_out_now(home: HomePaths, sink: Sink) -> None:
    call("notify", "add", "chat", "webhook", sink.url)
    assert call("notify", "test", "chat").code == 0
    assert "this is a test of the notifier chat" in sink.got[0].body["text"]
    sink.answers = [(500, {})]
    done = call("notify", "test", "chat")
    assert (done.code, "the webhook answers 500" in done.err) == (69, True)
    assert call("notify", "test", "nobody").code == 66


def test_one_event_is_said_once(home: HomePaths, sink: Sink, make_run: Any) -> None:
    call("notify", "add", "chat", "webhook", sink.url)
    call("notify", "test", "chat")
    path = make_run("good")
    assert call("notify", "run", "--once").code == 0
    assert [one.body["text"] for one in sink.got] == [
        "localstore: this is a test of the notifier chat",
        f"localstore: run {path} finished",
    ]


def test_a_notifier_that_does_not_get_through_is_named_in_the_list(
    home: HomePaths, sink: Sink, make_run: Any
) -> None:
    call("notify", "add", "chat", "webhook", sink.url)
    make_run("good")
    sink.answers = [(500, {})]
    call("notify", "run", "--once")
    listed = call("notify", "ls")
    assert "chat does not get through since" in listed.err
    assert "the webhook answers 500" in listed.err
    assert json.loads(call("notify", "ls", "--json").out)[0]["unsent_because"]
    call("notify", "run", "--once")
    assert call("notify", "ls").err == ""


def test_without_the_library_a_webhook_says_what_to_install(
    home: HomePaths, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    call("notify", "add", "chat", "webhook", sink.url)
    monkeypatch.setitem(sys.modules, "httpx", None)
    outcome = call("notify", "test", "chat")
    assert outcome.code == 69
    assert "install localstore[daemon]" in outcome.err


def test_once_tells_what_there_is_to_tell(home: HomePaths, sink: Sink, make_run: Any) -> None:
    assert call("notify", "run", "--once").code == 66
    call("notify", "add", "chat", "webhook", sink.url)
    path = make_run("r1")
    for _ in range(2):
        assert call("notify", "run", "--once").code == 0
    assert [post.body["events"] for post in sink.got] == [[{"path": path, "state": "finished"}]]


def test_without_a_key_it_says_what_it_cannot_tell(home: HomePaths, sink: Sink) -> None:
    call("notify", "add", "chat", "webhook", sink.url)
    shutil.rmtree(home.identity)
    done = call("notify", "run", "--once")
    assert (done.code, "only trouble with remotes" in done.err) == (0, True)


def test_it_tells_until_it_is_interrupted(home: HomePaths, sink: Sink, make_run: Any) -> None:
    call("notify", "add", "chat", "webhook", sink.url)
    make_run("r1")
    with subprocess.Popen([str(COMMAND), "notify", "run"]) as process:
        try:
            until(lambda: sink.got)
            assert call("notify", "run").code == 73, "one is enough"
            process.send_signal(signal.SIGINT)
            assert process.wait(10) == 0
        finally:
            process.kill()
