"""Where the command line finds the engine: entry points of the group `localstore.engine`.

`localstore` never imports the daemon's package by name; a training image may lack it.
"""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Final

from localstore.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

ENGINE_GROUP: Final = "localstore.engine"


def load_engine(name: str, *others: str) -> Callable[..., Any]:
    """A function of the engine: the first of these names that this installation has.

    Raises:
        NotFound: it has none of them.
    """
    for one in (name, *others):
        for point in entry_points(group=ENGINE_GROUP, name=one):
            found: Callable[..., Any] = point.load()
            return found
    raise NotFound(f"no sync engine that can {name!r} is installed", hint=INSTALL_HINT)


INSTALL_HINT: Final = "pip install 'localstore[daemon]'"
