"""The record of an audit: one small file a run in the sink, with the approval of a person if there is one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from pydantic import ConfigDict, TypeAdapter

from jobs.store import Store, names


@dataclass(frozen=True)
class Measure:
    """A number of a night that is held against a limit.

    Attributes:
        key: the key of `sink.audit`.
        text: what was found, for a person; never a text of the lake.
        value: the number; None if there is nothing to compare with yet.
        limit: the most that it may be.
    """

    key: str
    text: str
    value: float | None
    limit: float

    @property
    def passed(self) -> bool:
        """Whether it is within its limit."""
        return self.value is None or self.value <= self.limit

    @property
    def verdict(self) -> str:
        """`passed`, `held back` or `not judged`."""
        return "not judged" if self.value is None else "passed" if self.passed else "held back"


@dataclass(frozen=True)
class Approval:
    """A person who publishes a night that was held back.

    Attributes:
        by: the person.
        reason: why.
        time: when, ISO 8601 in UTC.
    """

    by: str
    reason: str
    time: str


@dataclass(frozen=True)
class Audit:
    """The audit of one run.

    Attributes:
        run_id: the run.
        time: when, ISO 8601 in UTC.
        rows: identity of what would be published and removed, see `jobs.audit.check.identity`.
        measures: what was measured.
        approval: who publishes it in spite of a limit; None if nobody does, or nobody has to.
    """

    # A key that is unknown is from another version, which may mean other things by the known ones.
    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    run_id: str
    time: str
    rows: str
    measures: tuple[Measure, ...]
    approval: Approval | None = None

    @property
    def failed(self) -> list[Measure]:
        """What is over its limit."""
        return [measure for measure in self.measures if not measure.passed]

    @property
    def held(self) -> bool:
        """Whether the night waits for a person."""
        return bool(self.failed) and self.approval is None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Audit:
        """The inverse of `to_json`.

        Raises:
            ValueError: a key is missing, unknown, or has a value of another type.
        """
        return _FORM.validate_python(data)


_FORM = TypeAdapter(Audit)


def write(store: Store, audit: Audit) -> None:
    """Keep the audit of a run in the sink, over an older one of that run."""
    store.put(_name(audit.run_id), json.dumps(audit.to_json(), indent=1).encode())


def read(store: Store, run_id: str) -> Audit | None:
    """The audit of a run; None if it was not audited, or its file is damaged: then it is audited again."""
    try:
        return Audit.from_json(json.loads(store.get(_name(run_id))))
    except (FileNotFoundError, ValueError):
        return None


def newest(store: Store) -> Iterator[Audit]:
    """The audits of a sink, the newest first."""
    runs: Sequence[str] = [name.rpartition("/")[2].removesuffix(".json") for name in store.names(names.AUDITS)]
    for run_id in sorted(runs, reverse=True):
        if (audit := read(store, run_id)) is not None:
            yield audit


def _name(run_id: str) -> str:
    return f"{names.AUDITS}/{run_id}.json"
