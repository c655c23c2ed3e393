"""Which files a path names: links, brackets, partition folders, odd names; what is wrong with one is a sentence."""

import os
import socket
import unicodedata
import zipfile
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs import source
from jobs.source import files, urls
from jobs.spec import SourceSpec
from transforms.errors import NightscribeError, SourceError, SpecError, UnreadableSource


def put(path: Path, *numbers: int, **columns) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"nr": pa.array(numbers, pa.int64()), **columns}), path)
    return path


def numbers(path, sink=None, **more) -> list[int]:
    paths = [str(item) for item in path] if isinstance(path, list) else str(path)
    planned, shards = source.plan(SourceSpec(path=paths, **more), outside=sink and str(sink))
    batches = [batch for shard in shards for batch in source.read(planned, shard, 100)]
    return sorted(number for batch in batches for number in batch.column("nr").to_pylist())


def keys(path) -> list[str]:
    return [shard.key for shard in source.plan(SourceSpec(path=path))[1]]


def refused(path, kind: type[NightscribeError] = SpecError, **more) -> str:
    with pytest.raises(kind) as caught:
        numbers(path, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_folder_of_hive_for_null_is_null_in_columns_and_conditions(tmp_path):
    put(tmp_path / "lang=__HIVE_DEFAULT_PARTITION__" / "x.parquet", 1)
    put(tmp_path / "lang=en" / "x.parquet", 2)
    assert numbers(tmp_path, where="lang IS NULL") == [1]
    assert numbers(tmp_path, where="lang <> 'de'") == [2]
    planned, shards = source.plan(SourceSpec(path=str(tmp_path)))
    rows = [row for shard in shards for batch in source.read(planned, shard, 9) for row in batch.to_pylist()]
    assert rows == [{"nr": 1, "lang": None}, {"nr": 2, "lang": "en"}]
    assert shards[0].key == "lang=__HIVE_DEFAULT_PARTITION__/x.parquet", "the folder keeps its name in the sink"


def test_partition_folders_may_hold_escapes_equals_signs_and_underscores(tmp_path):
    put(tmp_path / "a%20b=c%2Fd" / "_year=2024" / "x=y=z" / "f.parquet", 1)
    planned, (shard,) = source.plan(SourceSpec(path=str(tmp_path)))
    (batch,) = source.read(planned, shard, 9)
    assert batch.to_pylist() == [{"nr": 1, "a b": "c/d", "_year": "2024", "x": "y=z"}]


def test_linked_folders_and_files_are_read_once_and_under_their_own_names(tmp_path):
    lake = tmp_path / "in"
    put(lake / "2023" / "x.parquet", 1)
    put(tmp_path / "elsewhere" / "x.parquet", 2)
    put(tmp_path / "file.parquet", 3)
    (lake / "2024").symlink_to("../elsewhere")
    (lake / "linked.parquet").symlink_to(tmp_path / "file.parquet")
    (lake / "latest").symlink_to("2023")
    (lake / "loop").symlink_to(".")
    (lake / "itself").symlink_to("itself.txt")
    (lake / "itself.txt").symlink_to("itself.txt")
    (lake / "itself").unlink()
    assert numbers(lake) == [1, 2, 3]
    assert keys(str(lake)) == ["2023/x.parquet", "2024/x.parquet", "linked.parquet"]
    assert numbers(lake / "**" / "*.parquet") == [1, 2, 3]
    (tmp_path / "door").symlink_to(lake)
    assert keys(str(tmp_path / "door")) == ["2023/x.parquet", "2024/x.parquet", "linked.parquet"]


def test_several_paths_to_one_file_read_it_once(tmp_path, monkeypatch):
    put(tmp_path / "in" / "x.parquet", 1)
    put(tmp_path / "in" / "y.parquet", 2)
    monkeypatch.chdir(tmp_path)
    paths = ["in", "in/", "./in/x.parquet", f"{tmp_path}/in/*.parquet", f"file://{tmp_path}/in/y.parquet"]
    assert numbers(paths) == [1, 2]
    assert keys("in") == keys("in//") == ["x.parquet", "y.parquet"]


@pytest.mark.parametrize("name", ["latest.parquet", "latest"])
def test_a_broken_link_is_reported_with_its_target(tmp_path, name):
    put(tmp_path / "x.parquet", 1)
    (tmp_path / name).symlink_to("nowhere.parquet")
    told = f"'{tmp_path}/{name}' is a link to 'nowhere.parquet', which does not exist; remove the link"
    assert told in refused(tmp_path)
    assert told in refused(tmp_path / name)
    assert numbers(tmp_path / "x*.parquet") == [1]
    (tmp_path / name).rename(tmp_path / "notes.txt")
    assert numbers(tmp_path) == [1]


def test_pipes_and_sockets_are_refused_and_never_opened(tmp_path):
    put(tmp_path / "x.parquet", 1)
    os.mkfifo(tmp_path / "pipe.csv")
    assert "pipe.csv' is not a regular file but a named pipe" in refused(tmp_path)
    assert "a named pipe" in refused(tmp_path / "pipe.csv")
    (tmp_path / "pipe.csv").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.csv"))
        assert "s.csv' is not a regular file but a socket" in refused(tmp_path)
    assert numbers(tmp_path / "*.parquet") == [1]


@pytest.mark.parametrize("folder", ["[2024]", "a b", "50%", "no#1", "what?", "a=1", "x*y", "日本", "a::b"])
def test_folders_with_odd_names_are_taken_as_they_are_written(tmp_path, folder):
    put(tmp_path / "in" / folder / "x[1].parquet", 1)
    put(tmp_path / "in" / "2" / "x1.parquet", 2)
    base = tmp_path / "in"
    assert numbers(base / folder) == [1]
    assert numbers(base / folder / "x[1].parquet") == [1]
    assert numbers(base / folder / "*.parquet") == [1]
    assert keys(str(base / folder / "*.parquet")) == ["x[1].parquet"]
    assert numbers(base) == [1, 2]


def test_globs_name_files_and_where_they_name_none_the_files_of_their_folders(tmp_path):
    put(tmp_path / "2023" / "a.parquet", 1)
    put(tmp_path / "2024" / "b.parquet", 2)
    put(tmp_path / "2024" / "deep" / "c.parquet", 3)
    put(tmp_path / "top.parquet", 4)
    assert numbers(tmp_path / "*.parquet") == [4]
    assert numbers(tmp_path / "20*" / "*.parquet") == [1, 2]
    assert numbers(tmp_path / "20[2][34]" / "?.parquet") == [1, 2]
    assert numbers(tmp_path / "**" / "*.parquet") == [1, 2, 3, 4]
    assert numbers(tmp_path / "202[4]") == [2, 3]
    assert numbers(tmp_path / "*") == [4]


def test_both_spellings_of_an_accent_find_the_file(tmp_path):
    put(tmp_path / unicodedata.normalize("NFD", "café") / "é.parquet", 1)
    assert numbers(tmp_path / unicodedata.normalize("NFC", "café")) == [1]
    assert numbers(f"{tmp_path}/café/é.parquet") == [1]


def test_home_and_file_urls_are_paths(tmp_path, monkeypatch):
    put(tmp_path / "a b" / "x.parquet", 1)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert numbers("~/a b") == numbers(f"file://{tmp_path}/a b") == numbers(f"file://{tmp_path}/a%20b/x.parquet") == [1]


def test_markers_and_hidden_files_are_skipped(tmp_path):
    put(tmp_path / "x.parquet", 1)
    for name in ("_SUCCESS", "_metadata", ".x.parquet.crc", "_delta_log/0.json", ".git/y.parquet", "notes.txt"):
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text("{}")
    (tmp_path / "empty").mkdir()
    assert numbers(tmp_path) == [1]


def test_an_error_for_a_path_without_files_names_the_folder_that_was_searched(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for path in ("in", "in/*.parquet", "in/x.parquet", "nowhere"):
        assert f"source.path {path!r} matches no data file (looked for {tmp_path}/{path})" in refused(path)
    assert "source.path is empty" in refused([])
    assert "source.path is empty" in refused("")


def test_a_sink_among_the_files_of_the_source_is_refused(tmp_path):
    put(tmp_path / "in" / "x.parquet", 1)
    told = "lies inside source.path"
    assert told in refused(tmp_path / "in", sink=tmp_path / "in" / "out")
    assert told in refused(tmp_path / "in" / "**" / "*.parquet", sink=tmp_path / "in" / "out")
    assert numbers(tmp_path / "in" / "**" / "*.parquet", sink=tmp_path / "out") == [1]
    assert "lies in sink.path" in refused(tmp_path / "in", sink=tmp_path / "in")
    assert "lies in sink.path" in refused(tmp_path / "in" / "x.parquet", sink=tmp_path)
    (tmp_path / "link").symlink_to(tmp_path)
    assert "lies in sink.path" in refused(tmp_path / "in", sink=tmp_path / "link")
    for sink in (tmp_path / "out", tmp_path / "in_out", tmp_path / "in" / "_out"):
        assert numbers(tmp_path / "in", sink=sink) == [1]
    assert numbers(tmp_path / "in" / "*.parquet", sink=tmp_path / "in" / "out") == [1]


def test_each_path_keeps_its_filesystem(tmp_path):
    put(tmp_path / "x.parquet", 1)
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/shelf/x.parquet", (tmp_path / "x.parquet").read_bytes())
    put(tmp_path / "y.parquet", 2)
    for paths in ([tmp_path, "memory://shelf"], ["memory://shelf", tmp_path]):
        assert numbers(paths) == [1, 1, 2]
    assert len(set(keys([str(tmp_path), "memory://shelf"]))) == 3


def test_files_in_archives_are_opened_by_a_url_of_their_own(tmp_path):
    file = put(tmp_path / "x.parquet", 1)
    with zipfile.ZipFile(tmp_path / "lake.zip", "w") as archive:
        archive.write(file, "in/x.parquet")
    assert numbers(f"zip://in/*.parquet::file://{tmp_path}/lake.zip") == [1]


def test_a_version_is_a_checksum_or_a_time_and_a_file_without_one_is_refused():
    assert files.version({"blob_id": "c0ffee", "size": 3}, "hf://x") == "c0ffee"
    assert files.version({"ETag": 'W/"abc"', "size": 3}, "s3://x") == "abc"
    assert files.version({"Last-Modified": "Tue", "size": 3}, "https://x") == "3-Tue"
    with pytest.raises(SpecError, match="neither a checksum nor a modification time"):
        files.version({"size": 3, "name": "x"}, "odd://x")


def test_no_message_shows_a_password(tmp_path):
    for text in ("s3://me:secret@bucket/x", "https://host/x.csv?sig=secret", "GET 'https://a:secret@h/x?k=secret' 403"):
        assert "secret" not in urls.shown(text)
    assert urls.shown("abfs://container@account/x") == "abfs://container@account/x"
    assert urls.shown("in/what?/x.csv") == "in/what?/x.csv"
    assert "secret" not in refused("nosuch://me:secret@host/x.csv")


def test_a_protocol_that_is_unknown_or_not_installed_is_reported():
    assert "nosuch" in refused("nosuch://bucket/x.parquet")
    assert "is not a path or URL that can be read" in refused("nosuch://bucket/x.parquet")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_files_are_reported(tmp_path):
    put(tmp_path / "a" / "x.parquet", 1).chmod(0)
    assert "x.parquet cannot be read: permission denied" in refused(tmp_path, UnreadableSource)
    (tmp_path / "a").chmod(0)
    assert "cannot be listed: Permission denied" in refused(tmp_path)


def test_a_name_that_is_not_utf8_and_a_repeated_column_are_reported(tmp_path):
    put(tmp_path / "x.parquet", 1)
    os.rename(tmp_path / "x.parquet", os.fsencode(str(tmp_path)) + b"/\xff.parquet")
    assert "is not UTF-8; rename the file" in refused(tmp_path)
    os.unlink(os.fsencode(str(tmp_path)) + b"/\xff.parquet")
    pq.write_table(pa.Table.from_arrays([pa.array([1])] * 2, names=["nr", "nr"]), tmp_path / "y.parquet")
    assert "y.parquet has two columns 'nr'; rename one of them" in refused(tmp_path, SourceError)


def test_a_file_that_changes_after_the_plan_is_reported(tmp_path):
    file = put(tmp_path / "x.parquet", 1)
    planned, (shard,) = source.plan(SourceSpec(path=str(tmp_path)))
    put(file, 1, 2, 3)
    with pytest.raises(SourceError, match=r"x.parquet has changed since the run was planned; run again"):
        list(source.read(planned, shard, 9))
    file.unlink()
    with pytest.raises(SourceError, match=r"^/[^ ]*x.parquet no longer exists, which it did when"):
        list(source.read(planned, shard, 9))


def test_selected_columns_must_exist_and_be_named_once(tmp_path):
    put(tmp_path / "lang=en" / "x.parquet", 1)
    assert "source.columns names 'nr' twice" in refused(tmp_path, columns=["nr", "nr"])
    assert "source.columns: 'no' is not in" in refused(tmp_path, columns=["no"])
    assert "columns: nr, lang" in refused(tmp_path, columns=["no"])


def test_views_become_strings_beside_files_without_views(tmp_path):
    put(
        tmp_path / "a.parquet",
        1,
        text=pa.array(["a"], pa.string_view()),
        tags=pa.array([["t"]], pa.list_(pa.string_view())),
    )
    put(tmp_path / "b.parquet", 2, text=pa.array(["b"]), tags=pa.array([["t"]]))
    planned, shards = source.plan(SourceSpec(path=str(tmp_path)))
    assert planned.schema.field("text").type == pa.string()
    rows = [row for shard in shards for batch in source.read(planned, shard, 9) for row in batch.to_pylist()]
    assert [row["text"] for row in rows] == ["a", "b"]
    assert [row["tags"] for row in rows] == [["t"], ["t"]]
