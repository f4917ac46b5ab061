"""Which program runs: the main script, the main file of `-m`, or a notebook's cells as executed.

Imports nothing of IPython: a session that has none of it loaded runs none.
"""

from __future__ import annotations

import json
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from localstore.surroundings.git import read_plain, utf8

if TYPE_CHECKING:
    from collections.abc import Sequence

MAIN_LIMIT_BYTES: Final = 4 << 20
_KERNEL: Final = "ZMQInteractiveShell"  # what a notebook runs in; others are terminals


@dataclass(frozen=True, slots=True)
class MainCode:
    """The program of this process.

    Attributes:
        path: where it lies, absolute; of a session, a name of our own.
        content: as it is on disk now, or the cells that were executed so far.
        kind: `script`, `module`, `notebook` or `session`.
    """

    path: str
    content: bytes
    kind: str


def find_main() -> MainCode | None:
    """The program of this process; None for `-c`, for a bare prompt, and for installed programs.

    A file that lies among the installed packages (pytest, a launcher's worker) is nobody's
    experiment.
    """
    shell = _shell()
    if shell is not None:
        return _of_session(shell)
    main = sys.modules.get("__main__")
    facts = vars(main) if main is not None else {}
    name = facts.get("__file__")
    if not isinstance(name, str):
        return None
    path = Path(name).absolute()
    content = None if _is_installed(path) else read_plain(path.resolve(), MAIN_LIMIT_BYTES)
    if content is None:
        return None
    kind = "module" if facts.get("__spec__") is not None else "script"
    return MainCode(str(path), content, kind)


def _is_installed(path: Path) -> bool:
    places = (sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib", "scripts"))
    resolved = path.resolve()
    return any(resolved.is_relative_to(Path(place).resolve()) for place in places if place)


def _shell() -> Any:
    """The IPython shell that runs this code, if any does."""
    get = getattr(sys.modules.get("IPython"), "get_ipython", None)
    try:
        return get() if get is not None else None
    except Exception:  # noqa: BLE001  # a foreign shell, half started or half gone
        return None


def _of_session(shell: Any) -> MainCode | None:
    cells = session_cells(shell)
    if not cells:
        return None
    if type(shell).__name__ != _KERNEL:
        return MainCode("session.py", as_script(cells), "session")
    return MainCode(_notebook_name(shell), as_notebook(cells), "notebook")


def session_cells(shell: Any) -> list[tuple[int, str]]:
    """Number and source of each cell in the order of execution, as the person wrote it.

    Args:
        shell: an IPython shell; its history's first entry is before the first cell.
    """
    history = getattr(shell, "history_manager", None)
    raw = getattr(history, "input_hist_raw", None)
    if not isinstance(raw, list):
        raw = getattr(shell, "user_ns", {}).get("_ih")
    if not isinstance(raw, list):
        return []
    return [(at, str(source)) for at, source in enumerate(raw) if at and str(source).strip()]


def _notebook_name(shell: Any) -> str:
    """The notebook's name where the editor tells it, else a name of our own."""
    told = getattr(shell, "user_ns", {}).get("__vsc_ipynb_file__")
    return told if isinstance(told, str) and told.endswith(".ipynb") else "notebook.ipynb"


def as_notebook(cells: Sequence[tuple[int, str]]) -> bytes:
    """Cells as an .ipynb file (nbformat 4.5), without outputs."""
    document = {
        "cells": [
            {
                "cell_type": "code",
                "execution_count": number,
                "id": f"in-{number}",
                "metadata": {},
                "outputs": [],
                "source": source.splitlines(keepends=True),
            }
            for number, source in cells
        ],
        "metadata": {
            "language_info": {
                "name": "python",
                "version": ".".join(map(str, sys.version_info[:3])),
                "file_extension": ".py",
                "mimetype": "text/x-python",
            }
        },
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return (json.dumps(document, indent=1) + "\n").encode()


def as_script(cells: Sequence[tuple[int, str]]) -> bytes:
    """Cells as one Python file, each under a comment with its number."""
    text = "\n\n".join(f"# In[{number}]\n{source.rstrip()}" for number, source in cells)
    return f"{utf8(text)}\n".encode()
