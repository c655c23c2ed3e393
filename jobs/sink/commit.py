"""The record of a commit that has begun: what it does, so that another process can finish it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter

from jobs.store import Store, names
from transforms.errors import SinkBusy, UnreadableSink


@dataclass(frozen=True)
class Commit:
    """The steps of a commit that has begun.

    Attributes:
        publish: slots of the staged entries that are published.
        remove: slots of the published entries that are removed.
        run_id: the run that commits.
        lease: number of its lease.
        id: names the commit in the table of the sink.
    """

    publish: list[str]
    remove: list[str]
    run_id: str
    lease: int
    id: str = ""


_FORM = TypeAdapter(Commit)


def begin(store: Store, record: Commit) -> None:
    """Write the record down.

    Raises:
        SinkBusy: another commit is under way.
    """
    if not store.put_if_absent(names.COMMIT, json.dumps(asdict(record)).encode()):
        raise SinkBusy(f"sink.path {store.url!r} is being committed by another run; run again when it is done")


def begun(store: Store) -> Commit | None:
    """The commit that has begun; None if there is none.

    Raises:
        UnreadableSink: its file is damaged.
    """
    if not store.exists(names.COMMIT):
        return None
    try:
        return _FORM.validate_json(store.get(names.COMMIT))
    except ValueError as error:
        raise UnreadableSink(
            f"{store.url}/{names.COMMIT} is damaged, so that the interrupted commit cannot be finished; "
            f"restore the file, or delete it and run the same job again, which enriches what is missing"
        ) from error


def end(store: Store) -> None:
    """Delete the record of a commit that is done, or given up."""
    store.delete(names.COMMIT)
