"""Keeps what the files of transformers' models export, so that an import of transformers does not read all of them.

To import a class when it is asked for, transformers lists the names that each file exports. For that it reads the 2,500
files of its models, and twice: when `transformers` is imported and when `transformers.models` is, 0.4 s each
(tests/bench/README.md, "Start-up"). The list is kept in the user's cache. It is used as long as no file was added,
removed or written, which their sizes and times say, as for the hashes of weights (`transforms.digest`).
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from transforms import user_cache
from transforms.after_import import AfterImport
from transforms.digest import SETTLED_S

LOG = logging.getLogger(__name__)

# transformers' module and its function that reads the files of a folder and of the folders in it.
MODULE, FUNCTION = "transformers.utils.import_utils", "create_import_structure_from_path"

# Backends that names need -> file -> names; and the same for each folder in a folder.
Exports = dict[Any, Any]
Read = Callable[[Any], Exports]


@contextmanager
def kept() -> Iterator[None]:
    """While the block imports transformers, its models are not read if what they export is known."""
    changed: list[tuple[ModuleType, Read]] = []

    def change(module: ModuleType) -> None:
        read = getattr(module, FUNCTION)
        changed.append((module, read))
        own = Path(str(module.__file__))
        setattr(module, FUNCTION, reading(read, own.parents[1] / "models", own))

    waiting = AfterImport(MODULE, change)
    if MODULE in sys.modules:
        change(sys.modules[MODULE])
    else:
        waiting.wait()
    try:
        yield
    finally:
        waiting.withdraw()
        for module, read in changed:
            setattr(module, FUNCTION, read)


def reading(read: Read, models: Path, reader: Path) -> Read:
    """A function that gives what `read` does, and reads the folder of the models only if it has changed.

    Args:
        read: takes a folder, or a file in it; gives what its files export.
        models: the folder that is not read again.
        reader: the file of `read`.
    """
    contents: list[bytes] = []

    def read_or_take(path: Any) -> Exports:
        if Path(path) not in (models, models / "__init__.py"):
            return read(path)
        if not contents:
            contents.append(_of(read, models, reader))
        # Decoded for each caller, since each may change what it gets.
        return _from_json(json.loads(contents[0])["exports"])

    return read_or_take


def _of(read: Read, models: Path, reader: Path) -> bytes:
    """What the files of a folder export, as it is kept."""
    files = [(str(reader), reader.stat()), *sorted(_files(models))]
    about = [(path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for path, stat in files]
    version = hashlib.sha256(repr(about).encode()).hexdigest()
    file = user_cache.folder("exports") / hashlib.sha256(str(models).encode()).hexdigest()
    try:
        content = file.read_bytes()
        if json.loads(content)["files"] == version:
            return content
    except (OSError, ValueError, LookupError, TypeError) as error:
        LOG.debug("%s cannot be used: %s", file, error)
    content = json.dumps({"files": version, "exports": _to_json(read(models))}).encode()
    if time.time() - max(stat.st_ctime for _, stat in files) > SETTLED_S:
        try:
            user_cache.write(file, content)
        except OSError as error:
            LOG.info("%s cannot be written, so %s is read again next time: %s", file, models, error.strerror)
    return content


def _files(folder: Path | str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                # Written by Python itself when a model is first used.
                yield from () if entry.name == "__pycache__" else _files(entry.path)
            else:
                yield entry.path, entry.stat()


def _to_json(exports: Exports) -> list[Any]:
    """A list of (backends, file -> names) and (folder, the same list for it), in their order."""
    return [
        [key, _to_json(value)]
        if isinstance(key, str)
        else [sorted(key), {file: sorted(names) for file, names in value.items()}]
        for key, value in exports.items()
    ]


def _from_json(listed: list[Any]) -> Exports:
    return {
        key if isinstance(key, str) else frozenset(key): _from_json(value)
        if isinstance(key, str)
        else {file: set(names) for file, names in value.items()}
        for key, value in listed
    }
