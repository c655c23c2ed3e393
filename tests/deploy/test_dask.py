"""What is in deploy/dask: the compose file meets its schema, the image lints, the versions are those of the project."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import jsonschema
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "deploy" / "dask"


def test_the_compose_file_meets_the_compose_specification():
    schema = json.loads((Path(__file__).parent / "compose-spec.json").read_text())
    content = yaml.safe_load((FOLDER / "compose.yaml").read_text())
    jsonschema.validate(content, schema)
    assert list(content["services"]) == ["scheduler", "worker", "run"]


def test_image_readme_and_project_have_the_same_version_of_dask():
    texts = [(FOLDER / "Dockerfile").read_text(), (ROOT / "pyproject.toml").read_text()]
    versions = {version for text in texts for version in re.findall(r"(?:dask|distributed)==([\d.]+)", text)}
    assert len(versions) == 1
    assert f"dask and distributed {versions.pop()}" in (FOLDER / "README.md").read_text()


def test_the_dockerfile_lints():
    beside = Path(os.__file__).parents[2] / "bin"
    hadolint = shutil.which("hadolint") or shutil.which("hadolint", path=f"{beside}:{ROOT / '.venv' / 'bin'}")
    if hadolint is None:
        pytest.skip("hadolint is not installed")
    done = subprocess.run([hadolint, str(FOLDER / "Dockerfile")], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")
