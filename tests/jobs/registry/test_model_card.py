"""The model card of a registry on the Hub: what the Hub and its libraries make of it, and what a person wrote in it."""

import re
import uuid
import warnings
from dataclasses import replace

import pytest
import torch
import yaml
from huggingface_hub import HfApi, ModelCard
from peft import PeftModel

from jobs.models import hub as models_hub
from jobs.registry import Registry
from jobs.registry.model_card import BEGIN, END, model_card
from jobs.registry.move import Move
from jobs.registry.version import Base
from tests.jobs.registry import versions
from transforms.checkpoint import fingerprint
from transforms.errors import UnreadableRegistry

NAME = "9f2c41d07ab3"


@pytest.fixture
def version():
    return versions.about(version=NAME, files={"adapter_config.json": "0" * 64})


def move(number, reason="better", version=NAME):
    return Move(number, version, None, None, "promote", "ada", reason, f"2026-01-0{number}T00:00:00+00:00")


def files_of(folder, below=""):
    found = [file for file in folder.rglob("*") if file.is_file()]
    return {f"{below}{file.relative_to(folder).as_posix()}": file.read_bytes() for file in found}


def code(card, language):
    return re.search(rf"```{language}\n(.*?)```", card, re.DOTALL)[1]


@pytest.mark.parametrize("kind", ["adapter", "model"])
def test_the_python_of_a_card_loads_the_champion_from_the_hub(hub, models, tmp_path, kind):
    suffix = uuid.uuid4().hex[:12]
    commit = hub.repository("model", f"org/base-{suffix}", files_of(models / "sentiment")).head
    registry = Registry(str(tmp_path / "registry"))
    base = Base(f"org/base-{suffix}", commit, fingerprint.of(str(models / "sentiment")))
    folder = models / "sentiment"
    if kind == "adapter":
        folder = versions.adapter(models / "sentiment", tmp_path / "adapter", seed=1)
    version = registry.add(folder, versions.about(base=base, kind=kind))
    card = model_card(f"org/topics-{suffix}", version, [replace(move(1), version=version.version)])
    hub.repository("model", f"org/topics-{suffix}", files_of(tmp_path / "registry") | {"README.md": card.encode()})

    found = {}
    exec(code(card, "python"), found)
    ids = found["tokenizer"](["a good soup", "bad bread"], padding=True, return_tensors="pt")
    with torch.inference_mode():
        logits = found["model"].eval()(**ids).logits
    assert logits.shape == (2, len(version.labels))
    if kind == "adapter":
        assert isinstance(found["model"], PeftModel)
        assert found["model"].config.id2label == dict(enumerate(version.labels))
        # The head is that of the adapter, and not a new one with random weights.
        again = {}
        exec(code(card, "python"), again)
        with torch.inference_mode():
            assert torch.equal(again["model"].eval()(**ids).logits, logits)
        keys = yaml.safe_load(code(card, "yaml"))
        assert models_hub.pin(keys["model"], keys["revision"], "model").commit == commit


def test_the_metadata_of_a_card_are_those_that_the_hub_searches(version):
    data = ModelCard(model_card("org/topics", version, [move(1)])).data
    assert (data.library_name, data.pipeline_tag, data.base_model) == ("peft", "text-classification", "org/base")
    assert data["base_model_relation"] == "adapter"
    assert data.tags == ["nightscribe", "lora"]
    assert data.model_name == "topics"
    found = [
        (each.dataset_config, each.dataset_split, each.metric_type, each.metric_value) for each in data.eval_results
    ]
    assert found == [(None, "holdout", "accuracy", 0.9), ("lang=de", "holdout", "accuracy", 0.8)]
    assert {each.dataset_revision for each in data.eval_results} == {"h"}


def test_a_card_names_no_base_that_the_hub_does_not_have(version, tmp_path):
    local = replace(
        version, base=Base(str(tmp_path), "c" * 40, "f" * 40), metrics={"accuracy": float("nan")}, slices={}
    )
    card = model_card("org/topics", local, [move(1)])
    data = ModelCard(card).data
    assert data.base_model is None
    assert data.eval_results is None
    # A champion without results takes those of the one before away.
    assert (
        ModelCard(model_card("org/topics", local, [move(1)], model_card("org/topics", version, []))).data.eval_results
        is None
    )
    assert '"the/folder/of/the/base"' in code(card, "python")
    assert "revision" not in yaml.safe_load(code(card, "yaml"))


def test_the_hub_accepts_the_metadata_of_a_card(hub, version):
    HfApi(token=hub.token("ada")).create_repo(name := f"ada/topics-{uuid.uuid4().hex[:12]}")
    card = model_card(name, version, [move(1)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        HfApi(token=hub.token("ada")).upload_file(path_or_fileobj=card.encode(), path_in_repo="README.md", repo_id=name)
    assert hub.repositories["model", name].files()["README.md"] == card.encode()


def test_a_card_has_one_section_after_any_number_of_moves(version):
    once = model_card("org/topics", version, [move(1)])
    assert model_card("org/topics", version, [move(1)], once) == once
    other = replace(version, version="0" * 12)
    twice = model_card("org/topics", other, [move(1), move(2, version=other.version)], once)
    assert (twice.count(BEGIN), twice.count(END)) == (1, 1)
    assert "## The champion, 000000000000" in twice
    assert twice.index("| 2026-01-02") < twice.index("| 2026-01-01")


def test_what_a_person_wrote_stays(version):
    theirs = (
        "---\nlicense: apache-2.0\ntags:\n- soup\npipeline_tag: text-ranking\nbase_model: org/older\n"
        "model-index:\n- name: other\n  results: []\n---\n# Soups\n\nOurs, not yours.\n"
    )
    first = model_card("org/topics", version, [move(1)], theirs)
    second = model_card("org/topics", version, [move(1), move(2)], first + "\nA last \\1 word.\n")
    metadata = yaml.safe_load(second.split("---\n")[1])
    assert (metadata["license"], metadata["pipeline_tag"]) == ("apache-2.0", "text-ranking")
    assert (metadata["base_model"], metadata["tags"]) == ("org/base", ["soup", "nightscribe", "lora"])
    assert [each["name"] for each in metadata["model-index"]] == ["topics", "other"]
    assert second.split("---\n")[2].startswith("# Soups\n\nOurs, not yours.\n\n" + BEGIN)
    assert second.endswith(END + "\n\nA last \\1 word.\n")


def test_a_reason_or_a_label_cannot_end_the_section_or_a_table(version):
    said = f"a | b\n{END}\n<script>"
    card = model_card("org/topics", replace(version, labels=(said,)), [move(1, said)])
    assert (card.count(END), card.count("<script>")) == (1, 0)
    assert model_card("org/topics", replace(version, labels=(said,)), [move(1, said)], card) == card
    assert "| ada | a \\| b &lt;!-- nightscribe: end --> &lt;script> |" in card


@pytest.mark.parametrize(
    ("present", "what"),
    [
        ("---\ntags: [\n---\n", "its metadata are no YAML"),
        ("---\n- a\n---\n", "should be keys with values"),
        ("---\nmodel-index: soup\n---\n", "model-index in its metadata should be a list"),
        (f"text\n{BEGIN}\ntext", "of the two marks .* it has begin"),
        (f"{END}{BEGIN}", "it has end, begin"),
    ],
)
def test_a_damaged_card_is_named_and_not_overwritten(version, present, what):
    with pytest.raises(UnreadableRegistry, match=rf"hf://org/topics/README.md is damaged \(.*{what}.*; correct it"):
        model_card("org/topics", version, [move(1)], present)
