"""What an arm of a benchmark is to do, and the arms themselves by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Order:
    """What an arm is to do.

    Attributes:
        task: classify, ner, embed or zero_shot.
        model: folder.
        source: folder of Parquet files with a `text`.
        sink: a path that is not there yet.
        dtype: float32, bfloat16, float16 or int8.
        labels: of zero_shot.
    """

    task: str
    model: Path
    source: Path
    sink: Path
    dtype: str
    labels: tuple[str, ...] = ()

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Order:
        """The inverse of `dataclasses.asdict` followed by JSON."""
        paths = {name: Path(data[name]) for name in ("model", "source", "sink")}
        return cls(**data | paths | {"labels": tuple(data["labels"])})


@dataclass(frozen=True)
class Arm:
    """A way to do an order.

    Attributes:
        call: `module:function`; the function takes an `Order` and `more`.
        dtype: of the order.
        more: keyword arguments.
        tuned: the argument that is given the best of `tests.bench.tuning`, `budget` or `batch_size`; None without one.
    """

    call: str
    dtype: str
    more: dict[str, Any] = field(default_factory=dict)
    tuned: str | None = None
