"""Opens the bucket that a url names: the cloud, credentials, proxy and certificates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from localstore import settings
from localstore.remotes import bucket_and_prefix
from localstored.remotes.base import Unreachable
from localstored.remotes.credentials import credentials
from localstored.remotes.waiting import never

if TYPE_CHECKING:
    from collections.abc import Callable

    from localstore.remotes import RemoteEntry
    from localstored.remotes.bucketstore import BucketStore

_MAX_CA_BYTES: Final = 4 * 1024 * 1024


def open_bucket(entry: RemoteEntry, check: Callable[[], None] = never) -> BucketStore:
    """The keys below an entry's url; nothing is asked of the server yet.

    Raises:
        Unreachable: permanent; credentials or certificates are not where the entry says, or the
            library is not installed.
    """
    bucket, prefix = bucket_and_prefix(entry.url)
    try:
        from obstore.exceptions import BaseError

        from localstored.remotes.bucketstore import BucketStore
    except ImportError:
        hint = "install localstore[daemon]"
        raise Unreachable("no library for buckets here", hint=hint, permanent=True) from None
    words = dict(credentials(entry.scheme, entry.credentials))
    try:
        store = _store(entry, bucket, prefix, words)
    except (BaseError, ValueError) as error:
        # The library's text may quote what it could not parse: a key.
        hint = "see --endpoint, --region and --credentials of `localstore remote add`"
        problem = f"{entry.url} cannot be opened ({type(error).__name__})"
        raise Unreachable(problem, hint=hint, permanent=True) from None
    return BucketStore(store, entry.url, check=check)


def _store(entry: RemoteEntry, bucket: str, prefix: str, words: dict[str, Any]) -> Any:
    from obstore.store import AzureStore, GCSStore, S3Store

    from localstored.remotes.bucketstore import NO_RETRIES

    common: dict[str, Any] = {
        "prefix": prefix or None,
        "client_options": _client_options(entry),
        "retry_config": NO_RETRIES,
    }
    if entry.scheme == "s3":
        # One by one: the bulk request is what old servers lack.
        words |= {"disable_bulk_delete": True}
        words |= {"endpoint": entry.endpoint} if entry.endpoint else {}
        words |= {"region": entry.region} if entry.region else {}
        return S3Store(bucket, **words, **common)
    if entry.scheme == "gs":
        words |= {"base_url": entry.endpoint} if entry.endpoint else {}
        return GCSStore(bucket, **words, **common)
    words |= {"endpoint": entry.endpoint} if entry.endpoint else {}
    return AzureStore(bucket, **words, **common)


def _client_options(entry: RemoteEntry) -> dict[str, Any]:
    from localstored.remotes.bucketstore import CLIENT

    usual = settings.transport()
    plain = entry.endpoint.startswith("http://")
    options: dict[str, Any] = {**CLIENT, "user_agent": "localstore"}
    if plain:
        options["allow_http"] = True
    proxy = entry.proxy or (usual.http_proxy if plain else usual.https_proxy)
    if proxy:
        options["proxy_url"] = proxy
        if usual.no_proxy:
            options["proxy_excludes"] = usual.no_proxy
    certificates = entry.ca_file or usual.ca_file
    if certificates and not plain:
        options["root_certificate"] = _certificates(Path(certificates))
    return options


def _certificates(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_CA_BYTES)
    except OSError as error:
        problem = f"certificates {path} cannot be read: {error.strerror}"
    else:
        if b"-----BEGIN CERTIFICATE-----" in content:
            return content
        problem = f"{path} holds no certificate in PEM form"
    hint = "`--ca-file` or SSL_CERT_FILE names a file of certificates in PEM form"
    raise Unreachable(problem, hint=hint, permanent=True)
