"""A registry on the Hub and versions for it."""

from __future__ import annotations

import uuid

import pytest

from jobs.registry import Registry
from tests.hub.local import Hub
from tests.jobs.registry import versions


@pytest.fixture
def name() -> str:
    return f"org/{uuid.uuid4().hex}"


@pytest.fixture(autouse=True)
def token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> str:
    found = hub.token("ada")
    monkeypatch.setenv("HF_TOKEN", found)
    return found


@pytest.fixture
def registry(name: str) -> Registry:
    return Registry(f"hf://{name}")


@pytest.fixture
def add(tmp_path):
    def add(registry, content):
        folder = tmp_path / f"adapter-{content}"
        folder.mkdir(exist_ok=True)
        (folder / "adapter_model.safetensors").write_text(content)
        (folder / "adapter_config.json").write_text("{}")
        return registry.add(folder, versions.about(created=f"2026-01-01T00:00:00 {content}")).version

    return add
