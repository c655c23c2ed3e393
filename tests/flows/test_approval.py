"""Trainings as deployments on a real server with a real worker, and approvals in a real browser."""

import json
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterKey,
    FlowRunFilter,
    FlowRunFilterDeploymentId,
)
from prefect.events.filters import EventFilter, EventNameFilter, EventResourceFilter
from prefect.states import Cancelling

from flows import automations, deployments, project
from flows.heartbeats import AFTER_S
from jobs.gate import decision
from jobs.registry import Registry
from jobs.retraining import state
from tests import lake, server
from tests.forms import answer, look
from tests.jobs.training import made

pytestmark = pytest.mark.long

# A heartbeat every 30 s is the least that Prefect allows.
SILENT_S = 40
# 17 seconds.
SOON = "approval_timeout_days=0.0002"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, models):
    """A lake with labels, a job that starts on a promotion, a training that asks, and one that takes long."""
    root = tmp_path_factory.mktemp("trainings")
    for name, rows in (("labels", made.labelled(24, seed=1)), ("holdout", made.labelled(160, seed=2))):
        (root / name).mkdir()
        pq.write_table(rows, root / name / "1.parquet")
    (root / "in").mkdir()
    texts = made.labelled(20, seed=9).select(["text"])
    pq.write_table(texts.append_column("id", pa.array([f"{i:02}" for i in range(20)])), root / "in" / "a.parquet")
    asking = {
        "name": "sentiment",
        "description": "Sentiment of reviews.",
        "task": "classify",
        "base": {"model": str(models / "mlm")},
        "data": {"train": {"path": "labels"}, "holdout": {"path": "holdout"}},
        "training": {"num_train_epochs": 1, "learning_rate": 5e-3, "per_device_train_batch_size": 8},
        "adapter": {"r": 16, "lora_alpha": 32, "target_modules": "all-linear"},
        "registry": "registry",
        "gate": {"metric": "accuracy", "floor": 0.1},
        "approval": "prefect",
    }
    long = asking["training"] | {"num_train_epochs": 100_000, "save_steps": 20, "logging_steps": 20}
    slow = asking | {"name": "slow", "training": long, "registry": "registry-slow", "approval": "none"}
    task = {"task": "classify", "column": "text", "model": str(models / "mlm"), "adapter": "registry@champion"}
    nightly = {
        "name": "nightly",
        "source": {"path": "in"},
        "tasks": [task | {"into": "label", "dtype": "float32"}],
        "sink": {"path": "out"},
        "trigger": {"event": "nightscribe.run.promoted", "resource": "nightscribe.job.sentiment"},
    }
    (root / "specs").mkdir()
    for content in (asking, slow, nightly):
        (root / "specs" / f"{content['name']}.yaml").write_text(yaml.safe_dump(content))
    return root


@pytest.fixture(scope="module")
def prefect(tmp_path_factory, folder):
    with pytest.MonkeyPatch.context() as patched, server.running(tmp_path_factory.mktemp("server")) as running:
        patched.chdir(folder)
        running.environment["OMP_NUM_THREADS"] = "1"
        deployments.deploy(Path("specs"))
        yield running


@pytest.fixture(scope="module")
def worker(prefect):
    with prefect.worker() as process:
        yield process


@pytest.fixture(scope="module")
def waiting():
    """The run that waits for an approval, from one test to the next."""
    return []


def read(name):
    with get_client(sync_client=True) as client:
        return client.read_deployment_by_name(name)


def start(name, *overrides):
    with get_client(sync_client=True) as client:
        return client.create_flow_run_from_deployment(read(name).id, parameters={"overrides": [*overrides]}).id


def ends(prefect, run_id, state, timeout_s=120):
    """Wait for a state of a run; its message."""
    server.wait_for(lambda: prefect.state(run_id) == state, timeout_s, f"{state} of a run")
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run_id).state.message


def moments(run_id, event):
    """When a run has sent the events of a kind."""
    wanted = EventFilter(
        event=EventNameFilter(name=[f"prefect.flow-run.{event}"]),
        resource=EventResourceFilter(id=[f"prefect.flow-run.{run_id}"]),
    )
    with get_client(sync_client=True) as client:
        return [found.occurred for found in client.read_events(wanted, limit=50).events]


def champion(folder):
    return Registry(str(folder / "registry")).champion()


def test_a_training_file_is_deployed_beside_the_job_files(prefect, folder):
    again = deployments.deploy(Path("specs"))
    assert {again[name] for name in ("nightly", "retrain/sentiment", "retrain/slow")} == {"unchanged"}
    found = read("retrain/sentiment")
    assert (found.entrypoint, found.parameters) == ("flows.retrain.retrain", {"training": "specs/sentiment.yaml"})
    assert found.tags == ["classify", "nightscribe"]
    assert found.global_concurrency_limit.limit == 1
    assert found.concurrency_options.collision_strategy == "ENQUEUE"
    for line in ("method lora", "accuracy of at least 0.1", "by a person, in Prefect, within 7 days", "`registry`"):
        assert line in found.description
    assert project.prepare("specs/sentiment.yaml")["version"] == found.version


def test_a_training_file_that_is_gone_is_reported(prefect, folder):
    (folder / "others").mkdir()
    other = yaml.safe_load((folder / "specs" / "slow.yaml").read_text()) | {"name": "other"}
    (folder / "others" / "other.yaml").write_text(yaml.safe_dump(other))
    done = deployments.deploy(Path("others"))
    assert done["retrain/other"] == "created"
    assert "has no training file in others any more; `prefect deployment delete 'retrain/slow'`" in done["retrain/slow"]
    assert "has no job file in others any more; `prefect deployment delete 'enrich/nightly'`" in done["nightly"]


def test_an_approval_that_nobody_gives_fails_the_run_and_the_next_one_asks_again(prefect, worker, folder, waiting):
    run_id = start("retrain/sentiment", SOON)
    ends(prefect, run_id, "Suspended")
    assert ends(prefect, run_id, "Failed") == "The flow was paused and never resumed."
    again, third = start("retrain/sentiment"), start("retrain/sentiment")
    runs = {again, third}
    server.wait_for(lambda: {"Suspended", "Skipped"} == {*map(prefect.state, runs)}, 120, "one to wait, one to skip")
    (waits,) = (each for each in runs if prefect.state(each) == "Suspended")
    assert "waits for the approval of" in ends(prefect, (runs - {waits}).pop(), "Skipped")
    assert champion(folder) is None
    waiting.append(waits)


def test_a_person_approves_a_version_and_the_job_that_waits_for_it_starts(
    prefect, worker, folder, browser, shots, waiting
):
    run_id = waiting.pop()
    prefect.stop()
    prefect.start()
    shown = answer(prefect, browser, run_id, "approve", "reads well", shots / "approve.png")
    assert "it is the first version, and reaches the floor" in shown
    assert "Answer until" in shown
    ends(prefect, run_id, "Completed")
    move = champion(folder)
    assert (move.by, move.reason, decision.verify(move.receipt)) == ("Ada", "reads well", [])
    versions = Registry(str(folder / "registry")).versions()
    assert [version.version for version in versions] == [move.version], "it was trained more than once"
    assert "the same decision" in prefect.nightscribe("adapters", "verify", "registry", "champion", cwd=folder)

    with get_client(sync_client=True) as client:
        only = FlowRunFilter(deployment_id=FlowRunFilterDeploymentId(any_=[read("enrich/nightly").id]))
        server.wait_for(
            lambda: [r.state_name for r in client.read_flow_runs(flow_run_filter=only)] == ["Completed"], 90, "the job"
        )
        promoted = EventFilter(event=EventNameFilter(name=["nightscribe.run.promoted"]))
        (event,) = client.read_events(promoted, limit=50).events
    assert event.payload["version"] == move.version
    assert event.occurred > datetime.fromisoformat(move.at)
    assert len(lake.read(folder / "out")) == 20


def test_a_killed_training_is_continued_and_a_cancelled_one_leaves_no_process(prefect, worker, folder, waiting):
    pq.write_table(made.labelled(240, seed=3), folder / "labels" / "2.parquet")
    # A deploy sets it back.
    automations.apply(automations.crash_automation(silent_s=SILENT_S))
    better = start("retrain/sentiment", "training.num_train_epochs=8")
    ends(prefect, better, "Suspended")
    waiting.append(better)

    run_id = start("retrain/slow")
    work = folder / "registry-slow" / "_training"
    server.wait_for(lambda: list(work.glob("*/checkpoints/*/complete")), 120, "the first checkpoint")
    (trainer,) = server.trainers(worker)
    trainer.parent().send_signal(signal.SIGKILL)
    server.wait_for(lambda: not server.lives(trainer), 30, "the training to end with its parent")
    ends(prefect, run_id, "Crashed")
    (progress,) = work.glob("*/progress.jsonl")
    progress.unlink()

    run_id = start("retrain/slow")
    server.wait_for(lambda: progress.exists() and progress.read_text().endswith("\n"), 120, "the training to go on")
    assert json.loads(progress.read_text().splitlines()[0])["step"] > 20
    below = [process for process in server.tree(worker) if process.pid != worker.pid]
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run_id, Cancelling())
    server.wait_for(lambda: not any(map(server.lives, below)), 30, "every process to end")
    ends(prefect, run_id, "Cancelled", 60)
    assert Registry(str(folder / "registry-slow")).champion() is None


def test_a_person_refuses_a_version_and_the_champion_stays(prefect, worker, folder, browser, shots, waiting):
    run_id = waiting.pop()
    beats, (suspended,) = moments(run_id, "heartbeat"), moments(run_id, "Suspended")
    assert AFTER_S <= (suspended - max(beats)).total_seconds() < 30, "not in the gap between two heartbeats"
    silence = max(beats) + timedelta(seconds=SILENT_S + 20)
    server.wait_for(lambda: datetime.now(UTC) > silence, 60, "the time after which a silent run is marked Crashed")
    assert prefect.state(run_id) == "Suspended"
    before = champion(folder)
    shown = answer(prefect, browser, run_id, "refuse", "worse on invoices", shots / "refuse.png")
    assert f"in place of {before.version}" in shown
    ends(prefect, run_id, "Completed")
    assert champion(folder) == before
    (version,) = (v for v in Registry(str(folder / "registry")).versions() if v.version != before.version)
    refusal = state.decided(Registry(str(folder / "registry")), version.version)
    assert (refusal["decision"], refusal["reason"]) == ("refused", "refused by Ada: worse on invoices")

    page = browser.new_page(viewport={"width": 1280, "height": 1400})
    page.set_default_timeout(30_000)
    look(page, f"{prefect.ui}/runs/flow-run/{run_id}?tab=Artifacts", "sentiment-comparison", shots / "artifacts.png")
    for key in ("comparison", "retraining", "differences", "approval"):
        page.get_by_text(f"sentiment-{key}").first.wait_for()
    page.screenshot(path=shots / "artifacts.png")
    with get_client(sync_client=True) as client:
        only = ArtifactFilter(key=ArtifactFilterKey(any_=["sentiment-differences"]))
        (rows,) = client.read_artifacts(artifact_filter=only)
    assert 0 < len(json.loads(rows.data)) <= 20
    look(page, f"{prefect.ui}/artifacts/artifact/{rows.id}", "challenger", shots / "differences.png")
    page.screenshot(path=shots / "differences.png")
    page.close()
