"""Two starts have one fingerprint if and only if code, config and inputs are the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from localstore.reproduce.fingerprint import start_fingerprint
from localstore.surroundings.code import capture

if TYPE_CHECKING:
    from tests.surroundings.repository import Repository

FACTS: dict[str, Any] = {"commit": "a" * 40, "branch": "main", "dirty": True}
FILES = [("diff.patch", b"+1"), ("main/train.py", b"x = 1")]
CONFIG: dict[str, Any] = {"lr": 0.1, "net": {"depth": 3, "width": [1, 2]}}
INPUTS = [("data", b"d" * 32), ("words", b"w" * 32)]


def fingerprint(**changed: Any) -> bytes:
    given: dict[str, Any] = {"facts": FACTS, "files": FILES, "config": CONFIG, "inputs": INPUTS}
    return start_fingerprint(**{**given, **changed})


def test_the_same_start_has_the_same_fingerprint() -> None:
    assert len(fingerprint()) == 32
    same = fingerprint(
        facts={**FACTS, "branch": "other", "remote": "elsewhere", "root": "copy"},
        files=[("upstream.patch", b"+2"), *reversed(FILES)],
        config={"net": {"width": (1, 2), "depth": 3}, "lr": 0.1},
        inputs=[*reversed(INPUTS), INPUTS[0]],
    )
    assert same == fingerprint()


@pytest.mark.parametrize(
    "changed",
    [
        {"facts": {**FACTS, "commit": "b" * 40}},
        {"facts": {**FACTS, "submodules": {"lib": "c" * 40}}},
        {"files": [("diff.patch", b"+2"), FILES[1]]},
        {"files": [FILES[0], ("main/train.py", b"x = 2")]},
        {"files": [FILES[0], ("main/other.py", b"x = 1")]},
        {"files": [*FILES, ("untracked/a.py", b"")]},
        {"config": {**CONFIG, "lr": 0.2}},
        {"config": {**CONFIG, "lr": "0.1"}},
        {"config": {**CONFIG, "extra": None}},
        {"config": {"lr": 0.1, "net": {"depth": 3, "width": [2, 1]}}},
        {"inputs": INPUTS[:1]},
        {"inputs": [("data", b"x" * 32), INPUTS[1]]},
        {"inputs": [("other", b"d" * 32), INPUTS[1]]},
        {"arguments": ["--fast"]},
    ],
)
def test_any_change_gives_another_fingerprint(changed: dict[str, Any]) -> None:
    assert fingerprint(**changed) not in (b"", fingerprint())


def test_parts_do_not_run_into_each_other() -> None:
    one = fingerprint(files=[("diff.patch", b""), ("main/a", b"b")], inputs=[])
    other = fingerprint(files=[("diff.patch", b""), ("main/ab", b"")], inputs=[])
    assert one != other
    assert fingerprint(arguments=["a b"]) != fingerprint(arguments=["a", "b"])


@pytest.mark.parametrize(
    ("facts", "files"),
    [
        ({}, []),
        (FACTS, FILES[1:]),
        ({**FACTS, "changed_submodules": ["lib"]}, FILES),
        ({**FACTS, "limits": {"diff.patch": "over 9 bytes with binary files"}}, FILES),
    ],
)
def test_code_that_is_not_wholly_known_has_no_fingerprint(facts: Any, files: Any) -> None:
    assert fingerprint(facts=facts, files=files) == b""


def test_values_of_any_kind_have_a_place() -> None:
    config = {"nan": float("nan"), "bytes": b"x", 3: {"set"}, "object": range(3), "text": "\ud800"}
    assert fingerprint(config=config) == fingerprint(config=dict(config))


def test_a_change_in_the_repository_changes_the_fingerprint_of_a_start(
    repository: Repository,
) -> None:
    repository.commit(train="a = 1\n")

    def now() -> bytes:
        found = capture("diff", cwd=repository.root, untracked=True)
        return start_fingerprint(found.facts, found.files, CONFIG)

    seen = [now()]
    repository.write("train.py", "a = 2\n")
    seen.append(now())
    repository.write("new.py", "n = 1\n")
    seen.append(now())
    repository.commit()
    seen.append(now())
    assert len(set(seen)) == len(seen)
    assert now() == seen[-1] != b""
