"""Preferences are learnt by dpo, kto and orpo, measured on held-out rows, and served by nightly jobs."""

import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.evaluation import perplexity
from jobs.evaluation.predict import prepare
from jobs.registry import Registry
from jobs.retraining import report, scores
from jobs.retraining import round as rounds
from jobs.training import data, train
from jobs.training.exchanges import Exchanges
from tests.jobs.training import made
from tests.jobs.training.objectives import preferred
from transforms.errors import ModelError, SpecError

# ORPO learns to write the chosen answers first, and to prefer them later.
MORE = {"dpo": {}, "kto": {"num_train_epochs": 3}, "orpo": {"num_train_epochs": 5, "learning_rate": 2e-2}}
ROWS = {"dpo": preferred.pairs, "orpo": preferred.pairs, "kto": preferred.singles}
SHORT = {"options": {"max_new_tokens": 8}, "training": preferred.FAST, "adapter": preferred.WIDE}


def file(tmp_path, base, rows, objective, **more):
    return made.file(tmp_path, "generate", base, rows, objective=objective, **SHORT | more)


def measured(tmp_path, base, rows, objective, **more):
    """The result of a training, and the measurements of the version and of the base."""
    spec = file(tmp_path, base, rows, objective, **more)
    loaded = data.load(spec)
    result = train.train(spec, loaded, tmp_path / "work")
    registry = Registry(spec.registry)
    return result, *(scores.score(spec, version, registry, loaded) for version in (result.folder, None))


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("objective", ["dpo", "kto", "orpo"])
def test_held_out_preferences_are_learnt_and_shuffled_ones_are_not(tmp_path, causal_model, objective):
    rows, more = ROWS[objective], {"training": preferred.FAST | MORE[objective]}
    result, scored, base = measured(tmp_path / "true", causal_model("llama"), rows(), objective, **more)
    losses = [line["loss"] for line in result.curves if "loss" in line]
    assert losses[-1] < 0.9 * losses[0]
    assert not (result.folder / "ref").exists()
    assert scored.measured.value >= 0.85 > base.measured.value + 0.3
    assert scored.measured.others["perplexity"] < base.measured.others["perplexity"]
    _, shuffled, _ = measured(tmp_path / "shuffled", causal_model("llama"), rows(swapped=True), objective, **more)
    # The holdout is shuffled too, so that nothing better than a coin can be learnt.
    assert shuffled.measured.value < 0.75


@pytest.mark.usefixtures("in_process")
def test_a_policy_writes_in_a_job_what_is_preferred(tmp_path, causal_model):
    result, scored, _ = measured(tmp_path, causal_model("chat"), preferred.talks(preferred.pairs()), "dpo")
    assert scored.measured.value >= 0.9
    found = prepare("generate", causal_model("chat"), result.folder, scored.prepared.rows, SHORT["options"])
    writer = perplexity.load(found)
    ids = Exchanges(writer.model.tokenizer, {}).prompt_ids(found.rows["prompt"].to_pylist())
    assert ids == writer.prompts([[text] for text in found.rows["prompt"].to_pylist()])


@pytest.mark.usefixtures("in_process")
def test_a_round_promotes_the_first_version_and_not_a_shuffled_challenger(tmp_path, causal_model):
    spec = file(tmp_path, causal_model("llama"), preferred.pairs(), "dpo", slices=["kind"])
    rows = preferred.pairs()
    rows = rows.append_column("kind", pa.array(["ab"[i % 2] for i in range(len(rows))]))
    pq.write_table(rows, tmp_path / "rows.parquet")
    first = rounds.run(spec)
    assert (first.decision, first.metric, first.approved) == ("promoted", "preference_accuracy", True)
    assert set(first.slices) == {"kind=a", "kind=b"}
    held = set(data.load(spec).holdout["prompt"].to_pylist())
    # Another training on rows whose preferences are random; the holdout stays as it is.
    wrong = preferred.pairs(seed=0, swapped=True).to_pylist()
    pairs = zip(rows.to_pylist(), wrong, strict=True)
    mixed = [one if one["prompt"] in held else one | other for one, other in pairs]
    pq.write_table(pa.Table.from_pylist(mixed), tmp_path / "rows.parquet")
    second = rounds.run(spec)
    assert second.decision in ("refused", "waiting")
    assert second.champion_value > second.value
    assert second.changes["flips"][0]["before"] == "chosen"
    shown = report.markdown(second, "reports/x.md")
    assert "preference_accuracy on" in shown
    assert "| chosen | rejected |" in shown
    assert Registry(spec.registry).champion().version == first.version


@pytest.mark.parametrize(
    ("objective", "change", "message"),
    [
        ("dpo", {"rejected": lambda row: row["chosen"]}, r"same answer in 'chosen' and 'rejected', so that neither is"),
        ("orpo", {"chosen": lambda row: " "}, r"row 0 of data.train has an empty answer in 'chosen' \(24 of 24 rows"),
        ("dpo", {"rejected": lambda row: " x" if "cat" in row["prompt"] else None}, r"of data.train has no rejected"),
        ("kto", {"completion": lambda row: ""}, r"has an empty answer in 'completion'"),
        ("kto", {"label": lambda row: "yes"}, r"column 'label' of data.train is string, and kto needs bool there"),
        ("kto", {"label": lambda row: True}, r"rows of data.train are true in column 'label'; kto needs desirable and"),
        ("dpo", {"chosen": lambda row: 3}, r"column 'chosen' of data.train is int64, and chosen needs string, or list"),
    ],
)
def test_bad_rows_are_one_sentence(tmp_path, objective, change, message):
    rows = [row | {name: make(row) for name, make in change.items()} for row in ROWS[objective](24).to_pylist()]
    with pytest.raises(SpecError, match=message):
        data.load(file(tmp_path, "base", pa.Table.from_pylist(rows), objective))


@pytest.mark.parametrize(
    ("rows", "base", "more", "message"),
    [
        (preferred.talks(preferred.pairs(40)), "llama", {}, "tokenizer of base.model has no chat template"),
        (preferred.talks(preferred.pairs(40)), "chat", {"chat": "never"}, "or options.chat is never"),
        (preferred.pairs(40, longest=400), "llama", {}, r"a prompt in column 'prompt' of .* has \d+ tokens .* of 256"),
        (preferred.pairs(40, longest=400), "chat", {}, r"a prompt in column 'prompt' of .* has \d+ tokens .* of 256"),
    ],
)
def test_rows_that_do_not_fit_the_tokenizer_are_found_before_weights_load(
    tmp_path, causal_model, monkeypatch, rows, base, more, message
):
    spec = file(tmp_path, causal_model(base), rows, "dpo", options=SHORT["options"] | more)
    loaded = data.load(spec)
    monkeypatch.setattr("transforms.checkpoint.fingerprint.of", lambda folder: pytest.fail("weights were read"))
    with pytest.raises(ModelError, match=message):
        train.request_of(spec, loaded)


@pytest.mark.usefixtures("in_process")
def test_values_that_trl_refuses_are_one_sentence(tmp_path, causal_model):
    fast = preferred.FAST | {"per_device_train_batch_size": 1}
    with pytest.raises(SpecError, match="kto compares the rows of a batch"):
        file(tmp_path, causal_model("llama"), preferred.singles(24), "kto", training=fast)
    spec = file(
        tmp_path,
        causal_model("llama"),
        preferred.pairs(40),
        "dpo",
        training=preferred.FAST | {"loss_type": ["exo_pair"]},
    )
    with pytest.raises(ModelError, match="training: DPOConfig refuses these settings: Label smoothing must be"):
        train.train(spec, data.load(spec), tmp_path / "work")


@pytest.mark.usefixtures("in_process")
@pytest.mark.parametrize("objective", ["dpo", "kto"])
def test_a_training_that_goes_on_from_a_checkpoint_gives_the_same_adapter(tmp_path, causal_model, objective):
    kept = preferred.FAST | {"save_strategy": "steps", "save_steps": 4, "save_total_limit": 9, "num_train_epochs": 1}
    spec = file(tmp_path, causal_model("llama"), ROWS[objective](), objective, training=kept)
    loaded = data.load(spec)
    whole = train.train(spec, loaded, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "again")
    shutil.rmtree(tmp_path / "again" / "result")
    (tmp_path / "again" / "result.json").unlink()
    for checkpoint in (tmp_path / "again" / "checkpoints").glob("checkpoint-*"):
        if checkpoint.name != "checkpoint-4":
            shutil.rmtree(checkpoint)
    again = train.train(spec, loaded, tmp_path / "again")
    assert again.resumed
    name = "adapter_model.safetensors"
    assert (again.folder / name).read_bytes() == (whole.folder / name).read_bytes()


def test_prompts_may_be_a_part_of_both_answers(tmp_path):
    rows = [
        {"chosen": f"{row['prompt']}{row['chosen']}", "rejected": f"{row['prompt']}{row['rejected']}"}
        for row in preferred.pairs(60).to_pylist()
    ]
    loaded = data.load(file(tmp_path, "base", pa.Table.from_pylist(rows), "dpo"))
    assert sorted(loaded.train.schema.names) == ["chosen", "key", "prompt", "rejected"]
    for table in (loaded.train, loaded.holdout):
        for row in table.to_pylist():
            assert row["prompt"].split()[-1] in (*preferred.WORDS, "->")
            assert row["chosen"].startswith(" ")


def test_a_prompt_is_never_on_both_sides(tmp_path):
    table = preferred.pairs(60)
    again = preferred.pairs(60, seed=9).set_column(0, "prompt", table["prompt"])
    loaded = data.load(file(tmp_path, "base", pa.concat_tables([table, again]), "dpo"))
    sides = [set(each["prompt"].to_pylist()) for each in (loaded.train, loaded.validation, loaded.holdout)]
    assert len(set.union(*sides)) == sum(map(len, sides)) == 60
    assert len(loaded.holdout) == 2 * len(sides[2])
