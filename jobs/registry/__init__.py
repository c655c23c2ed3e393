"""A registry: a folder or URL with versions of an adapter, of which one is the champion.

versions/<version>/files/...        the adapter or model folder
versions/<version>/version.json     how it came about; written last, so that a version without it does not exist
versions/<version>/README.md        the same for people
champion.json                       the last move; replaced by compare-and-swap only
history/000001.json                 every move
README.md                           on the Hub: the model card of the champion
gate/...                            evidence about challengers
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jobs.registry import content, kept
from jobs.registry.move import Move, chain
from jobs.registry.version import Version, name_of
from jobs.store import Content
from jobs.store.opening import open_store
from transforms.checkpoint import fingerprint
from transforms.errors import ModelError, NothingToMove, RunError, SpecError, UnreadableRegistry

__all__ = ["Move", "Registry", "Version", "parse", "resolve"]

CHAMPION = "champion.json"
# The model card of a repository of the Hub.
CARD = "README.md"
# Any champion, also none.
ANY = "any"


class Registry:
    """Versions of an adapter, and the champion among them.

    Args:
        url: folder, or fsspec URL of one; need not exist yet.
        key: the key that names it in a job or training file, for errors.
    """

    def __init__(self, url: str, key: str = "registry"):
        self.key = key
        self.store = open_store(url, key)
        self.url = self.store.url

    def require(self) -> None:
        """Refuse a path to which no version was ever added, such as a mistyped one.

        Raises:
            SpecError: with the path.
        """
        if not self.store.names("versions") and not self.store.exists(CHAMPION):
            other = " (a repository of the Hub is written hf://org/name)" if self.store.local else ""
            if self.store.on_hub:
                other = ", set HF_TOKEN to a token that may see it if it is private"
            raise SpecError(
                f"{self.key} {self.url!r} is no registry: no version was ever added to it; correct the path{other}, "
                "or train a first version with `nightscribe train`"
            )

    def add(self, folder: Path, about: Version) -> Version:
        """Add a version; the same content again is the same version.

        An adapter gets a file with the fingerprint of its base, so that a job refuses it for any other base.

        Args:
            folder: the adapter or model folder; everything in it is copied.
            about: how it came about; `version` and `files` are set here.

        Returns:
            The version with its name and its files.

        Raises:
            ModelError: the folder is empty, or says that it was trained on another base.
        """
        if not any(path.is_file() for path in folder.rglob("*")):
            raise ModelError(f"{str(folder)!r} has no files, so it is no adapter and no model; nothing was added")
        more = {}
        if about.kind == "adapter" and about.base.fingerprint:
            recorded = fingerprint.recorded(str(folder))
            if recorded not in (None, about.base.fingerprint):
                raise ModelError(
                    f"{folder / fingerprint.ORIGIN} names other weights than those of {about.base.model!r}; add the "
                    "adapter with the base that it was trained on"
                )
            if recorded is None:
                more[fingerprint.ORIGIN] = fingerprint.record(about.base.fingerprint)
        files = content.hashes(folder, more)
        made = replace(about, files=files, version=name_of(files, about.base, about.train_hash, about.holdout_hash))
        content.publish(self.store, made, folder, more)
        return self.version(made.version)

    def versions(self) -> list[Version]:
        """All versions, oldest first."""
        return sorted(map(self._read, self._names()), key=lambda version: version.created)

    def version(self, name: str) -> Version:
        """One version, by its name or by the first digits of it.

        Raises:
            ModelError: there is none, or several begin so.
            UnreadableRegistry: its version.json is damaged.
        """
        if name and self.store.exists(content.about(name)):
            return self._read(name)
        names = self._names()
        matches = [each for each in names if name and each.startswith(name)]
        if len(matches) != 1:
            what = f"has no version {name!r}" if not matches else f"has several versions that begin with {name!r}"
            others = f"; versions: {', '.join(names[:8])}" if names else "; it has no versions"
            raise ModelError(f"registry {self.url!r} {what}{others}")
        return self._read(matches[0])

    def named(self, name: str) -> Version:
        """The version that `champion`, or a version's name or first digits, stands for at this moment.

        Raises:
            SpecError: there is no champion yet, or no registry.
            ModelError: there is no such version.
        """
        if (found := kept.find(self.store, name)) is not None:
            return found
        if self.store.offline:
            here = ", ".join(kept.names(self.store)) or "none"
            what = "which version is the champion" if name == "champion" else f"version {name!r}"
            raise SpecError(
                f"{self.key} {self.url!r}: {what} is asked of the Hub, and HF_HUB_OFFLINE is set; unset it, or name a "
                f"version that is on this machine: {here}"
            )
        self.require()
        if name != "champion":
            return self.version(name)
        if (champion := self.champion()) is None:
            raise SpecError(
                f"{self.key} {self.url!r}: the registry has no champion yet; train one, or promote a version"
            )
        return self.version(champion.version)

    def champion(self) -> Move | None:
        """The move that made the current champion; None if there is no champion yet.

        Raises:
            UnreadableRegistry: champion.json is damaged, or is gone although there was a champion.
        """
        found = self.store.get_versioned(CHAMPION)
        if found is not None:
            return Move.from_json(found[0], f"{self.url}/{CHAMPION}")
        if moves := self.store.names("history"):
            # Without it the next version would be promoted as the first one.
            raise UnreadableRegistry(
                f"{self.url}/{CHAMPION} is missing, and the history has {len(moves)} moves; copy {self.url}/"
                f"{moves[-1]} to {CHAMPION}"
            )
        return None

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
            NothingToMove: the version is the champion already.
            RunError: the champion is another one by now; nothing was changed.
        """
        version, champion = self.version(name), self.champion()
        # A damaged version is found before the champion moves.
        self.folder(version.version)
        now = None if champion is None else champion.version
        if now == version.version:
            raise NothingToMove(f"{version.version} is the champion of {self.url!r} already")
        return self._move(version, "promote", by, reason, expected, fallback=now, receipt=receipt)

    def rollback(self, by: str, reason: str) -> Move:
        """Make the previous champion the champion again.

        Raises:
            NothingToMove: there is none.
            RunError: the champion moved meanwhile; nothing was changed.
        """
        champion = self.champion()
        if champion is None or champion.fallback is None:
            what = "has no champion" if champion is None else f"has no champion before {champion.version}"
            raise NothingToMove(f"registry {self.url!r} {what}; there is nothing to roll back to")
        before = chain(self.history())[:-1]
        fallback = before[-2] if before[-1:] == [champion.fallback] and len(before) > 1 else None
        target = self.version(champion.fallback)
        # A damaged version is found before the champion moves.
        self.folder(target.version)
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
            ModelError: there is no such version, or a file of it is missing or was changed.
        """
        return content.local(self.store, kept.find(self.store, name) or self.version(name))

    def _names(self) -> list[str]:
        """The names of all versions that are complete."""
        found = [name.rsplit("/", 1)[-1] for name in self.store.names("versions")]
        return [name for name in found if self.store.exists(content.about(name))]

    def _read(self, name: str) -> Version:
        return Version.from_json(self.store.get(content.about(name)), f"{self.url}/{content.about(name)}")

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
        now = datetime.now(UTC).isoformat(timespec="seconds")
        number = 1 if champion is None else champion.number + 1
        move = Move(number, version.version, before, fallback, action, by, reason, now, version.metrics, receipt)
        files: dict[str, Content] = {CHAMPION: move.to_json(), _history(move): move.to_json()}
        if champion is not None and not self.store.exists(_history(champion)):
            # Its process ended before it wrote the history.
            files = {_history(champion): champion.to_json()} | files
        if (repository := self.store.model_repository) is not None:
            moves = [*self.history(), move]
            files[CARD] = lambda present: _card(repository, version, moves, present)
        expected_file = (CHAMPION, None if found is None else found[1])
        if not self.store.put_all(files, f"{action} {version.version}", expected_file):
            raise RunError(f"the champion of {self.url!r} moved meanwhile; decide again")
        return move


def parse(reference: str) -> tuple[str, str] | None:
    """Registry and version of `REGISTRY@champion` or `REGISTRY@VERSION`; None for any other text."""
    url, at, name = reference.rpartition("@")
    if not at or not url or not name or "/" in name or Path(reference).expanduser().exists():
        return None
    return url, name


def resolve(reference: str, key: str) -> tuple[Registry, Version] | None:
    """The version that a `REGISTRY@...` reference names at this moment; None for any other text.

    Args:
        reference: any text.
        key: its key in the job file, for the error.

    Raises:
        SpecError: there is no such registry, or it has no such version or no champion.
    """
    if (found := parse(reference)) is None:
        return None
    registry = Registry(found[0], key)
    try:
        return registry, registry.named(found[1])
    except ModelError as error:
        raise SpecError(f"{key} {reference!r}: {error}") from error


def _card(repository: str, version: Version, moves: list[Move], present: bytes | None) -> bytes:
    from jobs.registry.model_card import model_card

    text = None if present is None else present.decode(errors="replace")
    return model_card(repository, version, moves, text).encode()


def _history(move: Move) -> str:
    return f"history/{move.number:06d}.json"
