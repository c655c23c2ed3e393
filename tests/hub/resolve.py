"""Files: their content, and for those of git-lfs a redirect to a storage at another address."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from tests.hub import access
from tests.hub.access import Refused
from tests.hub.repositories import Blob, Kind
from tests.hub.wire import Request, Response

if TYPE_CHECKING:
    from tests.hub.hub import Hub

_FILE = re.compile(r"/(?P<datasets>datasets/)?(?P<name>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<path>.+)")


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
    commit = repository.at(unquote(found["revision"]))
    if commit is None:
        raise Refused(Response.error(404, f"Invalid rev id: {found['revision']}", "RevisionNotFound"))
    blob = commit.files.get(unquote(found["path"]))
    if blob is None:
        raise Refused(Response.error(404, "Entry not found", "EntryNotFound"))
    if request.fault is not None and request.fault.kind == "content":
        blob = Blob(request.fault.body, blob.lfs)
        hub.objects[blob.sha256] = blob.content
    headers = {"X-Repo-Commit": commit.sha, "ETag": f'"{blob.etag}"', "Access-Control-Allow-Origin": "*"}
    if not blob.lfs:
        return Response(200, blob.content, headers | {"Content-Type": "text/plain; charset=utf-8"}, ranged=True)
    hub.objects.setdefault(blob.sha256, blob.content)
    linked = {
        "X-Linked-ETag": f'"{blob.sha256}"',
        "X-Linked-Size": str(len(blob.content)),
        "Location": f"{hub.storage}/{blob.sha256}?sig=read",
    }
    return Response(302, b"Found. Redirecting to the storage", headers | linked)


def stored(hub: Hub, request: Request) -> Response:
    """A file from the storage, which takes the signature in its URL and no token."""
    if "authorization" in request.headers or request.query.get("sig") != ["read"]:
        return Response(400, b"<Error><Code>InvalidArgument</Code></Error>")
    content = hub.objects.get(request.path.rsplit("/", 1)[-1])
    if content is None:
        return Response(404, b"<Error><Code>NoSuchKey</Code></Error>")
    if request.fault is not None and request.fault.kind == "content":
        content = request.fault.body
    etag = request.path.rsplit("/", 1)[-1]
    return Response(200, content, {"ETag": f'"{etag}"', "Content-Type": "application/octet-stream"}, ranged=True)
