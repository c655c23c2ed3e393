"""Source files: their names, versions and partition folders."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from fsspec import AbstractFileSystem
from fsspec.implementations.local import LocalFileSystem

from jobs.source import local, urls
from jobs.source.urls import open_url, reason, shown
from transforms.errors import SourceError, SpecError

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

# Readers of a lake skip names that begin like this: markers, logs, and the internal files of a sink. A folder
# `_year=2024` is data nevertheless.
HIDDEN = re.compile(r"^\.|^_(?![^/]*=[^/]*/)")
DATA = re.compile(
    rf"({'|'.join(map(re.escape, FORMATS))})({'|'.join(map(re.escape, COMPRESSIONS))})?$",
    re.IGNORECASE,
)

# The folder name that Hive, Spark, Athena and pyarrow write for null.
HIVE_NULL = "__HIVE_DEFAULT_PARTITION__"

# Keys that stores give for the content of a file and its last change; the first one present is the version.
CHECKSUMS = ("ETag", "etag", "md5Hash", "content_md5", "Content-MD5", "generation", "blob_id", "sha", "checksum", "CRC")
TIMES = ("mtime", "LastModified", "last_modified", "Last-Modified", "modified", "modify", "modificationTime", "created")


@dataclass(frozen=True)
class File:
    """One source file.

    Attributes:
        fs: the filesystem that holds it.
        path: path within its filesystem.
        url: path or URL to open it with.
        key: its path below the root of the source.
        version: a value that changes when the content does.
        format: parquet, csv, jsonl or arrow.
        size: in bytes, if the listing of an object store said it.
    """

    fs: AbstractFileSystem
    path: str
    url: str
    key: str
    version: str
    format: str
    size: int | None = None


@dataclass(frozen=True)
class _Place:
    """A file before it has a key: its filesystem, the root of its entry, and an identity to find duplicates."""

    fs: AbstractFileSystem
    path: str
    url: str
    root: str
    version: str
    entry: str
    identity: str
    linked: bool = False
    size: int | None = None


def find(paths: str | Sequence[str], format_: str | None) -> list[File]:
    """List the files of a file, folder, glob or URL, or of several, sorted by key.

    A file that several paths or links lead to is one file, under the name without links if there is one.

    Raises:
        SpecError: no file is found, a file's ending names no format, or a file has no version.
        SourceError: a store does not answer.
    """
    entries = [paths] if isinstance(paths, str) else list(paths)
    if not all(entries) or not entries:
        raise SpecError("source.path is empty; give a file, folder, glob or URL")
    places = [place for entry in entries for place in _places(entry, format_)]
    once: dict[str, _Place] = {}
    for place in sorted(places, key=lambda place: (place.linked, place.url)):
        once.setdefault(place.identity, place)
    roots = _roots(places)
    files = [
        File(
            place.fs,
            place.path,
            place.url,
            posixpath.join(prefix, _below(place.path, root)),
            place.version,
            format_ or format_of(place.path, place.entry),
            place.size,
        )
        for place in once.values()
        for root, prefix in [roots[place.fs]]
    ]
    return sorted(files, key=lambda file: file.key)


def _below(path: str, root: str) -> str:
    # `relpath` asks for the working directory twice, which takes seconds for 100,000 files.
    folder = f"{root.rstrip('/')}/"
    return path[len(folder) :] if path.startswith(folder) else posixpath.relpath(path, root)


def version(info: dict[str, Any], url: str) -> str:
    """ETag, checksum, or size and time of the last change: the first that the store has.

    Args:
        info: the filesystem's information about a file.
        url: the file, for the message.

    Raises:
        SpecError: the store has none of them.
    """
    for key in CHECKSUMS:
        if info.get(key):
            return re.sub(r'^W/|"', "", str(info[key])) if key != "CRC" else f"{info.get('size')}-{info[key]}"
    for key in TIMES:
        if info.get(key):
            return f"{info.get('size')}-{info[key]}"
    raise SpecError(
        f"{shown(url)} has neither a checksum nor a modification time, so a changed file would not be noticed; copy "
        f"it to a folder or an object store"
    )


def format_of(name: str, entry: str) -> str:
    """The format that a file's ending names.

    Raises:
        SpecError: the ending names none.
    """
    if (ending := DATA.search(name)) is None:
        raise SpecError(
            f"source.path {shown(entry)!r}: {posixpath.basename(shown(name))!r} does not end like a data file "
            f"({', '.join(FORMATS)}); set source.format to parquet, csv, jsonl or arrow"
        )
    return FORMATS[ending.group(1).lower()]


def partition(key: str) -> dict[str, str | None]:
    """Hive partition values in the folders of a key: `lang=en/part-0.parquet` -> {"lang": "en"}; Hive's null: None."""
    pairs = (folder.split("=", 1) for folder in posixpath.dirname(key).split("/") if "=" in folder)
    return {unquote(name): None if value == HIVE_NULL else unquote(value) for name, value in pairs}


def check_sink(
    paths: str | Sequence[str], files: Sequence[File], sink: str, key: str = "sink.path", names: Sequence[str] = ()
) -> None:
    """Refuse a job that would read what it writes.

    Args:
        paths: `source.path`.
        files: the files of the source.
        sink: URL of a folder that the job writes to.
        key: its key in the job file.
        names: files that the job writes there; by default a part of each file, in a folder of the same name.

    Raises:
        SpecError: the sink contains files of the source, or lies inside the source.
    """
    fs, root = open_url(sink)
    root = root.rstrip("/")
    is_local = isinstance(fs, LocalFileSystem)
    real = os.path.realpath(root) if is_local else root
    # Once per folder, because resolving links reads every part of a path.
    folders = {folder: os.path.realpath(folder) for folder in {posixpath.dirname(file.path) for file in files}}
    for file in files:
        path = f"{folders[posixpath.dirname(file.path)]}/" if is_local else file.path
        if is_local and os.path.islink(file.path):
            path = os.path.realpath(file.path)
        if type(file.fs) is type(fs) and path.startswith(f"{real}/"):
            raise SpecError(
                f"source file {shown(file.url)} lies in {key} {shown(sink)!r}, and a job cannot read the folder "
                f"that it writes to; point {key} to a folder beside the source"
            )
    written = [os.path.normpath(f"{real}/{name}") for name in names or [file.key for file in files]]
    for entry in [paths] if isinstance(paths, str) else paths:
        entry_fs, path = open_url(entry)
        if type(entry_fs) is not type(fs):
            continue
        folder = local.root(path) if is_local else posixpath.dirname(local.MAGIC.split(f"{path.rstrip('/')}/")[0])
        if not f"{real}/".startswith(f"{folder.rstrip('/')}/"):
            continue
        hidden = any(HIDDEN.search(f"{part}/") for part in real[len(folder) :].split("/"))
        reached = any(local.matches(path, name) for name in written) if is_local else "*" not in path or "**" in path
        if reached and not hidden:
            raise SpecError(
                f"{key} {shown(sink)!r} lies inside source.path {shown(entry)!r}, so the next run would read "
                f"what this one wrote; point {key} to a folder beside the source"
            )


def _places(entry: str, format_: str | None) -> list[_Place]:
    """The files of one entry of `source.path`.

    Raises:
        SpecError: it matches no file.
    """
    fs, path = open_url(entry)
    is_data = re.compile("") if format_ else DATA
    if isinstance(fs, LocalFileSystem):
        root, listed = _expand_local(entry, path, is_data)
        places = [
            _Place(fs, file.path, file.path, root, file.version, entry, file.real, file.linked) for file in listed
        ]
    else:
        try:
            root, infos = urls.expand(fs, path, is_data, _is_hidden)
        except (PermissionError, FileNotFoundError) as error:
            raise SpecError(f"source.path {shown(entry)!r} cannot be listed: {reason(error)}") from error
        except Exception as error:
            # Each store raises its own errors for network and sign-in, and not all are OSErrors.
            raise SourceError(f"source.path {shown(entry)!r} cannot be listed: {reason(error)}") from error
        url_of = urls.url_of(fs, entry, next(iter(infos), path))
        places = [
            _Place(fs, name, url, root, version(info, url), entry, url, size=info.get("size"))
            for name, info in infos.items()
            for url in [url_of(name)]
        ]
    if not places:
        tried = "" if "://" in entry or path == entry else f" (looked for {path})"
        raise SpecError(
            f"source.path {shown(entry)!r} matches no data file{tried}; give a file, folder or glob of "
            f"{', '.join(FORMATS)}"
        )
    return places


def _expand_local(entry: str, path: str, is_data: re.Pattern[str]) -> tuple[str, list[local.Listed]]:
    try:
        return local.expand(path, is_data, HIDDEN)
    except SpecError as error:
        raise SpecError(f"source.path {entry!r}: {error}") from error


def _is_hidden(key: str) -> bool:
    *folders, name = key.split("/")
    return bool(HIDDEN.search(name)) or any(HIDDEN.search(f"{folder}/") for folder in folders)


def _roots(places: Sequence[_Place]) -> dict[AbstractFileSystem, tuple[str, str]]:
    """The root of the files of each filesystem, and the prefix of their keys if there are several filesystems.

    Entries of one filesystem share a root, so that equal names in different folders get different keys.
    """
    by_fs: dict[AbstractFileSystem, list[_Place]] = {}
    for place in places:
        by_fs.setdefault(place.fs, []).append(place)
    roots = {}
    for i, (fs, group) in enumerate(by_fs.items()):
        several = sorted({place.root for place in group})
        root = several[0] if len(several) == 1 else posixpath.commonpath(several)
        name = fs.protocol if isinstance(fs.protocol, str) else fs.protocol[0]
        roots[fs] = (root or ".", f"{name}-{i}" if len(by_fs) > 1 else "")
    return roots
