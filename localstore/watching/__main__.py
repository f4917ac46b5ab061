"""`python -m localstore.watching --worker`: what the service runs for watched folders."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from localstore import settings
from localstore.watching.worker import main

if TYPE_CHECKING:
    from pathlib import Path


def _given(words: list[str]) -> tuple[Path, bool]:
    parser = argparse.ArgumentParser(prog="localstore.watching", description=__doc__)
    parser.add_argument("--home", help="the store's folder; default from the settings")
    parser.add_argument("--worker", action="store_true", help="leave when stdin ends")
    given = parser.parse_args(words)
    return settings.load({"home": given.home}).home_path, given.worker


if __name__ == "__main__":
    home, worker = _given(sys.argv[1:])
    sys.exit(main(home, worker=worker))
