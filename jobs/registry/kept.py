"""What this machine knows of versions in a repository of the Hub: no request for one whose files are here.

A version never changes, so its version.json is kept beside its files, which `content.local` copies.
"""

from __future__ import annotations

from pathlib import Path

from jobs.hub import cache, session
from jobs.registry.version import Version
from jobs.store import Store
from transforms import user_cache
from transforms.errors import UnreadableRegistry


def keep(store: Store, version: Version) -> None:
    """Remember a version whose files were copied to this machine."""
    if store.on_hub:
        user_cache.write(_folder(store) / f"{version.version}.json", version.to_json())


def names(store: Store) -> list[str]:
    """The versions that this machine has; none of a store that is not on the Hub."""
    return sorted(file.stem for file in _folder(store).glob("*.json")) if store.on_hub else []


def find(store: Store, name: str) -> Version | None:
    """A version that this machine has.

    Args:
        store: the registry's.
        name: the version; without a network also the first digits of it.
    """
    matches = [each for each in names(store) if each == name or (store.offline and name and each.startswith(name))]
    if len(matches) != 1:
        return None
    file = _folder(store) / f"{matches[0]}.json"
    try:
        return Version.from_json(file.read_bytes(), str(file))
    except UnreadableRegistry:
        # The registry has an undamaged one.
        file.unlink()
        return None


def _folder(store: Store) -> Path:
    return cache.folder("registries", session.endpoint(), store.url)
