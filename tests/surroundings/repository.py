"""Real git repositories in a test's folder."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class Repository:
    """A working tree, and git run in it with no configuration but its own."""

    def __init__(self, root: Path, *words: str) -> None:
        self.root = root
        root.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", "main", *words)

    def git(self, *words: str) -> str:
        """Run git; a failure fails the test."""
        done = subprocess.run(
            ["git", *words], cwd=self.root, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def write(self, path: str, content: str | bytes) -> Path:
        """Put a file into the working tree."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content.encode() if isinstance(content, str) else content)
        return target

    def commit(self, **files: str) -> str:
        """Commit everything, after writing files (`name` becomes `name.py`); returns the commit."""
        for name, content in files.items():
            self.write(f"{name}.py", content)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", "change")
        return self.git("rev-parse", "HEAD")
