"""Keys in a real bucket, through obstore: S3 and what speaks it, Google, Azure.

Everything waits with a limit and can be stopped: requests run on one thread with an event loop, and
who waits for them asks `check` every fifth of a second. Nothing is tried twice here.
"""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import wait as wait_for
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError

from localstored.remotes.base import Busy
from localstored.remotes.bucketkeys import KeyTaken, Meta
from localstored.remotes.buckettrouble import (
    is_bad_range,
    is_whole_instead_of_range,
    names_no_bucket,
    tells_no_reason,
    trouble,
)
from localstored.remotes.waiting import ASK_EVERY_S, never

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence

    from obstore.store import ObjectStore

T = TypeVar("T")

ANSWER_S: Final = 30.0  # for a request without a body
PAGE_S: Final = 60.0  # for a page of a listing
SLOWEST_BYTES_PER_S: Final = 16 * 1024  # a body that comes slower is given up
PARALLEL: Final = 16  # requests of one call
MAX_KEYS: Final = 8_000_000  # of one listing
_PAGE: Final = 1000
_MAX_FOLDERS: Final = 1_000_000
MAX_GROWTH_BYTES: Final = 512 * 1024 * 1024  # of this process while it waits for one answer
FIRST_LOOK_S: Final = 0.02  # most answers are there by then
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")

NO_RETRIES: Final = {"max_retries": 0, "retry_timeout": timedelta(0)}
CLIENT: Final = {"connect_timeout": "10s", "timeout": "15m", "pool_idle_timeout": "50s"}


def _pages_in_use() -> int:
    """Memory of this process; 0 where the system does not say."""
    try:
        with open("/proc/self/statm", "rb", buffering=0) as file:  # noqa: PTH123 - each fifth of a second
            return int(file.read(200).split()[1])
    except (OSError, ValueError, IndexError):
        return 0


class Loop:
    """A thread with an event loop, on which others wait with a limit."""

    def __init__(self, check: Callable[[], None] = never) -> None:
        self._check = check
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="bucket", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._loop.close()

    def call(self, work: Coroutine[Any, Any, T], limit_s: float) -> T:
        """What `work` returns.

        Raises:
            TimeoutError: it took longer than `limit_s` seconds.
            Stopped: `check` asked to stop.
        """
        future = asyncio.run_coroutine_threadsafe(asyncio.wait_for(work, limit_s), self._loop)
        try:
            most_pages = 0
            while not wait_for([future], ASK_EVERY_S if most_pages else FIRST_LOOK_S).done:
                self._check()
                # The library collects pages of listings and errors, however long they get.
                most_pages = most_pages or _pages_in_use() + MAX_GROWTH_BYTES // _PAGE_BYTES
                if _pages_in_use() > most_pages:
                    raise TimeoutError
            return future.result()
        finally:
            future.cancel()

    def close(self) -> None:
        """End the thread."""
        if self._thread.is_alive() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)


class BucketStore:
    """`Keys` in a bucket."""

    def __init__(
        self,
        store: ObjectStore,
        where: str,
        *,
        ordered: bool = True,
        check: Callable[[], None] = never,
    ) -> None:
        """`where` is the bucket's url for people; `ordered` whether it lists in order of keys."""
        self._store, self._where, self._ordered = store, where, ordered
        self._loop = Loop(check)
        self._no_ranges = False

    @property
    def ordered(self) -> bool:
        """See `Keys.ordered`."""
        return self._ordered

    def put(self, key: str, data: bytes, *, only_new: bool = False) -> None:
        """See `Keys.put`."""
        mode: Literal["create", "overwrite"] = "create" if only_new else "overwrite"
        try:
            self._ask(
                lambda: obstore.put_async(self._store, key, data, mode=mode, use_multipart=False),
                ANSWER_S + len(data) / SLOWEST_BYTES_PER_S,
            )
        except AlreadyExistsError as error:
            if only_new:
                raise KeyTaken(key) from None
            raise Busy(f"{self._where}: two wrote one key at once") from error
        except FileNotFoundError as error:
            raise trouble(self._where, error) from error

    def heads(self, keys: Sequence[str]) -> Sequence[Meta | None]:
        """See `Keys.heads`."""
        if len(keys) == 1:
            return [self._ask(lambda: self._head(keys[0]), ANSWER_S)]
        limit_s = ANSWER_S * (1 + len(keys) / PARALLEL)
        return self._ask(lambda: _some_at_once(self._head, keys), limit_s)

    async def _head(self, key: str) -> Meta | None:
        try:
            found = await obstore.head_async(self._store, key)
        except FileNotFoundError as error:
            if names_no_bucket(str(error)):
                raise trouble(self._where, error) from error
            return None
        except BaseError as error:
            if not tells_no_reason(str(error)):
                raise
            await self._body(key, 1, {})  # raises the same, with the reason in its body
            raise Busy(f"{self._where} refuses, and then does not") from error
        return Meta(key, found["size"], _etag(found["e_tag"]))

    def get(self, key: str, start: int, end: int) -> bytes | None:
        """See `Keys.get`."""
        if start >= end:
            return b"" if self.heads([key])[0] else None
        limit_s = ANSWER_S + end / SLOWEST_BYTES_PER_S
        return self._ask(lambda: self._get(key, start, end), limit_s)

    async def _get(self, key: str, start: int, end: int) -> bytes | None:
        if not self._no_ranges:
            try:
                return await self._body(key, end - start, {"range": (start, end)})
            except BaseError as error:
                if is_bad_range(str(error)):
                    return b""
                if not is_whole_instead_of_range(str(error)):
                    raise
                self._no_ranges = True  # rclone's server sends the range, and calls it the whole
        whole = await self._body(key, end, {})
        return None if whole is None else whole[start:]

    async def _body(self, key: str, most: int, options: dict[str, Any]) -> bytes | None:
        """At most `most` bytes, however many the server would send."""
        try:
            answer = await obstore.get_async(self._store, key, options=options)  # type: ignore[arg-type]
        except FileNotFoundError as error:
            if names_no_bucket(str(error)):
                raise trouble(self._where, error) from error
            return None
        body = bytearray()
        async for part in answer.stream(min_chunk_size=1 << 20):
            body += part
            if len(body) >= most:
                break
        return bytes(body[:most])

    def delete(self, keys: Sequence[str]) -> None:
        """See `Keys.delete`."""
        limit_s = ANSWER_S * (1 + len(keys) / PARALLEL)
        self._ask(lambda: _some_at_once(self._delete, keys), limit_s)

    async def _delete(self, key: str) -> None:
        try:
            await obstore.delete_async(self._store, key)
        except FileNotFoundError as error:
            if names_no_bucket(str(error)):
                raise trouble(self._where, error) from error

    def list(self, folder: str, after: str = "") -> Iterator[Meta]:
        """See `Keys.list`."""
        stream = obstore.list(self._store, folder, offset=after or None, chunk_size=_PAGE)
        seen, firsts = 0, set[str]()
        while True:
            page = self._ask(lambda: _next_page(stream), PAGE_S)
            if not page:
                return
            seen += len(page)
            first = page[0]["path"]
            if first in firsts or seen > MAX_KEYS:
                raise Busy(f"{self._where} lists without end")
            firsts.add(first)
            for found in page:
                yield Meta(found["path"], found["size"], _etag(found["e_tag"]))

    def folders(self, folder: str) -> Sequence[str]:
        """See `Keys.folders`."""
        found = self._ask(
            lambda: obstore.list_with_delimiter_async(self._store, folder), 5 * PAGE_S
        )
        paths = found["common_prefixes"][:_MAX_FOLDERS]
        return [path.rstrip("/").rpartition("/")[2] for path in paths]

    def close(self) -> None:
        """See `Keys.close`."""
        self._loop.close()

    def __del__(self) -> None:
        """Do as `close` does, for a caller that cannot."""
        if hasattr(self, "_loop"):
            self._loop.close()

    def _ask(self, make: Callable[[], Awaitable[T]], limit_s: float) -> T:
        """`make` begins the request, on the loop's thread."""
        try:
            return self._loop.call(_awaited(make), limit_s)
        except (AlreadyExistsError, FileNotFoundError):
            raise
        except (BaseError, TimeoutError, OSError, ValueError) as error:
            raise trouble(self._where, error) from error


async def _awaited(make: Callable[[], Awaitable[T]]) -> T:
    return await make()


async def _some_at_once(ask: Callable[[str], Awaitable[T]], keys: Sequence[str]) -> list[T]:
    gate = asyncio.Semaphore(PARALLEL)

    async def one(key: str) -> T:
        async with gate:
            return await ask(key)

    return list(await asyncio.gather(*(one(key) for key in keys)))


async def _next_page(stream: Any) -> Sequence[Any]:  # the library's types need pyarrow
    try:
        page: Sequence[Any] = await stream.__anext__()
    except StopAsyncIteration:
        return []
    return page


def _etag(text: str | None) -> str:
    return (text or "").strip('"').lower()
