"""Homes that exchange bundles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from localstore import crypto
from localstored.bundles.bundle import bundle_export, bundle_import
from localstored.bundles.carried import bundle_receipt, make_receipt
from tests.sync.makers import NOW_US, TAG

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from localstored.bundles.reports import ExportReport, FiledReport, ImportReport, ReceiptMade
    from tests.sync.makers import Project

Signer = tuple[bytes, bytes, "Callable[[bytes, bytes], bytes]"]


def no_sleep(seconds: float) -> None:
    """Tests do not wait."""


def signer(seed: bytes, cert: bytes) -> Signer:
    """A device, as the command line hands it over."""

    def sign(label: bytes, message: bytes) -> bytes:
        return crypto.sign(seed, label, message)

    return crypto.sign_public(seed), cert, sign


def device_of(project: Project, seed: bytes = b"", cert: bytes = b"") -> Signer:
    """A device of a project with its certificate; by default the one that made it."""
    path = project.paths.certs / (cert or project.cert).hex()
    return signer(seed or project.device_seed, path.read_bytes())


def export(home: Path, path: Path, **words: Any) -> ExportReport:
    """Export as the tests' clock has it."""
    return bundle_export(home, path, **{"clock": lambda: NOW_US, "sleep": no_sleep, **words})


def import_(home: Path, path: Path, **words: Any) -> ImportReport:
    """Import as the owner of the tests' key."""
    own = {"clock": lambda: NOW_US, "recipients": frozenset({TAG})}
    return bundle_import(home, path, **{**own, **words})


def acknowledge(home: Path, out: Path, **words: Any) -> ReceiptMade:
    """Make a receipt."""
    return make_receipt(home, out, **{"clock": lambda: NOW_US, **words})


def file_receipt(home: Path, path: Path, **words: Any) -> FiledReport:
    """File a receipt."""
    return bundle_receipt(home, path, **{"clock": lambda: NOW_US, **words})
