"""The smaller model of a task in a plan, and the threshold from which its answers are taken."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from pydantic import TypeAdapter

from jobs.models.hub import Pin


@dataclass(frozen=True)
class Measured:
    """What a sample of the job's rows said about the smaller model.

    Attributes:
        threshold: the least confidence with which its answer is taken; None if no threshold is certified.
        seed: names the measurement, and chooses the rows that are checked during runs.
        check: fraction of its answers that are checked.
        rows: rows of the sample; the large model computed those that the smaller one is surest of.
        answered: those of them that it would answer.
        agreed: those of the answered ones on which both models agree.
        number: how many thresholds of the same task were refuted before.
        why: the reason why there is no threshold, as a sentence; empty if there is one.
        earlier: measurements of the same task before this one, each of which has spent a part of the error.
    """

    threshold: float | None
    seed: str
    check: float = 0.0
    rows: int = 0
    answered: int = 0
    agreed: int = 0
    number: int = 0
    why: str = ""
    earlier: int = 0

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Measured:
        """The inverse of `to_json`.

        Raises:
            ValueError: a key is missing or has a value of another type.
        """
        return _FORM.validate_python(data)


_FORM = TypeAdapter(Measured)


@dataclass(frozen=True)
class FirstPlan:
    """The smaller model of a task with everything resolved.

    Attributes:
        model: its weights at one commit.
        adapter: its adapter at one commit, or None.
        dtype: the dtype that the planning machine chose, as of a `TaskPlan`.
        engine: likewise.
        device: likewise.
        key: hash of the task and both models, under which its measurement is kept in the sink.
        measured: None until it is measured.
    """

    model: Pin
    adapter: Pin | None = None
    dtype: str = "auto"
    engine: str = "auto"
    device: str = "auto"
    key: str = ""
    measured: Measured | None = None

    @property
    def threshold(self) -> float | None:
        """The least confidence with which an answer is taken; None if it answers no rows."""
        return None if self.measured is None else self.measured.threshold

    @property
    def pins(self) -> list[Pin]:
        """The model and its adapter."""
        return [pin for pin in (self.model, self.adapter) if pin is not None]

    def unmeasured(self) -> FirstPlan:
        """The same before it was measured."""
        return replace(self, measured=None)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return {
            "model": self.model.to_json(),
            "adapter": self.adapter and self.adapter.to_json(),
            "dtype": self.dtype,
            "engine": self.engine,
            "device": self.device,
            "key": self.key,
            "measured": self.measured and self.measured.to_json(),
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> FirstPlan:
        """The inverse of `to_json`."""
        adapter = Pin(**data["adapter"]) if data["adapter"] else None
        measured = Measured.from_json(data["measured"]) if data["measured"] else None
        return cls(Pin(**data["model"]), adapter, data["dtype"], data["engine"], data["device"], data["key"], measured)
