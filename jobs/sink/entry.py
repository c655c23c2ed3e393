"""An entry of the ledger: the record of a finished shard."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar, cast

import orjson
from pydantic import ConfigDict, TypeAdapter

from jobs.plan.fingerprint import Fingerprint
from jobs.report.findings import Findings
from transforms.contract import Asked, Truncated

# What is left of the findings of an entry without rejected rows, once the report of its run is written.
NO_REJECTS: dict[str, Any] = {"rejects": {}}


@dataclass(frozen=True)
class Piece:
    """Rows of a shard in a part file of a table.

    Attributes:
        part: the file, below the sink.
        first_row: the first of them there.
        rows: how many.
    """

    part: str
    first_row: int
    rows: int


@dataclass(frozen=True)
class Entry:
    """The record of a finished shard.

    Attributes:
        slot: the shard's place in the sink; the entry's name.
        shard: id of the shard.
        key: source file, below the root of its source.
        version: version of that file.
        start: where the shard's range begins.
        stop: where it ends.
        limit: rows that `source.limit` left of it, or None.
        fingerprint: everything except its source rows that could change its output.
        rows_in: rows that entered the tasks, unreadable ones included.
        rows_out: rows in the part file.
        rows_rejected: rows that were rejected; `nightscribe forget` may have erased some of them from the file since.
        part: part file below the sink.
        rejected: rejected file below the sink, or None.
        tokens: real tokens computed.
        padded_tokens: token positions computed, including padding.
        run_id: the run that wrote it.
        time: when, ISO 8601 in UTC.
        content: hash of the local source file that it was read from, or None.
        findings: statistics collected while its rows were written (`jobs.report.findings`), or None.
        reused: columns that were taken from an older part file of the shard.
        lease: number of the lease on the sink under which it was written; 0 if unknown.
        rows_reused: rows of which at least one column was not computed again.
        pieces: of a table, where its rows are in part files that it shares with other shards; `part` is the first one.
        in_table: whether its rows are published in a table; then `pieces` has all of them.
        attempts: how often its rejected rows were tried again (`run --only-rejected`).
        writer: names its staged files, so that two processes that do the same shard do not write over each other.
        asked: column of a task -> what became of its rows that a smaller model was asked first.
        truncated: column of a task -> how many of its rows that were computed were longer than the model's window.
    """

    # A key that is unknown is from another version, which may mean other things by the known ones.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    slot: str
    shard: str
    key: str
    version: str
    start: int
    stop: int
    limit: int | None
    fingerprint: Fingerprint
    rows_in: int
    rows_out: int
    rows_rejected: int
    part: str
    rejected: str | None
    tokens: int
    padded_tokens: int
    run_id: str
    time: str
    content: str | None = None
    findings: dict[str, Any] | None = None
    reused: tuple[str, ...] = ()
    lease: int = 0
    rows_reused: int = 0
    pieces: tuple[Piece, ...] = ()
    in_table: bool = False
    attempts: int = 0
    writer: str = ""
    asked: Mapping[str, Asked] = field(default_factory=dict)
    truncated: Mapping[str, Truncated] = field(default_factory=dict)

    @property
    def places(self) -> tuple[Piece, ...]:
        """Where its rows are; the part file is below the sink, or among the staged files."""
        return self.pieces if self.in_table else (Piece(self.part, 0, self.rows_out),)

    @property
    def in_order(self) -> bool:
        """Whether its part file has all its rows in the order of the source; a table may divide them by partition."""
        return not self.in_table or (len(self.pieces) == 1 and self.pieces[0].rows == self.rows_out)

    @property
    def files(self) -> list[str]:
        """The files that it has alone, below the sink."""
        own = [] if self.in_table else [self.part]
        return own + ([self.rejected] if self.rejected is not None else [])

    @property
    def rows_broken(self) -> int:
        """Rejected rows that could be read and made a task fail."""
        rejects = (self.findings or {}).get("rejects", {})
        return self.rows_rejected - sum(rows for reason, rows in rejects.items() if reason.startswith("source: "))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        # Twenty times as fast as `asdict`.
        return cast(dict[str, Any], orjson.loads(orjson.dumps(self)))

    @classmethod
    def from_json(cls, data: Any) -> Entry:
        """The inverse of `to_json`.

        Raises:
            ValueError: no object, or a key is missing, unknown, or has a value of another type.
        """
        if isinstance(data, dict):
            data = data | {"fingerprint": _fingerprint(orjson.dumps(data.get("fingerprint")))}
        entry = _FORM.validate_python(data)
        if entry.findings is not None and entry.findings != NO_REJECTS:
            Findings.from_json(entry.findings)
        return entry


_FORM = TypeAdapter(Entry)


@lru_cache(maxsize=1024)
def _fingerprint(content: bytes) -> Fingerprint:
    """One object for the entries of a night: thousands of entries have the same."""
    return Fingerprint.from_json(orjson.loads(content))
