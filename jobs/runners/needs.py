"""What a runner of Beam needs before anything is written: options, programs, servers, paths for its workers."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
from collections.abc import Collection, Iterator
from pathlib import Path

import grpc
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    JobServerOptions,
    PipelineOptions,
    PortableOptions,
    PrismRunnerOptions,
    SetupOptions,
    SparkRunnerOptions,
    WorkerOptions,
)
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc
from apache_beam.runners.portability.flink_runner import MAGIC_HOST_NAMES
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.runners.runner import PipelineRunner

from jobs.runners import engine, options
from jobs.spec import JobSpec
from transforms.errors import SpecError

# How long a server has to answer.
ANSWER_S = 5.0
ENVIRONMENTS = ("DOCKER", "PROCESS", "EXTERNAL", "LOOPBACK")
POOL = "python -m apache_beam.runners.worker.worker_pool_main --service_port=50000 --container_executable=BOOT"


def check(spec: JobSpec) -> None:
    """Refuse a runner that cannot execute this job, as far as that can be known here, before anything is written.

    Raises:
        SpecError: Beam has no such runner, it does not know an option, lacks one, or its server does not answer; or its
            workers cannot find a path of the job.
    """
    runner = engine.create(spec.runner)
    name = type(runner).__name__
    options.check_workers(spec.runner, name)
    endpoint = spec.runner.options.get("job_endpoint")
    more = _asked(str(endpoint)) if endpoint and endpoint != "embed" else frozenset()
    options.check(spec.runner, name, more)
    given = options.parse(spec.runner)
    _check_shipped(given)
    if isinstance(runner, PortableRunner):
        _check_server(name, given)
        _check_environment(name, given)
    elif name == "DataflowRunner":
        _check_dataflow(given)
    _check_by_beam(runner, given)
    if elsewhere(runner, given):
        _check_paths(spec)


def elsewhere(runner: PipelineRunner, given: PipelineOptions) -> bool:
    """Whether the shards are executed by processes that need not be on this machine."""
    name = type(runner).__name__
    if isinstance(runner, PortableRunner):
        return _environment(name, given) != "LOOPBACK"
    return name == "DataflowRunner"


def _environment(name: str, given: PipelineOptions) -> str:
    """Where a portable runner executes our code; some of Beam's runners choose this process by default."""
    if kind := given.view_as(PortableOptions).environment_type:
        return str(kind)
    here = {
        "PrismRunner": True,
        "FlinkRunner": given.view_as(FlinkRunnerOptions).flink_master in MAGIC_HOST_NAMES,
        "SparkRunner": given.view_as(SparkRunnerOptions).spark_master_url.startswith("local"),
    }
    return "LOOPBACK" if here.get(name, False) else "DOCKER"


def _check_server(name: str, given: PipelineOptions) -> None:
    """Refuse a runner without a job server, and without what is needed to start one."""
    if given.view_as(PortableOptions).job_endpoint:
        return
    if name == "PortableRunner":
        raise SpecError(
            "runner.options.job_endpoint is missing, which PortableRunner needs: HOST:PORT of a job server, such as "
            "localhost:8099"
        )
    if name == "PrismRunner":
        place = given.view_as(PrismRunnerOptions).prism_location
        if place is not None and "://" not in place and not os.path.exists(place):
            raise SpecError(
                f"runner.options.prism_location is {place!r}, and there is no such file; give the path of the binary, "
                "or the URL of a release of Beam"
            )
        return
    flink, spark = given.view_as(FlinkRunnerOptions), given.view_as(SparkRunnerOptions)
    key, jar = (
        ("flink_job_server_jar", flink.flink_job_server_jar)
        if name == "FlinkRunner"
        else ("spark_job_server_jar", spark.spark_job_server_jar)
    )
    if jar is not None and "://" not in jar and not os.path.exists(jar):
        raise SpecError(f"runner.options.{key} is {jar!r}, and there is no such file; give a path or a URL")
    if spark.spark_submit_uber_jar and not spark.spark_rest_url:
        raise SpecError("runner.options.spark_rest_url is missing, which spark_submit_uber_jar needs; add it")
    java = given.view_as(JobServerOptions).job_server_java_launcher
    if not (flink.flink_submit_uber_jar or spark.spark_submit_uber_jar) and shutil.which(java) is None:
        raise SpecError(
            f"runner.name is {name!r}, which starts Beam's job server with Java, and there is no {java!r} on this "
            "machine; install Java, or set runner.options.job_endpoint to HOST:PORT of a job server that runs"
        )


def _check_environment(name: str, given: PipelineOptions) -> None:
    """Refuse an environment for our code that cannot have it."""
    portable = given.view_as(PortableOptions)
    kind = _environment(name, given)
    if kind not in ENVIRONMENTS and not kind.startswith("beam:env:"):
        raise SpecError(f"runner.options.environment_type is {kind!r}; valid: {', '.join(ENVIRONMENTS)}")
    # Prism runs on this machine, and so do the containers and the pool that it talks to.
    is_here = name == "PrismRunner" and not portable.job_endpoint
    if kind == "DOCKER":
        if not (portable.environment_config or portable.lookup_environment_option("docker_container_image")):
            raise SpecError(
                "runner.options.environment_config is missing: without an image, Beam takes its own one, which has no "
                "nightscribe; build deploy/beam/Dockerfile and give its name, or set environment_type: EXTERNAL"
            )
        if is_here and shutil.which("docker") is None:
            raise SpecError(
                "runner.options.environment_type is 'DOCKER', and there is no docker on this machine; use EXTERNAL "
                f"with a worker pool ({POOL}), or LOOPBACK"
            )
    if kind == "EXTERNAL":
        address = portable.environment_config or portable.lookup_environment_option("external_service_address")
        if address is None:
            raise SpecError(
                "runner.options.environment_config is missing: HOST:PORT of the worker pool that environment_type "
                f"EXTERNAL needs; start one with {POOL}"
            )
        if is_here and not str(address).lstrip().startswith("{") and not _answers(str(address)):
            raise SpecError(
                f"runner.options.environment_config is {address!r}, and no worker pool listens there; start one with "
                f"{POOL}, and give HOST:PORT"
            )
    if kind == "PROCESS" and not (portable.environment_config or portable.lookup_environment_option("process_command")):
        raise SpecError(
            'runner.options.environment_config is missing: {"command": "/opt/apache/beam/boot"}, the program that '
            "starts a worker on each machine"
        )


def _check_dataflow(given: PipelineOptions) -> None:
    """Refuse what Dataflow cannot start; before Beam's own checks, which create a bucket where none is given."""
    cloud = given.view_as(GoogleCloudOptions)
    missing = [key for key in ("project", "region", "temp_location") if getattr(cloud, key) is None]
    if missing:
        raise SpecError(
            f"runner.options.{missing[0]} is missing; DataflowRunner needs project, region and temp_location "
            "(gs://BUCKET/FOLDER)"
        )
    if given.view_as(WorkerOptions).sdk_container_image is None:
        raise SpecError(
            "runner.options.sdk_container_image is missing: without it Dataflow takes Beam's own image, which has no "
            "nightscribe; build deploy/beam/Dockerfile, push it, and give its name"
        )
    if importlib.util.find_spec("apitools") is None:
        raise SpecError(
            "runner.name is 'DataflowRunner', and the packages for Google's services are not installed; "
            "pip install 'apache-beam[gcp]==2.77.0'"
        )


def _check_shipped(given: PipelineOptions) -> None:
    """Refuse packages to ship that are not there, and a project that cannot be built here."""
    setup = given.view_as(SetupOptions)
    files = [("extra_packages", name) for name in setup.extra_packages or []]
    files += [(key, getattr(setup, key)) for key in ("setup_file", "requirements_file") if getattr(setup, key)]
    for key, name in files:
        if "://" not in name and not os.path.exists(name):
            raise SpecError(
                f"runner.options.{key} is {name!r}, and there is no such file; paths start from the current folder"
            )
    project = setup.setup_file
    if project and Path(project).name != "setup.py" and importlib.util.find_spec("build") is None:
        raise SpecError(
            f"runner.options.setup_file is {project!r}, which the package build makes an archive of, and it is not "
            "installed; pip install build, or build a wheel and give it in extra_packages"
        )


def _check_by_beam(runner: PipelineRunner, given: PipelineOptions) -> None:
    """What Beam's own classes say about the options.

    Raises:
        SpecError: the first complaint.
    """
    for wrong in PipelineOptionsValidator(given, runner).validate():
        raise SpecError(f"runner.options: {wrong.rstrip('.')} (says Beam); correct them")


def _check_paths(spec: JobSpec) -> None:
    """Refuse relative paths, which each worker would look for in a folder of its own."""
    for key, value in _paths(spec):
        if "://" not in value and not os.path.isabs(os.path.expanduser(value)):
            raise SpecError(
                f"{key} is {value!r}, a relative path, and workers of {spec.runner.name!r} start in other folders; "
                "give a URL, or an absolute path that is the same on every machine"
            )


def _paths(spec: JobSpec) -> Iterator[tuple[str, str]]:
    """The keys of a job with paths that workers open, and their values."""
    source = spec.source
    for value in [source.path] if isinstance(source.path, str) else source.path or []:
        yield "source.path", value
    if source.dataset is not None and os.path.isdir(source.dataset):
        yield "source.dataset", source.dataset
    for key, table in (("source.table", source.table), ("sink.table", spec.sink.table)):
        if table is not None and table.startswith("delta://") and "://" not in (rest := table.removeprefix("delta://")):
            yield key, rest
    yield "sink.path", spec.sink.path
    for number, task in enumerate(spec.tasks):
        named = {"model": task.model, "adapter": task.adapter}
        named |= {f"adapters.{name}": adapter for name, adapter in (task.adapters or {}).items()}
        if task.first is not None:
            named |= {"first.model": task.first.model, "first.adapter": task.first.adapter}
        for key, name in named.items():
            # A name that is no folder is one of the Hub.
            if name is not None and os.path.isdir(os.path.expanduser(name.partition("@")[0])):
                yield f"tasks.{number}.{key}", name.partition("@")[0]


def _asked(endpoint: str) -> Collection[str]:
    """Names of the options that a job server knows.

    Raises:
        SpecError: it does not answer.
    """
    with grpc.insecure_channel(endpoint) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=ANSWER_S)
            server = beam_job_api_pb2_grpc.JobServiceStub(channel)
            request = beam_job_api_pb2.DescribePipelineOptionsRequest()
            return {option.name for option in server.DescribePipelineOptions(request, timeout=ANSWER_S).options}
        except (grpc.RpcError, grpc.FutureTimeoutError) as error:
            raise SpecError(
                f"runner.options.job_endpoint is {endpoint!r}, and no job server of Beam answers there; start one, or "
                "correct HOST:PORT"
            ) from error


def _answers(address: str) -> bool:
    """Whether something listens at HOST:PORT."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=ANSWER_S):
            return True
    except (OSError, ValueError):
        return False
