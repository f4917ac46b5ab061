"""The constants that readers and writers share; docs/format.md is their specification.

A test compares the tables of that page with this module.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

FORMAT_VERSION: Final = 1
SUITE: Final = 1  # X25519, XChaCha20-Poly1305, Ed25519, BLAKE2b, BLAKE3, SHA-256
SUPPORTED_SUITES: Final = frozenset({1})

# -- sizes, in bytes
KEY_BYTES: Final = 32
HASH_BYTES: Final = 32
ID_BYTES: Final = 16
NONCE_BYTES: Final = 24
TAG_BYTES: Final = 16
SIGNATURE_BYTES: Final = 64
SEALED_OVERHEAD_BYTES: Final = 48  # crypto_box_seal: an ephemeral key and a tag
PAD_FLOOR_BYTES: Final = 128

# -- limits: what a reader refuses before it allocates
MAX_SIGNED_FILE_BYTES: Final = 64 * 1024
MAX_TICKET_BYTES: Final = 4 * 1024 * 1024  # carries all links of its project
MAX_HEADER_BYTES: Final = 64 * 1024
MAX_PREDECESSORS: Final = 1024
MAX_FRAME_BODY_BYTES: Final = 16 * 1024 * 1024
MAX_FRAME_CONTENT_BYTES: Final = 16 * 1024 * 1024  # after decompression
MAX_ZSTD_WINDOW_BYTES: Final = 32 * 1024 * 1024
MAX_OBJECT_BYTES: Final = 16 * 1024 * 1024
MAX_BLOCK_ROWS: Final = 1024 * 1024  # of one COLUMNS frame
MAX_BLOCK_CELLS: Final = 32 * 1024 * 1024  # four bytes can claim 1,024 equal values
MAX_KEY_CHARS: Final = 1024  # one metric or config key
MAX_PATH_BYTES: Final = 4096  # of a file in a manifest or a FILE record
MAX_VERSION_FILES: Final = 10_000_000  # a reader holds about 4 GB for so many
MAX_NESTING: Final = 64  # arrays and maps within each other in a record or value
BLOCK_RECORDS: Final = 1024

# -- magics
SEGMENT_MAGIC: Final = b"LSEG\r\n\x1a\n"
LINK_MAGIC: Final = b"LSLK"
CERT_MAGIC: Final = b"LSCT"
KEYSLOT_MAGIC: Final = b"LSKS"
TICKET_MAGIC: Final = b"LSTK"
SECRET_MAGIC: Final = b"LSSK"
OBJECT_MAGIC: Final = b"LSOB"
CACHE_MAGIC: Final = b"LSCA"
FRAME_MARK: Final = b"LF"

# -- labels of hashes and derived keys: the `person` of BLAKE2b, 16 bytes at most
LABEL_PROJECT: Final = b"ls1/project"
LABEL_USER: Final = b"ls1/user"
LABEL_FILE: Final = b"ls1/file"
LABEL_RECIPIENT: Final = b"ls1/recipient"
LABEL_SUBJECT: Final = b"ls1/subject"
LABEL_NAME: Final = b"ls1/name"
LABEL_CHAIN: Final = b"ls1/chain"
LABEL_COMMIT: Final = b"ls1/commit"
LABEL_FRAME: Final = b"ls1/frame"
LABEL_PAIR: Final = b"ls1/pair"
LABEL_CLASS: Final = b"ls1/class"
LABEL_EPOCH_BOX: Final = b"ls1/epoch-box"
LABEL_EPOCH_META: Final = b"ls1/epoch-meta"
LABEL_USER_SIGN: Final = b"ls1/user-sign"
LABEL_USER_BOX: Final = b"ls1/user-box"
LABEL_USER_META: Final = b"ls1/user-meta"
LABEL_SLOT_CONTEXT: Final = b"ls1/slot-ctx"
LABEL_SEGMENT_CONTEXT: Final = b"ls1/seg-ctx"
LABEL_OBJECT: Final = b"ls1/object"
LABEL_CACHE: Final = b"ls1/cache"
LABEL_RECOVERY: Final = b"ls1/recovery"
LABEL_SECRET: Final = b"ls1/secret"
LABEL_PROJECT_SECRETS: Final = b"ls1/secrets"
LABEL_VERSION: Final = b"ls1/version"
LABEL_CHUNK: Final = b"ls1/chunk"
LABEL_CUT: Final = b"ls1/cut"
LABEL_POLICY: Final = b"ls1/policy"

# -- labels of signatures: prefixed to the message with one zero byte
SIGN_HEADER: Final = b"ls1/sig/header"
SIGN_HEAD: Final = b"ls1/sig/head"
SIGN_LINK: Final = b"ls1/sig/link"
SIGN_CERT: Final = b"ls1/sig/cert"
SIGN_ROTATION: Final = b"ls1/sig/rotation"
SIGN_KEYSLOT: Final = b"ls1/sig/slot"
SIGN_TICKET: Final = b"ls1/sig/ticket"
SIGN_BUNDLE: Final = b"ls1/sig/bundle"
SIGN_RECEIPT: Final = b"ls1/sig/receipt"


class DataClass(IntEnum):
    """The classes of data; each has its own segments, keys and privacy rule."""

    META = 1
    METRICS = 2
    SYSTEM = 3
    CONSOLE = 4
    CODE = 5
    MEDIA = 6
    ARTIFACTS = 7


class FrameType(IntEnum):
    """What a frame holds. 0 is reserved for preallocated bytes.

    A reader keeps and passes over unknown types from 64 to 127; any other unknown one is damage.
    """

    COLUMNS = 1
    RECORDS = 2
    RECORD = 3
    HEAD = 4
    REF = 5
    UNREF = 6


FIRST_IGNORABLE_FRAME_TYPE: Final = 64
LAST_IGNORABLE_FRAME_TYPE: Final = 127


class RecordKind(IntEnum):
    """First element of a record; unknown kinds are kept and passed over."""

    POINT = 1
    START = 2
    CONFIG = 3
    SUMMARY = 4
    STATE = 5
    DEFINE = 6
    EDIT = 7
    GAP = 8
    ARTIFACT = 9
    VERSION = 10
    LINEAGE = 11
    FILE = 12
    FACTS = 13
    OUTPUT = 14


class LinkKind(IntEnum):
    """Kinds of link in a project's signed graph."""

    GENESIS = 1
    EPOCH = 2
    LABEL = 3
    MEMBER_ADD = 4
    MEMBER_REMOVE = 5
    SAME_AS = 6
    TOMBSTONE = 7
    RESTORE = 8
    PUBLISH = 9
    UNPUBLISH = 10
    MOVE_OUT = 11
    MOVE_IN = 12


class CertKind(IntEnum):
    """Kinds of certificate."""

    USER = 1
    DEVICE = 2
    DEPOSIT = 3
    ROTATION = 4


class SlotKind(IntEnum):
    """Kinds of keyslot: whose secret, sealed to whom."""

    PAIR = 1  # a run's or an artifact's seed, to an epoch
    EPOCH = 2  # an epoch's seed, to a user
    PROJECT = 3  # naming key, dedup secret and chunker seed, to a user
    USER = 4  # a user's root, to a device
    PUBLIC = 5  # class secrets of a published subject, in clear


class Compression(IntEnum):
    """High four bits of a sealed frame's first word."""

    NONE = 0
    ZSTD = 1


class ColumnCode(IntEnum):
    """How the values of one column stand in a COLUMNS frame."""

    FLOAT64 = 1
    FLOAT32 = 2  # every value survives the narrowing, bit by bit
    INT = 3  # zigzag varints of differences
    BOOL = 4
    MIXED = 5  # one msgpack array
    CONSTANT = 6  # one msgpack value, the same in every row


class Protection(IntEnum):
    """How a secret file is locked."""

    PLAIN = 0
    ARGON2ID = 1
