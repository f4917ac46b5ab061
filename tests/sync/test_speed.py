"""A sync that finds nothing to do must cost next to nothing; `make bench` says how little."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.sync.conftest import sync
from tests.sync.makers import make_project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_opened: list[str] | None = None
_installed = False


def _audit(event: str, arguments: tuple[Any, ...]) -> None:
    if _opened is not None and event == "open" and isinstance(arguments[0], str):
        _opened.append(arguments[0])


@contextmanager
def _files_opened() -> Iterator[list[str]]:
    """Paths of all files that are opened meanwhile; an audit hook stays for good, so it idles."""
    global _opened, _installed  # noqa: PLW0603
    if not _installed:
        sys.addaudithook(_audit)
        _installed = True
    found: list[str] = []
    _opened = found
    try:
        yield found
    finally:
        _opened = None


def test_a_sync_of_unchanged_runs_opens_no_file_of_a_run_on_either_side(
    home: Path, stick: Path
) -> None:
    project = make_project(home)
    for _ in range(30):
        project.run()
    assert sync(home).ok
    assert sync(home).moved == 0

    with _files_opened() as opened:
        report = sync(home)

    assert report.ok
    assert report.moved == 0
    assert opened, "the watch works"
    assert not [path for path in opened if "/runs/" in path or "/keys/" in path]
