"""One Spark for all tests; tables of both formats to write into."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import tiny
from tests.engines import spark as engine
from tests.engines.spark import Spark
from tests.jobs.sink.table.tables import Tables


@pytest.fixture(scope="session")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spark]:
    with engine.running(tmp_path_factory.mktemp("spark")) as found:
        yield found


@pytest.fixture(params=["delta", "iceberg"])
def tables(request, tmp_path, monkeypatch) -> Tables:
    return Tables(request.param, tmp_path, monkeypatch)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The only model that is needed here."""
    root = tmp_path_factory.mktemp("models")
    tiny.bert(root / "sentiment", "classify", ["negative", "neutral", "positive"])
    return root
