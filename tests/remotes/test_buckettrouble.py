"""What a library's texts are made of: who must act, and nothing that a stranger wrote."""

from __future__ import annotations

import pytest

from localstore.errors import RemoteError
from localstored.remotes.base import Busy, Full, Unreachable
from localstored.remotes.buckettrouble import trouble

STATUS = """Generic S3 error: Error performing {verb} {uri} in 2.6ms - \
Server returned non-2xx status code: {status} Something: {body}

Debug source:
Generic {{
    store: "S3",
    source: RetryError(
        RetryErrorImpl {{
            uri: Some(
                {uri},
            ),
            inner: Status {{ status: {status} }},
        }},
    ),
}}"""
BROKEN = """Generic S3 error: Error performing GET {uri} in 1ms - HTTP error: error sending request

Debug source:
Generic {{
    store: "S3",
    source: RetryError(
        RetryErrorImpl {{
            uri: Some(
                {uri},
            ),
            inner: Http(
                HttpError {{
                    kind: {kind},
                    source: {source},
                }},
            ),
        }},
    ),
}}"""
URI = "https://host.example/my-certificates/credential-store/projects/x"
WHERE = "s3://my-certificates/credential-store"


def of_status(status: int, code: str = "", body: str = "") -> RemoteError:
    body = body or (f"<Error><Code>{code}</Code></Error>" if code else "")
    return trouble(WHERE, OSError(STATUS.format(verb="PUT", uri=URI, status=status, body=body)))


def broken(kind: str, source: str = "reqwest::Error") -> RemoteError:
    return trouble(WHERE, OSError(BROKEN.format(uri=URI, kind=kind, source=source)))


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (500, "InternalError"), (502, ""), (503, ""), (504, ""), (408, ""),
        (409, "OperationAborted"), (425, ""), (400, "RequestTimeout"),
        (400, "BadDigest"), (400, "IncompleteBody"),
    ],
)  # fmt: skip
def test_what_passes_by_itself_is_busy(status: int, code: str) -> None:
    found = of_status(status, code)
    assert isinstance(found, Busy)
    assert found.retry_after_s is None


@pytest.mark.parametrize(("status", "code"), [(503, "SlowDown"), (429, ""), (400, "SlowDown")])
def test_who_asks_to_slow_down_gets_a_pause(status: int, code: str) -> None:
    found = of_status(status, code)
    assert isinstance(found, Busy)
    assert found.retry_after_s == 1.0


@pytest.mark.parametrize(
    ("status", "code", "hint"),
    [
        (401, "", "credentials"), (403, "", "credentials"), (403, "AccessDenied", "credentials"),
        (400, "ExpiredToken", "credentials"), (403, "RequestTimeTooSkewed", "clock"),
        (404, "NoSuchBucket", "bucket"), (404, "", "bucket"), (301, "", "region"),
        (307, "TemporaryRedirect", "region"), (400, "AuthorizationHeaderMalformed", "region"),
        (407, "", "proxy"),
    ],
)  # fmt: skip
def test_what_a_person_must_mend_is_permanent_and_says_how(
    status: int, code: str, hint: str
) -> None:
    found = of_status(status, code)
    assert isinstance(found, Unreachable)
    assert found.permanent
    assert hint in found.hint


@pytest.mark.parametrize(("status", "code"), [(507, ""), (403, "QuotaExceeded")])
def test_a_full_place_is_full(status: int, code: str) -> None:
    assert isinstance(of_status(status, code), Full)


def test_what_is_declined_is_nothing_of_these() -> None:
    for found in (of_status(501, "NotImplemented"), of_status(400, "InvalidArgument")):
        assert type(found) is RemoteError


@pytest.mark.parametrize("kind", ["Interrupted", "Timeout", "Request", "Body"])
def test_a_connection_that_breaks_is_busy(kind: str) -> None:
    assert isinstance(broken(kind, "hyper::Error(IncompleteMessage)"), Busy)


def test_nobody_there_may_pass() -> None:
    found = broken("Connect", "ConnectError(ConnectionRefused)")
    assert isinstance(found, Unreachable)
    assert not found.permanent


def test_a_name_that_a_person_chose_decides_nothing() -> None:
    """The bucket is called my-certificates and its prefix credential-store."""
    assert not getattr(broken("Connect"), "permanent", False)
    assert isinstance(broken("Interrupted"), Busy)


def test_an_unknown_authority_is_permanent() -> None:
    found = broken("Connect", "Custom { error: InvalidCertificate(UnknownIssuer) }")
    assert isinstance(found, Unreachable)
    assert found.permanent
    assert "--ca-file" in found.hint


def test_a_machine_without_a_role_has_no_credentials() -> None:
    text = "Generic S3 error: Error performing PUT http://169.254.169.254/latest in 1s - HTTP error"
    found = trouble(WHERE, OSError(text))
    assert isinstance(found, Unreachable)
    assert found.permanent
    assert "no credentials" in str(found)


def test_a_strangers_page_is_not_repeated() -> None:
    page = "<html>\x1b[31mpay here</html>" * 1000
    for status in (200, 403, 500, 302):
        found = of_status(status, body=page)
        assert "pay here" not in str(found) + found.hint
        assert len(str(found)) < 200
