"""Which program runs: scripts, modules, notebooks, or nothing that could be saved."""

from __future__ import annotations

import json
import subprocess
import sys
import types
from typing import TYPE_CHECKING, Any

from localstore.surroundings.notebook import (
    as_notebook,
    as_script,
    find_main,
    session_cells,
)

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

TELL = (
    "from localstore.surroundings.notebook import find_main\n"
    "main = find_main()\n"
    "print(main and (main.kind, main.path, len(main.content)))\n"
)


def run(*words: str, cwd: Path, stdin: str = "") -> str:
    done = subprocess.run(
        [sys.executable, *words], cwd=cwd, capture_output=True, text=True, input=stdin, check=True
    )
    return done.stdout.strip()


def test_a_script_is_found_by_its_own_name(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TELL)
    expected = ("script", str(tmp_path / "train.py"), len(TELL))
    assert run("train.py", cwd=tmp_path) == str(expected)


def test_a_script_that_left_its_folder_is_still_found(tmp_path: Path) -> None:
    text = f"import os\nos.chdir('/')\n{TELL}"
    (tmp_path / "train.py").write_text(text)
    assert str(tmp_path / "train.py") in run("train.py", cwd=tmp_path)


def test_the_main_file_of_a_module_is_found(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab/__main__.py").write_text(TELL)
    expected = ("module", str(tmp_path / "lab/__main__.py"), len(TELL))
    assert run("-m", "lab", cwd=tmp_path) == str(expected)


def test_code_of_the_command_line_or_of_stdin_is_no_file(tmp_path: Path) -> None:
    assert run("-c", TELL, cwd=tmp_path) == "None"
    assert run("-", cwd=tmp_path, stdin=TELL) == "None"


def test_an_installed_program_is_nobodys_experiment() -> None:
    assert find_main() is None  # pytest's


def test_a_script_that_deleted_itself_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(f"import os\nos.unlink(__file__)\n{TELL}")
    assert run("train.py", cwd=tmp_path) == "None"


# ------------------------------------------------------------------ sessions
class History:
    """As IPython's: the first entry is before the first cell."""

    def __init__(self, *cells: str) -> None:
        self.input_hist_raw = ["", *cells]


class Shell:
    """What IPython's shells have in common."""

    def __init__(self, *cells: str, **names: Any) -> None:
        self.history_manager = History(*cells)
        self.user_ns = names


class ZMQInteractiveShell(Shell):
    """A notebook's."""


def inside(monkeypatch: pytest.MonkeyPatch, shell: Shell | None) -> None:
    """Let a module of IPython's name answer with this shell."""
    module = types.ModuleType("IPython")
    module.get_ipython = lambda: shell  # type: ignore[attr-defined]  # a module made here
    monkeypatch.setitem(sys.modules, "IPython", module)


def test_cells_are_saved_as_they_were_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    inside(monkeypatch, ZMQInteractiveShell("x = 1\n%time y", "", "x = 2"))
    main = find_main()
    assert main is not None
    assert (main.kind, main.path) == ("notebook", "notebook.ipynb")
    document = json.loads(main.content)
    assert (document["nbformat"], document["nbformat_minor"]) == (4, 5)
    assert [(cell["execution_count"], "".join(cell["source"])) for cell in document["cells"]] == [
        (1, "x = 1\n%time y"),
        (3, "x = 2"),
    ]
    assert all(cell["outputs"] == [] and cell["id"] for cell in document["cells"])


def test_a_notebook_has_the_name_that_its_editor_tells(monkeypatch: pytest.MonkeyPatch) -> None:
    inside(monkeypatch, ZMQInteractiveShell("x", __vsc_ipynb_file__="/home/ada/lab.ipynb"))
    main = find_main()
    assert main is not None
    assert main.path == "/home/ada/lab.ipynb"


def test_a_terminal_session_becomes_a_script(monkeypatch: pytest.MonkeyPatch) -> None:
    inside(monkeypatch, Shell("x = 1", "y = 2\n"))
    main = find_main()
    assert main is not None
    assert main.kind == "session"
    assert main.content == b"# In[1]\nx = 1\n\n# In[2]\ny = 2\n"


def test_ipython_that_is_loaded_and_does_not_run_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    inside(monkeypatch, None)
    assert find_main() is None


def test_a_shell_without_history_has_no_cells() -> None:
    assert session_cells(object()) == []
    shell = Shell()
    del shell.history_manager
    shell.user_ns = {"_ih": ["", "a = 1"]}
    assert session_cells(shell) == [(1, "a = 1")]


def test_text_that_no_encoding_has_is_escaped() -> None:
    assert b"\\ud800" in as_notebook([(1, "x = '\ud800'")])
    assert as_script([(1, "x = '\udce9'")]) == b"# In[1]\nx = '\\xe9'\n"
