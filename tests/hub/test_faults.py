"""Each fault as a client sees it, and the manners in which Hubs differ."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_download, hf_hub_url
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.utils import get_session, httpx, parse_ratelimit_headers

from tests.hub.hub import Hub

LARGE = bytes(range(256)) * 4000

# What a process does that is told of another address of the Hub; the last argument is the name of the repository.
READ_AND_WRITE = """
import json, sys
from huggingface_hub import HfApi, hf_hub_download, snapshot_download
name, api = sys.argv[1], HfApi()
api.create_repo(name)
url = api.upload_file(path_or_fileobj=b"a" * 100_000, path_in_repo="a.bin", repo_id=name).commit_url
for number in range(5):
    api.upload_file(path_or_fileobj=b"text", path_in_repo=f"{number}.txt", repo_id=name)
print(json.dumps({
    "url": str(url),
    "files": api.list_repo_files(name),
    "tree": [each.path for each in api.list_repo_tree(name)],
    "content": open(hf_hub_download(name, "a.bin"), "rb").read() == b"a" * 100_000,
    "text": open(snapshot_download(name) + "/4.txt").read(),
}))
"""


def elsewhere(hub: Hub, name: str, home: Path, **environment: str) -> dict[str, object]:
    """What READ_AND_WRITE prints in a process of its own."""
    variables = {**os.environ, "HF_HOME": str(home), "HF_TOKEN": hub.token("ada")} | environment
    command = [sys.executable, "-W", "ignore", "-c", READ_AND_WRITE, name]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return found


FILES = [".gitattributes", *(f"{n}.txt" for n in range(5)), "a.bin"]


@pytest.mark.parametrize("redirects", [False, True])
def test_the_hub_below_a_prefix_names_addresses_below_it(hub: Hub, name: str, tmp_path: Path, redirects: bool):
    hub.page, hub.redirects = 3, redirects
    found = elsewhere(hub, name, tmp_path, HF_ENDPOINT=hub.endpoint + hub.prefix)
    assert str(found.pop("url")).startswith(f"{hub.endpoint}{hub.prefix}/{name}/commit/")
    assert found == {"files": FILES, "tree": FILES, "content": True, "text": "text"}
    assert all(request.prefix for request in hub.requests if request.query.get("sig") is None)


def test_clients_with_xet_read_and_write_its_store(hub: Hub, name: str, tmp_path: Path):
    hub.xet = tmp_path / "store"
    hub.xet.mkdir()
    other = hub.repository("model", f"{name}-other", {"b.bin": LARGE})
    found = elsewhere(hub, name, tmp_path / "home", HF_HUB_DISABLE_XET="0")
    assert (found["files"], found["content"]) == (FILES, True)
    assert (len(hub.seen("xet-write-token")), hub.seen("PUT ")) == (1, [])
    assert hub.seen("sig=read|GET /[0-9a-f]{64}") == []
    assert hub.repositories["model", name].files()["a.bin"] == b"a" * 100_000
    assert len(hub.xet_hashes) == 1
    script = (
        "import sys; from huggingface_hub import *; print(open(hf_hub_download(sys.argv[1], 'b.bin'), 'rb').read())"
    )
    variables = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "0"}
    command = [sys.executable, "-c", script, other.name]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == repr(LARGE)
    assert hub.seen("GET /[0-9a-f]{64}") == []


def test_a_request_too_many_waits_for_the_next_window(hub: Hub, name: str):
    hub.repository("model", name, {"a.txt": b"a"})
    hub.limit(2, window_s=1)
    for left in (1, 0):
        stated = parse_ratelimit_headers(get_session().get(f"{hub.endpoint}/api/models/{name}").headers)
        assert stated is not None
        assert (stated.resource_type, stated.remaining, stated.limit) == ("api", left, 2)
    with pytest.raises(HfHubHTTPError, match="you have reached your 'api' rate limit"):
        HfApi().model_info(name)
    # Files have a budget of their own, and http_backoff waits as the headers ask.
    assert hf_hub_download(name, "a.txt")
    time.sleep(1)
    assert HfApi().model_info(name)


def test_answers_of_another_status_are_used_up(hub: Hub, name: str):
    hub.repository("model", name, {"a.txt": b"a"})
    hub.faults.status(503, "/api/models", times=1)
    hub.faults.status(429, "/api/models", times=1, headers={"Retry-After": "1"})
    for status in ("503", "429"):
        with pytest.raises(HfHubHTTPError, match=status):
            HfApi().model_info(name)
    assert HfApi().model_info(name)


def test_a_download_is_repeated_after_a_cut(hub: Hub, name: str):
    hub.repository("model", name, {"a.bin": LARGE})
    hub.faults.cut("sig=read.*a.bin", after=100_000)
    assert Path(hf_hub_download(name, "a.bin")).read_bytes() == LARGE
    assert [request.sent for request in hub.requests if "sig" in request.query] == [100_000, len(LARGE)]


def test_a_slow_body_arrives_late(hub: Hub, name: str):
    hub.repository("model", name, {"a.txt": b"a" * 300})
    hub.faults.slow("/resolve/.*a.txt", bytes_per_s=1000)
    started = time.monotonic()
    assert get_session().get(hf_hub_url(name, "a.txt")).content == b"a" * 300
    assert time.monotonic() - started > 0.25
    with pytest.raises(httpx.ReadTimeout):
        get_session().get(hf_hub_url(name, "a.txt"), timeout=0.05)


@pytest.mark.parametrize("file", ["a.txt", "a.bin"])
def test_a_file_changes_between_two_requests(hub: Hub, name: str, file: str):
    hub.repository("model", name, {file: b"first"})
    url = hf_hub_url(name, file)
    before = get_hf_file_metadata(url)
    hub.faults.changes(f"/resolve/.*{file}", b"other")
    after = get_hf_file_metadata(url)
    assert (before.commit_hash, before.size, after.size) == (after.commit_hash, 5, 5)
    assert before.etag != after.etag
    assert get_session().get(url, follow_redirects=True).content == b"other"
    # The storage has ETags of its own.
    answer = get_session().get(url, headers={"If-Match": f'"{before.etag}"'}, follow_redirects=True)
    assert answer.status_code == 412


def test_a_damaged_body_has_another_checksum_than_its_etag(hub: Hub, name: str):
    hub.repository("model", name, {"a.bin": LARGE})
    hub.faults.corrupt("sig=read")
    got = get_session().get(hf_hub_url(name, "a.bin"), follow_redirects=True).content
    assert sum(a != b for a, b in zip(got, LARGE, strict=True)) == 1
    assert get_session().get(hf_hub_url(name, "a.bin"), follow_redirects=True).content == LARGE


def test_ranges_are_served_or_ignored(hub: Hub, name: str):
    hub.repository("model", name, {"a.txt": b"0123456789"})

    def part(wanted: str) -> tuple[int, bytes]:
        answer = get_session().get(hf_hub_url(name, "a.txt"), headers={"Range": wanted})
        return answer.status_code, answer.content

    assert part("bytes=2-4") == (206, b"234")
    assert part("bytes=-3") == (206, b"789")
    assert part("bytes=8-100") == (206, b"89")
    assert part("bytes=10-") == (416, b"")
    assert part("bytes=0-1,4-5") == (200, b"0123456789")
    hub.faults.ignores_ranges("a.txt")
    assert part("bytes=2-4") == (200, b"0123456789")


def test_a_text_may_come_compressed_and_whole(hub: Hub, name: str):
    hub.compresses = True
    hub.repository("model", name, {"a.txt": b"text " * 100, "a.bin": LARGE})
    url, headers = hf_hub_url(name, "a.txt"), {"Range": "bytes=0-3", "Accept-Encoding": "gzip"}
    with get_session().stream("GET", url, headers=headers) as answer:
        assert (answer.status_code, "Content-Length" in answer.headers) == (200, False)
        assert gzip.decompress(b"".join(answer.iter_raw())) == b"text " * 100
    assert get_session().get(url, headers=headers | {"Accept-Encoding": "identity"}).content == b"text"
    assert Path(hf_hub_download(name, "a.txt")).read_bytes() == b"text " * 100
