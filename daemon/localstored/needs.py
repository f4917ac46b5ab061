"""Which objects of a project are needed, and which may go. Asked by part; reads no log.

What logs refer to stands in the catalog; who may cancel a reference, and which runs are erased,
says the project's trust.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from localstore.errors import Damaged
from localstore.format import segment, spec
from localstore.format.references import RefFrame, ambiguous
from localstore.layout import parse_name
from localstore.trust import Belief
from localstored.inventory import Item

if TYPE_CHECKING:
    from localstore.layout import ProjectPaths
    from localstore.trust import ProjectState
    from localstored.catalog import Catalog, Referrer

_SETTLED_US: Final = 24 * 3600 * 1_000_000  # longer than any sync


@dataclass(slots=True)
class PartNeeds:
    """The objects of one part, by id (hex).

    Attributes:
        living: which logs and forks need each. gone: those that only erased segments refer to, or
            references that were cancelled some time ago.
    """

    living: dict[str, list[Item]] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)


class Needs:
    """What the logs of a project say of its objects, as the catalog has it now."""

    def __init__(
        self,
        paths: ProjectPaths,
        catalog: Catalog,
        state: ProjectState | None,
        erased: frozenset[str],
        now_us: int,
    ) -> None:
        self._catalog, self._erased = catalog, erased
        cancelled = _cancelled(paths, catalog, state) if state is not None else {}
        # A home that is at it now may count on what its listing says that the remote holds.
        self._old = {frame for frame, at_us in cancelled.items() if at_us <= now_us - _SETTLED_US}
        versions = catalog.refs_of_segments({frame.segment for frame in cancelled})
        living = [one for one in versions if one.subject not in erased]
        self._cancelled = set(cancelled) - ambiguous(living, set(cancelled))

    @property
    def may_free(self) -> bool:
        """Whether there may be objects that nobody needs any more."""
        return bool(self._erased or self._old)

    @property
    def print(self) -> str:
        """A fingerprint of all that decides over every part."""
        frames = (sorted(self._erased), sorted(self._cancelled), sorted(self._old))
        return hashlib.blake2b(repr(frames).encode(), digest_size=16).hexdigest()

    def of(self, first: str) -> PartNeeds:
        """The needs for the objects whose ids begin so."""
        found, items = PartNeeds(), dict[str, Item]()
        for ref in self._catalog.referrers(first):
            item = items.get(ref.name)
            if item is None:
                file = parse_name(ref.name)
                item = items[ref.name] = Item(file, ref.end, ref.data_class, ref.policy_tag)
            self._sort_in(found, ref, item)
        found.gone -= found.living.keys()
        return found

    def _sort_in(self, found: PartNeeds, ref: Referrer, item: Item) -> None:
        subject, frame = (
            item.file.subject,
            RefFrame(item.file.subject, item.file.segment, ref.frame),
        )
        if subject in self._erased or frame in self._old:
            found.gone.add(ref.object)
        if ref.here and subject not in self._erased and frame not in self._cancelled:
            logs = found.living.setdefault(ref.object, [])
            if not logs or logs[-1] is not item:  # a log's frames come one after the other
                logs.append(item)


def _cancelled(paths: ProjectPaths, catalog: Catalog, state: ProjectState) -> dict[RefFrame, int]:
    """REF frames that no longer count, and since when (µs): cancelled by who is trusted to."""
    out: dict[RefFrame, int] = {}
    for name, cancels in catalog.cancels().items():
        try:
            with paths.file(name).open("rb") as handle:
                header, _ = segment.decode_header(handle.read(spec.MAX_HEADER_BYTES))
        except (Damaged, FileNotFoundError):
            continue
        if state.judge_cancel(header).belief is Belief.TRUSTED:
            subject = parse_name(name).subject
            out |= {RefFrame(subject, *frame): at_us for frame, at_us in cancels.items()}
    return out
