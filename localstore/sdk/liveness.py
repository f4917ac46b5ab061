"""Whether a writer's process still lives: by its facts on this host, else by its heartbeat."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from localstore import crypto
from localstore.format import spec

if TYPE_CHECKING:
    from collections.abc import Mapping

# Three heartbeats and some: a writer that is silent for longer is taken for dead.
SILENCE_S: Final = 100.0


@cache
def _host() -> tuple[str, int]:
    """Opaque facts that are equal for processes that can see one another, and only for them."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes()
        namespace = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        return "", 0
    return crypto.digest(spec.LABEL_NAME, boot, size=8).hex(), namespace


def _started(pid: int) -> int:
    """When a process started, in ticks since boot; 0 when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (OSError, IndexError):
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


def process_facts() -> dict[str, Any]:
    """What START records of this process; holds no host or user name."""
    boot, namespace = _host()
    pid = os.getpid()
    return {"boot": boot, "pidns": namespace, "pid": pid, "started": _started(pid)}


def is_alive(facts: Mapping[str, Any], last_seen_us: int, now_us: int) -> bool:
    """Whether the writer with these facts may still write."""
    boot, namespace = _host()
    here = boot and (facts.get("boot"), facts.get("pidns")) == (boot, namespace)
    pid = facts.get("pid")
    if here and isinstance(pid, int):
        return _started(pid) == facts.get("started")
    return now_us - last_seen_us < SILENCE_S * 1e6
