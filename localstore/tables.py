"""Files of a home that hold nothing but tables of one name: `[remotes.NAME]`, `[watches.ID]` …"""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

from localstore.errors import BadSetting

if TYPE_CHECKING:
    from pathlib import Path


def read_tables(path: Path, kind: str, *, shown: str = "NAME") -> dict[str, object]:
    """The tables `[kind.…]` of a file by name, in their order; a file that is missing has none.

    Args:
        shown: what a name stands for, in an error.

    Raises:
        BadSetting: not TOML, or it holds something else.
    """
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSetting(f"{path}: {error}") from error
    tables = raw.pop(kind, {})
    if raw or not isinstance(tables, dict):
        raise BadSetting(f"{path}: want nothing but tables [{kind}.{shown}]")
    return tables
