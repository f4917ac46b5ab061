"""When a file has come to rest: a small machine over what repeated looks saw. Pure: no disk."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from localstore.watching.patterns import is_unfinished

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from localstore.watching.looking import Candidate


@dataclass(slots=True)
class _Seen:
    candidate: Candidate
    since_s: float  # when it was first seen as it is
    whole: bool = False  # was renamed into place since its last change


class Rest:
    """What has come to rest, and what has not yet.

    A file rests when size, times and inode stay the same over the settle time, or at once when it
    was renamed into place or its marker says that it is complete. Where a marker is asked for,
    nothing rests without it.
    """

    def __init__(self, settle_s: float) -> None:
        self.settle_s = settle_s
        self._seen: dict[str, _Seen] = {}
        self._looked_s = 0.0

    def look(
        self, candidates: Mapping[str, Candidate], now_s: float, renamed: Collection[str] = ()
    ) -> list[Candidate]:
        """Take in one look, and return what rests, oldest content first.

        Args:
            now_s: seconds of a clock that never goes back.
            renamed: names that were renamed into place since the last look.
        """
        self._looked_s = now_s
        self._seen = {name: self._next(one, now_s) for name, one in candidates.items()}
        for name in renamed:
            if name in self._seen:
                self._seen[name].whole = True
        resting = [one.candidate for one in self._seen.values() if self._rests(one, now_s)]
        return sorted(resting, key=lambda one: (one.newest_ns, one.name))

    def _next(self, candidate: Candidate, now_s: float) -> _Seen:
        before = self._seen.get(candidate.name)
        if before is None or before.candidate.files != candidate.files:
            return _Seen(candidate, now_s)
        before.candidate = candidate
        return before

    def _rests(self, seen: _Seen, now_s: float) -> bool:
        one = seen.candidate
        if one.problem or not one.files or not one.size or one.complete is False:
            return False
        if one.folder and any(_is_unfinished_inside(path) for path, _ in one.files):
            return False
        return bool(one.complete) or seen.whole or now_s - seen.since_s >= self.settle_s

    def due_in_s(self, now_s: float) -> float | None:
        """Seconds until the next look may find something at rest that the last one did not.

        None when nothing changed so lately.
        """
        ends = [seen.since_s + self.settle_s for seen in self._seen.values()]
        waits = [max(0.0, end - now_s) for end in ends if end > self._looked_s]
        return min(waits, default=None)


def _is_unfinished_inside(path: str) -> bool:
    """Hidden files belong to some checkpoints; names that say "not yet" do not."""
    return is_unfinished(path.rpartition("/")[2].lstrip("."))
