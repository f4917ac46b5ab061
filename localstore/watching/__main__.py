"""`python -m localstore.watching --home HOME`: what the service runs for watched folders."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from localstore import settings
from localstore.watching.worker import main

if TYPE_CHECKING:
    from pathlib import Path


def _home(words: list[str]) -> Path:
    parser = argparse.ArgumentParser(prog="localstore.watching", description=__doc__)
    parser.add_argument("--home", help="the store's folder; default from the settings")
    given = parser.parse_args(words).home
    return settings.load({"home": given}).home_path


if __name__ == "__main__":
    sys.exit(main(_home(sys.argv[1:])))
