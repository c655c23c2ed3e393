"""The JSON API: repositories, trees, revisions, users."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote

import yaml

from tests.hub import access, uploads
from tests.hub.access import Refused
from tests.hub.repositories import Blob, Commit, Kind, Repository
from tests.hub.wire import Request, Response

if TYPE_CHECKING:
    from tests.hub.hub import Hub

Handler = Callable[..., Response]


def answer(hub: Hub, request: Request) -> Response | None:
    """The answer to a request of the API; None if it is none.

    Raises:
        Refused: the user may not do it, or it names something that does not exist.
    """
    for method, pattern, handler in ROUTES:
        if method == request.method and (found := re.fullmatch(pattern, request.path)):
            parts = found.groupdict()
            if "kind" in parts:
                parts["kind"] = parts["kind"].removesuffix("s")
            return handler(hub, request, **{name: part and unquote(part) for name, part in parts.items()})
    return None


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
    blobs = request.query.get("blobs", [""])[0].lower() in ("true", "1")
    found = {
        "_id": hashlib.sha1(name.encode()).hexdigest()[:24],
        "id": name,
        "author": name.split("/")[0],
        "sha": commit.sha,
        "lastModified": commit.date,
        "createdAt": repository.history("main")[-1].date,
        "private": repository.private,
        "gated": "manual" if repository.gated else False,
        "disabled": False,
        "tags": [],
        "downloads": 0,
        "likes": 0,
        "cardData": _card(commit),
        "siblings": [
            {"rfilename": path} | (_sizes(blob) if blobs else {}) for path, blob in sorted(commit.files.items())
        ],
    }
    return Response.json(found | ({"modelId": name} if kind == "model" else {}))


def tree(hub: Hub, request: Request, kind: Kind, name: str, revision: str, path: str | None = None) -> Response:
    commit = revision_of(access.content(hub, request, kind, name), revision)
    inside = f"{path.strip('/')}/" if path and path.strip("/") else ""
    if inside and not any(each.startswith(inside) for each in commit.files):
        raise Refused(Response.error(404, f"{path} does not exist on {revision!r}", "EntryNotFound"))
    recursive = request.query.get("recursive", [""])[0].lower() in ("true", "1")
    entries = _entries(commit, inside, recursive)
    size = min(int(request.query.get("limit", [hub.page])[0]), hub.page)
    start = int(request.query.get("cursor", ["0"])[0])
    headers = {}
    if start + size < len(entries):
        others = "".join(f"&{key}={values[0]}" for key, values in request.query.items() if key != "cursor")
        headers["Link"] = f'<{hub.endpoint}{request.path}?cursor={start + size}{others}>; rel="next"'
    expand = request.query.get("expand", [""])[0].lower() in ("true", "1")
    last = {"lastCommit": {"id": commit.sha, "title": commit.title, "date": commit.date}} if expand else {}
    return Response.json([entry | last for entry in entries[start : start + size]], headers=headers)


def paths_info(hub: Hub, request: Request, kind: Kind, name: str, revision: str) -> Response:
    commit = revision_of(access.content(hub, request, kind, name), revision)
    sent = json.loads(request.body) if "json" in request.headers.get("content-type", "") else parse_qs(request.body)
    wanted = sent.get("paths") or [each.decode() for each in sent.get(b"paths", [])]
    entries = {entry["path"]: entry for entry in _entries(commit, "", recursive=True)}
    return Response.json([entries[path] for path in wanted if path in entries])


def refs(hub: Hub, request: Request, kind: Kind, name: str) -> Response:
    repository = access.readable(hub, request, kind, name)

    def listed(folder: str, found: dict[str, str]) -> list[dict[str, str]]:
        return [{"name": key, "ref": f"refs/{folder}/{key}", "targetCommit": sha} for key, sha in found.items()]

    return Response.json(
        {
            "branches": listed("heads", repository.branches),
            "converts": [],
            "tags": listed("tags", repository.tags),
        }
    )


def commits(hub: Hub, request: Request, kind: Kind, name: str, revision: str) -> Response:
    repository = access.readable(hub, request, kind, name)
    revision_of(repository, revision)
    return Response.json(
        [
            {"id": each.sha, "title": each.title, "message": "", "authors": [], "date": each.date}
            for each in repository.history(revision)
        ]
    )


def create_tag(hub: Hub, request: Request, kind: Kind, name: str, revision: str) -> Response:
    repository = access.writable(hub, request, kind, name)
    commit, tag = revision_of(repository, revision), json.loads(request.body)["tag"]
    if tag in repository.tags:
        return Response.error(409, f"Tag reference exists already: {tag}")
    repository.tags[tag] = commit.sha
    return Response.json({})


def delete_tag(hub: Hub, request: Request, kind: Kind, name: str, tag: str) -> Response:
    repository = access.writable(hub, request, kind, name)
    if repository.tags.pop(tag, None) is None:
        return Response.error(404, f"Invalid rev id: {tag}", "RevisionNotFound")
    return Response.json({})


def create_branch(hub: Hub, request: Request, kind: Kind, name: str, branch: str) -> Response:
    repository = access.writable(hub, request, kind, name)
    if branch in repository.branches:
        return Response.error(409, f"Reference already exists: {branch}")
    start = json.loads(request.body or b"{}").get("startingPoint")
    repository.branches[branch] = revision_of(repository, start).sha
    return Response.json({})


def delete_branch(hub: Hub, request: Request, kind: Kind, name: str, branch: str) -> Response:
    repository = access.writable(hub, request, kind, name)
    if repository.branches.pop(branch, None) is None:
        return Response.error(404, f"Invalid rev id: {branch}", "RevisionNotFound")
    return Response.json({})


def whoami(hub: Hub, request: Request) -> Response:
    asking = access.user(hub, request)
    if asking is None:
        return Response.error(401, "Invalid username or password.")
    token = {"displayName": "tests", "role": "write" if asking.write else "read"}
    return Response.json(
        {
            "type": "user",
            "name": asking.name,
            "fullname": asking.name.title(),
            "orgs": [{"type": "org", "name": each} for each in asking.organizations or ()],
            "auth": {"type": "access_token", "accessToken": token},
        }
    )


def auth_check(hub: Hub, request: Request, kind: Kind, name: str, write: str | None = None) -> Response:
    if write:
        access.writable(hub, request, kind, name)
    else:
        access.content(hub, request, kind, name)
    return Response.json({})


def create(hub: Hub, request: Request) -> Response:
    sent = json.loads(request.body)
    asking = access.user(hub, request)
    kind = sent.get("type") or "model"
    name = f"{sent.get('organization') or (asking.name if asking else '')}/{sent['name']}"
    access.require_writer(asking, name)
    url = f"{hub.endpoint}/{'datasets/' if kind == 'dataset' else ''}{name}"
    if (kind, name) in hub.repositories:
        text = f"You already created this {kind} repo: {name}"
        return Response.json({"error": text, "url": url}, 409, {"X-Error-Message": text})
    private = sent.get("visibility") == "private" or bool(sent.get("private"))
    hub.repositories[kind, name] = Repository(kind, name, private)
    return Response.json({"url": url, "name": name, "id": name})


def delete(hub: Hub, request: Request) -> Response:
    sent = json.loads(request.body)
    asking = access.user(hub, request)
    kind = sent.get("type") or "model"
    name = f"{sent.get('organization') or (asking.name if asking else '')}/{sent['name']}"
    access.readable(hub, request, kind, name)
    access.require_writer(asking, name)
    del hub.repositories[kind, name]
    return Response.json({})


def harnesses(hub: Hub, request: Request) -> Response:
    return Response.json({"harnesses": []})


def validate_yaml(hub: Hub, request: Request) -> Response:
    text = json.loads(request.body)["content"]
    found = re.match(r"---\s*\n(.*?)\n---", text, re.DOTALL)
    try:
        yaml.safe_load(found.group(1)) if found else None
    except yaml.YAMLError as error:
        return Response.json({"errors": [{"message": str(error)}], "warnings": []}, 400)
    return Response.json({"errors": [], "warnings": []})


def _entries(commit: Commit, inside: str, recursive: bool) -> list[dict[str, Any]]:
    """The files and folders below a folder, as the tree lists them."""
    found: dict[str, dict[str, Any]] = {}
    for path, blob in commit.files.items():
        if not path.startswith(inside):
            continue
        names = path[len(inside) :].split("/")
        for depth in range(1, len(names) if recursive else min(2, len(names))):
            folder = inside + "/".join(names[:depth])
            oid = hashlib.sha1(folder.encode()).hexdigest()
            found[folder] = {"type": "directory", "oid": oid, "size": 0, "path": folder}
        if recursive or len(names) == 1:
            found[path] = {"type": "file", "oid": blob.oid, "size": len(blob.content), "path": path}
            if blob.lfs:
                found[path]["lfs"] = {
                    "oid": blob.sha256,
                    "size": len(blob.content),
                    "pointerSize": len(blob.pointer),
                }
    return [found[path] for path in sorted(found)]


def _sizes(blob: Blob) -> dict[str, Any]:
    lfs = {"sha256": blob.sha256, "size": len(blob.content), "pointerSize": len(blob.pointer)}
    return {"size": len(blob.content), "blobId": blob.oid} | ({"lfs": lfs} if blob.lfs else {})


def _card(commit: Commit) -> Any:
    text = commit.files["README.md"].content.decode(errors="replace") if "README.md" in commit.files else ""
    found = re.match(r"---\s*\n(.*?)\n---", text, re.DOTALL)
    return (yaml.safe_load(found.group(1)) if found else None) or {}


_REPO = r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)"

ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/api/whoami-v2", whoami),
    ("GET", "/api/agent-harnesses", harnesses),
    ("POST", "/api/validate-yaml", validate_yaml),
    ("POST", "/api/repos/create", create),
    ("DELETE", "/api/repos/delete", delete),
    ("GET", _REPO, info),
    ("GET", rf"{_REPO}/revision/(?P<revision>[^/]+)", info),
    ("GET", rf"{_REPO}/tree/(?P<revision>[^/]+)(/(?P<path>.*))?", tree),
    ("POST", rf"{_REPO}/paths-info/(?P<revision>[^/]+)", paths_info),
    ("GET", rf"{_REPO}/refs", refs),
    ("GET", rf"{_REPO}/commits/(?P<revision>[^/]+)", commits),
    ("POST", rf"{_REPO}/tag/(?P<revision>[^/]+)", create_tag),
    ("DELETE", rf"{_REPO}/tag/(?P<tag>[^/]+)", delete_tag),
    ("POST", rf"{_REPO}/branch/(?P<branch>[^/]+)", create_branch),
    ("DELETE", rf"{_REPO}/branch/(?P<branch>[^/]+)", delete_branch),
    ("GET", rf"{_REPO}/auth-check(/(?P<write>write))?", auth_check),
    ("POST", rf"{_REPO}/preupload/(?P<revision>[^/]+)", uploads.preupload),
    ("POST", rf"{_REPO}/commit/(?P<revision>[^/]+)", uploads.commit),
]
