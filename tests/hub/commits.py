"""Commits: one line of JSON for each operation, all or none of them, on top of the parent that the client expects."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import TYPE_CHECKING, Any

from tests.hub import access, cards, xet
from tests.hub.repositories import Blob, Kind, Repository
from tests.hub.storing import SIZE, is_lfs
from tests.hub.wire import Refused, Request, Response

if TYPE_CHECKING:
    from tests.hub.hub import Hub

STALE = "A commit has happened since. Please refresh and try again."


def commit(hub: Hub, request: Request, kind: Kind, name: str, revision: str) -> Response:
    repository, asking = access.writable(hub, request, kind, name), access.user(hub, request)
    if request.asks("create_pr"):
        return Response.error(400, "this Hub has no pull requests")
    header, operations = _lines(request)
    with hub.lock:
        if revision not in repository.branches:
            return Response.error(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        head = repository.commits[repository.branches[revision]]
        parent = header.get("parentCommit")
        if parent is not None and not hub.ignores_parent and parent != head.sha:
            return Response.error(412, STALE)
        files = dict(head.files)
        for key, value in operations:
            _apply(hub, repository, files, key, value)
        _require_no_file_is_a_folder(files)
        sha = head.sha
        if files != dict(head.files):
            title, message = header["summary"], header.get("description", "")
            sha = repository.replace(files, title, revision, message, asking.name if asking else "")
    place = f"{hub.endpoint}{request.prefix}/{'datasets/' if kind == 'dataset' else ''}{name}"
    return Response.json({"success": True, "commitOid": sha, "commitUrl": f"{place}/commit/{sha}", "hookOutput": ""})


def _lines(request: Request) -> tuple[dict[str, Any], list[tuple[str, dict[str, Any]]]]:
    """The header of a commit, and its operations.

    Raises:
        Refused: it is malformed.
    """
    if request.headers.get("content-type") != "application/x-ndjson":
        raise Refused(Response.error(400, "a commit is sent as application/x-ndjson"))
    try:
        lines = [json.loads(line) for line in request.body.rstrip(b"\n").split(b"\n")]
        pairs = [(line["key"], line["value"]) for line in lines]
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(Response.error(400, "each line of a commit is JSON with a key and a value")) from error
    if pairs[0][0] != "header" or not pairs[0][1].get("summary"):
        raise Refused(Response.error(400, "the first line of a commit is its header, with a summary"))
    parent = pairs[0][1].get("parentCommit")
    if parent is not None and not re.fullmatch("[0-9a-f]{40}", parent):
        raise Refused(Response.error(400, f"parentCommit {parent!r} is not the id of a commit"))
    return pairs[0][1], pairs[1:]


def _apply(hub: Hub, repository: Repository, files: dict[str, Blob], key: str, value: dict[str, Any]) -> None:
    """One operation of a commit.

    Raises:
        Refused: it is malformed, or names what does not exist.
    """
    path = value.get("path", "")
    names = path.removesuffix("/").split("/") if key == "deletedFolder" else path.split("/")
    if any(each in ("", ".", "..", ".git") for each in names):
        raise Refused(Response.error(400, f"{path!r} is not a path of a file"))
    if key == "file":
        files[path] = _sent(hub, repository, path, value)
    elif key == "lfsFile":
        files[path] = _uploaded(hub, repository, path, value)
    elif key in ("deletedFile", "deletedFolder"):
        folder = "/".join(names) + "/"
        gone = [each for each in files if (each.startswith(folder) if key == "deletedFolder" else each == path)]
        if not gone:
            raise Refused(Response.error(404, f"{path} does not exist and cannot be deleted", "EntryNotFound"))
        for each in gone:
            del files[each]
    else:
        raise Refused(Response.error(400, f"{key!r} is no operation of a commit"))


def _sent(hub: Hub, repository: Repository, path: str, value: dict[str, Any]) -> Blob:
    """A file whose content is in the commit."""
    try:
        content = base64.b64decode(value["content"], validate=True)
    except (KeyError, binascii.Error) as error:
        raise Refused(Response.error(400, f"{path}: the content is not base64")) from error
    if value.get("encoding") != "base64":
        raise Refused(Response.error(400, f"{path}: the encoding is not base64"))
    if len(content) > SIZE or (hub.lfs != "regular" and is_lfs(path, len(content), content)):
        raise Refused(Response.error(400, f"{path} must be uploaded with git-lfs or Xet"))
    if path == "README.md":
        cards.require_valid(content, repository.kind)
    return Blob(content)


def _uploaded(hub: Hub, repository: Repository, path: str, value: dict[str, Any]) -> Blob:
    """A file that was uploaded before."""
    oid = str(value.get("oid"))
    if value.get("algo") != "sha256" or not re.fullmatch("[0-9a-f]{64}", oid):
        raise Refused(Response.error(400, f"{path}: a file of git-lfs has a SHA-256"))
    if oid not in repository.lfs and (found := xet.uploaded(hub, oid)) is not None:
        hub.objects[oid] = found
        repository.lfs.add(oid)
    known = hub.content_of(repository, oid) if oid in repository.lfs else None
    if known is None or value.get("size", len(known)) != len(known):
        raise Refused(Response.error(400, f"{path}: there is no object {oid} of this size in this repository"))
    return Blob(known, lfs=True)


def _require_no_file_is_a_folder(files: dict[str, Blob]) -> None:
    for path in files:
        names = path.split("/")
        for depth in range(1, len(names)):
            if "/".join(names[:depth]) in files:
                raise Refused(Response.error(400, f"{'/'.join(names[:depth])} is a file, and {path} is below it"))
