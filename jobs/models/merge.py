"""An adapter of a registry, merged with its base into one model folder."""

from __future__ import annotations

from pathlib import Path

from jobs.models import hub
from jobs.registry import Registry, Version
from transforms import output_folder
from transforms import registry as tasks
from transforms.errors import ModelError
from transforms.reference import ModelRef


def merge(registry: Registry, version: Version, folder: Path, base: str | None = None) -> None:
    """Write a version and its base as one model folder.

    Args:
        registry: where the version is.
        version: an adapter.
        folder: where to write; must not exist or be empty.
        base: folder or Hub name of the base, if it is no longer where it was when the version was trained.

    Raises:
        ModelError: the version is no adapter or cannot be merged, the base has other weights than it was trained on, or
            the folder has files.
    """
    # First, because the base may have to be downloaded, and torch takes seconds to import.
    output_folder.check(folder)
    if version.kind != "adapter":
        place = str(registry.folder(version.version))
        raise ModelError(f"version {version.version} is a whole model already; its files are in {place!r}")
    architecture = tasks.get(version.task).ARCHITECTURE
    if architecture is None:
        raise ModelError(f"version {version.version} is for {version.task}, which has no model; it cannot be merged")
    adapter = str(registry.folder(version.version))
    revision = None if base is not None else version.base.commit
    model = hub.pin(base or version.base.model, revision, "--base" if base else "base.model").folder()
    # Imported here because it imports torch and transformers, which takes seconds.
    from transforms.merge import merge as merge_folders

    merge_folders(ModelRef(model, adapter), architecture, folder)
