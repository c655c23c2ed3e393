"""Users and their repositories: who asks, and making, moving, setting and deleting repositories."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.hub import access
from tests.hub.repositories import Blob, Kind, Repository
from tests.hub.storing import ATTRIBUTES
from tests.hub.wire import Refused, Request, Response

if TYPE_CHECKING:
    from tests.hub.hub import Hub


def whoami(hub: Hub, request: Request) -> Response:
    asking = access.user(hub, request)
    if asking is None:
        return Response.error(401, "Invalid username or password.")
    token = {"displayName": "tests", "role": "write" if asking.write else "read"}
    return Response.json(
        {
            "type": "user",
            "id": f"{abs(hash(asking.name)):024x}"[:24],
            "name": asking.name,
            "fullname": asking.name.title(),
            "email": None,
            "isPro": False,
            "orgs": [{"type": "org", "name": each} for each in asking.organizations or ()],
            "auth": {"type": "access_token", "accessToken": token},
        }
    )


def auth_check(hub: Hub, request: Request, kind: Kind, name: str, write: str | None = None) -> Response:
    (access.writable if write else access.content)(hub, request, kind, name)
    return Response.json({})


def create(hub: Hub, request: Request) -> Response:
    sent = request.json()
    kind, name = _named(hub, request, sent)
    url = f"{hub.endpoint}{request.prefix}/{'datasets/' if kind == 'dataset' else ''}{name}"
    with hub.lock:
        if (kind, name) in hub.repositories:
            text = f"You already created this {kind} repo: {name}"
            return Response.json({"error": text, "url": url}, 409, {"X-Error-Message": text})
        private = sent.get("visibility") == "private" or bool(sent.get("private"))
        made = hub.repositories[kind, name] = Repository(kind, name, private)
        made.replace({".gitattributes": Blob(ATTRIBUTES)}, "initial commit")
        hub.moved.pop((kind, name), None)
    return Response.json({"url": url, "name": name, "id": name})


def delete(hub: Hub, request: Request) -> Response:
    kind, name = _named(hub, request, request.json())
    access.writable(hub, request, kind, name)
    del hub.repositories[kind, name]
    return Response.json({})


def move(hub: Hub, request: Request) -> Response:
    sent = request.json()
    kind, old, new = _kind(sent), sent["fromRepo"], sent["toRepo"]
    found = access.writable(hub, request, kind, old)
    access.require_writer(access.user(hub, request), new)
    with hub.lock:
        if (kind, new) in hub.repositories:
            return Response.error(409, f"{new} exists already")
        del hub.repositories[kind, old]
        found.name = new
        hub.repositories[kind, new] = found
        hub.moved[kind, old] = new
    return Response.json({})


def settings(hub: Hub, request: Request, kind: Kind, name: str) -> Response:
    found, sent = access.writable(hub, request, kind, name), request.json()
    if "gated" in sent:
        found.gated = sent["gated"] in ("auto", "manual")
    if "visibility" in sent or "private" in sent:
        found.private = sent.get("visibility") == "private" or bool(sent.get("private"))
    return Response.json({"private": found.private, "gated": found.gated})


def harnesses(hub: Hub, request: Request) -> Response:
    return Response.json({"standardEnvVars": ["AI_AGENT"], "harnesses": {}})


def _named(hub: Hub, request: Request, sent: dict[str, Any]) -> tuple[Kind, str]:
    """The kind and whole name of a repository that the user may write to.

    Raises:
        Refused: there is no user, or it may not write there.
    """
    asking = access.user(hub, request)
    name = f"{sent.get('organization') or (asking.name if asking else '')}/{sent['name']}"
    access.require_writer(asking, name)
    return _kind(sent), name


def _kind(sent: dict[str, Any]) -> Kind:
    kind = sent.get("type") or "model"
    if kind not in ("model", "dataset"):
        raise Refused(Response.error(400, f"this Hub has models and data sets, not {kind!r}"))
    return kind
