"""Estimates and rates that were calibrated on this machine, in the cache folder of the user.

`nightscribe plan` writes nothing to the sink, so they are here: by sink and fingerprint, the newest of each.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from jobs.estimate.estimate import Estimate
from jobs.estimate.rate import Rate
from transforms import user_cache

if TYPE_CHECKING:
    from jobs.plan import Plan

LOG = logging.getLogger(__name__)

# Increased whenever an older version would misread a file, or the reverse.
FORMAT = 1


@dataclass(frozen=True)
class Kept:
    """What was kept of a plan.

    Attributes:
        run_id: the plan that was estimated.
        shards: digest of the shards that it had to do.
        estimate: the estimate.
        rate: the rate behind it.
    """

    run_id: str
    shards: str
    estimate: Estimate
    rate: Rate


def keep(plan: Plan, estimate: Estimate, rate: Rate) -> bool:
    """Keep an estimate; returns whether the folder could be written.

    Args:
        plan: the plan that was estimated.
        estimate: the estimate.
        rate: the rate behind it.
    """
    content = {
        "format": FORMAT,
        "run_id": plan.run_id,
        "shards": digest(shard.id for shard in plan.shards_todo),
        "estimate": estimate.to_json(),
        "rate": rate.to_json(),
    }
    file = _file(plan)
    try:
        user_cache.write(file, json.dumps(content, indent=1).encode())
    except OSError as error:
        LOG.warning("%s cannot be written, so the report will have no estimate: %s", file, error.strerror)
        return False
    return True


def find(plan: Plan) -> Kept | None:
    """The newest estimate of the same tasks and columns into the same sink; None if this machine has none."""
    try:
        data = json.loads(_file(plan).read_bytes())
        if data["format"] != FORMAT:
            return None
        rate, estimate = Rate.from_json(data["rate"]), Estimate.from_json(data["estimate"])
        return Kept(str(data["run_id"]), str(data["shards"]), estimate, rate)
    except (OSError, ValueError, KeyError, TypeError):
        # Not there, or damaged: it can be made again.
        return None


def digest(shards: Iterable[str]) -> str:
    """One name for some shards.

    Args:
        shards: their ids, in any order.
    """
    return hashlib.blake2b("\n".join(sorted(shards)).encode(), digest_size=16).hexdigest()


def _file(plan: Plan) -> Path:
    path = os.path.expanduser(plan.spec.sink.path)
    place = path if "://" in path else os.path.abspath(path)
    name = hashlib.blake2b(f"{place}\0{plan.fingerprint.digest}".encode(), digest_size=16).hexdigest()
    return user_cache.folder("estimates") / f"{name}.json"
