"""A registry: a folder or URL with versions of an adapter, of which one is the champion.

versions/<version>/files/...        the adapter or model folder
versions/<version>/version.json     how it came about; written last, so that a version without it does not exist
versions/<version>/README.md        the same for people
champion.json                       the last move; replaced by compare-and-swap only
history/000001.json                 every move
gate/...                            evidence about challengers
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs.registry.card import card
from jobs.registry.version import Move, Version, name_of
from jobs.store import Store
from transforms.errors import ModelError, RunError, SpecError

__all__ = ["Move", "Registry", "Version", "parse", "resolve"]

CHAMPION = "champion.json"
# Any champion, also none.
ANY = "any"


class Registry:
    """Versions of an adapter, and the champion among them.

    Args:
        url: folder, or fsspec URL of one; need not exist yet.
    """

    def __init__(self, url: str):
        self.store = Store(url, "registry")
        self.url = self.store.url

    def add(self, folder: Path, about: Version) -> Version:
        """Add a version; the same content again is the same version.

        Args:
            folder: the adapter or model folder; everything in it is copied.
            about: how it came about; `version` and `files` are set here.

        Returns:
            The version with its name and its files.
        """
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        contents = {path.relative_to(folder).as_posix(): path for path in paths}
        files = {name: _hash(path) for name, path in contents.items()}
        made = replace(about, files=files, version=name_of(files, about.base, about.train_hash, about.holdout_hash))
        place = f"versions/{made.version}"
        for name, path in contents.items():
            if not self.store.exists(f"{place}/files/{name}"):
                temporary = self.store.temporary()
                shutil.copyfile(path, temporary)
                self.store.publish(temporary, f"{place}/files/{name}")
        self.store.put(f"{place}/README.md", card(made).encode())
        self.store.put_if_absent(f"{place}/version.json", made.to_json())
        return self.version(made.version)

    def versions(self) -> list[Version]:
        """All versions, oldest first."""
        ids = [name.rsplit("/", 1)[-1] for name in self.store.names("versions")]
        found = [self.version(each) for each in ids if self.store.exists(f"versions/{each}/version.json")]
        return sorted(found, key=lambda version: version.created)

    def version(self, name: str) -> Version:
        """One version, by its name or by the first digits of it.

        Raises:
            ModelError: there is none, or several begin so.
            RunError: its version.json is damaged.
        """
        ids = [each.rsplit("/", 1)[-1] for each in self.store.names("versions")]
        matches = [each for each in ids if each.startswith(name)] if name else []
        matches = [each for each in matches if self.store.exists(f"versions/{each}/version.json")]
        if len(matches) != 1:
            what = f"has no version {name!r}" if not matches else f"has several versions that begin with {name!r}"
            others = f"; versions: {', '.join(sorted(ids)[:8])}" if ids else "; it has no versions"
            raise ModelError(f"registry {self.url!r} {what}{others}")
        place = f"versions/{matches[0]}/version.json"
        return Version.from_json(self.store.get(place), f"{self.url}/{place}")

    def champion(self) -> Move | None:
        """The move that made the current champion; None if there is no champion yet.

        Raises:
            RunError: champion.json is damaged.
        """
        found = self.store.get_versioned(CHAMPION)
        return None if found is None else Move.from_json(found[0], f"{self.url}/{CHAMPION}")

    def promote(
        self,
        name: str,
        by: str,
        reason: str,
        expected: str | None = ANY,
        receipt: Mapping[str, Any] | None = None,
    ) -> Move:
        """Make a version the champion.

        Args:
            name: the version.
            by: who or what approved it.
            reason: why.
            expected: the champion that the decision was made against; None for none.
            receipt: what the decision was derived from.

        Raises:
            ModelError: there is no such version.
            RunError: the champion is another one by now; nothing was changed.
        """
        version, champion = self.version(name), self.champion()
        now = None if champion is None else champion.version
        if now == version.version:
            raise RunError(f"{version.version} is the champion of {self.url!r} already")
        return self._move(version, "promote", by, reason, expected, fallback=now, receipt=receipt)

    def rollback(self, by: str, reason: str) -> Move:
        """Make the previous champion the champion again.

        Raises:
            RunError: there is none, or the champion moved meanwhile; nothing was changed.
        """
        champion = self.champion()
        if champion is None or champion.fallback is None:
            what = "has no champion" if champion is None else f"has no champion before {champion.version}"
            raise RunError(f"registry {self.url!r} {what}; there is nothing to roll back to")
        before = next(
            (
                move
                for move in reversed(self.history())
                if move.version == champion.fallback and move.action == "promote"
            ),
            None,
        )
        fallback = None if before is None else before.fallback
        target = self.version(champion.fallback)
        return self._move(target, "rollback", by, reason, champion.version, fallback=fallback)

    def history(self) -> list[Move]:
        """Every move, oldest first; the last one also if its process ended before it wrote the history."""
        names = self.store.names("history")
        moves = [Move.from_json(self.store.get(name), f"{self.url}/{name}") for name in names]
        champion = self.champion()
        if champion is not None and all(move.number != champion.number for move in moves):
            moves.append(champion)
        return sorted(moves, key=lambda move: move.number)

    def folder(self, name: str) -> Path:
        """A local folder with the files of a version, checked against their hashes.

        Raises:
            ModelError: a file is missing or was changed.
        """
        version = self.version(name)
        if self.store.local:
            folder = Path(self.store.path(f"versions/{version.version}/files"))
        else:
            folder = self._copied(version)
        for file, wanted in version.files.items():
            path = folder / file
            if not path.is_file() or _hash(path) != wanted:
                what = "was changed" if path.is_file() else "is missing"
                raise ModelError(
                    f"{path} {what} after version {version.version} was added; restore it, or add it again"
                )
        return folder

    def _copied(self, version: Version) -> Path:
        """The files of a version in the cache of this machine."""
        cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "nightscribe" / "registry"
        folder = cache / f"{version.version}-{version.content[:12]}"
        if not folder.is_dir():
            cache.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=cache) as temporary:
                whole = Path(temporary) / "files"
                for file in version.files:
                    (whole / file).parent.mkdir(parents=True, exist_ok=True)
                    (whole / file).write_bytes(self.store.get(f"versions/{version.version}/files/{file}"))
                if not folder.is_dir():
                    whole.rename(folder)
        return folder

    def _move(
        self,
        version: Version,
        action: Any,
        by: str,
        reason: str,
        expected: str | None,
        fallback: str | None,
        receipt: Mapping[str, Any] | None = None,
    ) -> Move:
        found = self.store.get_versioned(CHAMPION)
        champion = None if found is None else Move.from_json(found[0], f"{self.url}/{CHAMPION}")
        before = None if champion is None else champion.version
        if expected not in (ANY, before):
            raise RunError(
                f"the champion of {self.url!r} is {before} by now, and {expected} was expected; decide again"
            )
        if champion is not None:
            # Its process may have ended before it wrote the history.
            self.store.put_if_absent(_history(champion), champion.to_json())
        now = datetime.now(UTC).isoformat(timespec="seconds")
        number = 1 if champion is None else champion.number + 1
        move = Move(number, version.version, before, fallback, action, by, reason, now, version.metrics, receipt)
        done = (
            self.store.put_if_absent(CHAMPION, move.to_json())
            if found is None
            else self.store.put_if_match(CHAMPION, move.to_json(), found[1])
        )
        if not done:
            raise RunError(f"the champion of {self.url!r} moved meanwhile; decide again")
        self.store.put_if_absent(_history(move), move.to_json())
        return move


def parse(reference: str) -> tuple[str, str] | None:
    """Registry and version of `REGISTRY@champion` or `REGISTRY@VERSION`; None for any other text."""
    url, at, name = reference.rpartition("@")
    if not at or not url or not name or "/" in name or Path(reference).expanduser().exists():
        return None
    return url, name


def resolve(reference: str, key: str) -> tuple[Registry, Version] | None:
    """The version that a `REGISTRY@...` reference names at this moment; None for any other text.

    Raises:
        SpecError: the registry has no such version, or no champion.
    """
    if (found := parse(reference)) is None:
        return None
    registry = Registry(found[0])
    name = found[1]
    if name == "champion":
        champion = registry.champion()
        if champion is None:
            raise SpecError(f"{key} {reference!r}: the registry has no champion yet; train one, or promote a version")
        name = champion.version
    try:
        return registry, registry.version(name)
    except ModelError as error:
        raise SpecError(f"{key} {reference!r}: {error}") from error


def _history(move: Move) -> str:
    return f"history/{move.number:06d}.json"


def _hash(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
