"""The identity of a source holds every key that can change its rows, also keys that are still to come."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import Field

from jobs import source
from jobs.source import NOT_IDENTITY, Source
from jobs.spec import SourceSpec

EMPTY = pa.schema([])

# A value other than the default for every key of the section.
VALUES = {
    "path": "in",
    "table": "delta:///lake/t",
    "version": 3,
    "timestamp": "2024-01-01T00:00:00Z",
    "format": "csv",
    "dataset": "org/words",
    "config": "de",
    "split": "test",
    "revision": "v2",
    "data_files": "a/*.csv",
    "columns": ["a"],
    "types": {"a": "string"},
    "labels": {"a": ["no", "yes"]},
    "delimiter": ";",
    "quote": "'",
    "escape": "\\",
    "comment": "#",
    "header": False,
    "encoding": "cp1252",
    "where": "a = 1",
    "prepare": "json:loads",
    "limit": 3,
}


def identity(**keys):
    return Source(SourceSpec.model_construct(**keys), EMPTY, (), EMPTY).identity


@pytest.mark.parametrize("key", SourceSpec.model_fields)
def test_every_key_except_the_location_and_the_limit_changes_the_identity(key):
    assert key in VALUES, "a new key: give it a value here, and think of whether it changes rows"
    base = {"prepare": "json:dumps"}
    assert (identity(**base | {key: VALUES[key]}) != identity(**base)) == (key not in NOT_IDENTITY)


def test_a_key_that_is_added_later_is_in_the_identity():
    class Later(SourceSpec):
        skip_rows: int = Field(0)

    def later(**keys):
        return Source(Later(path="in", **keys), EMPTY, (), EMPTY).identity

    assert later(skip_rows=1) != later()
    assert later() == identity(path="in")


def test_columns_are_in_the_identity_only_where_prepare_sees_them():
    assert identity(columns=["a"]) == identity()
    assert identity(columns=["a"], prepare="json:loads") != identity(prepare="json:loads")


def test_a_source_survives_json(tmp_path):
    pq.write_table(pa.table({"a": [1]}), tmp_path / "x.parquet")
    planned, _ = source.plan(SourceSpec(path=str(tmp_path / "x.parquet"), where="a = 1"))
    again = Source.from_json(planned.to_json())
    assert again == planned
    assert again.identity == planned.identity
