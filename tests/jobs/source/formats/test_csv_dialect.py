"""The dialect of a CSV file is found in the file or named in the job; what cannot be right names the key."""

import csv as standard

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.source.formats import csv
from jobs.spec import parse
from tests.csv_files import cell, read, rows
from transforms.errors import SpecError, UnreadableSource


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


def test_an_error_for_backslash_escapes_found_after_the_head_names_the_key(tmp_path, monkeypatch):
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
        ("id,text,id\n1,a,2\n", {}, "a.csv: column 'id' occurs twice in the header; rename one, or leave it out"),
    ],
)
def test_an_implausible_header_is_refused_with_the_key_to_set(tmp_path, content, keys, expected):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(UnreadableSource, match=expected):
        read(tmp_path, **keys)


def test_a_duplicate_column_name_is_accepted_if_it_is_not_selected(tmp_path):
    (tmp_path / "a.csv").write_text("id,x,text,x\n1,2,a,3\n")
    assert read(tmp_path, columns=["id", "text"])[0].to_pylist() == [{"id": 1, "text": "a"}]


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"delimiter": "||"}, "source.delimiter: '||' is not one ASCII character"),
        ({"delimiter": "§"}, "source.delimiter: '§' is not one ASCII character"),
        ({"delimiter": "\n"}, "source.delimiter: '\\n' is not allowed here"),
        ({"delimiter": '"', "quote": '"'}, "quote and delimiter are both '\"'; they must differ"),
        ({"encoding": "utf-42"}, "source.encoding: 'utf-42' is not a text encoding"),
        ({"encoding": "base64"}, "source.encoding: 'base64' is not a text encoding"),
        ({"format": "jsonl", "delimiter": ";"}, "delimiter applies to CSV files only; remove it"),
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
    with pytest.raises(SpecError, match=r"source.delimiter applies to CSV files only, and there is none in"):
        read(tmp_path, delimiter=";")
