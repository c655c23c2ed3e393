"""CSV files of every dialect give the records that were written, cut into ranges or not."""

import codecs
import csv as standard
import gzip
import io

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from jobs import source
from jobs.source.formats import csv
from jobs.spec import SourceSpec
from tests.csv_files import cell, read, rows
from transforms.errors import SourceError, UnreadableSource

DIALECTS = [
    ({}, {}),
    ({"delimiter": ";"}, {"delimiter": ";"}),
    ({"delimiter": "\t"}, {"delimiter": "\\t"}),
    ({"delimiter": "|", "quoting": standard.QUOTE_ALL}, {"delimiter": "|"}),
    ({"quotechar": "'"}, {"quote": "'"}),
    ({"delimiter": ";", "lineterminator": "\n"}, {"delimiter": ";"}),
    ({"doublequote": False, "escapechar": "\\"}, {"escape": "\\"}),
    ({"doublequote": False, "escapechar": "\\", "quoting": standard.QUOTE_ALL}, {"escape": "\\"}),
    ({"delimiter": "|", "quotechar": "'", "doublequote": False, "escapechar": "^"}, None),
]


def _keys(dialect, keys):
    return {"delimiter": "|", "quote": "'", "escape": "^"} if keys is None else keys


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(cell, cell, cell), min_size=1, max_size=20), st.sampled_from(DIALECTS), st.integers(20, 200))
def test_tables_in_any_dialect_are_read_whole_and_in_ranges(tmp_path_factory, records, dialect, every):
    written, keys = dialect
    # Python writes a carriage return without quotes, after which no reader sees one record.
    assume(not any("\r" in value and "\n" not in value for record in records for value in record))
    file = tmp_path_factory.mktemp("dialect") / "a.csv"
    with open(file, "w", newline="", encoding="utf-8") as stream:
        writer = standard.writer(stream, **written)
        writer.writerows([("a", "b", "c"), *records])
    named = {"types": dict.fromkeys("abc", "string")} | _keys(written, keys)
    whole, bad, shards = read(file, **named)
    assert (rows(whole), bad, len(shards)) == (records, [], 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv, "SHARD_BYTES", every)
        cut, bad, _ = read(file, **named)
        assert (rows(cut), bad) == (records, [])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv, "BLOCK_BYTES", 16)
        small, bad, _ = read(file, **named)
        assert (rows(small), bad) == (records, [])


@pytest.mark.parametrize("name", ["utf-16", "utf-16-le", "utf-8-sig", "cp1252", "latin-1", "utf-32", "cp037"])
@pytest.mark.parametrize("is_compressed", [False, True])
def test_encodings_are_those_of_the_mark_or_of_the_job_file(tmp_path, name, is_compressed):
    content = 'id,text\n1,Käse für 5\n2,"zwei\nZeilen"\n'.encode(name)
    if is_compressed:
        (tmp_path / "a.csv.gz").write_bytes(gzip.compress(content))
    else:
        (tmp_path / "a.csv").write_bytes(content)
    named = {} if name in ("utf-16", "utf-8-sig", "utf-32") else {"encoding": name}
    got, bad, shards = read(tmp_path, **named)
    assert (rows(got), bad, len(shards)) == ([(1, "Käse für 5"), (2, "zwei\nZeilen")], [], 1)


def test_bytes_that_are_wrong_in_their_encoding_reject_one_row(tmp_path):
    text = codecs.BOM_UTF16_LE + "id,text\n1,a\n2,".encode("utf-16-le") + b"\x00\xd8" + "\n3,c\n".encode("utf-16-le")
    (tmp_path / "a.csv").write_bytes(text)
    got, bad, _ = read(tmp_path)
    assert (rows(got), [(row.row, row.column) for row in bad]) == ([(1, "a"), (3, "c")], [(2, "text")])
    (tmp_path / "a.csv").write_bytes("id,text\n1,a\n2,b".encode("utf-16") + b"\x00")
    assert len(read(tmp_path)[1]) == 1
    (tmp_path / "a.csv").write_bytes(b"id,text\n1,a\n2,\x81\n")
    assert [row.row for row in read(tmp_path, encoding="cp1252")[1]] == [2]


def test_an_error_for_text_that_is_not_utf8_names_the_key_for_the_encoding(tmp_path):
    (tmp_path / "a.csv").write_bytes("id,größe\n1,a\n".encode("cp1252"))
    with pytest.raises(UnreadableSource, match=r"a.csv: its header is not UTF-8 \(byte 5: .*; set source.encoding"):
        read(tmp_path)
    (tmp_path / "a.csv").write_bytes("id,text\n1,größe\n".encode("cp1252"))
    (row,) = read(tmp_path)[1]
    assert (row.error_type, row.row, row.column) == ("InvalidUTF8", 1, "text")
    assert "byte 0xf6 at 2 is not UTF-8; if the file has another encoding, set source.encoding" in row.message
    (tmp_path / "a.csv").write_bytes("id,text\n1,a\n".encode("utf-16-le"))
    with pytest.raises(
        UnreadableSource, match=r"a\.csv is not UTF-8 but looks like utf-16-le; set source.encoding: utf-16-le"
    ):
        read(tmp_path)


def test_a_ragged_record_with_wrong_bytes_is_one_bad_row(tmp_path, monkeypatch, capfd):
    lines = [b"id,text", b"1,a", b"2,\xff,c", "3,größe,d".encode(), b"4,\xfe", "5,größe".encode()]
    (tmp_path / "a.csv").write_bytes(b"\n".join(lines))
    for block in (4 << 20, 24):
        monkeypatch.setattr(csv, "BLOCK_BYTES", block)
        got, bad, _ = read(tmp_path)
        assert rows(got) == [(1, "a"), (5, "größe")]
        assert sorted((row.row, row.error_type, row.raw) for row in bad) == [
            (2, "RaggedLine", "2,\\xff,c"),
            (3, "RaggedLine", "3,größe,d"),
            (4, "InvalidUTF8", "4,\\xfe"),
        ]
    assert capfd.readouterr().err == ""


def test_a_record_longer_than_a_block_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(csv, "BLOCK_BYTES", 256)
    long = "y" * 3000 + "\n" + "z" * 3000
    records = [*((str(i), "short") for i in range(60)), ("60", long), *((str(i), "more") for i in range(61, 99))]
    with open(tmp_path / "a.csv", "w", newline="") as stream:
        standard.writer(stream).writerows([("id", "text"), *records])
    got, bad, _ = read(tmp_path)
    assert (got["text"].to_pylist(), bad) == ([text for _, text in records], [])
    assert got["id"].to_pylist() == list(range(99))
    monkeypatch.setattr(csv, "MAX_RECORD_BYTES", 1024)
    got, (row,), _ = read(tmp_path)
    assert (row.error_type, row.row, len(got)) == ("RecordTooLong", 61, 60)


def test_bad_rows_of_later_ranges_are_reported_with_their_place(tmp_path, monkeypatch):
    monkeypatch.setattr(csv, "SHARD_BYTES", 100)
    lines = [f"{i},text {i}" for i in range(40)]
    lines[30] = "x,text 30"
    (tmp_path / "a.csv").write_text("\n".join(["id,text", *lines]) + "\n")
    got, (row,), shards = read(tmp_path, types={"id": "int64"})
    assert (len(shards) > 3, len(got)) == (True, 39)
    assert (row.row, row.column, row.raw) == (None, "id", "x,text 30")
    assert "after byte" in row.message


def test_rows_are_estimated_by_records_and_not_by_lines(tmp_path, monkeypatch):
    with open(tmp_path / "a.csv", "w", newline="") as stream:
        standard.writer(stream).writerows([("id", "text"), *((i, "several\n\nlines\n") for i in range(500))])
    assert read(tmp_path)[2][0].about_rows == 500
    monkeypatch.setattr(csv, "BLOCK_BYTES", 2000)
    assert 450 < read(tmp_path)[2][0].about_rows < 550


def test_a_file_that_lost_its_end_since_it_was_planned_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(csv, "SHARD_BYTES", 100)
    file = tmp_path / "a.csv"
    file.write_text("id,text\n" + "".join(f"{i},text\n" for i in range(50)))
    planned, shards = source.plan(SourceSpec(path=str(file)))
    file.write_text("id,text\n1,text\n")
    with pytest.raises(SourceError, match=r"a\.csv"):
        list(source.read(planned, shards[-1], 8))


def test_record_ends_are_found_with_other_quote_characters():
    data = io.BytesIO(b"a\n'b\nc'\nd\n")
    assert csv.record_ends(data, 1, ",", "'") == [2, 8, 10]
