"""What a writer does about the rules before it seals: stamps, values put apart, values left out.

Only a writer sees names, so it says by an opaque tag in a segment's header which rules fit, and
writes beside the project what the tag stands for, for an engine that has no key. While a policy
file cannot be understood, everything that rules are about is stamped to stay; what the file leaves
out stays out, and where that cannot be read, everything that it could leave out.
"""

from __future__ import annotations

import contextlib
import errno
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from localstore.durable import create_file
from localstore.errors import BadSetting
from localstore.policy.places import (
    HOST_NAMES,
    UNREADABLE,
    project_file,
    tags_folder,
    user_file,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from localstore.policy.inforce import InForce
    from localstore.policy.rules import Redaction
    from localstore.project import Project

NO_TAG: Final = b""
_ABSENT: Final = (errno.ENOENT,)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of what was to be recorded, and the tag of the segment where it belongs."""

    tag: bytes
    changed: dict[str, Any]
    deleted: list[str]


class Stamps:
    """The rules of one project, for one writer. Never raises: a broken file is warned about."""

    def __init__(self, project: Project, warn: Callable[[str], None]) -> None:
        self._project, self._warn = project, warn
        self._files = (user_file(project.paths.root.parent.parent), project_file(project.paths))
        self._seen: tuple[object, ...] = ()
        self._rules: InForce | None = None
        self._broken = False
        self._tags: dict[str, bytes] = {}

    # -------------------------------------------------------------- reading
    def _now(self) -> InForce | None:
        """The rules as they are now; of broken files, what is left out. None: there are none."""
        seen = tuple(map(_state, self._files))
        if seen != self._seen:
            self._seen, self._rules, self._broken = seen, None, False
            if any(state != _ABSENT for state in seen):
                self._read()
        return self._rules

    def _read(self) -> None:
        from localstore.policy.inforce import InForce
        from localstore.policy.redaction import REDACTED
        from localstore.policy.rules import USER, PolicyFile
        from localstore.policy.salvage import EVERYTHING

        try:
            self._rules = InForce.read(self._project.paths, self._files[0].parent)
        except BadSetting as problem:
            self._broken = True
            redact = self._left_out()
            self._rules = InForce([PolicyFile(level=USER, redact=redact)])
            lost = (
                "; and as nobody can tell what `redact` says there, all their values are left out,"
                f" recorded as {REDACTED}"
            )
            self._warn(
                f"{problem}; until it is mended, config, summary, artifacts and what is around the"
                " run are recorded to stay on this machine" + (lost if redact is EVERYTHING else "")
            )

    def _left_out(self) -> Redaction:
        """What is never recorded, while a file cannot be understood."""
        from localstore.policy.rules import PROJECT, USER, Redaction
        from localstore.policy.salvage import EVERYTHING, redaction_of

        out = Redaction()
        for path, level in zip(self._files, (USER, PROJECT), strict=True):
            found = redaction_of(path, level)
            if found is None:
                return EVERYTHING
            out = out.joined(found)
        return out

    # -------------------------------------------------------------- tags
    def _tag(self, text: str) -> bytes:
        """The tag for a segment, with its meaning written down; none for an empty stamp."""
        if not text:
            return NO_TAG
        found = self._tags.get(text)
        if found is None:
            found = self._tags[text] = self._project.policy_tag(text)
            # Without the file the engine does not know the tag, and keeps the segment.
            with contextlib.suppress(OSError):
                create_file(tags_folder(self._project.paths) / found.hex(), text.encode())
        return found

    def around(self) -> bytes:
        """The tag for what rules leave values out of: none, unless a policy file is broken."""
        self._now()
        return self._tag(UNREADABLE if self._broken else "")

    def host(self, *, share: bool) -> bytes:
        """The tag for the names of machine and account."""
        return self.around() if share else self._tag(HOST_NAMES)

    def artifact(self, name: str, kind: str | None, largest: int = 0) -> bytes:
        """The tag for everything of an artifact.

        Args:
            kind: its type; None where it is not known, and then fits every rule on types.
            largest: bytes of the largest file that is to be kept, where that is known.
        """
        now = self._now()
        if now is None or self._broken:
            return self.around()
        return self._tag(str(now.artifact(name, kind, largest)))

    # -------------------------------------------------------------- values
    def config(self, changed: Mapping[str, Any], deleted: Sequence[str]) -> tuple[list[Part], int]:
        """What is recorded of a change of the config, in parts; how many values are left out."""
        now = self._now()
        if now is None:
            return [Part(NO_TAG, dict(changed), list(deleted))], 0
        found = now.config(changed)
        parts: dict[frozenset[str], Part] = {}

        def part(rules: frozenset[str]) -> Part:
            if rules not in parts:
                tag = self._tag("\n".join(sorted(rules))) if rules else self.around()
                parts[rules] = Part(tag, {}, [])
            return parts[rules]

        part(frozenset()).changed.update(found.public)
        for key, (value, rules) in found.apart.items():
            part(rules).changed[key] = value
        for key in deleted:
            part(now.config_rules(key)).deleted.append(key)
        return [one for one in parts.values() if one.changed or one.deleted], found.removed

    def recorded(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """A config as its owner will read it back: only what is left out is left out."""
        now = self._now()
        if now is None:
            return dict(config)
        found = now.config(config)
        return {**found.public, **{key: value for key, (value, _) in found.apart.items()}}

    def summary(
        self, changed: Mapping[str, Any], measured: Collection[str] = ()
    ) -> tuple[list[Part], int]:
        """What is recorded of a change of the summary, in parts; how many values are left out.

        Args:
            measured: keys whose values come from what was logged, so that rules on metrics are
                about them, too.
        """
        now = self._now()
        if now is None:
            return [Part(NO_TAG, dict(changed), [])], 0
        if self._broken:
            # What was measured stands in the run as it was logged.
            known = {key: value for key, value in changed.items() if key in measured}
            given = {key: value for key, value in changed.items() if key not in measured}
            found = now.summary(given)
            return [Part(self.around(), {**found.public, **known}, [])], found.removed
        found = now.summary(changed)
        tag = self._tag(str(now.measured()))
        if tag == NO_TAG:
            return [Part(NO_TAG, found.public, [])], found.removed
        own = {key: value for key, value in found.public.items() if key not in measured}
        rest = {key: value for key, value in found.public.items() if key in measured}
        parts = [Part(NO_TAG, own, []), Part(tag, rest, [])]
        return [one for one in parts if one.changed], found.removed

    def arguments(self, words: Sequence[str]) -> tuple[list[str], int]:
        """A command line without what config and argument patterns name."""
        now = self._now()
        return (list(words), 0) if now is None else now.arguments(words)

    def environment(self, facts: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """Facts about the environment without what the rules leave out."""
        now = self._now()
        return (dict(facts), 0) if now is None else now.environment(facts)

    def host_facts(self, facts: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """The names of machine and account, as far as they may be recorded."""
        now = self._now()
        return (dict(facts), 0) if now is None else now.host(facts)

    def text(self, text: str) -> str:
        """A text without names that are left out."""
        now = self._now()
        return text if now is None else now.text(text)


def _state(path: Path) -> tuple[int, ...]:
    try:
        facts = path.stat()
    except OSError as error:
        # A link to nothing is no absence: whoever put it there said that there are rules.
        absent = error.errno == errno.ENOENT and not path.is_symlink()
        return _ABSENT if absent else (error.errno or -1, 0)
    return facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns
