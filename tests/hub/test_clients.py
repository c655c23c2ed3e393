"""huggingface_hub as it is installed works with the Hub of the tests: reading, writing, revisions, repositories."""

from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationCopy,
    CommitOperationDelete,
    HfApi,
    HfFileSystem,
    hf_hub_download,
    snapshot_download,
)
from huggingface_hub.errors import HfHubHTTPError
from huggingface_hub.hf_api import RepoFile, RepoFolder

from tests.hub.hub import Hub

FILES = {"config.json": b"{}", "weights/model.safetensors": b"w" * 1000, "weights/notes.txt": b"text"}


@pytest.fixture
def api(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> HfApi:
    """A client of a user who may write."""
    monkeypatch.setenv("HF_TOKEN", hub.token("ada"))
    return HfApi()


def test_a_snapshot_is_downloaded_and_a_file_is_found_again_without_its_content(hub: Hub, name: str):
    repository = hub.repository("model", name, FILES)
    folder = Path(snapshot_download(name))
    assert {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()} == FILES
    assert folder.name == repository.head
    hub.requests.clear()
    hf_hub_download(name, "weights/model.safetensors")
    assert [request.method for request in hub.requests] == ["HEAD"]


def test_the_file_system_lists_and_reads_parts(hub: Hub, name: str):
    hub.repository("dataset", name, FILES)
    fs = HfFileSystem()
    assert sorted(fs.find(f"datasets/{name}")) == sorted(f"datasets/{name}/{path}" for path in FILES)
    with fs.open(f"datasets/{name}/weights/model.safetensors", block_size=100) as stream:
        stream.seek(990)
        assert stream.read() == b"w" * 10
    assert max(request.sent for request in hub.requests if request.path.count("/") == 1) < 1000


@pytest.mark.parametrize("page", [1000, 2])
def test_a_tree_has_pages_and_the_ids_that_git_gives(api: HfApi, hub: Hub, name: str, page: int, tmp_path: Path):
    hub.page = page
    repository = hub.repository("dataset", name, {"a.txt": b"a", "a/b/c.txt": b"c", "a/b.txt": b"b", "z.txt": b"z"})
    found = {each.path: each for each in api.list_repo_tree(name, repo_type="dataset", recursive=True)}
    assert list(found) == ["a", "a.txt", "a/b", "a/b.txt", "a/b/c.txt", "z.txt"]
    assert len(hub.seen("/tree/")) == (1 if page == 1000 else 3)
    for path, content in repository.files().items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    for command in ("init -q", "add .", "-c user.name=a -c user.email=a@b commit -qm a"):
        subprocess.run(["git", *command.split()], cwd=tmp_path, check=True)
    command = ["git", "ls-tree", "-rt", "--format=%(path) %(objectname)", "HEAD"]
    lines = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.splitlines()
    ids = {
        path: each.blob_id if isinstance(each, RepoFile) else each.tree_id
        for path, each in found.items()
        if isinstance(each, RepoFile | RepoFolder)
    }
    assert ids == dict(line.split(" ") for line in lines)


def test_the_last_commit_of_each_entry_is_told_on_request(api: HfApi, hub: Hub, name: str):
    repository = hub.repository("dataset", name, {"a/b.txt": b"b", "c.txt": b"c"})
    repository.commit({"c.txt": b"new"}, "second")
    found = {each.path: each.last_commit for each in api.list_repo_tree(name, repo_type="dataset", expand=True)}
    assert {path: commit.title for path, commit in found.items() if commit} == {"a": "first files", "c.txt": "second"}


def test_paths_are_looked_up_and_missing_ones_left_out(api: HfApi, hub: Hub, name: str):
    hub.repository("model", name, FILES)
    found = api.get_paths_info(name, ["weights", "config.json", "none.txt"])
    assert [(each.path, type(each)) for each in found] == [("weights", RepoFolder), ("config.json", RepoFile)]


def test_a_folder_is_uploaded_and_a_second_time_sends_nothing(api: HfApi, hub: Hub, name: str, tmp_path: Path):
    for path, content in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes(content)
    api.create_repo(name)
    commit = api.upload_folder(repo_id=name, folder_path=tmp_path, commit_message="all")
    repository = hub.repositories["model", name]
    assert repository.head == commit.oid
    assert {path: content for path, content in repository.files().items() if path != ".gitattributes"} == FILES
    assert len(hub.seen("PUT ")) == 1
    hub.requests.clear()
    assert api.upload_folder(repo_id=name, folder_path=tmp_path).oid == commit.oid
    assert hub.seen("PUT |/commit/") == []


@pytest.mark.parametrize("way", ["lfs", "regular"])
def test_operations_of_one_commit_are_made_together(api: HfApi, hub: Hub, name: str, way: str):
    hub.lfs = way  # type: ignore[assignment]
    repository = hub.repository("dataset", name, {"a.txt": b"a", "old/b.txt": b"b", "old/c.txt": b"c", "d.bin": b"d"})
    operations = [
        CommitOperationAdd("new.parquet", b"PAR1"),
        CommitOperationDelete("a.txt"),
        CommitOperationDelete("old/", is_folder=True),
        CommitOperationCopy("d.bin", "e.bin"),
    ]
    commit = api.create_commit(name, operations, commit_message="all", commit_description="why", repo_type="dataset")
    assert repository.files() == {"new.parquet": b"PAR1", "d.bin": b"d", "e.bin": b"d"}
    assert repository.commits[commit.oid].files["new.parquet"].lfs == (way == "lfs")
    assert (len(hub.seen("PUT ")) == 1) == (way == "lfs")
    assert [(each.title, each.message, each.authors) for each in api.list_repo_commits(name, repo_type="dataset")] == [
        ("all", "why", ["ada"]),
        ("first files", "", ["tests"]),
        ("initial commit", "", ["tests"]),
    ]


def test_files_of_another_repository_are_copied_without_their_content(api: HfApi, hub: Hub, name: str, tmp_path: Path):
    hub.xet = tmp_path
    hub.repository("model", f"{name}-from", {"a.safetensors": b"a" * 1000})
    target = hub.repository("model", f"{name}-to")
    copy = CommitOperationCopy("a.safetensors", "b.safetensors", src_repo_id=f"{name}-from", src_repo_type="model")
    api.create_commit(f"{name}-to", [copy], commit_message="copy")
    assert target.files() == {"b.safetensors": b"a" * 1000}


def test_of_two_commits_on_one_parent_the_second_fails(api: HfApi, hub: Hub, name: str):
    repository = hub.repository("model", name)
    head = repository.head
    first, second = CommitOperationAdd("file.txt", b"first"), CommitOperationAdd("file.txt", b"second")
    api.create_commit(name, [first], commit_message="add", parent_commit=head)
    with pytest.raises(HfHubHTTPError, match="412"):
        api.create_commit(name, [second], commit_message="add", parent_commit=head)
    assert repository.files() == {"file.txt": b"first"}
    hub.ignores_parent = True
    api.create_commit(name, [second], commit_message="add", parent_commit=head)
    assert repository.files() == {"file.txt": b"second"}


def test_of_many_commits_at_once_on_one_parent_one_succeeds(api: HfApi, hub: Hub, name: str):
    repository = hub.repository("model", name)
    head = repository.head

    def add(number: int) -> int:
        operation = CommitOperationAdd("file.txt", f"{number}".encode())
        try:
            api.create_commit(name, [operation], commit_message="add", parent_commit=head)
        except HfHubHTTPError as error:
            return error.response.status_code
        return 200

    with ThreadPoolExecutor(8) as threads:
        done = list(threads.map(add, range(16)))
    assert repository.files() == {"file.txt": f"{done.index(200)}".encode()}
    assert sorted(done) == [200, *[412] * 15]


def test_tags_and_branches_are_made_listed_and_deleted(api: HfApi, hub: Hub, name: str):
    repository = hub.repository("model", name, {"a.txt": b"first"})
    api.create_tag(name, tag="v1")
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_tag(name, tag="v1")
    repository.commit({"a.txt": b"second"})
    # An existing tag stays where it is.
    api.create_tag(name, tag="v1", exist_ok=True)
    api.create_branch(name, branch="side/way", revision="v1")
    api.upload_file(path_or_fileobj=b"side", path_in_repo="b.txt", repo_id=name, revision="side/way")
    found = api.list_repo_refs(name, include_pull_requests=True)
    assert [(each.name, each.target_commit) for each in found.tags] == [("v1", repository.tags["v1"])]
    assert {each.name for each in found.branches} == {"main", "side/way"}
    assert Path(hf_hub_download(name, "a.txt", revision="v1")).read_bytes() == b"first"
    assert Path(hf_hub_download(name, "b.txt", revision="side/way")).read_bytes() == b"side"
    api.delete_tag(name, tag="v1")
    api.delete_branch(name, branch="side/way")
    assert (repository.tags, list(repository.branches)) == ({}, ["main"])


def test_repositories_are_made_set_moved_squashed_and_deleted(api: HfApi, hub: Hub, name: str):
    api.create_repo(name, private=True)
    with pytest.raises(HfHubHTTPError, match="409"):
        api.create_repo(name)
    assert api.create_repo(name, exist_ok=True).repo_id == name
    api.update_repo_settings(name, visibility="public", gated="auto")
    assert (api.model_info(name).private, bool(api.model_info(name).gated)) == (False, True)
    api.move_repo(name, f"{name}-new")
    assert api.model_info(name).id == f"{name}-new"
    assert [each.id for each in api.list_models(author="org", search=name)] == [f"{name}-new"]
    api.super_squash_history(f"{name}-new")
    assert len(api.list_repo_commits(f"{name}-new")) == 1
    api.delete_repo(f"{name}-new")
    assert not api.repo_exists(f"{name}-new")
