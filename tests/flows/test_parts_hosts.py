"""The runner `prefect` with three workers, each on a host of its own: one is killed, one is cut off and comes back."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client

from flows import deployments, pool
from jobs import run, spec
from jobs.execute.progress import Progress
from jobs.parts import STATE, State, dispatch, timeline
from jobs.plan import Plan
from jobs.sink import open_sink
from jobs.store import Store, names
from tests import hosts, lake, minio, s3, server
from tests.hosts import Host
from transforms.errors import NightscribeError

FILES, ROWS, SILENT_S = 18, 40, 20.0
# Folders of a sink in which nothing stays after a run.
TEMPORARY = (names.STAGED_FILES, names.PARTS, names.PROGRESS, names.TEMPORARY)


@dataclass
class Trouble:
    """Kills one host and cuts another one off as soon as all of them work, and reconnects it after a while.

    Attributes:
        killed: the host to kill.
        cut: the host to cut off.
        away_s: for how long.
        working: the workers that had a part when it happened, and which.
    """

    killed: Host
    cut: Host
    away_s: float
    working: dict[str, int] = field(default_factory=dict)
    back: threading.Event = field(default_factory=threading.Event)
    cut_at: float = 0.0

    def watch(self, plan: Plan, progress: Progress) -> None:
        """Called every few seconds of the run."""
        if not self.working:
            found = {state.worker: state.number for state in _states(plan) if not state.end}
            if len(found) == 3:
                self.working, self.cut_at = found, time.monotonic()
                self.killed.kill()
                self.cut.cut()
        elif not self.back.is_set() and time.monotonic() - self.cut_at > self.away_s:
            self.cut.reconnect()
            self.back.set()


def _states(plan: Plan) -> list[State]:
    store = Store(plan.spec.sink.path)
    found = []
    for name in store.names(f"{names.PARTS}/{plan.run_id}"):
        if name.endswith(STATE):
            with suppress(OSError, ValueError, NightscribeError):
                found.append(State.from_json(store.get(name)))
    return found


@contextmanager
def workers(prefect: server.Server, on: tuple[Host, ...], folder: Path) -> Iterator[None]:
    """A Prefect worker on each host, which is called as its host."""
    log = (folder / "workers.log").open("wb")
    for host in on:
        command = ["worker", "start", "--pool", "nightscribe", "--type", "process", "--limit", "1", "--name", host.name]
        host.start([sys.executable, "-m", "prefect", *command], prefect.environment, folder, log)
    try:
        yield
    finally:
        for host in on:
            host.kill()
        log.close()


def job(folder: Path, sink: str, **runner: object) -> spec.JobSpec:
    if not (folder / "lake").exists():
        lake.make_lake(folder / "lake", FILES, ROWS)
    task = {"task": "tests.waiting_task", "column": "text", "milliseconds": 100.0, "into": "length"}
    return spec.parse(
        {
            "name": "test",
            "source": {"path": str(folder / "lake")},
            "tasks": [task],
            "sink": {"path": sink},
            "runner": runner or {"name": "prefect", "parts": 3},
        }
    )


def contents(store: Store) -> dict[str, bytes]:
    """Bytes of every part file that a reader sees."""
    return {name: store.get(name) for name in store.find(".parquet") if not name.startswith("_")}


def leftovers(store: Store) -> list[str]:
    return [name for folder in TEMPORARY for name in store.find("", folder)]


def ended() -> bool:
    """Whether no flow run is left that holds a slot."""
    with get_client(sync_client=True) as client:
        return all(each.state and each.state.is_final() for each in client.read_flow_runs())


def check(folder: Path, job_: spec.JobSpec, report: object) -> timeline.Timeline:
    """Nothing is lost, nothing is doubled, the bytes are those of a local run, nothing temporary is left."""
    assert report.rows_in == report.rows_out == FILES * ROWS
    store = open_sink(job_.sink).store
    run.run(job(folder, str(folder / "local"), name="local"))
    assert contents(store) == contents(Store(str(folder / "local")))
    server.wait_for(ended, 90, "the end of every flow run")
    assert contents(store) == contents(Store(str(folder / "local")))
    assert leftovers(store) == []
    return timeline.read(store, report.run_id)


@pytest.fixture
def short(monkeypatch):
    monkeypatch.setattr(dispatch, "SILENT_S", SILENT_S)
    monkeypatch.setattr(pool, "CANCEL_S", 5.0)


@pytest.mark.long
def test_hosts_that_are_killed_or_cut_off_from_an_object_store_lose_no_row(tmp_path, short):
    with (
        hosts.network(3) as network,
        minio.running(tmp_path / "minio", network.address) as store,
        s3.pointed_to(store.address, minio.USER, minio.PASSWORD),
        server.running(tmp_path, network.address) as prefect,
        workers(prefect, network.hosts, tmp_path),
    ):
        deployments.prepare_server()
        trouble = Trouble(*network.hosts[:2], away_s=SILENT_S + 10)
        parsed = job(tmp_path, store.make_bucket("lake"))
        report = run.run(parsed, watch=trouble.watch)
        trouble.cut.reconnect()
        made = check(tmp_path, parsed, report)
    assert set(trouble.working) == {host.name for host in network.hosts}
    # The worker that was cut off may be back in time to say that the store did not answer; it was lost nevertheless.
    lost = {bar.worker: bar.why for bar in made.bars if bar.end in ("lost", "failed")}
    for host in ("host-1", "host-2"):
        assert lost[host] == f"worker {host} has said nothing for {SILENT_S:.0f} s"


@pytest.mark.long
def test_a_host_that_does_not_reach_the_server_but_the_sink_does_its_part(tmp_path, short):
    with (
        hosts.network(3) as network,
        server.running(tmp_path, network.address) as prefect,
        workers(prefect, network.hosts, tmp_path),
    ):
        deployments.prepare_server()
        trouble = Trouble(*network.hosts[:2], away_s=15)
        parsed = job(tmp_path, str(tmp_path / "out"))
        report = run.run(parsed, watch=trouble.watch)
        trouble.cut.reconnect()
        made = check(tmp_path, parsed, report)
    assert set(trouble.working) == {host.name for host in network.hosts}
    assert {bar.worker for bar in made.bars if bar.end == "lost"} == {"host-1"}
    (cut,) = [bar for bar in made.bars if bar.number == trouble.working["host-2"]]
    assert (cut.worker, cut.end) == ("host-2", "done")
