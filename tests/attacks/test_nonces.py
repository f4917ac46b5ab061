"""No pair of key and nonce comes twice."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import localstore
from localstore import crypto
from localstore.format.segment import Frame, decode_header, scan_frames
from localstore.format.spec import FrameType
from localstore.layout import HomePaths
from tests.sdk.scripts import run_script

if TYPE_CHECKING:
    from pathlib import Path

HEADER, NONCE = 16, 24
MILLION = 1_000_000


def nonces(sealer: crypto.FrameSealer, count: int) -> set[bytes]:
    """The nonces of `count` frames of one content and one index."""
    seal, end = sealer.seal, HEADER + NONCE
    return {bytes(seal(FrameType.RECORD, 0, b"same")[HEADER:end]) for _ in range(count)}


def test_a_million_frames_have_a_million_nonces() -> None:
    assert len(nonces(crypto.FrameSealer(bytes(32), bytes(16)), MILLION)) == MILLION


def test_a_forked_copy_of_a_sealer_repeats_no_nonce() -> None:
    sealer = crypto.FrameSealer(bytes(32), bytes(16))
    sealer.seal(FrameType.RECORD, 0, b"before")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(writer, b"".join(nonces(sealer, 2000)))
        finally:
            os._exit(0)
    own = nonces(sealer, 2000)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        raw = pipe.read()
    os.waitpid(child, 0)
    of_child = {raw[at : at + NONCE] for at in range(0, len(raw), NONCE)}
    assert (len(own), len(of_child), own & of_child) == (2000, 2000, set())


def test_a_second_sealer_with_the_same_key_repeats_no_nonce() -> None:
    """As after a restored backup or a cloned virtual machine."""
    first, second = (crypto.FrameSealer(bytes(32), bytes(16)) for _ in range(2))
    assert not nonces(first, 20_000) & nonces(second, 20_000)


def test_blocks_and_tails_of_real_runs_and_their_forks_share_neither_key_nor_nonce() -> None:
    run_script("""
import os, localstore
run = localstore.init(project="nonces")
for n in range(3000): run.log({"n": n})
pid = os.fork()
for n in range(3000): run.log({"n": n})
os._exit(0) if pid == 0 else os.wait()
""")
    seen: set[bytes] = set()
    commitments = []
    frames = 0
    for path in logs(HomePaths(localstore.Api().home.root).projects):
        raw = memoryview(path.read_bytes())
        header, start = decode_header(raw)
        commitments.append(header.commitment)
        tails = [memoryview(tail.read_bytes()) for tail in path.parent.glob(f"{path.stem}.t*")]
        for view, at in ((raw, start), *((tail, 0) for tail in tails)):
            for frame in scan_frames(view, at):
                if isinstance(frame, Frame) and frame.kind != FrameType.HEAD:
                    seen.add(bytes(frame.body[:NONCE]))
                    frames += 1
    assert len(seen) == frames > 3
    assert len(set(commitments)) == len(commitments) == 3


def logs(projects: Path) -> list[Path]:
    return sorted(projects.glob("*/runs/*/*.log"))
