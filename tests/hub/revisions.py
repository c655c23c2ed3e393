"""Tags and branches, and squashing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.hub import access
from tests.hub.listing import revision_of
from tests.hub.repositories import Kind
from tests.hub.wire import Request, Response

if TYPE_CHECKING:
    from tests.hub.hub import Hub


def create_tag(hub: Hub, request: Request, kind: Kind, name: str, revision: str) -> Response:
    repository = access.writable(hub, request, kind, name)
    commit, tag = revision_of(repository, revision), request.json()["tag"]
    with hub.lock:
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
    start = request.json().get("startingPoint") if request.body else None
    commit = revision_of(repository, start)
    with hub.lock:
        if branch in repository.branches:
            return Response.error(409, f"Reference already exists: {branch}")
        repository.branches[branch] = commit.sha
    return Response.json({})


def delete_branch(hub: Hub, request: Request, kind: Kind, name: str, branch: str) -> Response:
    repository = access.writable(hub, request, kind, name)
    if branch == "main":
        return Response.error(403, "Cannot delete the default branch")
    if repository.branches.pop(branch, None) is None:
        return Response.error(404, f"Invalid rev id: {branch}", "RevisionNotFound")
    return Response.json({})


def squash(hub: Hub, request: Request, kind: Kind, name: str, branch: str) -> Response:
    repository = access.writable(hub, request, kind, name)
    with hub.lock:
        if branch not in repository.branches:
            return Response.error(404, f"Invalid rev id: {branch}", "RevisionNotFound")
        repository.squash(branch, request.json().get("message", "squashed"))
    return Response.json({"commitId": repository.branches[branch]})
