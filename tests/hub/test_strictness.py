"""What the Hub refuses of a client that speaks its HTTP carelessly."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from huggingface_hub import HfApi
from huggingface_hub.utils import get_session

from tests.hub.hub import Hub

HEADER = {"key": "header", "value": {"summary": "a commit"}}
NDJSON = "application/x-ndjson"


def file(path: str, sent: bytes = b"text", /, **other: Any) -> dict[str, Any]:
    value = {"path": path, "content": base64.b64encode(sent).decode(), "encoding": "base64"}
    return {"key": "file", "value": value | other}


def lfs(path: str, content: bytes, **other: Any) -> dict[str, Any]:
    value = {"path": path, "algo": "sha256", "oid": hashlib.sha256(content).hexdigest(), "size": len(content)}
    return {"key": "lfsFile", "value": value | other}


def send(hub: Hub, path: str, content: bytes, kind: str, token: str | None = None) -> tuple[int, str]:
    """Status and message of the answer."""
    authorization = {"Authorization": f"Bearer {token or hub.token('ada')}"}
    headers = {"Content-Type": kind} | (authorization if token != "" else {})
    answer = get_session().post(hub.endpoint + path, content=content, headers=headers)
    return answer.status_code, answer.headers.get("X-Error-Message", "")


def commit(hub: Hub, name: str, *lines: dict[str, Any], kind: str = NDJSON) -> tuple[int, str]:
    content = "\n".join(json.dumps(line) for line in lines).encode()
    return send(hub, f"/api/models/{name}/commit/main", content, kind)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([file("a.txt")], "its header"),
        ([{"key": "header", "value": {"summary": ""}}, file("a.txt")], "with a summary"),
        ([{"key": "header", "value": {"summary": "a", "parentCommit": "main"}}], "not the id of a commit"),
        ([HEADER, file("a.txt", content="text!")], "not base64"),
        ([HEADER, file("a.txt", encoding="utf-8")], "not base64"),
        ([HEADER, file("/a.txt")], "not a path"),
        ([HEADER, file("a/../b.txt")], "not a path"),
        ([HEADER, file(".git/config")], "not a path"),
        ([HEADER, file("known.txt/a.txt")], "is a file"),
        ([HEADER, file("a.parquet")], "git-lfs"),
        ([HEADER, file("a.dat", b"a\0b")], "git-lfs"),
        ([HEADER, file("a.txt", b"a" * (11 << 20))], "git-lfs"),
        ([HEADER, lfs("a.parquet", b"never uploaded")], "no object"),
        ([HEADER, lfs("a.parquet", b"of this one", size=5)], "no object"),
        ([HEADER, lfs("a.parquet", b"of another repository")], "no object"),
        ([HEADER, lfs("a.parquet", b"of this one", algo="md5")], "SHA-256"),
        ([HEADER, {"key": "deletedFile", "value": {"path": "none.txt"}}], "does not exist"),
        ([HEADER, {"key": "deletedFolder", "value": {"path": "known"}}], "does not exist"),
        ([HEADER, {"key": "renamedFile", "value": {"path": "a.txt"}}], "no operation"),
        ([HEADER, file("README.md", b"---\nlicense: none\n---\n")], "license"),
        ([HEADER, file("README.md", b"---\na: [\n---\n")], "YAML"),
    ],
)
def test_a_commit_that_is_malformed_changes_nothing(hub: Hub, name: str, lines: list[dict[str, Any]], said: str):
    hub.repository("model", f"{name}-other", {"a.parquet": b"of another repository"})
    repository = hub.repository("model", name, {"known.txt": b"text", "x.parquet": b"of this one"})
    head = repository.head
    status, message = commit(hub, name, *lines, *([file("fine.txt")] if lines[0] == HEADER else []))
    assert (status in (400, 404), repository.head) == (True, head)
    assert said in message


def test_a_commit_is_declared_and_sent_line_by_line(hub: Hub, name: str):
    hub.repository("model", name)
    assert commit(hub, name, HEADER, file("a.txt"), kind="application/json")[0] == 400
    assert send(hub, f"/api/models/{name}/commit/main", b'{"key": "header"', NDJSON)[0] == 400
    assert send(hub, f"/api/models/{name}/commit/none", json.dumps(HEADER).encode(), NDJSON)[0] == 404
    assert send(hub, f"/api/models/{name}/commit/main", json.dumps(HEADER).encode(), NDJSON, token="")[0] == 401
    assert commit(hub, name, HEADER, file("a.txt"))[0] == 200


def test_json_is_declared_as_json(hub: Hub, name: str):
    hub.repository("model", name)
    tag = json.dumps({"tag": "v1"}).encode()
    assert send(hub, f"/api/models/{name}/tag/main", tag, "text/plain")[0] == 415
    assert send(hub, f"/api/models/{name}/tag/main", b"{", "application/json")[0] == 400
    assert send(hub, f"/api/models/{name}/tag/main", tag, "application/json")[0] == 200


def test_an_upload_has_the_hash_and_size_that_were_stated_and_no_token(hub: Hub, name: str):
    hub.repository("model", name)
    content, token = b"content", hub.token("ada")
    oid = hashlib.sha256(content).hexdigest()
    sent = {"operation": "upload", "transfers": ["basic"], "objects": [{"oid": oid, "size": 7}], "hash_algo": "sha256"}
    headers = {"Authorization": f"Bearer {token}"}
    url = f"{hub.endpoint}/{name}.git/info/lfs/objects/batch"
    assert get_session().post(url, json=sent, headers=headers).status_code == 406
    headers["Accept"] = "application/vnd.git-lfs+json"
    actions = get_session().post(url, json=sent, headers=headers).json()["objects"][0]["actions"]
    target = actions["upload"]["href"]
    assert not target.startswith(hub.endpoint)
    assert get_session().put(target, content=b"another").status_code == 400
    assert get_session().put(target, content=content, headers={"Authorization": "Bearer a"}).status_code == 400
    assert get_session().put(target, content=iter([content])).status_code == 501
    assert get_session().put(target.split("?")[0], content=content).status_code == 400
    assert commit(hub, name, HEADER, lfs("a.bin", content))[0] == 400
    assert get_session().put(target, content=content).status_code == 200
    verify = {"oid": oid, "size": 7}
    assert get_session().post(actions["verify"]["href"], json=verify).status_code == 401
    assert get_session().post(actions["verify"]["href"], json=verify, headers=headers).status_code == 200
    assert commit(hub, name, HEADER, lfs("a.bin", content))[0] == 200


@pytest.mark.parametrize(
    ("kind", "metadata", "said"),
    [
        ("model", "license: mine", "license"),
        ("model", "language: English", "language"),
        ("dataset", "language: no", "language"),
        ("model", "base_model: /home/ada/model", "base_model"),
        ("model", "base_model_relation: lora", "base_model_relation"),
        ("model", "tags: [1]", "tags"),
        ("model", "model-index:\n- name: a\n  results:\n  - task: {type: a}\n    metrics: [{type: f1}]", "dataset"),
        ("dataset", "size_categories: 5", "size_categories"),
        ("dataset", "configs:\n- data_files: a.parquet", "config_name"),
    ],
)
def test_a_card_whose_metadata_is_wrong_is_refused_before_the_upload(
    hub: Hub, name: str, monkeypatch: pytest.MonkeyPatch, kind: Any, metadata: str, said: str
):
    monkeypatch.setenv("HF_TOKEN", hub.token("ada"))
    hub.repository(kind, name)
    readme = f"---\n{metadata}\n---\n# Card\n".encode()
    with pytest.raises(ValueError, match=f"Invalid metadata in README.md(.|\n)*{said}"):
        HfApi().upload_file(path_or_fileobj=readme, path_in_repo="README.md", repo_id=name, repo_type=kind)
    assert hub.seen("preupload|/commit/") == []
