"""The files of dataset repositories as an fsspec filesystem: at one commit, in parts, each checked against its blob.

A path is `org/name@COMMIT/path`. A small file is read whole, once, and kept on this machine; of a large one, the parts
that are asked for. A file that huggingface_hub has downloaded before is read from there.
"""

from __future__ import annotations

import io
import logging
import os
import re
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from fsspec import AbstractFileSystem
from fsspec.spec import AbstractBufferedFile
from huggingface_hub import hf_hub_download, try_to_load_from_cache

from jobs.hub import blobs, ranges, tree
from jobs.hub.blob import Blob
from jobs.hub.complaint import HUB_ERRORS
from jobs.hub.parts import Parts, Range, merged
from jobs.hub.ranges import NoRanges
from jobs.hub.tree import KIND, Tree
from transforms.errors import SourceError, SpecError

LOG = logging.getLogger(__name__)

PROTOCOL = "hub-dataset"

# A file up to this size is read whole, where only parts of it may be wanted: a request takes as long as these bytes.
SMALL_BYTES = 64 << 10
# And one up to this size, if it is read from its beginning to its end: the plan reads so much of a file of text.
WHOLE_BYTES = 16 << 20
# Bytes that are read ahead of a reader that goes through a large file.
READ_AHEAD = 1 << 20

# The end of a Parquet file: the length of its footer, and a magic number.
TAIL = 8
# The first footer of a repository is looked for in so many bytes, the next ones in a little more than the last had.
FIRST_FOOTER = 16 << 10
_footer_bytes: dict[str, int] = {}
_LOCK = threading.Lock()


class HubFiles(AbstractFileSystem):
    """Files of dataset repositories of the Hub, read-only."""

    protocol = PROTOCOL

    def ls(self, path: str, detail: bool = True, **_: Any) -> list[Any]:
        """The files and folders of a folder."""
        found_tree, inside = _split(self._strip_protocol(path))
        if inside in found_tree.files:
            return [self.info(path)] if detail else [self._strip_protocol(path)]
        folder = f"{inside}/" if inside else ""
        names = sorted({name[len(folder) :].split("/")[0] for name in found_tree.files if name.startswith(folder)})
        if not names:
            raise FileNotFoundError(path)
        root = self._strip_protocol(path)
        return [self.info(f"{root}/{name}") if detail else f"{root}/{name}" for name in names]

    def info(self, path: str, **_: Any) -> dict[str, Any]:
        """Name, type and, of a file, its size and blob id."""
        path = self._strip_protocol(path)
        found_tree, inside = _split(path)
        if (blob := found_tree.files.get(inside)) is not None:
            return {"name": path, "type": "file", "size": blob.size, "blob_id": blob.id}
        if not inside or any(name.startswith(f"{inside}/") for name in found_tree.files):
            return {"name": path, "type": "directory", "size": 0}
        raise FileNotFoundError(path)

    def _open(self, path: str, mode: str = "rb", **_: Any) -> BinaryIO:
        """A file to be read from its beginning."""
        return self._opened(path, mode, WHOLE_BYTES, "readahead")

    def open_parts(self, path: str) -> BinaryIO:
        """A file of which parts will be read. If it is large, it has a method `prefetch` that is told which."""
        return self._opened(path, "rb", SMALL_BYTES, "none")

    def footer(self, path: str) -> bytes:
        """The end of a Parquet file, from its footer on; kept on this machine.

        Raises:
            SourceError: it cannot be read.
        """
        found_tree, blob = _blob(path)
        if (known := blobs.get(found_tree.repository, "footer", blob.id)) is not None:
            return known
        with self.open_parts(path) as stream:
            guess = min(blob.size, _footer_bytes.get(found_tree.repository, FIRST_FOOTER))
            stream.seek(blob.size - guess)
            tail = stream.read(guess)
            wanted = min(blob.size, int.from_bytes(tail[-TAIL:-4], "little") + TAIL)
            if tail[-4:] not in (b"PAR1", b"PARE"):
                return tail
            if wanted > guess:
                stream.seek(blob.size - wanted)
                tail = stream.read(wanted - guess) + tail
        tail = tail[-wanted:]
        if blob.size > SMALL_BYTES:
            with _LOCK:
                _footer_bytes[found_tree.repository] = wanted * 9 // 8
            blobs.put(found_tree.repository, "footer", blob.id, tail)
        return tail

    def is_here(self, path: str) -> bool:
        """Whether the whole file is on this machine."""
        found_tree, blob = _blob(path)
        kept = blobs.has(found_tree.repository, "file", blob.id)
        return kept or _downloaded(found_tree, blob) is not None

    def _opened(self, path: str, mode: str, whole: int, cache_type: str) -> BinaryIO:
        if mode != "rb":
            # As the read-only filesystems of fsspec do.
            raise NotImplementedError(f"{path} can only be read")
        found_tree, blob = _blob(path)
        if (kept := _kept(found_tree, blob)) is not None:
            return io.BytesIO(kept)
        if (downloaded := _downloaded(found_tree, blob)) is not None:
            return downloaded.open("rb")
        if blob.size > whole:
            return HubFile(self, path, found_tree, blob, cache_type)
        content = ranges.whole(found_tree, blob)
        blobs.put(found_tree.repository, "file", blob.id, content)
        return io.BytesIO(content)


class HubFile(AbstractBufferedFile):
    """A file that is read in parts.

    Args:
        fs: the filesystem.
        path: `org/name@COMMIT/path`.
        found_tree, blob: the file.
        cache_type: readahead or none, see fsspec.
    """

    def __init__(self, fs: HubFiles, path: str, found_tree: Tree, blob: Blob, cache_type: str):
        super().__init__(fs, path, "rb", READ_AHEAD, cache_type=cache_type, size=blob.size)
        self._tree, self._blob = found_tree, blob
        self._parts: Parts | None = None
        self._whole: Path | None = None

    def prefetch(self, wanted: Sequence[Range]) -> None:
        """Say which ranges will be read; they are fetched ahead, in as few requests as waste few bytes."""
        self._parts = Parts(self._fetch, merged(wanted))

    def close(self) -> None:
        """Close, and fetch nothing more."""
        if self._parts is not None:
            self._parts.close()
        super().close()

    def _fetch_range(self, start: int, stop: int) -> bytes:
        found = []
        while start < stop:
            part = None if self._parts is None else self._parts.read(start, stop)
            found.append(part or self._fetch(start, stop))
            start += len(found[-1])
        return b"".join(found)

    def _fetch(self, start: int, stop: int) -> bytes:
        if self._whole is None:
            try:
                return ranges.fetch(self._tree, self._blob, start, stop)
            except NoRanges:
                LOG.warning("the Hub sends whole files only, so %s is downloaded", self.path)
                self._whole = _download(self._tree, self._blob)
        with self._whole.open("rb") as stream:
            stream.seek(start)
            return stream.read(stop - start)


def path_of(found_tree: Tree, blob: Blob) -> str:
    """The path of a file in this filesystem."""
    return f"{found_tree.repository}@{found_tree.commit}/{blob.path}"


def path_of_url(url: str) -> str:
    """The path of `hf://datasets/org/name@COMMIT/path` in this filesystem."""
    return url.removeprefix("hf://datasets/")


def _split(path: str) -> tuple[Tree, str]:
    found = re.fullmatch(r"(?P<repository>[^@]+)@(?P<commit>[0-9a-f]{40})(?:/(?P<inside>.*))?", path)
    if found is None:
        raise SpecError(f"{path!r} is not a file at a commit of a dataset repository, org/name@COMMIT/path")
    return tree.listing(found["repository"], found["commit"]), found["inside"] or ""


def _blob(path: str) -> tuple[Tree, Blob]:
    found_tree, inside = _split(path)
    if (blob := found_tree.files.get(inside)) is None:
        raise SourceError(f"{found_tree.url} has no file {inside}; run again")
    return found_tree, blob


def _kept(found_tree: Tree, blob: Blob) -> bytes | None:
    return blobs.get(found_tree.repository, "file", blob.id) if blob.size <= WHOLE_BYTES else None


def _downloaded(found_tree: Tree, blob: Blob) -> Path | None:
    """Where huggingface_hub keeps the file, if it has downloaded it."""
    found = try_to_load_from_cache(found_tree.repository, blob.path, revision=found_tree.commit, repo_type=KIND)
    if not isinstance(found, str):
        return None
    same = os.path.basename(os.path.realpath(found)) == blob.id or not os.path.islink(found)
    return Path(found) if same and os.path.getsize(found) == blob.size else None


def _download(found_tree: Tree, blob: Blob) -> Path:
    """The whole file, in the cache of huggingface_hub.

    Raises:
        SourceError: it cannot be downloaded, or is another one.
    """
    try:
        path = hf_hub_download(found_tree.repository, blob.path, repo_type=KIND, revision=found_tree.commit)
    except HUB_ERRORS as error:
        raise ranges.unread(found_tree, blob, error) from error
    if os.path.getsize(path) != blob.size:
        raise ranges.changed(found_tree, blob)
    return Path(path)
