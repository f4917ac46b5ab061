"""docs/format.md and the code say the same, in both directions."""

from __future__ import annotations

import re
import struct
from enum import IntEnum
from pathlib import Path
from typing import Any, Final

import pytest

from localstore import identity, layout
from localstore.format import objects, segment, signed, spec

from .walk import generate

DOCUMENT: Final = Path(__file__).parent.parent.parent / "docs" / "format.md"
TEXT: Final = DOCUMENT.read_text("utf-8")
CONSTANTS: Final = re.findall(r"^\| `([A-Z][A-Z0-9_]+)` \| `(.+?)` \|", TEXT, re.MULTILINE)
MEMBERS: Final = re.findall(r"^\| `(\w+)\.(\w+)` \| `(\d+)` \|", TEXT, re.MULTILINE)
LAYOUTS: Final = re.findall(r"^[^\n]*Layout of `(\w+)\.(\w+)`.*?\n\n(\|.*?)\n\n", TEXT, re.M | re.S)
MODULES: Final[dict[str, Any]] = {
    "signed": signed,
    "segment": segment,
    "objects": objects,
    "identity": identity,
}
TYPES: Final = {"u8": "B", "u16": "H", "u32": "I", "u64": "Q", "i64": "q"}


@pytest.mark.parametrize(("name", "documented"), CONSTANTS)
def test_a_documented_constant_has_the_value_in_the_code(name: str, documented: str) -> None:
    assert repr(getattr(spec, name)) == documented


def test_every_constant_of_the_code_is_documented() -> None:
    in_code = {
        name
        for name, value in vars(spec).items()
        if name.isupper() and isinstance(value, int | bytes | frozenset)
    }
    assert in_code == {name for name, _ in CONSTANTS}


@pytest.mark.parametrize(("enum", "member", "value"), MEMBERS)
def test_a_documented_number_of_a_kind_is_the_one_in_the_code(
    enum: str, member: str, value: str
) -> None:
    assert getattr(spec, enum)[member] == int(value)


def test_every_kind_of_the_code_is_documented() -> None:
    enums = [v for v in vars(spec).values() if isinstance(v, type) and issubclass(v, IntEnum)]
    in_code = {
        (enum.__name__, member.name, str(member.value))
        for enum in enums
        if enum is not IntEnum
        for member in enum
    }
    assert in_code == set(MEMBERS)


def _fields(layout_format: str) -> list[tuple[int, int, str]]:
    """Offset, size and code of each item of a struct without alignment."""
    fields, at = [], 0
    for count, code in re.findall(r"(\d*)([a-zA-Z])", layout_format):
        repeat = 1 if code in "sx" or not count else int(count)
        size = struct.calcsize("<" + (f"{count}{code}" if code in "sx" else code))
        for _ in range(repeat):
            fields.append((at, size, code))
            at += size
    return fields


def test_all_byte_tables_are_found() -> None:
    assert {f"{module}.{name}" for module, name, _ in LAYOUTS} == {
        "signed._HEAD",
        "segment._HEADER",
        "segment._PREDECESSOR",
        "segment._FRAME",
        "segment._HEAD",
        "objects._HEADER",
        "identity._HEAD",
    }


@pytest.mark.parametrize(
    ("module", "name", "table"), LAYOUTS, ids=[f"{m}{n}" for m, n, _ in LAYOUTS]
)
def test_a_byte_table_has_the_offsets_and_sizes_of_the_code(
    module: str, name: str, table: str
) -> None:
    rows = re.findall(r"^\| `(\d+)` \| `(\d+)` \| (\w+) \|", table, re.MULTILINE)
    layout_format = getattr(MODULES[module], name).format
    wanted = _fields(layout_format)
    assert [(int(at), int(size)) for at, size, _ in rows] == [(a, s) for a, s, _ in wanted]
    for (at, _, kind), (_, size, code) in zip(rows, wanted, strict=True):
        # A padding byte of the struct module is a documented zero.
        expected = {code} if code not in "sx" else {"s", "x", "B"}
        assert kind in TYPES or kind == "bytes", (name, at)
        assert TYPES.get(kind, "s") in expected or (kind == "bytes" and size > 1), (name, at)


def test_the_example_of_the_document_is_the_one_that_the_generator_makes() -> None:
    found = TEXT.split("<!-- example:begin -->\n")[1].split("\n<!-- example:end -->")[0]
    assert found == generate.example_text()


def test_the_hex_of_the_example_is_the_whole_file() -> None:
    chapter = TEXT.split("## 15.")[1].split("## 16.")[0]
    rows = re.findall(r"^ *(\d+)  ([0-9a-f]+)(?:  |$)", chapter, re.MULTILINE)
    at = 0
    for offset, piece in rows:
        assert int(offset) == at
        at += len(piece) // 2
    assert "".join(piece for _, piece in rows) == generate.example_log().raw.hex()


def test_the_layout_accepts_what_the_document_says_and_no_more() -> None:
    """One name of each kind in chapter 3's tree parses; what is not synced is no name."""
    h16, h32 = "ab" * 16, "ab" * 32
    synced = [
        "FORMAT",
        f"links/{h32}",
        f"certs/{h32}",
        f"keys/{h16}/{h16}-{h16}",
        f"runs/{h16}/{h16}.log",
        f"runs/{h16}/{h16}-{h16}.tail",
        f"runs/{h16}/{h16}-{h16}.fork",
        f"objects/ab/{h32}",
    ]
    assert all(layout.parse_name(name).kind.syncs for name in synced)
    assert {layout.parse_name(name).kind for name in synced} == {
        kind for kind in layout.FileKind if kind.syncs
    }
    assert not layout.parse_name(f"runs/{h16}/{h16}.t0").kind.syncs
    for folder in (
        "links",
        "certs",
        "keys",
        "runs",
        "objects",
        "receipts",
        "stubs",
        "trust",
        "local",
    ):
        assert f"    {folder}/" in TEXT, folder


def test_the_document_names_the_chapters_that_the_code_cites() -> None:
    """A docstring that says `format.md section 6.3` leads somewhere."""
    headings = set(re.findall(r"^#{2,3} (\d+(?:\.\d+)?)\.? ", TEXT, re.MULTILINE))
    package = Path(spec.__file__).parent.parent
    cited = {
        number
        for path in package.rglob("*.py")
        for number in re.findall(
            r"format\.md(?:`?,)?\s+(?:sections?|chapters?)?\s*(\d+(?:\.\d+)?)",
            path.read_text("utf-8"),
        )
    }
    assert cited
    assert cited <= headings
