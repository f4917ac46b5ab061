"""What policy files say, as plain values: rules, limits, redactions. Reads TOML, knows no key.

The writer, the engine and the command line read the same files by this module. An unknown key is an
error that names the file, the key and what was wanted: a slip must not become a permission.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

from localstore.errors import BadSetting
from localstore.format.spec import DataClass
from localstore.policy import values
from localstore.policy.places import HOST_NAMES, KEEP_LOCAL, UNREADABLE

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from pathlib import Path

    from localstore.policy.values import Network, Window

    Parse = Callable[[Any, str], Any]

BUILT_IN, USER, PROJECT, TEAM = "built-in", "user", "project", "team"
# What these say of a class or a rule replaces the built-in; a team can only add to it.
_PERSONAL: Final = frozenset({USER, PROJECT})
_STAMPED: Final = frozenset({HOST_NAMES, KEEP_LOCAL, UNREADABLE})
_RULE_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
CLASS_WORDS: Final = {one.name.lower(): one for one in DataClass}
_MAX_FILE_BYTES: Final = 1 << 20


class Leave(IntEnum):
    """Whether something goes by itself, when a person says so, or not at all."""

    AUTO = 0
    MANUAL = 1
    NEVER = 2


LEAVE_WORDS: Final = {one.name.lower(): one for one in Leave}


@dataclass(frozen=True, slots=True)
class RuleRef:
    """Where a rule stands: level, file (empty for the built-in ones), key."""

    level: str
    file: str
    rule: str

    def __str__(self) -> str:
        """For a person."""
        if self.level == BUILT_IN:
            return f'the built-in rule "{self.rule}"'
        return f'rule "{self.rule}" of {self.file}'


@dataclass(frozen=True, slots=True)
class When:
    """Under which conditions; None asks nothing.

    Attributes:
        battery_above: percent, while on battery. max_file: bytes.
    """

    network: Network | None = None
    battery_above: int | None = None
    hours: tuple[Window, ...] | None = None
    max_file: int | None = None


@dataclass(frozen=True, slots=True)
class Selector:
    """What only a writer can see: patterns, each of which must fit where it is given."""

    artifact_name: tuple[str, ...] = ()
    artifact_type: tuple[str, ...] = ()
    config: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.artifact_name or self.artifact_type or self.config)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One statement. It can hold things back, and never lets anything go that another holds.

    Attributes:
        name: what a writer's stamp calls it; empty where none can.
        classes: numbers of data classes; None is all, and what has no class.
        remotes: names; None is all but `except_remotes`.
        states: the class of which this is the basic statement, else 0.
    """

    ref: RuleRef
    name: str = ""
    leave: Leave = Leave.AUTO
    classes: frozenset[int] | None = None
    remotes: frozenset[str] | None = None
    except_remotes: frozenset[str] = frozenset()
    when: When = field(default_factory=When)
    selector: Selector = field(default_factory=Selector)
    states: int = 0

    @property
    def stamped(self) -> bool:
        """Whether it is about what its writer stamped, and nothing else."""
        return bool(self.selector) or self.name in _STAMPED

    def is_about(self, data_class: int, remote: str) -> bool:
        """Whether class and remote fit."""
        if self.classes is not None and data_class not in self.classes:
            return False
        fits = self.remotes is None or remote in self.remotes
        return fits and remote not in self.except_remotes


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes per second, and transfers at once; None is no limit."""

    upload: int | None = None
    download: int | None = None
    max_parallel: int | None = None

    def tightened(self, other: Limits) -> Limits:
        """The smaller of each."""

        def least(*given: int | None) -> int | None:
            return min((one for one in given if one is not None), default=None)

        return Limits(
            least(self.upload, other.upload),
            least(self.download, other.download),
            least(self.max_parallel, other.max_parallel),
        )


@dataclass(frozen=True, slots=True)
class Redaction:
    """What is never recorded: patterns of names, and whether host and account are named."""

    config: tuple[str, ...] = ()
    summary: tuple[str, ...] = ()
    environment: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    host_names: bool = False
    user_names: bool = False

    def joined(self, other: Redaction) -> Redaction:
        """What either of the two removes."""
        return Redaction(
            self.config + other.config,
            self.summary + other.summary,
            self.environment + other.environment,
            self.arguments + other.arguments,
            self.host_names or other.host_names,
            self.user_names or other.user_names,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyFile:
    """One level's file.

    Attributes:
        limits: by the name of a remote; the empty name is for all.
        keep_local: patterns of config keys whose values never leave.
    """

    level: str
    path: str = ""
    rules: tuple[Rule, ...] = ()
    limits: Mapping[str, Limits] = field(default_factory=dict)
    redact: Redaction = field(default_factory=Redaction)
    keep_local: tuple[str, ...] = ()


# ------------------------------------------------------------------ parsing
def _leave(raw: object, where: str) -> Leave:
    if not isinstance(raw, str) or raw not in LEAVE_WORDS:
        raise values.wrong(where, raw, '"never", "manual" or "auto"')
    return LEAVE_WORDS[raw]


def _classes(raw: object, where: str) -> frozenset[int]:
    found = values.texts(raw, where)
    for word in found:
        if word not in CLASS_WORDS:
            near = _did_you_mean(word, CLASS_WORDS)
            raise BadSetting(
                f"{where} names class {word!r}, want one of {', '.join(CLASS_WORDS)}", hint=near
            )
    return frozenset(CLASS_WORDS[word] for word in found)


def _names(raw: object, where: str) -> frozenset[str]:
    return frozenset(values.texts(raw, where))


_CONDITIONS: Final[Mapping[str, Parse]] = {
    "network": values.network,
    "battery_above": values.percent,
    "hours": values.hours,
    "max_file": values.size,
}
_LIMITS: Final[Mapping[str, Parse]] = {
    "upload": values.rate,
    "download": values.rate,
    "max_parallel": values.parallel,
}
_SELECTORS: Final[Mapping[str, Parse]] = {
    "artifact_name": values.texts,
    "artifact_type": values.texts,
    "config": values.texts,
}
_RULE: Final[Mapping[str, Parse]] = {
    **_SELECTORS,
    "classes": _classes,
    "remotes": _names,
    "except_remotes": _names,
    "leave": _leave,
    **_CONDITIONS,
}
_REDACT: Final[Mapping[str, Parse]] = {
    "config": values.texts,
    "summary": values.texts,
    "environment": values.texts,
    "arguments": values.texts,
    "host_names": values.yes_or_no,
    "user_names": values.yes_or_no,
}
_KEEP_LOCAL: Final[Mapping[str, Parse]] = {"config": values.texts}
_CLASS_TABLE: Final[Mapping[str, Parse]] = dict.fromkeys(CLASS_WORDS, _leave)
# Every key that a file may have: the table, its keys. `*` is a name that a person gives.
TABLES: Final[Mapping[tuple[str, ...], Mapping[str, Parse]]] = {
    ("classes",): _CLASS_TABLE,
    ("conditions",): _CONDITIONS,
    ("limits",): _LIMITS,
    ("rules", "*"): _RULE,
    ("redact",): _REDACT,
    ("keep_local",): _KEEP_LOCAL,
    ("remotes", "*", "classes"): _CLASS_TABLE,
    ("remotes", "*", "conditions"): _CONDITIONS,
    ("remotes", "*", "limits"): _LIMITS,
}


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else ""


class _Reader:
    """Turns the tables of one file into values."""

    def __init__(self, level: str, path: str) -> None:
        self.level, self.path = level, path

    def ref(self, rule: str) -> RuleRef:
        return RuleRef(self.level, self.path, rule)

    def _where(self, *keys: str) -> str:
        return f"{self.path}: {'.'.join(keys)}" if self.path else ".".join(keys)

    def unknown(self, key: str, known: Collection[str], *above: str) -> BadSetting:
        wanted = ", ".join(known)
        inside = f" in [{'.'.join(above)}]" if above else ""
        return BadSetting(
            f"{self.path}: unknown key {key!r}{inside}, want one of {wanted}",
            hint=_did_you_mean(key, known),
        )

    def table(self, raw: object, *keys: str) -> dict[str, Any]:
        if not isinstance(raw, dict):
            raise values.wrong(self._where(*keys), raw, f"a table [{'.'.join(keys)}]")
        return raw

    def take(self, raw: object, parsers: Mapping[str, Parse], *keys: str) -> dict[str, Any]:
        """The parsed values of one table."""
        out = {}
        for key, value in self.table(raw, *keys).items():
            if key not in parsers:
                raise self.unknown(key, parsers, *keys)
            out[key] = parsers[key](value, self._where(*keys, key))
        return out

    # -------------------------------------------------------------- the tables
    def classes(self, raw: object, *above: str, remote: str = "") -> list[Rule]:
        given = self.take(raw, _CLASS_TABLE, *above, "classes")
        return [
            Rule(
                ref=self.ref(".".join((*above, "classes", word))),
                leave=leave,
                classes=frozenset({CLASS_WORDS[word]}),
                remotes=frozenset({remote}) if remote else None,
                states=0 if remote else CLASS_WORDS[word],
            )
            for word, leave in given.items()
        ]

    def conditions(self, raw: object, *above: str, remote: str = "") -> list[Rule]:
        given = self.take(raw, _CONDITIONS, *above, "conditions")
        return [
            Rule(
                ref=self.ref(".".join((*above, "conditions", key))),
                remotes=frozenset({remote}) if remote else None,
                when=When(**{key: value}),
            )
            for key, value in given.items()
        ]

    def named(self, raw: object) -> list[Rule]:
        return [self._named(name, one) for name, one in self.table(raw, "rules").items()]

    def _named(self, name: str, raw: object) -> Rule:
        if not _RULE_NAME.fullmatch(name):
            wanted = "1 to 64 letters, digits, '-' and '_'"
            raise BadSetting(f"{self._where('rules')} has a rule {name!r}, want {wanted}")
        given = self.take(raw, _RULE, "rules", name)
        selector = Selector(**{key: given.pop(key) for key in _SELECTORS if key in given})
        if selector.config and (selector.artifact_name or selector.artifact_type):
            wanted = "config or artifacts, as nothing is both"
            raise BadSetting(f"{self._where('rules', name)} selects config and artifacts, {wanted}")
        when = When(**{key: given.pop(key) for key in _CONDITIONS if key in given})
        return Rule(ref=self.ref(f"rules.{name}"), name=name, selector=selector, when=when, **given)

    def limits(self, raw: object, *above: str) -> Limits:
        return Limits(**self.take(raw, _LIMITS, *above, "limits"))

    def remote(self, name: str, raw: object) -> tuple[list[Rule], Limits]:
        rules: list[Rule] = []
        limits = Limits()
        above = ("remotes", name)
        for key, value in self.table(raw, *above).items():
            match key:
                case "classes":
                    rules += self.classes(value, *above, remote=name)
                case "conditions":
                    rules += self.conditions(value, *above, remote=name)
                case "limits":
                    limits = self.limits(value, *above)
                case _:
                    raise self.unknown(key, ("classes", "conditions", "limits"), *above)
        return rules, limits


def parse(raw: Mapping[str, Any], *, level: str, path: str = "") -> PolicyFile:
    """What one file's tables say.

    Raises:
        BadSetting: names file, key and what was wanted.
    """
    reader = _Reader(level, path)
    known = dict.fromkeys(table[0] for table in TABLES)
    for key in raw:
        if key not in known:
            raise reader.unknown(key, known)
    rules = reader.classes(raw.get("classes", {})) + reader.conditions(raw.get("conditions", {}))
    rules += reader.named(raw.get("rules", {}))
    limits = {"": reader.limits(raw.get("limits", {}))}
    for name, table in reader.table(raw.get("remotes", {}), "remotes").items():
        more, limits[name] = reader.remote(name, table)
        rules += more
    return PolicyFile(
        level=level,
        path=path,
        rules=tuple(rules),
        limits=limits,
        redact=Redaction(**reader.take(raw.get("redact", {}), _REDACT, "redact")),
        keep_local=reader.take(raw.get("keep_local", {}), _KEEP_LOCAL, "keep_local").get(
            "config", ()
        ),
    )


BUILT_IN_FILE: Final = parse(
    {
        "classes": {
            "meta": "auto",
            "metrics": "auto",
            "system": "auto",
            "console": "never",
            "code": "auto",
            "media": "auto",
            "artifacts": "auto",
        },
        "rules": {name: {"leave": "never"} for name in (HOST_NAMES, KEEP_LOCAL, UNREADABLE)},
    },
    level=BUILT_IN,
)


def read_tables(path: Path) -> dict[str, Any]:
    """A file's TOML; empty where there is none.

    Raises:
        BadSetting: it cannot be read, is no TOML, or of an absurd length.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        if path.is_symlink():
            raise BadSetting(f"{path} is a link to a file that is not there") from None
        return {}
    except OSError as error:
        raise BadSetting(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > _MAX_FILE_BYTES:
        raise BadSetting(f"{path} has more than {_MAX_FILE_BYTES} bytes")
    try:
        return tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadSetting(f"{path}: {error}") from error


def read_policy(path: Path, level: str) -> PolicyFile:
    """One level's file; one that is not there says nothing.

    Raises:
        BadSetting: names file, key and what was wanted.
    """
    return parse(read_tables(path), level=level, path=str(path))


# ------------------------------------------------------------------ levels together
def merged(files: Iterable[PolicyFile]) -> tuple[Rule, ...]:
    """All rules in force: what people say, and the built-in where they say nothing.

    The built-in statement on a class, or a built-in rule, gives way to a person's own. All others
    are in force together, so that the most restrictive wins.
    """
    said = [rule for file in files for rule in file.rules]
    own = [rule for rule in said if rule.ref.level in _PERSONAL]
    states, names = {rule.states for rule in own}, {rule.name for rule in own}
    kept = [
        rule
        for rule in BUILT_IN_FILE.rules
        if not (rule.states in states if rule.states else rule.name in names)
    ]
    return (*kept, *said)


# ------------------------------------------------------------------ stamps
@dataclass(frozen=True, slots=True)
class Stamp:
    """What a policy tag stands for.

    Attributes:
        rules: names of rules that fit, sorted. largest_file: bytes, where a rule asks for it.
        like: number of a class whose rules count, too; 0 is none.
    """

    rules: tuple[str, ...] = ()
    largest_file: int = 0
    like: int = 0

    def __bool__(self) -> bool:
        return bool(self.rules or self.largest_file or self.like)

    def __str__(self) -> str:
        """The text that the tag is made of, and that stands in its file."""
        size = [f"largest-file {self.largest_file}"] if self.largest_file else []
        like = [f"like {DataClass(self.like).name.lower()}"] if self.like else []
        return "\n".join([*self.rules, *size, *like])


def parse_stamp(text: str) -> Stamp | None:
    """A stamp from its text; None for a text of another form."""
    names: list[str] = []
    largest = like = 0
    for line in text.splitlines():
        what, _, value = line.partition(" ")
        if _RULE_NAME.fullmatch(line):
            names.append(line)
        elif what == "largest-file" and re.fullmatch(r"[0-9]{1,20}", value):
            largest = int(value)
        elif what == "like" and value in CLASS_WORDS:
            like = int(CLASS_WORDS[value])
        else:
            return None
    return Stamp(tuple(names), largest, like) or None
