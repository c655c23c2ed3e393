"""Source files: which there are, at which version, in which partition folder."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import unquote

import fsspec
from fsspec import AbstractFileSystem

from transforms.errors import SpecError

FORMATS = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".ipc": "arrow",
}
COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz")

# Readers of a lake skip names that begin like this: markers, logs, and what a sink keeps beside its rows.
HIDDEN = ("_", ".")


@dataclass(frozen=True)
class File:
    """One source file.

    Attributes:
        fs: the filesystem that holds it.
        path: path within its filesystem.
        url: path or URL to open it with.
        key: its path below the root of the source.
        version: whatever changes when its content does.
        format: parquet, csv, jsonl or arrow.
    """

    fs: AbstractFileSystem
    path: str
    url: str
    key: str
    version: str
    format: str


def find(paths: str | Sequence[str], format_: str | None) -> list[File]:
    """List the files of a file, folder, glob or URL, or of several, sorted by key.

    Raises:
        SpecError: nothing is there, or a file's ending says no format.
    """
    entries = [paths] if isinstance(paths, str) else list(paths)
    found: dict[str, tuple[AbstractFileSystem, str, str]] = {}
    roots: list[str] = []
    for entry in entries:
        fs, path = fsspec.core.url_to_fs(os.path.expanduser(entry))
        root, names = _expand(fs, path, format_)
        if not names:
            kinds = ", ".join(FORMATS)
            raise SpecError(f"source.path {entry!r} matches no data file; give a file, folder or glob of {kinds}")
        roots.append(root)
        found |= {fs.unstrip_protocol(name) if "://" in entry else name: (fs, name, entry) for name in names}
    # Several entries share one root, so that equal names in different folders stay apart.
    root = roots[0] if len(set(roots)) == 1 else posixpath.commonpath(roots)
    files = [
        File(fs, name, url, posixpath.relpath(name, root), version(fs, name), format_ or format_of(name, entry))
        for url, (fs, name, entry) in found.items()
    ]
    return sorted(files, key=lambda file: file.key)


def shown(url: str) -> str:
    """A path or URL as messages show it: without user, password and query."""
    return re.sub(r"(://)[^/@\s]+@", r"\1***@", re.sub(r"(://[^?\s]*)\?\S*", r"\1?***", url))


def version(fs: AbstractFileSystem, path: str) -> str:
    """ETag, checksum, or size and modification time of a file: whatever the store has."""
    info = fs.info(path)
    for key in ("ETag", "etag", "md5Hash", "content_md5", "generation"):
        if info.get(key):
            return str(info[key]).strip('"')
    if "mtime" in info:
        # os.stat has nanoseconds; fsspec's float has lost them.
        return (
            f"{info['size']}-{os.stat(path).st_mtime_ns}" if os.path.exists(path) else f"{info['size']}-{info['mtime']}"
        )
    changed = info.get("LastModified") or info.get("last_modified") or info.get("created") or ""
    return f"{info['size']}-{changed}"


def format_of(name: str, entry: str) -> str:
    """The format that a file's ending says.

    Raises:
        SpecError: none.
    """
    base = name
    for compression in COMPRESSIONS:
        base = base.removesuffix(compression)
    ending = posixpath.splitext(base)[1].lower()
    if ending not in FORMATS:
        raise SpecError(
            f"source.path {entry!r}: {posixpath.basename(name)!r} does not end like a data file "
            f"({', '.join(FORMATS)}); say source.format: parquet, csv, jsonl or arrow"
        )
    return FORMATS[ending]


def partition(key: str) -> dict[str, str]:
    """Hive partition values in the folders of a key: `lang=en/part-0.parquet` -> {"lang": "en"}."""
    pairs = (folder.split("=", 1) for folder in posixpath.dirname(key).split("/") if "=" in folder)
    return {name: unquote(value) for name, value in pairs}


def _expand(fs: AbstractFileSystem, path: str, format_: str | None) -> tuple[str, list[str]]:
    """The root and the files of one entry; in folders, files of other kinds and hidden ones are passed over."""
    if "*" in path or "?" in path or "[" in path:
        fixed = path[: min(path.find(c) for c in "*?[" if c in path)]
        root = posixpath.dirname(fixed) if not fixed.endswith("/") else fixed.rstrip("/")
        return root, [name for name in fs.glob(path) if not _hidden(posixpath.relpath(name, root)) and fs.isfile(name)]
    if fs.isdir(path):
        root = path.rstrip("/")
        names = (name for name in fs.find(root) if not _hidden(posixpath.relpath(name, root)))
        return root, [name for name in names if format_ or _has_known_ending(name)]
    return posixpath.dirname(path), [path] if fs.exists(path) else []


def _has_known_ending(name: str) -> bool:
    base = name
    for compression in COMPRESSIONS:
        base = base.removesuffix(compression)
    return posixpath.splitext(base)[1].lower() in FORMATS


def _hidden(key: str) -> bool:
    return any(part.startswith(HIDDEN) for part in key.split("/"))
