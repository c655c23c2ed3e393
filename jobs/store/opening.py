"""The store of a registry: a folder, a URL of an object store, or a repository of the Hub."""

from __future__ import annotations

from jobs.store import Store


def open_store(url: str, key: str) -> Store:
    """The store of a URL; one that begins with hf:// is a repository of the Hub.

    Args:
        url: folder, or URL of one; need not exist yet.
        key: the key that names it in a job or training file, for errors.

    Raises:
        SpecError: no such kind of URL.
    """
    if not url.startswith("hf://"):
        return Store(url, key)
    # Imported here because it imports huggingface_hub, which takes half a second.
    from jobs.store.hub import HubStore

    return HubStore(url, key)
