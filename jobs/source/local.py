"""Files below a local path: folders and linked folders, globs, and names with special characters."""

from __future__ import annotations

import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from fsspec.utils import glob_translate

from transforms.errors import SpecError

MAGIC = re.compile(r"[*?\[]")


@dataclass(frozen=True)
class Listed:
    """One file of a listing.

    Attributes:
        path: its path, with links not resolved.
        real: its path with all links resolved.
        size: in bytes.
        mtime_ns: time of the last change.
    """

    path: str
    real: str
    size: int
    mtime_ns: int

    @property
    def version(self) -> str:
        """Changes whenever the content does, as far as the file system can tell."""
        return f"{self.size}-{self.mtime_ns}"

    @property
    def linked(self) -> bool:
        """Whether the path contains a link."""
        return self.path != self.real


def expand(path: str, is_data: re.Pattern[str], hidden: re.Pattern[str]) -> tuple[str, list[Listed]]:
    """The root of an absolute path or glob, and the files that it names.

    An existing path is never read as a glob, so brackets in names need no escape; in a glob, names of existing folders
    are taken literally. A glob that matches only folders means the files in them.

    Args:
        path: file, folder or glob.
        is_data: names of files in folders that are wanted.
        hidden: names in folders that are skipped; names of folders end in `/`.

    Raises:
        SpecError: a folder cannot be listed, a link is broken, a file is not a regular file.
    """
    path = _as_written(path)
    if os.path.isdir(path):
        found = [file for file in _walk(path, hidden) if is_data.search(file[0]) or _may_be_folder(file[0])]
        return path, [_listed(*file) for file in found]
    if os.path.lexists(path) or not MAGIC.search(path):
        return os.path.dirname(path), [_listed(path)] if os.path.lexists(path) else []
    folder, pattern = _split(path)
    if not os.path.isdir(folder):
        return folder, []
    names = pattern.split("/")
    found = [
        file
        for file in _walk(folder, hidden, lambda name: _leads(name.split("/"), names))
        if _fits(os.path.relpath(file[0], folder), pattern)
    ]
    if not found:
        found = [
            file
            for file in _walk(folder, hidden, lambda name: _leads(name.split("/")[: len(names)], [*names, "*"]))
            if is_data.search(file[0]) and _fits_folder(os.path.relpath(file[0], folder), pattern)
        ]
    return folder, [_listed(*file) for file in found]


def version(path: str) -> str:
    """The version that a file has now.

    Raises:
        OSError: it does not exist.
    """
    found = os.stat(path)
    return Listed(path, path, found.st_size, found.st_mtime_ns).version


def matches(path: str, name: str) -> bool:
    """Whether a path or glob matches a file, which need not exist.

    Args:
        path: absolute.
        name: absolute, with all links resolved.
    """
    if os.path.isdir(path) or not MAGIC.search(path):
        return name.startswith(f"{root(path).rstrip('/')}/")
    relative, pattern = os.path.relpath(name, root(path)), _split(path)[1]
    return _fits(relative, pattern) or _fits_folder(relative, pattern)


def root(path: str) -> str:
    """The folder that contains every possible match of an absolute path or glob, with all links resolved."""
    path = _as_written(path)
    return os.path.realpath(path if os.path.isdir(path) or not MAGIC.search(path) else _split(path)[0])


def _fits(name: str, pattern: str) -> bool:
    return _compiled(pattern).match(name) is not None


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(glob_translate(pattern))


def _fits_folder(name: str, pattern: str) -> bool:
    """Whether one of the folders of a relative path fits."""
    parts = name.split("/")
    return any(_fits("/".join(parts[:i]), pattern) for i in range(1, len(parts)))


def _leads(folder: list[str], pattern: list[str]) -> bool:
    """Whether files below a folder may fit a pattern, both as the names between slashes."""
    if "**" in pattern[: len(folder)]:
        return True
    return len(folder) < len(pattern) and all(map(_fits, folder, pattern))


def _walk(
    root: str, hidden: re.Pattern[str], enter: Callable[[str], bool] = lambda folder: True
) -> Iterator[tuple[str, str]]:
    """Files below a folder, links followed: (path, path with all links resolved).

    A link to a folder that contains it is not entered, so that the walk ends.

    Args:
        root: the folder.
        hidden: names that are skipped; names of folders end in `/`.
        enter: whether to enter a folder, by its path below the root.
    """
    real_root = os.path.realpath(root)
    waiting = [(root, real_root, frozenset([real_root]))]
    while waiting:
        folder, real, above = waiting.pop()
        for entry in _entries(folder):
            is_folder = os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir()
            if hidden.search(f"{entry.name}/" if is_folder else entry.name):
                continue
            target = os.path.realpath(entry.path) if entry.is_symlink() else os.path.join(real, entry.name)
            if not is_folder:
                yield entry.path, target
            elif target not in above and enter(os.path.relpath(entry.path, root)):
                waiting.append((entry.path, target, above | {target}))


def _entries(folder: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise SpecError(
            f"folder {folder!r} cannot be listed: {error.strerror}; make it readable for this user, or leave it out of "
            f"source.path"
        ) from error


def _may_be_folder(path: str) -> bool:
    """Whether a path is a broken link that may have pointed to a folder of data."""
    return os.path.islink(path) and not os.path.exists(path) and "." not in os.path.basename(path)


def _listed(path: str, real: str | None = None) -> Listed:
    """A file with its size and time.

    Raises:
        SpecError: it is a broken link, or not a regular file.
    """
    try:
        path.encode()
    except UnicodeEncodeError as error:
        raise SpecError(f"the name of {path!r} is not UTF-8; rename the file") from error
    try:
        found = os.stat(path)
    except OSError as error:
        if os.path.islink(path):
            raise SpecError(
                f"{path!r} is a link to {os.readlink(path)!r}, which does not exist; remove the link or restore its "
                f"target"
            ) from error
        raise SpecError(f"{path!r} cannot be read: {error.strerror}; make it readable, or remove it") from error
    if not stat.S_ISREG(found.st_mode):
        raise SpecError(f"{path!r} is not a regular file but {_kind(found.st_mode)}; leave it out of source.path")
    return Listed(path, real or os.path.realpath(path), found.st_size, found.st_mtime_ns)


def _kind(mode: int) -> str:
    names = {stat.S_ISFIFO: "a named pipe", stat.S_ISSOCK: "a socket", stat.S_ISDIR: "a folder"}
    return next((name for test, name in names.items() if test(mode)), "a device")


def _split(path: str) -> tuple[str, str]:
    """The folder before the first part of a glob that is a pattern, and the pattern from there on."""
    parts = path.split("/")
    i = 1
    while i < len(parts) - 1 and (not MAGIC.search(parts[i]) or os.path.isdir("/".join(parts[: i + 1]))):
        i += 1
    pattern, folder = [], "/".join(parts[:i]) or "/"
    for part in parts[i:]:
        folder = f"{folder}/{part}"
        pattern.append(MAGIC.sub(r"[\g<0>]", part) if os.path.lexists(folder) else part)
    return "/".join(parts[:i]) or "/", "/".join(pattern)


def _as_written(path: str) -> str:
    """The path as the file system spells it: `é` may be one character or two (Unicode's NFC and NFD)."""
    if path.isascii() or os.path.lexists(path):
        return path
    found = "/"
    for part in path.split("/")[1:]:
        step = os.path.join(found, part)
        if not os.path.lexists(step) and os.path.isdir(found):
            composed = unicodedata.normalize("NFC", part)
            same = [name for name in os.listdir(found) if unicodedata.normalize("NFC", name) == composed]
            step = os.path.join(found, same[0]) if len(same) == 1 else step
        found = step
    return found
