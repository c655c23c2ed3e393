"""A registry in a repository of the Hub: commits, lost races and answers, killed copies, refused Hubs, offline."""

from __future__ import annotations

import json

import pyarrow.parquet as pq
import pytest
import yaml
from huggingface_hub import constants

from jobs import cli
from jobs.registry import Registry
from jobs.retraining import round as rounds
from jobs.store import lease
from jobs.training import spec as training
from tests import lake
from tests.jobs.registry import versions
from tests.jobs.registry.hub.commits import MANNERS, titles
from tests.jobs.training import made
from transforms.errors import ModelError, SinkBusy, SpecError

pytestmark = pytest.mark.usefixtures("settings_of_the_process")


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
