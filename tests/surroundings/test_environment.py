"""The facts of machine, job and packages: no secret, no name of a host or a person."""

from __future__ import annotations

import getpass
import json
import os
import platform
import subprocess
import sys
import types
from pathlib import Path

import pytest

from localstore.reproduce.surroundings import command_text
from localstore.surroundings.environment import (
    command_line,
    container,
    environment_facts,
    folder_in_repository,
    framework_versions,
    hardware_facts,
    host_facts,
    job_facts,
    requirements,
    requirements_text,
    system_facts,
)


def write(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_the_facts_of_this_machine_are_plain_values() -> None:
    facts = environment_facts({}, {}, arguments=["python", "train.py"], folder="lab")
    assert json.loads(json.dumps(facts)) == facts
    assert facts["python"]["version"] == platform.python_version()
    assert facts["system"]["os"] == os.uname().sysname
    assert facts["hardware"]["cpu_count"] == os.cpu_count()
    assert facts["hardware"]["memory_bytes"] > 1 << 20
    assert (facts["command"], facts["folder"]) == (["python", "train.py"], "lab")


def test_host_and_account_are_told_apart_from_all_else() -> None:
    assert host_facts("ada") == {"host": os.uname().nodename, "user": "ada"}
    facts = json.dumps(environment_facts({"SLURM_JOB_ID": "1"}, {}, arguments=["python"]))
    assert f'"{getpass.getuser()}"' not in facts
    assert f'"{os.uname().nodename}"' not in facts


def test_only_the_allowed_variables_are_recorded_and_masked() -> None:
    allowed = {"CUDA_VISIBLE_DEVICES": "0", "HF_TOKEN": "abc", "EMPTY": ""}
    facts = environment_facts({"SLURM_JOB_USER": "ada", "SLURM_JOB_ID": "7"}, allowed)
    assert facts["variables"] == {
        "CUDA_VISIBLE_DEVICES": "0",
        "HF_TOKEN": "***MASKED:token***",
        "EMPTY": "",
    }
    assert facts["job"] == {"slurm_job_id": "7"}


def test_gpus_are_what_the_caller_says() -> None:
    facts = environment_facts({}, {}, gpus=lambda: [{"name": "H200"}])
    assert facts["gpus"] == [{"name": "H200"}]
    assert "gpus" not in environment_facts({}, {}, gpus=list)


def test_nothing_is_imported_and_nothing_is_started() -> None:
    script = (
        "import sys, subprocess\n"
        "from localstore.surroundings.environment import environment_facts\n"
        "before = set(sys.modules)\n"
        "subprocess.Popen = None\n"
        "environment_facts({}, {})\n"
        "print(sorted(set(sys.modules) - before))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr == ""
    loaded = json.loads(done.stdout.replace("'", '"'))
    assert not {"torch", "numpy", "psutil", "pynvml"} & set(loaded)


# ------------------------------------------------------------------ the machine
def test_a_machine_is_read_from_its_files(tmp_path: Path) -> None:
    write(tmp_path, "proc/cpuinfo", "processor\t: 0\nmodel name\t: Fast CPU @ 3GHz\nx : y\n")
    write(tmp_path, "etc/os-release", 'NAME="X"\nPRETTY_NAME="Great Linux 9"\n')
    write(tmp_path, "sys/fs/cgroup/cpu.max", "150000 100000\n")
    write(tmp_path, "sys/fs/cgroup/memory.max", "1073741824\n")
    hardware = hardware_facts(tmp_path)
    assert hardware["cpu"] == "Fast CPU @ 3GHz"
    assert (hardware["cpu_limit"], hardware["memory_limit_bytes"]) == (1.5, 1 << 30)
    if sys.platform == "linux":
        assert system_facts(tmp_path)["distribution"] == "Great Linux 9"


def test_without_limits_none_are_claimed(tmp_path: Path) -> None:
    write(tmp_path, "sys/fs/cgroup/cpu.max", "max 100000\n")
    write(tmp_path, "sys/fs/cgroup/memory.max", "max\n")
    assert not {"cpu_limit", "memory_limit_bytes"} & set(hardware_facts(tmp_path))


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        (".dockerenv", "", "docker"),
        ("run/.containerenv", "", "podman"),
        (".singularity.d/x", "", "apptainer"),
        ("proc/1/cgroup", "0::/kubepods/besteffort/pod1", "kubernetes"),
        ("proc/1/cgroup", "12:cpu:/docker/abc", "docker"),
        ("proc/1/cgroup", "0::/init.scope", ""),
    ],
)
def test_containers_are_told_by_their_traces(
    tmp_path: Path, path: str, text: str, expected: str
) -> None:
    write(tmp_path, path, text)
    assert container(tmp_path) == expected


def test_a_job_is_told_by_its_scheduler(tmp_path: Path) -> None:
    write(tmp_path, "var/run/secrets/kubernetes.io/serviceaccount/namespace", "lab\n")
    assert job_facts({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, tmp_path) == {
        "kubernetes_namespace": "lab"
    }
    assert job_facts({"SLURM_JOB_ID": "7", "SLURM_JOB_NODELIST": "n[1-3]", "HOME": "/"}) == {
        "slurm_job_id": "7"
    }
    assert job_facts({}) == {}


def test_versions_are_those_of_what_is_imported_already() -> None:
    torch, version = types.ModuleType("torch"), types.ModuleType("torch.version")
    torch.__version__ = "2.9"  # type: ignore[attr-defined]  # a module made here
    version.cuda = "13.0"  # type: ignore[attr-defined]  # a module made here
    numpy = types.ModuleType("numpy")
    numpy.__version__ = 3  # type: ignore[attr-defined]  # a module made here
    modules = {"torch": torch, "torch.version": version, "numpy": numpy, "jax": None}
    assert framework_versions(modules) == {"torch": "2.9", "cuda": "13.0"}
    assert framework_versions({}) == {}


# ------------------------------------------------------------------ how it was started
def test_a_command_line_is_masked_and_the_interpreter_loses_its_folder() -> None:
    words = ["/home/ada/.venv/bin/python", "-u", "train.py", "--api-key", "x", "--lr", "1"]
    assert command_line(words) == [
        *("python", "-u", "train.py", "--api-key", "***MASKED:api-key***", "--lr", "1")
    ]


def test_the_home_folder_in_a_command_line_does_not_tell_the_users_name() -> None:
    home = Path.home()
    words = ["python", f"{home}/work/train.py", f"--data={home}/data", "/data/x"]
    assert command_line(words) == ["python", "~/work/train.py", "--data=~/data", "/data/x"]
    text = command_text({"command": command_line(words)})
    assert text == """python "$HOME"/work/train.py --data="$HOME"/data /data/x"""


def test_code_on_the_command_line_is_code_and_left_out() -> None:
    assert command_line(["python", "-u", "-c", "secret()", "a"]) == ["python", "-u", "-c", "…", "a"]
    assert command_line(["python", "train.py", "-c", "a.yaml"])[-1] == "a.yaml"


def test_an_endless_command_line_is_cut() -> None:
    assert command_line(["python", *["word"] * 100_000])[-1] == "…"
    assert len(command_line(["python", *["word"] * 100_000])) < 10_000
    assert command_line([]) == []


def test_the_working_folder_is_told_from_the_repositorys_root(tmp_path: Path) -> None:
    write(tmp_path, "work/.git", "gitdir: elsewhere")
    (tmp_path / "work/a/b").mkdir(parents=True)
    assert folder_in_repository(tmp_path / "work/a/b") == "a/b"
    assert folder_in_repository(tmp_path / "work") == "."


def test_outside_of_repositories_the_working_folder_is_its_name(tmp_path: Path) -> None:
    (tmp_path / "lab").mkdir()
    assert folder_in_repository(tmp_path / "lab") == "lab"


# ------------------------------------------------------------------ packages
def package(root: Path, name: str, version: str, origin: object = None) -> None:
    folder = root / f"{name}-{version}.dist-info"
    write(folder, "METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if origin is not None:
        text = origin if isinstance(origin, str) else json.dumps(origin)
        (folder / "direct_url.json").write_text(text)


def test_packages_are_listed_with_their_versions_or_where_they_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    package(tmp_path, "Beta_lib", "1.0")
    package(tmp_path, "alpha", "2.0+cu128")
    package(
        *(tmp_path, "gamma", "0.1"),
        {
            "url": "https://ada:pw@example.org/g.git",
            "vcs_info": {"vcs": "git", "commit_id": "abc123"},
        },
    )
    package(tmp_path, "mine", "0.1", {"url": "file:///home/ada/m", "dir_info": {"editable": True}})
    package(tmp_path, "local", "0.1", {"url": "file:///home/ada/l", "dir_info": {}})
    package(tmp_path, "wheel", "0.1", {"url": "https://h/w.whl?token=abc", "archive_info": {}})
    package(tmp_path, "odd", "0.1", "{no json")
    package(tmp_path, "strange", "0.1", [1])
    assert requirements() == [
        "alpha==2.0+cu128",
        "Beta_lib==1.0",
        "gamma @ git+https://example.org/g.git@abc123",
        "local==0.1  # local",
        "mine==0.1  # editable",
        "odd==0.1",
        "strange==0.1",
        "wheel @ https://h/w.whl?token=***MASKED:url-token***",
    ]


def test_of_a_package_that_is_there_twice_the_one_that_is_imported_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", [str(tmp_path / "first"), str(tmp_path / "second")])
    package(tmp_path / "second", "One.Lib", "1.0")
    package(tmp_path / "first", "one-lib", "2.0")
    assert requirements() == ["one-lib==2.0"]


def test_the_list_is_a_file_that_pip_reads() -> None:
    assert requirements_text(["a==1", "b==2  # editable"]) == b"a==1\nb==2  # editable\n"
    assert requirements_text([]) == b""
