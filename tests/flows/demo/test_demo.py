"""The `nightscribe demo` command, apart from what it trains and enriches."""

import sys
from pathlib import Path

import pytest
from prefect import flow
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelled
from prefect.testing.utilities import prefect_test_harness

from flows import demo
from flows.demo.outcome import outcome
from jobs import cli, spec
from transforms.errors import RunError, Stopped


@flow
def ending(file: str):
    """Stopped, ended without a result, or with one."""
    return {"stopped": Cancelled(message="it was asked to stop"), "nothing": None}.get(file, {"rows": file})


@pytest.mark.usefixtures("settings_of_the_process")
def test_a_demo_with_too_few_rows_is_refused_before_it_makes_anything(tmp_path, capsys):
    assert cli.main(["demo", "--rows", "10", "--folder", str(tmp_path / "demo")]) == 2
    assert "--rows is 10; a lake with every kind of text needs at least 100" in capsys.readouterr().err
    assert not (tmp_path / "demo").exists()


def test_a_flow_that_is_stopped_ends_the_demo_with_its_sentence():
    with prefect_test_harness(server_startup_timeout=120):
        with pytest.raises(Stopped, match=r"^it was asked to stop$"):
            outcome(ending, Path("stopped"))
        with pytest.raises(RunError, match="the flow with nothing failed"):
            outcome(ending, Path("nothing"))
        assert outcome(ending, Path("all")) == {"rows": "all"}


def test_commands_that_the_demo_shows_work_in_the_folder_where_it_was_started(tmp_path, monkeypatch):
    folder = Path(sys.executable).parent
    monkeypatch.chdir(tmp_path)
    assert demo.command_folder() == folder
    monkeypatch.chdir(folder.parent)
    assert demo.command_folder() == Path(folder.name)


def test_a_lake_of_another_size_is_enriched_into_a_folder_of_its_own(tmp_path):
    for rows, sink in ((demo.ROWS, "enriched"), (300, "enriched-300")):
        job = spec.read(demo.write_job(tmp_path, tmp_path / f"lake-{rows}", tmp_path / "classify", tmp_path / "ner"))
        assert job.sink.path == str(tmp_path / sink)


def test_the_demo_names_the_server_that_has_its_runs():
    with temporary_settings({PREFECT_API_URL: "http://prefect.example.com:4200/api"}):
        assert demo.the_ui().startswith("http://prefect.example.com:4200 ")
    with temporary_settings(restore_defaults={PREFECT_API_URL}):
        assert demo.the_ui().startswith(f"{Path(sys.executable).parent}/prefect server start, then http://127.0.0.1:")
