"""What stands around a run, for `localstore show`: code, environment, machine, files, artifacts.

Facts were written by whoever wrote the run, perhaps by a later localstore: whatever has another
shape than it should is left out, and all text is made inert.
"""

from __future__ import annotations

import math
import shlex
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, TypeGuard

from localstore.cli.files import CLASSES, class_name, document
from localstore.cli.rm import size_text
from localstore.cli.terminal import inert, short
from localstore.query.history import MISSING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from localstore.query.api import StoredRun
    from localstore.query.contents import RunFile
    from localstore.query.history import Table
    from localstore.sdk.artifact import Artifact

Rows = list[list[str]]
KINDS: Final = ("git", "environment", "host")
_COMMIT_CHARS: Final = 12
_WORDS_CHARS: Final = 100
_NAMED: Final = 4  # of a list of names
_GIB: Final = 1 << 30
_SAID: Final = {"artifacts": "saved"}  # the class of what `run.save` takes


def documents(run: StoredRun) -> dict[str, Any]:
    """Facts, files and artifacts of a run as plain values, complete."""
    return {
        "facts": {kind: run.facts(kind) for kind in KINDS},
        "files": [document(file) for file in run.contents.files(CLASSES.values())],
        "artifacts": {
            way: [_link(*link) for link in _links(run, direction)]
            for way, direction in (("used", "input"), ("logged", "output"))
        },
    }


def count_files(files: Sequence[RunFile]) -> str:
    """How many of each class; empty when there are none."""
    if not files:
        return ""
    counts = Counter(map(class_name, files))
    parts = ", ".join(f"{count} {_SAID.get(name, name)}" for name, count in counts.items())
    return f"{len(files)} ({parts}), {size_text(sum(file.size for file in files))}"


# ------------------------------------------------------------------ code
def code_rows(facts: dict[str, Any], files: Iterable[RunFile]) -> Rows:
    """Commit, remote, what was saved, what was masked or left out."""
    saved = [file.path for file in files if class_name(file) == "code"]
    masked = [one for one in _items(facts.get("masked")) if isinstance(one, dict)]
    places = sorted({inert(one.get("file", "")) for one in masked})
    lines = f"{len(masked)} line{'s' * (len(masked) != 1)} in {_names(places)}" if masked else ""
    limits = _map(facts.get("limits"))
    return _present(
        {
            "commit": _commit(facts),
            "remote": _text(facts.get("remote")),
            "saved": _names(map(inert, saved)),
            "masked": lines,
            "not saved": ", ".join(f"{inert(name)}: {_text(why)}" for name, why in limits.items()),
        }
    )


def _commit(facts: dict[str, Any]) -> str:
    commit = _text(facts.get("commit"))[:_COMMIT_CHARS]
    branch = _text(facts.get("branch"))
    dirty = facts.get("dirty")
    changes = "with changes" if dirty is True else "no changes" if dirty is False else ""
    where = f"{commit} on {branch}" if branch else commit
    return ", ".join(part for part in (where, changes) if part) if commit else ""


# ------------------------------------------------------------------ environment
def environment_rows(facts: dict[str, Any], host: dict[str, Any]) -> Rows:
    """Interpreter and libraries, machine, GPUs, job, command line, host: a row each."""
    command = [word for word in _items(facts.get("command")) if isinstance(word, str)]
    job = _map(facts.get("job"))
    who = "@".join(filter(None, (_text(host.get("user")), _text(host.get("host")))))
    return _present(
        {
            "python": _python(facts),
            "machine": _machine(facts),
            "gpus": _gpus(facts.get("gpus")),
            "job": ", ".join(f"{inert(name)} {_text(value)}" for name, value in job.items()),
            "command": short(shlex.join(command), _WORDS_CHARS) if command else "",
            "host": who,
        }
    )


def _python(facts: dict[str, Any]) -> str:
    python = _map(facts.get("python"))
    libraries = _map(facts.get("frameworks"))
    parts = [_text(python.get("version"))]
    parts += [f"{inert(name)} {_text(version)}" for name, version in libraries.items()]
    return ", ".join(filter(None, parts))


def _machine(facts: dict[str, Any]) -> str:
    system, hardware = _map(facts.get("system")), _map(facts.get("hardware"))
    cores = hardware.get("cpu_limit", hardware.get("cpu_usable", hardware.get("cpu_count")))
    memory = hardware.get("memory_limit_bytes", hardware.get("memory_bytes"))
    parts = [
        _text(system.get("distribution")) or _text(system.get("os")),
        _text(facts.get("container")),
        _text(hardware.get("cpu")),
        f"{short(cores)} core{'s' * (cores != 1)}" if _is_number(cores) else "",
        f"{memory / _GIB:.0f} GiB" if _is_number(memory) else "",
    ]
    return ", ".join(filter(None, parts))


def _gpus(listed: Any) -> str:
    kinds = Counter(
        (_text(gpu.get("name")) or "unknown", gpu.get("memory_mb"))
        for gpu in _items(listed)
        if isinstance(gpu, dict) and not isinstance(gpu.get("memory_mb"), (dict, list))
    )
    return ", ".join(
        (f"{count} x " if count > 1 else "")
        + name
        + (f" ({memory / 1024:.0f} GiB)" if _is_number(memory) else "")
        for (name, memory), count in kinds.items()
    )


# ------------------------------------------------------------------ the machine's state
def last_values(table: Table) -> dict[str, float]:
    """The last value of each measurement, whenever that was."""
    found = {}
    for name in table.pieces:
        numbers = [value for value in table.column(name) if value is not MISSING]
        if numbers and _is_number(numbers[-1]) and math.isfinite(numbers[-1]):
            found[name] = float(numbers[-1])
    return found


def state_row(table: Table) -> str:
    """A few of them in one line; empty when nothing was measured."""
    values = last_values(table)
    graphics = [
        values[name]
        for name in sorted(values)
        if name.startswith("gpu.") and name.endswith(".utilization")
    ]
    parts = {
        "cpu": f"{values.get('cpu', 0):.0f} %" if "cpu" in values else "",
        "memory": f"{values.get('memory.percent', 0):.0f} %" if "memory.percent" in values else "",
        "process": _mebibytes(values.get("process.memory.rss_mb")),
        "gpu": " ".join(f"{value:.0f}" for value in graphics) + " %" if graphics else "",
    }
    said = ", ".join(f"{name} {value}" for name, value in parts.items() if value)
    return f"{said}; {len(table)} sample{'s' * (len(table) != 1)}" if said else ""


def _mebibytes(value: float | None) -> str:
    return "" if value is None else size_text(int(value * (1 << 20)))


# ------------------------------------------------------------------ artifacts
def artifact_rows(run: StoredRun) -> Rows:
    """What the run used and logged, each with its name here or, where it is not, its digest."""
    rows = []
    for way, direction in (("used", "input"), ("logged", "output")):
        for link, found in _links(run, direction):
            _, name, digest, kind, project, entity = link
            if found is None:
                where = inert("/".join(filter(None, (entity, project, name))))
                rows.append([way, f"{where}@{digest[:_COMMIT_CHARS]}", inert(kind), "not here"])
                continue
            more = [size_text(found.size), *map(inert, found.aliases)]
            rows.append([way, inert(found.qualified_name), inert(kind), ", ".join(more)])
    return rows


_Link = tuple[str, str, str, str, str, str]


def _links(run: StoredRun, direction: str) -> list[tuple[_Link, Artifact | None]]:
    """Links of one direction, each with its version where that is here."""
    links = [link for link in run.lineage if link[0] == direction]
    if not links:
        return []
    here = run.used_artifacts() if direction == "input" else run.logged_artifacts()
    known = {(one.collection_name, one.digest): one for one in here}
    return [(link, known.get((link[1], link[2]))) for link in links]


def _link(link: _Link, found: Artifact | None) -> dict[str, Any]:
    _, name, digest, kind, project, entity = link
    return {
        "name": name if found is None else found.qualified_name,
        "digest": digest,
        "type": kind,
        "project": project,
        "entity": entity,
        "here": found is not None,
    }


# ------------------------------------------------------------------ values of any shape
def _map(value: Any) -> dict[str, Any]:
    return {str(k): v for k, v in value.items()} if isinstance(value, dict) else {}


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _text(value: Any) -> str:
    return short(value, _WORDS_CHARS) if isinstance(value, (str, int, float)) else ""


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _names(names: Iterable[str]) -> str:
    """The first few of some inert names, and how many more."""
    listed = list(names)
    more = len(listed) - _NAMED
    return ", ".join(listed[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def _present(rows: dict[str, str]) -> Rows:
    return [[title, value] for title, value in rows.items() if value]
