"""A repository of the Hub at its newest commit: which files it has, and what is in the small ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from huggingface_hub import DatasetInfo, ModelInfo, RepoFile, hf_hub_url
from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

from jobs.hub import blob, blobs, session
from jobs.hub.blob import Blob, Kind
from transforms.errors import SinkError


@dataclass(frozen=True)
class Snapshot:
    """The files of a repository at a commit.

    Attributes:
        kind: model or dataset.
        repository: org/name.
        exists: whether there is such a repository, and the token may see it.
        commit: its newest commit; None if it has none.
        files: by path.
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
    try:
        return at(kind, repository, None)
    except HfHubHTTPError as error:
        if is_absent(error):
            return Snapshot(kind, repository)
        raise


def at(kind: Kind, repository: str, revision: str | None) -> Snapshot:
    """What a repository has at a branch, tag or commit: one request.

    Args:
        kind: model or dataset.
        repository: org/name.
        revision: None for the newest commit.

    Raises:
        HfHubHTTPError, httpx.HTTPError, OfflineModeIsEnabled: the Hub does not answer, or does not have it.
    """
    api = session.api()
    ask: Callable[..., ModelInfo | DatasetInfo] = api.dataset_info if kind == "dataset" else api.model_info
    info = ask(repository, revision=revision, files_metadata=True)
    found = [blob.of_sibling(each) for each in info.siblings or ()]
    if None in found:
        # A Hub that leaves the ids or the sizes out where the files are listed has them in its tree.
        tree = api.list_repo_tree(repository, recursive=True, revision=info.sha, repo_type=kind)
        found = [blob.of_tree(each) for each in tree if isinstance(each, RepoFile)]
    return Snapshot(kind, repository, True, info.sha, {each.path: each for each in found if each is not None})


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
    file = snapshot.files[path]
    if (kept := blobs.get(snapshot.repository, snapshot.kind, file.id)) is not None:
        return kept
    content = _received(snapshot, path)
    if not file.holds(content) and _received(snapshot, path) != content:
        # The ids of some self-hosted Hubs are other hashes; then the same content arrives again.
        raise SinkError(
            f"{path} of {snapshot.repository} arrives with another content each time; check the network and the proxy "
            f"between this machine and {session.endpoint()}, and run again"
        )
    blobs.put(snapshot.repository, snapshot.kind, file.id, content)
    return content


def drop(snapshot: Snapshot, path: str) -> None:
    """Keep the content of a small file on this machine no longer."""
    if path in snapshot.files:
        blobs.remove(snapshot.repository, snapshot.kind, snapshot.files[path].id)


def _received(snapshot: Snapshot, path: str) -> bytes:
    url = hf_hub_url(snapshot.repository, path, repo_type=snapshot.kind, revision=snapshot.commit)
    response = get_session().get(url, headers=build_hf_headers(library_name="nightscribe"))
    hf_raise_for_status(response)
    return bytes(response.content)
