"""`make wheelhouse`: what it writes down is so, and it installs where there is no network."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from typing import TYPE_CHECKING, Any

import pytest

from scripts.wheelhouse import BILL, LOCK, SUMS, bill, read_parts, write_documents
from tests.house.sources import ROOT

if TYPE_CHECKING:
    from pathlib import Path

LICENCES = {
    "License-Expression: Apache-2.0": "Apache-2.0",
    "License: MIT": "MIT",
    "License: " + "a whole text " * 40 + "\nClassifier: License :: OSI Approved :: BSD License": (
        "BSD License"
    ),
    "Summary: none": "",
}


def make_wheel(folder: Path, name: str, header: str = "License: MIT") -> dict[str, Any]:
    """A tiny wheel, and what pip's report says of it."""
    file = f"{name}-1.0+cpu-py3-none-any.whl"
    with zipfile.ZipFile(folder / file, "w") as archive:
        archive.writestr(f"{name}-1.0.dist-info/METADATA", f"Name: {name}\n{header}\n\nabout it")
    return {
        "metadata": {"name": name, "version": "1.0", "summary": "a part"},
        "download_info": {"url": f"file:///x/{file.replace('+', '%2B')}"},
    }


@pytest.fixture
def installs(tmp_path: Path) -> list[dict[str, Any]]:
    made = [make_wheel(tmp_path, name) for name in ("localstore", "Py_NaCl", "six")]
    made[0]["metadata"]["requires_dist"] = ["py.nacl>=1.6", 'colour; sys_platform == "win32"']
    return made


def test_every_wheel_is_in_all_three_documents_and_others_go(
    tmp_path: Path, installs: list[dict[str, Any]]
) -> None:
    make_wheel(tmp_path, "leftover")
    write_documents(tmp_path, read_parts(installs, tmp_path))
    assert len(list(tmp_path.glob("*.whl"))) == 3
    checked = subprocess.run(["sha256sum", "--check", "--strict", SUMS], cwd=tmp_path)
    assert checked.returncode == 0
    assert len((tmp_path / SUMS).read_text().splitlines()) == 3
    assert "py-nacl==1.0 --hash=sha256:" in (tmp_path / LOCK).read_text()
    document = json.loads((tmp_path / BILL).read_text())
    assert document["bomFormat"] == "CycloneDX"
    assert {one["purl"] for one in document["components"]} == {
        "pkg:pypi/py-nacl@1.0",
        "pkg:pypi/six@1.0",
    }


def test_the_bill_says_who_needs_whom_and_is_the_same_for_the_same_wheels(
    tmp_path: Path, installs: list[dict[str, Any]]
) -> None:
    parts = read_parts(installs, tmp_path)
    document = bill(parts)
    needs = {one["ref"]: one["dependsOn"] for one in document["dependencies"]}
    assert needs["pkg:pypi/localstore@1.0"] == ["pkg:pypi/py-nacl@1.0"]
    assert document == bill(read_parts(installs[::-1], tmp_path))


@pytest.mark.parametrize(("header", "licence"), LICENCES.items(), ids=LICENCES.values())
def test_a_licence_is_what_the_metadata_say(tmp_path: Path, header: str, licence: str) -> None:
    (part,) = read_parts([make_wheel(tmp_path, "part", header)], tmp_path)
    assert part.licence == licence


@pytest.mark.fuzz
def test_a_machine_without_an_index_installs_from_the_wheelhouse_alone(tmp_path: Path) -> None:
    """Needs a package index to collect; the installation needs none."""
    house, venv = tmp_path / "house", tmp_path / "venv"
    script = [sys.executable, str(ROOT / "scripts/wheelhouse.py"), str(house)]
    subprocess.run(script, check=True, timeout=300)
    subprocess.run([sys.executable, "-m", "venv", str(venv)], check=True, timeout=120)
    environment = {name: value for name, value in os.environ.items() if "PIP" not in name}
    words = ["install", "--isolated", "--no-index", "--find-links", str(house)]
    subprocess.run(
        [venv / "bin/python", "-m", "pip", *words, "--require-hashes", "-r", str(house / LOCK)],
        check=True,
        env=environment,
        timeout=300,
    )
    said = subprocess.run(
        [venv / "bin/localstore", "--version"],
        check=True,
        capture_output=True,
        text=True,
        env={**environment, "PYTHONPATH": ""},
    )
    assert said.stdout.startswith("localstore ")
    helped = subprocess.run([venv / "bin/localstored", "--help"], capture_output=True)
    assert helped.returncode == 0
