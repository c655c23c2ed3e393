"""A repository of the Hub at its newest commit: which files it has, and what is in the small ones."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from huggingface_hub import DatasetInfo, ModelInfo, RepoFile, hf_hub_url
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.hf_api import BlobLfsInfo
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

from jobs.hub import blobs, session
from transforms.errors import SinkError

Kind = Literal["model", "dataset"]


@dataclass(frozen=True)
class Blob:
    """The content of a file.

    Attributes:
        id: SHA-256 of a file of git-lfs; of others the id that git gives to their content.
        lfs: whether it is of git-lfs.
        size: bytes; None if the Hub does not say.
    """

    id: str
    lfs: bool = False
    size: int | None = None

    def holds(self, content: bytes) -> bool:
        """Whether it is the id of this content."""
        if self.lfs:
            return hashlib.sha256(content).hexdigest() == self.id
        # https://git-scm.com/book/en/v2/Git-Internals-Git-Objects
        return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest() == self.id


@dataclass(frozen=True)
class Snapshot:
    """The files of a repository at a commit.

    Attributes:
        kind: model or dataset.
        repository: org/name.
        exists: whether there is such a repository, and the token may see it.
        commit: its newest commit; None if it has none.
        files: path -> content.
    """

    kind: Kind
    repository: str
    exists: bool = False
    commit: str | None = None
    files: Mapping[str, Blob] = field(default_factory=dict)


def newest(kind: Kind, repository: str) -> Snapshot:
    """What a repository has at this moment: one request.

    Raises:
        HfHubHTTPError, httpx.HTTPError, OfflineModeIsEnabled: the Hub does not answer, or the repository is gated.
    """
    api = session.api()
    try:
        ask: Callable[..., ModelInfo | DatasetInfo] = api.dataset_info if kind == "dataset" else api.model_info
        info = ask(repository, files_metadata=True)
    except HfHubHTTPError as error:
        if is_absent(error):
            return Snapshot(kind, repository)
        raise
    siblings = info.siblings or ()
    if any(each.blob_id is None for each in siblings):
        # A Hub that leaves the ids out where the files are listed has them in its tree.
        tree = api.list_repo_tree(repository, recursive=True, revision=info.sha, repo_type=kind)
        files = {each.path: _blob(each.lfs, each.blob_id, each.size) for each in tree if isinstance(each, RepoFile)}
    else:
        files = {each.rfilename: _blob(each.lfs, str(each.blob_id), each.size) for each in siblings}
    return Snapshot(kind, repository, True, info.sha, files)


def is_absent(error: HfHubHTTPError) -> bool:
    """Whether an answer says that there is no such repository, or none that the token may see."""
    if isinstance(error, RepositoryNotFoundError):
        return not isinstance(error, GatedRepoError)
    # Some self-hosted Hubs say 404 and nothing else.
    return error.response.status_code == 404 and "X-Error-Code" not in error.response.headers


def read(snapshot: Snapshot, path: str) -> bytes:
    """The content of a small file; without a request if this machine has read it before.

    Raises:
        KeyError: the snapshot has no such file.
        SinkError: another content than the Hub says arrives, each time a different one.
        HfHubHTTPError, httpx.HTTPError, OfflineModeIsEnabled: the Hub does not answer.
    """
    blob = snapshot.files[path]
    if (kept := blobs.get(snapshot.repository, snapshot.kind, blob.id)) is not None:
        return kept
    content = _received(snapshot, path)
    if not blob.holds(content) and _received(snapshot, path) != content:
        # The ids of some self-hosted Hubs are other hashes; then the same content arrives again.
        raise SinkError(
            f"{path} of {snapshot.repository} arrives with another content each time; check the network and the proxy "
            f"between this machine and {session.endpoint()}, and run again"
        )
    blobs.put(snapshot.repository, snapshot.kind, blob.id, content)
    return content


def drop(snapshot: Snapshot, path: str) -> None:
    """Keep the content of a small file on this machine no longer."""
    if path in snapshot.files:
        blobs.remove(snapshot.repository, snapshot.kind, snapshot.files[path].id)


def _blob(lfs: BlobLfsInfo | None, oid: str, size: int | None) -> Blob:
    return Blob(lfs.sha256 if lfs else oid, lfs is not None, size)


def _received(snapshot: Snapshot, path: str) -> bytes:
    url = hf_hub_url(snapshot.repository, path, repo_type=snapshot.kind, revision=snapshot.commit)
    response = get_session().get(url, headers=build_hf_headers(library_name="nightscribe"))
    hf_raise_for_status(response)
    return bytes(response.content)
