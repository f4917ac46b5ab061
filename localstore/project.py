"""One project, opened with whatever keys this machine has; finding it is for `projects`."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from localstore import crypto, keyslots, trust, wake
from localstore.durable import create_file, make_folder, sync_folder
from localstore.errors import Damaged, Forged, NotPermitted
from localstore.format import signed, spec
from localstore.format.spec import DataClass, LinkKind, SlotKind
from localstore.identity import Identity, now_us

if TYPE_CHECKING:
    from collections.abc import Iterator

    from localstore.keyslots import Slot
    from localstore.layout import ProjectPaths

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

    def artifact_subject(self, name: str) -> bytes:
        """The opaque 16-byte name of an artifact's folder."""
        return self._name(b"artifact\0", name)

    def policy_tag(self, rule: str) -> bytes:
        """The opaque 16-byte tag that a writer stamps on what a rule is about."""
        return crypto.keyed_digest(
            self.naming, spec.LABEL_POLICY, rule.encode(), size=spec.ID_BYTES
        )

    def chunker_seed(self) -> bytes:
        """The 32-byte secret by which files are cut; a deposit machine has one of its own."""
        if self.can_read:
            return self.project_secrets()[64:96]
        return crypto.derive(self.dedup, spec.LABEL_CUT)

    def _name(self, kind: bytes, name: str) -> bytes:
        return crypto.keyed_digest(
            self.naming, spec.LABEL_NAME, kind + name.encode(), size=spec.ID_BYTES
        )

    def ensure_cert(self) -> None:
        """Put this device's certificates beside the data that they vouch for."""
        for raw in (*self.identity.user_certs, self._cert_file):
            path = self.paths.certs / signed.file_hash(raw).hex()
            if not path.exists() and create_file(path, raw):
                wake.touch(self.paths, wake.LINKS)

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
        wake.touch(self.paths, wake.LINKS)
        return name
