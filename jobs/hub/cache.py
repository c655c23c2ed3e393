"""Where answers of the Hub that never change are kept on this machine: listings by commit, footers by blob id."""

from __future__ import annotations

import logging
import re
from pathlib import Path

from transforms import user_cache

LOG = logging.getLogger(__name__)


def folder(*parts: str) -> Path:
    """A folder of the cache, which need not exist yet.

    Args:
        parts: names of folders below it; a name may hold any characters, such as a URL.
    """
    return user_cache.folder("hub", *(re.sub(r"[^A-Za-z0-9._-]+", "--", part) for part in parts))


def keep(file: Path, content: bytes) -> bool:
    """Write a file of the cache that can be done without: if it cannot be written, the Hub is asked again next time.

    Returns:
        Whether it was written.
    """
    try:
        user_cache.write(file, content)
    except OSError as error:
        LOG.warning("%s cannot be written, so the Hub is asked again next time: %s", file, error.strerror)
        return False
    return True
