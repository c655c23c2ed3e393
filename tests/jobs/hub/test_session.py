"""The client of the Hub: what can pass is repeated, what cannot ends in one sentence, and the limits are kept."""

from __future__ import annotations

import errno
import socket
import subprocess
import sys
import time
import uuid

import pytest
from huggingface_hub import CommitOperationAdd, HfApi, hf_hub_download
from huggingface_hub.utils import httpx

from jobs import secrets
from jobs.hub import complaint, session
from tests.hub.local import Hub
from transforms.errors import SpecError

MANY = """
from concurrent.futures import ThreadPoolExecutor
from jobs.hub import session
api = session.api()
with ThreadPoolExecutor(8) as threads:
    list(threads.map(lambda _: api.model_info("org/limited"), range(30)))
"""


@pytest.fixture
def name() -> str:
    return f"org/{uuid.uuid4().hex[:12]}"


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_reading_request_is_repeated_after_an_error_that_can_pass(hub: Hub, name: str, status: int):
    hub.repository("model", name, {"a.txt": b"a"})
    hub.faults.status(status, "GET /api/models", times=2)
    assert session.api().model_info(name).sha == hub.repositories["model", name].head


def test_retry_after_is_waited_for(hub: Hub, name: str):
    hub.repository("model", name)
    hub.faults.status(429, "GET /api/models", headers={"Retry-After": "1"})
    started = time.monotonic()
    session.api().model_info(name)
    assert time.monotonic() - started >= 1


def test_a_commit_is_not_sent_again_if_the_hub_may_have_made_it(hub: Hub, name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", hub.token("ada"))
    hub.repository("model", name)
    add = CommitOperationAdd("a.txt", b"a")
    hub.faults.status(503, "POST .*/commit/", times=1)
    with pytest.raises(httpx.HTTPError):
        session.api().create_commit(name, [add], commit_message="add")
    assert len(hub.seen("POST .*/commit/")) == 1
    hub.faults.status(429, "POST .*/commit/", times=1)
    session.api().create_commit(name, [add], commit_message="add")
    assert hub.repositories["model", name].files() == {"a.txt": b"a"}


def test_processes_of_a_machine_share_the_budget_that_the_hub_states(hub: Hub, tmp_path):
    hub.repository("model", "org/limited")
    hub.limit(40, window_s=3)
    session.api().model_info("org/limited")
    processes = [subprocess.Popen([sys.executable, "-c", MANY]) for _ in range(3)]
    assert [each.wait(60) for each in processes] == [0, 0, 0]
    assert [each.status for each in hub.requests if each.status != 200] == []
    assert len(hub.requests) >= 91


def test_requests_and_bytes_are_counted_once(hub: Hub, name: str):
    hub.repository("model", name, {"weights.bin": b"w" * 5000})
    session.taken()
    hf_hub_download(name, "weights.bin")
    counted = session.taken()
    assert counted.requests == len(hub.requests)
    assert 5000 <= counted.received < 6000
    assert session.taken() == session.Counted()


def sentence(call: object, name: str) -> str:
    try:
        call()  # type: ignore[operator]
    except complaint.HUB_ERRORS as error:
        return complaint.explain(error, name)
    raise AssertionError("nothing was raised")


def test_each_kind_of_error_ends_in_a_sentence_that_says_what_to_do(
    hub: Hub, name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv(session.PATIENCE, "0")
    api = session.api()
    hub.repository("model", name, {"a.txt": b"a"})
    hub.repository("model", f"{name}-gated", {"a.txt": b"a"}, gated=True)
    hub.repository("model", f"{name}-private", {"a.txt": b"a"}, private=True)
    said = {
        "gone": sentence(lambda: api.model_info(f"{name}-gone"), name),
        "private": sentence(lambda: api.model_info(f"{name}-private"), name),
        "revision": sentence(lambda: api.model_info(name, revision="v9"), name),
        "file": sentence(lambda: hf_hub_download(name, "b.txt"), name),
        "gated": sentence(lambda: hf_hub_download(f"{name}-gated", "a.txt"), f"{name}-gated"),
    }
    token = hub.token("ada", write=False)
    monkeypatch.setenv("HF_TOKEN", token)
    said["read only"] = sentence(lambda: api.create_repo(f"{name}-new"), name)
    hub.users[token].expired = True
    said["expired"] = sentence(lambda: api.whoami(), name)
    monkeypatch.delenv("HF_TOKEN")
    for status, key in ((500, "broken"), (429, "limited")):
        fault = hub.faults.status(status, "GET /api/models", times=None, body=b"<html>a page of a proxy</html>")
        said[key] = sentence(lambda: api.model_info(name), name)
        hub.faults.rules.remove(fault)
    hub.faults.status(200, "HEAD /.*/other.txt", times=None)
    said["proxy"] = sentence(lambda: hf_hub_download(name, "other.txt"), name)
    said["disk"] = complaint.explain(OSError(errno.ENOSPC, "No space left on device"), name)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    said["offline"] = sentence(lambda: api.model_info(name), name)
    wanted = {
        "gone": "does not have it, or it is private; check the name, or set HF_TOKEN",
        "private": "does not have it, or it is private; check the name, or set HF_TOKEN",
        "revision": f"it has no such revision; {hub.endpoint}/{name} lists",
        "file": f"a file of it is not there; {hub.endpoint}/{name} shows",
        "gated": f"it is gated; ask for access on {hub.endpoint}/{name}-gated",
        "read only": "the token may not do this",
        "expired": "does not accept the token; set HF_TOKEN to a valid one",
        "broken": "fails (HTTP 500); run again later",
        "limited": "takes no more requests for now; run again later",
        "proxy": "does not say which file it sends; check HF_ENDPOINT, and the proxy in between",
        "disk": "the disk is full",
        "offline": "HF_HUB_OFFLINE is set; run once without",
    }
    for key, text in wanted.items():
        assert text in said[key], (key, said[key])
        assert "<html" not in said[key]
        assert token not in said[key]


def test_a_hub_that_cannot_be_reached_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(session.PATIENCE, "0")
    said = sentence(lambda: HfApi(endpoint="http://127.0.0.1:9").model_info("org/name"), "org/name")
    assert "cannot be reached; check the network and HF_ENDPOINT" in said


def test_tokens_are_taken_out_of_texts(hub: Hub):
    token = hub.token("ada")
    assert secrets.redacted(f"Bearer {token}!") == "Bearer hf_***!"
    assert secrets.redacted("hf_hub_download failed") == "hf_hub_download failed"


def test_a_token_of_another_form_is_taken_out_of_texts_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "AKCp8-own-form")
    assert secrets.redacted("https://ada:word@host/x?sig=1 AKCp8-own-form") == "https://***@host/x?*** ***"


def test_a_hub_that_says_nothing_is_not_waited_for_without_an_end(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(session.PATIENCE, "0")
    monkeypatch.setattr(session, "READING_TIMEOUT", httpx.Timeout(0.2))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        api = HfApi(endpoint=f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert "does not answer in time; run again later" in sentence(lambda: api.model_info("org/name"), "org/name")


def test_the_page_of_a_proxy_is_not_taken_for_an_answer(hub: Hub, name: str):
    hub.faults.status(200, "GET /api/models", headers={"Content-Type": "text/html"}, body=b"<html>Sign in</html>")
    said = sentence(lambda: session.api().model_info(name), name)
    assert said.startswith(f"{hub.endpoint} sends something else than a Hub does; check HF_ENDPOINT")


def test_a_hub_that_was_given_up_is_not_waited_for_again_until_it_answers(
    hub: Hub, name: str, monkeypatch: pytest.MonkeyPatch
):
    hub.repository("model", name)
    api = session.api()
    monkeypatch.setenv(session.PATIENCE, "0.6")
    fault = hub.faults.status(503, "GET /api/models", times=None)
    sentence(lambda: api.model_info(name), name)
    assert len(hub.requests) == 2
    sentence(lambda: api.model_info(name), name)
    assert len(hub.requests) == 3
    hub.faults.rules.remove(fault)
    api.model_info(name)
    hub.faults.status(503, "GET /api/models", times=1)
    api.model_info(name)
    assert len(hub.requests) == 6


def test_a_password_in_the_endpoint_is_refused_before_anything_is_sent(hub: Hub, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.endpoint.replace("://", "://ada:secret@"))
    with pytest.raises(SpecError, match="HF_ENDPOINT has a user or a password in it") as caught:
        session.api().model_info("org/name")
    assert "secret" not in str(caught.value)
    assert not hub.requests


@pytest.mark.parametrize("stated", ["soon", "-1", "inf"])
def test_a_patience_that_is_no_number_of_seconds_is_refused(monkeypatch: pytest.MonkeyPatch, stated: str):
    monkeypatch.setenv(session.PATIENCE, stated)
    with pytest.raises(SpecError, match="; set it to a number of seconds"):
        session.patience_s()


def raised(error: Exception, cause: Exception) -> Exception:
    """An error as a library raises it while it handles another one."""
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (httpx.ProxyError("403 Forbidden"), "refuses it; check HTTPS_PROXY"),
        (httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed"), "set SSL_CERT_FILE to"),
        (raised(RuntimeError("Error while uploading 'a.bin'"), httpx.ReadError("reset")), "breaks off; run again"),
        (RuntimeError("CAS Client Error: hf_abcdefghijklmnopqrstuv"), "by Xet fails (CAS Client Error: hf_***); run"),
        (
            raised(ConnectionError("Couldn't reach 'org/name' on the Hub"), httpx.ConnectError("refused")),
            "check the net",
        ),
    ],
)
def test_errors_that_need_another_network_or_xet_are_explained(
    monkeypatch: pytest.MonkeyPatch, error: Exception, text: str
):
    """Made here, because neither a proxy, nor another authority, nor a broken store of Xet is at hand."""
    monkeypatch.setattr(complaint, "is_xet_available", lambda: True)
    assert isinstance(error, complaint.HUB_ERRORS)
    assert text in complaint.explain(error, "org/name")
