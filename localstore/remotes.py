"""Remotes that a person added: `remotes.toml` in the home, and the marker that each one carries.

Key-free; the engine reads the same file. A marker carries a random id, so that another stick in the
same socket is not taken for the first, and an empty mount point not for a stick. No secret is ever
written here: credentials are named, and lie elsewhere.
"""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import dataclass, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from localstore.crypto import random_bytes
from localstore.durable import create_file, make_folder, replace_file
from localstore.errors import AlreadyExists, BadSetting, NotFound, RemoteError
from localstore.layout import HomePaths, check_label
from localstore.tables import read_tables

if TYPE_CHECKING:
    from collections.abc import Mapping

MARKER_FILE: Final = "LOCALSTORE-REMOTE"
MARKER_VERSION: Final = 1
_ID_BYTES: Final = 8
_MARKER: Final = re.compile(r"localstore-remote (\d{1,4})\nid ([0-9a-f]{16})\n")
_MAX_MARKER_BYTES: Final = 4096
BUCKET_SCHEMES: Final = ("s3", "gs", "az")
_BUCKET_URL: Final = re.compile(
    r"(?:s3|gs|az)://(?P<bucket>[A-Za-z0-9][A-Za-z0-9._-]{1,221})(?P<prefix>(?:/[A-Za-z0-9._=+@-]+)*)/?"
)
_ENDPOINT: Final = re.compile(r"https?://[A-Za-z0-9.\[\]:_-]+(?:/[A-Za-z0-9._/-]*)?")
_PROXY: Final = re.compile(r"(?:https?|socks5h?)://[!-?A-~]{1,500}")
_CREDENTIALS: Final = re.compile(r"chain|keyring:[ -~]{1,128}|file:[^\x00-\x1f\x7f]{1,4096}")
_TEXT: Final = re.compile(r"[^\x00-\x1f\x7f]{1,4096}")
_WANTED: Final = {
    "endpoint": "an http or https URL",
    "proxy": "a URL of a proxy, without a password",
    "credentials": "chain, keyring:NAME or file:PATH",
    "region": "the name of a region",
    "ca_file": "a path",
}
_PREFIX_HINT: Final = (
    "letters, digits and . _ - = + @ between slashes; the bucket itself must exist"
)
_PLACE_HINT: Final = "want a path, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX"
DEFAULT_CREDENTIALS: Final = "chain"


class Claim(Protocol):
    """Makes a remote of a place that only the engine can reach."""

    def __call__(self, url: str, **options: str) -> str:
        """The remote's id, 16 hex digits."""


@dataclass(frozen=True, slots=True)
class RemoteEntry:
    """One remote of `remotes.toml`.

    Attributes:
        name: its name here.
        url: a path, or `s3://bucket/prefix`, `gs://bucket/prefix`, `az://container/prefix`.
        id: its own id, 16 hex digits.
        endpoint: http or https URL of a bucket's server; empty: the cloud's own.
        region: of the bucket; empty: the cloud's default.
        credentials: `chain`: what the cloud's own tools would take; `keyring:NAME`; `file:PATH`.
        ca_file: certificates (PEM) of a private authority.
        proxy: URL of a proxy; empty: what HTTPS_PROXY says.
    """

    name: str
    url: str
    id: str
    endpoint: str = ""
    region: str = ""
    credentials: str = DEFAULT_CREDENTIALS
    ca_file: str = ""
    proxy: str = ""

    @property
    def scheme(self) -> str:
        """What kind of place it is: `file`, or that of the url."""
        return scheme_of(self.url)

    @property
    def options(self) -> dict[str, str]:
        """What may be left out and is not the default."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)[3:]
            if getattr(self, field.name) != field.default
        }


def scheme_of(url: str) -> str:
    """`file` for a path, else what stands before `://`."""
    return url.partition("://")[0] if "://" in url else "file"


def new_marker(id_: str = "") -> bytes:
    """The content of a remote's marker.

    Args:
        id_: 16 hex digits; empty: new ones.
    """
    return (
        f"localstore-remote {MARKER_VERSION}\nid {id_ or random_bytes(_ID_BYTES).hex()}\n".encode()
    )


def parse_marker(content: bytes, where: str) -> str:
    """The id in a marker.

    Raises:
        RemoteError: of another form or a newer version.
    """
    found = _MARKER.fullmatch(content.decode("ascii", "replace"))
    if not found or int(found[1]) != MARKER_VERSION:
        raise RemoteError(f"{where} is no marker of version {MARKER_VERSION}")
    return found[2]


def read_marker(folder: Path, *, handle: int | None = None) -> str:
    """The id of the remote that lies in `folder`.

    Args:
        handle: the open folder, where whoever owns the one above may put another in its place.

    Raises:
        NotFound: no marker: not a remote, or not mounted.
        RemoteError: a marker of another form or a newer version.
    """
    path = folder / MARKER_FILE
    at_once = partial(_open_at_once, handle=handle)
    try:
        # Who may write there may have put a pipe: opening one waits for ever.
        with open(MARKER_FILE if handle is not None else path, "rb", opener=at_once) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise RemoteError(f"{path} is no file")
            content = file.read(_MAX_MARKER_BYTES)
    except FileNotFoundError:
        hint = "is the disk mounted? `localstore remote add` makes a remote of a folder"
        raise NotFound(f"no localstore remote in {folder}", hint=hint) from None
    except OSError as error:
        raise RemoteError(f"{path} cannot be read: {error.strerror}") from error
    return parse_marker(content, str(path))


def _open_at_once(path: str, flags: int, handle: int | None) -> int:
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY, dir_fd=handle)


def claim_folder(folder: Path) -> str:
    """Make a remote of a folder, which may exist, and return its id; the same id when it was one.

    Raises:
        RemoteError: the folder cannot be written, or would lie in one that is not there, or holds a
            marker of a newer version.
    """
    try:
        if not folder.parent.is_dir():
            # Made on the way, it would lie on this machine's own disk and pass for a backup.
            hint = "mount the disk, or make the folder first"
            raise RemoteError(f"no folder {folder.parent}", hint=hint)
        make_folder(folder)
        create_file(folder / MARKER_FILE, new_marker())
    except OSError as error:
        raise RemoteError(f"{folder} cannot be written: {error.strerror}") from error
    return read_marker(folder)


# ------------------------------------------------------------------ remotes.toml
def read_remotes(home: Path) -> dict[str, RemoteEntry]:
    """The remotes of a home by name, in the order in which they were added.

    Raises:
        BadSetting: `remotes.toml` is not TOML, or not of its form.
    """
    path = HomePaths(home).remotes_file
    tables = read_tables(path, "remotes")
    return {name: _entry(path, name, table) for name, table in tables.items()}


def _entry(path: Path, name: str, table: object) -> RemoteEntry:
    match table:
        case {"url": str(url), "id": str(id_), **rest} if (
            url and re.fullmatch(r"[0-9a-f]{16}", id_) and set(rest) <= set(_WANTED)
        ):
            options = {str(key): value for key, value in rest.items()}
            return _with_options(RemoteEntry(check_label("a remote", name), url, id_), options)
    raise BadSetting(
        f"{path}: remote {name!r} wants a url, an id of 16 hex digits, and no more than "
        f"{', '.join(_WANTED)}"
    )


def _with_options(entry: RemoteEntry, options: Mapping[str, Any]) -> RemoteEntry:
    """The entry of a bucket with what a person said of it.

    Raises:
        BadSetting: an option of another form, or one that a folder does not have.
    """
    words: dict[str, str] = {}
    for key, value in options.items():
        form = {"endpoint": _ENDPOINT, "proxy": _PROXY, "credentials": _CREDENTIALS}.get(key, _TEXT)
        if not isinstance(value, str) or not (value == "" or form.fullmatch(value)):
            raise BadSetting(
                f"remote {entry.name!r}: {key} is {_shown(value)}, want {_WANTED[key]}"
            )
        if value:
            words[key] = value
    if words and entry.scheme not in BUCKET_SCHEMES:
        raise BadSetting(
            f"remote {entry.name!r} is a folder; for buckets alone: {', '.join(words)}"
        )
    return replace(entry, **words)


def _shown(value: object) -> str:
    """A wrong value, unless it may hold a secret."""
    text = repr(value)
    return "(not shown)" if "@" in text or len(text) > 80 else text


def add_remote(
    home: Path, name: str, url: str, *, claim: Claim | None = None, **options: str
) -> RemoteEntry:
    """Make a remote of a place, if it is none yet, and write it down.

    Args:
        url: a folder's path, or a bucket's url.
        claim: makes a remote of a bucket and answers its id; the engine's, because only that
            speaks to servers.
        options: `endpoint`, `region`, `credentials`, `ca_file`, `proxy`; see `RemoteEntry`.

    Raises:
        AlreadyExists: a remote of this name, or this very remote under another name.
        BadName: the name breaks the rules for names.
        BadSetting: `url` is neither, or lies in the home, or the home in it; or an option.
        RemoteError: the place cannot be reached or written.
    """
    known = read_remotes(home)
    check_label("a remote", name)
    if name in known:
        raise AlreadyExists(f"a remote {name!r} is there already: {known[name].url}")
    if scheme_of(url) in BUCKET_SCHEMES:
        entry = _bucket(name, url, claim, options)
    else:
        folder = _folder(home, url)
        entry = _with_options(RemoteEntry(name, str(folder), ""), options)
        entry = replace(entry, id=claim_folder(folder))
    for other in known.values():
        if other.id == entry.id:
            raise AlreadyExists(f"this remote is there already, as {other.name!r}")
    _write(home, {**known, name: entry})
    return entry


def _bucket(name: str, url: str, claim: Claim | None, options: Mapping[str, str]) -> RemoteEntry:
    if not _BUCKET_URL.fullmatch(url) or "/../" in f"{url}/" or "/./" in f"{url}/":
        raise BadSetting(f"remote {url!r} is no s3://BUCKET/PREFIX", hint=_PREFIX_HINT)
    if claim is None:
        hint = "install localstore[daemon], which speaks to buckets"
        raise BadSetting(f"no engine here to reach {url}", hint=hint)
    entry = _with_options(RemoteEntry(name, url.rstrip("/"), ""), options)
    if entry.credentials.startswith("file:"):
        path = Path(entry.credentials[5:]).expanduser().absolute()
        entry = replace(entry, credentials=f"file:{path}")
    if entry.ca_file:
        entry = replace(entry, ca_file=str(Path(entry.ca_file).expanduser().absolute()))
    return replace(entry, id=claim(entry.url, **entry.options))


def bucket_and_prefix(url: str) -> tuple[str, str]:
    """Of a bucket's url; the prefix without slashes at its ends.

    Raises:
        BadSetting: no url of a bucket.
    """
    found = _BUCKET_URL.fullmatch(url)
    if not found:
        raise BadSetting(f"{url!r} is no url of a bucket")
    return found["bucket"], found["prefix"].strip("/")


def remove_remote(home: Path, name: str) -> RemoteEntry:
    """Forget a remote; what lies there stays there.

    Raises:
        NotFound: no remote of this name.
    """
    known = read_remotes(home)
    if name not in known:
        raise NotFound(f"no remote {name!r}; there are: {', '.join(known) or 'none'}")
    _write(home, {other: entry for other, entry in known.items() if other != name})
    return known[name]


def _folder(home: Path, url: str) -> Path:
    if "://" in url or url.startswith(tuple(f"{scheme}:" for scheme in BUCKET_SCHEMES)) or not url:
        problem = f"remote {url!r} is neither a path of a folder nor a url of a bucket"
        raise BadSetting(problem, hint=_PLACE_HINT)
    try:
        url.encode()
    except UnicodeEncodeError:
        raise BadSetting(f"remote {url!r} is not valid Unicode") from None
    folder, own = Path(url).expanduser().absolute(), home.absolute()
    if folder.resolve().is_relative_to(own.resolve()) or own.resolve().is_relative_to(
        folder.resolve()
    ):
        raise BadSetting(f"remote {folder} and home {own} lie in one another")
    return folder


def _write(home: Path, remotes: Mapping[str, RemoteEntry]) -> None:
    tables = (
        "".join(
            [
                f"[remotes.{_quoted(entry.name)}]\n",
                *(
                    f"{key} = {_quoted(value)}\n"
                    for key, value in {"url": entry.url, "id": entry.id, **entry.options}.items()
                ),
            ]
        )
        for entry in remotes.values()
    )
    replace_file(HomePaths(home).remotes_file, "\n".join(tables).encode())


def _quoted(text: str) -> str:
    """A TOML basic string. JSON's escapes are TOML's, but for DEL, which TOML wants escaped."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
