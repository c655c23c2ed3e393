"""Files of dataset repositories: parts over HTTP, kept by their blob, and what goes wrong on the way."""

from __future__ import annotations

import io
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from huggingface_hub import constants, snapshot_download

from jobs.hub import blobs, files, ranges, tree
from jobs.hub.files import HubFiles, path_of
from jobs.hub.parts import merged
from jobs.source.formats.parquet import chunks
from tests.hub.hub import Hub
from transforms.errors import SourceError

LARGE = bytes(np.random.default_rng(0).integers(0, 256, 300_000, np.uint8))
WIDE = {f"c{i}": np.random.default_rng(i).random(30_000) for i in range(60)}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(ranges, "MAX_WAIT_S", 0.01)


def repository(hub: Hub, files_: dict[str, bytes]) -> tuple[HubFiles, str]:
    """A filesystem, and the folder of a new repository in it."""
    name = f"org/{uuid.uuid4().hex}"
    hub.repository("dataset", name, files_)
    return HubFiles(), f"{name}@{tree.head(name, None)}"


def wide(**options) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.table(WIDE), stream, **options)
    return stream.getvalue()


def parts(fs: HubFiles, path: str, start: int, stop: int) -> bytes:
    with fs.open_parts(path) as stream:
        stream.seek(start)
        return stream.read(stop - start)


def sent(hub: Hub) -> int:
    return sum(request.sent for request in hub.requests if "/api/" not in request.path)


def test_the_listing_of_a_commit_is_asked_for_once_and_read_page_by_page(hub):
    hub.page = 7
    fs, root = repository(hub, {f"data/{i:02d}.csv": b"a\n1\n" for i in range(20)})
    assert len(fs.find(root)) == 20
    tree._listing.cache_clear()
    assert len(fs.glob(f"{root}/data/1*.csv")) == 10
    assert len(hub.seen("/tree/")) == 3


def test_a_small_file_is_read_with_one_request_however_often_it_is_opened(hub):
    fs, root = repository(hub, {"a.csv": b"a\n1\n"})
    for _ in range(3):
        with fs.open(f"{root}/a.csv") as stream:
            assert stream.read() == b"a\n1\n"
    assert len(hub.seen("/resolve/")) == 1


def test_only_the_asked_bytes_of_a_large_file_are_sent(hub):
    fs, root = repository(hub, {"a.bin": LARGE})
    assert parts(fs, f"{root}/a.bin", 100_000, 100_500) == LARGE[100_000:100_500]
    assert sent(hub) < 600


def test_two_columns_of_a_wide_file_cost_little_more_than_their_bytes(hub):
    content = wide(row_group_size=10_000)
    fs, root = repository(hub, {"wide.parquet": content})
    metadata = pq.read_metadata(pa.BufferReader(fs.footer(f"{root}/wide.parquet")))
    wanted = chunks(metadata, range(metadata.num_row_groups), ["c3", "c40"])
    with fs.open_parts(f"{root}/wide.parquet") as stream:
        stream.prefetch(wanted)
        found = pq.ParquetFile(stream, metadata=metadata).read(columns=["c3", "c40"])
    assert found.equals(pa.table(WIDE).select(["c3", "c40"]))
    assert sent(hub) <= 1.15 * sum(stop - start for start, stop in wanted)
    hub.requests.clear()
    fs.footer(f"{root}/wide.parquet")
    assert hub.requests == []


def test_narrow_gaps_are_read_too_and_wide_ones_are_not():
    assert merged([(0, 1000), (1010, 2000), (5000, 6000)]) == [(0, 2000), (5000, 6000)]
    assert merged([(10, 10), (20, 30), (0, 10)]) == [(0, 10), (20, 30)]
    assert merged([]) == []


def test_a_cut_connection_continues_at_the_byte_that_was_reached(hub):
    fs, root = repository(hub, {"a.bin": LARGE})
    hub.faults.cut("/a?", after=50_000, times=3)
    hub.faults.cut(r"sig=read", after=50_000, times=3)
    assert parts(fs, f"{root}/a.bin", 0, len(LARGE)) == LARGE
    assert sent(hub) < len(LARGE) + 1000


def test_a_connection_that_is_always_cut_ends_in_a_sentence(hub):
    fs, root = repository(hub, {"a.bin": LARGE})
    hub.faults.cut(r"sig=read", after=0, times=None)
    with pytest.raises(SourceError, match=r"a\.bin cannot be read: the connection to .* breaks off; run again later"):
        parts(fs, f"{root}/a.bin", 0, 10)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_hub_is_asked_again(hub, status):
    fs, root = repository(hub, {"a.csv": b"a\n1\n"})
    hub.faults.status(status, "/resolve/", times=2, headers={"Retry-After": "0"})
    with fs.open(f"{root}/a.csv") as stream:
        assert stream.read() == b"a\n1\n"


@pytest.mark.parametrize("name", ["a.csv", "a.bin"])
@pytest.mark.parametrize("other", [LARGE[::-1], LARGE[:-1]])
def test_a_file_that_was_replaced_is_refused(hub, name, other):
    fs, root = repository(hub, {name: LARGE})
    hub.faults.changes(f"/resolve/.*{name}", other)
    with pytest.raises(SourceError, match="has changed since the run was planned; run again"):
        parts(fs, f"{root}/{name}", 0, 10)
    with pytest.raises(SourceError, match="has changed since the run was planned; run again"):
        fs.open(f"{root}/{name}")


def test_a_file_that_is_replaced_between_two_parts_is_refused(hub):
    fs, root = repository(hub, {"a.csv": LARGE})
    with fs.open_parts(f"{root}/a.csv") as stream:
        stream.read(10)
        hub.faults.changes("/resolve/", LARGE[::-1])
        with pytest.raises(SourceError, match="has changed"):
            stream.read(10)


def test_a_damaged_answer_is_asked_for_again_and_then_refused(hub):
    fs, root = repository(hub, {"a.bin": b"content", "b.bin": b"other"})
    hub.faults.corrupt("sig=read", times=1)
    with fs.open(f"{root}/a.bin") as stream:
        assert stream.read() == b"content"
    hub.faults.corrupt("sig=read", times=None)
    with pytest.raises(SourceError, match=r"b\.bin was received twice with another content than its checksum"):
        fs.open(f"{root}/b.bin")


def test_a_hub_whose_etags_are_other_hashes_works_once_a_file_has_proven_its_content(hub, monkeypatch):
    fs, root = repository(hub, {"README.md": b"# about", "a.csv": LARGE})
    from tests.hub import repositories

    monkeypatch.setattr(repositories.Blob, "etag", property(lambda blob: blob.sha256[:40]))
    with fs.open(f"{root}/README.md") as stream:
        assert stream.read() == b"# about"
    assert parts(fs, f"{root}/a.csv", 5, 10) == LARGE[5:10]


def test_a_sign_in_page_is_not_taken_for_the_file(hub):
    fs, root = repository(hub, {"a.csv": b"a\n1\n"})
    page = {"Content-Type": "text/html; charset=utf-8"}
    hub.faults.status(200, "/resolve/", times=None, headers=page, body=b"<html>Sign in</html>")
    with pytest.raises(SourceError, match=r"a\.csv is answered with a web page instead of the file; check HF_ENDPOINT"):
        fs.open(f"{root}/a.csv")


def test_a_hub_without_ranges_sends_a_file_whole_and_once(hub):
    fs, root = repository(hub, {"a.bin": LARGE})
    hub.faults.ignores_ranges()
    with fs.open_parts(f"{root}/a.bin") as stream:
        for start in (7, 90_000, 200_000):
            stream.seek(start)
            assert stream.read(5) == LARGE[start : start + 5]
    hub.requests.clear()
    assert parts(fs, f"{root}/a.bin", 1, 3) == LARGE[1:3]
    assert hub.requests == []


def test_an_address_in_the_storage_that_has_expired_is_asked_for_again(hub):
    fs, root = repository(hub, {"a.bin": LARGE})
    assert parts(fs, f"{root}/a.bin", 0, 5) == LARGE[:5]
    assert parts(fs, f"{root}/a.bin", 5, 9) == LARGE[5:9]
    assert len(hub.seen("/resolve/")) == 1
    hub.faults.status(403, r"sig=read", times=1)
    assert parts(fs, f"{root}/a.bin", 9, 12) == LARGE[9:12]
    assert len(hub.seen("/resolve/")) == 2


def test_files_that_were_downloaded_before_cost_no_request_also_offline(hub, monkeypatch):
    fs, root = repository(hub, {"a.bin": LARGE, "b.csv": b"a\n1\n"})
    name, commit = root.split("@")
    snapshot_download(name, repo_type="dataset")
    hub.requests.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    tree._listing.cache_clear()
    assert tree.head(name, None) == commit
    assert parts(fs, f"{root}/a.bin", 3, 8) == LARGE[3:8]
    with fs.open(f"{root}/b.csv") as stream:
        assert stream.read() == b"a\n1\n"
    assert hub.requests == []


def test_offline_a_file_that_is_not_here_is_named(hub, monkeypatch):
    fs, root = repository(hub, {"a.csv": b"a\n1\n"})
    fs.find(root)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(SourceError, match=r"a\.csv cannot be read: it is not in the cache .* run once without"):
        fs.open(f"{root}/a.csv")


def test_the_oldest_files_leave_a_cache_that_is_full(hub, monkeypatch):
    blobs.put("org/name", "layout", "00", b"columns")
    for i in range(10):
        blobs.put("org/name", "file", f"{i:02d}", bytes(100))
    blobs.prune(500)
    assert blobs.get("org/name", "layout", "00") == b"columns"
    left = [i for i in range(10) if blobs.get("org/name", "file", f"{i:02d}") is not None]
    assert left == [6, 7, 8, 9]


def test_a_footer_that_is_longer_than_expected_is_completed(hub, monkeypatch):
    content = wide(row_group_size=1000)
    fs, root = repository(hub, {"a.parquet": content})
    monkeypatch.setattr(files, "FIRST_FOOTER", 100)
    metadata = pq.read_metadata(pa.BufferReader(fs.footer(f"{root}/a.parquet")))
    assert metadata.equals(pq.read_metadata(io.BytesIO(content)))
    assert path_of(*files._blob(f"{root}/a.parquet")) == f"{root}/a.parquet"


def test_a_whole_file_is_begun_again_at_a_hub_without_ranges(hub):
    fs, root = repository(hub, {"a.csv": LARGE})
    hub.faults.cut("/resolve/", after=50_000, times=1)
    hub.faults.ignores_ranges()
    with fs.open(f"{root}/a.csv") as stream:
        assert stream.read() == LARGE


def test_a_file_that_is_replaced_in_the_storage_is_refused(hub):
    fs, root = repository(hub, {"a.bin": LARGE})
    other = LARGE[:5] + LARGE[5:][::-1]
    with fs.open_parts(f"{root}/a.bin") as stream:
        assert stream.read(5) == LARGE[:5]
        hub.faults.changes("sig=read", other)
        with pytest.raises(SourceError, match="has changed"):
            stream.read(10)
