"""Who may read and write a repository, and the Hub's answers to those who may not."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlencode

from tests.hub.repositories import Kind, Repository, User
from tests.hub.wire import Refused, Request, Response

if TYPE_CHECKING:
    from tests.hub.hub import Hub


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
    if found is None or found.expired or found.token in hub.faults.expired_tokens:
        raise Refused(Response.error(401, "Invalid credentials in Authorization header"))
    return found


def readable(hub: Hub, request: Request, kind: Kind, name: str) -> Repository:
    """The repository, for a user who may see it.

    Raises:
        Refused: there is none, or it is private.
    """
    asking = user(hub, request)
    if (kind, name) in hub.moved:
        raise Refused(_moved(hub, request, kind, name))
    found = hub.repositories.get((kind, name))
    if found is None or (found.private and not is_member(asking, name)):
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
    if found.gated and not is_member(asking, name) and (asking is None or asking.name not in found.granted):
        text = f"Access to {kind} {name} is restricted. You must have access to it and be authenticated to access it."
        if asking is None:
            raise Refused(Response.error(401, f"{text} Please log in.", "GatedRepo"))
        raise Refused(Response.error(403, f"{text} Visit {hub.endpoint} to ask for access.", "GatedRepo"))
    return found


def listed(hub: Hub, request: Request, kind: Kind, name: str) -> Repository:
    """The repository, for a user who may list its files, which all may who see it, unless the Hub hides them.

    Raises:
        Refused: as in `readable`, or as in `content` where the files of gated repositories are hidden.
    """
    return (content if hub.hides_gated else readable)(hub, request, kind, name)


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
    if not asking.write or not is_member(asking, name):
        text = "Forbidden: pass `create_pr=1` as a query parameter to create a Pull Request"
        raise Refused(Response.error(403, text))


def _moved(hub: Hub, request: Request, kind: Kind, name: str) -> Response:
    """A repository keeps its old names: they lead to the new one."""
    url = f"{request.prefix}{unquote(request.path)}".replace(name, hub.moved[kind, name], 1)
    query = urlencode(request.query, doseq=True)
    return Response(307, b"", {"Location": quote(url) + (f"?{query}" if query else "")})


def is_member(asking: User | None, name: str) -> bool:
    if asking is None:
        return False
    namespace = name.split("/")[0]
    return asking.organizations is None or namespace in (asking.name, *asking.organizations)
