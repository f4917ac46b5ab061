"""What a bucket's server said, as one of our errors: who must act, and what helps.

The library tells status and code in a text alone; the texts of this page were seen from real
servers. Never repeats a body, which may be a stranger's page.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from localstore.errors import RemoteError
from localstored.remotes.base import Busy, Full, Unreachable

if TYPE_CHECKING:
    from collections.abc import Callable

_STATUS: Final = re.compile(r"status code: (\d{3})")
_CODE: Final = re.compile(r"<Code>(\w{1,64})</Code>")
_KIND: Final = re.compile(r"HttpError \{\s*kind: (\w+)")
_BAD_RANGE: Final = re.compile(r"status code: 416|Wanted range starting at")
_NO_CREDENTIALS: Final = re.compile(
    r"169\.254\.|metadata\.google|metadata server|[Cc]redential|OAuth|service account", re.ASCII
)
# Names that people chose: a bucket may be called "certificates".
_NAMES: Final = re.compile(
    r'https?://(?!169\.254\.|metadata\.)\S+|path: "[^"]*"|(?:path|location) \S+'
)
_NO_BUCKET: Final = frozenset({"NoSuchBucket", "ContainerNotFound"})
_REFUSED: Final = frozenset(
    {"ExpiredToken", "TokenRefreshRequired", "InvalidToken", "InvalidAccessKeyId",
     "SignatureDoesNotMatch", "AccountProblem", "AllAccessDisabled", "AuthenticationFailed"}
)  # fmt: skip
_ELSEWHERE: Final = frozenset(
    {"AuthorizationHeaderMalformed", "PermanentRedirect", "IllegalLocationConstraintException"}
)
_FULL: Final = frozenset({"QuotaExceeded", "QuotaExceededException", "XMinioStorageFull"})
_PASSING: Final = frozenset({"RequestTimeout", "BadDigest", "IncompleteBody"})
_SLOWER_S: Final = 1.0  # who asks to slow down gets a pause, also where it does not say how long

_CREDENTIALS_HINT: Final = (
    "`localstore remote add --credentials` says which credentials are used; they must be allowed "
    "to list, read, write and delete there"
)
_WHY_NOT: Final = {
    "ConnectionRefused": ": connection refused",
    "dns error": ": nobody knows a host of this name",
    "TimedOut": ": no answer in time",
    "timed out": ": no answer in time",
    "HostUnreachable": ": no way to this host",
    "NetworkUnreachable": ": no network",
    "ConnectionReset": ": the connection was reset",
}
_CLOCK_HINT: Final = "set this machine's clock: the server refuses requests that are minutes off"
_BUCKET_HINT: Final = "make the bucket, or correct the url of the remote"
_REGION_HINT: Final = "name the bucket's region or endpoint: `localstore remote add --region`"
_CA_HINT: Final = (
    "a private authority is named with `localstore remote add --ca-file`, or by SSL_CERT_FILE"
)


def is_bad_range(text: str) -> bool:
    """Whether a range was asked for that begins at or after the end."""
    return _BAD_RANGE.search(text) is not None


def is_whole_instead_of_range(text: str) -> bool:
    """Whether a server answered a range with status 200, which the library refuses."""
    return "NotPartial" in text


def tells_no_reason(text: str) -> bool:
    """Whether a refusal came without a body, as the answer to a HEAD does."""
    status = _STATUS.search(text)
    return bool(status and 300 <= int(status[1]) < 500 and not _CODE.search(text))


def names_no_bucket(text: str) -> bool:
    """Whether it is the bucket, not the key, that is not there."""
    code = _CODE.search(text)
    return bool(code and code[1] in _NO_BUCKET) or "container does not exist" in text


def trouble(where: str, error: Exception) -> RemoteError:
    """Our error for what the library raised.

    Args:
        where: the bucket's url, without secrets.
    """
    text = _NAMES.sub("", str(error))
    if isinstance(error, TimeoutError):
        return Busy(f"{where} does not answer in time")
    status = _STATUS.search(text)
    if status is None:
        return _without_status(where, text)
    return _of_status(where, int(status[1]), text)


def _of_status(where: str, status: int, text: str) -> RemoteError:
    found = _CODE.search(text)
    code = found[1] if found else ""
    said = f"{where} answers {status}{' ' + code if code else ''}"
    for fits, make in _TABLE:
        if fits(status, code):
            return make(said)
    return RemoteError(said)


def _permanent(hint: str) -> Callable[[str], RemoteError]:
    return lambda said: Unreachable(said, hint=hint, permanent=True)


# The first row that fits counts.
_TABLE: Final[tuple[tuple[Callable[[int, str], bool], Callable[[str], RemoteError]], ...]] = (
    (lambda _, code: code == "RequestTimeTooSkewed", _permanent(_CLOCK_HINT)),
    (lambda status, code: status == 507 or code in _FULL, Full),
    (
        lambda status, code: status == 429 or code == "SlowDown",
        lambda said: Busy(said, retry_after_s=_SLOWER_S),
    ),
    (lambda _, code: code in _PASSING, Busy),
    (lambda _, code: code in _ELSEWHERE, _permanent(_REGION_HINT)),
    (lambda status, _: 300 <= status < 400, _permanent(_REGION_HINT)),
    (lambda status, code: status in (401, 403) or code in _REFUSED, _permanent(_CREDENTIALS_HINT)),
    (lambda status, _: status == 404, _permanent(_BUCKET_HINT)),
    (lambda status, _: status == 407, _permanent("the proxy wants a name and a password")),
    (lambda status, _: status in (408, 409, 425), Busy),
    (lambda status, _: status == 501, RemoteError),
    (lambda status, _: status >= 500, Busy),
)


def _without_status(where: str, text: str) -> RemoteError:
    kind = _KIND.search(text)
    word = kind[1] if kind else ""
    if "certificate" in text.lower():
        return Unreachable(
            f"{where} shows a certificate that nobody here vouches for",
            hint=_CA_HINT,
            permanent=True,
        )
    if _NO_CREDENTIALS.search(text.partition("Debug source")[0]):
        return Unreachable(f"no credentials for {where}", hint=_CREDENTIALS_HINT, permanent=True)
    if word == "Connect":
        why = next((why for sign, why in _WHY_NOT.items() if sign in text), "")
        return Unreachable(f"{where} cannot be reached{why}")
    if word and "Parse(" not in text:
        return Busy(f"{where} broke off")
    return Unreachable(f"{where} answers, but not as a bucket does")
