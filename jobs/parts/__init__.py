"""Parts of a plan, which other machines execute: a coordinator hands them out, workers say what they have done.

    coordinator   holds the sink; writes one file for the run (`Run`) and one for each part (`Part`); decides what is
                  next (`schedule`), starts parts somewhere (`site`), reads what the workers say (`board`)
    worker        reads both files, checks that it may execute them (`check`), executes the shards one by one
                  (`worker`) and writes what it does (`State`) every few seconds

The ledger alone says which shards are done; these files are deleted with the end of the run. A part can be made smaller
while it runs: its worker reads its file again before each shard.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from pydantic import TypeAdapter

from jobs.source import Shard
from jobs.store import names

# Seconds for which a store may fail before the coordinator or a worker gives up.
PATIENCE_S = 300.0

_SHARD = [each.name for each in fields(Shard)]


@dataclass(frozen=True)
class Part:
    """Shards that one worker executes, in their order.

    Attributes:
        number: counted from 1; a part is not started twice, its shards get into a new one.
        shards: those that it still has to do.
    """

    number: int
    shards: tuple[Shard, ...]

    def to_json(self) -> bytes:
        """Its file."""
        shards = [{key: getattr(shard, key) for key in _SHARD} for shard in self.shards]
        return json.dumps({"number": self.number, "shards": shards}).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Part:
        """The inverse of `to_json`."""
        data = json.loads(content)
        return cls(data["number"], tuple(Shard(**each) for each in data["shards"]))


@dataclass(frozen=True)
class Run:
    """What all parts of a run share.

    Attributes:
        plan: the plan as text, without its shards, with absolute paths.
        versions: of the code and the libraries that a worker must have.
        folder: the coordinator's current folder, where modules of the job file may be.
    """

    plan: str
    versions: dict[str, str]
    folder: str

    def to_json(self) -> bytes:
        """Its file."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Run:
        """The inverse of `to_json`."""
        return _RUN.validate_json(content)


@dataclass(frozen=True)
class Done:
    """A shard that a part has done.

    Attributes:
        slot: the shard.
        began: when, seconds since 1970 by the clock of the worker.
        ended: likewise.
        rows: that entered the tasks.
        tokens: real tokens computed.
        computed: whether it did so itself; not if it found the shard done.
    """

    slot: str
    began: float
    ended: float
    rows: int
    tokens: int
    computed: bool = True


# How a part can end: `done` also if its shards were taken away; `refused` before it began anything.
ENDS = ("done", "refused", "failed", "stopped")


@dataclass
class State:
    """What the worker of a part says.

    Attributes:
        number: of the part.
        worker: the machine and the process.
        began: when the worker began, seconds since 1970 by its clock.
        beat: grows for as long as the worker lives.
        done: the shards that it has done.
        current: slot of the shard that it is doing, or None.
        end: one of ENDS; empty while it runs.
        ended: when it ended, or 0.
        error: class of the error with which it ended.
        message: of the error.
    """

    number: int
    worker: str
    began: float
    beat: int = 0
    done: list[Done] | None = None
    current: str | None = None
    end: str = ""
    ended: float = 0.0
    error: str = ""
    message: str = ""

    def to_json(self) -> bytes:
        """Its file."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, content: bytes) -> State:
        """The inverse of `to_json`.

        Raises:
            ValueError: it is damaged.
        """
        return _STATE.validate_json(content)


_RUN: TypeAdapter[Run] = TypeAdapter(Run)
_STATE: TypeAdapter[State] = TypeAdapter(State)


def run_file(run_id: str) -> str:
    """The file with what all parts of a run share."""
    return f"{folder(run_id)}/run.json"


def part_file(run_id: str, number: int) -> str:
    """The file of a part."""
    return f"{folder(run_id)}/{number:06d}.part.json"


def state_file(run_id: str, number: int) -> str:
    """The file in which the worker of a part says what it does."""
    return f"{folder(run_id)}/{number:06d}{STATE}"


STATE = ".state.json"


def folder(run_id: str) -> str:
    """The folder of all parts of a run."""
    return f"{names.PARTS}/{run_id}"


def arguments(sink: str, run_id: str, number: int) -> dict[str, Any]:
    """What a worker is told: where the files are, and which part is its own."""
    return {"sink": sink, "run_id": run_id, "number": number}
