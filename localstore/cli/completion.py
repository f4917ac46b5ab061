"""`localstore completion`: the script that a shell sources, and names that it completes.

A completion asks nobody for a passphrase, prints nothing and fails silently: it offers less then.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click
from click.shell_completion import get_completion_class

from localstore.errors import LocalStoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    Complete = Callable[[click.Context, click.Parameter, str], list[str]]

SHELLS = ("bash", "zsh", "fish")


@click.command()
@click.argument("shell", type=click.Choice(SHELLS), default="bash")
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the completion script of a shell; bash by default.

    \b
    For example, in ~/.bashrc:
      eval "$(localstore completion bash)"
    """
    made = get_completion_class(shell)
    if made is None:  # pragma: no cover - click knows all three
        raise click.BadParameter(f"no completion for {shell}")
    script = made(ctx.find_root().command, {}, "localstore", "_LOCALSTORE_COMPLETE")
    click.echo(script.source_template % script.source_vars())


# ------------------------------------------------------------------ names of this store
def _completes(names: Callable[[], Iterable[str]]) -> Complete:
    def complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
        home = ctx.find_root().params.get("home")
        if home is not None:  # click completes without calling the group that would set it
            os.environ["LOCALSTORE_HOME"] = os.fspath(home)
        try:
            return sorted({one for one in names() if one.startswith(incomplete)})
        except (LocalStoreError, OSError):
            return []

    return complete


def _remotes() -> Iterable[str]:
    from localstore.cli.context import home
    from localstore.remotes import read_remotes

    return read_remotes(home())


def _projects() -> Iterable[str]:
    """`digits` and `ada/digits`: both stand for a project."""
    from localstore.cli.context import project_names

    for name in project_names().values():
        yield name
        yield name.rpartition("/")[2]


def _runs() -> Iterable[str]:
    from localstore.cli.context import home_paths
    from localstore.query.api import Api
    from localstore.vault import Vault

    vault = Vault(home_paths())
    if not vault.exists or vault.protected():
        return []
    return [run.path.partition("/")[2] for run in Api().runs()]


complete_remote = _completes(_remotes)
complete_project = _completes(_projects)
complete_run = _completes(_runs)
