"""The projects of a home: made once, found by name, in whatever order machines met them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec

from localstore import crypto, keyslots, people, trust
from localstore.durable import create_file, make_folder, replace_file, sync_folder
from localstore.errors import BadName, Damaged, NotFound, NotPermitted, StoreError
from localstore.format import signed, spec
from localstore.format.spec import LinkKind, SlotKind
from localstore.format.version import check_format, format_file
from localstore.identity import Identity, now_us
from localstore.layout import (
    FORMAT_FILE,
    HomePaths,
    ProjectPaths,
    check_label,
)
from localstore.project import Project

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
