"""A version copied from one registry into another, under the same name."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.registry import Registry, Version, content


@dataclass(frozen=True)
class Copy:
    """A version that two registries have.

    Attributes:
        version: the version, as the target has it.
        is_new: whether the target did not have it before.
    """

    version: Version
    is_new: bool


def copy(source: Registry, name: str, target: Registry) -> Copy:
    """Copy a version, or finish an earlier copy that was interrupted.

    Files that the target has undamaged are not written again. Moves of the champion, and the evidence of the gate, stay
    in the source: they compare the version with the source's own champion.

    Args:
        source: where the version is.
        name: champion, or the version's name or the first digits of it.
        target: where it goes; need not exist yet.

    Raises:
        SpecError: the source is no registry, or has no champion.
        ModelError: the source has no such version, or a file of it is missing or was changed.
        SinkError: the target cannot be written.
    """
    version = source.named(name)
    # Compared with their hashes before the target gets any of them.
    folder = source.folder(version.version)
    is_new = not target.store.exists(content.about(version.version))
    content.publish(target.store, version, folder, {})
    return Copy(target.version(version.version), is_new)
