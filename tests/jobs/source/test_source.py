"""Files of every format become the same rows; what cannot be read is a bad row or a clear error, never a gap."""

import gzip
import json
from itertools import pairwise

import datasets
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs import source
from jobs.source import BadRow, rows
from jobs.source.formats import csv, jsonl, parquet
from jobs.spec import SourceSpec
from tests import lake
from transforms.errors import SourceError, SpecError

TABLE = lake.rows(500)


def read_all(spec: SourceSpec, batch_rows: int = 64) -> tuple[pa.Table, list[BadRow], int]:
    planned, shards = source.plan(spec)
    # Through JSON, as it reaches a worker.
    planned = source.Source.from_json(json.loads(json.dumps(planned.to_json())))
    items = [item for shard in shards for item in source.read(planned, shard, batch_rows)]
    batches = [item for item in items if isinstance(item, pa.RecordBatch)]
    assert all(len(batch) <= batch_rows for batch in batches)
    return (
        pa.Table.from_batches(batches, planned.schema),
        [item for item in items if isinstance(item, BadRow)],
        len(shards),
    )


def write(folder, name, table=TABLE):
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    match file.suffix:
        case ".parquet":
            pq.write_table(table, file, row_group_size=100)
        case ".csv":
            pa.csv.write_csv(table, file)
        case ".jsonl":
            file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist()))
        case ".arrow":
            pyarrow.feather.write_feather(table, str(file), compression="zstd", chunksize=100)
    return file


@pytest.mark.parametrize("ending", [".parquet", ".csv", ".jsonl", ".arrow"])
def test_every_format_gives_the_rows_that_were_written(tmp_path, ending):
    write(tmp_path, f"a{ending}")
    got, bad, _ = read_all(SourceSpec(path=str(tmp_path)))
    assert not bad
    assert got["id"].to_pylist() == TABLE["id"].to_pylist()
    want = [text or None for text in TABLE["text"].to_pylist()]
    assert [text or None for text in got["text"].to_pylist()] == want
    assert got["stars"].to_pylist() == TABLE["stars"].to_pylist()


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_compressed_text_files_are_read(tmp_path, ending):
    file = write(tmp_path, f"a{ending}")
    (tmp_path / f"a{ending}.gz").write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    assert read_all(SourceSpec(path=str(tmp_path)))[0]["id"].to_pylist() == TABLE["id"].to_pylist()


@pytest.mark.parametrize(("module", "ending"), [(csv, ".csv"), (jsonl, ".jsonl")])
def test_big_text_files_are_cut_at_record_ends(tmp_path, monkeypatch, module, ending):
    nasty = pa.table({"id": TABLE["id"], "text": [f'line one\nline "two", {i},\n' for i in range(500)]})
    write(tmp_path, f"a{ending}", nasty)
    monkeypatch.setattr(module, "SHARD_BYTES", 2000)
    monkeypatch.setattr(csv, "BLOCK_BYTES", 700)
    got, bad, shards = read_all(SourceSpec(path=str(tmp_path)))
    assert shards > 5
    assert not bad
    assert got["id"].to_pylist() == nasty["id"].to_pylist()
    assert got["text"].to_pylist() == nasty["text"].to_pylist()


def test_a_csv_with_a_misplaced_quote_is_not_split(tmp_path, monkeypatch):
    monkeypatch.setattr(csv, "SHARD_BYTES", 50)
    body = "".join(f'{i},5" screen\n' for i in range(101))
    (tmp_path / "a.csv").write_text("id,text\n" + body)
    got, bad, shards = read_all(SourceSpec(path=str(tmp_path)))
    assert (shards, len(bad), len(got)) == (1, 0, 101)


field = st.text(st.sampled_from('ab,"\n\r é'), max_size=8)


@settings(max_examples=150)
@given(st.lists(st.tuples(field, field), min_size=1, max_size=30), st.integers(1, 60), st.integers(3, 40))
def test_ranges_of_a_file_have_the_same_records_as_the_whole_file(tmp_path_factory, records, every, block):
    import csv as standard
    import io

    text = io.StringIO()
    standard.writer(text, lineterminator="\n", quoting=standard.QUOTE_ALL).writerows([("a", "b"), *records])
    data = text.getvalue().encode()
    monkey = pytest.MonkeyPatch()
    with monkey.context() as patch:
        patch.setattr(csv, "BLOCK_BYTES", block)
        cuts = csv.record_ends(io.BytesIO(data), every)
    bounds = [0, *cuts, len(data)]
    pieces = [data[a:b].decode() for a, b in pairwise(bounds)]
    got = [tuple(row) for piece in pieces for row in standard.reader(io.StringIO(piece, newline=""), strict=True)]
    assert got == [("a", "b"), *records]


@settings(max_examples=100)
@given(st.lists(st.lists(st.text(max_size=20), max_size=12), max_size=8), st.integers(1, 10), st.integers(1, 400))
def test_even_batches_keep_every_row_in_order(groups, size, max_bytes):
    batches = [pa.record_batch({"t": pa.array(group, pa.string())}) for group in groups]
    cut = list(rows.even(batches, size, max_bytes))
    assert [t for batch in cut for t in batch.column(0).to_pylist()] == [t for group in groups for t in group]
    assert all(0 < len(batch) <= size for batch in cut)


def test_row_groups_become_shards(tmp_path, monkeypatch):
    write(tmp_path, "a.parquet")
    monkeypatch.setattr(parquet, "SHARD_ROWS", 150)
    got, _, shards = read_all(SourceSpec(path=str(tmp_path)))
    assert shards == 3
    assert got["id"].to_pylist() == TABLE["id"].to_pylist()


@pytest.mark.parametrize(
    "last", ['2,"never closed\n3,x\n4,y\n', '2,fine\n3,"never closed', '2,fine\n3,x,"ragged and open']
)
def test_a_quote_that_is_never_closed_makes_a_bad_row_and_no_silent_gap(tmp_path, last):
    (tmp_path / "a.csv").write_text('id,text\n1,"a ""quoted"" one"\n' + last)
    good, bad, _ = read_all(SourceSpec(path=str(tmp_path / "a.csv")))
    assert good["id"].to_pylist() == [1, 2][: 2 if "fine" in last else 1]
    assert len(bad) == 1
    assert bad[0].error_type == ("RaggedLine" if "ragged" in last else "UnclosedQuote")
    assert csv.SENTINEL.decode() not in bad[0].raw


def test_an_empty_file_has_no_rows_whatever_its_format(tmp_path):
    (tmp_path / "a.csv").write_text("")
    (tmp_path / "b.csv").write_text("id,text\n1,x\n")
    (tmp_path / "c.jsonl").write_text("")
    good, bad, _ = read_all(SourceSpec(path=str(tmp_path)))
    assert (good["text"].to_pylist(), bad) == (["x"], [])


def test_ragged_lines_and_bad_bytes_of_a_csv_are_bad_rows(tmp_path):
    lines = [b"id,text,stars", b"a,fine,1", b"b,too,many,2", b"c,bad \xff bytes,3", b"d,few", b"e,good,x5", b"f,last,6"]
    lines[4:4] = [b"%d,fine,1" % i for i in range(100)]
    (tmp_path / "a.csv").write_bytes(b"\n".join(lines) + b"\n")
    # The head decides on types, so the column must be numbers there.
    (tmp_path / "b.csv").write_bytes(b"id,text,stars\nz,fine,1\n")
    spec = SourceSpec(path=[str(tmp_path / "a.csv"), str(tmp_path / "b.csv")])
    got, bad, _ = read_all(spec)
    assert {row.error_type for row in bad} >= {"RaggedLine", "InvalidUTF8"}
    assert [row.raw for row in bad if row.error_type == "RaggedLine"] == ["b,too,many,2", "d,few"]
    assert len(got) + len(bad) == 107


def test_a_value_that_does_not_fit_its_column_is_a_bad_row(tmp_path, monkeypatch):
    monkeypatch.setattr(csv, "BLOCK_BYTES", 64)
    body = "".join(f"{i},text,{i}\n" for i in range(50)) + "50,text,many\n51,text,51\n"
    (tmp_path / "a.csv").write_text("id,text,stars\n" + body)
    got, bad, _ = read_all(SourceSpec(path=str(tmp_path)))
    assert got.schema.field("stars").type == pa.int64()
    assert [(row.error_type, row.raw) for row in bad] == [("InvalidValue", "50,text,many")]
    assert len(got) == 51


def test_bad_json_lines_are_bad_rows(tmp_path):
    lines = [
        b'{"id": 1, "text": "fine"}',
        b'{"id": 2, "text": "cut',
        b'{"id": 3, "text": "\xff"}',
        b"[1]",
        b"",
        b'{"id": 4}',
    ]
    lines += [b'{"id": "five"}', b'{"id": 6, "text": "half \\ud800 pair"}']
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    got, bad, _ = read_all(SourceSpec(path=str(tmp_path)))
    assert got["id"].to_pylist() == [1, 4]
    assert [row.error_type for row in bad] == [
        "InvalidJSON",
        "InvalidUTF8",
        "InvalidJSON",
        "InvalidValue",
        "InvalidUTF8",
    ]
    assert [row.row for row in bad] == [2, 3, 4, 7, 8]


def test_a_key_first_seen_late_is_reported_unless_columns_are_chosen(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "SAMPLE_BYTES", 100)
    lines = [json.dumps({"id": i, "text": "t" * 50}) for i in range(20)] + [
        json.dumps({"id": 20, "text": "t", "extra": 1})
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    assert "extra" in read_all(SourceSpec(path=str(tmp_path)))[1][0].message
    got, bad, _ = read_all(SourceSpec(path=str(tmp_path), columns=["id", "text"]))
    assert (len(got), bad) == (21, [])


def test_a_json_array_is_refused_with_the_fix(tmp_path):
    (tmp_path / "a.json").write_text('[{"a": 1}]')
    with pytest.raises(SourceError, match="one JSON array, not JSON lines; write one object a line"):
        source.plan(SourceSpec(path=str(tmp_path)))


@pytest.mark.parametrize("ending", [".parquet", ".arrow"])
def test_a_truncated_file_is_reported_by_name(tmp_path, ending):
    file = write(tmp_path, f"a{ending}")
    file.write_bytes(file.read_bytes()[:-300])
    with pytest.raises(SourceError, match=rf"a{ending}"):
        read_all(SourceSpec(path=str(tmp_path)))


def test_partition_folders_are_columns_for_where(tmp_path):
    write(tmp_path, "lang=en/a.parquet")
    write(tmp_path, "lang=de/b.parquet")
    got, _, _ = read_all(SourceSpec(path=f"{tmp_path}/**/*.parquet", where="lang = 'en' and stars > 2"))
    assert set(got["lang"].to_pylist()) == {"en"}
    assert set(got["stars"].to_pylist()) == {3, 4}


def test_hidden_files_and_folders_are_skipped(tmp_path):
    write(tmp_path, "a.parquet")
    write(tmp_path, "_rejected/b.parquet")
    write(tmp_path, ".tmp.parquet")
    (tmp_path / "README.txt").write_text("not data")
    assert len(read_all(SourceSpec(path=str(tmp_path)))[0]) == 500


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ({"columns": ["txt"]}, r"source.columns: 'txt' is not in .*; columns: id, text, stars"),
        ({"where": "lang = 'en'"}, r"source.where .*lang.*; columns: id, text, stars"),
        ({"where": "stars >"}, r"source.where 'stars >'"),
        ({"prepare": "no_such_module:f"}, "source.prepare 'no_such_module:f' cannot be imported"),
        ({"prepare": "json"}, "is not module:function"),
        ({"prepare": "json:loads2"}, "cannot be imported"),
    ],
)
def test_missing_things_are_refused(tmp_path, more, expected):
    write(tmp_path, "a.parquet")
    with pytest.raises(SpecError, match=expected):
        source.plan(SourceSpec(path=str(tmp_path), **more))


def test_a_path_that_matches_nothing_is_refused(tmp_path):
    with pytest.raises(SpecError, match="matches no data file"):
        source.plan(SourceSpec(path=f"{tmp_path}/*.parquet"))
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(SpecError, match="does not end like a data file"):
        source.plan(SourceSpec(path=f"{tmp_path}/a.txt"))


def test_memory_and_other_fsspec_urls_work():
    import fsspec

    with fsspec.open("memory://lake/a.parquet", "wb") as stream:
        pq.write_table(TABLE, stream)
    assert len(read_all(SourceSpec(path="memory://lake/*.parquet"))[0]) == 500


@pytest.mark.parametrize("saved", [True, False])
def test_a_local_dataset_streams_through_the_datasets_client(tmp_path, saved):
    if saved:
        datasets.DatasetDict({"train": datasets.Dataset(TABLE)}).save_to_disk(
            tmp_path / "data", num_shards={"train": 3}
        )
    else:
        for i in range(3):
            write(tmp_path, f"data/train-{i:05d}.parquet", TABLE.slice(i * 100, 100))
    got, _, shards = read_all(SourceSpec(dataset=str(tmp_path / "data"), columns=["id", "text"]))
    assert shards == 3
    assert got["id"].to_pylist() == TABLE["id"].to_pylist()[: len(got)]
    assert len(got) == (500 if saved else 300)


def test_a_dataset_that_does_not_exist_is_refused():
    with pytest.raises(SpecError, match=r"is not a folder here, and http.* does not have it"):
        source.plan(SourceSpec(dataset="org/nothing"))
