"""How long ago an object was written, by the clock of its store: the clocks of two machines may differ by minutes."""

from __future__ import annotations

import posixpath
import uuid
from typing import Any

from jobs.store import s3


def of(fs: Any, path: str) -> float:
    """Seconds since an object was written.

    S3 says with each answer what time it is; of another store that is learned by writing an object beside it.

    Raises:
        FileNotFoundError: there is no such object.
    """
    if s3.is_s3(fs):
        return s3.age_s(fs, path)
    fs.invalidate_cache()
    written = fs.modified(path)
    probe = posixpath.join(posixpath.dirname(path), f"clock-{uuid.uuid4().hex}")
    fs.pipe_file(probe, b"")
    try:
        fs.invalidate_cache()
        return float((fs.modified(probe) - written).total_seconds())
    finally:
        fs.rm_file(probe)
