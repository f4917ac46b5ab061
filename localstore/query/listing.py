"""What `meta` says of every run of a project, from a sealed cache where nothing changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from localstore.format.spec import DataClass
from localstore.identity import now_us
from localstore.query.cache import RunCache, fingerprint
from localstore.query.info import RunInfo, fold_info
from localstore.reading import read_run
from localstore.tails import tail_folder

if TYPE_CHECKING:
    from localstore.errors import Damaged, StoreError
    from localstore.project import Project


def list_infos(
    project: Project, tail_dir: str, problems: list[StoreError]
) -> list[tuple[bytes, RunInfo]]:
    """Subject and facts of every run of a project, sorted by subject; those in the trash as well.

    Args:
        tail_dir: the setting, where tails of this node's writers lie.
        problems: gets the damage that is met.
    """
    cache = RunCache(project)
    out, present = [], set()
    erased = project.state.erased(now_us())
    folders = sorted(project.paths.runs.iterdir()) if project.paths.runs.is_dir() else []
    for folder in folders:
        if not _is_subject(folder.name) or folder.name in erased:
            continue
        try:
            facts = fingerprint(folder)
        except (FileNotFoundError, NotADirectoryError):
            continue
        if not facts:
            continue
        present.add(folder.name)
        subject = bytes.fromhex(folder.name)
        info = cache.get(folder.name, facts)
        if info is None:
            info = _read_info(project, subject, tail_dir, problems)
            if not info.problems:
                cache.put(folder.name, facts, info)
        if not info.artifact or project.artifact_subject(info.artifact) != subject:
            out.append((subject, info))
    cache.save(frozenset(present))
    return out


def _read_info(
    project: Project, subject: bytes, tail_dir: str, problems: list[StoreError]
) -> RunInfo:
    found: list[Damaged] = []
    folder = tail_folder(tail_dir, project.paths.id, subject)
    info = fold_info(read_run(project, subject, (DataClass.META,), found, folder))
    found = [in_project(project, problem) for problem in found]
    info.problems = [str(problem) for problem in found]
    problems += found
    return info


def in_project(project: Project, problem: Damaged) -> Damaged:
    """The same damage with its file's place in the home."""
    folder = f"projects/{project.paths.id}/"
    if problem.file.startswith("projects/"):
        return problem
    return problem.at(folder + problem.file)


def _is_subject(name: str) -> bool:
    return len(name) == 32 and all(digit in "0123456789abcdef" for digit in name)
