"""Who may read and write a repository, and the Hub's answers to those who may not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.hub.repositories import Kind, Repository, User
from tests.hub.wire import Request, Response

if TYPE_CHECKING:
    from tests.hub.hub import Hub


class Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, response: Response):
        super().__init__(response.status)
        self.response = response


def user(hub: Hub, request: Request) -> User | None:
    """The user of a request; None without a token.

    Raises:
        Refused: the token is unknown or expired.
    """
    if request.token is None:
        if "authorization" in request.headers:
            raise Refused(Response.error(401, "Invalid credentials in Authorization header"))
        return None
    found = hub.users.get(request.token)
    if found is None or found.expired:
        raise Refused(Response.error(401, "Invalid credentials in Authorization header"))
    return found


def readable(hub: Hub, request: Request, kind: Kind, name: str) -> Repository:
    """The repository, for a user who may see it.

    Raises:
        Refused: there is none, or it is private.
    """
    asking = user(hub, request)
    found = hub.repositories.get((kind, name))
    if found is None or (found.private and not _is_member(asking, name)):
        if asking is None:
            raise Refused(Response.error(401, "Invalid username or password.", "RepoNotFound"))
        raise Refused(Response.error(404, "Repository not found", "RepoNotFound"))
    return found


def content(hub: Hub, request: Request, kind: Kind, name: str) -> Repository:
    """The repository, for a user who may read its files.

    Raises:
        Refused: as in `readable`, or it is gated.
    """
    found, asking = readable(hub, request, kind, name), user(hub, request)
    if found.gated and not _is_member(asking, name) and (asking is None or asking.name not in found.granted):
        text = f"Access to {kind} {name} is restricted. You must have access to it and be authenticated to access it."
        if asking is None:
            raise Refused(Response.error(401, f"{text} Please log in.", "GatedRepo"))
        raise Refused(Response.error(403, f"{text} Visit {hub.endpoint} to ask for access.", "GatedRepo"))
    return found


def writable(hub: Hub, request: Request, kind: Kind, name: str) -> Repository:
    """The repository, for a user who may write to it.

    Raises:
        Refused: as in `readable`, or the token may only read.
    """
    found = readable(hub, request, kind, name)
    require_writer(user(hub, request), name)
    return found


def require_writer(asking: User | None, name: str) -> None:
    """Refuse those who may not write into a namespace.

    Raises:
        Refused: with 401 or 403.
    """
    if asking is None:
        raise Refused(Response.error(401, "Invalid username or password."))
    if not asking.write or not _is_member(asking, name):
        raise Refused(Response.error(403, "You don't have the required permissions to perform this action"))


def _is_member(asking: User | None, name: str) -> bool:
    if asking is None:
        return False
    namespace = name.split("/")[0]
    return asking.organizations is None or namespace in (asking.name, *asking.organizations)
