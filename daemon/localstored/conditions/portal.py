"""Tells a captive portal from a remote that is away, where no network manager does.

A portal answers in the place of every server: with status 511 (RFC 6585, section 6), with a
redirect to its own host, or with a page where a store would speak XML. One small request without a
secret, without following where it leads.
"""

from __future__ import annotations

import ssl
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

    import httpx

TIMEOUT_S: Final = 5.0
_NETWORK_AUTHENTICATION_REQUIRED: Final = 511
_STORES: Final = ("x-amz-", "x-goog-", "x-ms-", "x-localstore-")  # headers of who we look for


class Reach(Enum):
    """What answered at the address of a remote."""

    OPEN = "open"
    PORTAL = "portal"
    DOWN = "down"


def probe(url: str, *, proxy: str | None = None, ca_file: Path | None = None) -> Reach:
    """Who answers at `url` (http or https).

    Args:
        proxy: URL of a proxy; None: none, whatever the environment says.
        ca_file: PEM certificates of a private authority.
    """
    import httpx

    context = ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
    try:
        with (
            httpx.Client(proxy=proxy, verify=context, timeout=TIMEOUT_S, trust_env=False) as client,
            client.stream("GET", url, follow_redirects=False) as answer,
        ):
            return Reach.PORTAL if _is_portal(answer) else Reach.OPEN
    except httpx.HTTPError as problem:
        # A portal that takes over https shows a certificate of its own.
        return Reach.PORTAL if _is_foreign_certificate(problem) else Reach.DOWN


def _is_portal(answer: httpx.Response) -> bool:
    if answer.status_code == _NETWORK_AUTHENTICATION_REQUIRED:
        return True
    if any(name.startswith(_STORES) for name in answer.headers):
        return False
    if answer.is_redirect:
        there = answer.next_request.url.host if answer.next_request else ""
        return bool(there) and there != answer.url.host
    is_page = answer.headers.get("content-type", "").lower().startswith("text/html")
    return is_page and answer.is_success


def _is_foreign_certificate(problem: BaseException) -> bool:
    cause: BaseException | None = problem
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return True
        cause = cause.__cause__ or cause.__context__
    return "CERTIFICATE_VERIFY_FAILED" in str(problem)
