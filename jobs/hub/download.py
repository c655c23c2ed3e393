"""Files of a repository -> a folder of this machine, each file downloaded once and compared with its hash."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from huggingface_hub import hf_hub_download, try_to_load_from_cache

from jobs.hub import cache, session
from jobs.hub.blob import Blob, Kind
from transforms.errors import ModelError

# Downloads at a time; each large file fills the line by itself.
THREADS = 4


def files(repository: str, commit: str, wanted: Sequence[Blob], reference: str, kind: Kind = "model") -> Path:
    """Download the files of a commit that are not here yet; without any request if all are.

    Several processes may do this at the same time: huggingface_hub locks each file. A file that was cut off continues
    where it ended.

    Args:
        repository: org/name.
        commit: the commit.
        wanted: the files, at least one.
        reference: the model, as the message names it.
        kind: of the repository.

    Returns:
        The folder of the repository's files at that commit.

    Raises:
        ModelError: a file has another content than the Hub says, also when it is downloaded again.
        HfHubHTTPError, httpx.HTTPError, LocalEntryNotFoundError: a file cannot be downloaded.
    """

    def fetch(blob: Blob) -> Path:
        path = Path(hf_hub_download(repository, blob.path, revision=commit, repo_type=kind))
        if not _is_verified(blob, path, repository):
            if not blob.is_in(path):
                first = None if blob.lfs else path.read_bytes()
                # The blob, which is shared by the commits that have this file, and the name that leads to it.
                for each in {path.resolve(), path}:
                    each.unlink(missing_ok=True)
                path = Path(hf_hub_download(repository, blob.path, revision=commit, repo_type=kind))
                # The ids of some self-hosted Hubs are other hashes; then the same content arrives again.
                is_same = first is not None and blob.size == len(first) and path.read_bytes() == first
                if not is_same and not blob.is_in(path):
                    path.resolve().unlink(missing_ok=True)
                    path.unlink(missing_ok=True)
                    raise ModelError(
                        f"{reference}: {blob.path} arrives with another content than {session.endpoint()} says, twice; "
                        "a proxy or the store behind it damages files: run again, and tell who runs it"
                    )
            cache.keep(_mark(blob, repository), _state(path).encode())
        return path

    with ThreadPoolExecutor(THREADS) as threads:
        paths = list(threads.map(fetch, wanted))
    return paths[0].parents[len(wanted[0].path.split("/")) - 1]


def is_here(repository: str, commit: str, name: str) -> bool:
    """Whether a file of a commit was downloaded to this machine."""
    return isinstance(try_to_load_from_cache(repository, name, revision=commit), str)


def _is_verified(blob: Blob, path: Path, repository: str) -> bool:
    """Whether this file was compared before and has not been written since."""
    try:
        return _mark(blob, repository).read_text() == _state(path)
    except FileNotFoundError:
        return False


def _mark(blob: Blob, repository: str) -> Path:
    return cache.folder("models", session.endpoint(), repository) / "verified" / blob.id


def _state(path: Path) -> str:
    stat = os.stat(path)
    return f"{stat.st_size} {stat.st_mtime_ns}"
