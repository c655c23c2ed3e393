"""The routes of the JSON API."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING
from urllib.parse import unquote

from tests.hub import accounts, cards, commits, listing, revisions, uploads, xet
from tests.hub.wire import Request, Response

if TYPE_CHECKING:
    from tests.hub.hub import Hub

Handler = Callable[..., Response]

_KIND = r"/api/(?P<kind>models|datasets)"
_REPO = rf"{_KIND}/(?P<name>[^/]+/[^/]+)"

ROUTES: list[tuple[str, str, Handler]] = [
    ("GET", "/api/whoami-v2", accounts.whoami),
    ("GET", "/api/agent-harnesses", accounts.harnesses),
    ("POST", "/api/validate-yaml", cards.validate),
    ("POST", "/api/repos/create", accounts.create),
    ("DELETE", "/api/repos/delete", accounts.delete),
    ("POST", "/api/repos/move", accounts.move),
    ("PUT", rf"{_REPO}/settings", accounts.settings),
    ("GET", rf"{_REPO}/auth-check(/(?P<write>write))?", accounts.auth_check),
    ("GET", _KIND, listing.repositories),
    ("GET", _REPO, listing.info),
    ("GET", rf"{_REPO}/revision/(?P<revision>[^/]+)", listing.info),
    ("GET", rf"{_REPO}/tree/(?P<revision>[^/]+)(/(?P<path>.*))?", listing.tree),
    ("POST", rf"{_REPO}/paths-info/(?P<revision>[^/]+)", listing.paths_info),
    ("GET", rf"{_REPO}/refs", listing.refs),
    ("GET", rf"{_REPO}/commits/(?P<revision>[^/]+)", listing.commits),
    ("POST", rf"{_REPO}/tag/(?P<revision>[^/]+)", revisions.create_tag),
    ("DELETE", rf"{_REPO}/tag/(?P<tag>[^/]+)", revisions.delete_tag),
    ("POST", rf"{_REPO}/branch/(?P<branch>[^/]+)", revisions.create_branch),
    ("DELETE", rf"{_REPO}/branch/(?P<branch>[^/]+)", revisions.delete_branch),
    ("POST", rf"{_REPO}/super-squash/(?P<branch>[^/]+)", revisions.squash),
    ("POST", rf"{_REPO}/preupload/(?P<revision>[^/]+)", uploads.preupload),
    ("POST", rf"{_REPO}/lfs-files/duplicate", uploads.duplicate),
    ("GET", rf"{_REPO}/xet-(?P<access_>read|write)-token/(?P<revision>[^/]+)", xet.token),
    ("POST", rf"{_REPO}/commit/(?P<revision>[^/]+)", commits.commit),
]


def answer(hub: Hub, request: Request) -> Response | None:
    """The answer to a request of the API; None if it is none.

    Raises:
        Refused: the user may not do it, or it names something that does not exist.
    """
    for method, pattern, handler in ROUTES:
        if method == request.method and (found := re.fullmatch(pattern, request.path)):
            parts = {key: part and unquote(part) for key, part in found.groupdict().items()}
            if parts.get("kind"):
                parts["kind"] = parts["kind"].removesuffix("s")
            return handler(hub, request, **parts)
    return None
