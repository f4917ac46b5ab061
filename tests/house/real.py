"""A pytest plug-in for tests marked `real`: they need root, or programs of the system.

`@pytest.mark.real("root", "strace")` names what a test needs. Where that is missing the test is
skipped and says what is missing; with LOCALSTORE_REQUIRE_REAL=1, as in CI, a skipped one fails.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

_REQUIRED = os.environ.pop("LOCALSTORE_REQUIRE_REAL", "") == "1"


def lacking(needs: tuple[str, ...]) -> list[str]:
    """Those of `needs` that this machine does not have."""
    return [need for need in needs if not _has(need)]


def _has(need: str) -> bool:
    if need == "root":
        return sys.platform == "linux" and os.geteuid() == 0
    return shutil.which(need) is not None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what cannot run here."""
    for item in items:
        for mark in item.iter_markers("real"):
            absent = lacking(mark.args)
            if absent:
                reason = f"needs {', '.join(absent)}, which this machine lacks"
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Where everything must run, count a skipped `real` test as failed."""
    report = yield
    expected = hasattr(report, "wasxfail")
    if _REQUIRED and report.skipped and not expected and item.get_closest_marker("real"):
        report.outcome = "failed"
        report.longrepr = f"a test marked `real` was skipped: {report.longrepr}"
    return report
