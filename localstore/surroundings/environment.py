"""The machine and the job that a run is on: interpreter, system, hardware, scheduler, packages.

Reads files and asks the interpreter; starts no program and imports no library that the script has
not imported itself. The names of host and account are facts of their own, so that they can be kept
apart from all else. Variables of the environment come in as arguments.
"""

from __future__ import annotations

import contextlib
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from localstore.surroundings.git import utf8
from localstore.surroundings.masking import mask_arguments, mask_url, mask_variables

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

# What `job_facts` asks for; nothing else of the environment is looked at.
JOB_VARIABLES: Final = (
    "SLURM_JOB_ID",
    "SLURM_JOB_NAME",
    "SLURM_ARRAY_JOB_ID",
    "SLURM_ARRAY_TASK_ID",
    "SLURM_JOB_PARTITION",
    "SLURM_CLUSTER_NAME",
    "SLURM_JOB_NUM_NODES",
    "SLURM_NTASKS",
    "SLURM_PROCID",
    "SLURM_RESTART_COUNT",
    "KUBERNETES_SERVICE_HOST",
    "PBS_JOBID",
    "LSB_JOBID",
)
_FRAMEWORKS: Final = (
    *("torch", "torchvision", "tensorflow", "jax", "jaxlib", "numpy", "pandas", "sklearn"),
    *("transformers", "datasets", "accelerate", "lightning", "pytorch_lightning", "xgboost"),
    *("lightgbm", "deepspeed"),
)
_ARGUMENTS_LIMIT_CHARS: Final = 32 * 1024
_FILE_LIMIT_BYTES: Final = 1 << 20


def environment_facts(
    variables: Mapping[str, str],
    allowed: Mapping[str, str],
    *,
    arguments: Sequence[str] | None = None,
    folder: str = "",
    gpus: Callable[[], list[dict[str, Any]]] | None = None,
    root: Path = Path("/"),
) -> dict[str, Any]:
    """All but packages and names of people and machines, as plain values.

    Args:
        variables: those of `JOB_VARIABLES` that are set.
        allowed: the variables that the settings allow to record; their secrets are masked.
        arguments: the command line, from the interpreter on; default the one of this process.
        folder: the working folder as a path from the repository's root.
        gpus: lists the GPUs.
        root: where `/proc`, `/sys` and `/etc` are.
    """
    facts: dict[str, Any] = {
        "python": python_facts(),
        "system": system_facts(root),
        "hardware": hardware_facts(root),
        "command": command_line(sys.orig_argv if arguments is None else arguments),
        "folder": utf8(folder),
        "job": job_facts(variables, root),
        "container": container(root),
        "frameworks": framework_versions(sys.modules),
        "variables": {utf8(name): utf8(value) for name, value in mask_variables(allowed).items()},
    }
    if gpus is not None:
        facts["gpus"] = gpus()
    return {name: value for name, value in facts.items() if value}


def python_facts() -> dict[str, str]:
    """Version, implementation and the interpreter's name, without the folder it is in."""
    return {
        "version": platform.python_version(),
        "implementation": platform.python_implementation(),
        "executable": utf8(Path(sys.executable).name),
    }


def system_facts(root: Path = Path("/")) -> dict[str, str]:
    """Kernel, its release, the machine's architecture and the distribution."""
    told = os.uname()
    facts = {"os": told.sysname, "kernel": told.release, "architecture": told.machine}
    for line in _read(root / "etc/os-release").splitlines():
        name, _, value = line.partition("=")
        if name == "PRETTY_NAME":
            facts["distribution"] = value.strip("\"'")
    if sys.platform == "darwin":
        facts["distribution"] = f"macOS {platform.mac_ver()[0]}"
    return facts


def hardware_facts(root: Path = Path("/")) -> dict[str, Any]:
    """CPU model and counts, memory in bytes, and the limits of a container, where there are any.

    Returns:
        `cpu`, `cpu_count` (of the machine), `cpu_usable` (by this process), `memory_bytes`, and of
        a control group `cpu_limit` (cores) and `memory_limit_bytes`.
    """
    facts: dict[str, Any] = {"cpu": _cpu_model(root), "cpu_count": os.cpu_count()}
    if hasattr(os, "sched_getaffinity"):
        facts["cpu_usable"] = len(os.sched_getaffinity(0))
    with contextlib.suppress(ValueError, OSError):  # a system that does not tell
        facts["memory_bytes"] = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    facts |= _limits(root / "sys/fs/cgroup")
    return {name: value for name, value in facts.items() if value}


def _cpu_model(root: Path) -> str:
    for line in _read(root / "proc/cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "cpu model"):
            return value.strip()
    return platform.processor()


def _limits(group: Path) -> dict[str, Any]:
    """What a container may use (control groups, version 2)."""
    facts: dict[str, Any] = {}
    quota, _, period = _read(group / "cpu.max").strip().partition(" ")
    if quota.isdigit() and period.isdigit() and int(period):
        facts["cpu_limit"] = int(quota) / int(period)
    memory = _read(group / "memory.max").strip()
    if memory.isdigit():
        facts["memory_limit_bytes"] = int(memory)
    return facts


def command_line(arguments: Sequence[str]) -> list[str]:
    """The words of a command line, masked; the interpreter by its name, absurd lengths cut.

    Of `python -c CODE` the code is left out: it is code, which has settings of its own. The home
    folder, which tells the user's name, is `~`.
    """
    home = str(Path.home())
    words = [utf8(word).replace(f"{home}/", "~/") for word in arguments]
    if words:
        words[0] = words[0].rpartition("/")[2]
    if "-c" in words[1:]:
        at = words.index("-c", 1)
        before = words[1:at]
        if all(word.startswith("-") for word in before) and len(words) > at + 1:
            words[at + 1] = "…"
    masked: list[str] = []
    chars = 0
    for word in mask_arguments(words):
        chars += len(word)
        if chars > _ARGUMENTS_LIMIT_CHARS:
            return [*masked, "…"]
        masked.append(word)
    return masked


def job_facts(variables: Mapping[str, str], root: Path = Path("/")) -> dict[str, str]:
    """The scheduler's job: SLURM, PBS, LSF or Kubernetes; no names of nodes or of people."""
    facts = {
        name.lower(): utf8(variables[name])
        for name in JOB_VARIABLES
        if variables.get(name) and name != "KUBERNETES_SERVICE_HOST"
    }
    if variables.get("KUBERNETES_SERVICE_HOST"):
        secrets = root / "var/run/secrets/kubernetes.io/serviceaccount"
        facts["kubernetes_namespace"] = _read(secrets / "namespace").strip() or "unknown"
    return facts


def container(root: Path = Path("/")) -> str:
    """`docker`, `podman`, `kubernetes`, `apptainer` or `lxc`; empty outside of containers."""
    if (root / ".dockerenv").exists():
        return "docker"
    if (root / "run/.containerenv").exists():
        return "podman"
    if (root / ".singularity.d").exists():
        return "apptainer"
    groups = _read(root / "proc/1/cgroup")
    known = {"kubepods": "kubernetes", "docker": "docker", "libpod": "podman", "lxc": "lxc"}
    return next((name for word, name in known.items() if word in groups), "")


def framework_versions(modules: Mapping[str, Any]) -> dict[str, str]:
    """Versions of the libraries that are imported already; `cuda` as torch was built for."""
    facts: dict[str, str] = {}
    for name in _FRAMEWORKS:
        version = _attribute(modules.get(name), "__version__")
        if version:
            facts[name] = version
    cuda = _attribute(modules.get("torch.version"), "cuda")
    if cuda:
        facts["cuda"] = cuda
    return facts


def _attribute(module: Any, name: str) -> str:
    """A text of a module's namespace; runs no code of a lazy module."""
    namespace = getattr(module, "__dict__", None)
    value = namespace.get(name) if isinstance(namespace, dict) else None
    return str(value)[:100] if isinstance(value, str) else ""


def folder_in_repository(folder: Path) -> str:
    """The working folder as a path from its repository's root; its name alone outside of one."""
    resolved = folder.resolve()
    for root in (resolved, *resolved.parents):
        if (root / ".git").exists():
            return utf8(resolved.relative_to(root).as_posix())
    return utf8(resolved.name)


def host_facts(account: str) -> dict[str, str]:
    """The names of host and account: of a machine and a person, so kept apart."""
    return {"host": utf8(os.uname().nodename), "user": utf8(account)}


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(_FILE_LIMIT_BYTES).decode("utf-8", "replace")
    except OSError:
        return ""


# ------------------------------------------------------------------ packages
def requirements() -> list[str]:
    """The installed packages as `name==version`, or with the address that they came from, sorted.

    Reads one file of each package: about 100 ms for 200 packages.
    """
    found: dict[str, str] = {}
    for package in metadata.distributions():
        try:
            name, version = package.metadata["Name"], package.version
            origin = package.read_text("direct_url.json")
        except Exception:  # noqa: BLE001, S112  # a broken package is none that anybody uses
            continue
        if name:
            found.setdefault(_normal(name), _requirement(name, version, origin))
    return [found[name] for name in sorted(found)]


def _normal(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def _requirement(name: str, version: str, origin: str | None) -> str:
    import json

    plain = f"{utf8(name)}=={utf8(version or '0')}"
    if not origin:
        return plain
    try:
        told = json.loads(origin)
        url = mask_url(str(told["url"]))
        source = told.get("vcs_info")
        if source:
            return f"{name} @ {source['vcs']}+{url}@{source['commit_id']}"
        if told.get("dir_info", {}).get("editable"):
            return f"{plain}  # editable"
        return f"{plain}  # local" if url.startswith("file:") else f"{name} @ {url}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return plain


def requirements_text(packages: Sequence[str]) -> bytes:
    """The content of a requirements.txt."""
    return "".join(f"{package}\n" for package in packages).encode()
