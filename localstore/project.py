"""Projects of a home: found by name, created once, opened with whatever keys this machine has."""

from __future__ import annotations

import shutil
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

import msgspec

from localstore import crypto, keyslots, people, trust
from localstore.durable import create_file, make_folder, replace_file, sync_folder
from localstore.errors import BadName, Damaged, Forged, NotFound, NotPermitted, StoreError
from localstore.format import signed, spec
from localstore.format.spec import DataClass, LinkKind, SlotKind
from localstore.identity import Identity, now_us
from localstore.layout import FORMAT_FILE, HomePaths, ProjectPaths, check_label

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from localstore.keyslots import Slot

_PAIR_WAIT_S: Final = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The public half of a run's keys, which is all that a writer needs."""

    public: bytes
    classes: dict[int, bytes]
    epoch: int


class Project:
    """One project as this machine can see it.

    Attributes:
        entity, name: labels; of a deposit-only machine, what its ticket says.
        state: members, devices, epochs, tombstones.
    """

    def __init__(self, paths: ProjectPaths, identity: Identity) -> None:
        """Read and fold the project.

        Raises:
            Damaged: no readable genesis link.
            KeyUnavailable: neither a member's keys nor a ticket open it.
        """
        self.paths, self.identity = paths, identity
        self.id = bytes.fromhex(paths.id)
        own = identity.own_keys() if identity.is_member else frozenset()
        self.state = trust.read_project(paths, own_keys=own)
        self._epoch_seeds: dict[bytes, bytes] = {}
        self._pair_seeds: dict[bytes, bytes] = {}
        deposit = identity.deposits.get(paths.id)
        if deposit is not None:
            self.naming, self.dedup = deposit.naming, deposit.dedup
            self.entity, self.name = deposit.entity, deposit.name
            self.device_seed, self._cert_file = deposit.device_seed, deposit.cert
        else:
            secrets = self.project_secrets()
            self.naming, self.dedup = secrets[:32], secrets[32:64]
            self.entity, self.name = self._label("entity"), self._label("project")
            self.device_seed, self._cert_file = identity.device_seed, identity.device_cert
        self.cert = signed.file_hash(self._cert_file)

    # -------------------------------------------------------------- reading keys
    @property
    def can_read(self) -> bool:
        """Whether this machine holds a member's keys."""
        return self.identity.is_member

    def _open_slots(self, kind: SlotKind, subject: bytes) -> Iterator[bytes]:
        """The secrets of all slots that open, those that this person's newest key signed first.

        A slot that does not open is passed over: anybody can put one beside the good ones.
        """
        boxes = {crypto.box_public(b): b for b in map(self.identity.user_box, self.identity.roots)}
        found = [
            slot
            for slot in keyslots.read_slots(self.paths, subject)
            if slot.kind == kind and slot.recipient in boxes and self._by_user(slot)
        ]
        for slot in sorted(found, key=self._slot_rank):
            try:
                yield slot.open(boxes[slot.recipient], self.id)
            except Forged:
                continue

    def _slot_rank(self, slot: Slot) -> tuple[int, str]:
        own = self.state.users.get(self.identity.user)
        generations = {key: number for number, key in own.sign.items()} if own else {}
        return -generations.get(slot.signer, 0), slot.name

    def project_secrets(self) -> bytes:
        """Naming key, dedup secret and chunker seed, 32 bytes each.

        Raises:
            NotPermitted: this machine may not read the project.
        """
        for secrets in self._open_slots(SlotKind.PROJECT, keyslots.project_subject()):
            claimed = crypto.digest(spec.LABEL_PROJECT_SECRETS, secrets)
            promised = self.state.secrets in (b"", claimed)
            if promised and len(secrets) == 3 * spec.KEY_BYTES:
                return secrets
        raise self._no_key()

    def _no_key(self) -> NotPermitted:
        return NotPermitted(
            f"no key of this machine opens project {self.paths.id[:16]}",
            hint="only its members can read it; `localstore key show` says who you are here",
        )

    def _by_user(self, slot: Slot) -> bool:
        return any(
            slot.signer in user.sign.values()
            for user in self.state.users.values()
            if user.id in self.state.ever_members
        )

    def epoch_seed(self, epoch: trust.Epoch) -> bytes:
        """The secret of one epoch.

        Raises:
            NotPermitted: this machine may not read the project, or what was sealed to this epoch.
        """
        if epoch.box not in self._epoch_seeds:
            for seed in self._open_slots(SlotKind.EPOCH, keyslots.epoch_subject(epoch.number)):
                if crypto.box_public(crypto.derive(seed, spec.LABEL_EPOCH_BOX)) == epoch.box:
                    self._epoch_seeds[epoch.box] = seed
                    break
            else:
                raise self._no_key()
        return self._epoch_seeds[epoch.box]

    def _label(self, what: str) -> str:
        labels = [label for label in self.state.labels if label.what == what]
        for label in sorted(labels, key=lambda one: (one.created_us, one.link), reverse=True):
            for epoch in self.state.epochs:
                if epoch.number == label.epoch:
                    key = crypto.derive(self.epoch_seed(epoch), spec.LABEL_EPOCH_META)
                    context = spec.LABEL_EPOCH_META + what.encode()
                    try:
                        return crypto.decrypt_with_nonce(key, label.sealed, context).decode()
                    except Forged:
                        continue
        return ""

    def class_secret(self, subject: bytes, pair: bytes, data_class: int) -> bytes:
        """The X25519 secret that opens the segments of one class of one run.

        Raises:
            NotPermitted: no keyslot here opens the pair: erased, or not for this machine.
            Forged: the keyslot holds another pair's seed.
        """
        if pair not in self._pair_seeds:
            self._pair_seeds[pair] = self._pair_seed(subject, pair)
        return crypto.derive(self._pair_seeds[pair], spec.LABEL_CLASS, salt=bytes((data_class,)))

    def _pair_seed(self, subject: bytes, pair: bytes) -> bytes:
        problems: list[Damaged] = []
        for slot in keyslots.read_slots(self.paths, subject, problems):
            if slot.kind != SlotKind.PAIR or slot.pair != pair:
                continue
            for epoch in self.state.epochs:
                if epoch.box != slot.recipient:
                    continue
                try:
                    return self._seed_in(slot, epoch)
                except Forged as problem:
                    # Anybody can put such a slot beside the good one.
                    problems.append(problem.at(slot.name))
        if problems:
            raise Damaged(f"no whole keyslot opens this run: {problems[0]}")
        raise NotPermitted(
            "no keyslot here opens this run",
            hint="it was erased, or its keys have not arrived yet: `localstore sync now`",
        )

    def _seed_in(self, slot: Slot, epoch: trust.Epoch) -> bytes:
        private = crypto.derive(self.epoch_seed(epoch), spec.LABEL_EPOCH_BOX)
        seed = slot.open(private, self.id)
        if crypto.box_public(crypto.derive(seed, spec.LABEL_PAIR)) != slot.pair:
            raise Forged("a keyslot that holds another pair's seed")
        return seed

    # -------------------------------------------------------------- writing
    def subject(self, run_id: str) -> bytes:
        """The opaque 16-byte name of a run's folder."""
        return self._name(b"run\0", run_id)

    def _name(self, kind: bytes, name: str) -> bytes:
        return crypto.keyed_digest(
            self.naming, spec.LABEL_NAME, kind + name.encode(), size=spec.ID_BYTES
        )

    def ensure_cert(self) -> None:
        """Put this device's certificates beside the data that they vouch for."""
        for raw in (*self.identity.user_certs, self._cert_file):
            path = self.paths.certs / signed.file_hash(raw).hex()
            if not path.exists():
                create_file(path, raw)

    def pair(self, subject: bytes) -> Pair:
        """The run's key pair for writing: one that is there, or else a new one.

        Of the processes of one run that start together on one home, one makes the pair; the others
        wait a moment for it. Should that fail each makes its own, which readers do not mind.
        """
        found = self._known_pair(subject)
        if found is not None:
            return found
        make_folder(self.paths.keys)
        try:
            (self.paths.keys / subject.hex()).mkdir(mode=0o700)
            sync_folder(self.paths.keys)
        except FileExistsError:
            deadline = time.monotonic() + _PAIR_WAIT_S
            while time.monotonic() < deadline:
                found = self._known_pair(subject)
                if found is not None:
                    return found
                time.sleep(0.02)
        return self._new_pair(subject)

    def _known_pair(self, subject: bytes) -> Pair | None:
        epoch = self.state.current_epoch
        for slot in keyslots.read_slots(self.paths, subject):
            if slot.kind != SlotKind.PAIR or slot.recipient != epoch.box:
                continue
            device = self.state.devices.get(slot.cert)
            if device is None or device.sign != slot.signer:
                continue
            # Whoever made a pair may have kept its seed: a deposit machine's is for itself alone.
            if device.deposit and slot.cert != self.cert:
                continue
            if self.state.judge_device(device, slot.created_us).belief is trust.Belief.TRUSTED:
                return Pair(public=slot.pair, classes=slot.classes, epoch=epoch.number)
        return None

    def _new_pair(self, subject: bytes) -> Pair:
        epoch = self.state.current_epoch
        seed = crypto.random_bytes(32)
        pair = crypto.box_public(crypto.derive(seed, spec.LABEL_PAIR))
        classes = {
            int(one): crypto.box_public(crypto.derive(seed, spec.LABEL_CLASS, salt=bytes((one,))))
            for one in DataClass
        }
        keyslots.write_slot(
            self.paths,
            SlotKind.PAIR,
            subject=subject,
            recipient=epoch.box,
            secret=seed,
            signer_seed=self.device_seed,
            epoch=epoch.number,
            cert=self.cert,
            pair=pair,
            classes=classes,
        )
        return Pair(public=pair, classes=classes, epoch=epoch.number)

    def add_link(self, kind: LinkKind, body: dict[str, Any]) -> bytes:
        """Sign a link as this machine's user, on top of the known tips; returns its hash.

        Raises:
            NotPermitted: a deposit-only machine, or one whose keys have been replaced.
        """
        raw = signed.encode(
            spec.LINK_MAGIC,
            kind,
            project=self.id,
            seed=self.identity.user_seed(),
            created_us=now_us(),
            body={**body, "parents": list(self.state.tips)},
        )
        name = signed.file_hash(raw)
        create_file(self.paths.links / name.hex(), raw)
        self.state = trust.read_project(self.paths, own_keys=self.identity.own_keys())
        reason = dict(self.state.refused).get(name.hex())
        if reason is not None:
            (self.paths.links / name.hex()).unlink()
            raise NotPermitted(
                f"project {self.paths.id[:16]} does not take this machine's word: {reason}",
                hint="`localstore sync now` takes over the newer keys of your other machines",
            )
        return name


# ------------------------------------------------------------------ creating
def _write_new(root: Path, identity: Identity, entity: str, name: str) -> bytes:
    """Lay out a new project in `root`; returns its id."""
    seed, created = identity.user_seed(), now_us()
    secrets = crypto.random_bytes(96)
    known = entity == identity.user_name
    genesis = signed.encode(
        spec.LINK_MAGIC,
        LinkKind.GENESIS,
        project=signed.NO_PROJECT,
        seed=seed,
        created_us=created,
        body={
            "parents": [],
            "entity": identity.user if known else trust.UNKNOWN_ENTITY,
            "user": identity.user,
            "nonce": crypto.random_bytes(16),
            "secrets": crypto.digest(spec.LABEL_PROJECT_SECRETS, secrets),
        },
    )
    project = trust.project_id(genesis)
    epoch_seed = crypto.random_bytes(32)
    epoch_box = crypto.box_public(crypto.derive(epoch_seed, spec.LABEL_EPOCH_BOX))
    meta = crypto.derive(epoch_seed, spec.LABEL_EPOCH_META)
    parent = signed.file_hash(genesis)
    links = [genesis]

    def link(kind: LinkKind, body: dict[str, Any]) -> None:
        nonlocal parent
        raw = signed.encode(
            spec.LINK_MAGIC,
            kind,
            project=project,
            seed=seed,
            created_us=created,
            body={**body, "parents": [parent]},
        )
        parent = signed.file_hash(raw)
        links.append(raw)

    link(LinkKind.EPOCH, {"epoch": 1, "box": epoch_box})
    for what, label in (("entity", entity), ("project", name)):
        context = spec.LABEL_EPOCH_META + what.encode()
        sealed = crypto.encrypt_with_nonce(meta, label.encode(), context)
        link(LinkKind.LABEL, {"what": what, "epoch": 1, "name": sealed})

    # The folder's path does not carry the id yet, so the slots are named by hand.
    for kind, subject, epoch, secret in (
        (SlotKind.EPOCH, keyslots.epoch_subject(1), 1, epoch_seed),
        (SlotKind.PROJECT, keyslots.project_subject(), 0, secrets),
    ):
        recipient = crypto.box_public(identity.user_box())
        raw = keyslots.encode_slot(
            project,
            kind,
            subject=subject,
            recipient=recipient,
            secret=secret,
            signer_seed=seed,
            epoch=epoch,
        )
        slot = keyslots.slot_name(subject, recipient, signed.file_hash(raw))
        create_file(root / slot, raw)
    for raw in links:
        create_file(root / "links" / signed.file_hash(raw).hex(), raw)
    for raw in (*identity.user_certs, identity.device_cert):
        create_file(root / "certs" / signed.file_hash(raw).hex(), raw)
    create_file(root / FORMAT_FILE, format_file(project))
    return project


def format_file(project: bytes) -> bytes:
    """The content of a project's FORMAT file."""
    return f"localstore {spec.FORMAT_VERSION}\nproject {project.hex()}\nrequires\n".encode()


def check_format(content: bytes, project: str) -> None:
    """Refuse a project that a newer localstore made.

    Raises:
        Damaged: another version, project, or a required feature that is unknown here.
    """
    if content != format_file(bytes.fromhex(project)):
        raise Damaged(
            "FORMAT asks for another version or for features of a newer localstore",
            file=FORMAT_FILE,
            hint="install the newest localstore",
        )


# ------------------------------------------------------------------ damage, by file
def _refused(paths: ProjectPaths, state: trust.ProjectState) -> list[Damaged]:
    """Files of links and certificates that cannot be read; others are merely not believed."""
    return [
        Damaged(why, file=f"projects/{paths.id}/{what}")
        for what, why in state.refused
        if "/" in what
    ]


def _misnamed(paths: ProjectPaths) -> Iterator[Damaged]:
    """Links and certificates that are not what their names say."""
    for folder in (paths.links, paths.certs):
        for path in sorted(folder.glob("[0-9a-f]*")):
            if signed.file_hash(path.read_bytes()).hex() != path.name:
                name = f"projects/{paths.id}/{folder.name}/{path.name}"
                yield Damaged("its name is not the hash of its bytes", file=name)


def _why_closed(paths: ProjectPaths, problem: StoreError | NotPermitted) -> list[Damaged]:
    """What keeps a project from opening; nothing where it is merely somebody else's."""
    found: list[Damaged] = []
    try:
        state = trust.read_project(paths)
        found += _refused(paths, state)
        subjects = [keyslots.project_subject()]
        subjects += [keyslots.epoch_subject(epoch.number) for epoch in state.epochs]
        for subject in subjects:
            list(keyslots.read_slots(paths, subject, found))
    except Damaged as nothing_folds:
        found.append(nothing_folds.at(f"projects/{paths.id}/links"))
        found += _misnamed(paths)
    if not found and isinstance(problem, Damaged):
        found.append(problem.at(f"projects/{paths.id}/{problem.file}"))
    return found


# ------------------------------------------------------------------ finding by name
class Projects:
    """The projects of a home, by name."""

    def __init__(self, home: HomePaths, identity: Identity) -> None:
        self.home, self.identity = home, identity

    def all(self, problems: list[StoreError] | None = None) -> Iterator[Project]:
        """Every project that this machine's keys open; others go to `problems` or are passed."""
        for paths in self.home.all_projects():
            if not self.identity.is_member and paths.id not in self.identity.deposits:
                continue
            try:
                check_format((paths.root / FORMAT_FILE).read_bytes(), paths.id)
                project = Project(paths, self.identity)
            except (NotPermitted, Damaged) as problem:
                if problems is not None:
                    problems += _why_closed(paths, problem)
                continue
            # Anybody can make a project with this person as a member, of any name and age.
            if self.identity.is_member and project.state.founder != self.identity.user:
                continue
            if problems is not None:
                problems += _refused(paths, project.state)
            yield project

    def named(self, entity: str, name: str) -> list[Project]:
        """All projects of this name; the designated one, to which writing goes, first."""
        found = [p for p in self.all() if p.name == name and self._is_entity(p, entity)]
        wanted = {other for project in found for other in project.state.same_as}
        return sorted(found, key=lambda p: (p.id not in wanted, p.state.created_us, p.id))

    def _is_entity(self, project: Project, entity: str) -> bool:
        if entity in ("", self.identity.user_name):
            own = self.identity.user
            return project.state.entity == own if own else True
        return project.entity == entity

    def open_or_create(self, entity: str, name: str) -> tuple[Project, bool]:
        """The project to which runs of this name go; made if there is none.

        Five hundred processes that start at once make one: each lays out a candidate, and one
        atomic `link()` of the name decides whose it is.

        Returns:
            The project, and whether this call made it.

        Raises:
            NotFound: a deposit-only machine without a ticket for this project.
        """
        check_label("project", name)
        project, fresh = self._open_or_create(entity or self.identity.user_name, name)
        return self._renewed(project), fresh

    def _renewed(self, project: Project) -> Project:
        """The project with an epoch by this person's newest keys, for whoever lost older ones."""
        if not self.identity.is_member or self.identity.generation == 1:
            return project
        from localstore.rotation import rotate_project

        certs = self.identity.user_certs or user_statements(self.home, self.identity)
        identity = replace(self.identity, user_certs=certs)
        return Project(project.paths, identity) if rotate_project(project, identity) else project

    def _open_or_create(self, entity: str, name: str) -> tuple[Project, bool]:
        pointer = self._pointer(entity, name)
        designated = self._designated(pointer)
        if designated is not None and designated.name == name:
            return designated, False
        known = self.named(entity, name)
        if known:
            self._point(pointer, known[0].paths.id)
            return known[0], False
        if not self.identity.is_member:
            raise NotFound(
                f"no ticket of this machine is for project {name!r}",
                hint="`localstore enroll FILE` with a ticket of that project",
            )
        return self._create(pointer, check_label("entity", entity), name)

    def _pointer(self, entity: str, name: str) -> Path:
        key = f"{entity}\0{name}".encode()
        tag = crypto.keyed_digest(self.identity.home_key, spec.LABEL_NAME, key, size=16)
        return self.home.names / tag.hex()

    def _seen(self) -> str:
        """What names depend on: which projects there are, and whether one got a link since."""
        facts = [
            f"{paths.id} {paths.links.stat().st_mtime_ns}"
            for paths in self.home.all_projects()
            if paths.links.is_dir()
        ]
        return crypto.digest(spec.LABEL_NAME, " ".join(facts).encode(), size=8).hex()

    def _point(self, pointer: Path, project: str) -> None:
        body = {"project": project, "folder": "", "seen": self._seen()}
        replace_file(pointer, msgspec.json.encode(body))

    def _designated(self, pointer: Path) -> Project | None:
        """What the pointer names, unless it is damaged, or projects came or went since."""
        try:
            body = msgspec.json.decode(pointer.read_bytes(), type=dict[str, str])
            paths, folder, seen = self.home.project(body["project"]), body["folder"], body["seen"]
        except (FileNotFoundError, msgspec.DecodeError, UnicodeDecodeError, KeyError, BadName):
            return None
        if folder and not paths.root.exists() and not self._publish(folder, paths):
            return None
        if not (paths.root / FORMAT_FILE).exists() or (seen and seen != self._seen()):
            return None
        check_format((paths.root / FORMAT_FILE).read_bytes(), paths.id)
        return Project(paths, self.identity)

    def _publish(self, folder: str, paths: ProjectPaths) -> bool:
        """Give a laid-out project its name; whoever sees the pointer first may do it."""
        if "/" in folder or not folder.startswith(".new-"):
            return False
        try:
            (self.home.projects / folder).rename(paths.root)
        except FileNotFoundError:
            return paths.root.exists()
        except OSError:
            if not paths.root.exists():
                raise
        sync_folder(self.home.projects)
        return True

    def _create(self, pointer: Path, entity: str, name: str) -> tuple[Project, bool]:
        identity = self._with_user_certs()
        folder = f".new-{crypto.random_bytes(8).hex()}"
        root = make_folder(self.home.projects / folder)
        project = _write_new(root, identity, entity, name).hex()
        body = {"project": project, "folder": folder, "seen": ""}
        if create_file(pointer, msgspec.json.encode(body)):
            self._publish(folder, self.home.project(project))
            self._point(pointer, project)
            return Project(self.home.project(project), identity), True
        shutil.rmtree(root)
        designated = self._designated(pointer)
        if designated is not None:
            return designated, False
        known = self.named(entity, name)
        if known:
            return known[0], False
        # Damaged, or it names a project that somebody removed by hand: start anew.
        self._discard(pointer)
        return self._create(pointer, entity, name)

    def _discard(self, pointer: Path) -> None:
        """Take a useless pointer away, but not one that another process has put there since."""
        aside = pointer.with_name(f".stale-{crypto.random_bytes(8).hex()}")
        try:
            pointer.rename(aside)
        except FileNotFoundError:
            return
        if self._designated(aside) is not None:
            create_file(pointer, aside.read_bytes())
        aside.unlink()

    def _with_user_certs(self) -> Identity:
        """The identity with its user's statements, which a recovered machine learns by syncing."""
        if self.identity.user_certs:
            return self.identity
        statements = user_statements(self.home, self.identity)
        if not statements:
            raise NotFound(
                "your certificates are not on this machine yet",
                hint="add the remote that has your projects and `localstore sync now`",
            )
        return replace(self.identity, user_certs=statements)


def user_statements(home: HomePaths, identity: Identity) -> tuple[bytes, ...]:
    """A user's own statements as the projects of this home have them, by generation."""
    found: dict[bytes, signed.SignedFile] = {}
    for paths in home.all_projects():
        for path in sorted(paths.certs.iterdir()) if paths.certs.is_dir() else ():
            try:
                cert = signed.decode(path.read_bytes(), spec.CERT_MAGIC)
                found[cert.hash] = cert
            except (Damaged, OSError):
                continue
    known = people.statements(found.values(), identity.user, identity.own_keys())
    return tuple(cert.raw for cert in known)
