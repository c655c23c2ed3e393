"""Values, numbers and times as short text for a person: `positive (0.93)`, `4 min 10 s`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from jobs.store.names import REJECTED

# Characters of a text or a value that a report shows.
CHARACTERS = 240
ITEMS = 8
# Adapters by row that a report names; the others are counted.
ADAPTERS = 3


def shown(value: Any, characters: int = CHARACTERS) -> str | None:
    """A value of a new column as text; None for null."""
    return None if value is None else cut(_text(value), characters)


def cut(text: str, characters: int) -> str:
    """The text on one line, shortened if it is long."""
    text = " ".join(text[: 4 * characters].split())
    return text if len(text) <= characters else text[: characters - 1] + "…"


def duration(seconds: float) -> str:
    """Seconds as `0.4 s`, `48 s`, `4 min 10 s` or `2 h 05 min`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 9.95 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def count(n: int, noun: str) -> str:
    """`1 file`, `2,195 files`."""
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def size(n: int) -> str:
    """Bytes as `800 bytes`, `3.4 MB`, `120 GB`."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if n >= factor:
            return f"{n / factor:.1f} {unit}" if n < 100 * factor else f"{n / factor:,.0f} {unit}"
    return f"{n} bytes"


def were(n: int, noun: str) -> str:
    """`1 file was`, `2,195 files were`."""
    return f"{count(n, noun)} {'was' if n == 1 else 'were'}"


def continued(shards_done: int, shards: int) -> str:
    """A run that goes on where an earlier one was stopped, as a sentence.

    Args:
        shards_done: shards that earlier runs have finished and not published.
        shards: shards of the source.
    """
    verb = "was" if shards_done == 1 else "were"
    return f"Continuing: {shards_done:,} of {count(shards, 'shard')} {verb} done by a run that did not finish."


def nothing_new(shards_done: int, shards: int, rows_removed: int) -> str:
    """A run without new rows as a sentence.

    Args:
        shards_done: shards that it read and that have no rows.
        shards: shards of the source.
        rows_removed: rows that it took from the sink because their files are gone.
    """
    if not shards:
        return "Nothing was new: the source has no rows."
    empty = [f"{count(shards_done, 'new shard')} without rows"] if shards_done else []
    before = [f"{were(shards - shards_done, 'shard')} done before"] if shards > shards_done else []
    removed = f"; {were(rows_removed, 'row')} removed, because their files are gone" if rows_removed else ""
    return f"Nothing was new: {', '.join(empty + before)}{removed}."


def nothing_rejected(rows_given_up: int, max_attempts: int) -> str:
    """A run that found no rejected rows to try again as a sentence.

    Args:
        rows_given_up: rejected rows that were tried as often as allowed.
        max_attempts: how often that is.
    """
    if rows_given_up:
        return f"No rejected rows were tried again. {left_alone(rows_given_up, max_attempts)}"
    return (
        "No rejected rows were tried again: a task rejected none of the finished shards' rows. Changed files, models "
        "and options wait for a run without --only-rejected, and rows that cannot be read for a change of their file."
    )


def some_rejected(rows_rejected: int, rows: int, output: str) -> str:
    """Rejected rows of a finished run as a sentence.

    Args:
        rows_rejected: how many.
        rows: rows that the run read.
        output: where the sink's files are.
    """
    verb = "was" if rows_rejected == 1 else "were"
    return f"{rows_rejected:,} of {count(rows, 'row')} {verb} rejected; {output}/{REJECTED} has the reasons."


def left_alone(rows_given_up: int, max_attempts: int) -> str:
    """Rejected rows that are not tried again as a sentence."""
    return (
        f"{were(rows_given_up, 'rejected row').capitalize()} tried {count(max_attempts, 'time')} and "
        f"{'is' if rows_given_up == 1 else 'are'} left alone; errors.max_attempts allows no more."
    )


def clock(time: datetime, timezone: str = "UTC") -> str:
    """A time in a time zone: `2026-11-25 02:15 CET`.

    Args:
        time: with a time zone of its own.
        timezone: IANA name.
    """
    local = time.astimezone(ZoneInfo(timezone))
    return f"{local:%Y-%m-%d %H:%M %Z}"


def adapters(column: str, by_name: Mapping[str, Any]) -> str:
    """Adapters by row in a few words, however many: `60 adapters by customer (acme: ./acme version 9a91c0; 59 more)`.

    Args:
        column: the column that names them.
        by_name: name -> its pin as JSON, or None for the model without an adapter.
    """
    named = [
        f"{name}: {pin['name']} version {pin['commit'][:12]}" if pin else f"{name}: the model without one"
        for name, pin in list(by_name.items())[:ADAPTERS]
    ]
    rest = [f"{len(by_name) - ADAPTERS} more"] if len(by_name) > ADAPTERS else []
    return f"{count(len(by_name), 'adapter')} by {column} ({'; '.join([*named, *rest])})"


def _text(value: Any) -> str:
    match value:
        case str():
            return value
        case float():
            return f"{value:.3g}"
        case {"label": label, "text": str(text)}:
            return f"{text} ({label})"
        case {"token": token, "score": float(score)}:
            return f"{token} ({score:.2f})"
        case {"text": str(text), "score": float(score)}:
            return f"{text} ({score:.2f})"
        case {"label": label, "score": float(score)}:
            return f"{label} ({score:.2f})"
        case [float(), *_]:
            return f"{len(value):,} numbers"
        case list():
            more = f", and {len(value) - ITEMS:,} more" if len(value) > ITEMS else ""
            return ", ".join(_text(item) for item in value[:ITEMS] if item is not None) + more
        case _:
            return json.dumps(value, ensure_ascii=False, default=str)
