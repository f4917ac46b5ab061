"""How a program ends that may have used a library with threads of its own.

The bucket library's threads ask for the interpreter when they drop what they held. One that asks
while the interpreter is being taken down aborts the process, after all of its work was done well.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_THREADED: Final = "obstore"


def run_program(main: Callable[[], object]) -> None:
    """Run a program's `main`, and end the process with the status that it asks for.

    Raises:
        SystemExit: as `main` does, where no such library was used.
    """
    try:
        main()
        code: int = 0
    except SystemExit as end:
        if not isinstance(end.code, int | None):
            raise
        code = end.code or 0
    if _THREADED in sys.modules:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError, AttributeError):
                stream.flush()
        os._exit(code)
    sys.exit(code)
