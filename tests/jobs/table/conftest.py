"""An Iceberg catalog in a database of its own for each test."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyiceberg.catalog import Catalog, load_catalog


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    """The catalog `lake`, configured by the environment as for every program with pyiceberg."""
    settings = {"URI": f"sqlite:///{tmp_path}/catalog.db", "WAREHOUSE": f"file://{tmp_path}/warehouse"}
    for name, value in settings.items():
        monkeypatch.setenv(f"PYICEBERG_CATALOG__LAKE__{name}", value)
    found = load_catalog("lake", **{name.lower(): value for name, value in settings.items()})
    found.create_namespace("ns")
    return found
