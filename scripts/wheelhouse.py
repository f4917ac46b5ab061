"""Collects what an installation without a network needs: wheels, checksums, a bill of materials.

    python scripts/wheelhouse.py dist/wheelhouse            # for this Python and platform
    python scripts/wheelhouse.py DIR --python-version 3.12 --platform manylinux_2_28_x86_64

pip collects and pip resolves; this only writes down what pip says. Beside the wheels it leaves
`SHA256SUMS`, `requirements.txt` with hashes, and `bom.cdx.json`, a CycloneDX 1.5 document. The same
wheels make the same documents, byte for byte.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
import uuid
import zipfile
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from email.message import Message

ROOT: Final = Path(__file__).resolve().parents[1]
DEFAULT_EXTRAS: Final = "all"
SUMS, LOCK, BILL = "SHA256SUMS", "requirements.txt", "bom.cdx.json"
_READ_BYTES: Final = 1 << 20
_NAMESPACE: Final = uuid.UUID("6ba7b811-9dad-11d1-80b4-00c04fd430c8")  # RFC 4122, names of URLs


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One wheel that the resolution chose.

    Attributes:
        name: normalised, as package indexes write it. sha256: hex. needs: names of other parts.
        licence: an SPDX expression or what its metadata says, empty when they say nothing.
    """

    name: str
    version: str
    file: str
    sha256: str
    licence: str
    summary: str
    needs: tuple[str, ...]

    @property
    def purl(self) -> str:
        """Its package URL."""
        return f"pkg:pypi/{self.name}@{self.version}"


def normalised(name: str) -> str:
    """A name as PEP 503 compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


# ------------------------------------------------------------------ collecting
def pip(*words: str) -> None:
    """Run pip; what it says goes to stderr.

    Raises:
        SystemExit: pip failed.
    """
    base = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]
    done = subprocess.run([*base, *words], stdout=sys.stderr, check=False)
    if done.returncode:
        raise SystemExit(f"wheelhouse: pip {words[0]} failed")


def collect(folder: Path, extras: str, target: list[str]) -> None:
    """Put our own wheel and all that it needs into a folder, which is emptied first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pip("wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT))
    (own,) = folder.glob("localstore-*.whl")
    wanted = f"{own}[{extras}]"
    if target:
        pip("download", "--quiet", "--only-binary=:all:", "--dest", str(folder), *target, wanted)
    else:
        pip("wheel", "--quiet", "--wheel-dir", str(folder), wanted)


def resolve(folder: Path, extras: str, target: list[str]) -> list[Part]:
    """What pip would install from this folder alone, sorted by name; proves that all is there."""
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.json"
        where = ["--no-index", "--find-links", str(folder)]
        aim = ["--target", scratch, "--only-binary=:all:", *target] if target else []
        # Isolated: find-links of this machine must not stand in for a wheel that is missing.
        words = [
            "--isolated",
            "--quiet",
            "--dry-run",
            "--ignore-installed",
            "--report",
            str(report),
        ]
        pip("install", *words, *where, *aim, f"localstore[{extras}]")
        found = json.loads(report.read_text("utf-8"))["install"]
    return read_parts(found, folder)


def read_parts(installs: list[dict[str, Any]], folder: Path) -> list[Part]:
    """The parts of pip's installation report, with the hashes of the wheels in `folder`."""
    names = {normalised(one["metadata"]["name"]) for one in installs}
    parts = [_part(one, folder, names) for one in installs]
    return sorted(parts, key=lambda part: part.name)


def _part(install: dict[str, Any], folder: Path, names: set[str]) -> Part:
    facts = install["metadata"]
    file = install["download_info"]["url"].rpartition("/")[2].replace("%2B", "+")
    needed = {normalised(re.split(r"[^\w.-]", one)[0]) for one in facts.get("requires_dist", [])}
    name = normalised(facts["name"])
    return Part(
        name=name,
        version=facts["version"],
        file=file,
        sha256=sha256_of(folder / file),
        licence=licence_of(metadata_of(folder / file)),
        summary=facts.get("summary", ""),
        needs=tuple(sorted((needed & names) - {name})),
    )


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_READ_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def metadata_of(wheel: Path) -> Message:
    """The metadata that stand in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        name = next(one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        return HeaderParser().parsestr(archive.read(name).decode("utf-8"))


def licence_of(facts: Message) -> str:
    """What the metadata say: the expression, else one short line, else the classifiers."""
    text = str(facts.get("License-Expression") or facts.get("License") or "").strip()
    if text and "\n" not in text and len(text) <= 80:
        return text
    kinds = [one for one in facts.get_all("Classifier", []) if one.startswith("License ::")]
    return ", ".join(str(one).split(" :: ")[-1] for one in kinds)


# ------------------------------------------------------------------ documents
def sums(parts: list[Part]) -> str:
    """As `sha256sum --check` reads it."""
    return "".join(f"{part.sha256}  {part.file}\n" for part in sorted(parts, key=lambda p: p.file))


def lock(parts: list[Part]) -> str:
    """As `pip install --require-hashes -r` reads it."""
    return "".join(f"{one.name}=={one.version} --hash=sha256:{one.sha256}\n" for one in parts)


def bill(parts: list[Part]) -> dict[str, Any]:
    """A CycloneDX 1.5 document; its serial number is made of its content."""
    own = next(part for part in parts if part.name == "localstore")
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, sums(parts))}",
        "version": 1,
        "metadata": {"component": _component(own, "application")},
        "components": [_component(part, "library") for part in parts if part is not own],
        "dependencies": [
            {"ref": part.purl, "dependsOn": [_purl_of(name, parts) for name in part.needs]}
            for part in parts
        ],
    }


def _purl_of(name: str, parts: list[Part]) -> str:
    return next(part.purl for part in parts if part.name == name)


def _component(part: Part, kind: str) -> dict[str, Any]:
    known: dict[str, Any] = {
        "type": kind,
        "bom-ref": part.purl,
        "name": part.name,
        "version": part.version,
        "purl": part.purl,
        "hashes": [{"alg": "SHA-256", "content": part.sha256}],
        "properties": [{"name": "localstore:wheel", "value": part.file}],
    }
    if part.summary:
        known["description"] = part.summary
    if part.licence:
        known["licenses"] = [{"license": {"name": part.licence}}]
    return known


def write_documents(folder: Path, parts: list[Part]) -> None:
    """Write the three documents, and drop wheels that nothing needs."""
    chosen = {part.file for part in parts}
    for wheel in folder.glob("*.whl"):
        if wheel.name not in chosen:
            wheel.unlink()
    (folder / SUMS).write_text(sums(parts), "utf-8")
    (folder / LOCK).write_text(lock(parts), "utf-8")
    (folder / BILL).write_text(json.dumps(bill(parts), indent=2) + "\n", "utf-8")


def main() -> None:
    """Make a wheelhouse."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="is emptied first")
    parser.add_argument("--extras", default=DEFAULT_EXTRAS, help="as in localstore[daemon,query]")
    parser.add_argument("--python-version", help="of the machine that installs, as 3.12")
    parser.add_argument("--platform", action="append", default=[], help="as manylinux_2_28_x86_64")
    given = parser.parse_args()
    target = [word for one in given.platform for word in ("--platform", one)]
    if given.python_version:
        target += ["--python-version", given.python_version]
    collect(given.folder, given.extras, target)
    parts = resolve(given.folder, given.extras, target)
    write_documents(given.folder, parts)
    size_mb = sum((given.folder / part.file).stat().st_size for part in parts) / 1e6
    print(f"{given.folder}: {len(parts)} wheels, {size_mb:.0f} MB, {SUMS}, {LOCK}, {BILL}")


if __name__ == "__main__":
    main()
