"""The documents say what is so: commands, settings, links, modules, targets."""

from __future__ import annotations

import importlib
import re
import subprocess
from typing import TYPE_CHECKING

import click
import pytest

from localstore.cli import main as command_line
from localstore.settings import SETTINGS
from tests.house.sources import ROOT, document, modules, quoted, table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

README = document("README.md")
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), ROOT / "bench/README.md"]
)
ALL_TEXT = "\n".join(document(name) for name in DOCUMENTS)


def commands(group: click.Group, before: str) -> Iterator[str]:
    """Every command that does something, with its groups before it."""
    context = click.Context(group)
    for name in group.list_commands(context):
        found = group.get_command(context, name)
        assert found is not None
        if isinstance(found, click.Group):
            yield from commands(found, f"{before} {name}")
        else:
            yield f"{before} {name}"


def sources_of_product_and_tests() -> Iterator[Path]:
    yield from modules().values()
    for folder in ("tests", "examples", "bench"):
        yield from (ROOT / folder).rglob("*.py")


@pytest.mark.parametrize("command", sorted(commands(command_line, "localstore")))
def test_a_command_is_in_the_readme(command: str) -> None:
    assert f"`{command}`" in README


def test_the_readme_names_no_command_that_is_not_there() -> None:
    known = set(commands(command_line, "localstore"))
    groups = {command.rpartition(" ")[0] for command in known} | {"localstore"}
    named = {cell for row in table("README.md", "Commands") for cell in quoted(row[0])}
    assert {name for name in named if name.startswith("localstore ")} <= known | groups


def test_every_setting_is_in_the_readme_with_its_variable() -> None:
    rows = {quoted(row[0])[0]: row for row in table("README.md", "Settings")}
    assert set(rows) == set(SETTINGS)
    for name, row in rows.items():
        assert quoted(row[1]) == [f"LOCALSTORE_{name.upper()}"]
        assert ("not in files" in row[3]) == (not SETTINGS[name].in_files), name
        for word in filter(None, SETTINGS[name].words):
            assert f"`{word}`" in "".join(row), f"{name}: {word}"


def test_every_variable_that_code_speaks_of_is_documented() -> None:
    found = {
        name
        for path in sources_of_product_and_tests()
        for name in re.findall(r"\bLOCALSTORE_[A-Z][A-Z_]*[A-Z]\b", path.read_text("utf-8"))
    }
    internal = {"LOCALSTORE_COMPLETE"}  # click's own, between a shell and its completion
    assert not {name for name in found - internal if name not in ALL_TEXT}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_relative_link_leads_somewhere(name: str) -> None:
    text = re.sub(r"```.*?```", "", document(name), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:", target):
            path = (ROOT / name).parent / target.partition("#")[0]
            assert path.exists(), f"{name} links to {target}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_names_only_modules_and_attributes_that_exist(name: str) -> None:
    text = re.sub(r"```.*?```", "", document(name), flags=re.DOTALL)
    for dotted in re.findall(r"`(localstored?(?:\.[A-Za-z_]+)+)`", text):
        if dotted.endswith((".toml", ".db", ".service", ".lock", ".identity", ".engine")):
            continue
        module = max((one for one in modules() if f"{dotted}.".startswith(f"{one}.")), key=len)
        found: object = importlib.import_module(module)
        for part in filter(None, dotted[len(module) :].split(".")):
            found = getattr(found, part)


def test_the_map_names_every_module() -> None:
    """A module that nobody put on the map has no place yet: find one, or name its package."""
    mapped = {
        word for row in table("ARCHITECTURE.md", "Where things are") for word in quoted(row[0])
    }
    lost = {
        module
        for module in modules()
        if module.count(".")
        and not any(module == one or module.startswith(f"{one}.") for one in mapped)
    }
    assert not lost
    assert mapped <= set(modules())


def test_every_target_that_is_documented_is_in_the_makefile_and_the_other_way_round() -> None:
    makefile = document("Makefile")
    targets = set(re.findall(r"^([a-z]+):", makefile, re.MULTILINE))
    named = set(re.findall(r"\bmake ([a-z]+)\b(?=[^\n]*#|`| BENCH| TEST)", ALL_TEXT))
    assert named <= targets
    assert targets - {"help"} <= named
    said = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True)
    assert set(re.findall(r"^make ([a-z]+)", said.stdout, re.MULTILINE)) == targets - {"help"}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_document_has_no_lines_that_refer_to_line_numbers(name: str) -> None:
    """They are wrong a week later; symbols and sections stay."""
    assert not re.search(r"\.py:\d+|\bline \d+ of\b", document(name))


def test_every_decision_is_in_the_list() -> None:
    folder = ROOT / "docs/decisions"
    listed = re.findall(r"\((\d{4}-[a-z0-9-]+\.md)\)", (folder / "README.md").read_text("utf-8"))
    assert sorted(listed) == sorted(path.name for path in folder.glob("0*.md"))


def test_the_changelog_has_the_version_of_the_package() -> None:
    import localstore

    assert f"## [{localstore.__version__}]" in document("CHANGELOG.md")
