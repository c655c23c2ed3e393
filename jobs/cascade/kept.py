"""Measured thresholds, kept in the sink, and the marks of those that the rows of a run have refuted."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter

from jobs.plan.first import Measured
from jobs.store import Store, names


@dataclass(frozen=True)
class Refuted:
    """Why a threshold is not used any more.

    Attributes:
        checked: answers that a process had checked by then.
        agreed: those of them that the task's model gave too.
    """

    checked: int
    agreed: int


_REFUTED = TypeAdapter(Refuted)


def find(store: Store, key: str) -> Measured | None:
    """The measurement of a task; None if there is none, or if rows have refuted it since."""
    found = last(store, key)
    return None if found is None or is_refuted(store, found) else found


def last(store: Store, key: str) -> Measured | None:
    """The newest measurement of a task, refuted or not; None if there is none.

    A damaged file has said how many thresholds were refuted and how often it was measured. A new measurement would
    count from the beginning, so the smaller model is left out until a person deletes the file.
    """
    try:
        return Measured.from_json(json.loads(store.get(_file(key))))
    except FileNotFoundError:
        return None
    except ValueError:
        why = (
            f"not used, because {store.url}/{_file(key)}, which has its threshold and how often one was refuted, is "
            "damaged; restore it, or delete it to measure from the beginning"
        )
        return Measured(None, "", why=why)


def is_refuted(store: Store, measured: Measured) -> bool:
    """Whether rows of a run have refuted a measured threshold."""
    return bool(measured.seed) and store.exists(_mark(measured.seed))


def keep(store: Store, key: str, measured: Measured) -> None:
    """Keep a measurement in place of an earlier one; only the holder of the lease may call this."""
    before = last(store, key)
    store.delete(_mark(measured.seed))
    store.put(_file(key), json.dumps(measured.to_json()).encode())
    if before is not None and before.seed not in ("", measured.seed):
        store.delete(_mark(before.seed))


def refute(store: Store, seed: str, why: Refuted) -> None:
    """Mark a threshold, so that all processes of the run stop using it, and the next run measures again."""
    store.put_if_absent(_mark(seed), json.dumps(asdict(why)).encode())


def refuted(store: Store, seed: str) -> Refuted | None:
    """Why a threshold is marked; None if it is not."""
    try:
        return _REFUTED.validate_json(store.get(_mark(seed)))
    except FileNotFoundError:
        return None
    except ValueError:
        # What a damaged file says is lost; it is there because of it.
        return Refuted(0, 0)


def _file(key: str) -> str:
    return f"{names.FIRST}/{key}.json"


def _mark(seed: str) -> str:
    return f"{names.FIRST}/{seed}.refuted.json"
