"""Why a remote on the network does not answer: it itself, or a captive portal in its place."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from localstored.conditions.portal import Reach, probe
from localstored.remotes.base import Unreachable

if TYPE_CHECKING:
    from localstore.errors import LocalStoreError
    from localstore.remotes import RemoteEntry

_CLOUDS: Final = {"s3": "https://s3.amazonaws.com", "gs": "https://storage.googleapis.com"}


def looked_into(
    problem: LocalStoreError | OSError, entry: RemoteEntry
) -> LocalStoreError | OSError:
    """The same problem, or the captive portal that is behind it.

    A portal's own certificate, or its page, looks like a remote that only a person can mend; but
    after somebody has signed in all is well by itself, so it is to be tried again soon.
    """
    url = entry.endpoint or _CLOUDS.get(entry.scheme, "")
    # Behind a company's proxy there are no portals, and the remote's name may not even resolve.
    if not isinstance(problem, Unreachable) or not url or entry.proxy:
        return problem
    try:
        found = probe(url, ca_file=Path(entry.ca_file) if entry.ca_file else None)
    except (OSError, ValueError):
        return problem  # certificates that cannot be read: the remote's own problem says so
    if found is not Reach.PORTAL:
        return problem
    return Unreachable(
        "a captive portal answers in the place of the remote",
        hint="open any page in a browser and sign in",
        retry_after_s=problem.retry_after_s,
    )
