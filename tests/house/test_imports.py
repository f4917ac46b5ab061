"""The import tables of ARCHITECTURE.md, executed."""

from __future__ import annotations

import ast
import sys

import pytest

from tests.house.sources import PACKAGES, imports, modules, quoted, table, tree, uses, within

MAY_IMPORT = {
    quoted(who)[0]: quoted(what) for who, what, _ in table("ARCHITECTURE.md", "Who may import whom")
}
OWNERS = {
    quoted(what)[0]: quoted(who)
    for what, who, _ in table("ARCHITECTURE.md", "Who owns what comes from outside")
}
NAMES = ("os.environ", "os.getenv", "print", "eval", "exec")


def rule_of(module: str) -> str:
    """The row that counts for a module."""
    return max((row for row in MAY_IMPORT if within(module, row)), key=len)


def is_ours(name: str) -> bool:
    return any(within(name, package) for package in PACKAGES)


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_what_its_package_may(module: str) -> None:
    allowed = MAY_IMPORT[rule_of(module)]
    wrong = {
        name
        for name in imports(module, types_too=True)
        if is_ours(name) and not any(within(name, one) for one in allowed)
    }
    assert not wrong, f"{module} may import {allowed or 'nothing of ours'}"


@pytest.mark.parametrize("module", modules())
def test_what_comes_from_outside_has_one_owner(module: str) -> None:
    found = set(imports(module, types_too=False))
    for thing, owners in OWNERS.items():
        met = thing in NAMES and uses(module, thing)
        met = met or any(within(name, thing) for name in found)
        allowed = any(within(module, owner) for owner in owners)
        assert allowed or not met, f"{thing} belongs to {owners or 'nobody'}"


@pytest.mark.parametrize("module", modules())
def test_a_library_without_an_owner_is_not_imported(module: str) -> None:
    roots = {name.partition(".")[0] for name in imports(module, types_too=False)}
    strangers = roots - set(OWNERS) - set(PACKAGES) - sys.stdlib_module_names
    assert not strangers, "add a row to ARCHITECTURE.md, with a reason"


@pytest.mark.parametrize("module", [name for name in modules() if within(name, "localstore")])
def test_the_daemon_is_not_imported_by_a_name_in_a_string_either(module: str) -> None:
    texts = [node.value for node in ast.walk(tree(module)) if isinstance(node, ast.Constant)]
    assert not [text for text in texts if isinstance(text, str) and text.startswith("localstored.")]


def test_every_owner_and_every_rule_names_a_module_that_exists() -> None:
    named = {name for owners in OWNERS.values() for name in owners} | set(MAY_IMPORT)
    named |= {name for allowed in MAY_IMPORT.values() for name in allowed}
    assert named <= set(modules())


def test_an_owner_uses_what_it_owns() -> None:
    """A row that nobody needs any more would hide who may use a thing."""
    for thing, owners in OWNERS.items():
        for owner in owners:
            below = [module for module in modules() if within(module, owner)]
            found = {name for module in below for name in imports(module, types_too=False)}
            used = any(within(name, thing) for name in found)
            used = used or any(uses(module, thing) for module in below)
            assert used or not below, f"{owner} does not use {thing}"
