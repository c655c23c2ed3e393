"""Files of a model repository -> a folder of this machine, each file downloaded once and compared with its hash."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal

from huggingface_hub import hf_hub_download, try_to_load_from_cache

from jobs.hub import cache, session
from jobs.hub.listing import File
from transforms.errors import ModelError

# Downloads at a time; each large file fills the line by itself.
THREADS = 4


def files(
    repository: str, commit: str, wanted: Sequence[File], reference: str, kind: Literal["model", "dataset"] = "model"
) -> Path:
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

    def fetch(file: File) -> Path:
        path = Path(hf_hub_download(repository, file.name, revision=commit, repo_type=kind))
        if not _is_verified(file, path, repository):
            if not _matches(file, path):
                first = path.read_bytes() if file.sha256 is None else None
                # The blob, which is shared by the commits that have this file, and the name that leads to it.
                for each in {path.resolve(), path}:
                    each.unlink(missing_ok=True)
                path = Path(hf_hub_download(repository, file.name, revision=commit, repo_type=kind))
                # The ids of some self-hosted Hubs are other hashes; then the same content arrives again.
                is_same = first is not None and file.size == len(first) and path.read_bytes() == first
                if not is_same and not _matches(file, path):
                    path.resolve().unlink(missing_ok=True)
                    path.unlink(missing_ok=True)
                    raise ModelError(
                        f"{reference}: {file.name} arrives with another content than {session.endpoint()} says, twice; "
                        "a proxy or the store behind it damages files: run again, and tell who runs it"
                    )
            _remember(file, path, repository)
        return path

    with ThreadPoolExecutor(THREADS) as threads:
        paths = list(threads.map(fetch, wanted))
    return paths[0].parents[len(wanted[0].name.split("/")) - 1]


def is_here(repository: str, commit: str, name: str) -> bool:
    """Whether a file of a commit was downloaded to this machine."""
    return isinstance(try_to_load_from_cache(repository, name, revision=commit), str)


def named(known: Iterable[File], names: Iterable[str]) -> list[File]:
    """The files with these names; one that the listing lacks is asked for by its name alone."""
    by_name = {file.name: file for file in known}
    return [by_name.get(name, File(name)) for name in names]


def _matches(file: File, path: Path) -> bool:
    """Whether a downloaded file has the size and the hash that the Hub states."""
    if file.size is not None and path.stat().st_size != file.size:
        return False
    with path.open("rb") as stream:
        if file.sha256 is not None:
            return hashlib.file_digest(stream, "sha256").hexdigest() == file.sha256
        if file.blob is not None:
            # How git names a blob: https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
            head = b"blob %d\0" % path.stat().st_size
            return hashlib.sha1(head + stream.read(), usedforsecurity=False).hexdigest() == file.blob
    return True


def _is_verified(file: File, path: Path, repository: str) -> bool:
    """Whether this file was compared before and has not been written since."""
    if file.sha256 is None and file.blob is None:
        return True
    try:
        return _mark(file, repository).read_text() == _state(path)
    except FileNotFoundError:
        return False


def _remember(file: File, path: Path, repository: str) -> None:
    cache.write(_mark(file, repository), _state(path).encode())


def _mark(file: File, repository: str) -> Path:
    name = file.sha256 or file.blob
    return cache.folder("models", session.endpoint(), repository) / "verified" / str(name)


def _state(path: Path) -> str:
    stat = os.stat(path)
    return f"{stat.st_size} {stat.st_mtime_ns}"
