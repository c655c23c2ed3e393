"""An adapter of a registry, as a folder for another engine: vLLM, TGI, llama.cpp's converter, or peft."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from transforms.errors import ModelError

if TYPE_CHECKING:
    from jobs.registry import Registry, Version

# Engines that `transforms.export` knows; written here too, because the command names them without loading torch.
ENGINES = ("vllm", "tgi", "llama.cpp", "peft")


def export(registry: Registry, version: Version, folder: Path, engine: str, base: str | None = None) -> int:
    """Write a version as an engine expects it; returns its rank, 0 if it has none.

    Args:
        registry: where the version is.
        version: an adapter.
        folder: where to write; must not exist or be empty.
        engine: one of ENGINES.
        base: folder or Hub name of the base, if it is no longer where it was when the version was trained.

    Raises:
        ModelError: the version is no adapter, or the engine cannot read it.
    """
    if version.kind != "adapter":
        place = str(registry.folder(version.version))
        raise ModelError(f"version {version.version} is a whole model, which every engine reads: {place!r}")
    name = base or version.base.model
    on_hub = base is None and not Path(name).exists()
    from transforms.export import export as export_folder

    return export_folder(
        str(registry.folder(version.version)), name, version.base.commit if on_hub else None, engine, folder
    )
