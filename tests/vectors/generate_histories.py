"""Writes the vectors of an artifact's histories beside it: records, and what they come to.

    python tests/vectors/generate_histories.py

Every input is fixed, and what is expected is written by hand, not taken from the program: who
reads a history must come to what docs/format.md says (7, 9.3), in every order of arrival.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, Final

import msgspec

HERE: Final = Path(__file__).parent


def _load_primitives() -> Any:
    source = importlib.util.spec_from_file_location("vectors_base", HERE / "generate.py")
    assert source is not None
    assert source.loader is not None
    module = importlib.util.module_from_spec(source)
    source.loader.exec_module(module)
    return module


base: Final = _load_primitives()
pack: Final = msgspec.msgpack.encode
START_US: Final[int] = base.START_US
SECOND_US: Final = 1_000_000
Vector = dict[str, Any]
Map = dict[Any, Any]


def fixed(name: str, size: int = 32) -> bytes:
    """Bytes that stand for random ones."""
    return bytes(base.fixed(name, size))


def at(second: float) -> int:
    return START_US + round(second * SECOND_US)


def digest(name: str) -> bytes:
    """A digest that begins with the hex that is its name."""
    return bytes.fromhex(name) + fixed("digest")[len(name) // 2 :]


def edit_id(name: str) -> bytes:
    return fixed(f"edit {name}", 16)


A, B, C, D = digest("1111"), digest("2222"), digest("222233"), digest("3333")


class History:
    """Records of one artifact, in the order in which they were made."""

    def __init__(self) -> None:
        self.said: list[Vector] = []

    def add(
        self, record: list[Any], data_class: int, *, deposit: bool = False, flagged: bool = False
    ) -> History:
        place = {"segment": fixed(f"segment {data_class}", 16).hex(), "sequence": len(self.said)}
        who = {"class": data_class, "deposit": deposit} | ({"flagged": True} if flagged else {})
        self.said.append({**place, **who, "record": pack(record).hex()})
        return self

    def version(
        self, second: float, number: Any, name: Any, *, data_class: int = 7, **more: Any
    ) -> History:
        who = {word: more.pop(word) for word in ("deposit", "flagged") if word in more}
        body = {"manifest": [fixed("page"), fixed("page key")], "size": 7, "files": 1, **more}
        return self.add([10, at(second), number, name, body], data_class, **who)

    def edit(
        self, second: float, name: str, *seen: str, data_class: int = 1, **operation: Any
    ) -> History:
        deposit = operation.pop("deposit", False)
        ids = [edit_id(one) for one in seen]
        record = [7, at(second), edit_id(name), ids, operation]
        return self.add(record, data_class, deposit=deposit)


def shown(*labels: str, **more: Any) -> Map:
    """What a reader shows of one version."""
    nothing: Map = {"tags": [], "aliases": [], "description": "", "metadata": {}, "ttl_us": None}
    return {"labels": list(labels)} | nothing | more


def _numbers() -> list[tuple[str, History, Map]]:
    latest = {"aliases": ["latest"]}
    return [
        ("nothing", History(), {}),
        ("one", History().version(0, 0, A), {A: shown("v0", **latest)}),
        (
            "one content twice, with one number",
            History().version(0, 0, A).version(1, 0, A),
            {A: shown("v0", **latest)},
        ),
        (
            "one content with two numbers answers to both",
            History().version(0, 5, A).version(1, 2, A).version(2, 3, B),
            {A: shown("v2", "v5"), B: shown("v3", **latest)},
        ),
        (
            "two machines apart gave one number",
            History().version(0, 0, B).version(1, 0, A),
            {A: shown("v0", **latest), B: shown("v0.2222")},
        ),
        (
            "three contents of one number, two of which begin alike",
            History().version(0, 3, A).version(0, 3, B).version(0, 3, C),
            {
                A: shown("v3"),
                B: shown(f"v3.{apart(B, C)}", **({"aliases": ["latest"]} if B > C else {})),
                C: shown(f"v3.{apart(C, B)}", **({"aliases": ["latest"]} if C > B else {})),
            },
        ),
        (
            "the smallest also begins as another",
            History().version(0, 1, min(B, C)).version(1, 1, max(B, C)),
            {
                min(B, C): shown("v1"),
                max(B, C): shown(f"v1.{apart(B, C) if B > C else apart(C, B)}", **latest),
            },
        ),
        (
            "a second number that another content has too",
            History().version(0, 0, B).version(1, 1, B).version(2, 1, A),
            {A: shown("v1", **latest), B: shown("v0", "v1.2222")},
        ),
        (
            "a number that the smaller digest has from a deposit device only",
            History().version(0, 0, A, deposit=True).version(1, 0, B).version(2, 0, D),
            {A: shown("v0.1111"), B: shown("v0"), D: shown("v0.3333", **latest)},
        ),
        (
            "a number that the smaller digest has from a flagged device only",
            History().version(0, 0, A, flagged=True).version(1, 0, B),
            {A: shown("v0.1111"), B: shown("v0", **latest)},
        ),
        (
            "a number that others give the smaller digest too",
            History().version(0, 0, A, deposit=True).version(0, 0, A).version(1, 0, B),
            {A: shown("v0"), B: shown("v0.2222", **latest)},
        ),
        (
            "a number that only deposit devices give",
            History().version(0, 0, B, deposit=True).version(1, 0, A, deposit=True),
            {A: shown("v0", **latest), B: shown("v0.2222")},
        ),
        (
            "the last number keeps nobody from logging",
            History().version(0, 10**9, B).version(0, 0, A).version(0, 1, A),
            {A: shown("v0", "v1"), B: shown("v1000000000", **latest)},
        ),
        (
            "records that are no versions",
            History()
            .version(0, 0, A)
            .version(1, -1, B)
            .version(1, 10**9 + 1, B)
            .version(1, True, B)
            .version(1, 1, B[:31])
            .version(1, 1, "2222")
            .version(1, 1, B, data_class=1)
            .version(1, 1, B, data_class=6)
            .add([10, at(1), 1, B], 7)
            .add([10, at(1), 1, B, []], 7)
            .add([99, at(1), 1, B, {}], 7),
            {A: shown("v0", **latest)},
        ),
        (
            "one content twice at one time: the lower number describes it",
            History().version(0, 2, A, description="b").version(0, 1, A, description="a"),
            {A: shown("v1", "v2", description="a", **latest)},
        ),
        (
            "one content twice at one time with one number: the place decides",
            History().version(0, 0, A, description="b").version(0, 0, A, description="a"),
            {A: shown("v0", description="b", **latest)},
        ),
        (
            "elements at the end, and fields, of a later version",
            History().add([10, at(0), 0, A, {"later": 1}, "later"], 7),
            {A: shown("v0", **latest)},
        ),
        (
            "of type code, in class code",
            History().version(0, 0, A, data_class=5),
            {A: shown("v0", **latest)},
        ),
    ]


def apart(one: bytes, other: bytes) -> str:
    length = 4
    while one.hex()[:length] == other.hex()[:length]:
        length += 1
    return one.hex()[:length]


def _aliases() -> list[tuple[str, History, Map]]:
    def two() -> History:
        return History().version(0, 0, A).version(1, 1, B)

    def both(a: list[str], b: list[str]) -> Map:
        return {A: shown("v0", aliases=a), B: shown("v1", aliases=b)}

    def moved(*edits: tuple[Any, ...]) -> History:
        history = two()
        for second, name, seen, aliases in edits:
            history.edit(second, name, *seen, aliases=aliases)
        return history

    best_a, best_b = {"best": A}, {"best": B}
    larger_b = edit_id("x") > edit_id("y")
    bad = dict.fromkeys(("v3", "", " ", "..", "a/b", "a:b", "a\\b", "a\n", "x" * 129), A)
    bad |= dict.fromkeys(("v03", "v1.", "v1.2f"), A)
    return [
        ("latest without an edit", two(), both([], ["latest"])),
        ("latest put back", moved((2, "x", (), {"latest": A})), both(["latest"], [])),
        (
            "latest taken away falls to the newest",
            moved((2, "x", (), {"latest": A}), (3, "y", ("x",), {"latest": None})),
            both([], ["latest"]),
        ),
        (
            "an edit wins over one that it saw, though its clock is behind",
            moved((9, "x", (), best_a), (2, "y", ("x",), best_b)),
            both([], ["best", "latest"]),
        ),
        (
            "seen through an edit of something else",
            moved((9, "x", (), best_a), (3, "y", ("x",), {"other": A}), (2, "z", ("y",), best_b)),
            both(["other"], ["best", "latest"]),
        ),
        (
            "seen through an edit that is not here",
            moved((9, "x", (), best_a), (2, "z", ("missing",), best_b)),
            both(["best"], ["latest"]),
        ),
        (
            "of two apart the later one wins",
            moved((9, "x", (), best_a), (2, "y", (), best_b)),
            both(["best"], ["latest"]),
        ),
        (
            "of two apart at one time the larger id wins",
            moved((2, "x", (), best_b), (2, "y", (), best_a)),
            both([], ["best", "latest"]) if larger_b else both(["best"], ["latest"]),
        ),
        (
            "two with one id at one time: the place decides",
            moved((2, "x", (), best_b), (2, "x", (), best_a)),
            both(["best"], ["latest"]),
        ),
        (
            "of two with one id only the other saw: this one is later",
            moved((3, "x", ("x",), {"other": A}), (2, "x", (), best_b), (1, "y", (), best_a)),
            both(["other"], ["best", "latest"]),
        ),
        (
            "two that claim to have seen each other: the later one",
            moved((2, "x", ("y",), best_b), (3, "y", ("x",), best_a)),
            both(["best"], ["latest"]),
        ),
        (
            "one that claims to have seen itself",
            moved((2, "x", ("x",), best_a)),
            both(["best"], ["latest"]),
        ),
        (
            "removed and set apart: the later one",
            moved((2, "x", (), best_a), (3, "y", ("x",), {"best": None}), (4, "z", ("x",), best_b)),
            both([], ["best", "latest"]),
        ),
        (
            "several at once",
            moved((2, "x", (), {"best": A, "prod": B, "old": C})),
            both(["best"], ["latest", "prod"]),
        ),
        (
            "names that no alias may have",
            moved((2, "x", (), {**bad, "v": A, "v3x": A})),
            both(["v", "v3x"], ["latest"]),
        ),
        (
            "operations that are nonsense",
            two()
            .edit(2, "a", aliases=[A])
            .edit(2, "b", aliases={"best": "1111", "good": A[:31]})
            .edit(2, "c", aliases=best_a, data_class=7)
            .add([7, at(2), edit_id("d")[:15], [], {"aliases": best_a}], 1)
            .add([7, at(2), edit_id("e"), {}, {"aliases": best_a}], 1)
            .add([7, at(2), edit_id("f"), []], 1)
            .edit(2, "g", later={"best": A}),
            both([], ["latest"]),
        ),
    ]


def _tags() -> list[tuple[str, History, Map]]:
    def one(*edits: tuple[Any, ...]) -> History:
        history = History().version(0, 0, A)
        for second, name, seen, added, removed in edits:
            history.edit(second, name, *seen, version=A, tags_add=added, tags_remove=removed)
        return history

    def tagged(*tags: str) -> Map:
        return {A: shown("v0", tags=list(tags), aliases=["latest"])}

    return [
        ("tags", one((1, "x", (), ["b", "a", "\u00fc"], [])), tagged("a", "b", "\u00fc")),
        (
            "a removed tag",
            one((1, "x", (), ["a", "b"], []), (2, "y", ("x",), [], ["a"])),
            tagged("b"),
        ),
        (
            "a removal that did not see the addition, though it is later",
            one((1, "x", (), ["a"], []), (2, "y", (), [], ["a"])),
            tagged("a"),
        ),
        (
            "removed by one, added again apart",
            one((1, "x", (), ["a"], []), (3, "y", ("x",), [], ["a"]), (2, "z", ("x",), ["a"], [])),
            tagged("a"),
        ),
        (
            "removed and added again",
            one((1, "x", (), ["a"], []), (2, "y", ("x",), [], ["a"]), (3, "z", ("y",), ["a"], [])),
            tagged("a"),
        ),
        ("added and removed by one edit", one((1, "x", (), ["a"], ["a"])), tagged("a")),
        (
            "added and removed by one edit that names itself",
            one((1, "x", ("x",), ["a", "b"], ["a"])),
            tagged("b"),
        ),
        (
            "tags that nobody may give",
            one((1, "x", (), ["", " ", "a\n", "t" * 257, 7, b"a", "t" * 256], [])),
            tagged("t" * 256),
        ),
        (
            "tags of a content that is not here",
            History().version(0, 0, A).edit(1, "x", version=B, tags_add=["a"]),
            tagged(),
        ),
    ]


FIELDS: Final = ("description", "metadata", "ttl_us")


def _fields() -> list[tuple[str, History, Map]]:
    def first() -> History:
        return History().version(
            0, 0, A, description="first", metadata={"a": {"b": [1, None]}}, ttl_us=5
        )

    def told(description: str, metadata: Map, ttl_us: int | None) -> Map:
        more: Map = {"description": description, "metadata": metadata, "ttl_us": ttl_us}
        return {A: shown("v0", aliases=["latest"], **more)}

    meta = {"a": {"b": [1, None]}}
    return [
        (
            "the earliest record describes a content",
            first().version(-1, 0, A, description="earlier"),
            told("earlier", {}, None),
        ),
        (
            "fields that were changed one by one",
            first()
            .edit(1, "x", version=A, set={"description": "second"})
            .edit(2, "y", version=A, set={"ttl_us": 9}),
            told("second", meta, 9),
        ),
        (
            "metadata is replaced, not joined",
            first().edit(1, "x", version=A, set={"metadata": {"c": 1}}),
            told("first", {"c": 1}, 5),
        ),
        (
            "keys of metadata that are no text",
            first().edit(1, "x", version=A, set={"metadata": {1: 1, b"b": 1, "c": 1}}),
            told("first", {"c": 1}, 5),
        ),
        (
            "nil takes a field away",
            first().edit(1, "x", version=A, set=dict.fromkeys(FIELDS)),
            told("", {}, None),
        ),
        (
            "values of a wrong type are no edit",
            first().edit(1, "x", version=A, set={"description": 1, "metadata": [], "ttl_us": 0}),
            told("first", meta, 5),
        ),
        (
            "several operations in one edit",
            first().edit(
                1, "x", version=A, set={"ttl_us": 7}, tags_add=["t"], aliases={"best": A}
            ),
            {
                A: shown(
                    "v0", tags=["t"], aliases=["best", "latest"], description="first",
                    metadata=meta, ttl_us=7,
                )
            },
        ),
    ]  # fmt: skip


def _deletions() -> list[tuple[str, History, Map]]:
    def two() -> History:
        return History().version(0, 0, A).version(1, 1, B)

    def gone() -> History:
        return two().edit(2, "x", delete=B)

    only_a = {A: shown("v0", aliases=["latest"])}
    back = {A: shown("v0"), B: shown("v2", aliases=["latest"])}
    x, y = edit_id("x"), edit_id("y")
    return [
        ("deleted", gone(), only_a),
        ("latest pointed to it", gone().edit(1.5, "w", aliases={"latest": B}), only_a),
        ("an alias that points to it", gone().edit(3, "y", "x", aliases={"best": B}), only_a),
        ("logged again without knowing", gone().version(3, 2, B), only_a),
        ("logged again", gone().version(3, 2, B, after=[x]), back),
        (
            "logged again, and what was said of it holds again",
            gone()
            .edit(1.5, "w", version=B, tags_add=["t"], aliases={"best": B})
            .version(3, 2, B, after=[x]),
            {A: shown("v0"), B: shown("v2", tags=["t"], aliases=["best", "latest"])},
        ),
        (
            "logged again after one of two deletions",
            gone().edit(2.5, "y", delete=B).version(3, 2, B, after=[x]),
            only_a,
        ),
        (
            "logged again after both",
            gone().edit(2.5, "y", delete=B).version(3, 2, B, after=[y, x]),
            back,
        ),
        (
            "deleted once more",
            gone().version(3, 2, B, after=[x]).edit(4, "y", "x", delete=B),
            only_a,
        ),
        (
            "after is nonsense",
            gone().version(3, 2, B, after=x).version(3, 2, B, after=[x.hex(), x[:15]]),
            only_a,
        ),
        ("a deposit device deletes nothing", two().edit(2, "x", delete=B, deposit=True),
            {A: shown("v0"), B: shown("v1", aliases=["latest"])}),
        (
            "a deposit device may set aliases",
            two().edit(2, "x", aliases={"best": A}, deposit=True),
            {A: shown("v0", aliases=["best"]), B: shown("v1", aliases=["latest"])},
        ),
        (
            "a deletion of what is not here waits for it",
            History().version(0, 0, A).edit(1, "x", delete=D),
            only_a,
        ),
        (
            "the number of a deleted content stays taken",
            History().version(0, 0, A).version(1, 0, B).edit(2, "x", delete=A),
            {B: shown("v0.2222", aliases=["latest"])},
        ),
        ("all deleted", History().version(0, 4, A).edit(2, "x", delete=A), {}),
    ]  # fmt: skip


def _names() -> list[tuple[str, History, list[str]]]:
    def named(*records: tuple[Any, ...], data_class: int = 1) -> History:
        history = History()
        for second, *rest in records:
            history.add([9, at(second), *rest], data_class)
        return history

    model = {"name": "weights", "type": "model"}
    return [
        ("a name and a type", named((0, model)), ["weights", "model"]),
        ("no type", named((0, {"name": "weights"})), ["weights", ""]),
        (
            "two types: the earlier one",
            named((1, {"name": "weights", "type": "a"}), (0, model)),
            ["weights", "model"],
        ),
        (
            "two types at one time: the smaller one",
            named((0, model), (0, {"name": "weights", "type": "data"})),
            ["weights", "data"],
        ),
        ("a name in another class", named((0, model), data_class=7), ["", ""]),
        (
            "names that are none",
            named((0, {"name": "a/b"}), (0, {"name": ""}), (0, {"name": 1}), (0, []), (0,)),
            ["", ""],
        ),
        ("a type that is none", named((0, {"name": "w", "type": ".."})), ["w", ""]),
    ]


def history_vectors() -> list[Vector]:
    cases = [*_numbers(), *_aliases(), *_tags(), *_fields(), *_deletions()]
    highest = {"nothing": -1, "all deleted": 4, "the last number keeps nobody from logging": 1}
    named: list[Vector] = [
        {"name": name, "records": history.said, "versions": {}, "artifact": told, "expect": "ok"}
        for name, history, told in _names()
    ]
    return named + [
        {
            "name": name,
            "records": history.said,
            "versions": {one.hex(): base._plain(known) for one, known in expected.items()},
            **({"highest": highest[name]} if name in highest else {}),
            "expect": "ok",
        }
        for name, history, expected in cases
    ]


def all_vectors() -> dict[str, list[Vector]]:
    """Every file's vectors, by the file's stem."""
    return {"histories": history_vectors()}


def main() -> None:
    """Write everything."""
    for stem, vectors in all_vectors().items():
        (HERE / f"{stem}.json").write_text(base.as_text(stem, vectors), "utf-8")


if __name__ == "__main__":
    main()
