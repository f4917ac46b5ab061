"""What a run prints, as it stands on its console.

Output reaches the place where it went before, unchanged and as promptly; a copy becomes text for a
callback. Nothing here may slow the program down more than its terminal does, or make a print fail:
what the callback does not take in time is left out and counted.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Final, Literal

from localstore.surroundings.console_lines import Transcript
from localstore.surroundings.console_tee import LOST, TEXT
from localstore.surroundings.console_wrap import Wrap

if TYPE_CHECKING:
    from collections.abc import Callable

    from localstore.surroundings.console_redirect import Copy, Redirect

Mode = Literal["redirect", "wrap", "off"]

# A terminal that stands still (Ctrl-S) may hold back the end of the output; it still comes later.
_STOP_TIMEOUT_S: Final = 5.0


class Console:
    """Takes down stdout and stderr from `start` to `stop`.

    Where `sys.stdout` writes to descriptor 1, the descriptor is led through a helper process, so
    that C code and child processes are heard too. Where it does not (Jupyter, pytest's capture), or
    no helper can be had, its `write` is wrapped, and only Python is heard.

    Descriptors 1 and 2 that lead to one place share a channel, so that what they write stays in
    order; all of it is then text of stream 1.

    Attributes:
        modes: how each stream is heard, after `start`.
        failures: how often a callback raised.
    """

    def __init__(
        self,
        on_text: Callable[[int, str], None],
        *,
        max_bytes_per_s: float,
        max_total_bytes: float,
        on_dropped: Callable[[int], None],
        flush_interval_s: float = 0.5,
    ) -> None:
        """
        Args:
            on_text: gets a stream, 1 or 2, and whole lines of text, by a thread of this object. A
                line ends with a line feed; or with a carriage return when it still changes, and
                then later text replaces it.
            max_bytes_per_s: what is over this for long is left out; ten seconds' worth may come
                at once.
            max_total_bytes: what is over this is left out.
            on_dropped: gets how many bytes were left out since the last call.
            flush_interval_s: how long text may wait.
        """
        self._on_text, self._on_dropped = on_text, on_dropped
        self._interval_s = flush_interval_s
        self._transcript = Transcript(
            max_bytes_per_s=max_bytes_per_s, max_total_bytes=max_total_bytes
        )
        self._redirect: Redirect | None = None
        self._wrap = Wrap()
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        self._deadline = float("inf")
        self._pid = os.getpid()
        self.modes: dict[int, Mode] = {1: "off", 2: "off"}
        self.failures = 0

    def start(self) -> None:
        """Begin to listen. Never raises: what cannot be heard stays `off`."""
        if self._thread is not None or self._stopping.is_set():
            return
        _flush_python()
        streams = [stream for stream in (1, 2) if _is_descriptor(stream)]
        if streams and self._start_redirect(streams):
            self.modes |= dict.fromkeys(streams, "redirect")
        self._wrap_the_rest()
        if set(self.modes.values()) == {"off"}:
            return
        self._thread = threading.Thread(target=self._work, name="localstore-console", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Put everything back, hand over what was printed so far, and end. Never raises.

        Child processes that still print go on to reach the terminal; they are heard no more.
        """
        thread = self._thread
        if thread is None or self._pid != os.getpid():
            return
        self._thread = None
        _flush_python()
        self._wrap.restore()
        self._deadline = time.monotonic() + _STOP_TIMEOUT_S
        self._stopping.set()
        if self._redirect is not None:
            _flush_c()
            self._redirect.restore()
        thread.join(_STOP_TIMEOUT_S * 2)

    def after_fork(self) -> None:
        """In a forked child: this object is the parent's. What the child prints is still heard."""
        self._thread = None
        self._wrap.restore()
        if self._redirect is not None:
            self._redirect.close()
            self._redirect = None

    # -------------------------------------------------------------- beginning
    def _start_redirect(self, streams: list[int]) -> bool:
        try:
            import termios

            from localstore.surroundings.console_redirect import Redirect
        except ImportError:  # no POSIX
            return False
        redirect = Redirect(streams, batch_s=self._interval_s)
        try:
            redirect.start()
        except (OSError, ValueError, termios.error):
            return False
        self._redirect = redirect
        return True

    def _wrap_the_rest(self) -> None:
        for stream, mode in self.modes.items():
            if mode == "off" and self._wrap.add(stream):
                self.modes[stream] = "wrap"

    # -------------------------------------------------------------- the thread
    def _work(self) -> None:
        try:
            while not self._over():
                self._listen()
            self._hand_over(self._transcript.close(time.monotonic()))
        finally:
            if self._redirect is not None:
                self._redirect.close()

    def _over(self) -> bool:
        if not self._stopping.is_set():
            return False
        ended = self._redirect is None or self._redirect.ended
        if ended:
            self._listen()  # what came together with the last mark
        return ended or time.monotonic() > self._deadline

    def _listen(self) -> None:
        heard: list[tuple[int, str]] = []
        copies = self._wait()
        now = time.monotonic()
        for copy in copies:
            heard += self._heard(copy, now)
        texts, lost = self._wrap.take()
        for stream, data in texts:
            heard += self._transcript.feed(stream, data, now)
        if lost:
            self._transcript.lose(lost)
        self._hand_over(heard + self._transcript.tick(now))

    def _wait(self) -> list[Copy]:
        stopping = self._stopping.is_set()
        if self._redirect is None:
            if not stopping:
                self._stopping.wait(self._interval_s)
            return []
        self._redirect.follow_size()
        copies = self._redirect.read(0.02 if stopping else self._interval_s)
        if self._redirect.helper_lost and not stopping:
            self._listen_to_python()
        return copies

    def _listen_to_python(self) -> None:
        """The helper has died."""
        for stream, mode in self.modes.items():
            if mode == "redirect":
                self.modes[stream] = "off"
        self._wrap_the_rest()

    def _heard(self, copy: Copy, now: float) -> list[tuple[int, str]]:
        if copy.kind == TEXT:
            return self._transcript.feed(copy.stream, copy.payload, now)
        if copy.kind == LOST:
            self._transcript.lose(int.from_bytes(copy.payload, "little"))
        return []

    def _hand_over(self, texts: list[tuple[int, str]]) -> None:
        for stream, text in _joined(texts):
            try:
                self._on_text(stream, text)
            except Exception:  # noqa: BLE001 - whatever it is, the terminal must go on
                self.failures += 1
                self._transcript.refused(text)
        lost = self._transcript.take_lost()
        if lost:
            try:
                self._on_dropped(lost)
            except Exception:  # noqa: BLE001 - the same
                self.failures += 1


def _joined(texts: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """Neighbours of one stream as one text."""
    found: list[tuple[int, str]] = []
    for stream, text in texts:
        if found and found[-1][0] == stream:
            found[-1] = (stream, found[-1][1] + text)
        else:
            found.append((stream, text))
    return found


def _is_descriptor(stream: int) -> bool:
    """Whether what Python prints to this stream goes to the descriptor of its number."""
    # Without the object the descriptor was closed at the start, and may be a file of the user now.
    target = sys.stdout if stream == 1 else sys.stderr
    try:
        return target is not None and target.fileno() == stream and bool(os.fstat(stream))
    except (AttributeError, OSError, ValueError, TypeError):
        return False


def _flush_python() -> None:
    for target in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
        with contextlib.suppress(OSError, ValueError, AttributeError, RuntimeError):
            if target is not None:
                target.flush()


def _flush_c() -> None:
    """What C code has printed may still wait in the buffer of its own `stdout`."""
    prefix, suffix = ("__", "p") if sys.platform == "darwin" else ("", "")
    with contextlib.suppress(OSError, ValueError, AttributeError, ImportError):
        import ctypes

        library = ctypes.CDLL(None)
        library.fflush(ctypes.c_void_p.in_dll(library, f"{prefix}stdout{suffix}"))
