"""Beam's pipeline options in a job file: unknown ones, those of other runners and wrong values are refused."""

import pytest

from jobs import cli
from jobs.runners import options
from jobs.spec import RunnerSpec
from tests import lake
from transforms.errors import SpecError


def check(given, runner="FlinkRunner", more=()):
    options.check(RunnerSpec(name=runner, options=given), runner, more)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"paralellism": 4}, "runner.options.paralellism is not an option of Beam; did you mean parallelism"),
        ({"--flink-master": "x"}, "did you mean flink_master"),
        ({"zzz": 1}, "runner.options.zzz is not an option of Beam; https://beam.apache.org lists them"),
        ({"runner": "FlinkRunner"}, "runner.options.runner is a key of its own here; remove it, and set runner.name"),
        ({"parallelism": "many"}, "runner.options.parallelism is 'many': invalid int value: 'many'; correct it"),
        ({"parallelism": True}, "runner.options.parallelism is True: expected one argument; correct it"),
        ({"parallelism": False}, "runner.options.parallelism is False: expected one argument; correct it"),
        ({"flink_submit_uber_jar": "yes"}, "runner.options.flink_submit_uber_jar is 'yes': ignored explicit argument"),
        ({"flink_version": "0.9"}, "runner.options.flink_version is '0.9': invalid choice: '0.9' (choose from"),
        (
            {"spark_master_url": "spark://host:7077"},
            "runner.options.spark_master_url is an option of SparkRunner, and runner.name is 'FlinkRunner'; remove it",
        ),
        ({"direct_num_workers": 2}, "runner.options.direct_num_workers is an option of local, and runner.name is"),
        ({"sdk_container_image": "x"}, "runner.options.sdk_container_image is an option of DataflowRunner"),
    ],
)
def test_an_option_that_nobody_reads_is_refused_with_the_names_that_are_close_to_it(given, said):
    with pytest.raises(SpecError) as refused:
        check(given)
    assert str(refused.value).startswith(said) or said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_options_of_beam_and_those_that_the_job_server_knows_are_accepted():
    check(
        {"parallelism": 4, "flink_submit_uber_jar": False, "experiments": ["one", "two"], "environment_type": "DOCKER"}
    )
    check({"checkpointing_interval": 60000}, "PortableRunner", {"checkpointing_interval"})
    with pytest.raises(SpecError, match="did you mean checkpointing_interval"):
        check({"checkpointing_intervall": 60000}, "PortableRunner", {"checkpointing_interval"})
    # Any option may be meant for the runner behind the job server, or for a runner of somebody else.
    check({"flink_master": "host:8081", "num_workers": 2}, "PortableRunner")


@pytest.mark.usefixtures("settings_of_the_process")
def test_options_are_checked_for_the_local_runner_too_when_a_job_is_planned_and_when_it_is_run(tmp_path, capsys):
    content = lake.job(tmp_path / "in", tmp_path / "out", tmp_path)
    job = lake.write_job(tmp_path, content | {"runner": {"options": {"direct_runing_mode": "multi_threading"}}})
    for command in ("plan", "run"):
        assert cli.main([command, str(job)]) == 2
        assert "did you mean direct_running_mode" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [job]


@pytest.mark.parametrize(
    ("runner", "instead"),
    [
        ("DataflowRunner", "set runner.options: num_workers and max_num_workers"),
        ("FlinkRunner", "set runner.options: parallelism"),
        ("SparkRunner", "the cluster has the number of executors"),
        ("PrismRunner", "starts processes on this machine; remove it"),
    ],
)
def test_a_number_of_processes_is_refused_for_a_runner_that_starts_none_here(runner, instead):
    with pytest.raises(SpecError, match=r"runner\.workers is 4, and only the runner 'local'") as refused:
        options.check_workers(RunnerSpec(name=runner, workers=4), runner)
    assert instead in str(refused.value)
    options.check_workers(RunnerSpec(name=runner), runner)


def test_every_option_of_beam_is_known_by_its_name():
    names = {name for group in options.PipelineOptions.__subclasses__() for name in options._names(group)}
    assert {"flink_master", "spark_master_url", "prism_location", "project", "job_endpoint", "setup_file"} <= names
