"""Start-up: what is not needed is not imported, so a mistake in a job file is reported within a second."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from jobs import run
from jobs.parts.board import Board
from jobs.registry import Registry
from jobs.spec import parse
from tests import lake
from tests.jobs.registry import versions
from tests.waiting_job import waiting_job

# Seconds and hundreds of megabytes each.
HEAVY = ("apache_beam", "datasets", "duckdb", "matplotlib", "pandas", "peft", "prefect", "torch", "transformers", "trl")

PROGRAM = """
import json, sys
from jobs import cli
code = cli.main(sys.argv[1:])
print(json.dumps([code, sorted(name for name in sys.modules if name in {heavy})]))
"""


def imported(*command):
    """The exit code of a command and the heavy packages that it imported."""
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(heavy=HEAVY), *map(str, command)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1]), ran.stderr


@pytest.fixture
def job_file(tmp_path, models):
    source = lake.make_lake(tmp_path / "in", files=1)
    return lake.write_job(tmp_path, lake.job(source, tmp_path / "out", models))


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize(
    "mistake", ["source.limt=3", "tasks.0.long_text=cut", "tasks.0.task=clasify", "tasks.0.column=txt"]
)
def test_a_mistake_in_a_job_file_is_reported_before_anything_heavy_is_imported(job_file, command, mistake):
    (code, heavy), message = imported(command, job_file, mistake)
    assert (code, heavy) == (2, [])
    assert message.count("\n") == 1


def test_planning_imports_neither_the_pipeline_nor_the_pictures(job_file):
    (code, heavy), _ = imported("plan", job_file)
    assert code == 0
    assert set(heavy) <= {"pandas", "torch", "transformers"}


def test_a_mistake_in_what_a_report_is_of_is_told_before_its_pictures_are_imported(tmp_path):
    for words in (["--sink", tmp_path / "nope"], ["--job", tmp_path / "nope.yaml"]):
        (code, heavy), message = imported("report", "latest", *words)
        assert (code, heavy) == (2, [])
        assert message.count("\n") == 1


def test_looking_at_a_registry_imports_nothing_heavy(tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "weights").write_text("one")
    registry = Registry(str(tmp_path / "registry"))
    registry.promote(registry.add(tmp_path / "adapter", versions.about()).version, "gate", "first")
    assert imported("adapters", "list", registry.url)[0] == [0, []]
    assert imported("adapters", "show", registry.url)[0] == [0, []]


def test_a_folder_with_files_is_refused_before_a_model_is_merged_into_it(tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "weights").write_text("one")
    registry = Registry(str(tmp_path / "registry"))
    version = registry.add(tmp_path / "adapter", versions.about()).version
    (code, heavy), message = imported("adapters", "merge", registry.url, version, tmp_path / "adapter")
    assert (code, heavy) == (2, [])
    assert "adapter' exists and is not empty; give a folder that does not exist" in message


def test_describing_the_tasks_imports_nothing_heavy():
    assert imported("tasks")[0] == [0, []]
    assert imported("tasks", "generate")[0] == [0, []]


@pytest.mark.parametrize(("command", "allowed"), [("plan", []), ("run", ["apache_beam", "pandas"])])
def test_a_job_without_a_model_imports_no_torch(tmp_path, models, command, allowed):
    source = lake.make_lake(tmp_path / "in", files=1)
    task = {"task": "tests.bench.tasks.noop", "column": "text", "into": "nothing"}
    job_file = lake.write_job(tmp_path, lake.job(source, tmp_path / "out", models, tasks=[task]))
    assert imported(command, job_file)[0] == [0, allowed]


@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_night_without_new_rows_imports_nothing_heavy(job_file, command):
    assert imported("run", job_file)[0][0] == 0
    assert imported(command, job_file)[0] == [0, []]


def test_a_night_without_new_rows_looks_up_the_champion_and_imports_nothing_heavy(tmp_path, models):
    registry = Registry(str(tmp_path / "registry"))
    one, two = (versions.add(registry, models / "sentiment", tmp_path, seed) for seed in (1, 2))
    registry.promote(one, "gate", "first")
    job = lake.job(lake.make_lake(tmp_path / "in", files=1), tmp_path / "out", models)
    job["tasks"][0]["adapter"] = f"{registry.url}@champion"
    job_file = lake.write_job(tmp_path, job)
    assert imported("run", job_file)[0][0] == 0
    assert imported("run", job_file)[0] == [0, []]
    registry.promote(two, "gate", "better")
    assert "torch" in imported("run", job_file)[0][1]


def test_a_night_without_news_on_the_hub_imports_nothing_heavy(hub, tmp_path, models, monkeypatch):
    repository = hub.repository("dataset", "org/night-without-news", {"train.csv": b"id,text\na,good\n"})
    job = lake.job({"dataset": repository.name}, tmp_path / "out", models)
    run.run(parse(job))
    assert imported("run", lake.write_job(tmp_path, job))[0] == [0, []]


def test_the_worker_of_a_part_without_models_imports_no_more_than_its_results_need(tmp_path):
    job = waiting_job(tmp_path, milliseconds=0)
    with run.holding(run.prepare(job)) as held:
        Board(held.sink.store, held.plan).write(1, held.plan.shards_todo)
        program = (
            "import sys\nfrom jobs.parts.worker import execute_part\n"
            "state = execute_part(sys.argv[1], sys.argv[2], 1)\n"
            f"print(state.end, sorted(name for name in sys.modules if name in {HEAVY}))"
        )
        command = [sys.executable, "-c", program, str(tmp_path / "out"), held.plan.run_id]
        ran = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    # pyarrow imports pandas with the first array of results.
    assert ran.stdout.strip() == "done ['pandas']", ran.stderr
