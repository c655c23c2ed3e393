"""A Prefect work pool as the place where the parts of a run are executed: each part is a flow run of its own."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, StateType, Worker, WorkerStatus, WorkPool
from prefect.deployments import run_deployment
from prefect.states import Cancelled, Cancelling, Crashed, State

from flows import automations, server
from flows.requests import Requests
from jobs.execute.stop import NEVER, StopToken
from jobs.parts import arguments, state_file
from jobs.parts.board import Board
from transforms.errors import RunError

# The work pool of jobs that name none.
POOL = "nightscribe"
# Seconds between two looks at the runs of the parts: at first, and at most while nothing changes.
LOOK_S, MAX_LOOK_S = 2.0, 15.0
# Seconds between two looks at the workers.
WORKERS_S = 10.0
# Seconds for which a part may be Pending: a worker has taken it, and its process has not begun. Workers that start a
# container may have to fetch an image first.
PENDING_S, CONTAINER_PENDING_S = 120.0, float(automations.PENDING_S)
# Seconds until a part that was asked to end, and whose worker does not answer, is marked Crashed.
CANCEL_S = 30.0
# Seconds after which the workers of a run that the server takes for dead must have said something in the sink.
DOUBT_S = 15.0
# Seconds without a worker, or with workers that take no part, after which a person is told.
NO_WORKER_S = 60.0
# Seconds without an answer of the server after which a person is told, and after which a run with parts that cannot be
# started ends.
SILENT_S, PATIENCE_S = 30.0, 1800.0
# Maximum number of runs in an answer of the server.
PAGE = 200
WAITING = (StateType.SCHEDULED, StateType.PENDING)


@dataclass
class _Run:
    """The flow run of a part.

    Attributes:
        id: its id; None if the server has not confirmed it yet.
        state: type of its state.
        since: when that was first seen, by the clock of the site.
        stopping: since when it is to end; None if it is not.
        beat: what the worker had said when the server took it for dead, and when that was.
    """

    id: UUID | None = None
    state: StateType = StateType.SCHEDULED
    since: float = 0.0
    stopping: float | None = None
    beat: tuple[bytes, float] | None = None


@dataclass
class PoolSite:
    """Starts parts as flow runs, watches them, and marks those Crashed that a dead worker holds.

    Args:
        pool: the work pool.
        deployment: id of the deployment of parts for this pool.
        board: the files of the parts.
        name: of the job.
        stop_token: ends a wait.
        clock: seconds; never set back.
    """

    pool: str
    deployment: UUID
    board: Board
    name: str
    stop_token: StopToken = NEVER
    clock: Callable[[], float] = time.monotonic
    _runs: dict[int, _Run] = field(default_factory=dict)
    _pool: WorkPool | None = None
    _workers: int = 0
    _workers_at: float = -float("inf")
    _no_worker_since: float | None = None
    _look_s: float = LOOK_S
    _looked_at: float = -float("inf")
    # Parts of another attempt at the same run must not be taken for those of this one.
    _attempt: str = field(default_factory=lambda: uuid.uuid4().hex[:8])

    def __post_init__(self) -> None:
        self._requests = Requests(self.clock)

    def workers(self) -> int:
        """Workers of the pool that are online; no more than may run at a time.

        A worker does not tell the server how many runs it takes at a time: it is counted once.
        """
        if self.clock() - self._workers_at < WORKERS_S:
            return self._workers
        self._workers_at = self.clock()

        def ask(client: SyncPrefectClient) -> tuple[WorkPool, list[Worker]]:
            return client.read_work_pool(self.pool), client.read_workers_for_work_pool(self.pool)

        if (found := self._requests.ask(ask)) is not None:
            self._pool, workers = found
            online = sum(map(_is_online, workers))
            if online:
                self._no_worker_since = None
            elif self._no_worker_since is None:
                self._no_worker_since = self.clock()
            limit = self._pool.concurrency_limit
            self._workers = online if limit is None else min(online, limit)
        return self._workers

    def start(self, number: int) -> None:
        """Start a part; if the server does not answer, it is asked again later."""
        self._runs[number] = _Run(since=self.clock())
        self._submit(number)
        self._look_s = LOOK_S

    def gone(self) -> Mapping[int, str]:
        """Parts whose flow runs have ended or will not begin.

        Raises:
            RunError: the server has not answered for half an hour, and a part cannot be started.
        """
        now = self.clock()
        if now - self._looked_at < self._look_s or not self._runs:
            return {}
        self._looked_at = now
        self._check_patience()
        for number in [number for number, run in self._runs.items() if run.id is None]:
            self._submit(number)
        ids = {run.id: number for number, run in self._runs.items() if run.id is not None}
        if (found := self._read(list(ids))) is None:
            return {}
        before = {number: run.state for number, run in self._runs.items()}
        gone = {}
        for id, number in ids.items():
            why = self._look(number, found.get(id), now)
            if why is not None:
                gone[number] = why
                del self._runs[number]
        changed = before != {number: run.state for number, run in self._runs.items()}
        self._look_s = LOOK_S if changed else min(1.5 * self._look_s, MAX_LOOK_S)
        return gone

    def stop(self, number: int) -> None:
        """Cancel a part, or keep it from starting."""
        run = self._runs.get(number)
        if run is None:
            return
        run.stopping = self.clock()
        if run.id is not None:
            self._cancel(run.id, run.state)

    def avoid(self, number: int) -> bool:
        """Give the worker of a part no other one for a while; False, because a pool's workers take what they like."""
        return False

    def complaint(self) -> str | None:
        """Whether the server answers, the pool has workers, and they take parts."""
        now = self.clock()
        if self._requests.silent_s() > SILENT_S:
            return (
                f"the Prefect server at {str(server.configured())!r} does not answer ({self._requests.error}); parts "
                f"that run go on, and others are started when it answers again"
            )
        if self._pool is not None and self._pool.is_paused:
            return f"work pool {self.pool!r} is paused; resume it with `prefect work-pool resume {self.pool}`"
        if self._no_worker_since is not None and now - self._no_worker_since > NO_WORKER_S:
            return (
                f"work pool {self.pool!r} has had no worker for {NO_WORKER_S:.0f} s; start one with "
                f"`{start_command(self.pool)}`; the run waits for it"
            )
        runs = [run for run in self._runs.values() if run.stopping is None]
        if runs and all(run.state is StateType.SCHEDULED and now - run.since > NO_WORKER_S for run in runs):
            return (
                f"no worker of work pool {self.pool!r} has taken a part for {NO_WORKER_S:.0f} s, although "
                f"{self._workers} are online; they may be busy with other runs, such as the one that hands out the "
                f"parts: start one more with `{start_command(self.pool)}`, or raise the limit of the pool"
            )
        return None

    def wait(self, seconds: float) -> None:
        """Wait for so long, or until the run is asked to stop."""
        until = self.clock() + seconds
        while not self.stop_token.is_set() and (left := until - self.clock()) > 0:
            time.sleep(min(left, 0.25))

    def stop_earlier(self) -> None:
        """End the parts that an earlier run into this sink has left: it has lost the sink, so nobody waits for them."""
        of_parts = FlowRunFilter(
            deployment_id=FlowRunFilterDeploymentId(any_=[self.deployment]), state=_in(*WAITING, StateType.RUNNING)
        )
        for run in self._runs_of(of_parts) or ():
            if run.parameters.get("sink") == self._sink:
                self._cancel(run.id, run.state_type)

    @property
    def _sink(self) -> str:
        store = self.board.store
        return store.url if "://" in store.url else store.root

    def _submit(self, number: int) -> None:
        """Start a part; asked twice, the server starts it once."""
        key = f"{self.board.run_id}:{self._attempt}:{number}"

        def ask(_: SyncPrefectClient) -> Any:
            return run_deployment(
                self.deployment,
                parameters=arguments(self._sink, self.board.run_id, number),
                flow_run_name=f"{self.name}, part {number}",
                idempotency_key=key,
                timeout=0,
            )

        if (started := self._requests.ask(ask)) is not None:
            run = self._runs[number]
            run.id = started.id
            if run.stopping is not None:
                self.stop(number)

    def _read(self, ids: list[UUID]) -> dict[UUID, FlowRun] | None:
        found: dict[UUID, FlowRun] = {}
        for start in range(0, len(ids), PAGE):
            if (runs := self._runs_of(FlowRunFilter(id=FlowRunFilterId(any_=ids[start : start + PAGE])))) is None:
                return None
            found |= {run.id: run for run in runs}
        return found

    def _runs_of(self, wanted: FlowRunFilter) -> list[FlowRun] | None:
        return self._requests.ask(lambda client: client.read_flow_runs(flow_run_filter=wanted, limit=PAGE))

    def _look(self, number: int, found: FlowRun | None, now: float) -> str | None:
        """Why a part is gone; None if it is not."""
        run = self._runs[number]
        if found is None or found.state is None:
            return "its flow run was deleted"
        state = found.state
        if state.type is not run.state:
            run.state, run.since = state.type, now
        if state.is_final():
            told = f"its flow run ended as {state.name}" + (f" ({state.message})" if state.message else "")
            doubted = state.is_crashed() and (state.message or "").startswith(automations.NO_HEARTBEAT)
            return told if not doubted or self._is_dead(number, run, now) else None
        if state.is_pending() and now - run.since > self._pending_s:
            return self._crash(found.id, f"taken by a worker and not begun within {self._pending_s:.0f} s")
        if run.stopping is not None and now - run.stopping > CANCEL_S:
            return self._crash(found.id, f"its worker did not end it within {CANCEL_S:.0f} s")
        return None

    def _is_dead(self, number: int, run: _Run, now: float) -> bool:
        """Whether a worker of which the server has not heard for long says nothing in the sink either.

        If it does, only the network between it and the server is cut.
        """
        try:
            said = self.board.store.get(state_file(self.board.run_id, number))
        except FileNotFoundError:
            return True
        if run.beat is None:
            run.beat = said, now
        if said != run.beat[0]:
            run.beat = said, now
            return False
        return now - run.beat[1] > DOUBT_S

    @property
    def _pending_s(self) -> float:
        return PENDING_S if self._pool is None or self._pool.type == "process" else CONTAINER_PENDING_S

    def _crash(self, id: UUID, why: str) -> str | None:
        """Mark a run Crashed, so that it holds no slot of a limit any more; None if the server does not answer."""

        def ask(client: SyncPrefectClient) -> str:
            client.set_flow_run_state(id, Crashed(message=why), force=True)
            return why

        return self._requests.ask(ask)

    def _cancel(self, id: UUID, state: StateType | None) -> None:
        """Keep a run from beginning, or ask its worker to end it."""
        why = "its shards are done elsewhere, or its run has ended"
        # Forced where there may be no process that would answer.
        wanted: State[Any] = Cancelled(message=why) if state in WAITING else Cancelling(message=why)
        self._requests.ask(lambda client: client.set_flow_run_state(id, wanted, force=state in WAITING))

    def _check_patience(self) -> None:
        unsent = any(run.id is None for run in self._runs.values())
        if unsent and self._requests.silent_s() > PATIENCE_S:
            why = server.no_answer(str(server.configured()), self._requests.error)
            raise RunError(f"{why}; finished shards are kept, run again to continue")


def start_command(pool: str) -> str:
    """The command that starts a worker, one part at a time."""
    return f"prefect worker start --pool {pool} --type process --limit 1"


def _in(*types: StateType) -> FlowRunFilterState:
    return FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types)))


def _is_online(worker: Worker) -> bool:
    """Whether a worker has sent one of its last three heartbeats; the server itself notices only later."""
    if worker.status is not WorkerStatus.ONLINE or worker.last_heartbeat_time is None:
        return False
    age_s = (datetime.now(UTC) - worker.last_heartbeat_time).total_seconds()
    return age_s < 3 * (worker.heartbeat_interval_seconds or 30)
