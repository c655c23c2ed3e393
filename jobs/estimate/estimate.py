"""What a run will take: the rate of a sample, applied to every shard that is to do, for several numbers of workers."""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pydantic import TypeAdapter

from jobs.estimate import requests
from jobs.estimate.known import columns_to_compute
from jobs.estimate.rate import Rate
from jobs.estimate.requests import Reading
from jobs.parts.schedule import Scheduler
from jobs.plan import Plan, hub_requests
from jobs.sink import Entry
from jobs.sink.part import ROW_GROUP_BYTES, ROW_GROUP_ROWS
from jobs.source import Shard
from jobs.spec.prices import PriceSpec
from jobs.store import Store

WORKERS = (1, 4, 16, 64)


@dataclass(frozen=True)
class Scale:
    """A number of workers, each a machine like this one.

    Attributes:
        workers: how many there are.
        used: how many of them get anything to do.
        parts: parts that the plan is divided into.
        seconds: from the plan to the published rows.
        worker_hours: hours of the machines that are used, each from the first part to the end of the last one.
        cost: of the machines, the requests and a month of storage, as far as they have prices; None without prices.
    """

    workers: int
    used: int
    parts: int
    seconds: float
    worker_hours: float
    cost: float | None = None


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        rows: rows that enter the tasks, unreadable ones included.
        rows_computed: column of a task -> rows that it computes.
        tokens: real tokens.
        padded_tokens: token positions, padding included.
        shards: shards to do.
        seconds: of the run on this machine alone, from the plan to the published rows.
        memory_bytes: the most memory of one process.
        gpu_bytes: the most memory of a GPU.
        output_bytes: size of the part files.
        hub_requests: requests to the Hub.
        store_requests: requests to object stores.
        scales: the run with several numbers of workers.
        currency: of the costs; None without prices.
        sampled: rows that were computed to find this out.
        machine: where.
        rows_exact: whether `rows` is what the files themselves say, such as the footers of Parquet files.
    """

    rows: int
    rows_computed: Mapping[str, int]
    tokens: int
    padded_tokens: int
    shards: int
    seconds: float
    memory_bytes: int
    gpu_bytes: int
    output_bytes: int
    hub_requests: int
    store_requests: int
    scales: tuple[Scale, ...]
    currency: str | None = None
    sampled: int = 0
    machine: str = ""
    rows_exact: bool = False

    def to_json(self) -> dict[str, Any]:
        """Plain JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Any) -> Estimate:
        """The inverse of `to_json`.

        Raises:
            ValueError: a key is missing or has a value of another type.
        """
        return _FORM.validate_python(data)


_FORM = TypeAdapter(Estimate)


def estimate(
    plan: Plan,
    rate: Rate | None,
    ledger: Mapping[str, Entry],
    store: Store,
    prices: PriceSpec | None = None,
    imports_s: float = 0.0,
    machine: str = "",
) -> Estimate:
    """What a plan will take.

    Args:
        plan: the run.
        rate: as calibrated for its rows; None if nothing is to do.
        ledger: the entries of finished shards by slot.
        store: the sink's.
        prices: prices; by default those of the job file.
        imports_s: seconds until a new process has imported everything, which each part of many workers takes.
        machine: where the rate was measured.
    """
    prices = prices or plan.spec.prices
    todo = plan.shards_todo
    if rate is None or not todo:
        rate, todo = None, []
    columns = [columns_to_compute(plan, shard, ledger) for shard in todo]
    rows = rows_selected = 0.0
    computed = dict.fromkeys((task.spec.into for task in plan.tasks), 0.0)
    tokens = positions = 0.0
    costs: list[float] = []
    for shard, wanted in zip(todo, columns, strict=True):
        assert rate is not None
        selected = rate.rows_selected(shard)
        rows_selected += selected
        rows += selected + (rate.rows_read(shard) * rate.unreadable)
        costs.append(rate.expected_seconds(shard, wanted))
        for task in rate.tasks:
            if task.into in wanted:
                computed[task.into] += selected * task.computed
                tokens, positions = tokens + selected * task.tokens, positions + selected * task.positions
    output = rows_selected * rate.row_bytes if rate is not None else 0.0
    run_s, start_s = (rate.run_s, rate.start_s if any(costs) else 0.0) if rate is not None else (0.0, 0.0)
    read = sum(rate.rows_read(shard) for shard in todo) if rate is not None else 0.0
    reading = Reading() if rate is None else Reading(rate.shard_requests, rate.row_requests)
    scales = [scale(todo, costs, n, run_s, start_s if n == 1 else start_s + imports_s) for n in WORKERS]
    found = Estimate(
        rows=round(rows),
        rows_computed={into: round(count) for into, count in computed.items()},
        tokens=round(tokens),
        padded_tokens=round(positions),
        shards=len(todo),
        seconds=round(scales[0].seconds, 3),
        memory_bytes=_memory(rate, rows_selected, len(todo)),
        gpu_bytes=0 if rate is None else rate.gpu_bytes,
        output_bytes=round(output),
        hub_requests=(hub_requests.expected(plan) or 0) if todo else 0,
        store_requests=requests.of_run(plan, reading, read, scales[0].seconds, store) if todo else 0,
        scales=tuple(scales),
        sampled=0 if rate is None else max((task.sampled for task in rate.tasks), default=0),
        machine=machine,
        rows_exact=round(rows) == plan.rows_todo and all(shard.rows is not None for shard in todo),
    )
    return found if prices is None else priced(found, prices)


def scale(todo: Sequence[Shard], costs: Sequence[float], workers: int, run_s: float, start_s: float) -> Scale:
    """The run with a number of workers; several of them get parts by the rules of `jobs.parts.schedule`.

    Args:
        todo: the shards.
        costs: expected seconds of each.
        workers: how many workers there are.
        run_s: seconds that no worker spends.
        start_s: seconds until a worker can compute the first row of a part.
    """
    if not todo:
        return Scale(workers, 0, 0, run_s, 0.0)
    if workers == 1:
        seconds = start_s + sum(costs)
        return Scale(1, 1, 1, run_s + seconds, seconds / 3600)
    used, parts, seconds = simulate(Scheduler(todo, costs, in_seconds=True), workers, start_s)
    return Scale(workers, used, parts, run_s + seconds, used * seconds / 3600)


def simulate(scheduler: Scheduler, workers: int, start_s: float) -> tuple[int, int, float]:
    """Hand out parts to workers that take exactly as long as expected.

    Args:
        scheduler: the rules, with the costs in seconds.
        workers: how many there are.
        start_s: seconds until a worker begins with a part.

    Returns:
        Workers that got a part, parts, seconds until all shards are done.
    """
    now, parts = 0.0, 0
    busy: set[int] = set()
    idle = list(range(workers))
    # (when, worker, its part, the shard that it has done by then; None: it has started)
    events: list[tuple[float, int, int, str]] = []
    while not scheduler.is_finished:
        while idle and (part := scheduler.next(now, workers)) is not None:
            parts, worker = parts + 1, idle.pop(0)
            busy.add(worker)
            heapq.heappush(events, (now + start_s, worker, part.number, ""))
        now, worker, number, slot = heapq.heappop(events)
        if slot:
            scheduler.finish(slot, scheduler.expected_s([slot]))
        running = scheduler.running[number]
        if (following := next(iter(running.left), None)) is None:
            scheduler.end(number)
            idle.append(worker)
            continue
        scheduler.see(number, following, now)
        heapq.heappush(events, (now + (scheduler.expected_s([following]) or 0.0), worker, number, following))
    return len(busy), parts, now


def priced(found: Estimate, prices: PriceSpec) -> Estimate:
    """The estimate with costs; what has no price costs nothing."""
    fixed = found.store_requests / 1000 * (prices.request_1000 or 0.0)
    fixed += found.output_bytes / 1e9 * (prices.gb_month or 0.0)
    scales = tuple(
        Scale(**(asdict(each) | {"cost": round(each.worker_hours * (prices.worker_hour or 0.0) + fixed, 4)}))
        for each in found.scales
    )
    return Estimate(**(vars(found) | {"scales": scales, "currency": prices.currency}))


def _memory(rate: Rate | None, rows: float, shards: int) -> int:
    """The most memory of a process: of the sample, and of the rows that wait to become a row group."""
    if rate is None:
        return 0
    waiting = min(ROW_GROUP_ROWS, rows / max(1, shards)) * rate.row_bytes
    return rate.memory_bytes + int(min(ROW_GROUP_BYTES, 2 * waiting))
