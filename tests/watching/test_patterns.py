"""Which names are meant."""

from __future__ import annotations

import pytest

from localstore.errors import UsageError
from localstore.watching.patterns import Pattern, is_unfinished, marker_of


@pytest.mark.parametrize(
    ("pattern", "path", "meant"),
    [
        ("*.ckpt", "a.ckpt", True),
        ("*.ckpt", "sub/a.ckpt", False),
        ("*.ckpt", "a.CKPT", False),
        ("sub/*.ckpt", "sub/a.ckpt", True),
        ("**/*.pt", "a.pt", True),
        ("**/*.pt", "x/y/z/a.pt", True),
        ("runs/**/best.pt", "runs/best.pt", True),
        ("runs/**/best.pt", "other/best.pt", False),
        ("checkpoint-*/", "checkpoint-10", True),
        ("[ab].bin", "b.bin", True),
    ],
)
def test_a_pattern_means_what_it_says(pattern: str, path: str, meant: bool) -> None:
    assert Pattern.read(pattern).fits(path.split("/")) is meant


@pytest.mark.parametrize(
    "pattern", ["", "/", "/etc/*", "../*", "a/../b", "a//b", "**", "x/**", "."]
)
def test_a_pattern_that_leads_elsewhere_or_nowhere_is_refused(pattern: str) -> None:
    with pytest.raises(UsageError):
        Pattern.read(pattern)


@pytest.mark.parametrize(
    ("pattern", "folder", "leads"),
    [
        ("*.ckpt", "sub", False),
        ("sub/*.ckpt", "sub", True),
        ("sub/*.ckpt", "other", False),
        ("**/*.pt", "x/y", True),
        ("runs/**/a", "runs/x/y", True),
        ("runs/**/a", "other", False),
    ],
)
def test_a_look_goes_down_only_where_the_pattern_leads(
    pattern: str, folder: str, leads: bool
) -> None:
    assert Pattern.read(pattern).leads_to(folder.split("/")) is leads


@pytest.mark.parametrize(
    "name",
    [".a.ckpt", "a.ckpt.tmp", "a.part", "a.PARTIAL", "a.incomplete", "a.ckpt~", "tmp-checkpoint-5",
     "a.ckpt.tmp.8f3a", "a.tmp1234", "#a#", "a.lock"],
)  # fmt: skip
def test_names_that_say_not_yet_are_passed_over(name: str) -> None:
    assert is_unfinished(name)
    assert Pattern.read("*").refuses(name)


@pytest.mark.parametrize(
    "name", ["a.ckpt", "model-part-1.bin", "temperature.pt", "part.pt", "a.pt"]
)
def test_ordinary_names_are_not(name: str) -> None:
    assert not is_unfinished(name)


def test_who_asks_for_such_names_gets_them() -> None:
    assert not Pattern.read("*.part").refuses("a.part")
    assert not Pattern.read(".hidden*").refuses(".hidden1")


def test_a_marker_is_named_after_what_it_marks() -> None:
    assert marker_of("{name}.done", "a.ckpt") == "a.ckpt.done"
    assert marker_of("{stem}.ok", "a.ckpt") == "a.ok"
    assert marker_of("DONE", "anything") == "DONE"


@pytest.mark.parametrize("template", ["", "../DONE", "a/b", "{who}", "}"])
def test_a_marker_that_is_no_name_is_refused(template: str) -> None:
    with pytest.raises(UsageError):
        marker_of(template, "a")
