"""Files on their way in: which way each goes, and git-lfs, by which large ones reach the storage.

https://github.com/git-lfs/git-lfs/blob/main/docs/api/batch.md
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from typing import TYPE_CHECKING

from tests.hub import access
from tests.hub.listing import revision_of
from tests.hub.repositories import Kind
from tests.hub.storing import is_lfs
from tests.hub.wire import Refused, Request, Response

if TYPE_CHECKING:
    from tests.hub.hub import Hub

LFS_JSON = "application/vnd.git-lfs+json"
MOST_FILES = 256
_BATCH = re.compile(r"/(?P<datasets>datasets/)?(?P<name>[^/]+/[^/]+)\.git/info/lfs/objects/batch")


def preupload(hub: Hub, request: Request, kind: Kind, name: str, revision: str) -> Response:
    repository = access.writable(hub, request, kind, name)
    commit = revision_of(repository, revision)
    sent, files = request.json()["files"], []
    if len(sent) > MOST_FILES:
        return Response.error(413, f"at most {MOST_FILES} files at a time")
    for each in sent:
        try:
            sample = base64.b64decode(each["sample"], validate=True)
        except binascii.Error as error:
            raise Refused(Response.error(400, f"{each['path']}: the sample is not base64")) from error
        known = commit.files.get(each["path"])
        files.append(
            {
                "path": each["path"],
                "uploadMode": "lfs"
                if hub.lfs != "regular" and is_lfs(each["path"], each["size"], sample)
                else "regular",
                "shouldIgnore": False,
                "oid": None if known is None else known.etag,
            }
        )
    return Response.json({"files": files, "commitOid": commit.sha})


def answer(hub: Hub, request: Request) -> Response | None:
    """The answer to a request of git-lfs; None if it is none.

    Raises:
        Refused: the user may not write there.
    """
    if request.method == "POST" and (found := _BATCH.fullmatch(request.path)) is not None:
        return batch(hub, request, "dataset" if found["datasets"] else "model", found["name"])
    if request.method == "POST" and (found := re.fullmatch(r"/api/lfs/verify/(model|dataset)/(.+)", request.path)):
        return verify(hub, request, found[1], found[2])  # type: ignore[arg-type]
    return None


def batch(hub: Hub, request: Request, kind: Kind, name: str) -> Response:
    repository, sent, objects = access.writable(hub, request, kind, name), request.json(), []
    if LFS_JSON not in (request.headers.get("accept"), request.headers.get("content-type")):
        return Response.error(406, f"git-lfs speaks {LFS_JSON}")
    if sent.get("operation") != "upload" or "basic" not in sent.get("transfers", ["basic"]):
        return Response.error(422, "this storage takes basic uploads")
    for each in sent["objects"]:
        found = {"oid": each["oid"], "size": each["size"], "authenticated": True}
        if each["oid"] not in repository.lfs:
            found["actions"] = {
                "upload": {"href": f"{hub.storage}/{each['oid']}?sig=upload&size={each['size']}"},
                "verify": {"href": f"{hub.endpoint}{request.prefix}/api/lfs/verify/{kind}/{name}"},
            }
        objects.append(found)
    answered = Response.json({"transfer": "basic", "objects": objects, "hash_algo": "sha256"})
    answered.headers["Content-Type"] = LFS_JSON
    return answered


def store(hub: Hub, request: Request) -> Response:
    """A file of git-lfs arrives at the storage, which takes it only with the signature in its URL and no token."""
    oid = request.path.rsplit("/", 1)[-1]
    if "authorization" in request.headers or request.query.get("sig") != ["upload"]:
        return Response(400, b"<Error><Code>InvalidRequest</Code></Error>")
    if "content-length" not in request.headers:
        return Response(501, b"<Error><Code>NotImplemented</Code></Error>")
    if request.query["size"] != [str(len(request.body))] or hashlib.sha256(request.body).hexdigest() != oid:
        return Response(400, b"<Error><Code>BadDigest</Code></Error>")
    hub.objects[oid] = request.body
    return Response(200, headers={"ETag": f'"{hashlib.md5(request.body).hexdigest()}"'})


def verify(hub: Hub, request: Request, kind: Kind, name: str) -> Response:
    repository, sent = access.writable(hub, request, kind, name), request.json()
    if sent["oid"] not in hub.objects or len(hub.objects[sent["oid"]]) != sent["size"]:
        return Response.error(404, "the object was not uploaded, or has another size")
    repository.lfs.add(sent["oid"])
    return Response.json({})


def duplicate(hub: Hub, request: Request, kind: Kind, name: str) -> Response:
    """Files of git-lfs become files of another repository, without their content being sent."""
    source, sent = access.content(hub, request, kind, name), request.json()
    target = access.writable(hub, request, sent["target"]["type"], sent["target"]["name"])
    failed = []
    for each in sent["files"]:
        if (content := hub.content_of(source, each["sha256"])) is not None and each["sha256"] in source.lfs:
            hub.objects[each["sha256"]] = content
            target.lfs.add(each["sha256"])
        else:
            failed.append({"sha256": each["sha256"], "error": "not found"})
    return Response.json({"failed": failed})
