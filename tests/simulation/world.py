"""Homes, remotes, what happens to them, and a model that knows nothing of sync.

The storm: writers append and fall silent, runs are erased, clients sync beside one another and
carry bundles while requests and processes die, clocks jump, remotes are set back, catalogs vanish.
Then the weather clears, all clients sync in peace, and must agree with the model; and what was made
long ago brings nothing back.
"""

from __future__ import annotations

import contextlib
import functools
import os
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from localstore.errors import LocalStoreError
from localstore.format.spec import DataClass, FrameType
from localstore.layout import FileKind, HomePaths, parse_name
from localstored.crew import Inline
from localstored.engine import sync_home
from localstored.receipts import ReceiptFile
from localstored.session import Session
from tests.simulation.baton import Baton, Crash, point
from tests.simulation.carried import Pocket, filed, sha256
from tests.simulation.faults import Weather, drawn_world, faulty_disk
from tests.simulation.places import BucketPlace, FolderPlace
from tests.sync.makers import NOW_US, TAG, Project, frame, make_project, synced_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from localstore.remotes import RemoteEntry
    from localstored.remotes.base import Remote
    from localstored.report import SyncReport
    from tests.simulation.places import Place

HOUR_US = 3600 * 1_000_000
DAY_US = 24 * HOUR_US
YEAR_US = 365 * DAY_US
OLD_STICKS = 2  # that come to each home in the end
ROUNDS = 6  # word has gone round among three homes long before


@dataclass
class Client:
    """One machine: its home, its clock's error, and what its process remembers."""

    number: int
    home: Path
    session: Session
    skew_us: int = 0


class World:
    """One schedule, drawn from a seed."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.random = random.Random(seed)
        self.now_us = NOW_US
        self.log: list[str] = []
        self.places = self._places(folder)
        self.pocket = Pocket(folder / "pocket", self.random, crew=self._crew)
        # Some meet by bundles alone, some never.
        self.carries = not self.places or self.random.random() < 0.5
        count = self.random.choice([2, 2, 3])
        self.clients = [Client(n, folder / f"home{n}", Session()) for n in range(count)]
        self.first = make_project(self.clients[0].home)
        self.first.keyslot("ee" * 16)  # as the project's own keys: never erased
        for client in self.clients:
            client.home.mkdir(exist_ok=True)
            _write_remotes(client.home, self.places)
        self.logs: dict[str, tuple[int, bytes]] = {}  # by name below a home: its owner, its bytes
        self.objects: dict[str, str] = {}  # by name below a home: the subject that needs it
        self.erased: set[str] = set()
        self.tails: dict[str, tuple[int, bytes]] = {}  # by log: its owner, records not in the log
        self.weather = Weather(self.random)
        self.remembers = self.random.random() < 0.5  # processes live on from one sync to the next
        self.misled = False  # a clock jumped, or a server lied: a day may pass until all is seen
        self.steps = 0  # how often the baton was passed

    def _places(self, folder: Path) -> list[Place]:
        places: list[Place] = [
            FolderPlace("folder", folder / "folder"),
            BucketPlace("bucket"),
            FolderPlace("stick", folder / "stick", plugs=True),
        ]
        return self.random.sample(places, self.random.choice([0, 1, 1, 2, 2, 3]))

    # -------------------------------------------------------------- the storm
    def storm(self, actions: int) -> None:
        """So many things happen, beginning with a run."""
        self.begin()
        for _ in range(actions):
            act = self.random.choice(
                [self.begin]
                + [self.append] * 4
                + [self.linger, self.bury, self.forget, self.backup, self.set_back]
                + [self.jump, self.plug]
                + [self.sync_some] * 6
            )
            self.log.append(act.__name__)
            act()

    def _project(self, client: Client) -> Project | None:
        """The project as a client has it, if it has it."""
        paths = HomePaths(client.home).project(self.first.id)
        first = self.first
        if not (paths.root / "FORMAT").exists() or not list(paths.links.glob("*")):
            return None
        return Project(paths, first.user_seed, first.device_seed, first.cert, first.genesis)

    def _somebody(self) -> tuple[Client, Project] | None:
        client = self.random.choice(self.clients)
        project = self._project(client)
        return (client, project) if project else None

    def begin(self) -> None:
        """A run starts: two logs, and perhaps an object that one of them needs."""
        if (found := self._somebody()) is None:
            return
        client, project = found
        subject = project.run()
        if self.random.random() < 0.6:
            wanted = project.object(size=self.random.choice([10, 500, 3000]))
            project.log(subject, DataClass.ARTIFACTS, refs=[wanted])
            path = project.paths.root / "objects" / wanted.hex()[:2] / wanted.hex()
            self.objects[str(path.relative_to(client.home))] = subject
        for log in sorted((project.paths.runs / subject).iterdir()):
            self.logs[str(log.relative_to(client.home))] = (client.number, log.read_bytes())

    def append(self) -> None:
        """Writers make a block each."""
        for name in sorted(self.logs):
            if self.random.random() < 0.6:
                self._block(name)

    def _block(self, name: str) -> None:
        owner, data = self.logs[name]
        path = self.clients[owner].home / name
        if path.exists():
            data += frame(7, self.random.choice([0, 30, 400]))
            path.write_bytes(data)
            self.logs[name] = (owner, data)
            if self.tails.pop(name, None):
                path.with_suffix(".t0").write_bytes(b"")  # its records are in the block

    def linger(self) -> None:
        """A writer has records in its tail, and falls silent, for a while or for ever."""
        if not self.logs:
            return
        name = self.random.choice(sorted(self.logs))
        owner, data = self.tails.get(name, (self.logs[name][0], b""))
        tail = (self.clients[owner].home / name).with_suffix(".t0")
        if tail.with_suffix(".log").exists():
            data += frame(1000 + len(data), self.random.choice([0, 60]), FrameType.RECORD)
            tail.write_bytes(data)
            os.utime(tail, (self.now_us / 1e6,) * 2)
            self.tails[name] = (owner, data)

    def bury(self) -> None:
        """Somebody erases a run."""
        found = self._somebody()
        subjects = sorted({name.split("/")[3] for name in self.logs} - self.erased)
        if found and subjects and self.random.random() < 0.5:
            subject = self.random.choice(subjects)
            found[1].bury(subject, self.now_us - 1)
            self.erased.add(subject)

    def forget(self) -> None:
        """A catalog vanishes."""
        for catalog in self.random.choice(self.clients).home.rglob("catalog.db"):
            catalog.unlink()

    def backup(self) -> None:
        """Somebody copies a remote."""
        for place in self.places[:1]:
            place.copy()

    def set_back(self) -> None:
        """A remote is restored from an old backup."""
        for place in self.places[:1]:
            if self.random.random() < 0.4:
                place.restore()

    def plug(self) -> None:
        """The stick is carried to another machine."""
        for place in self.places:
            if isinstance(place, FolderPlace) and place.plugged is not None:
                place.plugged = self.random.randrange(len(self.clients))

    def jump(self) -> None:
        """A clock jumps."""
        skew = self.random.choice([0, -YEAR_US, YEAR_US, 3600_000_000, -DAY_US])
        self.random.choice(self.clients).skew_us = skew
        self.misled = True

    def sync_some(self) -> None:
        """Some clients sync at the same time, in bad weather."""
        self.now_us += self.random.choice([1_000_000, 60_000_000, DAY_US * 2])
        self.weather = self._draw_weather()
        self.misled = self.misled or self.weather.lost > 0
        clients = self.random.sample(self.clients, self.random.randint(1, len(self.clients)))
        works = [functools.partial(self._sync, client) for client in clients if self.places]
        if self.carries and self.random.random() < (0.4 if works else 1.0):
            works[:1] = [functools.partial(self._carry, clients[0])]
        with faulty_disk(lambda: self.weather):
            baton = Baton(self.random)
            baton.run(works)
        self.steps += baton.steps
        self.weather = Weather(self.random)

    def _draw_weather(self) -> Weather:
        """Some storms kill, some only cut; now and then the sky is clear."""
        draw = self.random.choice
        return Weather(
            self.random,
            crash=draw([0, 0, 40, 150]),
            drop=draw([0, 0, 20, 60]),
            late=draw([0, 0, 20, 60]),
            twice=draw([0, 10]),
            lost=draw([0, 0, 0, 20]),
            disk=draw([0, 0, 0, 80]),
        )

    def _sync(self, client: Client) -> None:
        names = [place.entry.name for place in self.places]
        chosen = self.random.sample(names, self.random.randint(1, len(names)))
        try:
            with contextlib.suppress(LocalStoreError, OSError):
                self._sync_home(client, chosen)
        except Crash:
            client.session = Session()  # what the process remembered is gone with it
            raise

    def _carry(self, client: Client) -> None:
        """A stick is in a machine: something goes in, out, or back; or it is pulled."""
        pocket, now_us = self.pocket, self.now_us + client.skew_us
        draw = self.random.random()
        with contextlib.suppress(LocalStoreError, OSError):
            if draw < 0.4 or not pocket.bundles:
                self._export(client.home, now_us)
            elif draw < 0.8:
                pocket.import_(client.home, now_us)
            elif draw < 0.86 and (project := self._project(client)):
                pocket.acknowledge(client.home, project, now_us)
            elif draw < 0.93 and pocket.receipts:
                pocket.file(client.home, now_us)
            elif draw < 0.98:
                pocket.cut()
            else:
                pocket.rot()

    def _export(self, home: Path, now_us: int) -> None:
        try:
            self.pocket.export(home, now_us)
        except Crash:
            if self.pocket.bundles and self.random.random() < 0.7:
                self.pocket.cut()  # a power cut: what was written last is not there
            raise

    def _sync_home(self, client: Client, names: list[str]) -> SyncReport:
        return sync_home(
            client.home,
            remotes=names,
            recipients=frozenset({TAG}),
            clock=lambda: self.now_us + client.skew_us,
            sleep=lambda _: point(),
            opener=lambda entry: self._open(entry, client),
            session=client.session if self.remembers and self.random.random() < 0.7 else None,
            crew=self._crew,
            random=self.random.randbytes,
        )

    def _crew(self, width: int) -> Inline:
        return Inline(width, self.random)

    def _open(self, entry: RemoteEntry, client: Client) -> Remote:
        place = next(place for place in self.places if place.entry.name == entry.name)
        return place.open(self.weather, client.number)

    # -------------------------------------------------------------- afterwards
    def check_receipts(self) -> None:
        """What was acknowledged is there, on every remote that nobody has set back."""
        for client in self.clients:
            project = self._project(client)
            for place in self.places:
                if project is not None and not place.set_back:
                    self._check_receipts(project, place)
            if project is not None:
                self._check_filed(client, project)

    def _check_filed(self, client: Client, project: Project) -> None:
        """What a destination signed for is there."""
        homes = {_replica(other.home): other.home for other in self.clients}
        for replica, lines in filed(project, client.home).items():
            root = homes[replica] / "projects" / project.id
            for name, size, digest in lines:
                if self._stays(project, name):
                    path = root / name
                    found = path.read_bytes()[:size] if path.exists() else b""
                    assert sha256(found) == digest, f"{replica} does not hold {name}"

    def _stays(self, project: Project, name: str) -> bool:
        """Whether nobody may have freed a file."""
        file, whole = parse_name(name), f"projects/{project.id}/{name}"
        freed = file.kind is FileKind.OBJECT and self.objects.get(whole) in self.erased
        return file.subject not in self.erased and not freed

    def _check_receipts(self, project: Project, place: Place) -> None:
        there = place.contents()
        batches = ReceiptFile.of(project.paths, place.entry.id).batches()
        last = {line.name: line for lines, _ in batches for line in lines}
        for name, line in last.items():
            if line.size and self._stays(project, name):
                found = there.get(f"projects/{project.id}/{name}", b"")[: line.size]
                assert sha256(found) == line.sha256, f"{place.entry.name} does not hold {name}"

    def settle(self) -> None:
        """The weather clears; everybody syncs with every remote until nothing moves."""
        # Who was no recipient is looked at again after an hour; listings are remembered for a day.
        self.now_us += 3 * DAY_US if self.misled or self.random.random() < 0.5 else 2 * HOUR_US
        for client in self.clients:
            client.skew_us = 0
        for _ in range(ROUNDS):
            if not self._round() or (self._agree() and self.random.random() < 0.7):
                return
        raise AssertionError(f"something still moves after {ROUNDS} rounds")

    def _round(self) -> int:
        moved = 0
        for client in self.clients:
            for place in self.places:
                if isinstance(place, FolderPlace) and place.plugged is not None:
                    place.plugged = client.number
                report = self._sync_home(client, [place.entry.name])
                assert report.ok, report.to_json()
                moved += report.moved
        return moved if self.places else self._carry_round()

    def _carry_round(self) -> int:
        """Everybody gives everybody a bundle."""
        moved = 0
        for client in self.clients:
            if self._project(client) is None:
                continue
            made = self.pocket.export(client.home, self.now_us, fresh=True)
            assert made.ok, made.to_json()
            for other in self.clients:
                taken = self.pocket.import_(other.home, self.now_us, self.pocket.bundles[-1])
                assert taken.ok, taken.to_json()
                moved += taken.sync.moved
        return moved

    def import_everything_again(self) -> None:
        """Sticks from long ago, into every home."""
        bundles = self.pocket.bundles
        for client in self.clients:
            for path in self.random.sample(bundles, min(OLD_STICKS, len(bundles))):
                with contextlib.suppress(LocalStoreError):
                    taken = self.pocket.import_(client.home, self.now_us, path)
                    assert not taken.sync.moved, f"{path.name} brought {taken.to_json()}"

    def _replicas(self) -> dict[str, dict[str, bytes]]:
        """What everybody has."""
        homes = {f"home {one.number}": synced_bytes(one.home) for one in self.clients}
        places = {place.entry.name: place.contents() for place in self.places}
        return {who: self._living(found) for who, found in (homes | places).items()}

    def _agree(self) -> bool:
        found = list(self._replicas().values())
        return all(one == found[0] for one in found)

    def check(self) -> None:
        """All agree with one another and with the model."""
        replicas = self._replicas()
        want = replicas["home 0"]
        for who, found in replicas.items():
            _same(found, want, who)
        living = {
            name: data for name, (_, data) in self.logs.items() if _subject(name) not in self.erased
        }
        logs = {name: data for name, data in want.items() if name.endswith(".log")}
        _same(logs, living, "the model")
        self._check_tails(want)
        missing = {n for n, s in self.objects.items() if s not in self.erased} - want.keys()
        assert not missing, f"lost: {sorted(missing)}"
        back = [name for name in want if any(subject in name for subject in self.erased)]
        assert not back, f"resurrected: {back}"

    def _check_tails(self, want: dict[str, bytes]) -> None:
        """What a silent writer had recorded is in copies of its tail, wherever one looks."""
        for name, (_, records) in self.tails.items():
            copies = [
                want[copy] for copy in want if copy.startswith(name.removesuffix(".log") + "-")
            ]
            if _subject(name) not in self.erased:
                assert any(records in copy for copy in copies), f"{name} lost its tail"

    def _living(self, files: dict[str, bytes]) -> dict[str, bytes]:
        """Without objects that only erased runs needed, and what a collector that died set aside of
        such: they may wait for the next one.
        """
        return {
            name: data
            for name, data in files.items()
            if self.objects.get(name) not in self.erased and "/.gc-" not in name
        }


def _replica(home: Path) -> str:
    found = home / "replica"
    return found.read_text().strip() if found.exists() else ""


def _subject(name: str) -> str:
    return name.split("/")[3]


def _same(found: dict[str, bytes], want: dict[str, bytes], who: str) -> None:
    lacks, has = sorted(want.keys() - found.keys()), sorted(found.keys() - want.keys())
    differs = sorted(name for name in want.keys() & found.keys() if want[name] != found[name])
    assert found == want, f"{who} lacks {lacks}, has {has}, differs in {differs}"


def _write_remotes(home: Path, places: list[Place]) -> None:
    tables = [
        f'[remotes.{entry.name}]\nurl = "{entry.url}"\nid = "{entry.id}"\n'
        for entry in (place.entry for place in places)
    ]
    HomePaths(home).remotes_file.write_text("\n".join(tables))


# ------------------------------------------------------------------ one schedule
def run_schedule(folder: Path, seed: int, actions: int = 12) -> World:
    """Run one schedule and check what must hold; raises AssertionError with what does not."""
    folder.mkdir(exist_ok=True)
    with drawn_world(seed):
        world = World(folder, seed)
        world.storm(actions)
        world.check_receipts()
        world.settle()
        world.check()
        world.import_everything_again()
        world.check()
    return world
