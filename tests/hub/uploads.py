"""Writing: which way a file goes, git-lfs uploads, commits with a parent check."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from typing import TYPE_CHECKING, Any

from tests.hub import access
from tests.hub.access import Refused
from tests.hub.repositories import Blob, Kind, is_lfs
from tests.hub.wire import Request, Response

if TYPE_CHECKING:
    from tests.hub.hub import Hub

STALE = "A commit has happened since. Please refresh and try again."


def preupload(hub: Hub, request: Request, kind: Kind, name: str, revision: str) -> Response:
    repository = access.writable(hub, request, kind, name)
    commit = repository.at(revision)
    if commit is None:
        raise Refused(Response.error(404, f"Invalid rev id: {revision}", "RevisionNotFound"))
    files = []
    for each in json.loads(request.body)["files"]:
        base64.b64decode(each["sample"], validate=True)
        lfs = hub.lfs != "regular" and is_lfs(each["path"], each["size"])
        known = commit.files.get(each["path"])
        files.append(
            {
                "path": each["path"],
                "uploadMode": "lfs" if lfs else "regular",
                "shouldIgnore": False,
                "oid": None if known is None else known.etag,
            }
        )
    return Response.json({"files": files, "commitOid": commit.sha})


def batch(hub: Hub, request: Request, kind: Kind, name: str) -> Response:
    """https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md"""
    access.writable(hub, request, kind, name)
    objects = []
    for each in json.loads(request.body)["objects"]:
        found = {"oid": each["oid"], "size": each["size"], "authenticated": True}
        if each["oid"] not in hub.objects:
            verify = f"{hub.endpoint}/api/lfs/verify"
            found["actions"] = {
                "upload": {"href": f"{hub.storage}/{each['oid']}?sig=upload"},
                "verify": {"href": verify, "header": {"Authorization": request.headers["authorization"]}},
            }
        objects.append(found)
    body = json.dumps({"transfer": "basic", "objects": objects, "hash_algo": "sha256"}).encode()
    return Response(200, body, {"Content-Type": "application/vnd.git-lfs+json"})


def verify(hub: Hub, request: Request) -> Response:
    sent = json.loads(request.body)
    if len(hub.objects.get(sent["oid"], b"")) != sent["size"]:
        return Response.error(404, "the object was not uploaded, or has another size")
    return Response.json({})


def store(hub: Hub, request: Request) -> Response:
    """A file of git-lfs arrives at the storage, which takes it only with the signature in its URL and no token."""
    oid = request.path.rsplit("/", 1)[-1]
    if "authorization" in request.headers or request.query.get("sig") != ["upload"]:
        return Response(400, b"<Error><Code>InvalidRequest</Code></Error>")
    if hashlib.sha256(request.body).hexdigest() != oid:
        return Response(400, b"<Error><Code>BadDigest</Code></Error>")
    hub.objects[oid] = request.body
    return Response(200)


def commit(hub: Hub, request: Request, kind: Kind, name: str, revision: str) -> Response:
    repository = access.writable(hub, request, kind, name)
    if request.headers.get("content-type") != "application/x-ndjson":
        return Response.error(400, "a commit is sent as application/x-ndjson")
    lines = [json.loads(line) for line in request.body.splitlines()]
    if not lines or lines[0].get("key") != "header" or not lines[0]["value"].get("summary"):
        return Response.error(400, "the first line of a commit is its header, with a summary")
    with hub.lock:
        if revision not in repository.branches:
            return Response.error(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        head = repository.commits[repository.branches[revision]]
        parent = lines[0]["value"].get("parentCommit")
        if parent is not None and not hub.ignores_parent and parent != head.sha:
            return Response.error(412, STALE)
        files = dict(head.files)
        for line in lines[1:]:
            _apply(hub, files, line["key"], line["value"])
        sha = head.sha
        if files != dict(head.files):
            sha = repository.replace(files, lines[0]["value"]["summary"], revision)
    place = f"{hub.endpoint}/{'datasets/' if kind == 'dataset' else ''}{name}"
    return Response.json({"success": True, "commitOid": sha, "commitUrl": f"{place}/commit/{sha}", "hookOutput": ""})


def _apply(hub: Hub, files: dict[str, Blob], key: str, value: dict[str, Any]) -> None:
    """One operation of a commit.

    Raises:
        Refused: it is malformed, or names what does not exist.
    """
    path = value.get("path", "")
    if not path or path.startswith("/") or ".." in path.split("/") or re.search(r"//|/$", path.rstrip("/")):
        raise Refused(Response.error(400, f"{path!r} is not a path of a file"))
    if key == "file":
        try:
            content = base64.b64decode(value["content"], validate=True)
        except (KeyError, binascii.Error) as error:
            raise Refused(Response.error(400, f"{path}: the content is not base64")) from error
        if value.get("encoding") != "base64":
            raise Refused(Response.error(400, f"{path}: the encoding is not base64"))
        if hub.lfs != "regular" and is_lfs(path, len(content)) and content:
            raise Refused(Response.error(400, f"{path} must be uploaded with git-lfs"))
        files[path] = Blob(content)
    elif key == "lfsFile":
        content = hub.objects.get(value["oid"])
        if content is None or value.get("size", len(content)) != len(content):
            raise Refused(Response.error(400, f"{path}: there is no object {value['oid']} of this size"))
        files[path] = Blob(content, lfs=True)
    elif key in ("deletedFile", "deletedFolder"):
        gone = [
            each
            for each in files
            if each == path or (key == "deletedFolder" and each.startswith(f"{path.rstrip('/')}/"))
        ]
        if not gone:
            raise Refused(Response.error(400, f"{path} does not exist and cannot be deleted"))
        for each in gone:
            del files[each]
    else:
        raise Refused(Response.error(400, f"{key!r} is no operation of a commit"))
