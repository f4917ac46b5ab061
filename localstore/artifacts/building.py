"""The half of `Artifact` that collects content before it is logged."""

from __future__ import annotations

import contextlib
import io
import os
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from localstore.artifacts.references import read_reference
from localstore.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from localstore.artifacts.draft import Draft

POLICIES = ("mutable", "immutable")


class Building:
    """Adds files, folders, references and objects to a draft. Mixed into `Artifact`."""

    _draft: Draft

    def add_file(
        self,
        local_path: str | os.PathLike[str],
        name: str | None = None,
        policy: str = "mutable",
        overwrite: bool = False,
        **unused: Any,
    ) -> None:
        """Add one file. Nothing is copied to disk.

        Args:
            local_path: the file.
            name: its path in the artifact, with `/`; default its own name.
            policy: `mutable`, the file may change after this call: a small one is read now, of a
                great one a change is told. `immutable`: it will not change, it is read later.
            overwrite: replace what has this name in the artifact.

        Raises:
            UsageError: the name is taken or no path inside an artifact; not a regular file.
            NotFound, NotPermitted: it is missing, or cannot be read.
        """
        if policy not in POLICIES:
            raise UsageError(f"policy is {policy!r}, want one of {', '.join(POLICIES)}")
        _check_unused("add_file", unused, ("is_tmp", "skip_cache"))
        file = _path(local_path)
        self._draft.add_file(
            file, _text(name) or file.name, snapshot=policy == "mutable", overwrite=overwrite
        )

    def add_dir(
        self, local_path: str | os.PathLike[str], name: str | None = None, **unused: Any
    ) -> None:
        """Add all files below a folder; of a great folder they are found when it is logged.

        Args:
            local_path: the folder. Symbolic links are followed.
            name: the folder's path in the artifact; default its top.

        Raises:
            UsageError, NotFound, NotPermitted: no folder, or what is in it is no regular file,
                leads back to itself, or cannot be read.
        """
        _check_unused("add_dir", unused, ("skip_cache", "policy", "merge"))
        self._draft.add_folder(_path(local_path), (_text(name) or "").strip("/"))

    def add_reference(
        self,
        uri: str,
        name: str | None = None,
        checksum: bool | str | bytes = True,
        max_objects: int | None = None,
        size: int | None = None,
    ) -> None:
        """Add something that stays where it is. Nothing is copied and no network is asked.

        Args:
            uri: `file:///path`, `https://…`, `s3://…`, `gs://…`. A folder behind `file://` becomes
                one reference for each file.
            name: path in the artifact; default the last part of the URI.
            checksum: of `file://`: whether contents are hashed. Of others: the BLAKE3 hash of the
                content, 64 hex digits, if you know it.
            max_objects: how many files a folder may have.
            size: of others than `file://`: bytes, if you know it.

        Raises:
            UsageError: no URI; a checksum or size that is none; the name is taken.
            NotFound, NotPermitted: a `file://` that is not here.
        """
        path, reference = read_reference(str(uri), _text(name), checksum, max_objects, size)
        self._draft.add_reference(path, reference)

    def add(self, obj: Any, name: str, overwrite: bool = False) -> None:
        """Add an image, a table or another media object; `get(name)` gives it back.

        Args:
            obj: `localstore.Image`, `Table` …, or anything with `to_artifact_files(name)` that
                gives pairs of a path and its content.
            name: its path in the artifact.

        Raises:
            UsageError: nothing of that kind, or the name is taken.
        """
        for path, content in _files_of(obj, name):
            if isinstance(content, bytes):
                self._draft.add_content(path, content, overwrite=overwrite)
            else:
                self._draft.add_file(Path(content), path, overwrite=overwrite)

    @contextlib.contextmanager
    def new_file(
        self, name: str, mode: str = "w", encoding: str | None = None, overwrite: bool = False
    ) -> Iterator[IO[Any]]:
        """A file to write into, which exists only in this artifact.

        Its content stays in memory until it is sealed. When the block fails it is not added.

        Args:
            name: path in the artifact.
            mode: `w`, or `wb` for bytes.

        Raises:
            UsageError: another mode, or the name is taken.
        """
        if mode not in ("w", "wb", "wt", "x", "xb"):
            raise UsageError(f"mode is {mode!r}, want 'w' or 'wb'")
        file: io.StringIO | io.BytesIO = io.BytesIO() if "b" in mode else io.StringIO(newline="")
        yield file
        value = file.getvalue()
        content = value if isinstance(value, bytes) else value.encode(encoding or "utf-8")
        self._draft.add_content(name, content, overwrite=overwrite)

    def remove(self, item: str | os.PathLike[str] | Any) -> None:
        """Take back a file, or all below a folder.

        Args:
            item: path in the artifact, or an entry.

        Raises:
            NotFound: there is nothing of this path.
            UsageError: the artifact is logged.
        """
        path = item if isinstance(item, str | os.PathLike) else getattr(item, "path", None)
        if path is None:
            raise UsageError(f"want a path or an entry, not {item!r:.80}")
        self._draft.remove(os.fspath(path))

    def __setitem__(self, name: str, item: Any) -> None:
        """`artifact["table"] = table` is `artifact.add(table, "table")`."""
        self.add(item, name)


def _path(given: str | os.PathLike[str]) -> Path:
    if not isinstance(given, str | os.PathLike):
        raise UsageError(f"want a path, not {given!r:.80}")
    return Path(os.fsdecode(given))


def _text(given: str | None) -> str | None:
    if given is None or isinstance(given, str):
        return given
    raise UsageError(f"a name in an artifact is a text, not {given!r:.80}")


def _check_unused(what: str, given: dict[str, Any], known: tuple[str, ...]) -> None:
    """Arguments of other trackers that mean nothing here are taken; unknown ones are not."""
    for name in given:
        if name not in known:
            raise UsageError(f"{what}() has no argument {name!r}")


def _files_of(obj: Any, name: str) -> list[tuple[str, bytes | Path]]:
    own = getattr(obj, "to_artifact_files", None)
    if callable(own):
        return list(own(name))
    from localstore.media.base import Media
    from localstore.media.packing import to_artifact_files

    if isinstance(obj, Media):
        return to_artifact_files(obj, name)
    raise UsageError(
        f"add() takes an image, a table …, not {type(obj).__name__}",
        hint="add_file() takes a path, new_file() takes what you write",
    )
