"""The rules of one project as a writer asks for them, and what values become under them."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localstore import settings
from localstore.format.spec import DataClass
from localstore.policy import redaction
from localstore.policy.places import KEEP_LOCAL, project_file, user_file
from localstore.policy.redaction import Split, Splitter
from localstore.policy.rules import (
    PROJECT,
    USER,
    Leave,
    Redaction,
    Rule,
    Stamp,
    When,
    merged,
    read_policy,
)
from localstore.policy.values import fits

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from localstore.layout import ProjectPaths
    from localstore.policy.rules import PolicyFile


class InForce:
    """The rules as they were read."""

    @classmethod
    def read(cls, paths: ProjectPaths, home: Path) -> InForce:
        """The rules of the files as they are now.

        Raises:
            BadSetting: a file cannot be understood.
        """
        return cls([read_policy(user_file(home), USER), read_policy(project_file(paths), PROJECT)])

    def __init__(self, files: Sequence[PolicyFile]) -> None:
        self._rules = merged(files)
        self._redact = Redaction()
        for file in files:
            self._redact = self._redact.joined(file.redact)
        private: dict[str, tuple[str, ...]] = {}
        for rule in self._rules:
            if rule.selector.config:
                private[rule.name] = private.get(rule.name, ()) + rule.selector.config
        kept = tuple(pattern for file in files for pattern in file.keep_local)
        if kept:
            private[KEEP_LOCAL] = private.get(KEEP_LOCAL, ()) + kept
        self._scrub = redaction.scrubber(_own_names(self._redact))
        self._config = Splitter(self._redact.config, private, self._scrub)
        self._summary = Splitter(self._redact.summary, {}, self._scrub)

    def artifact(self, name: str, kind: str | None, largest: int) -> Stamp:
        """What fits an artifact; see `Stamps.artifact`."""
        fit = [rule for rule in self._rules if _is_about(rule, name, kind)]
        names = sorted({rule.name for rule in fit if rule.selector})
        limits = [rule.when.max_file for rule in fit if rule.when.max_file is not None]
        too_large = any(largest > limit for limit in limits)
        return Stamp(tuple(names), largest if too_large else 0)

    def config(self, values: Mapping[str, Any]) -> Split:
        """A config in its parts."""
        return self._config.split(values)

    def config_rules(self, key: str) -> frozenset[str]:
        """The rules that put a key of the config apart."""
        return self._config.rules(key)

    def summary(self, values: Mapping[str, Any]) -> Split:
        """A summary; nothing of it is put apart."""
        return self._summary.split(values)

    def measured(self) -> Stamp:
        """The stamp for values of metrics that are repeated elsewhere: none where all may go."""
        strict = any(
            rule.leave is not Leave.AUTO or rule.when != When()
            for rule in self._rules
            if rule.classes is not None and DataClass.METRICS in rule.classes
        )
        return Stamp(like=int(DataClass.METRICS) if strict else 0)

    def arguments(self, words: Sequence[str]) -> tuple[list[str], int]:
        """A command line, and how many words were changed."""
        redact = self._redact
        out, count = redaction.redact_arguments(words, redact.config, redact.arguments)
        return [self.text(word) for word in out], count

    def environment(self, facts: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """Facts of `surroundings.environment`, and how many values were left out."""
        scrub = self._scrub
        clean = dict(facts) if scrub is None else redaction.scrub_all(dict(facts), scrub)
        count = 0
        for table in ("variables", "job"):
            given = clean.get(table)
            if isinstance(given, dict):
                hidden = [name for name in given if fits(str(name), self._redact.environment)]
                clean[table] = given | dict.fromkeys(hidden, redaction.REDACTED)
                count += len(hidden)
        if isinstance(clean.get("command"), list):
            clean["command"], more = self.arguments(clean["command"])
            count += more
        return clean, count

    def host(self, facts: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
        """The names of machine and account, and how many were left out."""
        hidden = {"host": self._redact.host_names, "user": self._redact.user_names}
        names = [name for name, left_out in hidden.items() if left_out and name in facts]
        return {**facts, **dict.fromkeys(names, redaction.REDACTED)}, len(names)

    def text(self, text: str) -> str:
        """A text without names that are left out."""
        return text if self._scrub is None else self._scrub(text)


def _own_names(redact: Redaction) -> Iterator[str]:
    """The names of this machine and its account, as far as they are not to be recorded."""
    if redact.host_names:
        host = os.uname().nodename
        yield from (host, host.partition(".")[0])
    if redact.user_names:
        with contextlib.suppress(RuntimeError):
            yield Path.home().name
        yield settings.account_name()


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
