"""All errors, as one tree; every message names the key, the value, the valid values and the fix.

NightscribeError
├── UserError          the job file, the command line, or a file or model they name is wrong: exit 2, nothing written
│   ├── SpecError      a key, a type, a value, a column
│   └── ModelError     a model or adapter folder that does not fit its task
└── RunError           the job was right, but the run could not be finished: exit 1, run again to continue
    ├── SourceError    a file that is truncated, vanished or not what its ending says
    │   └── UnreadableSource  found by the plan, so that a rerun cannot succeed: also a UserError, exit 2
    ├── SinkError      an output folder that cannot be written, row counts that do not add up
    │   ├── SinkBusy   another run holds the sink
    │   └── UnreadableSink  a damaged file of the sink's own, so that a rerun cannot succeed: also a UserError, exit 2
    ├── UnreachableModel  a model of the Hub, which does not answer or has no time
    ├── UnreadableRegistry  a damaged file of a registry, so that a rerun cannot succeed: also a UserError, exit 2
    ├── NothingToMove  a promotion or rollback that changes nothing, now or in a rerun: also a UserError, exit 2
    ├── UnfitWorker    a worker that cannot execute a part: other versions, or it does not see the lake
    ├── TooManyRejects more rows rejected than `errors.max_fraction` allows
    ├── HeldBack       a limit of `sink.audit` is passed: the rows stay staged until a person publishes them
    ├── Stopped        SIGTERM or Ctrl-C: finished shards are kept
    └── Unexpected     an exception that the code does not expect: a bug here or in a library

Each takes one message, so that it can be pickled between processes.
"""

from __future__ import annotations


class NightscribeError(Exception):
    """The root of all errors that Nightscribe raises on purpose."""


class UserError(NightscribeError):
    """The job file, the command line, or a file or model that they name is wrong; nothing was written."""


class SpecError(UserError):
    """A key, a type, a value or a column of the job file."""


class ModelError(UserError):
    """A model or adapter that is missing or does not fit its task."""


class RunError(NightscribeError):
    """The job was right, but the run could not be finished; run again to continue."""


class SourceError(RunError):
    """A source file that is truncated, vanished or not what its ending says."""


class UnreadableSource(SourceError, UserError):
    """A source that cannot be read as it is, found while planning: a rerun cannot succeed."""


class SinkError(RunError):
    """An output folder that cannot be written, or row counts that do not add up."""


class SinkBusy(SinkError):
    """Another run holds the sink."""


class UnreadableSink(SinkError, UserError):
    """A damaged file below `_nightscribe/` that only a person can restore or delete: a rerun cannot succeed."""


class UnreachableModel(RunError):
    """A model or adapter that the Hub does not send now, because of the network or because it has no time."""


class UnreadableRegistry(RunError, UserError):
    """A damaged file of a registry that only a person can restore: a rerun cannot succeed."""


class NothingToMove(RunError, UserError):
    """A promotion or rollback that has nothing to change in a registry: a rerun cannot succeed."""


class UnfitWorker(RunError):
    """A worker that cannot execute a part of a plan: it has other versions, or does not see the lake."""


class TooManyRejects(RunError):
    """More rows were rejected than `errors.max_fraction` allows."""


class HeldBack(RunError):
    """A limit of `sink.audit` is passed: the rows of the night stay staged until a person publishes them."""


class Stopped(RunError):
    """The run was asked to stop; finished shards are kept."""


class Unexpected(RunError):
    """An exception that the code does not expect: a bug here or in a library. `from_` names it and its place."""

    @classmethod
    def from_(cls, error: BaseException, place: str) -> Unexpected:
        """One sentence about an exception.

        Args:
            error: the exception.
            place: what was being done, such as `enriching 'day=1/a.parquet'`.
        """
        said = " ".join(str(error).split())[:300]
        return cls(
            f"{place} failed with an unexpected {type(error).__name__}{': ' if said else ''}{said}; "
            f"NIGHTSCRIBE_DEBUG=1 shows where it was raised"
        )
