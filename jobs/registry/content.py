"""The files of versions: copied into a registry and from there to this machine, checked by their hashes."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from jobs.models.choice import PICKLES
from jobs.registry import kept
from jobs.registry.card import card
from jobs.registry.version import Version
from jobs.store import Content, Store
from transforms import user_cache
from transforms.errors import ModelError

# Bytes read at a time.
BLOCK = 1 << 20


def hashes(folder: Path, more: Mapping[str, bytes]) -> dict[str, str]:
    """SHA-256 of every file below a folder by its name below it, and of more files by theirs."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    found = {path.relative_to(folder).as_posix(): _hash_of(path) for path in files}
    return found | {name: hashlib.sha256(text).hexdigest() for name, text in more.items()}


def place(version: Version) -> str:
    """The folder of a version's files in its registry."""
    return f"versions/{version.version}/files"


def about(version: str) -> str:
    """The file that says how a version came about; without it there is no such version."""
    return f"versions/{version}/version.json"


def publish(store: Store, version: Version, folder: Path, more: Mapping[str, bytes]) -> None:
    """Copy a version into the registry, except the files that are there undamaged; version.json last.

    Args:
        store: the registry's.
        version: names the files.
        folder: where they are.
        more: content of the files that are not in the folder.
    """
    files: dict[str, Content] = {}
    for name, wanted in version.files.items():
        target = f"{place(version)}/{name}"
        # A store on the Hub compares them itself, without reading them.
        if store.on_hub or not (store.exists(target) and _stored_hash(store, target) == wanted):
            files[target] = more.get(name, folder / name)
    only_if = None
    if not store.exists(about(version.version)):
        files[f"versions/{version.version}/README.md"] = card(version).encode()
        files[about(version.version)] = version.to_json()
        only_if = (about(version.version), None)
    store.put_all(files, f"add version {version.version}", only_if)


def local(store: Store, version: Version) -> Path:
    """A folder of this machine with the files of a version: in the registry itself, or a copy in the cache.

    A damaged copy in the cache is made again.

    Raises:
        ModelError: a file in the registry is missing or was changed, or a version on the Hub has a pickle.
    """
    if store.local:
        folder = Path(store.path(place(version)))
        _check(folder, version, store.url)
        return folder
    cache_folder = user_cache.folder("registry")
    folder = cache_folder / f"{version.version}-{version.content}"
    if store.on_hub and (pickles := [name for name in version.files if name.endswith(PICKLES)]):
        raise ModelError(
            f"version {version.version} in {store.url!r} has a pickle ({pickles[0]}), and loading a pickle can run any "
            "code of its author; add the version again without it"
        )
    if folder.is_dir():
        try:
            _check(folder, version, str(folder))
            kept.keep(store, version)
            return folder
        except ModelError:
            shutil.rmtree(folder)
    cache_folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache_folder) as temporary:
        whole = Path(temporary) / "files"
        _download(store, version, whole)
        _check(whole, version, store.url)
        try:
            whole.rename(folder)
        except OSError:
            # Another process has put the same files there meanwhile.
            _check(folder, version, str(folder))
    kept.keep(store, version)
    return folder


def _download(store: Store, version: Version, folder: Path) -> None:
    for name in version.files:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        # A missing file is reported by the check.
        if store.exists(source := f"{place(version)}/{name}"):
            store.download(source, file)


def _check(folder: Path, version: Version, where: str) -> None:
    for name, wanted in version.files.items():
        file = folder / name
        if not file.is_file() or _hash_of(file) != wanted:
            what = "was changed" if file.is_file() else "is missing"
            raise ModelError(
                f"{name} of version {version.version} in {where!r} {what} after the version was added; "
                "restore it, or add the version again"
            )


def _stored_hash(store: Store, name: str) -> str:
    with store.open(name) as stream:
        total = hashlib.sha256()
        while block := stream.read(BLOCK):
            total.update(block)
        return total.hexdigest()


def _hash_of(path: Path) -> str:
    stat = path.stat()
    return _hash(path, stat.st_size, stat.st_mtime_ns)


@cache
def _hash(path: Path, size: int, mtime_ns: int) -> str:
    """Cached, because a run needs it for the plan and for loading, and a whole model can be large."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
