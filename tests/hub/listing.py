"""What a repository holds: its description, its tree in pages, its commits."""

from __future__ import annotations

import base64
import hashlib
import itertools
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode

from tests.hub import access, cards, xet
from tests.hub.repositories import Blob, Commit, Kind, Repository
from tests.hub.wire import Refused, Request, Response

if TYPE_CHECKING:
    from tests.hub.hub import Hub

# Entries of a page that states the last commit of each.
EXPANDED_PAGE, COMMITS_PAGE = 50, 50


def revision_of(repository: Repository, revision: str | None) -> Commit:
    """The commit of a revision.

    Raises:
        Refused: there is none.
    """
    commit = repository.at(revision or "main")
    if commit is None:
        raise Refused(Response.error(404, f"Invalid rev id: {revision}", "RevisionNotFound"))
    return commit


def info(hub: Hub, request: Request, kind: Kind, name: str, revision: str | None = None) -> Response:
    repository = access.readable(hub, request, kind, name)
    commit = revision_of(repository, revision)
    blobs, identity = request.asks("blobs"), hashlib.sha1(name.encode()).hexdigest()[:24]
    found = _summary(repository) | {
        "sha": commit.sha,
        "lastModified": commit.date,
        "cardData": cards.metadata(commit),
        "siblings": [
            {"rfilename": path} | (_sizes(blob) if blobs else {}) for path, blob in sorted(commit.files.items())
        ],
        "usedStorage": sum(len(blob.content) for blob in commit.files.values()),
    }
    if wanted := request.query.get("expand"):
        found = {key: value for key, value in found.items() if key in wanted}
    return Response.json({"_id": identity, "id": name} | found | ({"modelId": name} if kind == "model" else {}))


def repositories(hub: Hub, request: Request, kind: Kind) -> Response:
    """Those that the user may see, by author and part of their name."""
    asking, found = access.user(hub, request), []
    author, search = (request.query.get(key, [""])[0] for key in ("author", "search"))
    for (each, name), repository in sorted(hub.repositories.items()):
        is_visible = not repository.private or access.is_member(asking, name)
        if each == kind and is_visible and search in name and author in ("", name.split("/")[0]):
            found.append(_summary(repository))
    return Response.json(found)


def tree(hub: Hub, request: Request, kind: Kind, name: str, revision: str, path: str | None = None) -> Response:
    repository = access.listed(hub, request, kind, name)
    commit = revision_of(repository, revision)
    inside = path.strip("/") if path else ""
    if inside and inside not in commit.folders:
        text = f"{path} does not exist on {revision!r}"
        raise Refused(Response.error(404, text, "EntryNotFound", **{"X-Repo-Commit": commit.sha}))
    listed = _entries(hub, commit)
    prefix = f"{inside}/" if inside else ""
    entries = [each for each in listed.values() if each["path"].startswith(prefix)]
    if not request.asks("recursive"):
        entries = [each for each in entries if "/" not in each["path"][len(prefix) :]]
    most = EXPANDED_PAGE if request.asks("expand") else hub.page
    page, headers = paged(hub, request, entries, most)
    return Response.json([each | _last_commit(repository, commit, request, each) for each in page], headers=headers)


def paths_info(hub: Hub, request: Request, kind: Kind, name: str, revision: str) -> Response:
    repository = access.listed(hub, request, kind, name)
    commit = revision_of(repository, revision)
    if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        wanted = [each.decode() for each in parse_qs(request.body).get(b"paths", [])]
    else:
        wanted = request.json().get("paths", [])
    entries = _entries(hub, commit)
    return Response.json([entries[path] for path in wanted if path in entries])


def refs(hub: Hub, request: Request, kind: Kind, name: str) -> Response:
    repository = access.readable(hub, request, kind, name)

    def listed(folder: str, found: dict[str, str]) -> list[dict[str, str]]:
        return [{"name": key, "ref": f"refs/{folder}/{key}", "targetCommit": sha} for key, sha in found.items()]

    branches, tags = listed("heads", repository.branches), listed("tags", repository.tags)
    more = {"pullRequests": []} if request.asks("include_prs") else {}
    return Response.json({"branches": branches, "converts": [], "tags": tags} | more)


def commits(hub: Hub, request: Request, kind: Kind, name: str, revision: str) -> Response:
    repository = access.readable(hub, request, kind, name)
    revision_of(repository, revision)
    page, headers = paged(hub, request, repository.history(revision), COMMITS_PAGE)
    found = [
        {
            "id": each.sha,
            "title": each.title,
            "message": each.message,
            "authors": [{"user": each.author}],
            "date": each.date,
        }
        for each in page
    ]
    return Response.json(found, headers=headers | {"X-Total-Count": str(len(repository.history(revision)))})


def paged(hub: Hub, request: Request, entries: list[Any], most: int) -> tuple[list[Any], dict[str, str]]:
    """The page that a request asks for, and the header that leads to the next one, whose cursor says nothing."""
    size = min(int(request.query.get("limit", [most])[0]), most)
    cursor = request.query.get("cursor", [""])[0]
    start = int(base64.urlsafe_b64decode(cursor)) if cursor else 0
    if start + size >= len(entries):
        return entries[start:], {}
    following = {"cursor": base64.urlsafe_b64encode(str(start + size).encode()).decode()}
    query = urlencode({key: values[0] for key, values in request.query.items()} | following)
    url = f"{hub.endpoint}{request.prefix}{request.path}?{query}"
    return entries[start : start + size], {"Link": f'<{url}>; rel="next"'}


def _entries(hub: Hub, commit: Commit) -> dict[str, dict[str, Any]]:
    """Path -> every file and folder, as the tree lists them, in the order of their paths."""
    folders = {
        path: {"type": "directory", "oid": oid, "size": 0, "path": path} for path, oid in commit.folders.items() if path
    }
    files: dict[str, dict[str, Any]] = {}
    for path, blob in commit.files.items():
        files[path] = {"type": "file", "oid": blob.oid, "size": len(blob.content), "path": path}
        if blob.lfs:
            lfs = {"oid": blob.sha256, "size": len(blob.content), "pointerSize": len(blob.pointer)}
            files[path] |= {"lfs": lfs} | ({"xetHash": xet.hash_of(hub, blob)} if hub.xet else {})
    return dict(sorted((folders | files).items()))


def _last_commit(repository: Repository, commit: Commit, request: Request, entry: dict[str, Any]) -> dict[str, Any]:
    """The newest commit that changed a file or folder."""
    if not request.asks("expand"):
        return {}
    last = commit
    for newer, older in itertools.pairwise(repository.history(commit.sha)):
        last = newer
        oids = older.folders | {path: blob.oid for path, blob in older.files.items()}
        if oids.get(entry["path"]) != entry["oid"]:
            break
        last = older
    return {"lastCommit": {"id": last.sha, "title": last.title, "date": last.date}}


def _summary(repository: Repository) -> dict[str, Any]:
    first, last = repository.history("main")[-1], repository.commits[repository.head]
    return {
        "id": repository.name,
        "author": repository.name.split("/")[0],
        "lastModified": last.date,
        "createdAt": first.date,
        "private": repository.private,
        "gated": "manual" if repository.gated else False,
        "disabled": False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
    }


def _sizes(blob: Blob) -> dict[str, Any]:
    lfs = {"sha256": blob.sha256, "size": len(blob.content), "pointerSize": len(blob.pointer)}
    return {"size": len(blob.content), "blobId": blob.oid} | ({"lfs": lfs} if blob.lfs else {})
