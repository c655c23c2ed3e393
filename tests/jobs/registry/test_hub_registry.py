"""A registry in a repository of the Hub: commits, lost races and answers, killed copies, refused Hubs, offline."""

from __future__ import annotations

import json
import threading
import uuid

import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import constants

from jobs import cli
from jobs.registry import Registry
from jobs.retraining import round as rounds
from jobs.store import lease
from jobs.store.hub import HubStore
from jobs.training import spec as training
from tests import lake
from tests.hub.local import Hub
from tests.jobs.registry import versions
from tests.jobs.training import made
from transforms.errors import ModelError, RunError, SinkBusy, SinkError, SpecError

pytestmark = pytest.mark.usefixtures("settings_of_the_process")

COMMIT = "POST .*/commit/main"


@pytest.fixture
def name() -> str:
    return f"org/{uuid.uuid4().hex}"


@pytest.fixture(autouse=True)
def token(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> str:
    found = hub.token("ada")
    monkeypatch.setenv("HF_TOKEN", found)
    return found


@pytest.fixture
def registry(name: str) -> Registry:
    return Registry(f"hf://{name}")


@pytest.fixture
def add(tmp_path):
    def add(registry, content):
        folder = tmp_path / f"adapter-{content}"
        folder.mkdir(exist_ok=True)
        (folder / "adapter_model.safetensors").write_text(content)
        (folder / "adapter_config.json").write_text("{}")
        return registry.add(folder, versions.about(created=f"2026-01-01T00:00:00 {content}")).version

    return add


def titles(hub: Hub, name: str) -> list[str]:
    """Of all commits, oldest first."""
    return [each.title for each in reversed(hub.repositories["model", name].history("main"))]


def together(*calls) -> list[Exception | None]:
    """Run calls in threads that begin at the same moment; what each has raised."""
    barrier, raised = threading.Barrier(len(calls)), [None] * len(calls)

    def run(i, call):
        barrier.wait()
        try:
            call()
        except (RunError, SinkError) as error:
            raised[i] = error

    threads = [threading.Thread(target=run, args=each) for each in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


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


@pytest.mark.parametrize("url", ["hf://org", "hf://org/name@v1/x", "hf://spaces/org/name", "hf://org/name@main"])
def test_a_url_that_names_no_repository_is_refused(url):
    with pytest.raises(SpecError, match="names no repository of the Hub; write hf://org/name"):
        Registry(url)


def test_a_registry_may_be_in_a_folder_or_in_a_dataset_repository(hub, name, add):
    for url in (f"hf://{name}/adapters/topic", f"hf://datasets/{name}"):
        registry = Registry(url)
        one = add(registry, "one")
        registry.promote(one, "ada", "first")
        assert Registry(url).named("champion").version == one
        assert (registry.folder(one) / "adapter_model.safetensors").read_text() == "one"
    assert "adapters/topic/champion.json" in hub.repositories["model", name].files()
    assert "README.md" not in hub.repositories["model", name].files()


def test_a_version_with_a_pickle_is_not_downloaded(hub, registry, tmp_path):
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "adapter_model.bin").write_bytes(b"pickle")
    one = registry.add(tmp_path / "adapter", versions.about()).version
    hub.requests.clear()
    with pytest.raises(ModelError, match=r"has a pickle \(adapter_model.bin\), and loading a pickle can run any code"):
        registry.folder(one)
    assert hub.seen("adapter_model.bin") == []


def test_a_damaged_download_is_repeated_and_a_damaged_copy_made_again(hub, registry, add):
    one = add(registry, "one")
    hub.faults.corrupt("GET /[0-9a-f]{64}")
    folder = registry.folder(one)
    assert (folder / "adapter_model.safetensors").read_text() == "one"
    (folder / "adapter_model.safetensors").write_text("two")
    assert (Registry(registry.url).folder(one) / "adapter_model.safetensors").read_text() == "one"


def test_a_version_that_is_here_needs_no_request_and_no_network(hub, registry, models, tmp_path, monkeypatch):
    one = versions.add(registry, models / "sentiment", tmp_path, 1)
    content = lake.job(lake.make_lake(tmp_path / "in", files=1, n=20), tmp_path / "out", models)
    content["tasks"][0]["adapter"] = f"{registry.url}@{one}"
    lake.execute(content)
    hub.requests.clear()
    content["sink"]["path"] = str(tmp_path / "again")
    lake.execute(content)
    assert hub.seen() == []
    registry.promote(one, "ada", "first")
    content["tasks"][0]["adapter"] = f"{registry.url}@champion"
    assert lake.execute(content).rows_in == 0
    hub.requests.clear()
    assert lake.execute(content).rows_in == 0
    assert len(hub.seen()) == 2
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    content["tasks"][0]["adapter"] = f"{registry.url}@{one[:5]}"
    content["sink"]["path"] = str(tmp_path / "offline")
    assert lake.execute(content).rows_in == 20
    content["tasks"][0]["adapter"] = f"{registry.url}@champion"
    with pytest.raises(SpecError, match=f"which version is the champion is asked of the Hub.*this machine: {one}"):
        lake.execute(content)
    with pytest.raises(SpecError, match="version 'abc' is asked of the Hub, and HF_HUB_OFFLINE is set"):
        registry.named("abc")


# What Hubs do differently, as attributes of the Hub of the tests.
MANNERS = {
    "the public Hub": {"redirects": True, "compresses": True},
    "one whose storage is at its own address": {"stores_here": True, "page": 2},
    "one that keeps large files itself": {"serves_large": True},
    "one without git-lfs": {"lfs": "regular"},
    "one that gives no reasons": {"states_codes": False},
    "one that names files its own way": {"lfs": "regular", "ids": "other"},
    "one below a path": {"prefix": True},
}


@pytest.mark.parametrize("manner", MANNERS)
def test_versions_and_champions_are_kept_at_all_kinds_of_hubs(hub, name, registry, add, tmp_path, monkeypatch, manner):
    attributes = dict(MANNERS[manner])
    if attributes.pop("ids", None):
        monkeypatch.setattr("tests.hub.repositories.Blob.oid", property(lambda blob: blob.sha256[:40]))
    if attributes.pop("prefix", None):
        monkeypatch.setattr(constants, "ENDPOINT", f"{hub.endpoint}{hub.prefix}")
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(hub.endpoint, constants.ENDPOINT)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    for attribute, value in attributes.items():
        monkeypatch.setattr(hub, attribute, value)
    one, two = add(registry, "one"), add(registry, "two")
    registry.promote(one, "ada", "first")
    registry.promote(two, "ada", "better", expected=one)
    registry.rollback("ada", "worse")
    made = titles(hub, name)
    add(registry, "one")
    assert titles(hub, name) == made
    # Another machine.
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "another"))
    elsewhere = Registry(registry.url)
    assert elsewhere.named("champion").version == one
    assert (elsewhere.folder(one) / "adapter_model.safetensors").read_text() == "one"
    assert [move.version for move in elsewhere.history()] == [one, two, one]


def test_one_training_holds_a_registry_on_the_hub(hub, registry):
    with (
        lease.hold(registry.store),
        pytest.raises(SinkBusy, match=r"written by process \d+"),
        lease.hold(Registry(registry.url).store),
    ):
        pass
    with lease.hold(registry.store) as held:
        assert held.number == 2


def test_the_commands_show_a_registry_on_the_hub(hub, registry, add, capsys):
    one, two = add(registry, "one"), add(registry, "two")
    for action in (["promote", one], ["promote", two], ["rollback"]):
        verb, *version = action
        reason = ["--by", "ada", "--reason", "tried"]
        assert cli.main(["adapters", verb, registry.url, *version, *reason]) == 0
    capsys.readouterr()
    hub.requests.clear()
    assert cli.main(["adapters", "list", registry.url, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["champion"], len(found["versions"]), len(found["history"])) == (one, 2, 3)
    # Two questions for the newest commit, beside those for files that were not read before.
    assert len(hub.seen("GET /api/")) <= 6
    assert cli.main(["adapters", "show", registry.url]) == 0
    assert f"# sentiment {one}" in capsys.readouterr().out


def test_a_training_round_and_its_champion_are_on_the_hub(hub, name, registry, models, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for folder, rows in (("labels", 24), ("holdout", 60)):
        (tmp_path / folder).mkdir()
        pq.write_table(made.labelled(rows, seed=rows), tmp_path / folder / "1.parquet")
    content = {
        "name": "sentiment",
        "task": "classify",
        "base": {"model": str(models / "mlm")},
        "data": {"train": {"path": str(tmp_path / "labels")}, "holdout": {"path": str(tmp_path / "holdout")}},
        "training": {"num_train_epochs": 1, "learning_rate": 5e-3, "per_device_train_batch_size": 8},
        "adapter": {"r": 4, "target_modules": "all-linear"},
        "registry": registry.url,
        "gate": {"metric": "accuracy", "floor": 0.1},
    }
    first = rounds.run(training.parse(content))
    assert (first.decision, first.approved) == ("promoted", True)
    assert titles(hub, name)[-8:] == [
        "write _nightscribe/leases/00000001.json",
        f"add version {first.version}",
        f"write reports/{first.version}-mislabelled.md",
        "write gate/holdout.json",
        f"write gate/decisions/{first.version}.json",
        "write gate/ring.json",
        f"promote {first.version}",
        "release _nightscribe/leases/00000001.json",
    ]
    assert registry.named("champion").version == first.version
    again = rounds.run(training.parse(content))
    assert (again.decision, again.version) == ("nothing new", first.version)
    assert cli.main(["adapters", "verify", registry.url]) == 0
    (tmp_path / "training.yaml").write_text(yaml.safe_dump(content))
    row = "nobody else wrote this"
    table = made.labelled(1, seed=7)
    table = table.set_column(table.schema.get_field_index("text"), "text", [[row]])
    pq.write_table(table, tmp_path / "labels" / "2.parquet")
    registry.store.put("reports/made.md", f"| text |\n|---|\n| {row} |\n| b |\n".encode())
    assert row in registry.store.get("reports/made.md").decode()
    forget = ["forget", "--where", f"text = '{row}'", "--training", str(tmp_path / "training.yaml")]
    assert cli.main(forget) == 0
    assert f"The older commits of {registry.url} keep what was erased" in capsys.readouterr().out
    assert Registry(registry.url).store.get("reports/made.md") == b"| text |\n|---|\n| b |\n"
    kept = (tmp_path / "cache" / "nightscribe" / "hub").rglob("*")
    assert not [file for file in kept if file.is_file() and row.encode() in file.read_bytes()]
    assert cli.main(["adapters", "verify", registry.url]) == 0
