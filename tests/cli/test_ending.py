"""A program that used the bucket library ends with its own status, whatever its threads do."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import atexit, sys
from localstore.ending import run_program
{imports}
atexit.register(lambda: sys.stderr.write("the interpreter was taken down"))
def main():
    print("said")
    sys.exit({status})
run_program(main)
"""


def run(imports: str, status: object) -> subprocess.CompletedProcess[str]:
    program = PROGRAM.format(imports=imports, status=status)
    return subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(("status", "code"), [(0, 0), (None, 0), (69, 69)])
def test_with_the_bucket_library_nothing_runs_after_the_work_is_done(
    status: int | None, code: int
) -> None:
    done = run("import obstore", status)
    assert (done.returncode, done.stdout, done.stderr) == (code, "said\n", "")


@pytest.mark.parametrize(("status", "code"), [(0, 0), (None, 0), (69, 69), ("'why'", 1)])
def test_without_it_a_program_ends_as_any(status: object, code: int) -> None:
    done = run("", status)
    assert (done.returncode, done.stdout) == (code, "said\n")
    assert "the interpreter was taken down" in done.stderr
