"""What is in deploy/: every file is read by the tool that would read it, as far as that goes without a container."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import jsonschema
import pytest
import yaml

from flows import files, project
from jobs import spec

ROOT = Path(__file__).resolve().parents[2]
SPECS = sorted((ROOT / "deploy" / "specs").glob("*.yaml"))


def tool(name):
    """The path of a command, or a skip that says which one is missing."""
    # pip puts the linters beside the interpreter, which need not be on the path.
    here = Path(os.__file__).parents[2] / "bin"
    found = shutil.which(name) or shutil.which(name, path=os.pathsep.join([str(here), str(ROOT / ".venv" / "bin")]))
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def check(*words, **more):
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False, **more)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("file", SPECS, ids=lambda file: file.stem)
def test_every_shipped_job_file_is_right(file):
    job = spec.read(file)
    assert job.name == file.stem
    assert job.description


def test_the_shipped_job_files_show_a_lake_a_hub_dataset_a_schedule_and_a_trigger():
    jobs = {job.name: job for job in map(spec.read, SPECS)}
    assert [task.task for task in jobs["reviews"].tasks] == ["classify", "ner"]
    assert str(jobs["reviews"].schedule) == "15 2 * * * Europe/Berlin"
    assert jobs["imdb"].source.dataset == "stanfordnlp/imdb"
    assert jobs["topics"].trigger.resource == "nightscribe.job.reviews"


def test_the_demo_s_job_file_is_that_of_the_demo(tmp_path, monkeypatch):
    from flows.demo import ROWS, write_job

    monkeypatch.chdir(tmp_path)
    folder = Path("nightscribe-demo")
    folder.mkdir()
    made = spec.read(write_job(folder, folder / f"lake-{ROWS}", folder / "models/classify", folder / "models/ner"))
    shipped = spec.read(ROOT / "deploy/specs/demo.yaml")
    assert (made.name, made.source, made.tasks, made.sink) == (
        shipped.name,
        shipped.source,
        shipped.tasks,
        shipped.sink,
    )


def test_prefect_yaml_equals_what_the_job_files_give(monkeypatch):
    monkeypatch.chdir(ROOT)
    written = (ROOT / "deploy" / "prefect.yaml").read_text()
    assert project.project(files.read_all(Path("deploy/specs"))) == written


def test_the_compose_file_meets_the_compose_specification():
    # Source: schema/compose-spec.json of github.com/compose-spec/compose-go v2.16.2, Apache-2.0.
    schema = json.loads((Path(__file__).parent / "compose-spec.json").read_text())
    content = yaml.safe_load((ROOT / "deploy/compose.yaml").read_text())
    jsonschema.validate(content, schema)
    assert list(content["services"]) == ["postgres", "server", "worker", "gpu-worker", "deploy"]
    wanted = set(re.findall(r"\$\{(\w+)", (ROOT / "deploy/compose.yaml").read_text()))
    given = set(re.findall(r"^(\w+)=", (ROOT / "deploy/example.env").read_text(), re.MULTILINE))
    assert wanted - given <= {"IMAGE"}
    for service in content["services"].values():
        if "build" in service:
            assert (ROOT / "deploy" / service["build"]["context"] / service["build"]["dockerfile"]).is_file()


def test_the_dockerfile_lints_and_copies_existing_files():
    assert check(tool("hadolint"), str(ROOT / "deploy/Dockerfile")) == (0, "")
    text = (ROOT / "deploy/Dockerfile").read_text()
    copied = re.findall(r"^COPY (?!--)(.+) \S+$", text, re.MULTILINE)
    assert all((ROOT / name).exists() for line in copied for name in line.split())
    assert re.search(r"^USER 1000$", text, re.MULTILINE)
    assert re.search(r"^HEALTHCHECK", text, re.MULTILINE)


def test_the_image_installs_the_dependencies_of_the_project():
    code, out = check("python3", "deploy/requirements.py", cwd=ROOT)
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert (code, out.splitlines()) == (0, wanted)
    locked = {
        line.split("==")[0].lower().replace("_", "-") for line in (ROOT / "constraints.txt").read_text().splitlines()
    }
    names = {re.split(r"[<>=~]", line)[0].lower() for line in wanted}
    assert names <= locked


def test_systemd_accepts_the_unit_file(tmp_path):
    unit = (ROOT / "deploy/systemd/nightscribe.service").read_text()
    assert "ExecStart=/srv/nightscribe/.venv/bin/nightscribe serve" in unit
    # The command is not installed here; everything else is checked.
    copy = tmp_path / "nightscribe.service"
    copy.write_text(unit.replace("/srv/nightscribe/.venv/bin/nightscribe", "/bin/true"))
    assert check(tool("systemd-analyze"), "verify", str(copy)) == (0, "")


def test_shell_scripts_lint():
    assert check(tool("shellcheck"), str(ROOT / ".ci/run")) == (0, "")


def test_the_runbook_names_files_and_commands_that_exist():
    text = (ROOT / "deploy/RUNBOOK.md").read_text()
    for name in set(re.findall(r"deploy/[\w./-]+\w", text)) - {"deploy/.env"}:
        assert (ROOT / name).exists(), name
    for command in ("report", "run", "deploy", "serve"):
        assert f"nightscribe {command}" in text or command == "serve"
