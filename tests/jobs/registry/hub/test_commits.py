"""A registry on the Hub: what a commit is, and writers at the same moment."""

from __future__ import annotations

import pytest

from jobs import cli
from jobs.registry import Registry
from jobs.store.hub import HubStore
from tests.jobs.registry.hub.commits import COMMIT, titles, together
from transforms.errors import SpecError

pytestmark = pytest.mark.usefixtures("settings_of_the_process")


def test_a_version_is_one_commit_and_a_move_of_the_champion_another(hub, name, registry, add):
    one = add(registry, "one")
    registry.promote(one, "ada", "first")
    repository = hub.repositories["model", name]
    assert repository.private
    commits = titles(hub, name)
    assert commits[-2:] == [f"add version {one}", f"promote {one}"]
    files = repository.files()
    assert {"champion.json", "history/000001.json", "README.md"} <= set(files)
    assert files["champion.json"] == files["history/000001.json"]
    assert f"`@{one}` is this version for good" in files["README.md"].decode()
    assert repository.branches == {"main": repository.head}
    add(registry, "one")
    assert titles(hub, name) == commits


def test_what_a_person_wrote_in_the_model_card_stays(hub, name, registry, add):
    one, two = add(registry, "one"), add(registry, "two")
    registry.promote(one, "ada", "first")
    repository = hub.repositories["model", name]
    card = repository.files()["README.md"].decode().replace("---\n", "---\nlicense: mit\n", 1)
    repository.commit({"README.md": f"{card}\nAsk ada before you use it.\n".encode()})
    registry.promote(two, "ada", "better")
    card = repository.files()["README.md"].decode()
    assert card.startswith("---\nlicense: mit\n")
    assert card.endswith("\nAsk ada before you use it.\n")
    assert f"## The champion, {two}" in card
    assert f"## The champion, {one}" not in card


def test_of_two_moves_at_the_same_moment_one_succeeds(hub, name, registry, add):
    one, *others = (add(registry, content) for content in ("one", "two", "three", "four"))
    registry.promote(one, "ada", "first")
    own = [Registry(registry.url) for _ in others]
    raised = together(
        *(
            lambda held=held, other=other: held.promote(other, "gate", "better", expected=one)
            for held, other in zip(own, others, strict=True)
        )
    )
    lost = [error for error in raised if error is not None]
    assert len(lost) == 2
    assert all("decide again" in str(error) for error in lost)
    assert registry.champion().version == others[raised.index(None)]
    assert [move.number for move in registry.history()] == [1, 2]


def test_writers_of_other_files_only_cost_another_attempt(hub, name, registry):
    stores = [HubStore(registry.url, "registry") for _ in range(5)]
    registry.store.put("gate/ring.json", b"{}")
    hub.faults.status(412, COMMIT)
    assert (
        together(*(lambda i=i, each=each: each.put(f"gate/{i}.json", b"{}") for i, each in enumerate(stores)))
        == [None] * 5
    )
    assert registry.store.names("gate") == [*(f"gate/{i}.json" for i in range(5)), "gate/ring.json"]


def test_a_commit_whose_answer_is_lost_is_not_made_twice(hub, name, registry, add):
    one, two = add(registry, "one"), add(registry, "two")
    hub.faults.cut(COMMIT, after=0)
    registry.promote(one, "ada", "first")
    hub.faults.status(503, COMMIT)
    registry.promote(two, "ada", "better")
    assert [move.version for move in registry.history()] == [one, two]
    assert titles(hub, name)[-2:] == [f"promote {one}", f"promote {two}"]


def test_a_copy_that_was_killed_continues_and_uploads_nothing_twice(hub, name, registry, add, tmp_path, capsys):
    source = Registry(str(tmp_path / "registry"))
    one = add(source, "one")
    push = ["adapters", "push", source.url, one, "--to", registry.url, "--promote", "--by", "ada"]
    hub.faults.status(403, COMMIT)
    assert cli.main(push) == 2
    assert "the token may not do this" in capsys.readouterr().err
    with pytest.raises(SpecError, match=r"is no registry: .* set HF_TOKEN to a token that may see it"):
        registry.named(one)
    assert cli.main(push) == 0
    assert cli.main(push) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{one}: copied to {registry.url}, 3 files",
        f"champion: {one}, before: none",
        f"{one}: is in {registry.url}",
        f"champion: {one}, as before",
    ]
    sent = [request for request in hub.requests if request.method == "PUT"]
    assert len(sent) == 1
    assert registry.version(one).to_json() == source.version(one).to_json()
    back = Registry(str(tmp_path / "back"))
    assert cli.main(["adapters", "pull", back.url, "--from", registry.url]) == 0
    assert back.version(one).to_json() == source.version(one).to_json()
    assert (back.folder(one) / "adapter_model.safetensors").read_text() == "one"


def test_a_hub_that_ignores_the_parent_of_a_commit_is_refused(hub, name, registry, add):
    hub.ignores_parent = True
    with pytest.raises(SpecError, match="makes a commit although its parent is not the newest one"):
        add(registry, "one")
    assert ("model", name) not in hub.repositories
    repository = hub.repository("model", name, {"a.txt": b"a"})
    before = repository.head
    with pytest.raises(SpecError, match=r"use a local folder, s3:// or abfs://"):
        registry.store.put("gate/ring.json", b"{}")
    assert (repository.head, list(repository.branches)) == (before, ["main"])


def test_who_may_not_write_or_read_is_told_what_to_do(hub, name, registry, add, monkeypatch):
    one = add(registry, "one")
    monkeypatch.setenv("HF_TOKEN", reading := hub.token("ada", write=False))
    with pytest.raises(SpecError, match=f"registry 'hf://{name}' cannot be used: the token may not do this") as caught:
        registry.promote(one, "ada", "first")
    assert reading not in str(caught.value)
    monkeypatch.setenv("HF_TOKEN", hub.token("bob", organizations=()))
    with pytest.raises(SpecError, match="set HF_TOKEN to a token that may see it if it is private"):
        Registry(registry.url).named("champion")
    monkeypatch.delenv("HF_TOKEN")
    with pytest.raises(SpecError, match=r"needs a token; set HF_TOKEN, or log in with `hf auth login`"):
        add(Registry(f"hf://{name}-other"), "one")
