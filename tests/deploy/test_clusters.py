"""deploy/ for clusters: manifests meet the schemas of Kubernetes, job files the options of Beam's runners."""

import json
import re
import shutil
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path

import apache_beam
import kubernetes_validate
import pytest
import yaml
from apache_beam.options.pipeline_options import FlinkRunnerOptions, PipelineOptions, SparkRunnerOptions
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.portable_runner import PortableRunner
from apache_beam.utils.shared import Shared

from jobs import spec
from jobs.plan import planning
from jobs.runners import beam, engine, needs, options
from tests import lake
from tests.deploy.test_deploy import check, tool

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
KUSTOMIZATIONS = ["base", "overlays/gpu", "overlays/server"]
CLUSTERS = ["flink", "spark"]
BEAM = version("apache-beam")


def built(name):
    """The manifests of a kustomization."""
    if shutil.which("kubectl") is None:
        pytest.skip("kubectl, which has kustomize, is not installed")
    words = ["kubectl", "kustomize", str(DEPLOY / "kubernetes" / name)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return list(yaml.safe_load_all(done.stdout))


def manifests(name):
    return (
        built(name)
        if name in KUSTOMIZATIONS
        else list(yaml.safe_load_all((DEPLOY / name / "cluster.yaml").read_text()))
    )


def pods(documents):
    return {
        each["metadata"]["name"]: each["spec"]["template"]["spec"] for each in documents if each["kind"] == "Deployment"
    }


@pytest.mark.parametrize("name", [*KUSTOMIZATIONS, *CLUSTERS])
def test_manifests_meet_the_schemas_of_kubernetes(name):
    documents = manifests(name)
    assert documents
    for each in documents:
        kubernetes_validate.validate(each, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("name", [*KUSTOMIZATIONS, *CLUSTERS])
def test_volumes_claims_ports_and_services_of_manifests_exist(name):
    documents = manifests(name)
    claims = {each["metadata"]["name"] for each in documents if each["kind"] == "PersistentVolumeClaim"}
    maps = {each["metadata"]["name"] for each in documents if each["kind"] == "ConfigMap"}
    deployments = {each["metadata"]["name"]: each for each in documents if each["kind"] == "Deployment"}
    for each in deployments.values():
        labels = each["spec"]["template"]["metadata"]["labels"]
        assert each["spec"]["selector"]["matchLabels"].items() <= labels.items()
    for pod in pods(documents).values():
        volumes = {volume["name"]: volume for volume in pod["volumes"]} if "volumes" in pod else {}
        for volume in volumes.values():
            assert volume.get("persistentVolumeClaim", {}).get("claimName") in claims | {None}
            assert volume.get("configMap", {}).get("name") in maps | {None}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= volumes.keys()
            assert {"requests", "limits"} <= container["resources"].keys()
            ports = {port.get("name", port["containerPort"]) for port in container.get("ports", [])}
            for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
                asked = container.get(probe, {})
                assert {(asked.get("httpGet") or asked.get("tcpSocket") or {}).get("port")} <= ports | {None}
    for service in (each for each in documents if each["kind"] == "Service"):
        selected = [
            each
            for each in deployments.values()
            if service["spec"]["selector"].items() <= each["spec"]["template"]["metadata"]["labels"].items()
        ]
        assert len(selected) == 1, service["metadata"]["name"]


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_pods_have_no_rights_and_take_their_secrets_by_reference(name):
    for pod in pods(manifests(name)).values():
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert pod["automountServiceAccountToken"] is False
        for container in pod["containers"]:
            secure = container["securityContext"]
            assert secure == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert "readinessProbe" in container
            for variable in container.get("env", []):
                assert "valueFrom" in variable or not re.search("AUTH|TOKEN|PASSWORD|KEY|CONNECTION", variable["name"])


def test_parts_have_a_pool_of_their_own_and_with_the_overlay_a_gpu_each():
    plain, with_gpu = pods(built("base")), pods(built("overlays/gpu"))
    assert {name: pod["containers"][0]["args"][4] for name, pod in plain.items()} == {
        "worker": "nightscribe",
        "parts": "nightscribe-parts",
    }
    limits = {name: pod["containers"][0]["resources"]["limits"] for name, pod in with_gpu.items()}
    assert [name for name, each in limits.items() if each.get("nvidia.com/gpu") == 1] == ["parts"]
    assert plain["worker"] == {**with_gpu["worker"]}
    # As long as in the compose file.
    grace = yaml.safe_load((DEPLOY / "compose.yaml").read_text())["services"]["worker"]["stop_grace_period"]
    assert {f"{pod['terminationGracePeriodSeconds']}s" for pod in plain.values()} == {grace}


def test_the_image_of_workers_lints_copies_existing_files_and_has_the_beam_of_the_project():
    file = DEPLOY / "beam" / "Dockerfile"
    assert check(tool("hadolint"), str(file)) == (0, "")
    text = file.read_text()
    copied = re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE)
    assert all((DEPLOY.parent / name).exists() for line in copied for name in line.split())
    wanted = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]
    assert f"apache-beam=={BEAM}" in wanted["dependencies"]
    assert f"ARG BEAM={BEAM}\n" in text
    assert f"beam_python{wanted['requires-python'].removeprefix('>=')}_sdk" in text


def test_versions_of_job_servers_and_commands_are_those_of_the_project_and_of_beam():
    for folder in ("beam", *CLUSTERS, "dataflow"):
        for file in (DEPLOY / folder).iterdir():
            assert set(re.findall(r"(?:_job_server:|_sdk:|Beam |@v|==)(2\.\d+\.\d+)", file.read_text())) <= {BEAM}, file
    flink = re.search(r"image: apache/beam_flink([\d.]+)_job_server:", (DEPLOY / "flink/cluster.yaml").read_text())
    assert flink[1] in FlinkRunnerOptions.PUBLISHED_FLINK_VERSIONS
    assert f"image: flink:{flink[1]}-java" in (DEPLOY / "flink/cluster.yaml").read_text()
    spark = PipelineOptions.from_dictionary({}).view_as(SparkRunnerOptions).spark_version
    assert f"image: apache/beam_spark{spark}_job_server:" in (DEPLOY / "spark/cluster.yaml").read_text()
    assert f"image: apache/spark:{spark}." in (DEPLOY / "spark/cluster.yaml").read_text()


@pytest.mark.parametrize("name", ["flink", "spark", "dataflow"])
def test_job_files_have_options_that_beam_accepts(name, monkeypatch):
    job = spec.read(DEPLOY / name / "job.yaml")
    assert job.name == f"reviews-{name}"
    # There are no job server and none of Google's packages here.
    monkeypatch.setattr(needs, "_asked", lambda endpoint: frozenset())
    monkeypatch.setattr(needs.importlib.util, "find_spec", lambda package: "found")
    needs.check(job)
    assert needs.elsewhere(engine.create(job.runner), options.parse(job.runner))


@pytest.mark.parametrize("name", ["flink", "spark"])
def test_pipelines_execute_shards_in_one_stage_in_the_environment_of_the_job_file(name, tmp_path, models):
    runner = spec.read(DEPLOY / name / "job.yaml").runner
    # Beam's optimizer, as a runner uses it, tells the stages.
    given = runner.options | {"experiments": ["pre_optimize=all"]}
    content = lake.job(lake.make_lake(tmp_path / "in"), tmp_path / "out", models)
    plan = planning.make(spec.parse(content | {"runner": {"name": runner.name, "options": given}}))
    executor, parsed = engine.create(plan.spec.runner), options.parse(plan.spec.runner)
    pipeline = apache_beam.Pipeline(executor, parsed)
    beam.build(pipeline, plan, plan.shards_todo, Shared())
    proto = pipeline.to_runner_api(default_environment=executor.default_environment(parsed))
    optimized = PortableRunner._optimize_pipeline(proto, parsed)
    roots = [optimized.components.transforms[root] for root in optimized.root_transform_ids]
    assert [root.spec.urn.split(":")[-2] for root in roots] == [
        "impulse",
        "executable_stage",
        "reshuffle",
        "executable_stage",
    ]
    stage = beam_runner_api_pb2.ExecutableStagePayload.FromString(roots[-1].spec.payload)
    steps = [stage.components.transforms[step].unique_name for step in stage.transforms]
    assert sorted(steps) == ["Execute", "Shards/Map(decode)"]
    assert stage.environment.urn == common_urns.environments.EXTERNAL.urn
    payload = beam_runner_api_pb2.ExternalPayload.FromString(stage.environment.payload)
    assert payload.endpoint.url == "localhost:50000"


def test_kustomizations_and_the_readme_name_files_that_exist():
    for name in KUSTOMIZATIONS:
        folder = DEPLOY / "kubernetes" / name
        content = yaml.safe_load((folder / "kustomization.yaml").read_text())
        named = [*content["resources"], *(patch["path"] for patch in content.get("patches", []))]
        assert all((folder / each).exists() for each in named)
    for folder in ("beam", *CLUSTERS, "dataflow", "kubernetes"):
        readme = DEPLOY / folder / "README.md"
        text = readme.read_text()
        for named in re.findall(r"(?<![\w/])deploy/[\w./-]+\w", text):
            assert (DEPLOY.parent / named).exists(), (readme, named)
        for link in re.findall(r"\]\(([^)#:]+)\)", text):
            assert (readme.parent / link).exists(), (readme, link)
        for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
            assert json.dumps(yaml.safe_load(block))
