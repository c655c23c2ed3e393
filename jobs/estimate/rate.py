"""How long rows take on this machine: what a calibration measures, and what it says of a shard."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import asdict, dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from jobs.source import Shard


@dataclass(frozen=True)
class LengthClass:
    """Rows with texts of similar length, which the tasks get.

    Attributes:
        longest: characters of the longest text; a longer one belongs to the next class.
        share: how many of all rows are in the class and have to be computed.
        characters: mean of a row.
        seconds: computing time of a row.
        tokens: real tokens of a row.
        positions: token positions of a row, padding included.
    """

    longest: int
    share: float
    characters: float
    seconds: float
    tokens: float
    positions: float


@dataclass(frozen=True)
class TaskRate:
    """One task.

    Attributes:
        into: the column that it adds.
        classes: its rows by length, shortest first; their shares add up to less than 1 if results of some rows are
            taken over, or if equal texts are computed once.
        sampled: rows that were computed to measure it.
    """

    into: str
    classes: tuple[LengthClass, ...]
    sampled: int

    @property
    def computed(self) -> float:
        """How many of all rows are computed."""
        return sum(each.share for each in self.classes)

    @property
    def seconds(self) -> float:
        """Mean computing time of a row, of all rows."""
        return sum(each.share * each.seconds for each in self.classes)

    @property
    def tokens(self) -> float:
        """Mean real tokens of a row, of all rows."""
        return sum(each.share * each.tokens for each in self.classes)

    @property
    def positions(self) -> float:
        """Mean token positions of a row, of all rows."""
        return sum(each.share * each.positions for each in self.classes)

    def adjusted(self, seconds: float, tokens: float, positions: float) -> TaskRate:
        """The rate with classes that add up to what a row takes that is computed."""
        pairs = ((seconds, self.seconds), (tokens, self.tokens), (positions, self.positions))
        factors = [right * self.computed / ours if ours else 1.0 for right, ours in pairs]
        classes = [
            replace(
                each,
                seconds=each.seconds * factors[0],
                tokens=each.tokens * factors[1],
                positions=each.positions * factors[2],
            )
            for each in self.classes
        ]
        return replace(self, classes=tuple(classes))


@dataclass(frozen=True)
class Rate:
    """What was measured on this machine, for the rows of one source and the tasks of one job.

    Attributes:
        tasks: the tasks, in order.
        selected: rows that tasks get for each row read (`where`, `prepare`).
        unreadable: unreadable rows for each row read.
        rows_per_guess: rows of a file for each row that its size made us expect.
        rows_of_shard: rows of a shard about whose size nothing is known.
        read_s: seconds for each row read.
        write_s: seconds for each row written.
        shard_s: seconds for each shard, apart from its rows.
        start_s: seconds until a worker can compute its first row: imports, the runner, loading the models.
        run_s: seconds of a run that no worker spends: planning, checks, publishing.
        row_bytes: bytes of a row in a part file.
        shard_requests: requests to an object store until the first rows of a shard are there.
        row_requests: further ones for each row read.
        memory_bytes: the most memory of the process that computed the sample.
        gpu_bytes: the most memory of its GPU; 0 without one.
    """

    tasks: tuple[TaskRate, ...]
    selected: float
    unreadable: float
    rows_per_guess: float
    rows_of_shard: float
    read_s: float
    write_s: float
    shard_s: float
    start_s: float
    run_s: float
    row_bytes: float
    memory_bytes: int
    shard_requests: float = 0.0
    row_requests: float = 0.0
    gpu_bytes: int = 0

    def rows(self, shard: Shard) -> float:
        """Rows of a shard before `where` and `prepare`."""
        if shard.rows is not None:
            return float(shard.rows)
        return self.rows_of_shard if shard.about_rows is None else shard.about_rows * self.rows_per_guess

    def rows_selected(self, shard: Shard) -> float:
        """Rows of a shard that the tasks get."""
        found = self.rows(shard) * self.selected
        return found if shard.limit is None else min(found, shard.limit)

    def rows_read(self, shard: Shard) -> float:
        """Rows of a shard that are read, which `source.limit` may end."""
        found = self.rows(shard)
        return min(found, self.rows_selected(shard) / self.selected) if self.selected else found

    def expected_seconds(self, shard: Shard, columns: Collection[str] | None = None) -> float:
        """Seconds of a worker that has its models for a shard.

        Args:
            shard: the shard.
            columns: the columns that are computed; by default all, without those taken over from an older part file.
        """
        tasks = [task for task in self.tasks if columns is None or task.into in columns]
        compute_s = sum(task.seconds for task in tasks)
        rows = self.rows_selected(shard)
        return self.shard_s + self.rows_read(shard) * self.read_s + rows * (self.write_s + compute_s)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Rate:
        """The inverse of `to_json`.

        Raises:
            ValueError: a key is missing or has a value of another type.
        """
        return _FORM.validate_python(data)


_FORM = TypeAdapter(Rate)
