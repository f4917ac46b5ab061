"""Damage is named and bounded; what must not leave stays."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING

import pytest

from localstore.format import segment, signed, spec
from localstore.format.spec import CertKind, DataClass, LinkKind
from tests.sync.conftest import sync
from tests.sync.makers import frame, make_project

if TYPE_CHECKING:
    from pathlib import Path

    from localstored.report import SyncReport


def reasons(report: SyncReport, what: str) -> list[str]:
    """Everything of one kind in a report, as lines."""
    return [str(note) for project in report.projects for note in getattr(project, what)]


class TestDamage:
    def test_one_damaged_run_of_ten_stops_none_of_the_nine(self, home: Path, stick: Path) -> None:
        project = make_project(home)
        logs = [project.log(project.run(), DataClass.MEDIA) for _ in range(10)]
        raw = bytearray(logs[4].read_bytes())
        start = segment.decode_header(raw)[1]
        raw[start + 30] ^= 0x40
        logs[4].write_bytes(raw)

        report = sync(home)

        assert not report.ok
        (note,) = report.projects[0].damaged
        assert note.name.endswith(f"/{logs[4].name}")
        assert note.offset == start
        for index, log in enumerate(logs):
            assert (stick / log.relative_to(home)).exists() == (index != 4)

    def test_a_log_damaged_later_is_not_shipped_beyond_what_the_remote_has(
        self, home: Path, stick: Path
    ) -> None:
        log = make_project(home).log(secrets.token_hex(16))
        good = log.read_bytes()
        sync(home)
        bad = bytearray(frame(3))
        bad[40] ^= 1
        log.write_bytes(good + bad + frame(4))
        report = sync(home)
        assert not report.ok
        assert report.projects[0].damaged[0].offset == len(good)
        assert (stick / log.relative_to(home)).read_bytes() == good

    @pytest.mark.parametrize("folder", ["links", "certs", "keys", "objects"])
    def test_our_own_damaged_file_does_not_leave(
        self, home: Path, stick: Path, folder: str
    ) -> None:
        project = make_project(home)
        subject = project.run()
        project.log(subject, DataClass.ARTIFACTS, refs=[project.object()])
        project.link(LinkKind.EPOCH, {"epoch": 1, "box": bytes(32)})
        path = sorted(p for p in (project.paths.root / folder).rglob("*") if p.is_file())[-1]
        if folder == "links":
            path = next(
                p for p in project.paths.links.iterdir() if p.read_bytes() != project.genesis
            )
        if folder == "certs":  # without the founder's own statement nothing else would move
            path = next(
                p
                for p in project.paths.certs.iterdir()
                if signed.decode(p.read_bytes(), spec.CERT_MAGIC).kind == CertKind.DEVICE
            )
        raw = bytearray(path.read_bytes())
        raw[-70] ^= 1
        path.write_bytes(raw)

        report = sync(home)

        assert not report.ok
        assert [note.name for note in report.projects[0].damaged] == [
            str(path.relative_to(project.paths.root))
        ]
        assert not (stick / path.relative_to(home)).exists()

    def test_bytes_that_rotted_on_the_stick_are_healed_from_ours(
        self, home: Path, stick: Path
    ) -> None:
        project = make_project(home)
        object_id = project.object()
        project.log(secrets.token_hex(16), DataClass.ARTIFACTS, refs=[object_id])
        sync(home)
        (copy,) = stick.rglob(object_id.hex())
        good = copy.read_bytes()
        for rotten in (good + b"more", good[:50], b"x" * 60):
            copy.write_bytes(rotten)
            assert sync(home, relist=True).ok
            assert copy.read_bytes() == good

    def test_a_format_of_a_newer_version_is_left_alone(self, home: Path, stick: Path) -> None:
        project = make_project(home)
        project.run()
        path = stick / "projects" / project.id / "FORMAT"
        path.parent.mkdir(parents=True)
        path.write_text(f"localstore 2\nproject {project.id}\nrequires\n")
        report = sync(home)
        assert reasons(report, "refused") == [
            "FORMAT: FORMAT asks for another version or for features of a newer localstore"
        ]
        assert {p.name for p in path.parent.iterdir()} <= {"FORMAT", "stamps"}


class TestPrivacy:
    def test_console_unknown_classes_and_unknown_tags_stay_here(
        self, home: Path, stick: Path
    ) -> None:
        project = make_project(home)
        subject = project.run()
        hidden = project.object()
        held = [
            project.log(subject, DataClass.CONSOLE),
            project.log(subject, 99),
            project.log(subject, DataClass.METRICS, tag=b"t" * 16, refs=[hidden]),
        ]
        orphan = project.object()

        report = sync(home)

        assert report.ok
        assert sorted(note.name.split("/")[-1] for note in report.projects[0].held) == sorted(
            [*(log.name for log in held), hidden.hex(), orphan.hex()]
        )
        for log in held:
            assert not (stick / log.relative_to(home)).exists()
        assert not list(stick.rglob("objects"))

    def test_names_and_catalog_say_nothing_but_hex(self, home: Path, stick: Path) -> None:
        project = make_project(home)
        project.log(project.run(), DataClass.ARTIFACTS, refs=[project.object()])
        sync(home)
        allowed = re.compile(
            r"[0-9a-f]{2,64}(-[0-9a-f]{16,32})?(\.(log|tail|fork|jsonl|json))?|FORMAT|LOCALSTORE-REMOTE"
            r"|projects|links|certs|keys|runs|objects|stamps|receipts|trust|local|incoming|catalog\.db"
        )
        for root in (home / "projects", stick):
            for path in root.rglob("*"):
                assert allowed.fullmatch(path.name), path
        (catalog,) = home.rglob("catalog.db")
        assert catalog.stat().st_mode & 0o777 == 0o600
        import sqlite3

        with sqlite3.connect(catalog) as db:
            tables = [
                row[0] for row in db.execute("select name from sqlite_master where type = 'table'")
            ]
            opaque = re.compile(
                r"(FORMAT|projects|links|certs|keys|runs|objects|stamps|[0-9a-f/.,-]|log|object|[\[\]\"]|null)*"
            )
            for table in tables:
                for row in db.execute(f"select * from {table}"):  # noqa: S608
                    for value in row:
                        assert isinstance(value, int | None) or opaque.fullmatch(value), value
        db.close()
