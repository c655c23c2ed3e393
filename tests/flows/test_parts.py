"""The runner `prefect` on a real server: workers of a work pool execute the parts of a plan."""

from __future__ import annotations

import contextvars
import json
import logging
import signal
import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate, WorkPoolUpdate
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowFilter,
    FlowFilterName,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
)
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows import deployments, pool
from flows.enrich import enrich
from jobs import run, spec
from jobs.parts import STATE, State, dispatch, timeline
from jobs.sink import open_sink
from jobs.store import names
from tests import lake, server
from tests.forms import look
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


def workers_that_have_begun(plan):
    """The workers that have said that they execute a part."""
    files = open_sink(plan.spec.sink).store.path(names.PARTS)
    found = [path.read_bytes() for path in Path(files).rglob(f"*{STATE}")]
    return {State.from_json(content).worker for content in found if content}


def runs_of_parts():
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_filter=FlowFilter(name=FlowFilterName(any_=["enrich-part"])))


@contextmanager
def beside(action):
    """Something that is done from a thread while the block runs; the block ends when both have."""
    # In this context, which has the settings of the server.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(action,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join(120)
        assert not thread.is_alive()


def kill(worker):
    """SIGKILL to a worker and the processes of its parts, so that nobody tells the server."""
    for each in server.tree(worker):
        server.send(each, signal.SIGKILL)


def test_two_workers_write_the_bytes_of_a_local_run_although_one_is_killed(prefect, tmp_path, monkeypatch):
    monkeypatch.setattr(dispatch, "SILENT_S", 15.0)
    parsed = job(tmp_path, milliseconds=25, parts=4)
    killed = []

    def kill_once(plan, progress):
        if not killed and "first" in workers_that_have_begun(plan):
            killed.append(found[0].pid)
            kill(found[0])

    with ExitStack() as workers:
        found = [workers.enter_context(prefect.worker("--limit", "1", "--name", name)) for name in ("first", "second")]
        report = run.run(parsed, watch=kill_once)
    assert report.rows_in == report.rows_out == FILES * ROWS
    made = timeline.read(open_sink(parsed.sink).store, report.run_id)
    assert sorted(made.workers) == ["first", "second"]
    assert made.numbers() == report.parts
    assert report.parts.lost == 1
    assert lake.contents(tmp_path / "out") == local_contents(tmp_path, parsed)
    assert leftovers(tmp_path) == []


def test_a_pool_that_does_not_exist_is_refused_with_the_command_that_makes_it(prefect, tmp_path):
    with pytest.raises(SpecError, match=r"work pools: .*nightscribe.*; make it with `prefect work-pool create nowhere"):
        run.prepare(job(tmp_path, work_pool="nowhere"))


def test_without_a_server_a_job_is_refused(tmp_path):
    with temporary_settings({PREFECT_API_URL: None}), pytest.raises(SpecError, match=r"no Prefect server is set"):
        run.prepare(job(tmp_path))


@pytest.mark.long
def test_a_part_whose_worker_is_killed_before_it_begins_holds_no_slot(prefect, tmp_path, monkeypatch):
    monkeypatch.setattr(pool, "PENDING_S", 30.0)
    monkeypatch.setattr(dispatch, "REFUSED_S", 1.0)
    with get_client(sync_client=True) as client:
        client.update_work_pool("nightscribe", WorkPoolUpdate(concurrency_limit=1))
    known = {each.id for each in runs_of_parts()}
    killed = []

    def kill_pending():
        def pending():
            return [each for each in runs_of_parts() if each.id not in known and each.state.is_pending()]

        killed.extend(each.id for each in server.wait_for(pending, 60, "a part that is Pending"))
        kill(first)
        workers.enter_context(prefect.worker("--limit", "1", "--name", "second"))

    try:
        with ExitStack() as workers:
            first = workers.enter_context(prefect.worker("--limit", "1", "--name", "first"))
            with beside(kill_pending):
                report = run.run(job(tmp_path, parts=1))
    finally:
        with get_client(sync_client=True) as client:
            client.update_work_pool("nightscribe", WorkPoolUpdate(concurrency_limit=None))
    assert report.rows_out == FILES * ROWS
    assert len(killed) == 1
    states = {each.id: each.state for each in runs_of_parts()}
    assert states[killed[0]].is_crashed()
    assert states[killed[0]].message == "taken by a worker and not begun within 30 s"
    made = timeline.read(open_sink(job(tmp_path).sink).store, report.run_id)
    assert made.unbegun[1] == states[killed[0]].message
    assert made.workers == ["second"]


def test_a_pool_without_workers_is_said_with_the_command_and_the_run_waits(prefect, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(pool, "NO_WORKER_S", 2.0)
    told = "start one with `prefect worker start --pool empty --type process --limit 1`"
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name="empty", type="process"))

    def answer():
        server.wait_for(lambda: told in caplog.text, 60, "the complaint")
        workers.enter_context(prefect.worker(pool="empty"))

    with caplog.at_level(logging.WARNING, "jobs.parts"), ExitStack() as workers, beside(answer):
        report = run.run(job(tmp_path, work_pool="empty"))
    assert report.rows_out == FILES * ROWS
    assert "work pool 'empty' has had no worker for 2 s" in caplog.text


@pytest.mark.long
def test_a_server_that_restarts_in_the_middle_ends_no_run_and_starts_no_part_twice(prefect, tmp_path):
    parsed = job(tmp_path, milliseconds=60, parts=2)
    known = {each.id for each in runs_of_parts()}
    restarted = []

    def restart(plan, progress):
        if progress.rows_in and not restarted:
            restarted.append(True)
            prefect.stop()
            prefect.start()

    with prefect.worker("--limit", "1"):
        report = run.run(parsed, watch=restart)
        server.wait_for(lambda: all(each.state.is_final() for each in runs_of_parts()), 60, "the ends of the parts")
    assert restarted
    assert report.rows_out == FILES * ROWS
    assert report.parts.lost == 0
    numbers = [each.parameters["number"] for each in runs_of_parts() if each.id not in known]
    assert sorted(numbers) == list(range(1, len(numbers) + 1))
    assert leftovers(tmp_path) == []


@pytest.mark.long
def test_a_run_that_was_killed_leaves_parts_that_count_and_the_next_run_ends_them(prefect, tmp_path):
    parsed = job(tmp_path, milliseconds=60, parts=2)
    content = json.loads(parsed.model_dump_json(exclude_defaults=True))
    (tmp_path / "job.yaml").write_text(yaml.safe_dump(content))
    known = {each.id for each in runs_of_parts()}
    store = open_sink(parsed.sink).store
    with prefect.worker("--limit", "1"):
        command = [sys.executable, "-m", "jobs.cli", "run", "job.yaml"]
        with (tmp_path / "run.log").open("wb") as log:
            coordinator = subprocess.Popen(command, env=prefect.environment, cwd=tmp_path, stdout=log, stderr=log)
        server.wait_for(lambda: store.names(names.STAGED_LEDGER), 120, "the first shard")
        coordinator.kill()
        coordinator.wait()
        report = run.run(parsed)
        server.wait_for(lambda: all(each.state.is_final() for each in runs_of_parts()), 60, "the ends of the parts")
    assert report.shards_skipped >= 1
    assert report.rows_out == FILES * ROWS
    assert lake.contents(tmp_path / "out") == local_contents(tmp_path, parsed)
    assert leftovers(tmp_path) == []
    assert len({each.parameters["run_id"] for each in runs_of_parts() if each.id not in known}) == 2


@pytest.fixture(scope="module")
def flow_run(prefect, tmp_path_factory):
    """A run of the flow `enrich` in two parts, and its report."""
    folder = tmp_path_factory.mktemp("flow_run")
    content = json.loads(job(folder, milliseconds=20, parts=2).model_dump_json(exclude_defaults=True))
    (folder / "job.yaml").write_text(yaml.safe_dump(content))
    with prefect.worker("--limit", "1", "--name", "first"):
        report = enrich(job=str(folder / "job.yaml"))
    return prefect.last_run_of("enrich"), report


def test_the_parts_of_a_flow_run_are_its_child_runs_and_their_picture_is_its_artifact(flow_run):
    found, report = flow_run
    of_it = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=[found.id]))
    with get_client(sync_client=True) as client:
        children = client.read_flow_runs(flow_run_filter=of_it)
        artifacts = client.read_artifacts(
            artifact_filter=ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[found.id]))
        )
    assert len(children) == report["parts"]["number"] >= 2
    assert {each.name for each in children} == {f"test, part {number + 1}" for number in range(len(children))}
    (shown,) = [each for each in artifacts if each.key == "test-parts"]
    assert f"{len(children)} parts on 1 worker, 0 lost, 0 refused. Shards by worker: first: {FILES}" in shown.data


def test_the_run_page_shows_who_did_what_when(prefect, flow_run, browser, shots):
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    look(page, f"{prefect.ui}/runs/flow-run/{flow_run[0].id}?tab=Artifacts", "test-parts", shots / "parts.png")
    page.get_by_text("test-parts").first.click()
    page.locator("a[href*='/artifacts/artifact/']").first.click()
    picture = page.get_by_alt_text("who did what when").first
    picture.wait_for()
    assert picture.evaluate("image => image.complete && image.naturalWidth") > 600
    page.screenshot(path=shots / "parts.png")
