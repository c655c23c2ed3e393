"""The commit that a revision of a dataset repository points to, and the files at a commit.

A commit never changes, so its listing is kept on this machine: a night without news costs one request.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import constants
from huggingface_hub.errors import (
    GatedRepoError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.hf_api import RepoFile

from jobs.hub import cache
from jobs.hub.blob import Blob, Kind, of_tree
from jobs.hub.complaint import HUB_ERRORS, explain, is_passing
from jobs.hub.listing import COMMIT
from jobs.hub.session import api, endpoint
from transforms.errors import NightscribeError, SourceError, SpecError

LOG = logging.getLogger(__name__)

KIND: Kind = "dataset"
# How addresses of files of datasets begin.
URL = "hf://datasets/"


@dataclass(frozen=True)
class Tree:
    """All files of a dataset repository at a commit.

    Attributes:
        repository: org/name.
        commit: 40 hexadecimal digits.
        files: by path, in the order of the Hub.
    """

    repository: str
    commit: str
    files: Mapping[str, Blob]

    @property
    def url(self) -> str:
        """The tree as fsspec and messages name it."""
        return f"{URL}{self.repository}@{self.commit}"


def head(repository: str, revision: str | None) -> str:
    """The commit of a branch, tag or commit; offline, the one that it was when it was last asked for.

    Raises:
        SpecError: there is none, or this user may not read it.
        SourceError: the Hub does not answer.
    """
    name = revision or constants.DEFAULT_REVISION
    if COMMIT.fullmatch(name) and _listing_file(repository, name).exists():
        return name
    try:
        commit = str(api().dataset_info(repository, revision=revision).sha)
    except OfflineModeIsEnabled as error:
        if (known := _known_commit(repository, name)) is not None:
            return known
        raise complaint(error, repository, revision) from error
    except HUB_ERRORS as error:
        raise complaint(error, repository, revision) from error
    cache.keep(cache.folder("revisions", endpoint(), repository, name) / "commit", commit.encode())
    return commit


def listing(repository: str, commit: str) -> Tree:
    """The files at a commit, from this machine if it was listed before.

    Raises:
        SpecError: this user may not read it.
        SourceError: the Hub does not answer.
    """
    return _listing(endpoint(), repository, commit)


def complaint(error: BaseException, repository: str, revision: str | None = None) -> NightscribeError:
    """One sentence about a repository that cannot be asked; a SourceError if another attempt may succeed."""
    at = f" at revision {revision!r}" if revision is not None else ""
    kind = SourceError if is_passing(error) else SpecError
    is_gone = isinstance(error, RepositoryNotFoundError) and not isinstance(error, GatedRepoError)
    what = "is not a folder here, and" if is_gone else "cannot be read:"
    return kind(f"source.dataset {repository!r}{at} {what} {explain(error, f'datasets/{repository}')}")


@functools.lru_cache(maxsize=8)
def _listing(hub: str, repository: str, commit: str) -> Tree:
    file = _listing_file(repository, commit)
    try:
        rows = json.loads(file.read_bytes())
        return Tree(repository, commit, {row[0]: Blob(*row) for row in rows})
    except FileNotFoundError:
        LOG.debug("the files of %s at %s are not in the cache yet", repository, commit)
    try:
        entries = api().list_repo_tree(repository, recursive=True, revision=commit, repo_type=KIND)
        blobs = [of_tree(each) for each in entries if isinstance(each, RepoFile)]
    except OfflineModeIsEnabled as error:
        if downloaded := _downloaded(repository, commit):
            LOG.warning("HF_HUB_OFFLINE is set: of %s there are only the files that were downloaded before", repository)
            return Tree(repository, commit, downloaded)
        raise complaint(LocalEntryNotFoundError(str(error)), repository) from error
    except HUB_ERRORS as error:
        raise complaint(error, repository) from error
    except (KeyError, TypeError) as error:
        raise SpecError(
            f"source.dataset {repository!r} cannot be listed: {endpoint()} lists files without {error}; "
            f"`nightscribe hub check` says what this Hub can do"
        ) from error
    cache.keep(file, json.dumps([[each.path, each.size, each.id, each.lfs] for each in blobs]).encode())
    return Tree(repository, commit, {each.path: each for each in blobs})


def _listing_file(repository: str, commit: str) -> Path:
    return cache.folder("trees", endpoint(), repository) / f"{commit}.json"


def _known_commit(repository: str, revision: str) -> str | None:
    """The commit that a revision had when it was last asked for, by this program or by huggingface_hub."""
    if COMMIT.fullmatch(revision):
        return revision
    ours = cache.folder("revisions", endpoint(), repository, revision) / "commit"
    theirs = _client_folder(repository) / "refs" / revision
    return next((file.read_text().strip() for file in (ours, theirs) if file.is_file()), None)


def _client_folder(repository: str) -> Path:
    """Where huggingface_hub keeps the files of a repository."""
    return Path(constants.HF_HUB_CACHE, repo_folder_name(repo_id=repository, repo_type=KIND))


def _downloaded(repository: str, commit: str) -> dict[str, Blob]:
    """The files of a commit that huggingface_hub has downloaded: links to blobs that are named after their ids."""
    folder = _client_folder(repository) / "snapshots" / commit
    found = {}
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        real = Path(os.path.realpath(file))
        if real.parent.name != "blobs":
            continue
        path = file.relative_to(folder).as_posix()
        found[path] = Blob(path, real.stat().st_size, real.name, lfs=len(real.name) == hashlib.sha256().digest_size * 2)
    return found
