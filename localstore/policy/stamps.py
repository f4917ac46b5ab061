"""What a writer does about the rules before it seals: stamps, values put apart, values left out.

Only a writer sees names, so it says by an opaque tag in a segment's header which rules fit, and
writes beside the project what the tag stands for, for an engine that has no key. While a policy
file cannot be understood, everything that rules are about is stamped to stay.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from localstore import settings
from localstore.durable import create_file
from localstore.errors import BadSetting
from localstore.format.spec import DataClass
from localstore.policy import redaction
from localstore.policy.redaction import Splitter
from localstore.policy.rules import (
    HOST_NAMES,
    KEEP_LOCAL,
    PROJECT,
    UNREADABLE,
    USER,
    Redaction,
    Rule,
    Stamp,
    merged,
    project_file,
    read_policy,
    tags_folder,
    user_file,
)
from localstore.policy.values import fits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from localstore.project import Project

NO_TAG: Final = b""


@dataclass(frozen=True, slots=True)
class Part:
    """A part of what was to be recorded, and the tag of the segment where it belongs."""

    tag: bytes
    changed: dict[str, Any]
    deleted: list[str]


class _InForce:
    """The rules as they were read, in the forms in which a writer asks."""

    def __init__(self, project: Project, home: Path) -> None:
        """
        Raises:
            BadSetting: a file cannot be understood.
        """
        files = [
            read_policy(user_file(home), USER),
            read_policy(project_file(project.paths), PROJECT),
        ]
        self.rules = merged(files)
        self.redact = Redaction()
        for file in files:
            self.redact = self.redact.joined(file.redact)
        private: dict[str, tuple[str, ...]] = {}
        for rule in self.rules:
            if rule.selector.config:
                private[rule.name] = private.get(rule.name, ()) + rule.selector.config
        kept = tuple(pattern for file in files for pattern in file.keep_local)
        if kept:
            private[KEEP_LOCAL] = private.get(KEEP_LOCAL, ()) + kept
        self.scrub = redaction.scrubber(_names(self.redact))
        self.config = Splitter(self.redact.config, private, self.scrub)
        self.summary = Splitter(self.redact.summary, {}, self.scrub)


def _names(redact: Redaction) -> Iterator[str]:
    """The names of this machine and its account, as far as they are not to be recorded."""
    if redact.host_names:
        host = os.uname().nodename
        yield from (host, host.partition(".")[0])
    if redact.user_names:
        with contextlib.suppress(RuntimeError):
            yield Path.home().name
        yield settings.account_name()


class Stamps:
    """The rules of one project, for one writer. Never raises: a broken file is warned about."""

    def __init__(self, project: Project, warn: Callable[[str], None]) -> None:
        self._project, self._warn = project, warn
        self._home = project.paths.root.parent.parent
        self._mark: tuple[object, ...] = ()
        self._rules: _InForce | None = None
        self._tags: dict[Stamp, bytes] = {}

    # -------------------------------------------------------------- reading
    def _now(self) -> _InForce | None:
        """The rules as they are now; None while a file cannot be understood."""
        mark = tuple(map(_mark, (user_file(self._home), project_file(self._project.paths))))
        if mark != self._mark:
            self._mark = mark
            try:
                self._rules = _InForce(self._project, self._home)
            except BadSetting as problem:
                self._rules = None
                self._warn(
                    f"{problem}; until it is mended, config, artifacts and what is around the run "
                    "are recorded to stay on this machine"
                )
        return self._rules

    @property
    def broken(self) -> bool:
        """Whether a policy file cannot be understood."""
        return self._now() is None

    # -------------------------------------------------------------- tags
    def tag(self, stamp: Stamp) -> bytes:
        """The tag for a segment, with its meaning written down; none for an empty stamp."""
        if not stamp:
            return NO_TAG
        found = self._tags.get(stamp)
        if found is None:
            text = str(stamp)
            found = self._tags[stamp] = self._project.policy_tag(text)
            # Without the file the engine does not know the tag, and keeps the segment.
            with contextlib.suppress(OSError):
                create_file(tags_folder(self._project.paths) / found.hex(), text.encode())
        return found

    def of_rule(self, name: str) -> bytes:
        """The tag of one rule."""
        return self.tag(Stamp((name,)))

    def around(self) -> bytes:
        """The tag for what is around a run: none, unless a policy file is broken."""
        return self.of_rule(UNREADABLE) if self.broken else NO_TAG

    def artifact(self, name: str, kind: str | None, largest: int = 0) -> bytes:
        """The tag for everything of an artifact.

        Args:
            kind: its type; None where it is not known, and then fits every rule on types.
            largest: bytes of the largest file that is to be kept, where that is known.
        """
        now = self._now()
        if now is None:
            return self.of_rule(UNREADABLE)
        fit = [rule for rule in now.rules if _is_about(rule, name, kind)]
        names = sorted({rule.name for rule in fit if rule.selector})
        limits = [rule.when.max_file for rule in fit if rule.when.max_file is not None]
        too_large = any(largest > limit for limit in limits)
        return self.tag(Stamp(tuple(names), largest if too_large else 0))

    # -------------------------------------------------------------- values
    def config(self, changed: Mapping[str, Any], deleted: Sequence[str]) -> tuple[list[Part], int]:
        """What is recorded of a change of the config, in parts; how many values are left out."""
        now = self._now()
        if now is None:
            return [Part(self.of_rule(UNREADABLE), dict(changed), list(deleted))], 0
        if now.config.idle:
            return [Part(NO_TAG, dict(changed), list(deleted))], 0
        found = now.config.split(changed)
        parts: dict[frozenset[str], Part] = {}

        def part(rules: frozenset[str]) -> Part:
            tag = self.tag(Stamp(tuple(sorted(rules))))
            return parts.setdefault(rules, Part(tag, {}, []))

        part(frozenset()).changed.update(found.public)
        for key, (value, rules) in found.apart.items():
            part(rules).changed[key] = value
        for key in deleted:
            part(now.config.rules(key)).deleted.append(key)
        return [one for one in parts.values() if one.changed or one.deleted], found.removed

    def recorded(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """A config as its owner will read it back: only what is left out is left out."""
        now = self._now()
        if now is None or now.config.idle:
            return dict(config)
        found = now.config.split(config)
        return {**found.public, **{key: value for key, (value, _) in found.apart.items()}}

    def summary(self, changed: Mapping[str, Any]) -> tuple[Part, int]:
        """What is recorded of a change of the summary, and how many values are left out."""
        now = self._now()
        if now is None:
            return Part(self.of_rule(UNREADABLE), dict(changed), []), 0
        found = now.summary.split(changed)
        return Part(NO_TAG, found.public, []), found.removed

    def arguments(self, words: Sequence[str]) -> tuple[list[str], int]:
        """A command line without what config and argument patterns name."""
        now = self._now()
        if now is None:
            return list(words), 0
        out, count = redaction.redact_arguments(words, now.redact.config, now.redact.arguments)
        return [self.text(word) for word in out], count

    def environment(self, facts: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """Facts about the environment without what the rules leave out."""
        now = self._now()
        if now is None:
            return dict(facts), 0
        clean = {name: self._scrubbed(value) for name, value in facts.items()}
        patterns, count = now.redact.environment, 0
        for table in ("variables", "job"):
            given = clean.get(table)
            if isinstance(given, dict) and patterns:
                hidden = [name for name in given if fits(str(name), patterns)]
                clean[table] = given | dict.fromkeys(hidden, redaction.REDACTED)
                count += len(hidden)
        if isinstance(clean.get("command"), list):
            clean["command"], more = self.arguments(clean["command"])
            count += more
        return clean, count

    def host(self, facts: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """The names of machine and account, as far as they may be recorded."""
        now = self._now()
        if now is None:
            return dict(facts), 0
        hidden = [now.redact.host_names and "host", now.redact.user_names and "user"]
        names = [name for name in hidden if name and name in facts]
        return {**facts, **dict.fromkeys(names, redaction.REDACTED)}, len(names)

    def host_tag(self, *, share: bool) -> bytes:
        """The tag for the names of machine and account."""
        return self.around() if share else self.of_rule(HOST_NAMES)

    def text(self, text: str) -> str:
        """A text without names that are left out."""
        now = self._now()
        return text if now is None or now.scrub is None else now.scrub(text)

    def _scrubbed(self, value: Any) -> Any:
        now = self._now()
        if now is None or now.scrub is None:
            return value
        return redaction.scrub_all(value, now.scrub)


def _is_about(rule: Rule, name: str, kind: str | None) -> bool:
    """Whether a rule is about an artifact; a rule without patterns is about all of them."""
    chosen = rule.selector
    if chosen.config or (rule.stamped and not chosen):
        return False
    classes = {int(DataClass.ARTIFACTS), int(DataClass.CODE), int(DataClass.META)}
    if rule.classes is not None and not rule.classes & classes:
        return False
    if chosen.artifact_name and not fits(name, chosen.artifact_name):
        return False
    return kind is None or not chosen.artifact_type or fits(kind, chosen.artifact_type)


def _mark(path: Path) -> tuple[int, ...]:
    try:
        facts = path.stat()
    except OSError as error:
        return (error.errno or -1,)
    return facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
