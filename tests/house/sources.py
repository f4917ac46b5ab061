"""Reads the project's own sources and documents, for the tests of the house rules."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
PACKAGES: Final = {"localstore": ROOT / "localstore", "localstored": ROOT / "daemon/localstored"}


@cache
def modules() -> dict[str, Path]:
    """Every module of the product by its dotted name."""
    found = {}
    for package, folder in PACKAGES.items():
        for path in sorted(folder.rglob("*.py")):
            parts = [package, *path.relative_to(folder).with_suffix("").parts]
            found[".".join(parts).removesuffix(".__init__")] = path
    return found


@cache
def tree(module: str) -> ast.Module:
    """The syntax tree of one module."""
    return ast.parse(modules()[module].read_text("utf-8"))


def imports(module: str, *, types_too: bool) -> Iterator[str]:
    """What a module imports, as dotted names of modules.

    Args:
        types_too: also what is imported for the type checker alone.
    """
    skipped = () if types_too else _for_types(tree(module))
    for node in ast.walk(tree(module)):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield full if full in modules() else base


def _for_types(top: ast.Module) -> frozenset[ast.AST]:
    """All nodes below `if TYPE_CHECKING:`."""
    return frozenset(
        below
        for node in ast.walk(top)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in node.body
        for below in ast.walk(child)
    )


def uses(module: str, name: str) -> bool:
    """Whether a module speaks of `name`: `os.environ`, or a call of `print`."""
    for node in ast.walk(tree(module)):
        if isinstance(node, ast.Attribute) and ast.unparse(node) == name:
            return True
        if isinstance(node, ast.Call) and ast.unparse(node.func) == name:
            return True
    return False


def within(module: str, package: str) -> bool:
    """Whether a module is `package` or stands below it."""
    return module == package or module.startswith(f"{package}.")


def document(name: str) -> str:
    """The text of a document, by its path from the project's root."""
    return (ROOT / name).read_text("utf-8")


def table(name: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading of a document, without its two head rows."""
    _, found, rest = document(name).partition(f"\n## {heading}\n")
    assert found, f"{name} has no section {heading!r}"
    section = rest.partition("\n## ")[0]
    rows = re.findall(r"^\|(.+)\|$", section, re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")] for row in rows[2:]]


def quoted(cell: str) -> list[str]:
    """The words of a cell that stand in back quotes."""
    return re.findall(r"`([^`]+)`", cell)
