"""What a runner of Beam needs is told before anything is written: options, programs, servers, absolute paths."""

import os
import sys
from pathlib import Path

import pytest

from jobs import spec
from jobs.runners import needs
from tests.server import free_port
from transforms.errors import SpecError

DATAFLOW = {
    "project": "my-project",
    "region": "europe-west4",
    "temp_location": "gs://my-bucket/tmp",
    "sdk_container_image": "europe-docker.pkg.dev/my-project/images/nightscribe-beam:1",
}


def job(name, options=None, **more):
    content = {
        "name": "test",
        "source": {"path": "/lake/in"},
        "tasks": [{"task": "classify", "column": "text", "model": "org/model", "into": "label"}],
        "sink": {"path": "/lake/out"},
        "runner": {"name": name, "options": options or {}},
    }
    return spec.parse(content | more)


def refused(*arguments, **more):
    with pytest.raises(SpecError) as found:
        needs.check(job(*arguments, **more))
    assert "\n" not in str(found.value)
    return str(found.value)


def test_a_portable_runner_needs_a_job_server_that_answers(monkeypatch):
    assert "runner.options.job_endpoint is missing" in refused("PortableRunner")
    monkeypatch.setattr(needs, "ANSWER_S", 0.2)
    endpoint = f"localhost:{free_port()}"
    assert f"job_endpoint is '{endpoint}', and no job server of Beam answers" in refused(
        "PortableRunner", {"job_endpoint": endpoint}
    )


@pytest.mark.parametrize("runner", ["FlinkRunner", "SparkRunner"])
def test_flink_and_spark_need_java_or_a_job_server(runner, monkeypatch):
    monkeypatch.setenv("PATH", os.path.dirname(sys.executable))
    assert "there is no 'java' on this machine; install Java, or set runner.options.job_endpoint" in refused(runner)
    key = f"{runner.removesuffix('Runner').lower()}_job_server_jar"
    assert f"runner.options.{key} is 'no.jar', and there is no such file" in refused(runner, {key: "no.jar"})


def test_a_cluster_needs_an_image_with_this_program(monkeypatch, tmp_path):
    java = tmp_path / "java"
    java.touch(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    master = {"flink_master": "http://flink:8081"}
    assert "environment_config is missing: without an image" in refused("FlinkRunner", master)
    needs.check(job("FlinkRunner", master | {"environment_config": "registry/nightscribe-beam:1"}))
    needs.check(job("SparkRunner", {"spark_master_url": "spark://m:7077", "environment_config": "nightscribe-beam:1"}))
    # Prism starts containers on this machine.
    docker = {"environment_type": "DOCKER", "environment_config": "nightscribe-beam:1"}
    assert "there is no docker on this machine" in refused("PrismRunner", docker)


def test_environments_that_do_not_exist_or_lack_their_address_are_refused():
    assert "environment_type is 'KUBERNETES'; valid: DOCKER, PROCESS, EXTERNAL, LOOPBACK" in refused(
        "PrismRunner", {"environment_type": "KUBERNETES"}
    )
    assert "environment_config is missing: HOST:PORT of the worker pool" in refused(
        "PrismRunner", {"environment_type": "EXTERNAL"}
    )
    assert 'environment_config is missing: {"command"' in refused("PrismRunner", {"environment_type": "PROCESS"})
    address = f"localhost:{free_port()}"
    external = {"environment_type": "EXTERNAL", "environment_config": address}
    assert f"environment_config is '{address}', and no worker pool listens there" in refused("PrismRunner", external)


def test_prism_needs_the_binary_that_the_options_name():
    assert "prism_location is 'no/prism', and there is no such file" in refused(
        "PrismRunner", {"prism_location": "no/prism"}
    )


@pytest.mark.parametrize("key", list(DATAFLOW))
def test_dataflow_needs_a_project_a_region_a_bucket_and_an_image(key):
    assert f"runner.options.{key} is missing" in refused("DataflowRunner", {**DATAFLOW, key: None})


def test_dataflow_needs_google_s_packages_and_what_beam_asks_for(monkeypatch):
    monkeypatch.setattr(needs.importlib.util, "find_spec", lambda name: None)
    assert "pip install 'apache-beam[gcp]==2.77.0'" in refused("DataflowRunner", DATAFLOW)
    monkeypatch.setattr(needs.importlib.util, "find_spec", lambda name: "found")
    needs.check(job("DataflowRunner", DATAFLOW))
    wrong = DATAFLOW | {"num_workers": 9, "max_num_workers": 3}
    assert "num_workers (9) cannot exceed max_num_workers (3) (says Beam)" in refused("DataflowRunner", wrong)


def test_what_a_job_ships_must_be_there_and_a_project_must_be_buildable(tmp_path, monkeypatch):
    assert "runner.options.extra_packages is 'dist/mine.whl', and there is no such file" in refused(
        "PrismRunner", {"extra_packages": ["dist/mine.whl"]}
    )
    project = tmp_path / "pyproject.toml"
    project.touch()
    monkeypatch.setattr(needs.importlib.util, "find_spec", lambda name: None)
    assert "pip install build, or build a wheel" in refused("PrismRunner", {"setup_file": str(project)})


FIRST = {"first": {"model": "models/mine"}}


@pytest.mark.parametrize(
    ("key", "value", "more"),
    [
        ("source.path", "lake/in", {"source": {"path": ["/lake/in", "lake/in"]}}),
        ("sink.path", "lake/out", {"sink": {"path": "lake/out"}}),
        ("source.table", "tables/reviews", {"source": {"table": "delta://tables/reviews"}}),
        (
            "tasks.0.model",
            "models/mine",
            {"tasks": [{"task": "classify", "column": "text", "model": "models/mine", "into": "label"}]},
        ),
        (
            "tasks.0.first.model",
            "models/mine",
            {"tasks": [{"task": "classify", "column": "text", "model": "org/large", "into": "label"} | FIRST]},
        ),
    ],
)
def test_relative_paths_are_refused_for_workers_that_start_in_other_folders(key, value, more, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("models/mine").mkdir(parents=True)
    options = {"flink_master": "http://flink:8081", "environment_config": "nightscribe-beam:1", "job_endpoint": "embed"}
    assert refused("FlinkRunner", options, **more).startswith(f"{key} is {value!r}, a relative path")
    # These workers are this process.
    needs.check(job("PrismRunner", **more))


def test_a_url_and_a_name_on_the_hub_are_no_paths():
    options = {"environment_config": "nightscribe-beam:1", "flink_master": "f:8081", "job_endpoint": "embed"}
    needs.check(job("FlinkRunner", options, source={"path": "s3://lake/in"}, sink={"path": "s3://lake/out"}))
