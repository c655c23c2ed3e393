"""The runner `prefect` on a real server: workers of a work pool execute the parts of a plan."""

from __future__ import annotations

import signal
from contextlib import ExitStack

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName

from flows import deployments
from jobs import run, spec
from jobs.parts import dispatch, timeline
from jobs.sink import open_sink
from tests import lake, server
from transforms.errors import SpecError

FILES, ROWS = 4, 60


@pytest.fixture(scope="module")
def prefect(tmp_path_factory):
    with server.running(tmp_path_factory.mktemp("server")) as running:
        deployments.prepare_server()
        yield running


def job(folder, milliseconds=5.0, **runner):
    """A lake of four files, and a task that waits for each row."""
    if not (folder / "lake").exists():
        lake.make_lake(folder / "lake", FILES, ROWS)
    task = {"task": "tests.waiting_task", "column": "text", "milliseconds": milliseconds, "into": "length"}
    return spec.parse(
        {
            "name": "test",
            "source": {"path": str(folder / "lake")},
            "tasks": [task],
            "sink": {"path": str(folder / "out")},
            "runner": {"name": "prefect", **runner},
        }
    )


def local_contents(folder, job):
    """The bytes of the same job, run by this process."""
    change = {"runner": job.runner.model_copy(update={"name": "local", "work_pool": None, "parts": "auto"})}
    run.run(job.model_copy(update=change | {"sink": job.sink.model_copy(update={"path": str(folder / "local")})}))
    return lake.contents(folder / "local")


def leftovers(folder):
    """Files of the sink that no run needs any more."""
    internal = folder / "out" / "_nightscribe"
    kept = ("staged/files", "parts", "progress", "tmp")
    files = [path for path in internal.rglob("*") if path.is_file()]
    return [path for path in files if path.relative_to(internal).as_posix().startswith(kept)]


def runs_of_parts():
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=["enrich-part"])))


def processes_of_parts(worker):
    """The processes below a worker that execute flow runs."""
    return [each for each in server.tree(worker) if each.pid != worker.pid and "prefect" in " ".join(each.cmdline())]


def test_two_workers_write_the_bytes_of_a_local_run_although_one_is_killed(prefect, tmp_path, monkeypatch):
    monkeypatch.setattr(dispatch, "SILENT_S", 8.0)
    parsed = job(tmp_path, milliseconds=25, parts=4)
    killed = []

    with ExitStack() as workers:
        found = [workers.enter_context(prefect.worker("--limit", "1", "--name", name)) for name in ("first", "second")]

        def kill(plan, progress):
            if progress.rows_in and not killed:
                # Its flow run too, so that nobody tells the server.
                for each in server.tree(found[0]):
                    killed.append(each.pid)
                    server.send(each, signal.SIGKILL)

        report = run.run(parsed, watch=kill)
    assert report.rows_in == report.rows_out == FILES * ROWS
    made = timeline.read(open_sink(parsed.sink).store, report.run_id)
    assert made.workers == ["first", "second"] or made.workers == ["second", "first"]
    assert made.numbers()["lost"] == 1
    assert lake.contents(tmp_path / "out") == local_contents(tmp_path, parsed)
    assert leftovers(tmp_path) == []


def test_a_pool_that_does_not_exist_is_refused_with_the_command_that_makes_it(prefect, tmp_path):
    with pytest.raises(SpecError, match=r"work pools: .*nightscribe.*; make it with `prefect work-pool create nowhere"):
        run.prepare(job(tmp_path, work_pool="nowhere"))
