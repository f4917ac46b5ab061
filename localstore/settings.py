"""Settings: flag > LOCALSTORE_* > project file > user file > default.

The only module that reads the environment. A setting is one row of `SETTINGS`; unknown keys in a
file and values of a wrong kind are errors that name the file.
"""

from __future__ import annotations

import math
import os
import re
import stat
import tomllib
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from localstore.errors import BadSetting, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

PROJECT_FILE: Final = "localstore.toml"
MODES: Final = ("offline", "disabled")
RESUMES: Final = ("never", "allow", "must", "auto")
CODE_LEVELS: Final = ("off", "sha", "diff", "main", "all")  # each keeps what those before it keep
HOST_NAMES: Final = ("local", "share", "off")
CHUNKING: Final = ("cdc", "fixed")
DEFAULT_VARIABLES: Final = (
    "CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES",
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "PYTHONHASHSEED", "CUBLAS_WORKSPACE_CONFIG",
    "WORLD_SIZE", "RANK", "LOCAL_RANK", "NCCL_DEBUG", "CONDA_DEFAULT_ENV",
)  # fmt: skip
_JOB_VARIABLES: Final = (
    "SLURM_*", "KUBERNETES_SERVICE_HOST", "POD_NAME*", "PBS_JOBID", "LSB_JOBID",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its kind, default, allowed words and help."""

    kind: type
    default: Any
    help: str
    words: tuple[str, ...] = ()
    hint: str = ""
    in_files: bool = True

    def parse(self, raw: object, where: str) -> Any:
        """The value, of this setting's kind.

        Raises:
            BadSetting: not of its kind, or not one of its words.
        """
        value = _from_text(raw, self.kind) if isinstance(raw, str) else raw
        if self.kind is float and type(value) is int:
            value = float(value)
        if self.kind is tuple and isinstance(value, list):
            value = tuple(value)
        absurd = isinstance(value, float) and not 0 <= value < math.inf
        if type(value) is not self.kind or absurd:
            raise BadSetting(f"{where} is {raw!r}, want {_KINDS[self.kind]}")
        if self.words and value not in self.words:
            known = ", ".join(word for word in self.words if word)
            raise BadSetting(f"{where} is {raw!r}, want one of {known}", hint=self.hint)
        return value


_KINDS: Final = {
    str: "a text",
    int: "a whole number",
    float: "a number, not negative",
    bool: "true or false",
    tuple: "a list of texts",
}


def _from_text(raw: str, kind: type) -> object:
    try:
        if kind is bool:
            return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[
                raw.strip().lower()
            ]
        if kind is tuple:
            return tuple(part.strip() for part in raw.split(",") if part.strip())
        return kind(raw)
    except (ValueError, KeyError):
        return raw


_NO_ONLINE: Final = (
    "runs are recorded on this machine and nowhere else; `localstore sync now` carries them later"
)
SETTINGS: Final[dict[str, Setting]] = {
    "home": Setting(str, "", "folder of the store", in_files=False),
    "project": Setting(str, "uncategorized", "project of new runs"),
    "entity": Setting(str, "", "person or team of new runs; empty: yourself"),
    "mode": Setting(str, "offline", "record, or do nothing at all", MODES, _NO_ONLINE),
    "resume": Setting(str, "", "what to do with a run id that exists", ("", *RESUMES)),
    "run_id": Setting(str, "", "id of the run", in_files=False),
    "run_name": Setting(str, "", "name of the run", in_files=False),
    "run_group": Setting(str, "", "group of the run"),
    "job_type": Setting(str, "", "job type of the run"),
    "tags": Setting(tuple, (), "tags of new runs"),
    "notes": Setting(str, "", "notes of the run", in_files=False),
    "username": Setting(str, "", "name of your personal entity; empty: the account's name"),
    "key_storage": Setting(
        str, "auto", "where a new key is put", ("auto", "keyring", "file"), in_files=True
    ),
    "passphrase": Setting(str, "", "opens a protected key; prefer the file", in_files=False),
    "passphrase_file": Setting(str, "", "file whose first line opens a protected key"),
    "quiet": Setting(bool, False, "print nothing but warnings"),
    "tail_dir": Setting(str, "", "node-local folder for live tails, for a home on NFS or Lustre"),
    "trash_days": Setting(float, 7.0, "days that a deleted run stays in the trash"),
    "heartbeat_s": Setting(float, 30.0, "seconds between signed heads of a live run"),
    "code_saving": Setting(
        str, "sha", "what of the code is kept; a script can lower it, never raise it", CODE_LEVELS
    ),
    "code_untracked": Setting(
        bool, False, "with diff and above: also files that git neither tracks nor ignores"
    ),
    "console": Setting(bool, True, "record what the program prints"),
    "console_max_mb": Setting(float, 64.0, "most that is recorded of a process's output, MB"),
    "system_metrics": Setting(bool, True, "sample CPU, memory, disk, network and GPUs"),
    "system_interval_s": Setting(float, 10.0, "seconds between samples of the machine"),
    "environment": Setting(bool, True, "record Python, hardware, command line and requirements"),
    "environment_variables": Setting(
        tuple, DEFAULT_VARIABLES, "environment variables that are recorded; * stands for any text"
    ),
    "host_names": Setting(
        str, "local", "host and user name: recorded and never synced, synced, or not", HOST_NAMES
    ),
    "every_rank": Setting(
        bool, False, "console and system metrics from every rank, not from one a node"
    ),
    "media_max_items": Setting(int, 108, "most images, sounds … that one log() takes of a key"),
    "media_max_mb": Setting(float, 256.0, "largest single image, sound …, MB"),
    "rerun_of": Setting(str, "", "path of the run that this one repeats", in_files=False),
    "chunking": Setting(
        str, "cdc", "how files are cut: by content, or at 4 MiB so that sizes tell less", CHUNKING
    ),
    "store_cap": Setting(
        str, "", "most that the store may take, as `200 GiB`; the service prunes what remotes have"
    ),
}


_taken: dict[str, str] = {}


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting's value, and where it came from."""

    values: Mapping[str, Any]
    origins: Mapping[str, str]

    def __getattr__(self, name: str) -> Any:
        try:
            return self.values[name]
        except KeyError:
            raise AttributeError(name) from None

    @property
    def home_path(self) -> Path:
        """The home: the setting, else the platform's data folder."""
        if self.values["home"]:
            return Path(self.values["home"]).expanduser().absolute()
        import platformdirs

        return Path(platformdirs.user_data_dir("localstore", appauthor=False))


def load(flags: Mapping[str, Any] | None = None, *, folder: Path | None = None) -> Settings:
    """Read all sources of settings.

    Args:
        flags: what the caller was given; None values do not count.
        folder: where the search for `localstore.toml` starts, upwards; default the working folder.

    Raises:
        BadSetting: an unknown or malformed setting, with its place.
    """
    values: dict[str, Any] = {name: setting.default for name, setting in SETTINGS.items()}
    origins = dict.fromkeys(SETTINGS, "default")
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    home_setting = given.get("home") or os.environ.get("LOCALSTORE_HOME", "")
    home = Settings({"home": str(home_setting)}, {}).home_path
    for path in (home / "config.toml", find_project_file(folder or working_folder())):
        if path is not None and path.is_file():
            for name, value in read_file(path).items():
                values[name], origins[name] = value, str(path)
    for name, setting in SETTINGS.items():
        variable = f"LOCALSTORE_{name.upper()}"
        raw = os.environ.get(variable)
        if raw is not None and raw != "":
            # A secret is only taken where it is used: a run keeps its settings.
            value = "(hidden)" if name == "passphrase" else setting.parse(raw, variable)
            values[name], origins[name] = value, variable
    for name, value in given.items():
        values[name] = SETTINGS[name].parse(value, f"the argument {name}")
        origins[name] = "argument"
    return Settings(values, origins)


_BYTES: Final = {
    "B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40,
}  # fmt: skip


def byte_size(text: str) -> int:
    """Bytes in a text such as `200 GiB` or `1.5 TB`.

    Raises:
        BadSetting: it is none; a bare number is none either, for nobody agrees on its unit.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]+)\s*", text)
    if found is None or found[2] not in _BYTES:
        raise BadSetting(f"{text!r} is no size, want one such as 200 GiB or 500 MB")
    count = float(found[1]) * _BYTES[found[2]]
    if not 0 < count < 2**63:
        raise BadSetting(f"{text!r} is no size that a store can have")
    return int(count)


def working_folder() -> Path:
    """The working folder, or the root where it was removed under this process."""
    try:
        return Path.cwd()
    except FileNotFoundError:  # removed under this process
        return Path("/")


def find_project_file(start: Path) -> Path | None:
    """The nearest `localstore.toml` from `start` upwards, not beyond a git root."""
    for folder in (start, *start.parents):
        if (folder / PROJECT_FILE).is_file():
            return folder / PROJECT_FILE
        if (folder / ".git").exists():
            return None
    return None


def read_file(path: Path) -> dict[str, Any]:
    """The settings of one TOML file.

    Raises:
        BadSetting: not TOML, or a key or value that is none of ours.
    """
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise BadSetting(f"{path}: {error}") from error
    for name in raw:
        if name not in SETTINGS or not SETTINGS[name].in_files:
            known = ", ".join(n for n, s in SETTINGS.items() if s.in_files)
            problem = f"{path}: unknown setting {name!r}, want one of {known}"
            raise BadSetting(problem, hint=nearest(name))
    return {name: SETTINGS[name].parse(value, f"{path}: {name}") for name, value in raw.items()}


def nearest(name: str) -> str:
    """A question about the setting that was meant; empty when none is near."""
    from difflib import get_close_matches

    known = [one for one, setting in SETTINGS.items() if setting.in_files]
    near = get_close_matches(name, known, n=1)
    return f"did you mean {near[0]!r}?" if near else ""


def take_secret_variable(name: str) -> str:
    """A secret from the environment, which then forgets it, so that no child or record has it.

    This process remembers it: it may have to open its key more than once.
    """
    variable = f"LOCALSTORE_{name.upper()}"
    if variable in os.environ:
        _taken[variable] = os.environ.pop(variable)
    return _taken.get(variable, "")


def credentials_folder() -> Path | None:
    """Where systemd put credentials for this service."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(folder) if folder else None


def runtime_places() -> list[Path]:
    """Folders where a control socket of this account may lie, the first of them ours to use.

    systemd's own folder of a service, then the session's, then one below `/tmp`; last that of the
    system unit, where only that unit makes sockets.
    """
    user = os.getuid()
    given = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]
    session = os.environ.get("XDG_RUNTIME_DIR", "")
    own = Path(f"/run/user/{user}")
    places = [Path(given)] if given else []
    places += [Path(session) / "localstore"] if session else []
    places += [own / "localstore"] if _is_ours(own) else []
    # Anybody can make this one first: `runtime_folder` and clients check whose it is.
    shared = Path(f"/tmp/localstore-{user}")  # noqa: S108
    places += [shared, Path("/run/localstore") / account_name()]
    return list(dict.fromkeys(places))


def runtime_folder() -> Path:
    """The folder of this account's control sockets, made if it is not there.

    Raises:
        StoreError: it cannot be made, is not ours, or others may enter it.
    """
    folder = runtime_places()[0]
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = folder.lstat()
    except OSError as problem:
        raise StoreError(f"{folder} cannot be made: {problem.strerror}") from problem
    if not stat.S_ISDIR(facts.st_mode) or facts.st_uid != os.getuid() or facts.st_mode & 0o077:
        hint = "remove it, or set XDG_RUNTIME_DIR to a folder of your own"
        raise StoreError(f"{folder} is not a folder of ours alone", hint=hint)
    return folder


def _is_ours(folder: Path) -> bool:
    try:
        return folder.stat().st_uid == os.getuid()
    except OSError:
        return False


@dataclass(frozen=True, slots=True)
class Transport:
    """What the usual variables say of the way to the network; empty where they say nothing."""

    https_proxy: str
    http_proxy: str
    no_proxy: str
    ca_file: str


def transport() -> Transport:
    """HTTPS_PROXY, http_proxy, NO_PROXY and SSL_CERT_FILE, as other programs read them."""

    def first(*names: str) -> str:
        return next((os.environ[name] for name in names if os.environ.get(name)), "")

    return Transport(
        https_proxy=first("HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"),
        # Upper case is a header of requests in CGI programs: nobody else reads it either.
        http_proxy=first("http_proxy", "ALL_PROXY", "all_proxy"),
        no_proxy=first("NO_PROXY", "no_proxy"),
        ca_file=first("SSL_CERT_FILE"),
    )


def aws_profile() -> tuple[Path, str]:
    """The file in which AWS's own tools keep access keys, and the profile that counts in it."""
    named = os.environ.get("AWS_SHARED_CREDENTIALS_FILE")
    path = Path(named) if named else Path.home() / ".aws" / "credentials"
    return path, os.environ.get("AWS_PROFILE") or "default"


def has_variable(name: str) -> bool:
    """Whether the environment sets a variable that is not ours."""
    return bool(os.environ.get(name))


def default_home() -> Path:
    """The home where nobody chose one: the platform's data folder."""
    return Settings({"home": ""}, {}).home_path


def user_config_folder() -> Path:
    """Where programs of this account look for their configuration."""
    given = os.environ.get("XDG_CONFIG_HOME", "")
    return Path(given) if given.startswith("/") else Path.home() / ".config"


def session_bus() -> bool:
    """Whether a desktop session's bus is there, without which no Linux keyring answers."""
    return bool(os.environ.get("DBUS_SESSION_BUS_ADDRESS"))


def account_name() -> str:
    """The name of the account, for a first personal entity."""
    for variable in ("LOGNAME", "USER", "USERNAME"):
        if os.environ.get(variable):
            return os.environ[variable]
    return "me"


def environment_variables(names: Iterable[str]) -> dict[str, str]:
    """The variables of the environment that fit one of these names, in which * is any text.

    Our own are never among them: they may open a key.
    """
    patterns = tuple(names)
    return {
        name: value
        for name, value in sorted(os.environ.items())
        if not name.startswith("LOCALSTORE_")
        and any(fnmatchcase(name, pattern) for pattern in patterns)
    }


def job_variables() -> dict[str, str]:
    """What a scheduler told this process of its job."""
    return environment_variables(_JOB_VARIABLES)


@dataclass(frozen=True, slots=True)
class JobRank:
    """Which of a job's processes this one is."""

    rank: int
    local_rank: int
    world_size: int


def job_rank() -> JobRank:
    """Rank facts from torchrun, SLURM or MPI; a single process is rank 0 of 1."""

    def first(*names: str) -> int | None:
        for name in names:
            text = os.environ.get(name, "")
            if text.isdigit():
                return int(text)
        return None

    rank = first("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK") or 0
    local = first("LOCAL_RANK", "SLURM_LOCALID", "OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID")
    size = first("WORLD_SIZE", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE") or 1
    return JobRank(rank, rank if local is None else local, size)


@dataclass(frozen=True, slots=True)
class ServiceEnvironment:
    """What a service manager told this process.

    Attributes:
        notify_socket: where it listens; empty: nowhere.
        watchdog_us: how long it waits for a sign of life, µs; 0: for ever.
        to_journal: whether stderr is systemd's journal.
    """

    notify_socket: str = ""
    watchdog_us: int = 0
    to_journal: bool = False


def service_environment() -> ServiceEnvironment:
    """What a service manager told this process, as far as it means this one."""
    watchdog, pid = (os.environ.get(name, "") for name in ("WATCHDOG_USEC", "WATCHDOG_PID"))
    meant = not pid or pid == str(os.getpid())
    return ServiceEnvironment(
        notify_socket=os.environ.get("NOTIFY_SOCKET", ""),
        watchdog_us=int(watchdog) if watchdog.isdigit() and meant else 0,
        to_journal=_is_journal(os.environ.get("JOURNAL_STREAM", "")),
    )


def _is_journal(stream: str) -> bool:
    """Whether stderr is the stream of the journal, by its device and inode."""
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return stream == f"{status.st_dev}:{status.st_ino}"


_NOT_FOR_CHILDREN: Final = (
    "LOCALSTORE_PASSPHRASE", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "JOURNAL_STREAM",
)  # fmt: skip


def child_environment(home: Path) -> dict[str, str]:
    """The environment for a process of ours: this one's, without secrets and the manager's."""
    kept = {name: value for name, value in os.environ.items() if name not in _NOT_FOR_CHILDREN}
    return {**kept, "LOCALSTORE_HOME": str(home)}
