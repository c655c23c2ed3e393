"""CSV files of every dialect give the records that were written, cut into ranges or not."""

import codecs
import csv as standard
import gzip
import io

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from jobs import source
from jobs.source import BadRow
from jobs.source.formats import csv
from jobs.spec import SourceSpec, parse
from transforms.errors import SourceError, SpecError, UnreadableSource


def read(path, texts=(), **keys):
    planned, shards = source.plan(SourceSpec(path=str(path), **keys), texts=texts)
    items = [item for shard in shards for item in source.read(planned, shard, 64)]
    batches = [item for item in items if isinstance(item, pa.RecordBatch)]
    table = pa.Table.from_batches(batches, planned.schema)
    return table, [item for item in items if isinstance(item, BadRow)], shards


def rows(table):
    return [tuple(row.values()) for row in table.to_pylist()]


# Without NUL, which has a test of its own: at the end of a block of 16 bytes Arrow misses the delimiter after it.
cell = st.text(st.sampled_from("ab1,;\t|\"'\\\n\r #é"), max_size=8)
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
def test_tables_in_any_dialect_come_back_whole_and_cut(tmp_path_factory, records, dialect, every):
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


def spark(records):
    """Records as Spark writes them by default: a backslash before a quote or a backslash inside of quotes."""

    def field(value):
        if not any(mark in value for mark in ',"\n\r'):
            return value or '""'
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'

    return "".join(",".join(map(field, record)) + "\n" for record in records)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(cell, cell), max_size=10), st.sampled_from([16, 64, 4 << 20]))
def test_backslash_escapes_of_spark_are_found_and_read(tmp_path_factory, records, block):
    records = [("id", "text"), ("1", 'He said "hi" twice'), ("C:\\dir", "\\\\host\\new"), *records]
    file = tmp_path_factory.mktemp("spark") / "a.csv"
    file.write_text(spark(records), newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv, "BLOCK_BYTES", max(block, 64))
        got, bad, _ = read(file, types={"id": "string", "text": "string"})
    assert ([got.schema.names and ("id", "text"), *rows(got)], bad) == (records, [])


def test_backslash_escapes_after_the_head_are_found_too(tmp_path, monkeypatch):
    records = [(str(i), f"text, {i}") for i in range(50)] + [("50", 'a "b" c, d'), ("51", "plain")]
    (tmp_path / "a.csv").write_text(spark([("id", "text"), *records]))
    monkeypatch.setattr(csv, "BLOCK_BYTES", 200)
    got, bad, _ = read(tmp_path)
    assert (got["text"].to_pylist(), bad) == ([text for _, text in records], [])
    assert got["id"].to_pylist() == list(range(52))


def test_a_folder_name_that_ends_in_a_backslash_is_no_escape(tmp_path, monkeypatch):
    records = [("id", "text"), *((str(i), "C:\\dir\\" if i % 2 else f"x, {i}") for i in range(50))]
    with open(tmp_path / "a.csv", "w", newline="") as stream:
        standard.writer(stream, quoting=standard.QUOTE_ALL).writerows(records)
    for block in (4 << 20, 150):
        monkeypatch.setattr(csv, "BLOCK_BYTES", block)
        got, bad, _ = read(tmp_path)
        assert (got["text"].to_pylist(), bad) == ([text for _, text in records[1:]], [])


def test_escapes_found_too_late_name_the_key(tmp_path, monkeypatch):
    records = [("1", "a\\b, c"), *((str(i), "x" * 20) for i in range(20)), ("50", 'a "b" c, d')]
    (tmp_path / "a.csv").write_text(spark([("id", "text"), *records]))
    monkeypatch.setattr(csv, "BLOCK_BYTES", 200)
    with pytest.raises(UnreadableSource, match=r"a.csv: quotes are escaped .* set source.escape: '\\'"):
        read(tmp_path)
    got, bad, _ = read(tmp_path, escape="\\")
    assert (got["text"].to_pylist(), bad) == ([text for _, text in records], [])


@pytest.mark.parametrize(
    ("content", "names", "values"),
    [
        ("id;text\n1;a, b\n2;c, d\n", ["id", "text"], [(1, "a, b"), (2, "c, d")]),
        ("id\ttext\n1\ta, b\n", ["id", "text"], [(1, "a, b")]),
        ("id|text\n1|a;b;c\n2|d\n", ["id", "text"], [(1, "a;b;c"), (2, "d")]),
        ("id,note;text\n1,a;b\n2,c\n", ["id", "note;text"], [(1, "a;b"), (2, "c")]),
        ("text\nhello; you\nbye\n", ["text"], [("hello; you",), ("bye",)]),
        ("\n\n  \nid,text\n1,a\n", ["id", "text"], [(1, "a")]),
        ('id,"full\nname"\n1,a\n', ["id", "full\nname"], [(1, "a")]),
        ('id,"a ""b"""\n1,a\n', ["id", 'a "b"'], [(1, "a")]),
        ("id,text\r1,a\r2,b\r", ["id", "text"], [(1, "a"), (2, "b")]),
        ("id,text\r\n1,a\r\n\r\n2,b", ["id", "text"], [(1, "a"), (2, "b")]),
        ("\ufeffid,text\n1,a\n", ["id", "text"], [(1, "a")]),
        ('\ufeff"id",text\n1,a\n', ["id", "text"], [(1, "a")]),
        ("id,,text\n1,x,a\n", ["id", "column_1", "text"], [(1, "x", "a")]),
        ("id,text,\n1,a,\n2,b,\n", ["id", "text", "column_2"], [(1, "a", ""), (2, "b", "")]),
        ("id,text\n1,a,\n2,b,\n", ["id", "text"], [(1, "a"), (2, "b")]),
        ("id,text\n1,a\0b\n", ["id", "text"], [(1, "a\0b")]),
        ("id,text\n", ["id", "text"], []),
        ("id,text", ["id", "text"], []),
        ("text\n,\n", ["text"], None),
    ],
)
def test_a_file_is_read_in_its_own_dialect(tmp_path, content, names, values):
    (tmp_path / "a.csv").write_text(content, newline="")
    got, bad, _ = read(tmp_path)
    assert got.schema.names == names
    if values is not None:
        assert (rows(got), bad) == (values, [])


def test_a_quote_never_closed_in_the_header_is_part_of_the_name(tmp_path):
    (tmp_path / "a.csv").write_text('id,5" screen\n1,a\n')
    assert read(tmp_path)[0].to_pylist() == [{"id": 1, '5" screen': "a"}]


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


def test_what_is_not_utf8_says_how_to_name_the_encoding(tmp_path):
    (tmp_path / "a.csv").write_bytes("id,größe\n1,a\n".encode("cp1252"))
    with pytest.raises(UnreadableSource, match=r"a.csv: its header is not UTF-8 \(byte 5: .*; name source.encoding"):
        read(tmp_path)
    (tmp_path / "a.csv").write_bytes("id,text\n1,größe\n".encode("cp1252"))
    (row,) = read(tmp_path)[1]
    assert (row.error_type, row.row, row.column) == ("InvalidUTF8", 1, "text")
    assert "byte 0xf6 at 2 is not UTF-8; if the file has another encoding, name it in source.encoding" in row.message
    (tmp_path / "a.csv").write_bytes("id,text\n1,a\n".encode("utf-16-le"))
    with pytest.raises(UnreadableSource, match=r"a\.csv is not UTF-8; it looks like source.encoding: utf-16-le"):
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


def test_comments_are_skipped_but_not_inside_of_quotes(tmp_path):
    (tmp_path / "a.csv").write_text('# made today\nid,text\n# first\n1,"one\n# no comment"\n#2,x\n3,a # b\n#')
    got, bad, _ = read(tmp_path, comment="#")
    assert (rows(got), bad) == ([(1, "one\n# no comment"), (3, "a # b")], [])


def test_without_a_header_columns_have_numbers_or_the_names_of_the_job_file(tmp_path):
    (tmp_path / "a.csv").write_text("1,a\n2,b\n")
    assert read(tmp_path, header=False)[0].to_pylist()[0] == {"column_0": 1, "column_1": "a"}
    assert read(tmp_path, header=False, columns=["id", "text"])[0].to_pylist()[1] == {"id": 2, "text": "b"}
    assert read(tmp_path, header=False, columns=["column_1"])[0].to_pylist() == [{"column_1": "a"}, {"column_1": "b"}]
    with pytest.raises(UnreadableSource, match=r"names 3 columns and the first record of .*a.csv has 2 fields"):
        read(tmp_path, header=False, columns=["a", "b", "c"])


def test_without_quotes_a_quote_is_an_ordinary_character(tmp_path, monkeypatch):
    (tmp_path / "a.csv").write_text("id|text\n" + "".join(f'{i}|"open {i}\n' for i in range(30)))
    monkeypatch.setattr(csv, "SHARD_BYTES", 60)
    got, bad, shards = read(tmp_path, quote="")
    assert (got["text"].to_pylist(), bad) == ([f'"open {i}' for i in range(30)], [])
    assert len(shards) > 3


@pytest.mark.parametrize(
    ("content", "keys", "expected"),
    [
        ("id,text\n1,a\n2,b\n", {"delimiter": ";"}, "with the delimiter ';' its header 'id,text' is one column; set "),
        ("id^text\n1^a\n2^b\n", {}, "its header 'id\\^text' is one column; set source.delimiter: \"\\^\""),
        ("id\x01text\n1\x01a\n", {}, r'source.delimiter: "\\x01"'),
        ("id,text,id\n1,a,2\n", {}, "a.csv: column 'id' stands twice in the header; rename one, or leave it out"),
    ],
)
def test_a_header_that_cannot_be_right_is_refused_with_the_key(tmp_path, content, keys, expected):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(UnreadableSource, match=expected):
        read(tmp_path, **keys)


def test_a_duplicate_column_name_is_accepted_if_it_is_not_selected(tmp_path):
    (tmp_path / "a.csv").write_text("id,x,text,x\n1,2,a,3\n")
    assert read(tmp_path, columns=["id", "text"])[0].to_pylist() == [{"id": 1, "text": "a"}]


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


def test_wrong_rows_of_later_ranges_say_where_they_are(tmp_path, monkeypatch):
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


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"delimiter": "||"}, "source.delimiter: '||' is not one ASCII character"),
        ({"delimiter": "§"}, "source.delimiter: '§' is not one ASCII character"),
        ({"delimiter": "\n"}, "source.delimiter: '\\n' is not allowed here"),
        ({"delimiter": '"', "quote": '"'}, "quote and delimiter are both '\"'; they must differ"),
        ({"encoding": "utf-42"}, "source.encoding: 'utf-42' is not a text encoding"),
        ({"encoding": "base64"}, "source.encoding: 'base64' is not a text encoding"),
        ({"format": "jsonl", "delimiter": ";"}, "delimiter goes with CSV files; remove it"),
    ],
)
def test_keys_of_the_dialect_are_checked(keys, expected):
    job = {
        "name": "a",
        "source": {"path": "in"} | keys,
        "sink": {"path": "out"},
        "tasks": [{"task": "classify", "column": "text", "model": "m", "into": "s"}],
    }
    with pytest.raises(SpecError) as error:
        parse(job)
    assert expected in str(error.value)


def test_keys_of_the_dialect_need_a_csv_file(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(SpecError, match=r"source.delimiter goes with CSV files, and there is none in"):
        read(tmp_path, delimiter=";")


def test_a_stream_of_text_can_be_cut_with_another_quote():
    data = io.BytesIO(b"a\n'b\nc'\nd\n")
    assert csv.record_ends(data, 1, ",", "'") == [2, 8, 10]
