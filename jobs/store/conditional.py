"""Conditional writes, done by the filesystem itself: of two concurrent writers one succeeds.

S3 takes `If-None-Match` and `If-Match` with a PUT
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-requests.html), Google Cloud Storage takes
`ifGenerationMatch`, Azure takes both headers. This uses what s3fs, gcsfs and adlfs support: an exclusive
`mode="create"`, which fsspec has in common, and keywords of their uploads for a version.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from filelock import FileLock

from jobs.store import s3
from jobs.store.s3 import PROTOCOLS as S3
from transforms.errors import SinkError

GOOGLE = frozenset({"gs", "gcs"})
AZURE = frozenset({"abfs", "abfss", "az"})
MEMORY = frozenset({"memory"})

# The in-memory filesystem is shared by the threads of one process.
_MEMORY_LOCK = threading.Lock()


def is_supported(fs: Any) -> bool:
    """Whether a filesystem has an exclusive create; a lease needs nothing else."""
    return bool(_protocols(fs) & (S3 | GOOGLE | AZURE | MEMORY))


def is_object_store(fs: Any) -> bool:
    """Whether a filesystem is an object store, whose listings say of an object what a request for it alone says."""
    return bool(_protocols(fs) & (S3 | GOOGLE | AZURE))


def can_match(fs: Any) -> bool:
    """Whether `put_if_match` works; gcsfs has no upload with ifGenerationMatch beside the exclusive create."""
    return bool(_protocols(fs) & (S3 | AZURE | MEMORY))


def put_if_absent(fs: Any, path: str, content: bytes) -> bool:
    """Create a file of an object store unless it exists.

    Returns:
        Whether the file holds this content because it was absent.
    """
    if not is_supported(fs):
        raise _unsupported(fs)
    if _protocols(fs) & MEMORY:
        with _MEMORY_LOCK:
            if fs.exists(path):
                return False
            fs.pipe_file(path, content)
            return True
    try:
        fs.pipe_file(path, content, mode="create")
    except FileExistsError:
        return _is_mine(fs, path, content)
    except Exception as error:
        if _is_refused(error):
            return _is_mine(fs, path, content)
        raise
    return True


def put_if_match(fs: Any, path: str, content: bytes, version: str) -> bool:
    """Replace a file of an object store unless its version has changed.

    Returns:
        Whether it was replaced.
    """
    protocols = _protocols(fs)
    try:
        if protocols & S3:
            fs.pipe_file(path, content, IfMatch=version)
        elif protocols & AZURE:
            from azure.core import MatchConditions

            fs.pipe_file(path, content, etag=version, match_condition=MatchConditions.IfNotModified)
        elif protocols & MEMORY:
            with _MEMORY_LOCK:
                if not fs.exists(path) or content_version(fs.cat_file(path)) != version:
                    return False
                fs.pipe_file(path, content)
        else:
            raise _unsupported(fs)
    except FileNotFoundError:
        return False
    except Exception as error:
        if _is_refused(error):
            return _is_mine(fs, path, content)
        raise
    return True


def get_versioned(fs: Any, path: str) -> tuple[bytes, str] | None:
    """Content and version of a file: its ETag or generation, or the hash of its content where a store has neither."""
    try:
        if _protocols(fs) & S3:
            return s3.get(fs, path)
        while True:
            before = _version(fs, path)
            content: bytes = fs.cat_file(path)
            if before is None:
                return content, content_version(content)
            # Another writer may have replaced the file between the two requests.
            if _version(fs, path) == before:
                return content, before
    except FileNotFoundError:
        return None


def listed_version(info: dict[str, Any]) -> str:
    """A version of a file as a listing has it: its size, with its ETag, generation or time of the last change."""
    keys = ("ETag", "etag", "generation", "mtime", "LastModified", "last_modified", "created")
    return f"{info.get('size')}-{next((info[key] for key in keys if info.get(key)), '')}"


def content_version(content: bytes) -> str:
    """A version that changes with the content."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


@contextmanager
def local_lock(path: str) -> Iterator[None]:
    """Prevent other conditional writes of all processes on this machine while the block runs."""
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with FileLock(path):
        yield


def _version(fs: Any, path: str) -> str | None:
    if _protocols(fs) & MEMORY or not is_supported(fs):
        return None
    fs.invalidate_cache()
    info = fs.info(path)
    found = next((info[key] for key in ("ETag", "etag", "generation") if info.get(key)), None)
    return None if found is None else str(found)


def _is_mine(fs: Any, path: str, content: bytes) -> bool:
    """Whether a refused write succeeded nevertheless: libraries repeat a request if its answer was lost."""
    fs.invalidate_cache()
    try:
        return bool(fs.cat_file(path) == content)
    except FileNotFoundError:
        return False


def _is_refused(error: BaseException) -> bool:
    """Whether a store reports that the condition is not met: 412, or 409 for two writes at the same moment."""
    seen: BaseException | None = error
    while seen is not None:
        response = getattr(seen, "response", None)
        code = response.get("Error", {}).get("Code") if isinstance(response, dict) else None
        status = getattr(seen, "status_code", getattr(seen, "code", None))
        if code in ("PreconditionFailed", "ConditionalRequestConflict", "412", "409") or status in (409, 412):
            return True
        seen = seen.__cause__
    return isinstance(error, OSError) and error.errno == errno.EEXIST


def _protocols(fs: Any) -> frozenset[str]:
    return frozenset({fs.protocol} if isinstance(fs.protocol, str) else fs.protocol)


def _unsupported(fs: Any) -> SinkError:
    return SinkError(
        f"filesystem {'/'.join(sorted(_protocols(fs)))} has no conditional writes of this kind; use a local folder, "
        f"s3:// or abfs://"
    )
