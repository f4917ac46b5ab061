"""`localstore completion`: the script that a shell sources to complete our commands."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

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
