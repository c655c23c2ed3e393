"""Files at URLs of any fsspec filesystem, and texts about them without passwords."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote, urlsplit

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from jobs.secrets import shown
from jobs.source.local import MAGIC
from jobs.store.conditional import is_object_store
from jobs.store.filesystem import open_filesystem
from transforms.errors import SpecError

# Characters of a library's message that are shown.
MAX_REASON = 300


def open_url(url: str) -> tuple[AbstractFileSystem, str]:
    """The filesystem of a path or URL, and the path within it.

    Raises:
        SpecError: no such protocol, or its package is not installed.
    """
    if "\0" in url:
        raise SpecError(f"{url!r} holds a null character, which no path has; remove it")
    plain = os.path.expanduser(url.removeprefix("file://").removeprefix("local://"))
    if plain != url and not os.path.lexists(plain) and os.path.lexists(unquote(plain)):
        plain = unquote(plain)
    if plain != url or os.path.lexists(plain) or "://" not in url:
        return LocalFileSystem(), os.path.abspath(plain)
    try:
        fs, path = open_filesystem(url)
    except ImportError as error:
        raise SpecError(f"source.path {shown(url)!r} needs a package: {reason(error)}") from error
    except Exception as error:
        # Each filesystem raises its own errors for a URL that it cannot use.
        raise SpecError(f"source.path {shown(url)!r} is not a path or URL that can be read: {reason(error)}") from error
    return fs, path


def reason(error: BaseException) -> str:
    """The message of a system or library error, as the end of a sentence."""
    if isinstance(error, PermissionError):
        return "permission denied; make it readable for this user"
    if isinstance(error, FileNotFoundError) and error.errno is not None:
        return f"{shown(str(error.filename or 'the file'))} no longer exists"
    text = " ".join(str(error).split()) or type(error).__name__
    return shown(text[:MAX_REASON]).rstrip(".")


def expand(
    fs: AbstractFileSystem, path: str, is_data: re.Pattern[str], is_hidden: Callable[[str], bool]
) -> tuple[str, dict[str, Any]]:
    """The root of a path or glob, and the store's information about each file; an existing path is not a glob."""
    fs.invalidate_cache()
    if fs.isfile(path):
        return posixpath.dirname(path), {path: fs.info(path)}
    if fs.isdir(path):
        root = path.rstrip("/")
        found = {name: info for name, info in fs.find(root, detail=True).items() if is_data.search(name)}
    elif MAGIC.search(path):
        root = posixpath.dirname(MAGIC.split(path)[0])
        found = fs.glob(path, detail=True)
    else:
        return posixpath.dirname(path), {}
    # Of an object store the listing is enough; other filesystems may say less there, such as no checksum.
    seen = {name: info for name, info in found.items() if not is_hidden(posixpath.relpath(name, root or "."))}
    infos = seen if is_object_store(fs) else {name: fs.info(name) for name in seen}
    return root, {name: info for name, info in infos.items() if info["type"] == "file"}


def url_of(fs: AbstractFileSystem, entry: str, name: str) -> Callable[[str], str]:
    """A function from a path to a URL that opens it with the same filesystem as the entry.

    Raises:
        SpecError: there is no such URL.
    """
    first, chained, rest = entry.partition("::")
    split = urlsplit(first)
    ways = [
        lambda path: f"{fs.unstrip_protocol(path)}{chained}{rest}",
        lambda path: f"{split.scheme}://{split.netloc}/{path.lstrip('/')}{chained}{rest}",
        lambda path: f"{first}::{urlsplit(rest).scheme}://{path.lstrip('/')}",
    ]
    for way in ways:
        # A URL of the wrong form can raise any exception; then the next form is tried.
        try:
            same_fs, path = open_filesystem(way(name))
        except Exception:
            continue
        if same_fs == fs and path == name:
            return way
    raise SpecError(
        f"source.path {shown(entry)!r}: its files have no URLs by which they can be opened; give another path"
    )
