"""A registry: keys of rows in receipts and in the state of its gate, texts in its reports, rows of trainings.

A key in a receipt becomes a random word, the same in all of them, so that the decision can still be derived.
"""

from __future__ import annotations

import json
import secrets
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout
from pydantic import TypeAdapter

from jobs.forget.change import Change, written
from jobs.forget.traces import Traces
from jobs.gate import decision
from jobs.registry import CHAMPION, Registry
from jobs.retraining import challengers, state
from jobs.training import request
from transforms.errors import RunError

# Where receipts are: by themselves, or in the move of a champion.
FOLDERS = (state.DECISIONS, "history")
REPORTS = "reports"
ROWS = (request.TRAIN, request.VALIDATION, request.LOSSES)


@dataclass(frozen=True)
class Trained:
    """Versions whose weights keep what they learnt from the rows of a person.

    Attributes:
        on: those that were trained on them.
        maybe: those whose training rows are not kept any more.
    """

    on: tuple[str, ...]
    maybe: tuple[str, ...]


def is_there(registry: Registry) -> bool:
    """Whether a training has written to a registry."""
    return any(registry.store.names(folder) for folder in ("versions", "gate", "_training"))


def changes(registry: Registry, traces: Traces, all_rows: bool) -> Iterator[Change]:
    """A registry without the rows of a person; the pointer to the champion last.

    Args:
        registry: the registry.
        traces: what the person has left.
        all_rows: leave out every row that a report shows, not only those of the person.

    Raises:
        RunError: a file is damaged.
    """
    store, url = registry.store, registry.url
    tokens = {key: f"forgotten-{secrets.token_hex(16)}" for key in traces.keys}
    for name in store.names(REPORTS):
        if name.endswith(".md"):
            text, count = _lines_without(store.get(name).decode(), traces.texts | traces.keys, all_rows)
            if count:
                yield written(store, name, text.encode(), f"{url}: rows that reports show", count)
    for folder, count in _trainings(registry, traces.keys).items():
        if count:
            yield _deleted(folder, f"{url}: rows of trainings", count)
    if store.exists(state.HOLDOUT):
        kept = _read(registry, state.HOLDOUT)
        left = [key for key in kept["keys"] if key not in tokens]
        if count := len(kept["keys"]) - len(left):
            after = json.dumps(kept | {"keys": left}).encode()
            yield written(store, state.HOLDOUT, after, f"{url}: rows of the holdout", count)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    for name in [state.RING, *(each for folder in FOLDERS for each in store.names(folder)), CHAMPION]:
        if not store.exists(name):
            continue
        before = store.get_versioned(name)
        assert before is not None
        content, count = _forgotten(_read(registry, name), tokens, now)
        if not count:
            continue
        place = f"{url}: keys in receipts"
        if name == CHAMPION:
            yield Change(place, count, _moved(registry, json.dumps(content, indent=1, sort_keys=True), before[1]))
        else:
            yield written(store, name, json.dumps(content, indent=1, sort_keys=True).encode(), place, count)


def trained(registry: Registry, traces: Traces) -> Trained:
    """The versions whose weights may keep what they learnt from the rows of a person."""
    counts = _trainings(registry, traces.keys)
    known: dict[str, bool] = {}
    for folder, count in counts.items():
        if (folder / request.REQUEST).is_file():
            train_hash = request.Request.read(folder).train_hash
            known[train_hash] = known.get(train_hash, False) or count > 0
    versions = registry.versions()
    return Trained(
        tuple(version.version for version in versions if known.get(version.train_hash)),
        tuple(version.version for version in versions if version.train_hash not in known),
    )


def _trainings(registry: Registry, keys: Collection[str]) -> dict[Path, int]:
    """Each work folder of a training, and the number of its rows that have such a key."""
    root = challengers.work_folders(registry)
    folders = sorted(path for path in root.iterdir() if path.is_dir()) if root.is_dir() else []
    return {folder: sum(_rows(folder / name, keys) for name in ROWS) for folder in folders}


def _rows(file: Path, keys: Collection[str]) -> int:
    if not file.is_file():
        return 0
    try:
        found = pq.read_table(file, columns=["key"]).column(0).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise RunError(f"{file} is damaged ({error}), so it cannot be searched; delete {file.parent}") from error
    return sum(key in keys for key in found)


def _deleted(folder: Path, place: str, count: int) -> Change:
    def make() -> None:
        try:
            with FileLock(folder / request.LOCK, timeout=0):
                shutil.rmtree(folder)
        except Timeout as error:
            raise RunError(
                f"a training runs in {str(folder)!r}; wait for its end, and run the command again"
            ) from error

    return Change(place, count, make)


def _moved(registry: Registry, content: str, version: str) -> Callable[[], None]:
    def make() -> None:
        if not registry.store.put_if_match(CHAMPION, content.encode(), version):
            raise RunError(f"the champion of {registry.url!r} moved meanwhile; run the command again")

    return make


def _forgotten(content: dict[str, Any], tokens: Mapping[str, str], now: str) -> tuple[dict[str, Any], int]:
    """The ring, a receipt, or a move with a receipt, with words in place of keys; and how many keys."""
    if isinstance(content.get("receipt"), dict):
        receipt, count = _forgotten(content["receipt"], tokens, now)
        return content | {"receipt": receipt}, count
    found, replaced = _replaced(content, tokens)
    if replaced and "digest" in content:
        found["forgotten"] = [*content.get("forgotten", []), {"rows": len(replaced), "at": now}]
        # A receipt that was altered before stays recognisable as such.
        found = decision.sealed(found) if decision.is_sealed(content) else found
    return found, len(replaced)


def _replaced(content: Any, tokens: Mapping[str, str]) -> tuple[Any, frozenset[str]]:
    """JSON with words in place of keys, and the keys that it had."""
    if isinstance(content, str):
        return tokens.get(content, content), frozenset({content} & tokens.keys())
    if isinstance(content, list):
        each = [_replaced(value, tokens) for value in content]
        return [value for value, _ in each], frozenset().union(*(keys for _, keys in each))
    if isinstance(content, dict):
        named = {name: _replaced(value, tokens) for name, value in content.items()}
        return {name: value for name, (value, _) in named.items()}, frozenset().union(*(k for _, k in named.values()))
    return content, frozenset()


def _lines_without(report: str, texts: Collection[str], all_rows: bool) -> tuple[str, int]:
    """A report in Markdown without the lines of tables that show one of some texts, or without all of them.

    A report shows the beginning of a text on one line.
    """
    flat = {" ".join(text.split()) for text in texts}
    left, header = [], True
    for line in report.split("\n"):
        is_row = line.startswith("|")
        # The line of dashes ends the header of a table.
        if is_row and not header and (all_rows or any(_shows(cell, flat) for cell in _cells(line))):
            continue
        header = not is_row or (header and not set(line) <= set("|-: "))
        left.append(line)
    return "\n".join(left), report.count("\n") + 1 - len(left)


def _cells(line: str) -> list[str]:
    unescaped = line.replace("\\|", "\0").strip().strip("|").split("|")
    return [cell.strip().replace("\0", "|") for cell in unescaped]


def _shows(cell: str, texts: Collection[str]) -> bool:
    beginning = cell.removesuffix("…").removesuffix("\\")
    if not cell.endswith("…"):
        return cell in texts
    return bool(beginning) and any(text.startswith(beginning) for text in texts)


def _read(registry: Registry, name: str) -> dict[str, Any]:
    try:
        return _FORM.validate_json(registry.store.get(name))
    except ValueError as error:
        raise RunError(f"{registry.url}/{name} is damaged, so it cannot be searched; restore the file") from error


_FORM = TypeAdapter(dict[str, Any])
