"""The command `localstore`: commands are loaded when they are named, errors end in one place."""

from __future__ import annotations

import io
import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NoReturn

import click

import localstore
from localstore.cli import terminal
from localstore.ending import run_program
from localstore.errors import LocalStoreError

if TYPE_CHECKING:
    from pathlib import Path

    from click.shell_completion import CompletionItem

# Name → where it is, and its line in `localstore --help`, which so imports none of them.
COMMANDS: Final = {
    "ls": ("localstore.cli.ls:ls", "List the runs of this store."),
    "show": ("localstore.cli.show:show", "Show one run, with small curves."),
    "logs": ("localstore.cli.logs:logs", "Print what a run's program printed."),
    "files": ("localstore.cli.files:files", "List a run's files, or write them out."),
    "export": ("localstore.cli.export:export", "Write histories as JSON lines or CSV."),
    "diff": ("localstore.cli.diff:diff", "Compare two runs: config, summary, environment, code."),
    "checkout": ("localstore.cli.checkout:checkout", "Rebuild a run's code, config and inputs."),
    "artifact": ("localstore.cli.artifact:artifact", "Keep files in versions: data, models."),
    "watch": ("localstore.cli.watch:watch", "Watch folders: files at rest become versions."),
    "rm": ("localstore.cli.rm:rm", "Delete runs, or take them out of the trash."),
    "sync": ("localstore.cli.sync:sync", "Bring this store and its remotes up to date."),
    "daemon": ("localstore.cli.daemon:daemon", "Run the service that syncs by itself."),
    "bundle": ("localstore.cli.bundle:bundle", "Carry data by hand: bundles and receipts."),
    "policy": ("localstore.cli.policy:policy", "Say what may leave, and by which rule."),
    "remote": ("localstore.cli.remote:remote", "Manage the places to sync with."),
    "notify": ("localstore.cli.notify:notify", "Tell of ended, crashed and silent runs."),
    "verify": ("localstore.cli.verify:verify", "Look at every byte of the store."),
    "repair": ("localstore.cli.repair:repair", "Take good bytes from a remote for damaged ones."),
    "prune": ("localstore.cli.prune:prune", "Free this disk of what a remote has."),
    "pull": ("localstore.cli.pull:pull", "Bring back what was pruned."),
    "gc": ("localstore.cli.gc:gc", "Free the space of what was deleted."),
    "du": ("localstore.cli.du:du", "Show what the store takes on this disk."),
    "key": ("localstore.cli.key:key", "Show, protect, back up and recover your key."),
    "project": ("localstore.cli.ticket:project", "Make tickets for machines that only write."),
    "enroll": ("localstore.cli.ticket:enroll", "Use a ticket on this machine."),
    "device": ("localstore.cli.device:device", "List and revoke your machines."),
    "config": ("localstore.cli.config:config", "Show and change settings."),
    "completion": ("localstore.cli.completion:completion", "Print a shell completion script."),
}

# The meaning of every exit code of this command line; scripts may rely on it.
EXIT_CODES: Final = {
    0: "done",
    1: "an error without a code of its own",
    2: "the command line is wrong, or nobody is there to answer a question",
    3: "the daemon does not run",
    11: "no key, or the wrong passphrase",
    20: "something is damaged; what is readable was printed",
    66: "no such run, project, remote or file",
    69: "a remote refused or did not answer",
    73: "what should be new is there already",
    74: "the disk refused",
    77: "not permitted: a deposit device, or a file with a wrong mode",
    78: "a setting breaks the rules",
    130: "interrupted",
    141: "the reader of the output went away",
}
_IO_ERROR: Final = 74
_INTERRUPTED: Final = 130
_BROKEN_PIPE: Final = 128 + 13  # what a shell reports for a process that SIGPIPE ended


def exit_status(*codes: int) -> str:
    """The EXIT STATUS section of a command's help; every code when none is named."""
    rows = [[str(code), EXIT_CODES[code]] for code in codes or EXIT_CODES]
    return "\b\nEXIT STATUS\n" + terminal.columns(rows, indent="  ")


class Commands(click.Group):
    """A group whose commands are imported when they are named, and the end of every error."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Names in the order of the table."""
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        """Import one command."""
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name][0].partition(":")
        found: click.Command = getattr(import_module(module), attribute)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command; one that is nearly right is named."""
        name = args[0] if args else ""
        if name and name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            meant = terminal.did_you_mean(name, COMMANDS)
            raise click.UsageError(f"no command {name!r}{meant}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands without importing any."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, help_) for name, (_, help_) in COMMANDS.items()])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete names of commands without importing any."""
        from click.shell_completion import CompletionItem

        named = [
            CompletionItem(name, help=help_)
            for name, (_, help_) in COMMANDS.items()
            if name.startswith(incomplete)
        ]
        return named + click.Command.shell_complete(self, ctx, incomplete)

    def main(self, *args: Any, **more: Any) -> Any:
        """Run, and turn what was raised into a message and an exit code; bugs keep their trace."""
        run: Any = super().main  # click's overloads know no *args
        if not more.pop("standalone_mode", True):
            return run(*args, standalone_mode=False, **more)
        _tolerate_any_text()
        try:
            code = run(*args, standalone_mode=False, **more)
            sys.stdout.flush()
        except click.Abort:
            # Ctrl-C, or the end of input where a person should have answered.
            _leave(_INTERRUPTED)
        except click.ClickException as problem:
            _usage(problem)
        except BrokenPipeError:
            _broken_pipe()
        except OSError as problem:
            terminal.error(_os_error(problem))
            _leave(_IO_ERROR)
        return _leave(code if isinstance(code, int) else 0)

    def invoke(self, ctx: click.Context) -> Any:
        """Stop errors of ours, and a broken pipe, before click sees them."""
        try:
            return super().invoke(ctx)
        except LocalStoreError as problem:
            terminal.error(problem, problem.hint)
            raise click.exceptions.Exit(problem.exit_code) from None
        except BrokenPipeError:
            _broken_pipe()


def _leave(code: int) -> NoReturn:
    sys.exit(code)


def _usage(problem: click.ClickException) -> NoReturn:
    context = getattr(problem, "ctx", None)
    if isinstance(problem, click.exceptions.NoArgsIsHelpError):
        problem.show()
    else:
        hint = f"`{context.command_path} --help` lists what it takes" if context else ""
        terminal.error(problem.format_message(), hint)
    _leave(problem.exit_code)


def _os_error(problem: OSError) -> str:
    what = problem.strerror or str(problem)
    return f"{problem.filename}: {what}" if problem.filename is not None else what


def _broken_pipe() -> NoReturn:
    """Leave quietly: what is still in a buffer goes nowhere instead of failing at the end."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    _leave(_BROKEN_PIPE)


def _tolerate_any_text() -> None:
    """A name that the terminal's encoding lacks is printed escaped, not a traceback."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


@click.group(
    cls=Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=exit_status(),
)
@click.option("--home", type=click.Path(), help="The store's folder; default LOCALSTORE_HOME.")
@click.option("-q", "--quiet", is_flag=True, help="Print data, warnings and errors only.")
@click.version_option(
    localstore.__version__, prog_name="localstore", message="%(prog)s %(version)s"
)
def main(home: str | Path | None, quiet: bool) -> None:
    """Private, offline-first experiment tracking: runs on this machine, encrypted."""
    # `settings` alone reads the environment; the command line speaks to it, and to the children
    # that a command may start, by setting the same variables that a person would.
    if home is not None:
        os.environ["LOCALSTORE_HOME"] = os.fspath(home)
    if quiet:
        os.environ["LOCALSTORE_QUIET"] = "1"


def program() -> None:
    """The program `localstore`."""
    run_program(main)
