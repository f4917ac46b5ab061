"""Power cuts, on paper: every call that changes a disk is noted, and replayed as far as it held.

The model is harder than real file systems: of what was not synced, each file and each folder keeps
an arbitrary beginning of its own changes, in order; a name that its folder did not sync may be
gone although the bytes below it are durable.
"""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from localstore import durable

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

Event = tuple[Any, ...]


class Recorder:
    """Notes calls of the operating system below `root`, in the order in which they happened."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.events: list[Event] = []
        self._lock = threading.RLock()
        self._real: dict[str, Any] = {}

    def note(self, *event: Any) -> None:
        """A promise that was made at this moment."""
        self.events.append(event)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Replace the calls in `os` while `patch` lasts."""
        names = (
            "open", "close", "pwrite", "ftruncate", "fdatasync", "fsync", "mkdir", "rename",
            "replace", "link", "unlink", "rmdir",
        )  # fmt: skip
        for name in names:
            self._real[name] = getattr(os, name)
            patch.setattr(os, name, self._wrapped(name))
        self._real["sync_disk"] = durable.sync_disk
        patch.setattr(durable, "sync_disk", self._sync_disk)

    def _sync_disk(self, handle: int) -> bool:
        with self._lock:
            done: bool = self._real["sync_disk"](handle)
            if done:
                self.events.append(("sync_disk",))
            return done

    def _wrapped(self, name: str) -> Callable[..., Any]:
        real = self._real[name]

        def call(*arguments: Any, **words: Any) -> Any:
            with self._lock:
                if name == "pwrite":
                    arguments = (arguments[0], bytes(arguments[1]), arguments[2])
                made = name == "open" and not Path(arguments[0]).exists()
                result = real(*arguments, **words)
                self._take(name, arguments, result, made=made)
                return result

        return call

    def _take(self, name: str, arguments: Any, result: Any, *, made: bool) -> None:
        if name in ("open", "mkdir", "unlink", "rmdir"):
            path = Path(os.fsdecode(arguments[0]))
            if path.is_relative_to(self.root):
                self.events.append((name, path.relative_to(self.root), result, made))
        elif name in ("rename", "replace", "link"):
            old, new = (Path(os.fsdecode(one)).relative_to(self.root) for one in arguments[:2])
            self.events.append(("link" if name == "link" else "rename", old, new))
        else:
            self.events.append((name, *arguments))


@dataclass
class File:
    """What of a file is durable, and what was done to it since."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[Event] = field(default_factory=list)

    def sync(self) -> None:
        self.durable = self.after(len(self.pending))
        self.pending = []

    def after(self, count: int) -> bytearray:
        """Its bytes when only the first `count` of the unsynced changes held."""
        out = bytearray(self.durable)
        for kind, *what in self.pending[:count]:
            if kind == "truncate":
                del out[what[0] :]
                continue
            data, offset = what
            out.extend(bytes(max(0, offset - len(out))))
            out[offset : offset + len(data)] = data
        return out


@dataclass
class Folder:
    """Names of a folder: what is durable, and what changed since."""

    durable: dict[str, File | Folder] = field(default_factory=dict)
    pending: list[dict[str, File | Folder | None]] = field(default_factory=list)

    def sync(self) -> None:
        self.durable = self.after(len(self.pending))
        self.pending = []

    def after(self, count: int) -> dict[str, File | Folder]:
        """Its names when only the first `count` of the unsynced changes held."""
        out: dict[str, File | Folder | None] = dict(self.durable)
        for change in self.pending[:count]:
            out.update(change)
        return {name: node for name, node in out.items() if node is not None}

    @property
    def now(self) -> dict[str, File | Folder]:
        return self.after(len(self.pending))


def _loaded(root: Path) -> Folder:
    nodes: dict[str, File | Folder] = {
        path.name: _loaded(path) if path.is_dir() else File(bytearray(path.read_bytes()))
        for path in root.iterdir()
    }
    return Folder(nodes)


def _sync_below(folder: Folder) -> None:
    for node in folder.now.values():
        if isinstance(node, Folder):
            _sync_below(node)
        else:
            node.sync()
    folder.sync()


class Disk:
    """A disk on which events are replayed one by one."""

    def __init__(self) -> None:
        self.top = Folder()
        self._handles: dict[int, File | Folder] = {}

    def _folder(self, path: Path) -> Folder:
        node: File | Folder = self.top
        for part in path.parts:
            assert isinstance(node, Folder)
            node = node.now[part]
        assert isinstance(node, Folder)
        return node

    def load(self, root: Path) -> None:
        """Begin with what lies below a folder, all of it durable."""
        self.top = _loaded(root)

    def play(self, event: Event) -> None:
        """Do what an event did."""
        match event:
            case ("sync_disk",):
                _sync_below(self.top)
            case ("open", path, handle, made):
                if made:
                    self._folder(path.parent).pending.append({path.name: File()})
                whole = path == Path()
                node = self.top if whole else self._folder(path.parent).now[path.name]
                self._handles[handle] = node
            case ("close", handle):
                self._handles.pop(handle, None)
            case ("mkdir", path, *_):
                self._folder(path.parent).pending.append({path.name: Folder()})
            case ("unlink" | "rmdir", path, *_):
                self._folder(path.parent).pending.append({path.name: None})
            case ("rename", old, new):
                assert old.parent == new.parent
                folder = self._folder(old.parent)
                folder.pending.append({old.name: None, new.name: folder.now[old.name]})
            case ("link", old, new):
                node = self._folder(old.parent).now[old.name]
                self._folder(new.parent).pending.append({new.name: node})
            case (kind, handle, *what) if handle in self._handles:
                self._play_on(self._handles[handle], kind, what)

    def _play_on(self, node: File | Folder, kind: str, what: list[Any]) -> None:
        if kind in ("fdatasync", "fsync"):
            node.sync()
        elif isinstance(node, File):
            change = ("write", *what) if kind == "pwrite" else ("truncate", *what)
            node.pending.append(change)

    def write_to(self, target: Path, keep: Callable[[int], int]) -> None:
        """What is there after a power cut: `keep` says how many of n unsynced changes held."""
        self._write(self.top, target, keep)

    def _write(self, folder: Folder, target: Path, keep: Callable[[int], int]) -> None:
        target.mkdir(mode=0o700, exist_ok=True)
        for name, node in folder.after(keep(len(folder.pending))).items():
            path = target / name
            if isinstance(node, Folder):
                self._write(node, path, keep)
            else:
                path.write_bytes(node.after(keep(len(node.pending))))
                path.chmod(0o600)
