"""`localstore key`: show, protect, back up and recover the key of this home."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from localstore import settings
from localstore.cli import exit_status, terminal
from localstore.cli.context import home_paths
from localstore.cli.ls import iso
from localstore.cli.terminal import inert
from localstore.errors import KeyUnavailable, UsageError

if TYPE_CHECKING:
    from localstore.identity import Identity
    from localstore.vault import Vault

_MOST_CHARS: Final = 4096  # of a passphrase or a recovery code
_ABOUT_THE_CODE: Final = """\
The recovery code below IS your key: whoever has it reads everything of yours, and it stays valid.
Write it down, or keep it in a password manager; not beside the data, not in a chat or a repository.
Lose both this machine's key and the code, and your data are lost: nobody can open them again.
On another machine: localstore key recover"""
_AFTER_RECOVERY: Final = """\
Your key is here. Now bring your runs:
  localstore remote add NAME PATH
  localstore sync now"""


@click.group()
def key() -> None:
    """The key of this store: all data are sealed to it.

    Lose the key and its recovery code, and the data are lost: there is no other way in.
    """


@key.command(epilog=exit_status(0, 11, 77))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
def show(as_json: bool) -> None:
    """Show whose key this is and where it lies. Prints no secret."""
    from localstore.vault import Vault

    vault = Vault(home_paths())
    facts = _facts(vault.load(), vault)
    if as_json:
        terminal.say_json(facts)
        return
    tickets = facts.pop("tickets")
    rows = [[name.replace("_", " "), _fact(value)] for name, value in facts.items()]
    rows += [["ticket", f"{one['project']} until {one['not_after']}"] for one in tickets]
    click.echo(terminal.columns(rows))


def _fact(value: Any) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else inert(value)


def _facts(identity: Identity, vault: Vault) -> dict[str, Any]:
    return {
        **(_person(identity) if identity.is_member else {}),
        "secret": vault.place(),
        "protected": vault.protected(),
        "tickets": [
            {
                "project": f"{one.entity}/{one.name}",
                "device": _device(one.device_seed),
                "not_after": iso(one.not_after_us / 1e6),
            }
            for _, one in sorted(identity.deposits.items())
        ],
    }


def _person(identity: Identity) -> dict[str, Any]:
    return {
        "user": identity.user.hex(),
        "user_name": identity.user_name,
        "generation": identity.generation,
        "device": _device(identity.device_seed),
    }


def _device(seed: bytes) -> str:
    """What `localstore device ls` calls the device of this sign key."""
    from localstore.crypto import sign_public
    from localstore.rotation import device_id

    return device_id(sign_public(seed))


# ------------------------------------------------------------------ passphrase
@key.command(epilog=exit_status(0, 2, 11, 77), short_help="Set, change or remove a passphrase.")
@click.option("--remove", is_flag=True, help="Take the passphrase away.")
@click.option(
    "--passphrase-file", type=click.Path(path_type=Path), help="The first line of this file."
)
@click.option("--stdin", "from_stdin", is_flag=True, help="The first line of standard input.")
def protect(remove: bool, passphrase_file: Path | None, from_stdin: bool) -> None:
    """Put the key under a passphrase, or under another one, or under none.

    Asks twice, unless a file (mode 0600) or standard input gives the new passphrase. A key that
    is not protected yet also takes it from LOCALSTORE_PASSPHRASE_FILE, which later opens it.
    There is no way round a passphrase that is forgotten but the recovery code.
    """
    from localstore.vault import Vault

    if remove and (passphrase_file or from_stdin):
        raise UsageError("--remove takes no passphrase")
    vault = Vault(home_paths())
    identity = vault.load()
    if remove:
        vault.save(identity, "")
        terminal.note(f"no passphrase protects {vault.place()} any more")
        return
    vault.save(identity, _new_passphrase(vault, passphrase_file, from_stdin))
    terminal.note(f"a passphrase protects {vault.place()}; keep your recovery code, too")


def _new_passphrase(vault: Vault, file: Path | None, from_stdin: bool) -> str:
    found = _given_passphrase(vault, file, from_stdin)
    if found is None:
        if not terminal.can_ask():
            raise UsageError(
                "no passphrase, and nobody to ask", hint="give --passphrase-file or --stdin"
            )
        found = terminal.ask_secret("new passphrase: ")
        if terminal.ask_secret("again: ") != found:
            raise UsageError("the two passphrases differ; nothing was changed")
    if not found:
        raise UsageError("the passphrase is empty; nothing was changed")
    return found


def _given_passphrase(vault: Vault, file: Path | None, from_stdin: bool) -> str | None:
    from localstore.vault import read_private

    if from_stdin:
        return sys.stdin.readline(_MOST_CHARS).rstrip("\r\n")
    configured = settings.load().passphrase_file
    if file is None and configured and not vault.protected():
        file = Path(configured)
    if file is None:
        return None
    return read_private(file).decode("utf-8").split("\n", 1)[0]


# ------------------------------------------------------------------ moving to another machine
@key.command(
    "recovery-code", epilog=exit_status(0, 11, 77), short_help="Print the code to back up."
)
def recovery_code() -> None:
    """Print the recovery code: alone on stdout, what to know about it on stderr.

    \b
    To move your key over a connection that you trust:
      localstore key recovery-code | ssh other localstore key recover
    """
    from localstore import identity
    from localstore.vault import Vault

    code = identity.recovery_code(Vault(home_paths()).load())
    click.echo(_ABOUT_THE_CODE, err=True)
    click.echo(code)


@key.command(
    epilog=exit_status(0, 2, 11, 73), short_help="Bring your key here, by its recovery code."
)
def recover() -> None:
    """Put the key of a recovery code into a home that has none; reads the code from stdin."""
    from localstore.vault import recover as recover_into

    code = _read_code()
    made = recover_into(home_paths(), code, settings.load())
    terminal.note(f"user {made.user.hex()}, new device {_device(made.device_seed)}")
    click.echo(_AFTER_RECOVERY)


def _read_code() -> str:
    if terminal.can_ask():
        return terminal.ask_secret("recovery code: ")
    text = sys.stdin.read(_MOST_CHARS).strip()
    if not text:
        raise KeyUnavailable("no recovery code on standard input", hint="it begins with LS1-")
    return text
