"""What the records of one artifact say: a pure fold, the same for every order of arrival.

Records come from many machines that did not know of each other, and some may be nonsense; nothing
here raises for what a record holds. No file, no clock, no key.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from localstore.artifacts.edits import Edits, Registers, Said, is_field, is_id, passes
from localstore.artifacts.names import LATEST, check_name, check_type, parse_label
from localstore.errors import NotFound, UsageError
from localstore.format.spec import HASH_BYTES, KEY_BYTES, RecordKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MAX_NUMBER: Final = 10**9
_LEAST_HEX: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRef:
    """Which run logged a version; texts, empty where nothing was said."""

    id: str
    project: str
    entity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """One version: content that was logged under the artifact's name.

    Attributes:
        digest: 32 bytes over paths and contents; the same content is the same version.
        number, label: 3 and `v3`, or `v3.1f2e` where another content claims the number.
        labels: all labels that name it, `label` first.
        size: bytes of all files. files: how many.
        created_us: when it was first logged.
        manifests: (object id, key), each of a manifest of this content.
        ttl_us: how long it shall be kept from `created_us` on; None for ever.
        runs: the runs that logged it, the first one first.
        writers: ids of the processes that logged it.
        flags: why its writers deserve a second look.
    """

    digest: bytes
    number: int
    label: str
    labels: tuple[str, ...]
    type: str
    size: int
    files: int
    created_us: int
    manifests: tuple[tuple[bytes, bytes], ...] = field(repr=False)
    description: str
    metadata: dict[str, Any]
    ttl_us: int | None
    tags: tuple[str, ...]
    aliases: tuple[str, ...]
    runs: tuple[RunRef, ...]
    writers: frozenset[bytes]
    data_class: int
    flags: tuple[str, ...]

    @property
    def expires_us(self) -> int | None:
        """When its time to live is over; None when it has none."""
        return None if self.ttl_us is None else self.created_us + self.ttl_us


@dataclass(frozen=True, slots=True, kw_only=True)
class ArtifactState:
    """One artifact.

    Attributes:
        versions: those that are not deleted, by number.
        deleted: digest → ids of the edits that delete it; a VERSION that names them all lives.
        tips: ids of the edits that no other edit saw; the next one names them.
        highest: the greatest number ever given, -1 before the first.
        writers_of_deleted: processes whose versions are all deleted.
    """

    name: str
    type: str
    versions: tuple[Version, ...] = ()
    aliases: dict[str, bytes] = field(default_factory=dict)
    deleted: dict[bytes, frozenset[bytes]] = field(default_factory=dict)
    tips: tuple[bytes, ...] = ()
    highest: int = -1
    writers_of_deleted: frozenset[bytes] = frozenset()

    def get(self, digest: bytes) -> Version | None:
        """The version of a content, if there is one."""
        return next((version for version in self.versions if version.digest == digest), None)

    @property
    def latest(self) -> Version | None:
        """The version that `latest` names; None when there is none."""
        return self.get(self.aliases[LATEST]) if LATEST in self.aliases else None

    def expired(self, now_us: int) -> tuple[Version, ...]:
        """Versions whose time to live is over; those that an own alias names are kept."""
        return tuple(
            version
            for version in self.versions
            if version.expires_us is not None
            and version.expires_us <= now_us
            and set(version.aliases) <= {LATEST}
        )

    def find(self, word: str = "") -> Version:
        """The version of an alias, a label such as `v3`, or a digest in hex; `latest` without.

        Raises:
            NotFound: no such version.
            UsageError: digits that fit several.
        """
        word = word or LATEST
        if word in self.aliases:
            found = [self.get(self.aliases[word])]
        elif parse_label(word) is not None:
            found = [v for v in self.versions if word in v.labels] or self._by_digits(word)
        else:
            found = [v for v in self.versions if v.digest.hex() == word]
        if len(found) > 1:
            raise UsageError(f"{self.name}:{word} fits several versions; give more digits")
        if not found or found[0] is None:
            raise self._not_found(word)
        return found[0]

    def _by_digits(self, word: str) -> list[Version | None]:
        """`v3.1f` and so on, by what each version's digest begins with."""
        number, digits = parse_label(word) or (0, "")
        mine = [v for v in self.versions if any(_number(one) == number for one in v.labels)]
        return [v for v in mine if digits and v.digest.hex().startswith(digits)]

    def _not_found(self, word: str) -> NotFound:
        there = sorted(self.aliases) + [version.label for version in self.versions[-8:]]
        hint = f"there is {', '.join(there)}" if there else "it has no version here"
        return NotFound(f"artifact {self.name!r} has no version {word!r}", hint=hint)


def _number(label: str) -> int:
    return int(label[1:].partition(".")[0])


# ------------------------------------------------------------------ versions
@dataclass(frozen=True, slots=True)
class _Claim:
    """One VERSION record."""

    said: Said
    time_us: int
    number: int
    digest: bytes
    body: Mapping[Any, Any]

    @property
    def order(self) -> tuple[int, int, tuple[bytes, int]]:
        return self.time_us, self.number, self.said.place

    def lives(self, deletions: set[bytes]) -> bool:
        """A deletion removes what did not know of it."""
        known = self.body.get("after")
        ids = {one for one in known if is_id(one)} if isinstance(known, list) else set()
        return deletions <= ids


def _claims(said: Iterable[Said]) -> Iterator[_Claim]:
    for one in said:
        match one.record:
            case [RecordKind.VERSION, time_us, int(number), bytes(digest), dict(body), *_]:
                sound = type(number) is int and 0 <= number <= MAX_NUMBER
                if sound and len(digest) == HASH_BYTES:
                    yield _Claim(one, time_us, number, digest, body)
            case _:
                pass


def _labels(claims: Iterable[_Claim]) -> dict[bytes, dict[int, str]]:
    """By digest: number → label. Of several digests of one number the smallest has it plain.

    Those that only a deposit device or a flagged writer claims come behind all others: else such a
    machine could make `v3` mean its own content.
    """
    by_number: dict[int, dict[bytes, bool]] = defaultdict(dict)
    for claim in claims:
        digests, lesser = by_number[claim.number], claim.said.deposit or bool(claim.said.flag)
        digests[claim.digest] = lesser and digests.get(claim.digest, True)
    out: dict[bytes, dict[int, str]] = defaultdict(dict)
    for number, digests in sorted(by_number.items()):
        plain = min(digests, key=lambda digest: (digests[digest], digest))
        names = [digest.hex() for digest in sorted(digests)]
        shared = [0, *(_shared(*pair) for pair in itertools.pairwise(names)), 0]
        for at, name in enumerate(names):
            # In order, a digest has most digits in common with one of its neighbours.
            length = max(_LEAST_HEX, shared[at] + 1, shared[at + 1] + 1)
            out[bytes.fromhex(name)][number] = f"v{number}.{name[:length]}"
        out[plain][number] = f"v{number}"
    return out


def _shared(left: str, right: str) -> int:
    """How many first characters two texts have in common."""
    return next((at for at in range(len(left)) if left[at] != right[at]), len(left))


def _count(value: object) -> int:
    return value if type(value) is int and value >= 0 else 0


def _manifest(body: Mapping[Any, Any]) -> tuple[bytes, bytes] | None:
    match body.get("manifest"):
        case [bytes(name), bytes(key), *_] if len(name) == HASH_BYTES and len(key) == KEY_BYTES:
            return name, key
        case _:
            return None


def _run(body: Mapping[Any, Any]) -> RunRef | None:
    match body.get("run"):
        case {"id": str(run_id), **more} if run_id:
            project, entity = more.get("project"), more.get("entity")
            return RunRef(
                id=run_id,
                project=project if isinstance(project, str) else "",
                entity=entity if isinstance(entity, str) else "",
            )
        case _:
            return None


def _type(body: Mapping[Any, Any]) -> str:
    kind = body.get("type")
    return kind if isinstance(kind, str) and passes(check_type, kind) else ""


def _field(body: Mapping[Any, Any], edited: Mapping[str, Any], name: str) -> Any:
    value = edited[name] if name in edited else body.get(name)
    return value if is_field(name, value) else None


def _version(
    claims: list[_Claim],
    labels: Mapping[int, str],
    edited: Mapping[str, Any],
    tags: list[str],
    kind: str,
) -> Version:
    """One version from the living VERSION records of its digest; the earliest describes it."""
    first = claims[0]
    metadata = _field(first.body, edited, "metadata") or {}
    manifests = [manifest for claim in claims if (manifest := _manifest(claim.body))]
    runs = [run for claim in claims if (run := _run(claim.body))]
    numbers = sorted({claim.number for claim in claims})
    return Version(
        digest=first.digest,
        number=numbers[0],
        label=labels[numbers[0]],
        labels=tuple(labels[number] for number in numbers),
        type=_type(first.body) or kind,
        size=_count(first.body.get("size")),
        files=_count(first.body.get("files")),
        created_us=first.time_us,
        manifests=tuple(dict.fromkeys(manifests)),
        description=_field(first.body, edited, "description") or "",
        metadata={key: value for key, value in metadata.items() if isinstance(key, str)},
        ttl_us=_field(first.body, edited, "ttl_us"),
        tags=tuple(sorted(tags)),
        aliases=(),
        runs=tuple(dict.fromkeys(runs)),
        writers=frozenset(claim.said.writer for claim in claims),
        data_class=first.said.data_class,
        flags=tuple(dict.fromkeys(claim.said.flag for claim in claims if claim.said.flag)),
    )


def named(said: Iterable[Said]) -> list[tuple[str, str]]:
    """Name and type of the ARTIFACT records, the earliest first, without repetitions."""
    found = []
    for one in said:
        match one.record:
            case [RecordKind.ARTIFACT, time_us, {"name": str(name), **more}, *_]:
                kind = more.get("type")
                if passes(check_name, name):
                    sound = isinstance(kind, str) and passes(check_type, kind)
                    found.append((time_us, name, str(kind) if sound else ""))
            case _:
                pass
    return list(dict.fromkeys(item[1:] for item in sorted(found)))


def fold(said: Iterable[Said]) -> ArtifactState:
    """The state of one artifact, whose records are `said` in any order."""
    said = list(said)
    name, kind = next(iter(named(said)), ("", ""))
    claims = sorted(_claims(said), key=lambda claim: claim.order)
    edits = Edits(said)
    registers = Registers(edits)
    living = _living(claims, registers.deleted)
    labels, fields, tags = _labels(claims), registers.fields(), registers.tags()
    versions = [
        _version(mine, labels[digest], fields.get(digest, {}), tags.get(digest, []), kind)
        for digest, mine in living.items()
    ]
    versions.sort(key=lambda version: (version.number, version.digest))
    aliases = _aliases(registers.aliases(), versions)
    alive = {writer for version in versions for writer in version.writers}
    names: dict[bytes, list[str]] = defaultdict(list)
    for alias, digest in aliases.items():
        names[digest].append(alias)
    return ArtifactState(
        name=name,
        type=kind,
        versions=tuple(
            replace(v, aliases=tuple(sorted(names.get(v.digest, ())))) for v in versions
        ),
        aliases=aliases,
        deleted={digest: frozenset(ids) for digest, ids in registers.deleted.items()},
        tips=edits.tips(),
        highest=_highest({claim.number for claim in claims}),
        writers_of_deleted=frozenset(claim.said.writer for claim in claims) - alive,
    )


def _highest(numbers: set[int]) -> int:
    """The greatest number; where nothing comes behind it, the one before the first free one.

    So a writer that claims the last number keeps nobody from logging.
    """
    greatest = max(numbers, default=-1)
    if greatest < MAX_NUMBER:
        return greatest
    return next(number for number in itertools.count() if number not in numbers) - 1


def _living(claims: list[_Claim], deleted: Mapping[bytes, set[bytes]]) -> dict[bytes, list[_Claim]]:
    out: dict[bytes, list[_Claim]] = defaultdict(list)
    for claim in claims:
        if claim.lives(deleted.get(claim.digest, set())):
            out[claim.digest].append(claim)
    return out


def _aliases(said: Mapping[str, bytes | None], versions: list[Version]) -> dict[str, bytes]:
    """Aliases of versions that are there; `latest` falls to the newest of them."""
    there = {version.digest for version in versions}
    out = {alias: digest for alias, digest in said.items() if digest in there and digest}
    if versions and LATEST not in out:
        out[LATEST] = max(versions, key=lambda v: (v.number, v.created_us, v.digest)).digest
    return dict(sorted(out.items()))
