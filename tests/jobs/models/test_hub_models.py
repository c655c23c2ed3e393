"""Models and adapters from the Hub: pinned, safetensors only, downloaded once, compared with their hashes."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from jobs import cli, spec
from jobs.hub import session
from jobs.models import hub as models_hub
from jobs.models.name import Name, parse
from jobs.plan import planning
from tests import lake, tiny
from tests.hub.local import Hub
from tests.jobs.models.custom_code import CONFIGURATION, MODELING
from transforms.errors import ModelError, SpecError, UnreachableModel

Pinned = Callable[..., models_hub.Pin]


@pytest.fixture
def name() -> str:
    return f"org/{uuid.uuid4().hex[:12]}"


def files_of(folder: Path, below: str = "") -> dict[str, bytes]:
    return {
        f"{below}{file.relative_to(folder).as_posix()}": file.read_bytes()
        for file in folder.rglob("*")
        if file.is_file()
    }


def sharded(files: dict[str, bytes], folder: Path) -> dict[str, bytes]:
    """The same model with its tensors in two files."""
    (folder / "whole.safetensors").write_bytes(files["model.safetensors"])
    tensors = load_file(folder / "whole.safetensors")
    places = {key: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, key in enumerate(tensors)}
    for place in set(places.values()):
        save_file({key: tensors[key] for key in tensors if places[key] == place}, folder / place)
    index = {"metadata": {}, "weight_map": places}
    others = {path: text for path, text in files.items() if path != "model.safetensors"}
    shards = {place: (folder / place).read_bytes() for place in set(places.values())}
    return others | shards | {"model.safetensors.index.json": json.dumps(index).encode()}


def enriched(source: Path, sink: Path, **task: object) -> list[object]:
    """The column that one task adds to a lake."""
    content = {
        "name": "hub",
        "source": {"path": str(source)},
        "tasks": [{"task": "classify", "column": "text", "into": "label", "dtype": "float32"} | task],
        "sink": {"path": str(sink)},
    }
    lake.execute(content)
    return lake.read(sink)["label"].to_pylist()


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("org/name", Name("org/name")),
        ("gpt2", Name("gpt2")),
        ("org/name:sub/folder", Name("org/name", "sub/folder")),
        ("./folder", None),
        ("org/name:../other", None),
        ("a/b/c", None),
        ("org/name:", None),
    ],
)
def test_a_name_is_a_repository_and_perhaps_a_subfolder(text: str, parts: Name | None):
    assert parse(text) == parts


def test_a_job_uses_a_model_of_the_hub_and_asks_for_it_once(hub: Hub, name: str, models: Path, tmp_path: Path):
    source = lake.make_lake(tmp_path / "in", files=1, n=20)
    unused = {
        "pytorch_model.bin": b"pickle",
        "model.fp16.safetensors": b"x",
        "onnx/model.onnx": b"x",
        "README.md": b"x",
    }
    hub.repository("model", name, files_of(models / "sentiment") | unused)
    here = enriched(source, tmp_path / "here", model=str(models / "sentiment"))
    assert enriched(source, tmp_path / "there", model=name) == here
    fetched = {line.rsplit("/", 1)[-1] for line in hub.seen("HEAD .*/resolve/")}
    assert "model.safetensors" in fetched
    assert not fetched & {"pytorch_model.bin", "model.fp16.safetensors", "model.onnx", "README.md"}
    hub.requests.clear()
    enriched(source, tmp_path / "again", model=name)
    assert hub.seen() == [f"GET /api/models/{name}/revision/main"]
    hub.requests.clear()
    enriched(source, tmp_path / "pinned", model=name, revision=hub.repositories["model", name].head)
    assert hub.seen() == []


def test_sharded_weights_in_a_subfolder_are_found_by_their_index(hub: Hub, name: str, models: Path, tmp_path: Path):
    source = lake.make_lake(tmp_path / "in", files=1, n=20)
    shards = sharded(files_of(models / "sentiment"), tmp_path)
    files = {f"small/v1/{path}": text for path, text in shards.items()} | files_of(models / "topics", "other/")
    repository = hub.repository("model", name, files)
    here = enriched(source, tmp_path / "here", model=str(models / "sentiment"))
    assert enriched(source, tmp_path / "there", model=f"{name}:small/v1") == here
    assert not hub.seen("resolve/.*/other/")
    pins = [models_hub.pin(f"{name}:{folder}", None, "tasks.0.model") for folder in ("small/v1", "other")]
    assert [pin.commit for pin in pins] == [repository.head] * 2
    assert pins[0].version != pins[1].version
    with pytest.raises(
        ModelError, match="these folders have: other, small/v1; write one after a colon, org/name:folder"
    ):
        models_hub.pin(name, None, "tasks.0.model")
    with pytest.raises(ModelError, match="names the folder 'nothing', which its repository does not have"):
        models_hub.pin(f"{name}:nothing", None, "tasks.0.model")


def test_pickles_are_refused_with_the_reason(hub: Hub, name: str):
    hub.repository("model", name, {"config.json": b"{}", "pytorch_model.bin": b"x", "adapter_model.bin": b"x"})
    for key in ("model", "adapter"):
        with pytest.raises(ModelError, match=r"only as a pickle .*can run any code of its author"):
            models_hub.pin(name, None, f"tasks.0.{key}")


def test_an_adapter_and_a_model_are_told_apart(hub: Hub, name: str):
    hub.repository("model", f"{name}-a", {"adapter_config.json": b"{}", "adapter_model.safetensors": b"x"})
    hub.repository("model", f"{name}-m", {"config.json": b"{}", "model.safetensors": b"x"})
    with pytest.raises(ModelError, match="holds an adapter and no model; write it as adapter"):
        models_hub.pin(f"{name}-a", None, "tasks.0.model")
    with pytest.raises(ModelError, match="holds a whole model and no adapter; write it as model"):
        models_hub.pin(f"{name}-m", None, "tasks.0.adapter")


def test_private_and_gated_models_need_a_token(hub: Hub, name: str, monkeypatch: pytest.MonkeyPatch):
    files = {"config.json": b"{}", "model.safetensors": b"x"}
    hub.repository("model", f"{name}-p", files, private=True)
    hub.repository("model", f"{name}-g", files, gated=True)
    with pytest.raises(ModelError, match="set HF_TOKEN"):
        models_hub.pin(f"{name}-p", None, "tasks.0.model")
    with pytest.raises(ModelError, match=rf"it is gated; ask for access on {hub.endpoint}/{name}-g"):
        models_hub.pin(f"{name}-g", None, "tasks.0.model").folder()
    token = hub.token("ada")
    monkeypatch.setenv("HF_TOKEN", token)
    folder = models_hub.pin(f"{name}-p", None, "tasks.0.model").folder()
    assert (Path(folder) / "model.safetensors").read_bytes() == b"x"


def test_a_missing_revision_is_one_sentence(hub: Hub, name: str):
    hub.repository("model", name, {"config.json": b"{}", "model.safetensors": b"x"})
    with pytest.raises(ModelError, match=r"at revision 'v9' .*no such revision"):
        models_hub.pin(name, "v9", "tasks.0.model")


def test_a_download_that_is_cut_off_continues(hub: Hub, name: str):
    # The client keeps whole pieces of 10 MiB.
    weights = bytes(range(256)) * (24 << 12)
    hub.repository("model", name, {"config.json": b"{}", "model.safetensors": weights})
    pin = models_hub.pin(name, None, "tasks.0.model")
    hub.faults.cut(r"GET /[0-9a-f]{64}", after=21 << 20)
    assert (Path(pin.folder()) / "model.safetensors").read_bytes() == weights
    sent = [request.sent for request in hub.requests if len(request.path) == 65 and request.method == "GET"]
    assert sum(sent) <= len(weights) + (1 << 20)
    assert 206 in [request.status for request in hub.requests if len(request.path) == 65]


@pytest.mark.parametrize("times", [1, 2])
def test_weights_with_a_wrong_checksum_are_downloaded_again_once(hub: Hub, name: str, times: int):
    weights = b"weights" * 1000
    hub.repository("model", name, {"config.json": b"{}", "model.safetensors": weights})
    pin = models_hub.pin(name, None, "tasks.0.model")
    hub.faults.corrupt(r"GET /[0-9a-f]{64}", times=times)
    if times == 1:
        assert (Path(pin.folder()) / "model.safetensors").read_bytes() == weights
        return
    with pytest.raises(ModelError, match=r"model.safetensors arrives with another content than .* says, twice"):
        pin.folder()
    # The damaged file is not kept.
    assert (Path(pin.folder()) / "model.safetensors").read_bytes() == weights


def test_offline_a_model_comes_from_the_cache(hub: Hub, name: str, monkeypatch: pytest.MonkeyPatch):
    hub.repository("model", name, {"config.json": b"{}", "model.safetensors": b"x"})
    hub.repository("model", f"{name}-new", {"config.json": b"{}", "model.safetensors": b"x"})
    online = models_hub.pin(name, None, "tasks.0.model")
    online.folder()
    hub.requests.clear()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    offline = models_hub.pin(name, None, "tasks.0.model")
    assert (offline, offline.folder()) == (online, online.folder())
    with pytest.raises(ModelError, match="not in the cache of this machine, and HF_HUB_OFFLINE is set"):
        models_hub.pin(f"{name}-new", None, "tasks.0.model")
    assert hub.requests == []


@pytest.mark.usefixtures("settings_of_the_process")
def test_models_and_datasets_that_cannot_be_reached_end_a_run_with_exit_code_1(
    hub: Hub,
    name: str,
    models: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    lake.make_lake(tmp_path / "in")
    job = lake.job(tmp_path / "in", tmp_path / "out", models)
    monkeypatch.setenv(session.PATIENCE, "0")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    unreachable = "http://127.0.0.1:9 cannot be reached; check the network and HF_ENDPOINT"
    task = {"task": "classify", "column": "text", "into": "label"}
    for change, said in (
        ({"tasks": [task | {"model": name}]}, f"tasks.0.model '{name}' is not a folder here, and {unreachable}"),
        ({"source": {"dataset": name}}, f"source.dataset '{name}' cannot be read: {unreachable}"),
    ):
        assert cli.main(["run", str(lake.write_job(tmp_path, job | change))]) == 1
        assert said in capsys.readouterr().err


def test_a_pinned_model_that_the_hub_does_not_send_now_is_no_mistake(
    hub: Hub, name: str, models: Path, monkeypatch: pytest.MonkeyPatch
):
    hub.repository("model", name, files_of(models / "sentiment"))
    pinned = models_hub.pin(name, None, "tasks.0.model")
    monkeypatch.setenv(session.PATIENCE, "0")
    hub.faults.status(503, "/resolve/", times=None)
    with pytest.raises(UnreachableModel, match=r"cannot be downloaded: .* fails \(HTTP 503\); run again later"):
        pinned.folder()


def test_code_of_a_repository_runs_only_if_the_job_names_its_commit(
    hub: Hub, name: str, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = lake.make_lake(tmp_path / "in", files=1, n=10)
    files = files_of(models / "sentiment")
    config = json.loads(files["config.json"]) | {
        "model_type": "hub_test",
        "auto_map": {
            "AutoConfig": "configuration_hub_test.HubTestConfig",
            "AutoModelForSequenceClassification": "modeling_hub_test.HubTestForSequenceClassification",
        },
    }
    files |= {
        "config.json": json.dumps(config).encode(),
        "configuration_hub_test.py": CONFIGURATION.encode(),
        "modeling_hub_test.py": MODELING.encode(),
    }
    head = hub.repository("model", name, files).head
    with pytest.raises(SpecError, match=f"write trust_remote_code: {head} and revision: {head}"):
        enriched(source, tmp_path / "out", model=name)
    with pytest.raises(SpecError, match=f"trust_remote_code is '{'0' * 40}', and the model is at {head}"):
        enriched(source, tmp_path / "out", model=name, trust_remote_code="0" * 40)
    assert not hub.seen(r"resolve/.*\.py")
    here = enriched(source, tmp_path / "here", model=str(models / "sentiment"))
    there = enriched(source, tmp_path / "there", model=name, trust_remote_code=head, revision=head)
    assert [row["label"] for row in there] == [row["label"] for row in here]


def test_an_adapter_of_the_hub_is_used_with_its_base(hub: Hub, name: str, models: Path, tmp_path: Path):
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(1)
    base = AutoModelForSequenceClassification.from_pretrained(models / "sentiment")
    adapted = get_peft_model(base, LoraConfig(task_type="SEQ_CLS", r=2, init_lora_weights=False))
    adapted.save_pretrained(tmp_path / "adapter")
    source = lake.make_lake(tmp_path / "in", files=1, n=20)
    hub.repository("model", f"{name}-base", files_of(models / "sentiment"))
    hub.repository("model", name, files_of(tmp_path / "adapter", "best/"))
    folders = {"model": str(models / "sentiment"), "adapter": str(tmp_path / "adapter")}
    here = enriched(source, tmp_path / "here", **folders)
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    config["base_model_name_or_path"] = f"{name}-base"
    hub.repositories["model", name].commit({"best/adapter_config.json": json.dumps(config).encode()})
    assert enriched(source, tmp_path / "there", model=f"{name}-base", adapter=f"{name}:best") == here


def test_a_new_commit_of_a_branch_is_planned_again_and_a_pinned_one_is_not(
    hub: Hub, name: str, models: Path, tmp_path: Path
):
    source = lake.make_lake(tmp_path / "in", files=1, n=10)
    repository = hub.repository("model", name, files_of(models / "sentiment"))
    first = repository.head
    content = {
        "name": "hub",
        "source": {"path": str(source)},
        "tasks": [{"task": "classify", "column": "text", "into": "label", "model": name, "dtype": "float32"}],
        "sink": {"path": str(tmp_path / "out")},
    }
    lake.execute(content)
    tiny.bert(tmp_path / "other", "classify", ["negative", "neutral", "positive"], seed=9)
    repository.commit(files_of(tmp_path / "other"))
    assert len(planning.make(spec.parse(content)).todo) == 1
    content["tasks"][0]["revision"] = first
    assert len(planning.make(spec.parse(content)).todo) == 0
