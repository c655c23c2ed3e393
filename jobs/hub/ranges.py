"""Bytes of a file of a dataset repository, by HTTP ranges: continued after a cut, checked against the listing."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import hf_hub_url
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status, httpx

from jobs.hub import cache
from jobs.hub.blob import Blob
from jobs.hub.complaint import HUB_ERRORS, explain
from jobs.hub.session import endpoint
from jobs.hub.tree import KIND, Tree
from transforms.errors import SourceError

LOG = logging.getLogger(__name__)

# Attempts in a row that bring no byte of a file before the Hub counts as gone, and the longest wait between two.
ATTEMPTS = 5
MAX_WAIT_S = 8.0

# Answers of a storage to an address that has expired.
EXPIRED = (400, 401, 403, 404, 410)

# Addresses of files in the storage behind the Hub, which answers for a while without asking the Hub again.
_direct: dict[tuple[str, str], str] = {}
# The ETag of each file as it was first read.
_names: dict[tuple[str, str], str] = {}


class NoRanges(Exception):
    """The Hub sends whole files only."""


class _Cut(Exception):
    """A connection ended before the answer did; the client itself repeats a request that got no answer at all."""


@dataclass
class _Download:
    """A part of a file on its way.

    Attributes:
        tree, blob: the file.
        start, stop: the bytes that are wanted.
        got: those that have arrived.
        etag: what the Hub called the content; None if it said nothing that can be compared with the id.
    """

    tree: Tree
    blob: Blob
    start: int
    stop: int
    got: bytearray = field(default_factory=bytearray)
    etag: str | None = None

    @property
    def other_etag(self) -> bool:
        """Whether the ETag contradicts the id."""
        return self.etag is not None and self.etag != self.blob.id


def fetch(tree: Tree, blob: Blob, start: int, stop: int) -> bytes:
    """Bytes `[start, stop)` of a file.

    Raises:
        NoRanges: the server sends the whole file, which is larger.
        SourceError: the file is not the one that was listed, or the Hub does not send it.
    """
    return bytes(_finished(_Download(tree, blob, start, stop), strict=not _marker().exists()).got)


def whole(tree: Tree, blob: Blob) -> bytes:
    """A whole file, checked by its hash.

    Raises:
        SourceError: as `fetch`, or its content is not what its id says.
    """
    first, again = None, None
    for _ in range(2):
        first, again = again, _finished(_Download(tree, blob, 0, blob.size), strict=False)
        if blob.holds(again.got):
            if again.other_etag:
                # Seen at self-hosted Hubs: the ETags are other hashes of the same content.
                cache.keep(_marker(), b"")
            return bytes(again.got)
    assert first is not None
    assert again is not None
    if again.other_etag:
        raise changed(tree, blob)
    if blob.lfs or first.got != again.got:
        raise SourceError(
            f"{tree.url}/{blob.path} was received twice with another content than its checksum {blob.id[:12]} says; "
            f"upload the file again, or check the proxy between this machine and {endpoint()}"
        )
    # At some self-hosted Hubs the id of a small file is not the hash that git gives it.
    return bytes(again.got)


def _finished(download: _Download, strict: bool) -> _Download:
    """The download with all of its bytes; after a cut it continues at the byte that was reached.

    Args:
        download: nothing has arrived yet.
        strict: refuse an ETag that contradicts the id.
    """
    tree, blob, got = download.tree, download.blob, download.got
    failed = 0
    while len(got) < download.stop - download.start:
        before = len(got)
        try:
            _receive(download, strict)
        except _Cut as cut:
            failed = 1 if len(got) > before else failed + 1
            if failed == ATTEMPTS:
                raise unread(tree, blob, cut.__cause__ or cut) from cut
            LOG.info("%s/%s: the connection was cut after %d bytes; continuing there", tree.url, blob.path, len(got))
            time.sleep(min(MAX_WAIT_S, 0.1 * 2**failed))
        except HUB_ERRORS as error:
            raise unread(tree, blob, error) from error
    return download


def _receive(download: _Download, strict: bool) -> None:
    """Append the bytes that follow, until all are there or the connection ends."""
    tree, blob = download.tree, download.blob
    first = download.start + len(download.got)
    headers = {"Range": f"bytes={first}-{download.stop - 1}", "Accept-Encoding": "identity"}
    key = (tree.url, blob.path)
    direct = _direct.get(key)
    url = direct or hf_hub_url(tree.repository, blob.path, repo_type=KIND, revision=tree.commit)
    if direct is None:
        headers = build_hf_headers(library_name="nightscribe") | headers
    with _answer(url, headers, direct is not None) as response:
        if response is None:
            _direct.pop(key, None)
            return
        if response.status_code == 416:
            raise changed(tree, blob)
        if response.is_error:
            response.read()
            hf_raise_for_status(response)
        _check(response, tree, blob, first)
        download.etag = download.etag if direct is not None else _etag(response, blob)
        if strict and download.other_etag:
            raise changed(tree, blob)
        if download.stop - download.start < blob.size:
            if response.status_code == 200:
                raise NoRanges(f"{endpoint()} sends whole files only")
            # Whatever the last server calls it, one content has one name.
            name = _plain(response.headers.get("ETag"))
            if name and _names.setdefault(key, name) != name:
                raise changed(tree, blob)
            if response.history and response.url.netloc != response.history[0].url.netloc:
                _direct[key] = str(response.url)
        elif response.status_code == 200:
            # The whole file again, after a cut.
            download.got.clear()
        try:
            for block in response.iter_raw():
                download.got += block[: download.stop - download.start - len(download.got)]
        except httpx.TransportError as error:
            raise _Cut from error


@contextmanager
def _answer(url: str, headers: dict[str, str], is_direct: bool) -> Iterator[httpx.Response | None]:
    """The answer to a request; None if an address in the storage is no longer valid."""
    with ExitStack() as stack:
        try:
            response = stack.enter_context(get_session().stream("GET", url, headers=headers, follow_redirects=True))
        except httpx.TransportError:
            if not is_direct:
                raise
            response = None
        if response is not None and is_direct and response.status_code in EXPIRED:
            response = None
        yield response


def _check(response: httpx.Response, tree: Tree, blob: Blob, first: int) -> None:
    """Refuse an answer that is not a part of the file that was listed.

    Raises:
        SourceError: in one sentence.
    """
    kind = response.headers.get("Content-Type", "")
    encoding = response.headers.get("Content-Encoding", "identity")
    if kind.startswith("text/html") and not re.search(r"\.html?$", blob.path):
        raise SourceError(
            f"{tree.url}/{blob.path} is answered with a web page instead of the file; check HF_ENDPOINT "
            f"({endpoint()}) and the proxy of this machine, which may ask to sign in"
        )
    if encoding != "identity":
        raise SourceError(
            f"{tree.url}/{blob.path} is sent compressed with {encoding}, so parts of it cannot be read; let the "
            f"proxy between this machine and {endpoint()} leave the files of datasets as they are"
        )
    size = _size(response)
    if size is not None and size != blob.size:
        raise changed(tree, blob)
    part = re.match(r"bytes (\d+)-", response.headers.get("Content-Range", ""))
    if response.status_code == 206 and part is not None and int(part[1]) != first:
        raise SourceError(
            f"{tree.url}/{blob.path}: byte {first} was asked for, and the answer begins at {part[1]}; check the proxy "
            f"between this machine and {endpoint()}"
        )


def unread(tree: Tree, blob: Blob, error: BaseException) -> SourceError:
    """The complaint about a file that the Hub does not send."""
    return SourceError(f"{tree.url}/{blob.path} cannot be read: {explain(error, f'datasets/{tree.repository}')}")


def changed(tree: Tree, blob: Blob) -> SourceError:
    """The complaint about a file that is not the one that was listed."""
    return SourceError(f"{tree.url}/{blob.path} has changed since the run was planned; run again")


def _etag(response: httpx.Response, blob: Blob) -> str | None:
    """What the Hub itself calls the content, if it is such a hash as the id: a storage behind it has other ETags."""
    answers = [*response.history, response]
    found = next((each.headers["X-Linked-ETag"] for each in answers if "X-Linked-ETag" in each.headers), None)
    plain = _plain(found or answers[0].headers.get("ETag"))
    return plain if len(plain) == len(blob.id) else None


def _plain(etag: str | None) -> str:
    return re.sub(r'^W/|"', "", etag or "")


def _size(response: httpx.Response) -> int | None:
    """The size of the whole file."""
    found = re.search(r"/(\d+)$", response.headers.get("Content-Range", ""))
    if found is not None:
        return int(found[1])
    length = response.headers.get("Content-Length", "")
    return int(length) if response.status_code == 200 and length.isdigit() else None


def _marker() -> Path:
    """A file that exists if the ETags of this Hub are known to be other hashes than the ids of its listings."""
    return cache.folder("other-etags", endpoint())
