"""Whether a worker may execute parts of a run: it has the same versions, and sees the source and the sink.

`python -m jobs.parts.check` prints the versions of this machine.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
import socket
from collections.abc import Iterable, Mapping
from pathlib import Path

from jobs.source import Shard
from transforms.errors import UnfitWorker

# Libraries whose version can change a row, or the bytes of a file.
LIBRARIES = ("torch", "transformers", "tokenizers", "peft", "pyarrow")
ROOMS = ("jobs", "transforms")


@functools.cache
def versions() -> dict[str, str]:
    """The versions of the code and the libraries of this machine."""
    found = {"python": ".".join(platform.python_version_tuple()[:2]), "nightscribe": _own()}
    return found | {name: importlib.metadata.version(name).partition("+")[0] for name in LIBRARIES}


def check_versions(wanted: Mapping[str, str]) -> None:
    """Refuse to work with other versions than those of the coordinator.

    Raises:
        UnfitWorker: with every difference.
    """
    if told := difference(wanted, versions()):
        raise UnfitWorker(f"worker {socket.gethostname()} {told}")


def difference(wanted: Mapping[str, str], here: Mapping[str, str]) -> str:
    """What is wrong with the versions of a worker, as the end of a sentence; empty if nothing is."""
    other = [name for name in sorted(wanted.keys() | here.keys()) if wanted.get(name) != here.get(name)]
    told = ", ".join(f"{name} {here.get(name, 'none')} instead of {wanted.get(name, 'none')}" for name in other)
    said = f"has other versions than the run was planned with: {told}; install the same versions on every machine"
    return said if other else ""


def check_folder(folder: str, relative: Iterable[str]) -> None:
    """Refuse to work without the folder in which the relative paths of a job start.

    Args:
        folder: of the coordinator.
        relative: paths of the job file that start there.

    Raises:
        UnfitWorker: there is no such folder here, and a path needs it.
    """
    if not os.path.isdir(folder) and (needed := sorted(relative)):
        raise UnfitWorker(
            f"worker {socket.gethostname()} has no folder {folder!r}, in which the relative paths of the job start, "
            f"such as {needed[0]!r}; mount it there, or write absolute paths in the job file"
        )


def check_source(shards: Iterable[Shard]) -> None:
    """Refuse to work where no file of the source can be seen.

    Raises:
        UnfitWorker: none of the files is there.
    """
    files = {shard.file for shard in shards if "://" not in shard.file and shard.file}
    if files and not any(map(os.path.exists, files)):
        raise UnfitWorker(
            f"worker {socket.gethostname()} does not see the source, such as {min(files)!r}; mount the lake at the "
            f"same path on every machine"
        )


def _own() -> str:
    """The version of nightscribe, and a hash of its source, which changes between two releases too."""
    hashed = hashlib.blake2b(digest_size=6)
    above = Path(__file__).parents[2]
    for file in sorted(file for room in ROOMS for file in (above / room).rglob("*.py")):
        hashed.update(file.relative_to(above).as_posix().encode())
        hashed.update(file.read_bytes())
    return f"{importlib.metadata.version('nightscribe')} ({hashed.hexdigest()})"


if __name__ == "__main__":
    print(json.dumps(versions()))
