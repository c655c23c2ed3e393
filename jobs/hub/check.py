"""What the Hub at HF_ENDPOINT can do, asked of the Hub itself: a table of answers, each with what depends on it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from huggingface_hub import CommitOperationAdd, HfApi, constants, get_token
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status
from huggingface_hub.utils._runtime import is_xet_available

from jobs.hub import probe, session, xet
from jobs.hub.blob import of_tree
from jobs.hub.complaint import HUB_ERRORS, explain
from jobs.hub.limiter import limiter

Answer = Literal["yes", "no", "unknown"]

# Bytes of the middle of a file that are asked for.
RANGE = (3, 6)

# A file up to this size is downloaded to compare it with its hash.
COMPARED_BYTES = 4 << 20


@dataclass(frozen=True)
class Finding:
    """One answer.

    Attributes:
        what: the question, in a few words.
        answer: yes, no, or unknown.
        text: what was found, and for a no what does not work then.
        needed: whether Nightscribe cannot work with this Hub without it.
    """

    what: str
    answer: Answer
    text: str
    needed: bool = False


def check(repository: str | None, kind: str, write: bool) -> Iterator[Finding]:
    """Ask the Hub.

    Args:
        repository: org/name of a repository to read from; None for none.
        kind: model or dataset.
        write: whether to try commits, in a private repository that is made for it and deleted.
    """
    api, url = session.api(), session.endpoint()
    yield from _address(url)
    if constants.is_offline_mode():
        yield Finding("online", "no", "HF_HUB_OFFLINE is set, so that only the cache is used; unset it", needed=True)
        return
    token = get_token()
    try:
        name = str(api.whoami()["name"]) if token else None
        # Without a token the Hub does not know who asks, and says so.
        if name is None and (status := get_session().get(f"{url}/api/whoami-v2").status_code) != 401:
            yield Finding("reachable", "no", f"{url} answers with HTTP {status}; correct HF_ENDPOINT", needed=True)
            return
    except HUB_ERRORS as error:
        yield Finding("reachable", "no", explain(error, ""), needed=True)
        return
    yield Finding("reachable", "yes", "it answers")
    if name is None:
        yield Finding("token", "no", "none; private repositories, sinks and registries need one (HF_TOKEN)")
    else:
        yield Finding("token", "yes", f"of {name}")
    if repository is not None:
        yield from _reading(api, repository, kind)
    else:
        yield Finding("ranges", "unknown", "name a repository to read from: --dataset org/name or --model org/name")
    if write and name is not None:
        yield from _writing(api, name)
    else:
        why = "--write tries it in a private repository that is deleted again" if name else "needs a token"
        yield Finding("commits", "unknown", why)
    yield _budget(token)


def _address(url: str) -> Iterator[Finding]:
    parts = urlsplit(url)
    below = f", below the path {parts.path}" if parts.path.strip("/") else ""
    yield Finding("endpoint", "yes", f"{parts.scheme}://{parts.netloc}{below}")


def _reading(api: HfApi, repository: str, kind: str) -> Iterator[Finding]:
    page = f"datasets/{repository}" if kind == "dataset" else repository
    try:
        info = api.repo_info(repository, repo_type=kind)
        entries = list(api.list_repo_tree(repository, repo_type=kind, recursive=True, revision=info.sha))
        files: list[Any] = [entry for entry in entries if hasattr(entry, "blob_id")]
    except HUB_ERRORS as error:
        yield Finding("repository", "no", f"{repository}: {explain(error, page)}", needed=True)
        return
    gate = ", gated" if info.gated else ""
    private = ", private" if info.private else ""
    yield Finding("repository", "yes", f"{repository} at {str(info.sha)[:12]}, {len(files):,} files{private}{gate}")
    try:
        yield _paging(repository, kind, str(info.sha), len(entries))
        yield _hashes(api, repository, kind, str(info.sha), files)
    except HUB_ERRORS as error:
        yield Finding("files", "no", explain(error, page), needed=True)
        return
    if (file := max(files, key=lambda each: each.size, default=None)) is None or file.size <= RANGE[1]:
        yield Finding("ranges", "unknown", "the repository has no file that is large enough")
        return
    address = f"{session.endpoint()}/{page}/resolve/{info.sha}/{file.path}"
    ranged = {"Range": f"bytes={RANGE[0]}-{RANGE[1]}", "Accept-Encoding": "identity"}
    headers = build_hf_headers(library_name="nightscribe") | ranged
    try:
        with get_session().stream("GET", address, headers=headers) as response:
            if response.is_error:
                response.read()
            hf_raise_for_status(response)
            status, hops = response.status_code, len(response.history)
    except HUB_ERRORS as error:
        yield Finding("ranges", "no", f"{file.path}: {explain(error, page)}", needed=True)
        return
    via = "from the Hub itself" if not hops else "from a storage behind it"
    if status == 206:
        yield Finding("ranges", "yes", f"parts of files are served, {via}")
    elif status == 200:
        yield Finding("ranges", "no", "each file is read as a whole: a job of two columns downloads all columns")
    else:
        yield Finding("ranges", "no", f"{file.path} is answered with HTTP {status}", needed=True)


def _writing(api: HfApi, name: str) -> Iterator[Finding]:
    repository = f"{name}/nightscribe-check-{uuid.uuid4().hex[:8]}"
    try:
        api.create_repo(repository, private=True)
    except HUB_ERRORS as error:
        yield Finding("commits", "no", f"no repository can be made: {explain(error, repository)}")
        return
    try:
        yield _xet(repository)
        xet.settle(api, repository, "model")
        for content in (b"1", b"2"):
            add = CommitOperationAdd("check.txt", content)
            api.create_commit(repository, [add], commit_message="check")
        yield Finding("commits", "yes", "a private repository was made, and written to")
        if probe.keeps_parent(api, repository, "model", remembered=False):
            yield Finding("parents", "yes", "a commit with a wrong parent fails: registries and sinks are safe")
        else:
            yield Finding(
                "parents",
                "no",
                "a commit with a wrong parent succeeds, so that two writers would overwrite each other: refused as a "
                "registry and as a sink",
            )
    except HUB_ERRORS as error:
        yield Finding("commits", "no", explain(error, repository))
    finally:
        try:
            api.delete_repo(repository)
        except HfHubHTTPError as error:
            yield Finding("clean", "no", f"delete {repository}, which could not be deleted: {_said(error)}")


def _said(error: HfHubHTTPError) -> str:
    return f"HTTP {error.response.status_code}"


def _paging(repository: str, kind: str, commit: str, entries: int) -> Finding:
    """Whether the listing comes in pages; huggingface_hub follows them, and takes one that comes at once too."""
    address = f"{session.endpoint()}/api/{kind}s/{repository}/tree/{commit}"
    headers = build_hf_headers(library_name="nightscribe")
    answer = get_session().get(address, params={"recursive": True, "limit": 1}, headers=headers)
    if "next" in answer.links:
        return Finding("paging", "yes", "the listing of files comes in pages")
    few = answer.is_success and len(answer.json()) >= entries
    return Finding("paging", "no" if few else "unknown", f"{entries:,} entries come at once; fine up to some 10,000")


def _hashes(api: HfApi, repository: str, kind: str, commit: str, files: list[Any]) -> Finding:
    """Whether the content of a file is what the listing says: this is how a changed or damaged file is noticed."""
    small = [file for file in files if 0 < file.size <= COMPARED_BYTES]
    if not small:
        return Finding("hashes", "unknown", "the repository has no small file to compare with its hash")
    file = min(small, key=lambda each: (each.lfs is None, each.size))
    same = of_tree(file).is_in(Path(api.hf_hub_download(repository, file.path, repo_type=kind, revision=commit)))
    said = "has the hash that the listing says" if same else "has another hash than the listing says"
    return Finding("hashes", "yes" if same else "no", f"{file.path} {said}", needed=file.lfs is not None)


def _xet(repository: str) -> Finding:
    if not is_xet_available():
        return Finding("Xet", "no", "not used (hf_xet is not installed, or HF_HUB_DISABLE_XET is set); git-lfs is")
    if xet.has_xet(repository, "model"):
        return Finding("Xet", "yes", "large files are uploaded by it")
    return Finding("Xet", "no", "large files are uploaded by git-lfs; other programs need HF_HUB_DISABLE_XET=1")


def _budget(token: str | None) -> Finding:
    windows = limiter(session.endpoint(), None if token is None else f"Bearer {token}").windows()
    if not windows:
        return Finding("limits", "unknown", "the Hub states no limits of requests")
    said = (f"{kind}: {each.left:,} of {each.limit:,} left" for kind, each in sorted(windows.items()) if each.limit)
    return Finding("limits", "yes", ", ".join(said))
