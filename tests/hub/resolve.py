"""Files: their content, and for those of git-lfs a redirect to a storage at another address."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlencode

from tests.hub import access, xet
from tests.hub.repositories import Blob, Commit, Kind, Repository
from tests.hub.wire import Refused, Request, Response

if TYPE_CHECKING:
    from tests.hub.hub import Hub

# The storage at the address of the API.
SAME = "/storage/"

_FILE = re.compile(
    r"/(?P<cached>api/resolve-cache/(?=models|datasets))?(models/|(?P<datasets>datasets/))?"
    r"(?P<name>[^/]+/[^/]+)/(?(cached)|resolve/)(?P<revision>[^/]+)/(?P<path>.+)"
)


def answer(hub: Hub, request: Request) -> Response | None:
    """The answer to a request for a file; None if it is none.

    Raises:
        Refused: the user may not read it, or it does not exist.
    """
    found = _FILE.fullmatch(request.path)
    if found is None or request.method not in ("GET", "HEAD"):
        return None
    kind: Kind = "dataset" if found["datasets"] else "model"
    repository = access.content(hub, request, kind, unquote(found["name"]))
    revision, path = unquote(found["revision"]), unquote(found["path"])
    commit = repository.at(revision)
    if commit is None:
        raise Refused(Response.error(404, f"Invalid rev id: {revision}", "RevisionNotFound"))
    blob = commit.files.get(path)
    if blob is None:
        raise Refused(Response.error(404, "Entry not found", "EntryNotFound", **{"X-Repo-Commit": commit.sha}))
    if request.fault is not None and request.fault.kind == "content":
        blob = Blob(request.fault.body, blob.lfs)
    headers = {"X-Repo-Commit": commit.sha, "ETag": f'"{blob.etag}"', "Content-Disposition": _disposition(path)}
    if found["cached"] and (etag := request.query.get("etag", [""])[0].strip('"')) in hub.objects:
        # The redirect to here was for another content: a fault.
        blob = Blob(hub.objects[etag])
    if blob.lfs and not hub.serves_large:
        hub.objects.setdefault(blob.sha256, blob.content)
        return Response(
            302,
            b"Found. Redirecting to the storage",
            headers | _stored_at(hub, request, repository, commit, blob, path),
        )
    if hub.redirects and not found["cached"] and not blob.lfs:
        if request.fault is not None and request.fault.kind == "content":
            hub.objects[blob.etag] = blob.content
        place = f"{request.prefix}/api/resolve-cache/{kind}s/{found['name']}/{commit.sha}/{found['path']}"
        linked = {"Location": f'{place}?etag="{blob.etag}"', "X-Linked-Size": str(len(blob.content))}
        return Response(307, b"Temporary Redirect. Redirecting to the cache", headers | linked)
    kind_ = "application/octet-stream" if blob.lfs else "text/plain; charset=utf-8"
    return Response(200, blob.content, headers | {"Content-Type": kind_}, ranged=True)


def stored(hub: Hub, request: Request) -> Response:
    """A file from the storage: elsewhere it takes the signature in its URL and no token, here a token.

    Raises:
        Refused: the token is unknown or expired.
    """
    if request.path.startswith(SAME):
        if access.user(hub, request) is None:
            return Response.error(401, "Invalid username or password.")
    elif "authorization" in request.headers or request.query.get("sig") != ["read"]:
        return Response(400, b"<Error><Code>InvalidArgument</Code></Error>")
    oid = request.path.rsplit("/", 1)[-1]
    content = hub.objects.get(oid)
    if content is None:
        return Response(404, b"<Error><Code>NoSuchKey</Code></Error>")
    if request.fault is not None and request.fault.kind == "content":
        content = request.fault.body
    headers = {"Content-Type": "application/octet-stream"}
    if request.path.startswith(SAME):
        # Clients follow a redirect to the same address, and want to know there what they get.
        headers |= {"ETag": f'"{Blob(content).sha256}"', "X-Repo-Commit": request.query["commit"][0]}
    else:
        # A storage has ETags of its own.
        headers["ETag"] = f'"{hashlib.md5(content).hexdigest()}"'
    return Response(200, content, headers, ranged=True)


def _stored_at(
    hub: Hub, request: Request, repository: Repository, commit: Commit, blob: Blob, path: str
) -> dict[str, str]:
    query = urlencode(
        {"sig": "read", "commit": commit.sha, "response-content-disposition": _disposition(path)}, quote_via=quote
    )
    return {
        "X-Linked-ETag": f'"{blob.sha256}"',
        "X-Linked-Size": str(len(blob.content)),
        "Location": f"{request.prefix + SAME if hub.stores_here else f'{hub.storage}/'}{blob.sha256}?{query}",
    } | xet.headers(hub, request, repository.kind, repository.name, blob)


def _disposition(path: str) -> str:
    name = quote(path.rsplit("/", 1)[-1])
    return f"inline; filename*=UTF-8''{name}; filename=\"{name}\";"
