"""Changes to what is logged: aliases, tags, descriptions, times to live, deletion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from localstore.artifacts import numbers
from localstore.artifacts.session import Session, state_of
from localstore.artifacts.unreferenced import unreferenced
from localstore.errors import NotPermitted
from localstore.identity import now_us

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from localstore.artifacts.model import Version
    from localstore.project import Project
    from localstore.settings import Settings


def edit(
    project: Project,
    name: str,
    operation: dict[str, Any],
    options: Settings,
    warn: Callable[[str], None],
) -> None:
    """Change aliases, tags, description, metadata or time to live; durable on return.

    Args:
        operation: see docs/format.md, section 7.

    Raises:
        StoreError: the disk refused.
    """
    _edit(project, name, [operation], options, warn)


def _edit(
    project: Project,
    name: str,
    operations: Iterable[dict[str, Any]],
    options: Settings,
    warn: Callable[[str], None],
) -> None:
    project.ensure_cert()
    with numbers.turn(project, project.artifact_subject(name)):
        state = state_of(project, name, options)
        with Session(project, name, state.type, options, warn) as session:
            for operation in operations:
                session.edit(operation, state.tips)


def delete_version(
    project: Project, name: str, digest: bytes, options: Settings, warn: Callable[[str], None]
) -> None:
    """Delete a version; its bytes are free for the collector unless something else has them.

    Raises:
        NotPermitted: a machine that may only write.
        StoreError: the disk refused.
    """
    delete_versions(project, name, [digest], options, warn)


def delete_versions(
    project: Project,
    name: str,
    digests: Iterable[bytes],
    options: Settings,
    warn: Callable[[str], None],
) -> None:
    """Delete several versions at once.

    Raises:
        NotPermitted: a machine that may only write.
        StoreError: the disk refused.
    """
    _check_may_delete(project)
    _edit(project, name, [{"delete": digest} for digest in digests], options, warn)
    release(project, name, options, warn)


def delete_expired(
    project: Project, name: str, options: Settings, warn: Callable[[str], None]
) -> tuple[Version, ...]:
    """Delete the versions whose time to live is over and that no own alias names; returns them.

    Raises:
        NotPermitted: a machine that may only write.
        StoreError: the disk refused.
    """
    _check_may_delete(project)
    found = state_of(project, name, options).expired(now_us())
    if found:
        delete_versions(project, name, [version.digest for version in found], options, warn)
    return found


def release(project: Project, name: str, options: Settings, warn: Callable[[str], None]) -> int:
    """Cancel the references of all that no version needs any more; returns how many frames.

    Raises:
        NotPermitted: a machine that may only write.
        StoreError: the disk refused.
    """
    _check_may_delete(project)
    state = state_of(project, name, options)
    frames = unreferenced(project, state)
    if frames:
        with Session(project, name, state.type, options, warn) as session:
            session.cancel(frames)
            session.flush()
    return len(frames)


def _check_may_delete(project: Project) -> None:
    if not project.can_read:
        raise NotPermitted("this machine may log artifacts and delete none")
