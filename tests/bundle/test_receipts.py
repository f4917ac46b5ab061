"""Receipts that are carried: only a member's device can prove, and only what is the same counts."""

from __future__ import annotations

import json
import secrets
import shutil
from typing import TYPE_CHECKING

import pytest

from localstore import crypto
from localstore.errors import (
    AlreadyExists,
    BadName,
    BadSetting,
    Damaged,
    Forged,
    NotFound,
    Refused,
    UsageError,
)
from localstore.format import spec
from localstore.format.spec import CertKind, DataClass
from localstore.remotes import add_remote
from localstored.bundles.destinations import (
    DESTINATIONS_FILE,
    acknowledged,
    find_destination,
    read_destinations,
)
from localstored.receipts import Line, ReceiptFile
from localstored.replica import replica_id
from tests.bundle.homes import acknowledge, device_of, export, file_receipt, import_, signer
from tests.sync.makers import Log, Project, make_project

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from tests.bundle.homes import Signer


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    return tmp_path / "desk"


@pytest.fixture
def project(home: Path) -> Project:
    made = make_project(home)
    made.log(made.run(), DataClass.ARTIFACTS, refs=[made.object(size=3000)])
    return made


@pytest.fixture
def receipt(home: Path, desk: Path, tmp_path: Path, project: Project) -> Path:
    """A receipt that came back, signed by a member's device."""
    assert export(home, tmp_path / "a.bundle").ok
    assert import_(desk, tmp_path / "a.bundle").ok
    out = tmp_path / "a.bundle.receipt"
    acknowledge(desk, out, bundle=tmp_path / "a.bundle", signers=[device_of(project)])
    return out


def filed(home: Path, desk: Path, project: Project) -> dict[str, Line]:
    """What the home knows that the destination holds."""
    return acknowledged(project.paths, replica_id(desk))


def nothing_is_filed(home: Path) -> bool:
    return not list(home.glob("projects/*/receipts/*")) and not read_destinations(home)


def test_a_receipt_tells_the_sender_what_arrived(
    home: Path, desk: Path, receipt: Path, project: Project
) -> None:
    report = file_receipt(home, receipt, name="desk")
    assert report.ok
    assert read_destinations(home) == {"desk": replica_id(desk)}
    assert report.filed[project.id].items == len(list(project.paths.names()))
    lines = filed(home, desk, project)
    assert set(lines) == set(project.paths.names())
    for line in lines.values():
        assert line.size == project.paths.file(line.name).stat().st_size
    assert receipt.stat().st_mode & 0o777 == 0o600


def test_a_receipt_filed_twice_is_written_once(
    home: Path, desk: Path, receipt: Path, project: Project
) -> None:
    file_receipt(home, receipt)
    path = ReceiptFile.of(project.paths, replica_id(desk)).path
    before = path.read_bytes()
    assert file_receipt(home, receipt).name == f"replica-{replica_id(desk)[:8]}"
    assert path.read_bytes() == before


def test_a_flip_of_any_byte_files_nothing_that_is_not_so(
    home: Path, receipt: Path, project: Project
) -> None:
    raw = receipt.read_bytes()
    for at in range(0, len(raw), 7):
        changed = bytearray(raw)
        changed[at] ^= 1 << (at % 8)
        receipt.write_bytes(changed)
        with pytest.raises((Damaged, NotFound)):
            report = file_receipt(home, receipt)
            assert report.refused, at  # the certificate's hash is outside of what is signed
            assert not report.filed
            raise NotFound("refused")
    assert nothing_is_filed(home)


def test_a_cut_at_any_byte_files_nothing(home: Path, receipt: Path) -> None:
    raw = receipt.read_bytes()
    for length in range(0, len(raw), 5):
        receipt.write_bytes(raw[:length])
        with pytest.raises(Damaged):
            file_receipt(home, receipt)
    assert nothing_is_filed(home)


def one_line(value: Mapping[str, object]) -> bytes:
    """A line as a receipt has them."""
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def resign(receipt: Path, change: Callable[[list[bytes]], list[bytes]], *signers: Signer) -> None:
    """Change lines of a receipt, and sign it anew or not at all."""
    body = b"".join(change(receipt.read_bytes().splitlines(keepends=True)[:-1]))
    signatures = [
        {
            "device": device.hex(),
            "cert": cert.hex(),
            "signature": sign(spec.SIGN_RECEIPT, crypto.sha256(body)).hex(),
        }
        for device, cert, sign in signers
    ]
    receipt.write_bytes(
        body + one_line({"files": body.count(b'{"name":'), "signatures": signatures})
    )


def test_a_receipt_that_nobody_signed_is_believed_only_when_a_person_says_so(
    home: Path, receipt: Path, project: Project
) -> None:
    resign(receipt, lambda lines: lines)
    report = file_receipt(home, receipt)
    assert [note.reason for note in report.refused] == ["nobody signed the receipt"]
    assert nothing_is_filed(home)
    assert file_receipt(home, receipt, trust_unsigned=True).ok
    assert not nothing_is_filed(home)


def test_a_stranger_and_a_machine_that_only_writes_prove_nothing(
    home: Path, receipt: Path, project: Project, tmp_path: Path
) -> None:
    stranger = make_project(tmp_path / "elsewhere")
    deposit = project.writer(CertKind.DEPOSIT, not_after_us=1 << 62)
    for one in (
        device_of(stranger),
        device_of(project, *deposit),
        signer(secrets.token_bytes(32), b""),
    ):
        resign(receipt, lambda lines: lines, one)
        assert "no device of a member" in file_receipt(home, receipt).refused[0].reason
    assert nothing_is_filed(home)
    resign(receipt, lambda lines: lines, device_of(stranger), device_of(project, *project.writer()))
    assert file_receipt(home, receipt).ok


def test_a_certificate_of_another_device_does_not_help(
    home: Path, receipt: Path, project: Project
) -> None:
    resign(receipt, lambda lines: lines, (signer(secrets.token_bytes(32), device_of(project)[1])))
    assert file_receipt(home, receipt).refused
    assert nothing_is_filed(home)


@pytest.mark.parametrize(
    "line",
    [
        {"name": "../../../etc/passwd", "size": 1, "sha256": "00" * 32},
        {"name": "local/catalog.db", "size": 1, "sha256": "00" * 32},
        {"name": f"runs/{'11' * 16}/{'22' * 16}.t0", "size": 1, "sha256": "00" * 32},
        {"name": f"objects/11/{'11' * 32}", "size": 1, "sha256": "00" * 32},
        {"name": "FORMAT", "size": 3, "sha256": "00" * 32},
        {"name": "FORMAT", "size": 1 << 62, "sha256": "00" * 32},
    ],
)
def test_a_line_of_other_bytes_or_of_no_file_is_not_filed(
    home: Path, desk: Path, receipt: Path, project: Project, line: dict[str, object]
) -> None:
    def change(lines: list[bytes]) -> list[bytes]:
        return [*lines[:2], one_line(line)]

    resign(receipt, change, device_of(project))
    report = file_receipt(home, receipt)
    assert report.others == 1
    assert not report.ok
    assert not filed(home, desk, project)


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"[]\n",
        b'{"localstore_receipt":2,"replica":"0000000000000000","at_us":1,"full":false}\n',
        b'{"localstore_receipt":1,"replica":"../../x","at_us":1,"full":false}\n',
        b'{"localstore_receipt":1,"replica":"0000000000000000","at_us":"x","full":false}\n',
        b"[" * 60_000 + b"\n",
        b"x" * 70_000 + b"\n",
    ],
)
def test_what_is_no_receipt_is_refused(home: Path, receipt: Path, head: bytes) -> None:
    receipt.write_bytes(head + receipt.read_bytes().split(b"\n", 1)[1])
    with pytest.raises(Damaged):
        file_receipt(home, receipt)
    assert nothing_is_filed(home)


def test_a_destination_that_grew_on_is_not_an_error(
    home: Path, desk: Path, tmp_path: Path, project: Project
) -> None:
    log = Log(project, project.subjects[0])
    log.records()
    export(home, tmp_path / "a.bundle")
    import_(desk, tmp_path / "a.bundle")
    copy = desk / log.path.relative_to(home)
    copy.write_bytes(copy.read_bytes() + b"more")
    out = tmp_path / "receipt"
    acknowledge(desk, out, bundle=tmp_path / "a.bundle", signers=[device_of(project)])
    report = file_receipt(home, out)
    assert report.ok
    assert report.longer == 1
    assert log.name not in filed(home, desk, project)


def test_damaged_bytes_are_not_acknowledged(
    home: Path, desk: Path, tmp_path: Path, project: Project
) -> None:
    export(home, tmp_path / "a.bundle")
    import_(desk, tmp_path / "a.bundle")
    (damaged,) = desk.glob("projects/*/objects/*/*")
    raw = bytearray(damaged.read_bytes())
    raw[50] ^= 1
    damaged.write_bytes(raw)
    out = tmp_path / "receipt"
    acknowledge(desk, out, bundle=tmp_path / "a.bundle", signers=[device_of(project)])
    assert damaged.name not in out.read_text()
    file_receipt(home, out)
    assert not [name for name in filed(home, desk, project) if damaged.name in name]


def test_a_full_receipt_takes_back_what_is_not_held_any_more(
    home: Path, desk: Path, receipt: Path, tmp_path: Path, project: Project
) -> None:
    file_receipt(home, receipt, name="desk")
    (lost,) = desk.glob("projects/*/objects/*/*")
    lost.unlink()
    out = tmp_path / "full"
    acknowledge(desk, out, signers=[device_of(project)])
    report = file_receipt(home, out)
    assert (report.name, report.gone) == ("desk", 1)
    assert [
        line.size for name, line in filed(home, desk, project).items() if lost.name in name
    ] == [0]


def test_a_receipt_cannot_speak_for_a_remote_of_this_home(
    home: Path, receipt: Path, tmp_path: Path, project: Project
) -> None:
    remote = add_remote(home, "cloud", str(tmp_path / "cloud"))

    def change(lines: list[bytes]) -> list[bytes]:
        head = json.loads(lines[0])
        head["replica"] = remote.id
        return [json.dumps(head).encode() + b"\n", *lines[1:]]

    resign(receipt, change, device_of(project))
    with pytest.raises(Refused, match="remote of this home"):
        file_receipt(home, receipt, trust_unsigned=True)


def test_a_home_does_not_prove_to_itself(home: Path, tmp_path: Path, project: Project) -> None:
    out = tmp_path / "own"
    acknowledge(home, out, signers=[device_of(project)])
    with pytest.raises(UsageError, match="made here"):
        file_receipt(home, out)


def test_a_receipt_for_projects_that_are_not_here_is_told(
    home: Path, desk: Path, receipt: Path, project: Project
) -> None:
    shutil.rmtree(project.paths.root)
    report = file_receipt(home, receipt)
    assert [note.reason for note in report.refused] == ["is not here"]
    assert not read_destinations(home)


def test_a_forged_signature_beside_a_good_one_voids_the_receipt(
    home: Path, receipt: Path, project: Project
) -> None:
    lines = receipt.read_bytes().splitlines(keepends=True)
    tail = json.loads(lines[-1])
    tail["signatures"].append({**tail["signatures"][0], "signature": "00" * 64})
    receipt.write_bytes(
        b"".join(lines[:-1]) + json.dumps(tail, separators=(",", ":")).encode() + b"\n"
    )
    with pytest.raises(Forged):
        file_receipt(home, receipt)


def test_another_file_is_not_replaced_by_a_receipt(
    home: Path, tmp_path: Path, project: Project
) -> None:
    thesis = tmp_path / "thesis.doc"
    thesis.write_bytes(b"years of work")
    with pytest.raises(UsageError, match="no receipt"):
        acknowledge(home, thesis)
    assert thesis.read_bytes() == b"years of work"


def test_nothing_of_a_bundle_here_makes_no_receipt(
    home: Path, desk: Path, tmp_path: Path, project: Project
) -> None:
    export(home, tmp_path / "a.bundle")
    make_project(desk)
    with pytest.raises(NotFound, match="nothing of it is here"):
        acknowledge(desk, tmp_path / "out", bundle=tmp_path / "a.bundle")


# ------------------------------------------------------------------ what destinations are called
def test_a_name_stands_for_one_destination(
    home: Path, receipt: Path, tmp_path: Path, project: Project
) -> None:
    add_remote(home, "cloud", str(tmp_path / "cloud"))
    with pytest.raises(AlreadyExists):
        file_receipt(home, receipt, name="cloud")
    with pytest.raises(BadName):
        file_receipt(home, receipt, name="a/b")
    assert file_receipt(home, receipt, name="desk").name == "desk"
    assert file_receipt(home, receipt).name == "desk"
    assert file_receipt(home, receipt, name="office").name == "office"
    assert list(read_destinations(home)) == ["office"]
    moon = tmp_path / "moon"
    import_(moon, tmp_path / "a.bundle")
    out = tmp_path / "moon.receipt"
    acknowledge(moon, out, bundle=tmp_path / "a.bundle", signers=[device_of(project)])
    with pytest.raises(AlreadyExists, match="another destination"):
        file_receipt(home, out, name="office")
    assert file_receipt(home, out, name="moon").name == "moon"
    assert find_destination(home, "moon") == ("moon", replica_id(moon))
    with pytest.raises(NotFound, match="office, moon"):
        find_destination(home)


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "[destinations]\nx = 1",
        '[destinations.x]\nid = "short"',
        "[remotes.x]\nid = 1",
        "a = 1",
    ],
)
def test_a_broken_file_of_destinations_is_named(home: Path, project: Project, text: str) -> None:
    (home / DESTINATIONS_FILE).write_text(text)
    with pytest.raises(BadSetting, match=DESTINATIONS_FILE):
        read_destinations(home)
