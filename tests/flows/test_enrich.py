"""The flow on a real Prefect server: a report with a picture, progress, logs, retries that resume, a clean stop."""

import logging
import os
import re
import signal
import subprocess
import sys
import time
from typing import get_args

import httpx
import pyarrow.parquet as pq
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort
from prefect.flow_engine import run_flow
from prefect.testing.utilities import prefect_test_harness
from prefect.utilities.names import generate_slug

from flows import enrich as module
from flows import events, form, gpu, names
from flows.enrich import enrich
from jobs import run, spec
from jobs.runners import beam
from jobs.spec import task
from tests import lake
from transforms.errors import SinkError, SpecError, TooManyRejects


@pytest.fixture(scope="module", autouse=True)
def server():
    with prefect_test_harness(server_startup_timeout=120):
        yield


def artifacts(key):
    """The artifacts of that name, the newest last."""
    only, newest_first = ArtifactFilter(key=ArtifactFilterKey(any_=[key])), ArtifactSort.CREATED_DESC
    with get_client(sync_client=True) as client:
        return client.read_artifacts(artifact_filter=only, sort=newest_first)[::-1]


def logs(run_id):
    from prefect.client.schemas.filters import LogFilter, LogFilterFlowRunId

    with get_client(sync_client=True) as client:
        return client.read_logs(LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run_id])), limit=200)


def job_file(folder, models, files=2, rows=40, **more):
    source = folder / "in"
    source.mkdir(exist_ok=True)
    for i in range(files):
        pq.write_table(lake.rows(rows, start=1000 * i, seed=i), source / f"{i}.parquet")
    return lake.write_job(folder, lake.job(source, folder / "out", models, **more))


def test_a_run_ends_with_a_table_a_report_with_a_picture_and_logs(tmp_path, models):
    state = enrich(str(job_file(tmp_path, models)), limit=50, dtype="float32", return_state=True)
    report = state.result()
    assert (report["rows_in"], report["rows_out"]) == (50, 50)
    assert len(lake.read(tmp_path / "out")) == 50
    run_id, report_folder = report["run_id"], tmp_path / "out" / "_nightscribe" / "reports"
    assert "Example rows" in (report_folder / f"{run_id}.html").read_text()
    page = artifacts("test-report")[-1].data
    assert f"reports/{run_id}.html`" in page
    assert "50 rows enriched, 0 rejected" in page
    assert "](data:image/png;base64,iVBOR" in page
    assert '"rows out"' in artifacts("test-summary")[-1].data
    assert "cut for sentiment" in artifacts("test-summary")[-1].data
    assert "at 64 tokens; long_text: window reads them whole |" in page
    progress = artifacts("test-progress")[-1]
    assert progress.data == 100.0
    assert re.search(r"50 of 50 rows, [\d,]+ rows/s, 00:00 left, 2 shards, 0 rejected", progress.description)
    # The handler sends its lines in batches.
    deadline = time.monotonic() + 20
    while not any("shards to do" in line.message for line in logs(state.state_details.flow_run_id)):
        assert time.monotonic() < deadline
        time.sleep(0.5)
    forwarded = [line.message for line in logs(state.state_details.flow_run_id) if line.message.startswith("run ")]
    assert len(forwarded) == len(set(forwarded)) >= 1
    assert re.fullmatch(r"test, started 20\d\d-\d\d-\d\d \d\d:\d\d UTC", run_named(state))


def run_named(state):
    with get_client(sync_client=True) as client:
        return client.read_flow_run(state.state_details.flow_run_id).name


def lines_of(state, last):
    """The log of a run, once it has the line with that text; the handler sends its lines in batches."""
    deadline = time.monotonic() + 20
    while True:
        found = logs(state.state_details.flow_run_id)
        if any(last in line.message for line in found):
            return found
        assert time.monotonic() < deadline, [line.message for line in found]
        time.sleep(0.2)


def test_a_name_that_a_person_typed_is_kept(tmp_path, models):
    file = str(job_file(tmp_path, models, files=1, schedule={"cron": "15 2 * * *", "timezone": "Europe/Berlin"}))
    with get_client(sync_client=True) as client:
        made = client.create_flow_run(enrich, parameters={"job": file, "dry_run": True}, name="after the outage")
    run_flow(enrich, flow_run=made, parameters={"job": file, "dry_run": True})
    with get_client(sync_client=True) as client:
        assert client.read_flow_run(made.id).name == "after the outage"
    state = enrich(file, dry_run=True, return_state=True)
    assert re.fullmatch(r"test, started 20\d\d-\d\d-\d\d \d\d:\d\d CES?T", run_named(state))


def test_generated_run_names_are_distinguished_from_typed_ones():
    assert all(names.is_generated(generate_slug(2)) for _ in range(200))
    assert names.is_generated("Rustic-Pizza")
    assert names.is_generated("Handcrafted-eland")
    for typed in ("after the outage", "monthly-backfill", "first-try", "reviews 2026-11", "Awesome", "big-run-2"):
        assert not names.is_generated(typed)


def test_a_dry_run_plans_and_writes_nothing(tmp_path, models):
    assert enrich(str(job_file(tmp_path, models)), dry_run=True) is None
    assert not (tmp_path / "out").exists()
    assert "0 shards done, 2 to do" in artifacts("test-plan")[-1].data


def test_a_wrong_value_is_refused_with_the_sentence_of_the_command_line(tmp_path, models):
    file = str(job_file(tmp_path, models))
    with pytest.raises(SpecError, match=r"tasks.0.topk is not a key; did you mean top_k"):
        enrich(file, overrides=["tasks.0.topk=3"])
    state = enrich(file, overrides=["tasks.0.topk=3"], return_state=True)
    assert state.is_failed()
    assert "tasks.0.topk is not a key" in state.message
    lines = lines_of(state, "Finished in state")
    errors = [line.message for line in lines if line.level >= logging.ERROR]
    assert errors[0] == state.message
    assert sum("tasks.0.topk" in line.message for line in lines) == 1
    assert not [line for line in errors if "Traceback" in line]
    with pytest.raises(Exception, match="greater than or equal to 0"):
        enrich(file, limit=-1)
    with pytest.raises(Exception, match="'as the job file says', 'auto', 'float32', 'bfloat16', 'float16' or 'int8'"):
        enrich(file, dtype="int7")


def test_a_temporary_error_is_retried_and_the_second_attempt_executes_only_what_is_missing(
    tmp_path, models, monkeypatch
):
    monkeypatch.setattr(module, "execute", module.execute.with_options(retry_delay_seconds=0.1))
    attempts = []
    execute = beam.execute

    def flaky(plan, todo, models, stop):
        attempts.append([shard.key for shard in todo])
        if len(attempts) == 1:
            execute(plan, todo[:1], models, stop)
            raise SinkError("the store is away")
        execute(plan, todo, models, stop)

    monkeypatch.setattr(beam, "execute", flaky)
    state = enrich(str(job_file(tmp_path, models, files=3)), return_state=True)
    assert attempts == [["0.parquet", "1.parquet", "2.parquet"], ["1.parquet", "2.parquet"]]
    report = state.result()
    assert (report["rows_in"], report["rows_out"], report["shards_done"], report["attempts"]) == (120, 120, 3, 1)
    assert not [line.message for line in lines_of(state, "Finished in state") if "Traceback" in line.message]


def test_an_error_with_which_a_task_ends_is_in_the_log_once(tmp_path, models, monkeypatch):
    def full(plan, todo, models, stop):
        raise TooManyRejects("41 of 80 rows were rejected")

    monkeypatch.setattr(beam, "execute", full)
    state = enrich(str(job_file(tmp_path, models)), return_state=True)
    # The line of the task would come before that of the flow.
    lines = [line.message for line in lines_of(state, state.message)]
    assert state.message == "41 of 80 rows were rejected"
    assert [line for line in lines if "41 of 80" in line] == [state.message]


def test_too_many_rejects_are_not_retried(tmp_path, models, monkeypatch):
    calls = []
    execute = run.execute
    monkeypatch.setattr(run, "execute", lambda plan: (calls.append(1), execute(plan)))
    file = job_file(tmp_path, models)
    (tmp_path / "in" / "bad.jsonl").write_text('{"id": "x", "text": "cut\n{"id": "y", "text": "fine", "stars": 1}\n')
    state = enrich(str(file), overrides=["errors.max_fraction=0"], return_state=True)
    with pytest.raises(TooManyRejects, match="1 of 82 rows were rejected"):
        state.result()
    assert calls == [1]
    assert not [line.message for line in lines_of(state, "Finished in state") if "Traceback" in line.message]
    # What was rejected and why is looked for after a failed run more than after any other.
    shown = [each.data for each in artifacts("test-report") if each.flow_run_id == state.state_details.flow_run_id]
    assert "> **The run failed.** Run it again to continue." in shown[0]
    assert list((tmp_path / "out" / "_nightscribe" / "reports").glob("*.html"))


def test_a_night_that_is_held_back_fails_once_with_its_sentence_and_shows_its_audit(tmp_path, models, monkeypatch):
    attempts = []
    execute = run.execute
    monkeypatch.setattr(run, "execute", lambda held: (attempts.append(held), execute(held)))
    file = job_file(tmp_path, models, name="heldnightly")
    overrides = ["sink.on_vanished=remove", "sink.audit.rows=0.1"]
    enrich(str(file), overrides=overrides)
    (tmp_path / "in/1.parquet").unlink()
    state = enrich(str(file), overrides=overrides, return_state=True)
    assert state.is_failed()
    assert state.message.startswith("the night is held back: the sink would have 40 rows instead of 80")
    assert len(attempts) == 2
    (*_, report) = artifacts("heldnightly-report")
    assert "The night is held back." in report.data
    assert "| rows | the sink would have 40 rows instead of 80 | 0.5 of 0.1 | held back |" in report.data
    assert len(lake.read(tmp_path / "out")) == 80


def test_sigterm_stops_the_flow_cleanly_and_a_rerun_continues(tmp_path, models):
    file = job_file(tmp_path, models, files=12, rows=300)
    program = f"from flows.enrich import enrich; print(enrich({str(file)!r}, return_state=True).name)"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    while not list((tmp_path / "out").rglob("ledger/*.jsonl")):
        time.sleep(0.05)
        assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    started = time.monotonic()
    out, log = process.communicate(timeout=60)
    assert time.monotonic() - started < 30
    assert "ERROR" not in log
    assert "Traceback" not in log
    assert out.strip().splitlines()[-1] == "Cancelled"
    report = enrich(str(file))
    assert report["shards_skipped"] > 0
    assert len(lake.read(tmp_path / "out")) == 3_600


def test_a_job_on_a_gpu_holds_a_slot_of_the_queue_while_it_executes(tmp_path, models, monkeypatch):
    # There is no GPU here: that the job needs one is all that is made up.
    monkeypatch.setattr(gpu, "needed", lambda plan: True)
    held = []
    execute = run.execute

    def look(plan):
        with get_client(sync_client=True) as client:
            held.append(client.read_global_concurrency_limit_by_name("gpu").active_slots)
        execute(plan)

    monkeypatch.setattr(run, "execute", look)
    enrich(str(job_file(tmp_path, models, files=1)))
    assert held == [1]
    with get_client(sync_client=True) as client:
        assert client.read_global_concurrency_limit_by_name("gpu").active_slots == 0


def test_a_cpu_job_needs_no_slot(tmp_path, models):
    assert not gpu.needed(run.prepare(spec.read(job_file(tmp_path, models, files=1))))


def test_an_unreachable_server_stops_the_progress_display_and_not_the_run(tmp_path, models, monkeypatch):
    def away(*_, **__):
        raise httpx.ConnectError("connection refused")

    monkeypatch.setattr(module, "update_progress_artifact", away)
    assert enrich(str(job_file(tmp_path, models, files=1)))["rows_out"] == 40


def test_after_a_model_change_finished_rows_are_redone_or_kept_as_chosen_in_the_form(tmp_path, models):
    file = str(job_file(tmp_path, models, files=1))
    enrich(file)
    changed = ["tasks.0.stride=8"]
    assert enrich(file, overrides=changed, refresh="keep")["rows_in"] == 0
    assert enrich(file, overrides=changed, refresh="redo")["rows_in"] == 40


def test_a_failed_run_emits_an_event(tmp_path, models, monkeypatch):
    said = []
    monkeypatch.setattr(events, "emit_event", lambda **event: said.append(event))
    file = str(job_file(tmp_path, models, files=1))
    enrich(file)
    with pytest.raises(SpecError):
        enrich(file, overrides=["tasks.0.column=txt"])
    events.emit("promoted", "test", {"adapter": "adapters/tuesday"})
    assert [event["event"].rsplit(".", 1)[-1] for event in said] == ["finished", "failed", "promoted"]
    assert {event["resource"]["prefect.resource.id"] for event in said} == {"nightscribe.job.test"}
    assert said[0]["payload"]["rows_out"] == 40
    assert "column 'txt' is not in the source" in said[1]["payload"]["message"]
    assert said[0]["related"][0]["prefect.resource.role"] == "flow-run"


def test_the_choices_in_the_form_are_those_of_a_job_file():
    assert get_args(form.DtypeChoice) == (form.UNCHANGED, *get_args(task.Dtype))
    kept = spec.SinkSpec.model_fields["on_model_change"].annotation
    assert get_args(form.RefreshChoice) == (form.UNCHANGED, *get_args(kept))
