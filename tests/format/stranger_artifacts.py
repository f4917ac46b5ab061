"""The second reader's part for artifacts, written from chapters 7 and 9 of docs/format.md alone.

It reads manifests, makes digests of versions and folds an artifact's records. It imports nothing of
localstore.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import struct
from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import blake3
import nacl.bindings as sodium
import nacl.exceptions

from .stranger import Refused, expand, padme, value

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    Fetch = Callable[[bytes, bytes], tuple[int, bytes]]

Map = dict[str, Any]


# chapter 9
def open_object(raw: bytes, key: bytes, name: bytes, dedup: bytes = b"") -> tuple[int, bytes]:
    """Class and content of an object."""
    if len(raw) < 8 + 128 + 16:
        raise Refused("torn")
    if hashlib.sha256(raw).digest() != name:
        raise Refused("forged")
    if raw[:6] != b"LSOB\1\1" or raw[7] or len(raw) > 16777216:
        raise Refused("damaged")
    try:
        plain = sodium.crypto_aead_xchacha20poly1305_ietf_decrypt(
            raw[8:], b"ls1/object" + raw[:8], bytes(24), key
        )
    except nacl.exceptions.CryptoError:
        raise Refused("forged") from None
    if dedup and blake3.blake3(raw[6:7] + plain, key=dedup).digest() != key:
        raise Refused("forged")
    word, length = struct.unpack_from("<II", plain)
    size, how = word & 0x0FFFFFFF, word >> 28
    data = plain[8 : 8 + size]
    check(how < 2 and len(data) == size and not any(plain[8 + size :]))
    check(len(plain) == padme(8 + size))
    content = expand(data) if how else data
    check(len(content) == length)
    return raw[6], content


# chapter 9.1
def is_int(number: object) -> bool:
    return type(number) is int and 0 <= number < 2**63


def is_bytes(one: object, size: int = 32) -> bool:
    return type(one) is bytes and len(one) == size


def check(fits: bool) -> None:
    if not fits:
        raise Refused("damaged")


def check_path(path: Any) -> None:
    check(type(path) is str and "\0" not in path and len(path.encode()) <= 4096)
    check(not {"", ".", ".."} & set(path.split("/")))


def check_part(part: Any) -> None:
    check(type(part) is list and len(part) == 4)
    check(is_bytes(part[0]) and is_bytes(part[1]) and is_int(part[2]) and is_int(part[3]))
    check(part[3] > 0 and part[2] + part[3] <= 16777216)


ABSENT = {"files": None, "more": None, "size": None, "hash": b"", "uri": ""}


def there(body: Map, name: str) -> bool:
    """Whether a field is given; each has one value that is as none."""
    none = ABSENT[name]
    one = body.get(name, none)
    return type(one) is not type(none) or one != none


def check_file(file: Any) -> None:
    check(type(file) is dict)
    check_path(file.get("path"))
    check(not there(file, "size") or is_int(file["size"]))
    check(not there(file, "hash") or is_bytes(file["hash"]))
    parts = file.get("parts", [])
    check(type(parts) is list)
    if there(file, "uri"):
        check(type(file["uri"]) is str and not parts)
        return
    check(there(file, "size") and there(file, "hash"))
    for part in parts:
        check_part(part)
    check(sum(part[3] for part in parts) == file["size"])


def files_of(
    place: tuple[bytes, bytes], fetch: Fetch, levels: int, wanted: int | None
) -> Iterator[Map]:
    check(levels > 0)
    data_class, content = fetch(*place)
    check(wanted in (None, data_class))
    body = value(content)
    check(type(body) is dict and type(body.get("v")) is int and body["v"] == 1)
    check(there(body, "files") != there(body, "more"))
    if there(body, "files"):
        files = body["files"]
        check(type(files) is list and (bool(files) or wanted is None))
        for one in files:
            check_file(one)
        yield from files
        return
    check(type(body["more"]) is list and bool(body["more"]))
    for one in body["more"]:
        check(type(one) is list and len(one) == 2 and is_bytes(one[0]) and is_bytes(one[1]))
        yield from files_of((one[0], one[1]), fetch, levels - 1, data_class)


def read_manifest(first: tuple[bytes, bytes], fetch: Fetch) -> list[Map]:
    """All files of a version; `fetch` gives class and content of an object by its id and key."""
    files: list[Map] = []
    for one in files_of(first, fetch, 8, None):
        check(not files or files[-1]["path"].encode() < one["path"].encode())
        check(len(files) < 10_000_000)
        files.append(one)
    return files


def can_be_placed(paths: list[str]) -> bool:
    """Whether no file is also a folder of others."""
    files = set(paths)
    above = {"/".join(p.split("/")[:n]) for p in paths for n in range(1, p.count("/") + 1)}
    return not files & above


def read_file_record(record: list[Any]) -> Map | None:
    """A FILE record as a file of a manifest, with its content as `data` or `parts`."""
    if record[0] != 12 or type(record[2]) is not str or type(record[3]) is not dict:
        return None
    body = record[3]
    found = {"path": record[2]} | {n: body[n] for n in ("size", "hash", "data") if n in body}
    found["parts"] = body.get("parts", [])
    for part in found["parts"]:
        check_part(part)
    held = sum(p[3] for p in found["parts"]) if "data" not in body else len(body["data"])
    check(is_int(body["size"]) and is_bytes(body["hash"]) and held == body["size"])
    return found


def console(outputs: list[tuple[bytes, int, list[Any]]]) -> list[list[Any]]:
    """Stream and text of OUTPUTs, each of which comes with its writer and sequence."""
    out: list[list[Any]] = []
    changing: dict[tuple[bytes, int], int] = {}
    for writer, _, record in sorted(outputs, key=lambda one: (one[2][1], one[0], one[1])):
        stream, text = record[2:4]
        replaced = changing.pop((writer, stream), None)
        if replaced is not None:
            out[replaced] = []
        if text.endswith("\r"):
            changing[writer, stream] = len(out)
        out.append([stream, text])
    return [one for one in out if one]


# chapter 9.2
def version_digest(files: Iterable[Map]) -> bytes:
    data = b""
    for one in sorted(files, key=lambda one: str(one["path"]).encode()):
        path, uri = one["path"].encode(), (one.get("uri") or "").encode()
        size = one["size"] if there(one, "size") else 2**64 - 1
        data += struct.pack("<I", len(path)) + path + bytes((uri != b"",))
        data += struct.pack("<Q", size) + (one.get("hash") or bytes(32))
        data += struct.pack("<I", len(uri)) + uri
    return hashlib.blake2b(data, digest_size=32, person=b"ls1/version").digest()


# chapter 7: edits of an artifact
def is_label(text: object) -> bool:
    return (
        type(text) is str
        and 0 < len(text) <= 128
        and text.strip() != ""
        and text.strip(".") != ""
        and not re.search(r"[/\\:\x00-\x1f\x7f]", text)
    )


def is_alias(text: object) -> bool:
    return is_label(text) and not re.fullmatch(r"v[0-9]+(\.[0-9a-f]*)?", str(text))


def is_tag(text: object) -> bool:
    return (
        type(text) is str
        and 0 < len(text) <= 256
        and text.strip() != ""
        and not re.search(r"[\x00-\x1f\x7f]", text)
    )


class History:
    """The EDITs of an artifact, and who saw whom."""

    def __init__(self, edits: list[tuple[list[Any], bool]]) -> None:
        self.edits = edits
        self.direct: dict[bytes, set[bytes]] = defaultdict(set)
        for edit, _ in edits:
            self.direct[edit[2]] |= {one for one in edit[3] if is_bytes(one, 16)}

    def seen(self, edits: Iterable[list[Any]]) -> set[bytes]:
        found: set[bytes] = set()
        waiting = [one for edit in edits for one in edit[3] if is_bytes(one, 16)]
        while waiting:
            one = waiting.pop()
            if one not in found:
                found.add(one)
                waiting += self.direct.get(one, ())
        return found

    def last(self, edits: list[list[Any]]) -> list[Any]:
        seen = self.seen(edits)
        unseen = [edit for edit in edits if edit[2] not in seen]
        return sorted(unseen or edits, key=lambda edit: (edit[1], edit[2]))[-1]

    def tips(self) -> set[bytes]:
        named = {one for own, some in self.direct.items() for one in some if one != own}
        return set(self.direct) - named


def maps_of(edit: list[Any], name: str) -> Map:
    found = edit[4].get(name)
    return found if type(found) is dict else {}


def texts_of(edit: list[Any], name: str) -> list[str]:
    found = edit[4].get(name)
    return [one for one in found if is_tag(one)] if type(found) is list else []


def is_field(name: str, one: object) -> bool:
    if one is None:
        return True
    if name == "ttl_us":
        return type(one) is int and one > 0
    return type(one) is {"description": str, "metadata": dict}.get(name)


def deletions(history: History) -> dict[bytes, set[bytes]]:
    found: dict[bytes, set[bytes]] = defaultdict(set)
    for edit, deposit in history.edits:
        if is_bytes(edit[4].get("delete")) and not deposit:
            found[edit[4]["delete"]].add(edit[2])
    return found


def set_last(history: History, name: str, about: bytes | None, fits: Any) -> Map:
    """What each key of a map `aliases` or `set` was last set to."""
    found: dict[str, list[list[Any]]] = defaultdict(list)
    for edit, _ in history.edits:
        if about is None or edit[4].get("version") == about:
            for key, one in maps_of(edit, name).items():
                if fits(key, one):
                    found[key].append(edit)
    return {key: history.last(edits)[4][name][key] for key, edits in found.items()}


def tags_of(history: History, digest: bytes) -> list[str]:
    mine = [edit for edit, _ in history.edits if edit[4].get("version") == digest]
    tags = []
    for tag in {one for edit in mine for one in texts_of(edit, "tags_add")}:
        gone = history.seen(edit for edit in mine if tag in texts_of(edit, "tags_remove"))
        if any(tag in texts_of(edit, "tags_add") and edit[2] not in gone for edit in mine):
            tags.append(tag)
    return sorted(tags)


# chapter 9.3
def labels_of(numbers: dict[bytes, dict[int, bool]], digest: bytes, mine: set[int]) -> list[str]:
    """Labels of a digest; of each number it is known whether somebody who is believed gave it."""
    out = []
    for number in sorted(mine):
        rivals = {one for one, some in numbers.items() if number in some}
        others = {one.hex() for one in rivals} - {digest.hex()}
        length = 4
        while any(one[:length] == digest.hex()[:length] for one in others):
            length += 1
        plain = min(rivals, key=lambda one: (not numbers[one][number], one))
        out.append(f"v{number}" if plain == digest else f"v{number}.{digest.hex()[:length]}")
    return out


def highest_of(numbers: set[int]) -> int:
    """After which number the next one comes."""
    if 10**9 not in numbers:
        return max(numbers, default=-1)
    return next(number for number in itertools.count() if number not in numbers) - 1


def name_of(records: list[list[Any]]) -> list[str]:
    """Name and type by the first ARTIFACT record."""
    found = []
    for record in records:
        body = record[2] if len(record) > 2 else None
        if type(body) is dict and is_label(body.get("name")):
            kind = body.get("type")
            found.append((record[1], body["name"], kind if is_label(kind) else ""))
    return [str(one) for one in min(found)[1:]] if found else ["", ""]


def is_version(record: Any) -> bool:
    return (
        len(record) >= 5
        and type(record[2]) is int
        and 0 <= record[2] <= 10**9
        and is_bytes(record[3])
        and type(record[4]) is dict
    )


def is_edit(record: Any) -> bool:
    return (
        len(record) >= 5
        and is_bytes(record[2], 16)
        and type(record[3]) is list
        and type(record[4]) is dict
    )


def lives(record: list[Any], deleted: set[bytes]) -> bool:
    after = record[4].get("after")
    known = {one for one in after if is_bytes(one, 16)} if type(after) is list else set()
    return deleted <= known


class Said(NamedTuple):
    """A record, its class, its segment and sequence, and what is known of its device."""

    data_class: int
    record: list[Any]
    place: tuple[bytes, int]
    deposit: bool
    flagged: bool


def fold(said: Iterable[Said]) -> Map:
    """Labels, aliases, tags and fields, in any order of arrival."""
    said = sorted(said, key=lambda one: one.place)
    meta = [one for one in said if one.data_class == 1]
    edits = [one for one in meta if one.record[0] == 7 and is_edit(one.record)]
    history = History([(one.record, one.deposit) for one in edits])
    files = [one for one in said if one.data_class in (5, 7)]
    versions = [one for one in files if one.record[0] == 10 and is_version(one.record)]
    deleted = deletions(history)
    numbers: dict[bytes, dict[int, bool]] = defaultdict(dict)
    living: dict[bytes, list[list[Any]]] = defaultdict(list)
    for one in sorted(versions, key=lambda one: (one.record[1], one.record[2])):
        number, digest = one.record[2:4]
        believed = not one.deposit and not one.flagged
        numbers[digest][number] = believed or numbers[digest].get(number, False)
        if lives(one.record, deleted[digest]):
            living[digest].append(one.record)
    aliases = aliases_of(history, living)
    return {
        "versions": {
            digest.hex(): {
                "labels": labels_of(numbers, digest, {record[2] for record in mine}),
                "tags": tags_of(history, digest),
                "aliases": sorted(a for a, named in aliases.items() if named == digest),
                **fields_of(history, digest, mine[0]),
            }
            for digest, mine in living.items()
        },
        "artifact": name_of([one.record for one in meta if one.record[0] == 9]),
        "highest": highest_of({number for some in numbers.values() for number in some}),
        "tips": sorted(one.hex() for one in history.tips()),
    }


def aliases_of(history: History, living: dict[bytes, list[list[Any]]]) -> dict[str, bytes]:
    aliases = set_last(
        history, "aliases", None, lambda key, one: is_alias(key) and (one is None or is_bytes(one))
    )
    aliases = {alias: digest for alias, digest in aliases.items() if digest in living}
    if living and "latest" not in aliases:
        aliases["latest"] = max(
            living, key=lambda d: (min(r[2] for r in living[d]), living[d][0][1], d)
        )
    return aliases


def fields_of(history: History, digest: bytes, first: list[Any]) -> Map:
    edited = set_last(history, "set", digest, is_field)
    out: Map = {}
    for name, default in (("description", ""), ("metadata", {}), ("ttl_us", None)):
        one = edited[name] if name in edited else first[4].get(name)
        out[name] = default if one is None or not is_field(name, one) else one
    out["metadata"] = {key: one for key, one in out["metadata"].items() if type(key) is str}
    return out
