"""The fsspec filesystem of a URL, for reading and writing alike.

Passwords and keys stay in the filesystem's own configuration: the environment, the platform's chain, or fsspec's files.
"""

from __future__ import annotations

from typing import Any

import fsspec

from jobs.store import s3


def open_filesystem(url: str) -> tuple[Any, str]:
    """The filesystem of a URL, and the path within it.

    Raises:
        ValueError, ImportError: no such protocol, or its package is not installed.
    """
    fs, path = fsspec.core.url_to_fs(url, **s3.options(url))
    within: Any = fs
    while within is not None:
        s3.prepare(within)
        # A chain such as simplecache::s3:// has its last filesystem inside.
        within = getattr(within, "fs", None)
    return fs, path
