"""Origins of rows as text for a person at a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jobs.report.shown import count, cut, shown
from jobs.source import files
from jobs.source.shard import shown_range
from jobs.trace import Traced
from jobs.trace.origin import Column, Origin

# Characters of a value, and of a row.
VALUE, ROW = 60, 240


def text(traced: Traced) -> str:
    """The rows, an empty line between two of them, and how many more there are."""
    if not traced.rows:
        return "no row matches"
    blocks = [
        "\n".join(f"{name:<{_width(lines)}}  {value}".rstrip() for name, value in lines)
        for lines in (list(_lines(origin)) for origin in traced.rows)
    ]
    if traced.more:
        blocks.append(f"{count(traced.more, 'more row')}; --limit shows more")
    return "\n\n".join(blocks)


def _width(lines: list[tuple[str, str]]) -> int:
    return max(len(name) for name, _ in lines)


def _lines(origin: Origin) -> Iterator[tuple[str, str]]:
    yield "row", cut(", ".join(f"{name}={shown(value, VALUE)}" for name, value in origin.row.items()), ROW)
    yield "source", f"{origin.source}, version {origin.version}"
    yield "shard", f"{_range(origin)}, {count(origin.shard_rows, 'row')}"
    yield "file", f"{origin.file}, row {origin.file_row:,}"
    yield "run", f"{origin.run_id}, {origin.time}"
    if origin.rejected is not None:
        found = origin.rejected
        record = "" if found.record is None else f" (record {found.record:,} of the source file)"
        yield "rejected", f"{found.task}: {found.error_type}: {found.message}{record}"
    for column in origin.columns:
        lines = list(_column(column, origin))
        if origin.rejected is None:
            lines.insert(0, shown(column.value) or "null")
        for i, line in enumerate(lines):
            yield "" if i else column.name, line


def _range(origin: Origin) -> str:
    """The range of the shard; the ending of the file says what it counts."""
    ending = files.DATA.search(origin.source)
    return shown_range(files.FORMATS[ending.group(1).lower()] if ending else "", origin.start, origin.stop)


def _column(column: Column, origin: Origin) -> Iterator[str]:
    if (settings := column.settings) is None:
        yield f"{column.footer or 'unknown'} (the plan of the run is gone, and its options with it)"
    else:
        words = [str(column.task)]
        words += [
            f"{what} {_pin(pin)}" for what, pin in (("model", settings.model), ("adapter", settings.adapter)) if pin
        ]
        if settings.model is not None:
            words += [settings.dtype, settings.engine, settings.device]
        if settings.agreement is not None:
            words.append(f"the same as float32 for {settings.agreement:.2%} of a sample")
        yield ", ".join(words)
        if (first := settings.first) is not None:
            pins = [f"{what} {_pin(pin)}" for what in ("model", "adapter") if (pin := first[what])]
            yield ", ".join(
                [
                    f"or, if it was sure with a confidence of {first['threshold']:.4g} or more, the smaller {pins[0]}",
                    *pins[1:],
                    *(first[key] for key in ("dtype", "engine", "device")),
                    "which of both gave this value is not recorded",
                ]
            )
        if options := [
            f"{name}={shown(value, VALUE)}" for name, value in settings.options.items() if value is not None
        ]:
            yield cut(", ".join(options), ROW)
    if column.taken_over == "all":
        yield (
            f"taken over from an older file, computed with the same model, adapter and options "
            f"({column.fingerprint}); the run that computed it is not recorded"
        )
    elif column.taken_over == "some":
        yield (
            f"{origin.rows_reused:,} of the {count(origin.shard_rows, 'row')} of this shard took results over from "
            f"older files, computed with the same model, adapter and options ({column.fingerprint}); whether this one "
            f"did is not recorded"
        )


def _pin(pin: Mapping[str, Any]) -> str:
    return f"{pin['name']} ({pin['commit']})"
