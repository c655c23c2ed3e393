"""Tables on an object store, through a proxy that refuses, delays and cuts."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from tests import lake, proxy, s3
from tests.jobs.sink.table.nights import about, from_scratch, night, plain, write
from tests.minio import PASSWORD, USER
from tests.proxy import Fault
from transforms.errors import RunError, SourceError


@pytest.mark.parametrize("format_", ["delta", "iceberg"])
def test_nights_on_an_object_store_that_fails_now_and_then(minio, models, tmp_path, monkeypatch, format_):
    url = f"{minio.make_bucket(f'tables-{format_}')}/reviews"
    with proxy.running(minio.address) as between, s3.pointed_to(between.address, USER, PASSWORD):
        catalog = {
            "TYPE": "sql",
            "URI": f"sqlite:///{tmp_path}/catalog.db",
            "S3__ENDPOINT": between.address,
            "WAREHOUSE": url,
        }
        for name, value in catalog.items():
            monkeypatch.setenv(f"PYICEBERG_CATALOG__CLOUD__{name}", value)
        table = f"delta://{url}" if format_ == "delta" else "iceberg://cloud/nights.reviews"
        source = write(tmp_path / "in", a=lake.rows(12), b=lake.rows(8, 12), c=lake.rows(5, 30))
        job = lake.job(source, tmp_path, models) | {"sink": {"table": table, "path": url}}
        between.faults = [Fault(status=503, share=0.1), Fault(cut_answer_after=0, share=0.02)]
        until_done(job)
        write(source, b=lake.rows(9, 12, seed=4), d=lake.rows(3, 40))
        until_done(job)
        assert between.hit
        between.faults = []
        assert night(job).rows_in == 0
        assert plain(read(format_, url, between.address)) == about(from_scratch(source, models))


def until_done(job: dict[str, Any]) -> None:
    """Run a job again if the store was too busy for a library, as Prefect does."""
    for attempt in range(5):
        try:
            night(job)
        except (RunError, SourceError):
            assert attempt < 4
        else:
            return


def read(format_: str, url: str, address: str) -> pa.Table:
    if format_ == "delta":
        from deltalake import DeltaTable

        options = {"aws_endpoint": address, "aws_allow_http": "true"}
        table = DeltaTable(url, storage_options=options).to_pyarrow_table()
    else:
        from pyiceberg.catalog import load_catalog
        from pyiceberg.utils.config import Config

        found = load_catalog("cloud", **(Config().get_catalog_config("cloud") or {}))
        table = found.load_table("nights.reviews").scan().to_arrow()
    return table.take(pa.compute.sort_indices(table, sort_keys=[("id", "ascending")]))
