"""Who is refused, with the errors of the clients' own."""

from __future__ import annotations

import pytest
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from tests.hub.hub import Hub

FILES = {"config.json": b"{}", "model.safetensors": b"w"}


def as_user(hub: Hub, monkeypatch: pytest.MonkeyPatch, **rights: object) -> HfApi:
    monkeypatch.setenv("HF_TOKEN", hub.token("bob", **rights))  # type: ignore[arg-type]
    return HfApi()


@pytest.mark.parametrize("user", ["nobody", "outsider"])
def test_a_gated_repository_shows_its_listing_and_no_file(
    hub: Hub, name: str, monkeypatch: pytest.MonkeyPatch, user: str
):
    repository = hub.repository("model", name, FILES, gated=True)
    api = HfApi() if user == "nobody" else as_user(hub, monkeypatch, organizations=())
    assert api.model_info(name).gated == "manual"
    assert api.list_repo_files(name) == list(FILES)
    for file in FILES:
        with pytest.raises(GatedRepoError, match="401" if user == "nobody" else "403"):
            hf_hub_download(name, file)
    with pytest.raises(GatedRepoError):
        api.auth_check(name)
    hub.hides_gated = True
    with pytest.raises(GatedRepoError):
        list(api.list_repo_tree(name))
    if user == "outsider":
        repository.granted.add("bob")
        api.auth_check(name)
        assert hf_hub_download(name, "config.json")


@pytest.mark.parametrize("user", ["nobody", "outsider"])
def test_a_private_repository_is_as_if_it_were_not_there(
    hub: Hub, name: str, monkeypatch: pytest.MonkeyPatch, user: str
):
    hub.repository("model", name, FILES, private=True)
    api = HfApi() if user == "nobody" else as_user(hub, monkeypatch, organizations=())
    for there in (name, f"{name}-none"):
        for asked in (api.model_info, api.list_repo_refs, api.auth_check):
            with pytest.raises(RepositoryNotFoundError, match="401" if user == "nobody" else "404"):
                asked(there)
        with pytest.raises(RepositoryNotFoundError):
            hf_hub_download(there, "config.json")
    assert list(api.list_models(author="org", search=name)) == []
    assert as_user(hub, monkeypatch, organizations=("org",)).model_info(name).private


def test_what_is_missing_is_named_by_the_kind_of_error(hub: Hub, name: str):
    hub.repository("model", name, FILES)
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download(name, "config.json", revision="none")
    with pytest.raises(RevisionNotFoundError):
        HfApi().model_info(name, revision="0" * 40)
    with pytest.raises(EntryNotFoundError) as caught:
        hf_hub_download(name, "none.json")
    assert caught.value.response.headers["X-Repo-Commit"] == hub.repositories["model", name].head  # type: ignore[attr-defined]
    with pytest.raises(EntryNotFoundError):
        list(HfApi().list_repo_tree(name, "none"))


def test_without_error_codes_a_client_knows_less(hub: Hub, name: str):
    hub.states_codes = False
    with pytest.raises(HfHubHTTPError, match="401") as caught:
        HfApi().model_info(name)
    assert not isinstance(caught.value, RepositoryNotFoundError)


def test_a_short_commit_id_is_no_revision(hub: Hub, name: str):
    repository = hub.repository("model", name, FILES)
    with pytest.raises(RevisionNotFoundError):
        hf_hub_download(name, "config.json", revision=repository.head[:8])


@pytest.mark.parametrize(
    ("rights", "status"), [({"write": False}, 403), ({"organizations": ("other",)}, 403), (None, 401)]
)
def test_only_members_with_a_token_for_writing_write(
    hub: Hub, name: str, monkeypatch: pytest.MonkeyPatch, rights: dict[str, object] | None, status: int
):
    repository = hub.repository("model", name, FILES)
    head, api = repository.head, as_user(hub, monkeypatch, **rights) if rights else HfApi()
    for write in (
        lambda: api.upload_file(path_or_fileobj=b"a", path_in_repo="a.txt", repo_id=name),
        lambda: api.create_repo(f"{name}-new"),
        lambda: api.create_tag(name, tag="v1"),
        lambda: api.delete_repo(name),
    ):
        with pytest.raises(HfHubHTTPError, match=str(status)):
            write()
    assert (repository.head, repository.tags, list(hub.repositories)) == (head, {}, [("model", name)])


def test_an_expired_or_unknown_token_is_refused_even_where_none_is_needed(
    hub: Hub, name: str, monkeypatch: pytest.MonkeyPatch
):
    hub.repository("model", name, FILES)
    api = as_user(hub, monkeypatch)
    assert api.whoami()["name"] == "bob"
    hub.faults.expired(hub.token("bob"))
    assert api.model_info(name)
    for token in hub.users:
        hub.faults.expired(token)
    for asked in (api.whoami, lambda: api.model_info(name)):
        with pytest.raises(HfHubHTTPError, match=r"Invalid (credentials|user token)") as caught:
            asked()
        assert not isinstance(caught.value, RepositoryNotFoundError)
    with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
        HfApi(token="hf_" + "x" * 34).model_info(name)
