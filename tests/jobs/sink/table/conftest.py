"""A table of each format, to write into."""

from __future__ import annotations

import pytest

from tests.jobs.sink.table.tables import Tables


@pytest.fixture(params=["delta", "iceberg"])
def tables(request, tmp_path, monkeypatch) -> Tables:
    return Tables(request.param, tmp_path, monkeypatch)
