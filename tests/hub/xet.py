"""Xet: the clients' own store of chunks, in a local folder instead of a server.

A client that gets `local:///folder` as the address of the chunk server reads and writes that folder itself, in both
directions. https://huggingface.co/docs/xet
"""

from __future__ import annotations

import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.hub import access
from tests.hub.repositories import Blob, Kind
from tests.hub.wire import Request, Response

if TYPE_CHECKING:
    from tests.hub.hub import Hub

# https://huggingface.co/docs/xet/shard: a header, then files: their hash, their parts, and their SHA-256.
_HEADER, _ENTRY, _END = 48, 48, b"\xff" * 32
_VERIFIED, _WITH_SHA256 = 1 << 31, 1 << 30


def token(hub: Hub, request: Request, kind: Kind, name: str, access_: str, revision: str) -> Response:
    """Where the chunks of a repository are, and a token for them.

    Raises:
        Refused: the user may not read or write it.
    """
    (access.writable if access_ == "write" else access.content)(hub, request, kind, name)
    if hub.xet is None:
        return Response.error(404, "this Hub has no Xet")
    ends, url = int(time.time()) + 3600, f"local://{hub.xet}"
    body = {"accessToken": "xet", "exp": ends, "casUrl": url}
    headers = {"X-Xet-Cas-Url": url, "X-Xet-Access-Token": "xet", "X-Xet-Token-Expiration": str(ends)}
    return Response.json(body, headers=headers)


def headers(hub: Hub, request: Request, kind: Kind, name: str, blob: Blob) -> dict[str, str]:
    """What tells a client that a file can be had through Xet; nothing without Xet."""
    if hub.xet is None:
        return {}
    route = f"{hub.endpoint}{request.prefix}/api/{kind}s/{name}/xet-read-token/main"
    return {"X-Xet-Hash": hash_of(hub, blob), "Link": f'<{route}>; rel="xet-auth"'}


def hash_of(hub: Hub, blob: Blob) -> str:
    """The hash by which the store knows a file; one that it does not have is put into it."""
    assert hub.xet is not None
    if blob.sha256 not in hub.xet_hashes:
        import hf_xet

        with hf_xet.XetSession().new_upload_commit(endpoint=f"local://{hub.xet}") as commit:
            handle = commit.start_upload_bytes(blob.content, sha256=blob.sha256)
        hub.xet_hashes[blob.sha256] = handle.result().xet_info.hash
    return hub.xet_hashes[blob.sha256]


def uploaded(hub: Hub, sha256: str) -> bytes | None:
    """The content of a file that a client has put into the store; None if it is not there."""
    import hf_xet

    if hub.xet is None or (found := _files(hub.xet).get(sha256)) is None:
        return None
    xet_hash, size = found
    file = hub.xet / f"{sha256}.download"
    with hf_xet.XetSession().new_file_download_group(endpoint=f"local://{hub.xet}") as group:
        group.start_download_file(hf_xet.XetFileInfo(xet_hash, size), str(file))
    hub.xet_hashes[sha256] = xet_hash
    return file.read_bytes()


def _files(store: Path) -> dict[str, tuple[str, int]]:
    """SHA-256 -> hash and size of the files in a store."""
    found = {}
    for shard in store.rglob("xorbs/shards/*.mdb"):
        content, place = shard.read_bytes(), _HEADER
        while (name := content[place : place + 32]) != _END and name:
            flags, count = struct.unpack_from("<II", content, place + 32)
            parts = place + _ENTRY
            size = sum(struct.unpack_from("<I", content, parts + i * _ENTRY + 36)[0] for i in range(count))
            place = parts + count * _ENTRY * (2 if flags & _VERIFIED else 1)
            if flags & _WITH_SHA256:
                found[_hex(content[place : place + 32])] = (_hex(name), size)
                place += _ENTRY
    return found


def _hex(name: bytes) -> str:
    """A hash as it is written: four numbers of 64 bits."""
    return "".join(f"{number:016x}" for number in struct.unpack("<4Q", name))
