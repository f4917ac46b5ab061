"""The texts that a service manager is given: systemd units and a launchd property list. Pure.

`systemd/` in the sources holds what these functions make with their defaults; a test compares.
"""

from __future__ import annotations

import plistlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

LAUNCHD_LABEL: Final = "localstored"
# What systemd says when the kernel refuses what a unit asks for: user, capabilities, namespaces.
SANDBOX_FAILURES: Final = frozenset({217, 218, 226})
_ANYWHERE: Final = "PATH=%h/.local/bin:/usr/local/bin:/usr/bin:/bin"
_FOR_ALL: Final = "PATH=/opt/localstore/bin:/usr/local/bin:/usr/bin:/bin"
_COMMAND: Final = ("/usr/bin/env", "localstored")

_SERVICE: Final = """\
Type=notify
NotifyAccess=main
{environment}
ExecStart={command}
ExecReload=/bin/kill -HUP $MAINPID
TimeoutStartSec=120
# The live loop gives a sign of life each half of it; without one the process is hung.
WatchdogSec=60
WatchdogSignal=SIGKILL
# A stop takes 5 s at most; whatever was under way is taken up again at its byte.
TimeoutStopSec=15
KillMode=mixed
Restart=on-failure
RestartSec=5
# 73: another instance serves this home. 78: a setting is wrong. Trying again mends neither.
RestartPreventExitStatus=73 78
RuntimeDirectory={runtime}
RuntimeDirectoryMode=0700
RuntimeDirectoryPreserve=yes

Nice=10
IOSchedulingClass=idle
OOMScoreAdjust=200
UMask=0077
LimitCORE=0

CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
PrivateDevices=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
LockPersonality=yes
MemoryDenyWriteExecute=yes
RemoveIPC=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallErrorNumber=EPERM
"""

_USER: Final = """\
# A user unit: `localstore daemon install`, or by hand: systemctl --user enable --now localstored
# Where the command lies elsewhere, or the home: systemctl --user edit localstored
# Where the kernel refuses namespaces to users it ends with 217, 218 or 226: put no-namespaces.conf
# into localstored.service.d/ beside it, as `localstore daemon install` does by itself.
[Unit]
Description=localstore: keep experiments in sync with their remotes
StartLimitIntervalSec=10min
StartLimitBurst=20

[Service]
{service}
# Without PrivateUsers= a user's manager cannot enforce what is above. Remotes may be any folder of
# yours, so your files stay writable; the system's are not.
PrivateUsers=yes
ProtectSystem=full

[Install]
WantedBy=default.target
"""

_SYSTEM: Final = """\
# A system unit for one account each: systemctl enable --now localstored@alice
# /opt/localstore is a virtual environment with localstore[daemon]; see docs/deploy/workstation.md.
[Unit]
Description=localstore: keep the experiments of %i in sync with their remotes
Wants=network-online.target
After=network-online.target remote-fs.target
StartLimitIntervalSec=10min
StartLimitBurst=20

[Service]
User=%i
{service}
# Optional: a key of the credential store, for watched folders; nothing else here needs one.
LoadCredential=localstore.identity
PrivateTmp=yes
ProtectSystem=strict
# Homes, and where disks and shares are mounted. Others: systemctl edit localstored@alice
ReadWritePaths=-/home -/root -/media -/mnt -/run/media -/srv -/var/lib/localstore

[Install]
WantedBy=multi-user.target
"""

NO_NAMESPACES: Final = """\
# For kernels that refuse namespaces to users. System calls and address families stay restricted.
[Service]
PrivateUsers=no
CapabilityBoundingSet=~
PrivateDevices=no
ProtectClock=no
ProtectControlGroups=no
ProtectHostname=no
ProtectKernelLogs=no
ProtectKernelModules=no
ProtectKernelTunables=no
ProtectProc=default
ProtectSystem=no
"""


def user_unit(
    command: Sequence[str] = _COMMAND, environment: Mapping[str, str] | None = None
) -> str:
    """The unit of a user's own manager.

    Args:
        command: what to start, absolute. environment: variables that it needs; None: a `PATH` in
            which people keep their commands.
    """
    lines = [_ANYWHERE] if environment is None else [f"{k}={v}" for k, v in environment.items()]
    service = _SERVICE.format(
        environment="\n".join(f"Environment={_quoted(line)}" for line in lines),
        command=" ".join(map(_quoted, command)),
        runtime="localstore",
    )
    if not lines:
        service = service.replace("NotifyAccess=main\n\n", "NotifyAccess=main\n")
    return _USER.format(service=service.rstrip("\n"))


def system_unit() -> str:
    """The template unit that an administrator installs."""
    service = _SERVICE.format(
        environment=f"Environment={_FOR_ALL}", command=" ".join(_COMMAND), runtime="localstore/%i"
    )
    return _SYSTEM.format(service=service.rstrip("\n"))


def _quoted(word: str) -> str:
    """A word as systemd reads it: `%` doubled, quotes where it has blanks or quotes."""
    if word in (*_COMMAND, _ANYWHERE):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    plain = not any(one.isspace() or one in "\"'\\;" for one in word)
    return escaped if plain else f'"{escaped}"'


def property_list(command: Sequence[str], environment: Mapping[str, str], log: Path) -> bytes:
    """The launch agent of macOS: started at login, started again when it fails."""
    return plistlib.dumps(
        {
            "Label": LAUNCHD_LABEL,
            "ProgramArguments": list(command),
            "EnvironmentVariables": dict(environment),
            "RunAtLoad": True,
            "KeepAlive": {"SuccessfulExit": False},
            "ThrottleInterval": 10,
            "ExitTimeOut": 15,
            "ProcessType": "Background",
            "LowPriorityIO": True,
            "Nice": 10,
            "Umask": 0o077,
            "StandardOutPath": str(log),
            "StandardErrorPath": str(log),
        }
    )
