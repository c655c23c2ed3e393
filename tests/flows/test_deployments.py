"""Deployments and what becomes of their runs, on a real server with a real worker process."""

import logging
import signal
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterDeploymentId, LogFilter, LogFilterFlowRunId
from prefect.client.schemas.objects import StateType
from prefect.events.filters import EventFilter, EventNameFilter
from prefect.flows import Flow
from prefect.states import Cancelling, State

from flows import automations, deployments, files
from jobs import run, spec
from tests import lake, server
from transforms.errors import SpecError

# As long as there is a file called `slow` in the working directory, a source file takes 0.4 s.
SLOW = """
import os
import time


def prepare(batch):
    if os.path.exists("slow"):
        time.sleep(0.4)
    return batch
"""
# A heartbeat every 30 s is the least that Prefect allows.
SILENT_S = 40
FLOW = Flow(lambda: None, name="begun by hand")
NIGHTLY = {"cron": "15 2 * * *", "timezone": "Europe/Berlin"}


@pytest.fixture(scope="module")
def prefect(tmp_path_factory):
    with server.running(tmp_path_factory.mktemp("server")) as running:
        yield running


@pytest.fixture(scope="module")
def worker(prefect):
    """A worker that the last tests of this module share."""
    deployments.prepare_server()
    with prefect.worker() as process:
        yield process


@pytest.fixture(scope="module")
def cancelled():
    """Ids of runs that were cancelled; the test of crashes, which takes longer than a heartbeat may, looks at them."""
    return []


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A working directory; the paths in job files start from it."""
    (tmp_path / "slowly.py").write_text(SLOW)
    (tmp_path / "specs").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def write(folder, models, name, files=3, rows=20, slow=False, **more):
    """A job file `specs/NAME.yaml`; with `slow` it takes 0.4 s a source file."""
    if slow:
        (folder / "slow").touch()
    (folder / f"in-{name}").mkdir(exist_ok=True)
    for i in range(files):
        pq.write_table(lake.rows(rows, start=1000 * i, seed=i), folder / f"in-{name}" / f"{i:02}.parquet")
    content = lake.job({"path": f"in-{name}", "prepare": "slowly:prepare"}, f"out-{name}", models)
    file = folder / "specs" / f"{name}.yaml"
    file.write_text(yaml.safe_dump(content | {"name": name} | more))
    return file


def client():
    return get_client(sync_client=True)


def read(name):
    with client() as api:
        return api.read_deployment_by_name(f"enrich/{name}")


def runs_of(name):
    with client() as api:
        only = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[read(name).id]))
        return api.read_flow_runs(flow_run_filter=only)


def start(name, **parameters):
    with client() as api:
        return api.create_flow_run_from_deployment(read(name).id, parameters=parameters).id


def in_states(*names):
    """A run without a process that has gone through these states; its id."""
    with client() as api:
        run_id = api.create_flow_run(FLOW, tags=[automations.TAG]).id
        for name in names:
            kind = StateType.RUNNING if name == "Running" else StateType.PENDING
            assert api.set_flow_run_state(run_id, State(type=kind, name=name)).state.name == name
    return run_id


def ledger(folder, name):
    files = (folder / f"out-{name}").rglob("ledger/*.jsonl")
    return [line for file in files for line in file.read_bytes().splitlines()]


def test_deploying_twice_changes_nothing(prefect, folder, models):
    write(folder, models, "twice", schedule=NIGHTLY, tags=["example"])
    first = deployments.deploy(folder / "specs")
    assert first["twice"] == "created"
    before = read("twice")
    planned = {
        run.id: run.expected_start_time for run in server.wait_for(lambda: runs_of("twice"), 60, "the scheduler")
    }
    second = deployments.deploy(folder / "specs")
    assert {what for name, what in second.items() if name in first} == {"unchanged"}
    after = read("twice")
    assert (after.updated, after.version) == (before.updated, before.version)
    assert [schedule.id for schedule in after.schedules] == [schedule.id for schedule in before.schedules]
    assert {run.id: run.expected_start_time for run in runs_of("twice")}.items() >= planned.items()
    assert (after.entrypoint, after.work_pool_name) == ("flows.enrich.enrich", "nightscribe")
    assert after.tags == ["classify", "example", "nightscribe"]
    assert "schedule `15 2 * * * Europe/Berlin`" in after.description
    assert after.global_concurrency_limit.limit == 1
    assert after.concurrency_options.collision_strategy == "ENQUEUE"


def test_a_changed_schedule_is_changed_in_place_and_a_removed_one_is_gone(prefect, folder, models):
    write(folder, models, "moved", schedule=NIGHTLY)
    deployments.deploy(folder / "specs")
    server.wait_for(lambda: runs_of("moved"), 60, "the scheduler")
    write(folder, models, "moved", schedule={"cron": "30 3 * * *"})
    assert deployments.deploy(folder / "specs")["moved"] == "changed"
    (schedule,) = read("moved").schedules
    assert (schedule.schedule.cron, schedule.schedule.timezone) == ("30 3 * * *", "UTC")
    write(folder, models, "moved")
    assert deployments.deploy(folder / "specs")["moved"] == "changed"
    assert read("moved").schedules == []
    assert runs_of("moved") == []


def test_prefects_own_command_makes_the_same_deployments(prefect, folder, models):
    write(folder, models, "own", schedule=NIGHTLY, trigger={"event": "lake.landed", "resource": "lake.reviews"})
    prefect.nightscribe("deploy", "--specs", "specs", "--prefect-file", "prefect.yaml", cwd=folder)
    deployments.prepare_server()
    with (folder / "deploy.log").open("wb") as log:
        process = prefect.prefect("deploy", "--prefect-file", "prefect.yaml", "--all", cwd=folder, log=log)
    assert process.wait(180) == 0, (folder / "deploy.log").read_text()
    found, (job,) = read("own"), files.read_all(Path("specs"))
    assert (found.version, found.description, found.tags) == (job.version, job.description, job.tags)
    assert found.job_variables == deployments.job_variables(folder)
    assert deployments.deploy(Path("specs"))["own"] == "unchanged"
    write(folder, models, "own")
    prefect.nightscribe("deploy", "--specs", "specs", "--prefect-file", "prefect.yaml", cwd=folder)
    assert prefect.prefect("deploy", "--prefect-file", "prefect.yaml", "--all", cwd=folder).wait(180) == 0
    assert read("own").schedules == []


def test_two_jobs_with_one_sink_are_refused(folder, models):
    first = write(folder, models, "first")
    second = folder / "specs" / "second.yaml"
    second.write_text(first.read_text().replace("name: first", "name: second"))
    with pytest.raises(SpecError, match=r"sink.path 'out-first' is used in both .*first.yaml and .*second.yaml"):
        files.read_all(folder / "specs")


def test_only_the_last_of_several_late_runs_does_the_work(prefect, folder, models):
    write(folder, models, "late", schedule=NIGHTLY)
    deployments.deploy(folder / "specs")
    now = datetime.now(UTC)
    with client() as api:
        # What three nights without a worker leave behind.
        window = {"start_time": (now - timedelta(days=3)).isoformat(), "end_time": now.isoformat(), "min_runs": 3}
        api.request("POST", "/deployments/{id}/schedule", path_params={"id": read("late").id}, json=window)
    late = [run for run in runs_of("late") if run.expected_start_time < now]
    assert len(late) == 3
    with prefect.worker():
        *older, newest = [run.id for run in sorted(late, key=lambda run: run.expected_start_time)]
        server.wait_for(lambda: prefect.state(newest) == "Completed", 150, "the last night")
        server.wait_for(lambda: {prefect.state(i) for i in older} == {"Skipped"}, 60, "the nights before it")
    assert len(list((folder / "out-late").rglob("reports/*.json"))) == 1


def test_cancelling_stops_every_process_within_30_seconds_and_the_sink_continues(prefect, folder, models, cancelled):
    file = write(folder, models, "cancelled", files=60, slow=True, runner={"workers": 2})
    deployments.deploy(folder / "specs")
    automations.apply(automations.crash_automation(silent_s=SILENT_S))
    with prefect.worker() as worker:
        run_id = start("cancelled")
        cancelled.append(run_id)
        server.wait_for(lambda: ledger(folder, "cancelled"), 120, "the first shard")
        below = [process for process in server.tree(worker) if process.pid != worker.pid]
        assert any("jobs.execute.worker" in " ".join(process.cmdline()) for process in below)
        with client() as api:
            api.set_flow_run_state(run_id, Cancelling())
        server.wait_for(lambda: not any(map(server.lives, below)), 30, "every process to end")
        # The worker runs the flow's cancellation hooks before it says so, and imports the flow for that.
        server.wait_for(lambda: prefect.state(run_id) == "Cancelled", 60, "the state")
    with client() as api:
        lines = api.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id])))
    assert [line.message for line in lines if line.level >= logging.ERROR] == []
    (folder / "slow").unlink()
    report = run.run(spec.read(file, ["runner.workers=1"]))
    assert 0 < report.shards_skipped < 60
    assert len(lake.read(folder / "out-cancelled")) == 1200


def test_a_run_whose_machine_failed_is_marked_crashed_and_the_next_one_continues_after_a_server_restart(
    prefect, folder, models, cancelled
):
    write(folder, models, "killed", files=60, slow=True)
    deployments.deploy(folder / "specs")
    automations.apply(automations.crash_automation(silent_s=SILENT_S))
    with prefect.worker() as worker:
        run_id = start("killed")
        server.wait_for(lambda: ledger(folder, "killed"), 120, "the first shard")
        server.kill_tree(worker, signal.SIGKILL)
    assert prefect.state(run_id) == "Running"
    server.wait_for(lambda: prefect.state(run_id) == "Crashed", 120, "the automation")
    # They were silent for longer than this run.
    assert [prefect.state(each) for each in cancelled] == ["Cancelled"] * len(cancelled)
    done = len(ledger(folder, "killed"))
    with prefect.worker():
        run_id = start("killed")
        server.wait_for(lambda: len(ledger(folder, "killed")) > done, 120, "the next run to go on")
        prefect.stop()
        time.sleep(3)
        prefect.start()
        (folder / "slow").unlink()
        server.wait_for(lambda: prefect.state(run_id) == "Completed", 120, "the run to end")
    (report,) = (yaml.safe_load(f.read_text()) for f in (folder / "out-killed").rglob("reports/*.json"))
    assert report["shards_skipped"] >= done
    assert len(lake.read(folder / "out-killed")) == 1200


def test_a_run_whose_worker_is_killed_before_it_begins_is_marked_crashed_and_holds_no_slot(prefect, folder, models):
    write(folder, models, "pending")
    deployments.deploy(folder / "specs")
    automations.apply(automations.pending_automation(pending_s=20))
    try:
        with prefect.worker() as worker:
            run_id = start("pending")
            server.wait_for(lambda: prefect.state(run_id) in automations.PENDING, 60, "the worker to take the run")
            server.kill_tree(worker, signal.SIGKILL)
        assert prefect.state(run_id) in automations.PENDING
        assert read("pending").global_concurrency_limit.active_slots == 1
        taken = [in_states(*automations.PENDING[:steps]) for steps in (1, 2, 3)]
        begun = in_states(*automations.PENDING, "Running")
        ids = [run_id, *taken]
        server.wait_for(lambda: {prefect.state(i) for i in ids} == {"Crashed"}, 90, "the automation")
        assert read("pending").global_concurrency_limit.active_slots == 0
        assert prefect.state(begun) == "Running"
    finally:
        automations.apply(automations.pending_automation())
    with prefect.worker():
        run_id = start("pending")
        server.wait_for(lambda: prefect.state(run_id) == "Completed", 120, "the next run")
    assert len(lake.read(folder / "out-pending")) == 60


def test_two_triggers_at_once_run_one_after_the_other(prefect, worker, folder, models):
    write(folder, models, "pair")
    deployments.deploy(folder / "specs")
    ids = [start("pair"), start("pair")]
    server.wait_for(lambda: [prefect.state(i) for i in ids] == ["Completed", "Completed"], 150, "both runs")
    assert len(lake.read(folder / "out-pair")) == 60
    reports = [yaml.safe_load(f.read_text()) for f in sorted((folder / "out-pair").rglob("reports/*.json"))]
    assert [(report["rows_in"], report["shards_skipped"]) for report in reports] == [(60, 0), (0, 3)]


def test_a_finished_job_starts_the_one_that_waits_for_it(prefect, worker, folder, models):
    write(folder, models, "upstream")
    write(
        folder,
        models,
        "downstream",
        trigger={"event": "nightscribe.run.finished", "resource": "nightscribe.job.upstream"},
    )
    deployments.deploy(folder / "specs")
    start("upstream")
    server.wait_for(lambda: [r for r in runs_of("downstream") if r.state_name == "Completed"], 180, "the other job")
    with client() as api:
        names = EventFilter(event=EventNameFilter(name=["nightscribe.run.finished"]))
        found = api.request("POST", "/events/filter", json={"filter": names.model_dump(mode="json")}).json()["events"]
    about = {event["resource"]["prefect.resource.id"]: event["payload"] for event in found}
    assert about["nightscribe.job.upstream"]["rows_out"] == 60
    assert about["nightscribe.job.upstream"]["output"] == "out-upstream"


def test_a_wrong_parameter_fails_the_run_at_once_with_the_sentence_of_the_command_line(prefect, worker, folder, models):
    write(folder, models, "wrong")
    deployments.deploy(folder / "specs")
    run_id = start("wrong", overrides=["tasks.0.topk=3"])
    server.wait_for(lambda: prefect.state(run_id) == "Failed", 90, "the run to fail")
    with client() as api:
        assert "tasks.0.topk is not a key; did you mean top_k?" in api.read_flow_run(run_id).state.message
        lines = api.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id])))
    assert not (folder / "out-wrong").exists(), lines
    assert [line.message for line in lines if "Traceback" in line.message] == []
    with pytest.raises(Exception, match="-1 is less than the minimum of 0"):
        start("wrong", limit=-1)
