"""From two inventories to a list of steps. Pure: no disk, no network, no clock.

`questions` says for which names the inventories do not decide; somebody else finds out, and `plan`
then decides. Of two versions of a log the longer one wins when the shorter is its beginning; when
they differ both are kept, each under a fork name on the side that lacks it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Final

from localstore.layout import FileKind, FileName, parse_name
from localstored.policy import Decision, Held
from localstored.verify import MAX_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from localstored.inventory import Item


# ------------------------------------------------------------------ steps
@dataclass(frozen=True, slots=True)
class PushCreate:
    """The remote lacks the file."""

    name: str
    size: int

    def __str__(self) -> str:
        """One line for a person."""
        return f"push {self.name} ({self.size} bytes)"


@dataclass(frozen=True, slots=True)
class PushAppend:
    """The remote has the first `offset` bytes of `size`."""

    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        """One line for a person."""
        return f"push {self.name} from {self.offset} to {self.size}"


@dataclass(frozen=True, slots=True)
class PullCreate:
    """We lack the file."""

    name: str
    size: int

    def __str__(self) -> str:
        """One line for a person."""
        return f"pull {self.name} ({self.size} bytes)"


@dataclass(frozen=True, slots=True)
class PullAppend:
    """We have the first `offset` bytes of `size`."""

    name: str
    offset: int
    size: int

    def __str__(self) -> str:
        """One line for a person."""
        return f"pull {self.name} from {self.offset} to {self.size}"


@dataclass(frozen=True, slots=True)
class Fork:
    """Two versions of one log; each side gets the other's, unless it has it (an empty name)."""

    name: str
    push_as: str
    push_size: int
    pull_as: str
    pull_size: int

    def __str__(self) -> str:
        """One line for a person."""
        push, pull = self.push_as or "nothing", self.pull_as or "nothing"
        return f"keep both of {self.name}: push {push}, pull {pull}"


@dataclass(frozen=True, slots=True)
class Heal:
    """The remote's bytes are not those that its name stands for; ours are put in their place."""

    name: str
    size: int

    def __str__(self) -> str:
        """One line for a person."""
        return f"replace damaged {self.name} on the remote ({self.size} bytes)"


@dataclass(frozen=True, slots=True)
class Settle:
    """Both sides have the same bytes and nobody had written that down."""

    name: str
    size: int
    sha256: str

    def __str__(self) -> str:
        """One line for a person."""
        return f"note that {self.name} is there ({self.size} bytes)"


@dataclass(frozen=True, slots=True)
class EraseRemote:
    """A tombstone is in force, and the remote still has the file."""

    name: str

    def __str__(self) -> str:
        """One line for a person."""
        return f"erase {self.name} on the remote"


@dataclass(frozen=True, slots=True)
class EraseLocal:
    """A tombstone is in force, and we still have the file."""

    name: str

    def __str__(self) -> str:
        """One line for a person."""
        return f"erase {self.name} here"


@dataclass(frozen=True, slots=True)
class Hold:
    """Policy keeps it here; `rule` is the one that says so."""

    name: str
    reason: str
    size: int = 0
    rule: str = ""

    def __str__(self) -> str:
        """One line for a person."""
        return f"hold {self.name}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Refuse:
    """The remote offers what we do not take."""

    name: str
    reason: str

    def __str__(self) -> str:
        """One line for a person."""
        return f"refuse {self.name}: {self.reason}"


Step = (
    PushCreate
    | PushAppend
    | PullCreate
    | PullAppend
    | Fork
    | Heal
    | Settle
    | EraseRemote
    | EraseLocal
    | Hold
    | Refuse
)


def step_to_json(step: Step, data_class: str = "") -> dict[str, object]:
    """One object for a program: the kind of step, its fields, the class of data if there is one."""
    words = "".join(f" {c.lower()}" if c.isupper() else c for c in type(step).__name__)
    return {"step": words.strip(), **asdict(step), "data_class": data_class}


def weight(step: Step) -> int:
    """Bytes that a step moves."""
    match step:
        case PushCreate(_, size) | PullCreate(_, size) | Heal(_, size):
            return size
        case PushAppend(_, offset, size) | PullAppend(_, offset, size):
            return size - offset
        case Fork(_, push_as, push_size, pull_as, pull_size):
            return (push_size if push_as else 0) + (pull_size if pull_as else 0)
        case _:
            return 0


def pushes(step: Step) -> bool:
    """Whether bytes of ours leave by a step."""
    return isinstance(step, PushCreate | PushAppend | Heal) or (
        isinstance(step, Fork) and bool(step.push_as)
    )


def changes_remote(step: Step) -> bool:
    """Whether a step changes what the remote holds."""
    return pushes(step) or isinstance(step, EraseRemote)


def one_way(steps: Iterable[Step], *, push: bool, pull: bool) -> list[Step]:
    """The steps that go the ways that are wanted; what is erased here is erased in any case."""
    return [step for given in steps if (step := _one_way(given, push=push, pull=pull)) is not None]


def _one_way(step: Step, *, push: bool, pull: bool) -> Step | None:
    if isinstance(step, Fork):
        step = replace(
            step, push_as=step.push_as if push else "", pull_as=step.pull_as if pull else ""
        )
        return step if step.push_as or step.pull_as else None
    if isinstance(step, PullCreate | PullAppend):
        return step if pull else None
    if isinstance(step, Hold) or changes_remote(step):
        return step if push else None
    return step


# ------------------------------------------------------------------ what is known
@dataclass(frozen=True, slots=True)
class Same:
    """As far as the shorter side goes, both have the same bytes, of this SHA-256 (hex)."""

    sha256: str


@dataclass(frozen=True, slots=True)
class Differs:
    """The sides differ; the hashes (32 hex digits) that name a copy of each one."""

    local_hash: str
    remote_hash: str


Evidence = Same | Differs


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """All that a plan is made from.

    Attributes:
        local, tails, damaged: from the inventory. `remote`: sizes in bytes by name.
        cursors: how many bytes of ours this remote acknowledged, by name.
        marks: forks that the other side has in its log.
        erased: subjects (hex) whose tombstone is in force. `pruned`: logs that left on purpose.
        condemned: objects that only erased segments refer to.
        wanted: names of the objects that a log here refers to; no other is pulled.
        decide: the policy.
    """

    local: Mapping[str, Item]
    remote: Mapping[str, int]
    decide: Callable[[Item], Decision]
    tails: frozenset[str] = frozenset()
    damaged: frozenset[str] = frozenset()
    cursors: Mapping[str, int] = field(default_factory=dict)
    marks: frozenset[str] = frozenset()
    evidence: Mapping[str, Evidence] = field(default_factory=dict)
    erased: frozenset[str] = frozenset()
    pruned: frozenset[str] = frozenset()
    condemned: frozenset[str] = frozenset()
    wanted: frozenset[str] = frozenset()

    def is_erased(self, file: FileName) -> bool:
        """Whether a file must not be on any side."""
        return file.subject in self.erased or file.name in self.condemned


_RANKS: Final = {
    FileKind.FORMAT: 0,
    FileKind.CERT: 1,
    FileKind.LINK: 2,
    FileKind.KEYSLOT: 3,
    FileKind.LIVE_TAIL: 4,
    FileKind.LOG: 4,
    FileKind.TAIL_COPY: 4,
    FileKind.FORK: 4,
    FileKind.OBJECT: 5,
}
_PULLED_FORMAT_RANK: Final = 2.5  # a project becomes visible here once its links are here


def plan(view: View) -> list[Step]:
    """What to do, in order: trust before keys before runs before objects, small before large."""
    names = {*view.local, *view.remote, *view.tails, *view.damaged}
    return in_order(step for name in names for step in _steps(view, name))


def in_order(steps: Iterable[Step]) -> list[Step]:
    """Steps of many plans in the order of one."""
    return sorted(steps, key=_order)


def stage(step: Step) -> tuple[float, bool]:
    """Steps of one stage may go at once; those of an earlier one must have ended."""
    kind = parse_name(step.name).kind
    rank = float(_RANKS[kind])
    if kind is FileKind.FORMAT and isinstance(step, PullCreate):
        rank = _PULLED_FORMAT_RANK
    return rank, not isinstance(step, EraseLocal | EraseRemote)


def _order(step: Step) -> tuple[tuple[float, bool], int, str, str]:
    return stage(step), weight(step), step.name, type(step).__name__


def _steps(view: View, name: str) -> Iterator[Step]:
    file = parse_name(name)
    mine, theirs = view.local.get(name), view.remote.get(name)
    if view.is_erased(file):
        if theirs is not None:
            yield EraseRemote(name)
        if mine is not None or name in view.tails or name in view.damaged:
            yield EraseLocal(name)
        return
    if name in view.damaged:
        return
    step = _step(view, file, mine, theirs)
    if step is not None:
        yield step


def _step(view: View, file: FileName, mine: Item | None, theirs: int | None) -> Step | None:
    if theirs is not None and theirs > MAX_BYTES[file.kind]:
        return Refuse(file.name, f"{theirs} bytes, the most is {MAX_BYTES[file.kind]}")
    if mine is None:
        return _pull(view, file, theirs) if theirs is not None else None
    if theirs is None:
        if file.name in view.marks:
            return None
        return _held(view, mine) or PushCreate(file.name, mine.size)
    return _both(view, mine, theirs)


def _pull(view: View, file: FileName, theirs: int) -> Step | None:
    if file.name in view.pruned or file.name in view.marks:
        return None
    if file.kind is FileKind.OBJECT and file.name not in view.wanted:
        return None
    return PullCreate(file.name, theirs)


def _held(view: View, item: Item) -> Hold | None:
    decision = view.decide(item)
    if not isinstance(decision, Held):
        return None
    return Hold(item.name, decision.reason, item.size, str(decision.rule))


def _both(view: View, mine: Item, theirs: int) -> Step | None:
    match evidence_of(view, mine, theirs):
        case None:
            return None
        case Differs(local_hash, remote_hash):
            if mine.file.kind is not FileKind.LOG:
                return _held(view, mine) or Heal(mine.name, mine.size)
            return _fork(view, mine, theirs, local_hash, remote_hash)
        case Same(sha256):
            if mine.size == theirs:
                return Settle(mine.name, theirs, sha256) if sha256 else None
            if mine.size > theirs:
                return _held(view, mine) or PushAppend(mine.name, theirs, mine.size)
            if mine.file.kind is not FileKind.LOG:
                return _held(view, mine) or Heal(mine.name, mine.size)
            # A live log is its writer's alone; what the remote has is from a copy of its machine.
            return None if mine.live else PullAppend(mine.name, mine.size, theirs)


def evidence_of(view: View, mine: Item, theirs: int) -> Evidence | None:
    """What is known of a file that both sides have; None: nobody asked yet.

    What the remote acknowledged needs no question: its bytes up to there are ours. Then the hash
    is empty, for nothing new was learnt.
    """
    if mine.file.kind is FileKind.OBJECT and theirs < mine.size:
        return Same("")  # a push that was cut; should it be anything else, its end will tell
    cursor = view.cursors.get(mine.name)
    if cursor is not None and cursor == min(mine.size, theirs):
        return Same("")
    return view.evidence.get(mine.name)


def _fork(view: View, mine: Item, theirs: int, local_hash: str, remote_hash: str) -> Fork | None:
    stem = mine.name.removesuffix(".log")
    push_as, pull_as = f"{stem}-{local_hash}.fork", f"{stem}-{remote_hash}.fork"
    there = view.remote.get(push_as) == mine.size or _held(view, mine) is not None
    here = pull_as in view.local
    if there and here:
        return None
    return Fork(mine.name, "" if there else push_as, mine.size, "" if here else pull_as, theirs)


# ------------------------------------------------------------------ questions
def questions(view: View) -> list[Item]:
    """Files that both sides have and nobody knows whether they are the same."""
    both = (view.local[name] for name in sorted(view.local.keys() & view.remote.keys()))
    return [
        item
        for item in both
        if not view.is_erased(item.file)
        and item.name not in view.damaged
        and view.remote[item.name] <= MAX_BYTES[item.file.kind]
        and evidence_of(view, item, view.remote[item.name]) is None
    ]


def fork_questions(view: View) -> tuple[list[FileName], list[Item]]:
    """Forks that only the remote has, or only we have, where the other side may have the same
    bytes at the beginning of its log."""
    there = [
        file
        for file in map(parse_name, view.remote.keys() - view.local.keys() - view.marks)
        if file.kind is FileKind.FORK and _log_of(file) in view.local
    ]
    here = [
        view.local[name]
        for name in view.local.keys() - view.remote.keys() - view.marks
        if view.local[name].file.kind is FileKind.FORK
        and view.remote.get(_log_of(view.local[name].file), -1) >= view.local[name].size
    ]
    return there, here


def _log_of(file: FileName) -> str:
    return f"runs/{file.subject}/{file.segment}.log"
