"""A store puts files whole; a conditional write has one winner; what goes wrong is one sentence."""

from __future__ import annotations

import threading

import pytest

from jobs.store import Store, check
from jobs.store.opening import open_store
from transforms.errors import SinkError, SpecError


def test_files_are_put_moved_listed_and_deleted(store):
    check(store)
    assert store.names("a") == []
    assert store.find("") == []
    store.put("a/x.json", b"1")
    store.put("a/x.json", b"2")
    store.move("a/x.json", "b/c/y.json")
    store.move("a/x.json", "b/c/y.json")
    assert store.get("b/c/y.json") == b"2"
    assert store.names("b/c") == ["b/c/y.json"]
    assert store.find(".json") == ["b/c/y.json"]
    with store.open("b/c/y.json") as stream:
        assert stream.read() == b"2"
    store.delete("b/c/y.json")
    store.delete("b/c/y.json")
    assert not store.exists("b/c/y.json")
    with pytest.raises(FileNotFoundError):
        store.get("b/c/y.json")


def test_a_file_is_created_once(store):
    assert store.put_if_absent("a.json", b"first")
    assert not store.put_if_absent("a.json", b"second")
    assert store.get("a.json") == b"first"


def test_a_file_is_replaced_only_at_the_version_that_was_read(store):
    assert store.get_versioned("a.json") is None
    store.put("a.json", b"first")
    content, version = store.get_versioned("a.json")
    assert content == b"first"
    assert store.put_if_match("a.json", b"second", version)
    assert not store.put_if_match("a.json", b"third", version)
    assert store.get("a.json") == b"second"
    store.delete("a.json")
    assert not store.put_if_match("a.json", b"fourth", version)


def test_of_many_writers_at_once_one_creates_the_file(store):
    won = []
    together = threading.Barrier(8)

    def write(i: int) -> None:
        own = open_store(store.url, "sink.path")
        together.wait()
        if own.put_if_absent("a.json", str(i).encode()):
            won.append(i)

    threads = [threading.Thread(target=write, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [str(i).encode() for i in won] == [store.get("a.json")]


def test_a_filesystem_without_conditional_writes_is_refused():
    from fsspec.implementations.http import HTTPFileSystem  # noqa: F401 - the kind of filesystem that this is about

    with pytest.raises(SpecError, match=r"without conditional writes.*use a local folder, s3://"):
        check(Store("https://example.org/lake"))


@pytest.mark.parametrize("url", ["s4://lake/out", "nosuch://x"])
def test_an_unknown_kind_of_url_is_reported_in_one_sentence(url):
    with pytest.raises(SpecError, match="cannot be opened: Protocol not known"):
        Store(url)


def test_a_missing_bucket_is_reported_in_one_sentence(bucket):
    with pytest.raises(SinkError, match="no such bucket or container; create it"):
        Store("s3://nosuchbucket/out").put("a", b"1")


def test_a_store_that_cannot_be_reached_is_reported_in_one_sentence(bucket, monkeypatch):
    import s3fs

    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    try:
        with pytest.raises(SinkError, match="cannot be reached"):
            Store("s3://lake/out").put("a", b"1")
    finally:
        s3fs.S3FileSystem.clear_instance_cache()


def test_missing_credentials_are_reported_in_one_sentence(bucket, monkeypatch, tmp_path):
    import s3fs

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    s3fs.S3FileSystem.clear_instance_cache()
    try:
        with pytest.raises(SinkError, match=r"credentials"):
            Store("s3://lake/out").put("a", b"1")
    finally:
        s3fs.S3FileSystem.clear_instance_cache()


def test_a_local_folder_with_two_colons_in_its_name_is_that_folder(tmp_path):
    folder = tmp_path / "a::b"
    Store(str(folder)).put("x.json", b"{}")
    assert (folder / "x.json").read_bytes() == b"{}"
