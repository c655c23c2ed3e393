"""Tables on an object store, MinIO, as sources."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake
from pyiceberg.catalog import load_catalog

from jobs import source
from jobs.spec import SourceSpec
from jobs.table.delta import storage_options
from tests import minio
from transforms.errors import SourceError, SpecError


def _read(table: str, **keys: object) -> pa.Table:
    planned, shards = source.plan(SourceSpec.model_validate({"table": table} | keys))
    batches = [batch for shard in shards for batch in source.read(planned, shard, 10_000)]
    return pa.Table.from_batches(batches, planned.schema)


def test_a_delta_table_on_an_object_store_is_read(minio_bucket: str) -> None:
    url = f"{minio_bucket}/a b/t"
    options = storage_options(url)
    noise = pa.array(np.random.default_rng(0).bytes(64) for _ in range(30_000))
    given = pa.table({"id": range(30_000), "noise": noise, "lang": ["d/e"] * 30_000})
    write_deltalake(url, given, partition_by=["lang"], storage_options=options)
    assert _read(f"delta://{url}", columns=["lang", "id"]).equals(given.select(["lang", "id"]))
    write_deltalake(url, given.slice(0, 10), mode="overwrite", partition_by=["lang"], storage_options=options)
    assert len(_read(f"delta://{url}")) == 10
    old = SourceSpec(table=f"delta://{url}", version=0)
    planned, shards = source.plan(old)
    table = DeltaTable(url, storage_options=options)
    table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    with pytest.raises(SourceError, match="no longer exists, so version 0 of the table"):
        list(source.read(planned, shards[0], 100))
    with pytest.raises(SpecError, match=r"source\.table 'delta://s3://.*/no' does not exist"):
        source.plan(SourceSpec(table=f"delta://{minio_bucket}/no"))


def test_an_iceberg_table_on_an_object_store_is_read(
    minio_bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {
        "s3.endpoint": os.environ["AWS_ENDPOINT_URL"],
        "uri": f"sqlite:///{tmp_path}/catalog.db",
        "warehouse": f"{minio_bucket}/warehouse",
        "s3.access-key-id": minio.USER,
        "s3.secret-access-key": minio.PASSWORD,
    }
    for name, value in settings.items():
        variable = name.upper().replace(".", "__").replace("-", "_")
        monkeypatch.setenv(f"PYICEBERG_CATALOG__LAKE__{variable}", value)
    catalog = load_catalog("lake", **settings)
    catalog.create_namespace("ns")
    given = pa.table({"id": range(1000)})
    catalog.create_table("ns.t", given.schema).append(given)
    assert _read("iceberg://lake/ns.t").equals(given)


def test_no_secret_is_in_the_message_of_a_store_that_refuses(
    minio_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_deltalake(f"{minio_bucket}/t", pa.table({"id": [1]}), storage_options=storage_options(minio_bucket))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-wrong-secret-key")
    with pytest.raises(SourceError, match=r"source\.table 'delta://s3://.*/t' cannot be read: ") as found:
        source.plan(SourceSpec(table=f"delta://{minio_bucket}/t"))
    assert "a-wrong-secret-key" not in str(found.value)
    assert "\x1b" not in str(found.value)
